//! What each prefault policy costs and gains: random-mixed as the report ran it, and a program that grows.
//!
//! Every run is a child process with the policy in its environment; runs take turns, and a figure is the median of processor
//! time. Warm means superslabs taken before the clock, as `HAKMEM_BENCH_PREWARM` does. The report found that an explicit
//! memset inside the clock gains nothing; the rows show it, and what does gain.

use std::process::Command;

use serde_json::{Value, json};

use crate::{Row, median, row};

const POLICIES: [&str; 7] = ["off", "touch", "memset", "map_populate", "populate", "collapse", "async"];
const THP: [&str; 3] = ["auto", "always", "never"];

/// Superslabs taken before the clock by the warm series of random-mixed.
const MIXED_PREWARM: usize = 8;

pub(crate) fn bytes(quick: bool) -> usize {
    if quick { 32 << 20 } else { 1 << 30 }
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

pub(crate) fn rows(quick: bool, say: &dyn Fn(&str)) -> Result<Vec<Row>, String> {
    let cases = cases(quick);
    let rounds = if quick { 1 } else { 3 };
    let mut answers: Vec<Vec<Value>> = vec![Vec::new(); cases.len()];
    for round in 0..rounds {
        for (i, case) in cases.iter().enumerate() {
            if i % 10 == 0 {
                say(&format!("round {} of {rounds}, case {} of {}", round + 1, i + 1, cases.len()));
            }
            answers[i].push(run(case, bytes(quick))?);
        }
    }
    let cpu = |i: usize| median(&answers[i].iter().map(cpu_secs).collect::<Vec<_>>());
    let at = |wanted: Case| cases.iter().position(|c| *c == wanted);
    let rows = cases.iter().enumerate().map(|(i, case)| {
        let of = |f: fn(&Value) -> f64| median(&answers[i].iter().map(f).collect::<Vec<_>>());
        let against = |other: Option<usize>| other.map(|o| cpu(o) / cpu(i));
        let mut row = row(json!({
            "workload": case.workload, "policy": case.policy, "thp": case.thp,
            "series": if case.warm { "warm" } else { "cold" },
            "cpu_secs": cpu(i), "faults_timed": of(faults) as u64,
            "times_off": against(at(Case { policy: "off", ..*case })),
            "times_cold": against(at(Case { warm: false, ..*case }).filter(|_| case.warm)),
        }));
        if case.workload == "growth" {
            let versus = |v: &Value| number(v, "cpu_secs") / number(v, "floor_secs");
            let all: Vec<f64> = answers[i].iter().map(versus).collect();
            let ends = [all.iter().copied().fold(f64::INFINITY, f64::min), all.iter().copied().fold(0.0, f64::max)];
            row.insert("cpu_vs_floor".to_owned(), json!(median(&all)));
            row.insert("spread".to_owned(), json!(ends.map(|e| (e * 1000.0).round() / 1000.0)));
            row.insert("setup_secs".to_owned(), json!(of(|v| number(v, "setup_secs"))));
        }
        row
    });
    Ok(rows.collect())
}

fn number(value: &Value, name: &str) -> f64 {
    value[name].as_f64().unwrap_or(0.0)
}

/// Processor time of the timed part, whichever workload answered.
fn cpu_secs(value: &Value) -> f64 {
    match value.get("cpu_secs") {
        Some(_) => number(value, "cpu_secs"),
        None => number(value, "user_secs") + number(value, "sys_secs"),
    }
}

fn faults(value: &Value) -> f64 {
    number(value, "faults_timed") + number(value, "minor_faults_timed")
}

fn order(case: &Case, bytes: usize) -> Value {
    match case.workload {
        // A quarter more than the blocks add up to, for rounding to classes.
        "growth" => json!({"bytes": bytes, "prewarm": if case.warm { (bytes + bytes / 4) >> 21 } else { 0 }}),
        name => json!({
            "workload": name, "series": if case.warm { "warm" } else { "cold" },
            "params": {"cycles": 1_000_000, "ws": 256, "seed": 42, "prewarm": if case.warm { MIXED_PREWARM } else { 0 }},
        }),
    }
}

fn run(case: &Case, bytes: usize) -> Result<Value, String> {
    let program = std::env::current_exe().map_err(|e| e.to_string())?;
    let output = Command::new(program)
        .args(["experiment-child", &order(case, bytes).to_string()])
        .env("HAKMEM_SS_PREFAULT", case.policy)
        .env("HAKMEM_THP", case.thp)
        .env_remove("HAKMEM_SS_PREWARM")
        .env_remove("HAKMEM_NO_EXPLICIT_PREFAULT")
        .output()
        .map_err(|e| e.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(text.lines().last().unwrap_or(""))
        .map_err(|_| format!("{case:?}: {} {text}", String::from_utf8_lossy(&output.stderr).trim()))
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
        assert!(cases(true).len() < all.len());
    }

    #[test]
    fn orders_are_what_the_child_understands() {
        let case = |workload| Case { workload, policy: "off", thp: "auto", warm: true };
        let mixed: bench_subject::record::Order = serde_json::from_value(order(&case("random-mixed"), 1)).unwrap();
        assert_eq!((mixed.spec.n("cycles"), mixed.spec.n("prewarm")), (1_000_000, 8));
        assert_eq!(order(&case("growth"), 64 << 20)["prewarm"], 40);
    }
}
