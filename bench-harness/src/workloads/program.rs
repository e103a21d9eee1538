//! program-…: real programs, each compiled once per allocator as `#[global_allocator]`.
//!
//! What they imitate stands in `programs/real/src/`, a file each. This is what the harness knows of them: a name, one
//! parameter, and what they are about to hold. One operation is a program's own unit of work.

use serde::{Deserialize, Serialize};

use super::Workload;
use crate::child::Bench;
use crate::fail::Fail;

fn check(name: &str, scale: f64) -> Result<(), Fail> {
    if !(0.001..=1000.0).contains(&scale) {
        return Err(Fail::usage(format!(
            "{name} {scale}: expected a scale of 0.001 to 1000"
        )));
    }
    Ok(())
}

/// In the child: prepares, works inside the clock, and answers what came of it.
fn run(name: &str, scale: f64, bench: &mut Bench) -> Result<(), String> {
    let prepare = crate::programs::prepare().ok_or_else(|| {
        format!("{name} is not in this executable: it needs bench-harness programs build")
    })?;
    bench.start();
    let work = prepare(name.trim_start_matches("program-"), scale)?;
    let mut outcome = Err("the work was not done".to_owned());
    bench.timed(|| {
        outcome = work();
        outcome.as_ref().map_or(0, |o| o.units)
    });
    bench.note_checksum(outcome?.checksum);
    bench.settle();
    Ok(())
}

macro_rules! programs {
    ($($(#[$doc:meta])* $type:ident = $name:literal, $peak_mib:literal MiB, $units:literal units;)*) => {
        $(
            $(#[$doc])*
            #[derive(Debug, Clone, PartialEq, Serialize, Deserialize, clap::Args)]
            pub struct $type {
                /// How much work, as a multiple of the usual
                #[arg(default_value_t = 1.0)]
                pub scale: f64,
            }

            impl Workload for $type {
                const NAME: &'static str = $name;
                const IS_PROGRAM: bool = true;

                fn check(&mut self) -> Result<(), Fail> {
                    check(Self::NAME, self.scale)
                }

                fn title(&self) -> String {
                    format!("× {}", self.scale)
                }

                fn peak_bytes(&self) -> u64 {
                    ((f64::from($peak_mib) * self.scale) as u64) << 20
                }

                fn ops(&self) -> u64 {
                    (f64::from($units) * self.scale) as u64
                }

                fn scale(&mut self, share: f64) {
                    self.scale = (self.scale * share).max(0.001);
                }

                fn run(&self, bench: &mut Bench) -> Result<(), String> {
                    run(Self::NAME, self.scale, bench)
                }
            }
        )*
    };
}

programs! {
    /// Parameters of program-json.
    ProgramJson = "program-json", 700 MiB, 100_000_000 units;
    /// Parameters of program-regex.
    ProgramRegex = "program-regex", 200 MiB, 40_000_000 units;
    /// Parameters of program-index.
    ProgramIndex = "program-index", 400 MiB, 4_600_000 units;
    /// Parameters of program-image.
    ProgramImage = "program-image", 200 MiB, 80_000_000 units;
    /// Parameters of program-server.
    ProgramServer = "program-server", 100 MiB, 160_000 units;
    /// Parameters of program-store.
    ProgramStore = "program-store", 400 MiB, 500_000 units;
}
