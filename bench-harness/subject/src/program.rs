//! Real programs: executables of their own, once per allocator, which each sets as its `#[global_allocator]`.
//!
//! Such an executable gives `subject!` the function that prepares a program by name; what it prepares and does allocates like
//! any Rust program, through the global allocator. Every run answers a checksum of its result.

use std::sync::OnceLock;

use crate::bench::Bench;
use crate::spec::Spec;

/// What a program has to show for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// Units of work; what one is, each program says.
    pub units: u64,
    /// The same for the same work, whichever allocator served it.
    pub checksum: u64,
}

/// The timed part of a program; an error when its result is not what it has to be.
pub type Work = Box<dyn FnOnce() -> Result<Outcome, String>>;

/// Prepares the program of that name at that scale (1 is the usual size), outside the clock.
pub type Prepare = fn(&str, f64) -> Result<Work, String>;

static PREPARE: OnceLock<Option<Prepare>> = OnceLock::new();

/// The function that prepares the programs of this executable, if it has any.
pub fn set_prepare(prepare: Option<Prepare>) {
    PREPARE.get_or_init(|| prepare);
}

/// In the child: prepares, works inside the clock, and answers what came of it.
pub fn run(spec: &Spec, bench: &mut Bench) -> Result<(), String> {
    let name = &spec.workload;
    let prepare = PREPARE
        .get()
        .and_then(|p| *p)
        .ok_or_else(|| format!("{name} is not in this executable: it needs bench-harness programs build"))?;
    bench.start()?;
    let work = prepare(name.trim_start_matches("program-"), spec.share("scale"))?;
    let mut outcome = Err("the work was not done".to_owned());
    bench.timed(|| {
        outcome = work();
        outcome.as_ref().map_or(0, |o| o.units)
    });
    bench.run.checksum = Some(outcome?.checksum);
    Ok(())
}
