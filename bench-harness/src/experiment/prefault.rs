//! What each prefault policy costs and gains: random-mixed as the report ran it, and a program that grows.
//!
//! Every run is a child process with the policy in its environment; runs take turns, and a figure is the median. Warm
//! means superslabs taken before the clock, as `HAKMEM_BENCH_PREWARM` does. The report found that an explicit memset inside
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

/// How much of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Extent {
    pub quick: bool,
    pub full: bool,
    /// Whether each child touches the host's memory right before its clock.
    pub host_warm: bool,
}

impl Extent {
    /// Bytes of the growing workload.
    fn bytes(self) -> usize {
        if self.quick { 32 << 20 } else { 1 << 30 }
    }

    /// Runs of random-mixed, which are short, for each case.
    fn rounds(self) -> usize {
        if self.quick { 1 } else { 5 }
    }

    /// Runs of the growing workload: more where the others are compared with it.
    fn growths(self, case: &Case) -> usize {
        match (self.quick, self.full, case.policy) {
            (true, _, _) => 1,
            (_, false, "off") | (_, true, _) => 3,
            (_, false, _) => 1,
        }
    }
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
pub(super) fn rows(extent: Extent) -> Result<Vec<Row>, Fail> {
    let cases = cases(extent.quick);
    let mut mixed: Vec<Vec<Mixed>> = vec![Vec::new(); cases.len()];
    let mut growth: Vec<Vec<Growth>> = vec![Vec::new(); cases.len()];
    let (start, rounds) = (Instant::now(), extent.rounds());
    for round in 0..rounds {
        for (i, case) in cases.iter().enumerate() {
            if i == 0 || case.thp != cases[i - 1].thp {
                eprintln!(
                    "prefault: round {} of {rounds}, case {} of {}, {:.0} s so far",
                    round + 1,
                    i + 1,
                    cases.len(),
                    start.elapsed().as_secs_f64()
                );
            }
            let mut run = random_mixed(case)?;
            if round == 0 {
                run.worst_alloc_us = worst_of_random_mixed(case)?;
            }
            mixed[i].push(run);
            if round < extent.growths(case) {
                growth[i].push(grow(case, extent, round)?);
            }
        }
    }
    let mut rows = vec![floor_row(&growth, extent.bytes())];
    let secs: Vec<_> = mixed
        .iter()
        .map(|runs| secs(runs, |m| m.run.secs))
        .collect();
    for (i, (case, runs)) in cases.iter().zip(&mixed).enumerate() {
        let mut row = mixed_row(case, runs);
        row.extend(compared(&cases, i, &secs));
        rows.push(row);
    }
    let secs: Vec<_> = growth
        .iter()
        .map(|runs| self::secs(runs, |g| g.secs))
        .collect();
    for (i, (case, runs)) in cases.iter().zip(&growth).enumerate() {
        let mut row = growth_row(case, runs);
        row.extend(compared(&cases, i, &secs));
        rows.push(row);
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
    /// Of a run of its own, in the first round; 0 in the others.
    worst_alloc_us: f64,
}

const MIXED_OPS: u64 = 1_000_000;
/// Superslabs taken before the clock in its warm series.
const MIXED_PREWARM: usize = 8;

fn random_mixed(case: &Case) -> Result<Mixed, Fail> {
    let mut spec = Spec::RandomMixed(RandomMixed::new(MIXED_OPS, 256, 42));
    spec.check()?;
    // The check takes it from this program's environment, where nobody set it.
    if let Spec::RandomMixed(spec) = &mut spec
        && case.series == Series::Warm
    {
        spec.prewarm = MIXED_PREWARM;
    }
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
        worst_alloc_us: 0.0,
    })
}

/// Another child times every allocation by itself.
fn worst_of_random_mixed(case: &Case) -> Result<f64, Fail> {
    let order = GrowthOrder {
        bytes: 0,
        prewarm: match case.series {
            Series::Cold => 0,
            Series::Warm => MIXED_PREWARM,
        },
        each: true,
        host_warm: false,
        mixed_ops: MIXED_OPS,
    };
    Ok(growth_child(case, order)?.worst_alloc_us)
}

/// In the first round another child, a quarter as large, times every allocation by itself, for the worst one.
fn grow(case: &Case, extent: Extent, round: usize) -> Result<Growth, Fail> {
    let run = |bytes: usize, each| {
        // A quarter more than the blocks add up to, for rounding to classes.
        let warm = case.series == Series::Warm;
        let order = GrowthOrder {
            bytes,
            prewarm: if warm { (bytes + bytes / 4) >> 21 } else { 0 },
            each,
            host_warm: extent.host_warm,
            mixed_ops: 0,
        };
        growth_child(case, order)
    };
    let mut growth = run(extent.bytes(), false)?;
    if round == 0 {
        growth.worst_alloc_us = run(extent.bytes() / 4, true)?.worst_alloc_us;
    }
    Ok(growth)
}

