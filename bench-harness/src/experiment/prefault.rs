//! What each prefault policy costs and gains: random-mixed as the report ran it, and a program that grows.
//!
//! Every run is a child process with the policy in its environment; runs take turns, and a figure is the median. Warm
//! means superslabs taken by `HAKMEM_BENCH_PREWARM` before the clock. The report found that an explicit memset inside
//! the clock gains nothing; the rows show it, and what does gain.

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::growth::{Growth, GrowthOrder};
use super::{Row, row};
use crate::fail::Fail;
use crate::record::{Order, Run, Series};
use crate::runner::{judge, run_limited};
use crate::workloads::Spec;
use crate::workloads::random_mixed::RandomMixed;

const LIMIT: Duration = Duration::from_secs(120);
const POLICIES: [&str; 7] = [
    "off",
    "touch",
    "memset",
    "map_populate",
    "populate",
    "collapse",
    "async",
];
const THP: [&str; 3] = ["auto", "always", "never"];

/// Bytes of the growing workload.
pub(super) fn bytes(quick: bool) -> usize {
    if quick { 32 << 20 } else { 1 << 30 }
}

/// One line of the table to be.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Case {
    policy: &'static str,
    thp: &'static str,
    series: Series,
}

fn cases(quick: bool) -> Vec<Case> {
    let mut cases = Vec::new();
    for thp in THP {
        for policy in POLICIES {
            // Without huge pages and without prefault the others differ from these three in nothing.
            if (thp == "never" || quick) && !["off", "touch", "populate"].contains(&policy) {
                continue;
            }
            for series in [Series::Cold, Series::Warm] {
                cases.push(Case {
                    policy,
                    thp,
                    series,
                });
            }
        }
    }
    cases
}

/// All rows.
pub(super) fn rows(quick: bool) -> Result<Vec<Row>, Fail> {
    let (bytes, rounds) = (bytes(quick), if quick { 1 } else { 3 });
    let cases = cases(quick);
    let mut mixed: Vec<Vec<Mixed>> = vec![Vec::new(); cases.len()];
    let mut growth: Vec<Vec<Growth>> = vec![Vec::new(); cases.len()];
    for round in 0..rounds {
        for (i, case) in cases.iter().enumerate() {
            mixed[i].push(random_mixed(case)?);
            growth[i].push(grow(case, bytes, round)?);
        }
    }
    let mut rows = vec![floor_row(&growth, bytes)];
    for (case, runs) in cases.iter().zip(&mixed) {
        rows.push(mixed_row(case, runs));
    }
    for (case, runs) in cases.iter().zip(&growth) {
        rows.push(growth_row(case, runs));
    }
    Ok(rows)
}

fn program(case: &Case) -> Result<Command, Fail> {
    let exe =
        std::env::current_exe().map_err(|e| Fail::run(format!("the path of this program: {e}")))?;
    let mut command = Command::new(exe);
    command
        .env("HAKMEM_SS_PREFAULT", case.policy)
        .env("HAKMEM_THP", case.thp);
    command
        .env_remove("HAKMEM_SS_PREWARM")
        .env_remove("HAKMEM_NO_EXPLICIT_PREFAULT");
    Ok(command)
}

#[derive(Debug, Clone)]
struct Mixed {
    run: Run,
    setup_secs: f64,
}

fn random_mixed(case: &Case) -> Result<Mixed, Fail> {
    let mut spec = RandomMixed::new(1_000_000, 256, 42);
    if case.series == Series::Warm {
        spec.prewarm = 8;
    }
    let mut spec = Spec::RandomMixed(spec);
    spec.check()?;
    let order = Order {
        spec,
        series: case.series,
        settle_ms: None,
    };
    let order = serde_json::to_string(&order).map_err(|e| Fail::run(e.to_string()))?;
    let mut command = program(case)?;
    command.args(["child", "hakmem", &order]);
    let start = Instant::now();
    let finished = run_limited(command, LIMIT).map_err(Fail::run)?;
    let whole = start.elapsed().as_secs_f64();
    let run = judge(&finished, LIMIT).map_err(|e| Fail::run(format!("{case:?}: {e}")))?;
    Ok(Mixed {
        setup_secs: (whole - run.secs).max(0.0),
        run,
    })
}

