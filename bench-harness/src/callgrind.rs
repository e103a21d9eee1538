//! Instructions per operation, counted by valgrind's callgrind: exact where times are noisy.
//!
//! Only the timed part is collected (see [`crate::measure::timed_section`]). The same run of `null` is counted too, and
//! what is reported is the difference: what an operation costs above the harness's own loop.

use std::collections::HashMap;
use std::process::Command;
use std::time::Duration;

use crate::fail::Fail;
use crate::record::{CaseResult, Order};
use crate::runner::{Launcher, run_limited};

/// The most operations that are counted: valgrind is some fifty times slower than the processor.
const MOST_OPS: u64 = 1_000_000;

/// Refuses where there is no valgrind.
pub fn check() -> Result<(), Fail> {
    let mut command = Command::new("valgrind");
    command.arg("--version");
    match run_limited(command, Duration::from_secs(20)) {
        Ok(f) if f.status.is_some_and(|s| s.success()) => Ok(()),
        _ => Err(Fail::usage(
            "--callgrind: valgrind cannot be started; expected it to be installed (apt-get install valgrind)",
        )),
    }
}

/// Fills in `instructions_per_op` of every case. A count that fails is said on stderr and leaves its case without one.
pub fn count(results: &mut [CaseResult], launcher: &Launcher, limit: Duration) {
    let mut floors = HashMap::new();
    for case in results {
        if crate::interrupt::asked() {
            return;
        }
        if case.spec.is_program() {
            eprintln!(
                "callgrind: {} on {}: not counted, for there is no program without an allocator to subtract",
                case.spec.name(),
                case.allocator
            );
            continue;
        }
        let ops = case.spec.ops().max(1);
        let mut spec = case.spec.clone();
        spec.scale((MOST_OPS as f64 / ops as f64).min(1.0));
        let order = Order {
            spec,
            series: case.series,
            settle_ms: None,
        };
        let Ok(key) = serde_json::to_string(&order) else {
            continue;
        };
        let of = |allocator: &str| instructions_per_op(launcher, allocator, &order, limit);
        let floor = floors.entry(key).or_insert_with(|| of("null"));
        let count = if case.allocator == "null" {
            floor.clone()
        } else {
            of(&case.allocator)
        };
        match (count, floor.clone()) {
            // The floor's own line shows what it costs itself.
            (Ok(n), Ok(_)) if case.allocator == "null" => case.instructions_per_op = Some(n),
            (Ok(n), Ok(floor)) => case.instructions_per_op = Some(n - floor),
            (Err(e), _) | (_, Err(e)) => {
                eprintln!(
                    "callgrind: {} {} on {}: {e}",
                    case.spec.name(),
                    case.series,
                    case.allocator
                );
            }
        }
    }
}

fn instructions_per_op(
    launcher: &Launcher,
    allocator: &str,
    order: &Order,
    limit: Duration,
) -> Result<f64, String> {
    let (program, arguments) = launcher.child(allocator, &order.spec);
    let order = serde_json::to_string(order).map_err(|e| e.to_string())?;
    let mut command = Command::new("valgrind");
    command
        .args([
            "--tool=callgrind",
            "--collect-atstart=no",
            "--toggle-collect=*timed_section*",
        ])
        .args(["--callgrind-out-file=/dev/null", "--"])
        .arg(program)
        .args(arguments)
        .arg(order);
    let finished = run_limited(command, limit.max(Duration::from_secs(600)))?;
    let run = crate::runner::judge(&finished, limit)?;
    let collected = collected(&finished.stderr).ok_or("valgrind printed no count")?;
    if collected == 0 {
        return Err("valgrind counted nothing: the timed part was not found".to_owned());
    }
    Ok(collected as f64 / run.ops.max(1) as f64)
}

/// The number in valgrind's line `==1234== Collected : 567`.
fn collected(stderr: &str) -> Option<u64> {
    stderr
        .lines()
        .find_map(|l| l.split_once("Collected : ")?.1.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_is_found() {
        let text = "==7== Callgrind, a call-graph\n==7== \n==7== Events    : Ir\n==7== Collected : 123456\n==7== \n";
        assert_eq!(collected(text), Some(123456));
        assert_eq!(collected("==7== Events : Ir\n"), None);
    }
}
