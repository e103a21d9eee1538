//! Every workload once on every allocator, as small as it goes: whether each can do each, not how fast.
//!
//! A pair counts only when its child answered with operations, a time, and no refused allocation. Whatever is missing is
//! named, so that one peer that cannot do one workload does not hide among hundreds of runs. A rival that failed is tried
//! once more, and that is said; what is ours is not.

use std::time::{Duration, Instant};

use clap::Args;

use crate::fail::Fail;
use crate::peers;
use crate::programs;
use crate::record::{Order, Run, Series};
use crate::runner::Launcher;
use crate::subjects;
use crate::workloads::{Spec, WorkloadCommand, check_positive};

/// The part of a workload's default length that is run.
const SHARE: f64 = 0.001;

/// What a smoke is asked.
#[derive(Debug, Args)]
pub struct Smoke {
    /// Allocators, separated by commas [default: the three built in and every peer, built or not]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub allocators: Vec<String>,
    /// Workloads, separated by commas [default: all]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub workloads: Vec<String>,
    /// Seconds after which a run counts as hung
    #[arg(long, value_name = "SECS", default_value_t = 60)]
    pub time_limit: u64,
}

/// Runs them all; fails with code 1 and the names of the pairs that gave no result.
pub fn run(smoke: &Smoke) -> Result<(), Fail> {
    let launcher = Launcher::new()?;
    let allocators = allocators(smoke, &launcher)?;
    let specs = specs(smoke)?;
    // A program that is not built with all of them is refused and not left out, as a peer is.
    programs::check(&specs, &allocators, &[Series::Warm])?;
    check_positive("--time-limit", smoke.time_limit)?;
    let limit = Duration::from_secs(smoke.time_limit);
    let start = Instant::now();
    let (mut good, mut bad) = (0, Vec::new());
    for spec in &specs {
        for allocator in &allocators {
            for series in [Series::Warm, Series::Cold] {
                if !spec.takes(allocator, series) {
                    continue;
                }
                let order = Order {
                    spec: spec.clone(),
                    series,
                    settle_ms: None,
                };
                let once = || {
                    launcher
                        .run(allocator, &order, limit)
                        .run
                        .and_then(|run| sound(&run))
                };
                let mut outcome = once();
                if let Err(first) = &outcome
                    && peers::NAMES.contains(&allocator.as_str())
                {
                    // Some rivals crash now and then; only one that cannot do it at all is of interest here.
                    eprintln!(
                        "smoke: {allocator} on {} ({series}) is tried again: {first}",
                        spec.name()
                    );
                    outcome = once();
                }
                match outcome {
                    Ok(()) => good += 1,
                    Err(e) => bad.push(format!("{allocator} on {} ({series}): {e}", spec.name())),
                }
            }
        }
    }
    println!(
        "smoke: {good} of {} runs gave a result: {} workloads on {}, warm and cold, in {:.0} s",
        good + bad.len(),
        specs.len(),
        allocators.join(", "),
        start.elapsed().as_secs_f64()
    );
    if bad.is_empty() {
        return Ok(());
    }
    Err(Fail::run(format!("smoke failed: {}", bad.join("; "))))
}

fn allocators(smoke: &Smoke, launcher: &Launcher) -> Result<Vec<String>, Fail> {
    if smoke.allocators.is_empty() {
        let built_in = subjects::BUILT_IN.iter().map(|a| a.name());
        let all: Vec<String> = built_in.chain(peers::NAMES).map(String::from).collect();
        return known(all, launcher);
    }
    known(smoke.allocators.clone(), launcher)
}

fn known(names: Vec<String>, launcher: &Launcher) -> Result<Vec<String>, Fail> {
    let known = launcher.known();
    let missing = |n: &&String| !known.contains(n);
    match names.iter().find(missing) {
        Some(name) if peers::NAMES.contains(&name.as_str()) => Err(Fail::usage(format!(
            "smoke: {name} is a peer that is not built yet: run bench-harness peers build {name}"
        ))),
        Some(name) => Err(Fail::usage(format!(
            "smoke: unknown allocator {name:?}: expected any of {}",
            known.join(", ")
        ))),
        None => Ok(names),
    }
}

/// The workloads asked for, each as short as it can be made.
fn specs(smoke: &Smoke) -> Result<Vec<Spec>, Fail> {
    let names = WorkloadCommand::names();
    if let Some(unknown) = smoke.workloads.iter().find(|n| !names.contains(n)) {
        return Err(Fail::usage(format!(
            "smoke: unknown workload {unknown:?}: expected any of {}",
            names.join(", ")
        )));
    }
    let wanted = |s: &Spec| {
        smoke.workloads.is_empty() || smoke.workloads.iter().any(|name| name == s.name())
    };
    let mut specs: Vec<Spec> = Spec::all_cases().into_iter().filter(wanted).collect();
    for spec in &mut specs {
        spec.scale(SHARE);
        spec.check()?;
    }
    Ok(specs)
}

/// Whether a run is one: something was done, it took time, and nothing was refused.
fn sound(run: &Run) -> Result<(), String> {
    match run {
        r if r.ops == 0 => Err("no operation was made".to_owned()),
        r if r.secs <= 0.0 || r.ops_per_sec <= 0.0 => Err("it took no time".to_owned()),
        r if r.failed_allocs > 0 => Err(format!("{} allocations were refused", r.failed_allocs)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_did_nothing_is_none() {
        let good = Run {
            ops: 1,
            secs: 1.0,
            ops_per_sec: 1.0,
            ..Run::default()
        };
        assert_eq!(sound(&good), Ok(()));
        let refused = Run {
            failed_allocs: 2,
            ..good.clone()
        };
        assert_eq!(sound(&refused).unwrap_err(), "2 allocations were refused");
        assert!(
            sound(&Run {
                ops: 0,
                ..good.clone()
            })
            .is_err()
        );
        assert!(sound(&Run { secs: 0.0, ..good }).is_err());
    }

    #[test]
    fn every_workload_can_be_made_short() {
        let all = Smoke {
            allocators: Vec::new(),
            workloads: Vec::new(),
            time_limit: 1,
        };
        let specs = specs(&all).unwrap();
        assert_eq!(specs.len(), WorkloadCommand::names().len());
    }
}