fn growth_child(case: &Case, order: GrowthOrder) -> Result<Growth, Fail> {
    let order = serde_json::to_string(&order).map_err(|e| Fail::run(e.to_string()))?;
    let mut command = program(case)?;
    command.args(["growth-child", &order]);
    let finished = run_limited(command, LIMIT).map_err(Fail::run)?;
    let line = finished.stdout.lines().last().unwrap_or("").to_owned();
    serde_json::from_str::<Growth>(&line)
        .map_err(|_| Fail::run(format!("{case:?}: {} {line}", finished.stderr.trim())))
}

fn secs<T>(runs: &[T], of: impl Fn(&T) -> f64) -> Vec<f64> {
    runs.iter().map(of).collect()
}

/// How many times as fast as the same without prefault, and as the same cold, round by round.
fn compared(cases: &[Case], i: usize, secs: &[Vec<f64>]) -> Row {
    let case = cases[i];
    let against = |other: Case| {
        let at = cases.iter().position(|c| *c == other).unwrap_or(i);
        let ratios: Vec<f64> = secs[at].iter().zip(&secs[i]).map(|(a, b)| a / b).collect();
        json!(median(&ratios, |r| *r))
    };
    let off = against(Case {
        policy: "off",
        ..case
    });
    let cold = match case.series {
        Series::Cold => Value::Null,
        Series::Warm => against(Case {
            series: Series::Cold,
            ..case
        }),
    };
    row(json!({"times_off": off, "times_cold": cold}))
}

fn median<T>(runs: &[T], of: impl Fn(&T) -> f64) -> f64 {
    let mut values: Vec<f64> = runs.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    let at = |i: usize| values.get(i).copied().unwrap_or(f64::NAN);
    (at(values.len().saturating_sub(1) / 2) + at(values.len() / 2)) / 2.0
}

/// The least and the greatest.
fn spread<T>(runs: &[T], of: impl Fn(&T) -> f64) -> [f64; 2] {
    let values = || runs.iter().map(&of);
    [
        values().fold(f64::INFINITY, f64::min),
        values().fold(0.0, f64::max),
    ]
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
        "kernel_share": share(of(|r| r.sys_secs), of(|r| r.user_secs)),
        "worst_alloc_us": runs.iter().map(|m| m.worst_alloc_us).fold(0.0, f64::max),
    }))
}

fn growth_row(case: &Case, runs: &[Growth]) -> Row {
    let of = |f: fn(&Growth) -> f64| median(runs, f);
    // Each against the floor of its own process: they ran next to each other.
    let vs_floor = |g: &Growth| g.secs / g.floor_secs;
    row(json!({
        "policy": case.policy, "thp": case.thp, "workload": "growth", "series": case.series.name(),
        "ops_per_sec": of(|g| g.blocks as f64 / g.secs), "secs": of(|g| g.secs),
        "faults_timed": of(|g| g.faults_timed as f64) as u64,
        "faults_untimed": of(|g| g.faults_untimed as f64) as u64,
        "setup_secs": of(|g| g.setup_secs), "sys_secs": of(|g| g.sys_secs),
        "kernel_share": share(of(|g| g.sys_secs), of(|g| g.user_secs)),
        "worst_alloc_us": runs.iter().map(|g| g.worst_alloc_us).fold(0.0, f64::max),
        "growth_vs_floor": of(vs_floor), "spread": spread(runs, vs_floor),
        // Processor time alone, which others on the machine disturb less.
        "cpu_vs_floor": of(|g| (g.user_secs + g.sys_secs) / (g.floor_user_secs + g.floor_sys_secs)),
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
    fn each_case_is_compared_with_off_and_with_itself_cold() {
        let cases = cases(false);
        let at = |policy, series| {
            let found = cases
                .iter()
                .position(|c| (c.policy, c.series, c.thp) == (policy, series, "auto"));
            found.unwrap()
        };
        let mut secs = vec![vec![1.0]; cases.len()];
        secs[at("off", Series::Warm)] = vec![3.0, 3.0];
        secs[at("memset", Series::Cold)] = vec![8.0];
        secs[at("memset", Series::Warm)] = vec![2.0];
        let row = compared(&cases, at("memset", Series::Warm), &secs);
        assert_eq!(
            (&row["times_off"], &row["times_cold"]),
            (&json!(1.5), &json!(4.0))
        );
        let row = compared(&cases, at("off", Series::Cold), &secs);
        assert_eq!(
            (&row["times_off"], &row["times_cold"]),
            (&json!(1.0), &Value::Null)
        );
    }

    #[test]
    fn medians_and_shares() {
        assert_eq!(median(&[3.0, 1.0, 2.0], |v| *v), 2.0);
        assert_eq!(median(&[3.0, 1.0, 2.0, 8.0], |v| *v), 2.5);
        assert!(median(&[], |v: &f64| *v).is_nan());
        assert_eq!(spread(&[3.0, 1.0, 2.0], |v| *v), [1.0, 3.0]);
        assert_eq!(share(0.6, 0.4), json!(0.6));
        assert_eq!(share(0.001, 0.001), Value::Null);
    }
}
