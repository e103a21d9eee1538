//! What each prefault policy costs and gains: random-mixed as the report ran it, and a program that grows.
//!
//! Every run is a child process with the policy in its environment; runs take turns, and a figure is the median of processor
//! time. Warm means superslabs taken before the clock, as `HAKMEM_BENCH_PREWARM` does. The report found that an explicit
//! memset inside the clock gains nothing; the rows show it, and what does gain.

use std::time::Duration;

use bench_kernel::{Experiment, Row, median, row};
use bench_subject::record::{Order, Run, Series};
use bench_subject::spec::Spec;
use serde_json::json;

use crate::results::OURS;
use crate::{runner, subjects};

pub const PREFAULT: Experiment = Experiment {
    name: "prefault",
    explained: "Prefault inside the clock moves page faults and gains nothing but by huge pages; before the clock it does. \
                cpu_vs_floor: processor time against the same writes on a bare mapping, piece by piece in turns.",
    bytes: |quick| mib(quick) << 20,
    rows,
};

const POLICIES: [&str; 7] = ["off", "touch", "memset", "map_populate", "populate", "collapse", "async"];
const THP: [&str; 3] = ["auto", "always", "never"];

fn mib(quick: bool) -> usize {
    if quick { 32 } else { 1024 }
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Case {
    workload: &'static str,
    policy: &'static str,
    thp: &'static str,
    warm: bool,
}

fn cases(quick: bool) -> Vec<Case> {
    let mut cases = Vec::new();
    for workload in ["random-mixed", "growth"] {
        for thp in THP {
            // Without huge pages and without prefault the others differ from these three in nothing.
            let few = thp == "never" || quick;
            for policy in POLICIES.into_iter().filter(|p| !few || ["off", "touch", "populate"].contains(p)) {
                cases.extend([false, true].map(|warm| Case { workload, policy, thp, warm }));
            }
        }
    }
    cases
}

fn rows(quick: bool, say: &dyn Fn(&str)) -> Result<Vec<Row>, String> {
    let cases = cases(quick);
    let specs: Vec<Spec> = cases.iter().map(|c| spec(c, quick)).collect::<Result<_, _>>()?;
    subjects::prepare(&specs, &[OURS.to_owned()]).map_err(|e| e.line)?;
    let rounds = if quick { 1 } else { 3 };
    let mut runs: Vec<Vec<Run>> = vec![Vec::new(); cases.len()];
    for round in 0..rounds {
        for (i, (case, spec)) in cases.iter().zip(&specs).enumerate() {
            if i % 10 == 0 {
                say(&format!("round {} of {rounds}, case {} of {}", round + 1, i + 1, cases.len()));
            }
            let order = Order { spec: spec.clone(), series: if case.warm { Series::Warm } else { Series::Cold } };
            let variables = [("HAKMEM_SS_PREFAULT", case.policy), ("HAKMEM_THP", case.thp)];
            let outcome = runner::run(OURS, &order, Duration::from_secs(600), &variables);
            runs[i].push(outcome.run.map_err(|e| format!("{case:?}: {e}"))?);
        }
    }
    let of = |i: usize, of: &dyn Fn(&Run) -> f64| runs[i].iter().map(of).collect::<Vec<f64>>();
    // Every case has its runs.
    let middle = |i: usize, what: &dyn Fn(&Run) -> f64| median(&of(i, what)).unwrap_or(f64::NAN);
    let cpu = |i: usize| middle(i, &Run::cpu_secs);
    let at = |wanted: Case| cases.iter().position(|c| *c == wanted);
    let rows = cases.iter().enumerate().map(|(i, case)| {
        let against = |other: Option<usize>| other.map(|o| cpu(o) / cpu(i));
        let faults = middle(i, &|r| r.faults() as f64);
        let mut row = row(json!({
            "workload": case.workload, "policy": case.policy, "thp": case.thp,
            "series": if case.warm { "warm" } else { "cold" },
            "cpu_secs": cpu(i), "faults_timed": faults as u64,
            "times_off": against(at(Case { policy: "off", ..*case })),
            "times_cold": against(at(Case { warm: false, ..*case }).filter(|_| case.warm)),
        }));
        if case.workload == "growth" {
            let all = of(i, &|r| r.figure.unwrap_or(f64::NAN));
            let ends = [all.iter().copied().fold(f64::INFINITY, f64::min), all.iter().copied().fold(0.0, f64::max)];
            row.insert("cpu_vs_floor".to_owned(), json!(median(&all)));
            row.insert("spread".to_owned(), json!(ends.map(|e| (e * 1000.0).round() / 1000.0)));
            row.insert("setup_secs".to_owned(), json!(middle(i, &|r| r.metrics.first().copied().unwrap_or(0.0))));
        }
        row
    });
    Ok(rows.collect())
}

fn spec(case: &Case, quick: bool) -> Result<Spec, String> {
    let mib = mib(quick);
    // A quarter more than the blocks add up to, for rounding to classes.
    let prewarm = |superslabs: usize| if case.warm { superslabs } else { 0 }.to_string();
    match case.workload {
        "growth" => Spec::parse(&["growth", &mib.to_string(), "--prewarm", &prewarm((mib + mib / 4) / 2)], |_| None),
        name => Spec::parse(&[name, "1000000", "256", "42", "--prewarm", &prewarm(8)], |_| None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_policy_meets_every_wish_once_in_each_series() {
        let all = cases(false);
        for workload in ["random-mixed", "growth"] {
            for (policy, thp) in POLICIES.iter().flat_map(|p| [(p, "auto"), (p, "always")]) {
                let found = all.iter().filter(|c| (c.workload, &c.policy, c.thp) == (workload, policy, thp));
                assert_eq!(found.count(), 2, "{workload} {policy} {thp}");
            }
        }
        assert_eq!(all.iter().filter(|c| c.thp == "never").count(), 2 * 6);
        assert!(cases(true).len() < all.len() && all.iter().all(|c| spec(c, true).is_ok()));
    }
}
