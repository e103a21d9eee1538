//! Every workload once on every allocator, as small as it goes: whether each can do each, not how fast.
//!
//! A pair counts only when its child answered with operations, a time, and no refused allocation. Whatever is missing is
//! named at once, so that one peer that cannot do one workload does not hide among hundreds of runs. A rival that failed is
//! tried once more, and one that refuses what is asked of it (rpmalloc gives no alignment of 4 MiB) has reached a limit of its
//! own: both are said, and the second is no failure. What is ours gets neither.

use std::time::{Duration, Instant};

use bench_subject::record::{Order, Run};
use bench_subject::spec::Spec;
use bench_subject::workload::When;
use clap::Args;

use crate::fail::Fail;
use crate::results::FLOOR;
use crate::subjects::{self, OWN, RIVALS};
use crate::{output, runner, suite, text};

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
    let all = || OWN.into_iter().chain(RIVALS).map(String::from).collect();
    let allocators: Vec<String> = if smoke.allocators.is_empty() { all() } else { smoke.allocators.clone() };
    let specs = specs(smoke)?;
    subjects::check_names(&allocators, &subjects::known())?;
    // A program that is not built with all of them is refused and not left out, as a peer is.
    for spec in &specs {
        subjects::check_program(spec, allocators.iter().filter(|a| *a != FLOOR))?;
    }
    subjects::prepare(&specs, &allocators)?;
    let start = Instant::now();
    let (mut good, mut limits, mut bad) = (0, Vec::new(), Vec::new());
    let pairs = specs.iter().flat_map(|spec| allocators.iter().map(move |allocator| (spec, allocator)));
    let series = |(spec, _): &(&Spec, &String)| spec.row().map_or(&[][..], |r| r.series);
    for (pair, &series) in pairs.flat_map(|pair| series(&pair).iter().map(move |s| (pair, s))) {
        let (spec, allocator) = pair;
        if !spec.takes(allocator, series) {
            continue;
        }
        let order = Order { spec: spec.clone(), series };
        let once = || runner::run(allocator, &order, LIMIT, &[]).run.and_then(|run| sound(&run));
        let name = format!("{allocator} on {} ({series})", spec.workload);
        let rival = RIVALS.contains(&allocator.as_str());
        let mut outcome = once();
        if rival && outcome.as_ref().is_err_and(|e| !e.ends_with(REFUSED)) {
            // Some rivals crash now and then; only one that cannot do it at all is of interest here.
            output::say(&format!("smoke: {name} is tried again\n"));
            outcome = once();
        }
        match outcome {
            Ok(()) => good += 1,
            Err(e) if rival && e.ends_with(REFUSED) => limits.push(format!("{name}: {e}")),
            Err(e) => {
                output::say(&format!("smoke: {name}: {e}\n"));
                bad.push(name);
            }
        }
    }
    println!(
        "smoke: {good} of {} runs gave a result: {} on {}, in {:.0} s",
        good + limits.len() + bad.len(),
        text::counted(specs.len(), "workload"),
        allocators.join(", "),
        start.elapsed().as_secs_f64()
    );
    limits.iter().for_each(|limit| println!("smoke: a rival's limit: {limit}"));
    if bad.is_empty() { Ok(()) } else { Err(Fail::run(format!("smoke failed: {}", bad.join("; ")))) }
}

/// The workloads asked for, each as short as it can be made.
fn specs(smoke: &Smoke) -> Result<Vec<Spec>, Fail> {
    let mut specs = Vec::new();
    for row in suite::chosen(&smoke.workloads)? {
        let words = row.sizes.iter().find(|s| s.when == When::Quick).map_or("", |s| s.words);
        let mut spec = Spec::of(row, words).map_err(Fail::run)?;
        spec.scale(SHARE);
        specs.push(spec);
    }
    Ok(specs)
}

/// How it ends where an allocator refused what was asked of it.
const REFUSED: &str = "refused";

/// Whether a run is one: something was done, it took time, and nothing was refused.
fn sound(run: &Run) -> Result<(), String> {
    match run {
        r if r.failed_allocs > 0 => Err(format!("{} {REFUSED}", text::counted(r.failed_allocs as usize, "allocation"))),
        r if r.ops == 0 => Err("no operation was made".to_owned()),
        r if r.secs <= 0.0 || r.ops_per_sec <= 0.0 => Err("it took no time".to_owned()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_did_nothing_is_none() {
        let good = Run { ops: 1, secs: 1.0, ops_per_sec: 1.0, ..Run::default() };
        assert_eq!(sound(&good), Ok(()));
        let refused = Run { failed_allocs: 2, ..good.clone() };
        assert_eq!(sound(&refused).unwrap_err(), "2 allocations refused");
        assert!(sound(&Run { ops: 0, ..good.clone() }).is_err() && sound(&Run { secs: 0.0, ..good }).is_err());
    }
}
