//! What is kept of a measurement: the results file.
//!
//! Results files carry `"schema": 1`, which only ever gains fields.

use std::path::Path;

use bench_subject::latency::Latency;
use bench_subject::record::{Run, Series, Spec};
use serde::{Deserialize, Serialize};

use crate::fail::Fail;
use crate::machine::{self, Machine};
use crate::stats::median;
use crate::{output, workloads};

pub const SCHEMA: u32 = 1;

pub const BASE: &str = "system";

/// The allocator a report is about where it takes part.
pub const OURS: &str = "hakmem";

/// The allocator that does nothing: the floor, never a competitor.
pub const FLOOR: &str = "null";

/// What stands for a workload where any program runs under preloaded libraries.
pub const PRELOAD: &str = "preload";

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The round it belonged to, from 0.
    pub round: usize,
    pub error: String,
}

/// What a count above the floor came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Exact {
    /// Instructions per operation above those of `null`; the whole for `null` itself and where it cannot do the workload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instructions_per_op: Option<f64>,
    /// System calls of the whole process above those of `null`, in a run of `syscall_ops` operations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub syscalls: Option<i64>,
    /// Operations of the run whose system calls were counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub syscall_ops: Option<u64>,
}

/// All runs of one allocator in one series of one workload.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct CaseResult {
    #[serde(flatten)]
    pub spec: Spec,
    pub allocator: String,
    pub series: Series,
    /// How many runs there are to be, and what one is expected to take in seconds, while it is measured.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub planned: usize,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secs: Option<f64>,
    /// The runs that succeeded, in the order of their rounds.
    pub runs: Vec<Run>,
    /// The round of each run, where a failed one left a gap.
    #[serde(default)]
    pub rounds: Vec<usize>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<Failure>,
    /// Times of single calls, from a run of their own, where they were asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency: Option<Latency>,
    #[serde(flatten)]
    pub exact: Exact,
}

impl CaseResult {
    pub fn new(spec: Spec, allocator: &str, series: Series) -> CaseResult {
        CaseResult { spec, allocator: allocator.to_owned(), series, ..CaseResult::default() }
    }

    /// How many runs were made, failed ones included.
    pub fn tried(&self) -> usize {
        self.runs.len() + self.failures.len()
    }

    /// Whether the run of that round was made.
    pub fn has(&self, round: usize) -> bool {
        self.rounds.contains(&round) || self.failures.iter().any(|f| f.round == round)
    }

    pub fn add(&mut self, round: usize, outcome: Result<Run, String>) {
        match outcome {
            Ok(run) => {
                self.runs.push(run);
                self.rounds.push(round);
            }
            Err(error) => self.failures.push(Failure { round, error }),
        }
    }

    /// The median of something over the runs; nothing without runs.
    pub fn middle(&self, of: impl Fn(&Run) -> f64) -> Option<f64> {
        median(&self.runs.iter().map(of).collect::<Vec<_>>())
    }

    /// What `of` says of each run, with its round; runs of which it says nothing are left out.
    pub fn values(&self, of: impl Fn(&Run) -> Option<f64>) -> Vec<(usize, f64)> {
        let round = |i: usize| self.rounds.get(i).copied().unwrap_or(i);
        let value = |(i, run)| Some((round(i), of(run).filter(|v: &f64| v.is_finite() && *v > 0.0)?));
        self.runs.iter().enumerate().filter_map(value).collect()
    }
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Results {
    /// Always [`SCHEMA`].
    pub schema: u32,
    /// Whether everything planned was measured; false where the measurement is going on or was interrupted.
    #[serde(default = "workloads::yes")]
    pub complete: bool,
    /// How many runs the plan has, failed ones included and those that time single calls left out; 0 in files that do not
    /// say.
    #[serde(default)]
    pub planned_runs: usize,
    /// Per cent by which a gauge's own runs may spread or drift before they count as noisy.
    #[serde(default = "crate::noise::bound")]
    pub noise_bound: f64,
    /// What a reader has to know before believing a figure, one sentence each.
    #[serde(default)]
    pub warnings: Vec<String>,
    pub machine: Machine,
    /// Size and time of change of each program that is started, while it is measured.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub programs: Vec<(String, String)>,
    pub results: Vec<CaseResult>,
}

fn is_zero(n: &usize) -> bool {
    *n == 0
}

impl Results {
    pub fn read(path: &Path) -> Result<Results, Fail> {
        let refuse = |e: &dyn std::fmt::Display| Fail::usage(format!("{}: cannot be read: {e}", path.display()));
        let value: serde_json::Value = serde_json::from_str(&output::read(path)?).map_err(|e| refuse(&e))?;
        let schema = &value["schema"];
        if *schema != SCHEMA {
            return Err(refuse(&format!("its schema is {schema}; expected {SCHEMA}")));
        }
        serde_json::from_value(value).map_err(|e| refuse(&e))
    }