/// The last round of each case times every allocation, for the worst one; its other figures are not used.
fn grow(case: &Case, bytes: usize, round: usize) -> Result<Growth, Fail> {
    // A quarter more than the blocks add up to, for rounding to classes.
    let prewarm = if case.series == Series::Warm {
        (bytes + bytes / 4) >> 21
    } else {
        0
    };
    let run = |each| {
        let order = GrowthOrder {
            bytes,
            prewarm,
            each,
        };
        let order = serde_json::to_string(&order).map_err(|e| Fail::run(e.to_string()))?;
        let mut command = program(case)?;
        command.args(["growth-child", &order]);
        let finished = run_limited(command, LIMIT).map_err(Fail::run)?;
        let line = finished.stdout.lines().last().unwrap_or("").to_owned();
        serde_json::from_str::<Growth>(&line)
            .map_err(|_| Fail::run(format!("{case:?}: {} {line}", finished.stderr.trim())))
    };
    let mut growth = run(false)?;
    if round == 0 {
        growth.worst_alloc_us = run(true)?.worst_alloc_us;
    }
    Ok(growth)
}

fn median<T>(runs: &[T], of: impl Fn(&T) -> f64) -> f64 {
    let mut values: Vec<f64> = runs.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The kernel's share of the time a program used.
fn share(sys: f64, user: f64) -> Value {
    // Two clock ticks of system time say nothing.
    if sys + user < 0.02 {
        Value::Null
    } else {
        json!(sys / (sys + user))
    }
}

fn mixed_row(case: &Case, runs: &[Mixed]) -> Row {
    let of = |f: fn(&Run) -> f64| median(runs, |m| f(&m.run));
    row(json!({
        "policy": case.policy, "thp": case.thp, "workload": "random-mixed", "series": case.series.name(),
        "ops_per_sec": of(|r| r.ops_per_sec), "secs": of(|r| r.secs),
        "faults_timed": of(|r| r.minor_faults_timed as f64) as u64,
        "faults_untimed": of(|r| r.minor_faults_total.saturating_sub(r.minor_faults_timed) as f64) as u64,
        "setup_secs": median(runs, |m| m.setup_secs), "sys_secs": of(|r| r.sys_secs),
        "kernel_share": share(of(|r| r.sys_secs), of(|r| r.user_secs)), "worst_alloc_us": null,
    }))
}

fn growth_row(case: &Case, runs: &[Growth]) -> Row {
    let of = |f: fn(&Growth) -> f64| median(runs, f);
    row(json!({
        "policy": case.policy, "thp": case.thp, "workload": "growth", "series": case.series.name(),
        "ops_per_sec": of(|g| g.blocks as f64 / g.secs), "secs": of(|g| g.secs),
        "faults_timed": of(|g| g.faults_timed as f64) as u64,
        "faults_untimed": of(|g| g.faults_untimed as f64) as u64,
        "setup_secs": of(|g| g.setup_secs), "sys_secs": of(|g| g.sys_secs),
        "kernel_share": share(of(|g| g.sys_secs), of(|g| g.user_secs)),
        "worst_alloc_us": runs.iter().map(|g| g.worst_alloc_us).fold(0.0, f64::max),
        // Each against the floor of its own process: they ran next to each other.
        "growth_vs_floor": of(|g| g.secs / g.floor_secs),
    }))
}

fn floor_row(growth: &[Vec<Growth>], bytes: usize) -> Row {
    let runs: Vec<&Growth> = growth.iter().flatten().collect();
    row(json!({
        "policy": "kernel-floor", "workload": "growth", "bytes": bytes,
        "ops_per_sec": median(&runs, |g| g.blocks as f64 / g.floor_secs),
        "secs": median(&runs, |g| g.floor_secs),
        "faults_timed": median(&runs, |g| g.floor_faults as f64) as u64,
        "sys_secs": median(&runs, |g| g.floor_sys_secs),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_policy_meets_every_wish_once_in_each_series() {
        let all = cases(false);
        for thp in ["auto", "always"] {
            for policy in POLICIES {
                let found = all
                    .iter()
                    .filter(|c| c.policy == policy && c.thp == thp)
                    .count();
                assert_eq!(found, 2, "{policy} {thp}");
            }
        }
        assert_eq!(all.iter().filter(|c| c.thp == "never").count(), 6);
        assert!(cases(true).len() < all.len());
    }

    #[test]
    fn medians_and_shares() {
        assert_eq!(median(&[3.0, 1.0, 2.0], |v| *v), 2.0);
        assert_eq!(share(0.6, 0.4), json!(0.6));
        assert_eq!(share(0.001, 0.001), Value::Null);
    }
}
