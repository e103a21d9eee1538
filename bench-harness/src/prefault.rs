//! What each prefault policy costs and gains: random-mixed as the report ran it, and a program that grows.
//!
//! Every run is a child process with the policy in its environment; runs take turns, and a figure is the median of processor
//! time. Warm means superslabs taken before the clock, as `HAKMEM_BENCH_PREWARM` does. The report found that an explicit
//! memset inside the clock gains nothing; the rows show it, and what does gain.

use std::time::Duration;

use bench_kernel::{Experiment, Row, median};
use bench_subject::record::{Order, Run, Series};
use serde_json::json;

use crate::results::{CaseResult, OURS};
use crate::{runner, subjects, workloads};

pub const PREFAULT: Experiment = Experiment {
    name: "prefault",
    explained: "Prefault inside the clock moves page faults and gains nothing but by huge pages or on another thread \
                (async); before the clock it does. cpu_vs_floor: processor time against the same writes on a bare \
                mapping, piece by piece in turns.",
    bytes: 1 << 30,
    quick_bytes: 32 << 20,
    rows,
};

const POLICIES: [&str; 7] = ["off", "touch", "memset", "map_populate", "populate", "collapse", "async"];
const THP: [&str; 3] = ["auto", "always", "never"];

struct Case {
    policy: &'static str,
    thp: &'static str,
    order: Order,
    runs: Vec<Run>,
}

/// Few where few bytes are enough: for trying out.
fn cases(mib: usize) -> Result<Vec<Case>, String> {
    let quick = mib < 1024;
    let mut cases = Vec::new();
    // How many superslabs hold each: of growth a quarter more than the blocks add up to, for rounding to classes.
    for (line, superslabs) in
        [("random-mixed 1000000 256 42".to_owned(), 8), (format!("growth {mib}"), (mib + mib / 4) / 2)]
    {
        for (thp, policy) in THP.iter().flat_map(|thp| POLICIES.map(|policy| (thp, policy))) {
            // Without huge pages the others differ from these three in nothing.
            if (*thp == "never" || quick) && !["off", "touch", "populate"].contains(&policy) {
                continue;
            }
            for (series, prewarm) in [(Series::Cold, 0), (Series::Warm, superslabs)] {
                let spec = workloads::of(&format!("{line} --prewarm {prewarm}"))?;
                cases.push(Case { policy, thp, order: Order { spec, series }, runs: Vec::new() });
            }
        }
    }
    Ok(cases)
}

fn rows(bytes: usize, say: &dyn Fn(&str)) -> Result<Vec<Row>, String> {
    let mut cases = cases(bytes >> 20)?;
    let started: Vec<_> = cases.iter().map(|c| CaseResult::new(c.order.spec.clone(), OURS, c.order.series)).collect();
    subjects::prepare(&started).map_err(|e| e.line)?;
    let (rounds, count) = (if bytes < 1 << 30 { 1 } else { 3 }, cases.len());
    for round in 0..rounds {
        for (i, case) in cases.iter_mut().enumerate() {
            if i % 10 == 0 {
                say(&format!("round {} of {rounds}, case {} of {count}", round + 1, i + 1));
            }
            let variables = [("HAKMEM_SS_PREFAULT", case.policy), ("HAKMEM_THP", case.thp)];
            let run = runner::run(OURS, &case.order, Duration::from_secs(600), &variables);
            case.runs.push(run.map_err(|e| format!("{} {}: {e}", case.policy, case.thp))?);
        }
    }
    Ok(cases.iter().map(shown).collect())
}

fn shown(case: &Case) -> Row {
    let middle = |of: fn(&Run) -> f64| median(&case.runs.iter().map(of).collect::<Vec<_>>());
    let mut row = json!({
        "workload": case.order.spec.workload, "policy": case.policy, "thp": case.thp, "series": case.order.series,
        "cpu_secs": middle(Run::cpu_secs), "faults_timed": middle(|r| r.faults() as f64).unwrap_or(0.0) as u64,
    });
    if case.runs.iter().all(|r| r.figure.is_some()) {
        row["cpu_vs_floor"] = json!(middle(|r| r.figure.unwrap_or(f64::NAN)));
    }
    row
}