    /// The results before the first run.
    pub fn new(results: Vec<CaseResult>, programs: Vec<(String, String)>, noise_bound: f64) -> Results {
        let (planned_runs, machine) = (results.iter().map(|c| c.planned).sum(), machine::describe().probed());
        Results { schema: SCHEMA, planned_runs, noise_bound, machine, programs, results, ..Results::default() }
    }

    /// What holds of runs whatever they took.
    pub fn notes(&self) -> Option<String> {
        let runs = || self.results.iter().filter(|c| c.spec.workload == PRELOAD).flat_map(|c| &c.runs);
        let floored = runs().any(|r| r.max_rss_kib <= r.rss_start_kib + r.rss_start_kib / 20);
        floored.then(|| "RSS: no less can be told than what the process held before it became the program".to_owned())
    }

    /// A line for each run, with the machine it ran on.
    pub fn csv(&self) -> Result<String, Box<dyn std::error::Error>> {
        let mut lines = csv::Writer::from_writer(Vec::new());
        let head = "workload params allocator series round ops_per_sec secs ops minor_faults_timed major_faults_timed \
                    minor_faults_total max_rss_kib user_secs sys_secs rss_start_kib rss_end_kib rss_after_kib \
                    cpu thp fault_ns huge_fault_ns memory_latency_ns";
        let on = &self.machine;
        lines.write_record(head.split(' '))?;
        for case in &self.results {
            for (i, run) in case.runs.iter().enumerate() {
                let round = case.rounds.get(i).copied().unwrap_or(i);
                lines.serialize((
                    (&case.spec.workload, workloads::label(&case.spec), &case.allocator, case.series, round),
                    (run.ops_per_sec, run.secs, run.ops, run.minor_faults_timed, run.major_faults_timed),
                    (run.minor_faults_total, run.max_rss_kib, run.user_secs, run.sys_secs),
                    (run.rss_start_kib, run.rss_end_kib, run.rss_after_kib),
                    (&on.cpu, &on.thp, on.fault_ns, on.huge_fault_ns, on.memory_latency_ns),
                ))?;
            }
        }
        Ok(String::from_utf8(lines.into_inner()?)?)
    }
}

/// Makes a failure of every run of a program whose checksum is not that of the workload's first run, which is system malloc's
/// unless it was asked otherwise.
pub fn compare_checksums(results: &mut [CaseResult]) {
    for group in results.chunk_by_mut(|a, b| a.spec == b.spec).filter(|g| g[0].spec.program().is_some()) {
        let Some(right) = group.iter().flat_map(|c| &c.runs).find_map(|r| r.checksum) else { continue };
        for case in group {
            while let Some(at) = case.runs.iter().position(|r| r.checksum != Some(right)) {
                let run = case.runs.remove(at);
                let sum = run.checksum.map_or("none".to_owned(), |c| format!("{c:#x}"));
                let error = format!("its result has the checksum {sum}, the first run has {right:#x}");
                case.failures.push(Failure { round: case.rounds.remove(at), error });
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The workload of that name at its defaults.
    pub(crate) fn spec(name: &str) -> Spec {
        workloads::find(name).unwrap().usual()
    }

    /// A result made up for a test: so many millions of operations per second in each run, a run a round.
    pub(crate) fn case(spec: &Spec, allocator: &str, series: Series, millions: &[f64]) -> CaseResult {
        let mut case = CaseResult::new(spec.clone(), allocator, series);
        for (round, m) in millions.iter().enumerate() {
            let run = Run {
                ops_per_sec: m * 1e6,
                secs: 1.0 / m,
                ops: 1_000_000,
                user_secs: 1.0 / m,
                minor_faults_timed: 12,
                minor_faults_total: 345,
                max_rss_kib: 9000,
                rss_start_kib: 2000,
                rss_end_kib: 3000,
                ..Run::default()
            };
            case.add(round, Ok(run));
        }
        case
    }

    pub(crate) fn results(cases: Vec<CaseResult>) -> Results {
        let noise_bound = crate::noise::bound();
        Results { schema: SCHEMA, complete: true, noise_bound, results: cases, ..Results::default() }
    }

    #[test]
    fn csv_quotes_what_has_to_be_quoted() {
        let mut odd = case(&spec("pair"), "a \"b\", c", Series::Aged, &[1.0, 2.0]);
        odd.runs[0].rss_after_kib = Some(7);
        let mut results = results(vec![odd]);
        (results.machine.cpu, results.machine.fault_ns) = ("Model 1, new".to_owned(), Some(0.5));
        let text = results.csv().unwrap();
        let mut lines = csv::Reader::from_reader(text.as_bytes());
        let rows: Vec<csv::StringRecord> = lines.records().map(Result::unwrap).collect();
        assert_eq!(rows.len(), 2);
        assert_eq!((&rows[0][1], &rows[0][2], &rows[0][3]), ("48 B", "a \"b\", c", "aged"));
        assert_eq!((&rows[0][16], &rows[1][16]), ("7", ""));
        assert_eq!((&rows[1][17], &rows[1][19], &rows[1][20]), ("Model 1, new", "0.5", ""));
    }
}
