//! What a row of the table says of a workload.

use crate::bench::Bench;
use crate::record::Series;
use crate::spec::{Param, Spec};

/// Where a size of a workload is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    Quick,
    Full,
}

/// One size of a workload in a plan.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    pub when: When,
    /// The parameters as a command line gives them.
    pub words: &'static str,
    pub series: &'static [Series],
    /// What one run takes on a machine of 2 GHz, in seconds.
    pub secs: f64,
    /// The most rounds; some tell all they have in a few.
    pub most: usize,
}

pub struct Workload {
    pub name: &'static str,
    /// What it does and whom that imitates, in one sentence; the file of the workload says more.
    pub about: &'static str,
    pub params: &'static [Param],
    /// The parameters in a few words, for tables.
    pub label: fn(&Spec) -> String,
    /// Roughly the most bytes one run holds.
    pub peak: fn(&Spec) -> u64,
    /// Refuses what the ranges of the parameters alone let pass.
    pub check: fn(&Spec) -> Result<(), String>,
    pub series: &'static [Series],
    /// Whether it is a real program, in executables of its own.
    pub is_program: bool,
    /// Whether `null`, which hands out fixed blocks, can do it as well.
    pub has_floor: bool,
    /// The unit of the figure that it notes beside its speed, if it does.
    pub figure: Option<&'static str>,
    pub run: fn(&Spec, &mut Bench) -> Result<(), String>,
    pub sizes: &'static [Size],
}
