//! Real programs: executables of their own, once per allocator, which each sets as its `#[global_allocator]`.
//!
//! Such an executable gives `subject!` the function that prepares a program by name; what it prepares and does allocates like
//! any Rust program, through the global allocator. Every run answers a checksum of its result.

use crate::bench::Bench;

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

/// In the child: prepares, works inside the clock, and answers what came of it.
pub fn run(prepare: Prepare, name: &str, scale: f64, bench: &mut Bench) -> Result<(), String> {
    bench.start()?;
    let work = prepare(name, scale)?;
    let mut outcome = Err("the work was not done".to_owned());
    bench.timed(|| {
        outcome = work();
        outcome.as_ref().map_or(0, |o| o.units)
    });
    bench.run.checksum = Some(outcome?.checksum);
    Ok(())
}
