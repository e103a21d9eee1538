//! The options that measuring commands share.

use std::path::PathBuf;

use bench_subject::record::Series;
use clap::Args;
use itertools::Itertools;

use crate::fail::Fail;
use crate::noise;
use crate::subjects;

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Measuring")]
pub struct RunOptions {
    /// Allocators to compare, separated by commas: system, hakmem, null, and peers once built (mimalloc, mimalloc2, jemalloc,
    /// snmalloc, rpmalloc); NAME=EXECUTABLE is one of these as another checkout built it [default: system,hakmem; of all --quick
    /// and --full every one that is built]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub allocators: Option<Vec<String>>,
    /// Runs of each allocator in each series; fewer than 5 give no verdict [default: 5; of all --quick and --full as many as
    /// fit]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub runs: Option<u64>,
    /// Series: warm (prepared before the clock), cold (nothing prepared), aged (warm, on a fragmented heap), separated by
    /// commas [default: all that the workload has; of all --quick the first of them]
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = series)]
    pub series: Option<Vec<Series>>,
    /// Make the timed part of every workload that many times as long, 0.01 for a hundredth
    #[arg(long = "scale", value_name = "SHARE", value_parser = between::<-9, 6>)]
    pub scale_by: Option<f64>,
    /// Also count instructions (valgrind) and system calls (strace), above the floor of null; all --full does
    #[arg(long)]
    pub exact: bool,
    /// Also time single allocations and frees, in one further run of each allocator and series
    #[arg(long)]
    pub latency: bool,
    /// Do not touch the host's memory before measuring
    #[arg(long)]
    pub no_host_warm: bool,
    #[command(flatten)]
    pub files: Files,
}

/// Where the runs go, their order and their limits.
#[derive(Debug, Clone, Args)]
pub struct Files {
    /// Write all results to this file as JSON. It is whole at any time; while it is measured it says so
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Go on with the interrupted measurement of the same command, whose runs so far are in the file of --json
    #[arg(long, requires = "json")]
    pub resume: bool,
    /// Write one line per run to this file as CSV
    #[arg(long, value_name = "FILE")]
    pub csv: Option<PathBuf>,
    /// Per cent by which system malloc's own runs may spread or drift before a measurement counts as noisy
    #[arg(long, value_name = "PERCENT", default_value_t = noise::bound(), value_parser = between::<-9, 6>)]
    pub drift_bound: f64,
    /// Seconds after which a run counts as hung [default: 120; of preload 600]
    #[arg(long, value_name = "SECS", value_parser = clap::value_parser!(u64).range(1..))]
    pub time_limit: Option<u64>,
}

/// A number between these powers of ten.
fn between<const LEAST: i32, const MOST: i32>(text: &str) -> Result<f64, String> {
    let (least, most) = (10f64.powi(LEAST), 10f64.powi(MOST));
    let number = text.parse().ok().filter(|n| (least..=most).contains(n));
    number.ok_or_else(|| format!("expected a number from {least} to {most}"))
}

fn series(text: &str) -> Result<Series, String> {
    let found = Series::ALL.into_iter().find(|s| s.to_string() == text);
    found.ok_or_else(|| "expected warm, cold or aged".to_owned())
}

impl RunOptions {
    /// The series asked for, each once.
    pub fn series(&self) -> Option<Vec<Series>> {
        self.series.as_ref().map(|list| list.iter().copied().unique().collect())
    }

    /// The allocators asked for, each once, or `default`.
    pub fn allocators(&self, default: &[String], programs_alone: bool) -> Result<Vec<String>, Fail> {
        subjects::named(self.allocators.as_deref().unwrap_or(default), programs_alone)
    }
}
