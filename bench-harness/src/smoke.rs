//! Every workload once on every allocator, as small as it goes: whether each can do each, not how fast.
//!
//! A run counts only when its child answered with operations, a time, and no refused allocation. Whatever is missing is
//! named at once, so that one peer that cannot do one workload does not hide among hundreds of runs. A rival that failed is
//! tried once more, and one that refuses what is asked of it (rpmalloc gives no alignment of 4 MiB) has reached a limit of its
//! own: both are said, and the second is no failure. What is ours gets neither.

use std::time::Duration;

use bench_subject::record::{Order, Run};
use clap::Args;

use crate::fail::Fail;
use crate::results::FLOOR;
use crate::subjects::{self, RIVALS};
use crate::suite::{self, Extent};
use crate::{output, plan, runner};

/// The part of a workload's quick size that is run.
const SHARE: f64 = 0.01;

/// After which a run counts as hung.
const LIMIT: Duration = Duration::from_secs(60);

#[derive(Debug, Args)]
pub struct Smoke {
    /// Allocators, separated by commas [default: our own and every peer, built or not]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub allocators: Vec<String>,
    /// Workloads, separated by commas [default: all]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub workloads: Vec<String>,
}

/// Runs them all; fails with code 1 and the names of the pairs that gave no result.
pub fn run(smoke: &Smoke) -> Result<(), Fail> {
    let all = || subjects::all().map(String::from).collect();
    let asked: Vec<String> = if smoke.allocators.is_empty() { all() } else { smoke.allocators.clone() };
    let mut entries = suite::entries(Extent::Smoke, &smoke.workloads, None, None)?;
    let allocators = subjects::named(&asked, false)?;
    for entry in &mut entries {
        entry.scale(SHARE);
        // A program that is not built with all of them is refused and not left out, as a peer is.
        subjects::check_program(&entry.spec, allocators.iter().filter(|a| *a != FLOOR))?;
    }
    let cases = plan::cases(&entries, &allocators);
    subjects::prepare(&cases)?;
    let mut bad = Vec::new();
    for case in &cases {
        let order = Order { spec: case.spec.clone(), series: case.series };
        let once = || runner::run(&case.allocator, &order, LIMIT, &[]).and_then(|run| sound(&run));
        let name = format!("{} on {} ({})", case.allocator, case.spec.workload, case.series);
        let rival = RIVALS.contains(&case.allocator.as_str());
        let again = |e: String| {
            output::say(&format!("smoke: {name}: {e}\n"));
            if rival && !e.ends_with(REFUSED) { once() } else { Err(e) }
        };
        if once().or_else(again).is_err_and(|e| !(rival && e.ends_with(REFUSED))) {
            bad.push(name);
        }
    }
    println!("smoke: {} of {} runs gave a result on {}", cases.len() - bad.len(), cases.len(), allocators.join(", "));
    if bad.is_empty() { Ok(()) } else { Err(Fail::run(format!("smoke failed: {}", bad.join("; ")))) }
}

/// How it ends where an allocator refused what was asked of it.
const REFUSED: &str = "refused";

/// Whether a run is one: something was done, it took time, and nothing was refused.
fn sound(run: &Run) -> Result<(), String> {
    match run {
        r if r.failed_allocs > 0 => Err(format!("{} allocations were {REFUSED}", r.failed_allocs)),
        r if r.ops == 0 => Err("no operation was made".to_owned()),
        r if r.secs <= 0.0 || r.ops_per_sec <= 0.0 => Err("it took no time".to_owned()),
        _ => Ok(()),
    }
}
