//! What a run is asked to do and what it reports: the JSON between parent and child, and in results files.
//!
//! Results files carry `"schema": 1`, which only ever gains fields.

use serde::{Deserialize, Serialize};

use crate::machine::Machine;
use crate::workloads::Spec;

/// The version of the results format.
pub const SCHEMA: u32 = 1;

/// Whether anything is prepared before the clock starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Series {
    /// The workload's preparatory pass runs before the clock starts.
    Warm,
    /// The clock starts with the very first allocation.
    Cold,
}

impl Series {
    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Series::Warm => "warm",
            Series::Cold => "cold",
        }
    }
}

/// One run, as the parent asks a child for it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Order {
    /// The workload and its parameters.
    #[serde(flatten)]
    pub spec: Spec,
    /// Warm or cold.
    pub series: Series,
    /// Milliseconds to rest after everything was freed before resident memory is read once more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settle_ms: Option<u64>,
}

/// What one run measured.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// Operations per second of the timed part.
    pub ops_per_sec: f64,
    /// Length of the timed part.
    pub secs: f64,
    /// Operations in the timed part; what one operation is, each workload says.
    pub ops: u64,
    /// Minor page faults inside the timed part.
    pub minor_faults_timed: u64,
    /// Major page faults inside the timed part.
    pub major_faults_timed: u64,
    /// Minor page faults of the whole process.
    pub minor_faults_total: u64,
    /// Major page faults of the whole process.
    pub major_faults_total: u64,
    /// The most that was ever resident in the process.
    pub max_rss_kib: u64,
    /// User time of the timed part, all threads together.
    pub user_secs: f64,
    /// System time of the timed part, all threads together.
    pub sys_secs: f64,
    /// Resident memory before the first allocation, bookkeeping included.
    pub rss_start_kib: u64,
    /// Resident memory right after everything was freed.
    pub rss_end_kib: u64,
    /// Resident memory once the purge delay has passed, where it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rss_after_kib: Option<u64>,
    /// Memory over time, where the workload follows it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub memory: Vec<MemoryPoint>,
    /// Times of single calls; only in a run that sampled them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency: Option<crate::latency::Latency>,
    /// What the workload holds against its bound; the workload says what it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub figure: Option<f64>,
    /// Of the result, where the workload is a real program; equal for equal work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checksum: Option<u64>,
    /// Allocations that were refused.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub failed_allocs: u64,
}

/// What was alive and what was resident at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct MemoryPoint {
    /// Seconds since the first allocation.
    pub secs: f64,
    /// KiB of the blocks the workload held, as it had asked for them.
    pub live_kib: u64,
    /// KiB resident beyond what was resident before the first allocation.
    pub rss_kib: u64,
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// A run that came to nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The round it belonged to, from 0.
    pub round: usize,
    /// What happened, in one line.
    pub error: String,
}

/// All runs of one allocator in one series of one workload.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CaseResult {
    /// The workload and its parameters.
    #[serde(flatten)]
    pub spec: Spec,
    /// The allocator's name.
    pub allocator: String,
    /// Warm or cold.
    pub series: Series,
    /// The runs that succeeded, in the order of their rounds.
    pub runs: Vec<Run>,
    /// The round of each run, where a failed one left a gap.
    #[serde(default)]
    pub rounds: Vec<usize>,
    /// The runs that failed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<Failure>,
    /// Times of single calls, from a run of their own, where they were asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency: Option<crate::latency::Latency>,
    /// Instructions per operation as callgrind counted them, where it was asked to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instructions_per_op: Option<f64>,
}

#[cfg(test)]
impl CaseResult {
    /// A result made up for a test: these runs, one a round, and nothing else.
    pub fn made(spec: Spec, allocator: &str, series: Series, runs: Vec<Run>) -> CaseResult {
        CaseResult {
            spec,
            allocator: allocator.to_owned(),
            series,
            rounds: (0..runs.len()).collect(),
            runs,
            failures: Vec::new(),
            instructions_per_op: None,
            latency: None,
        }
    }

    /// The report's case in its warm series, at so many millions of operations per second in each run.
    pub fn at_speeds(allocator: &str, speeds: &[f64]) -> CaseResult {
        let run = |&s: &f64| Run {
            ops_per_sec: s * 1e6,
            ..Run::default()
        };
        let spec = Spec::report_cases().remove(0);
        let runs = speeds.iter().map(run).collect();
        CaseResult::made(spec, allocator, Series::Warm, runs)
    }
}

/// A results file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Results {
    /// Always [`SCHEMA`].
    pub schema: u32,
    /// Whether everything planned was measured; false where the measurement was interrupted.
    #[serde(default = "yes")]
    pub complete: bool,
    /// How many runs the plan has, failed ones included and those that time single calls left out; 0 in files that do not
    /// say.
    #[serde(default)]
    pub planned_runs: usize,
    /// What a reader has to know before believing a figure, one sentence each.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// Where and how it was measured.
    pub machine: Machine,
    /// What was measured.
    pub results: Vec<CaseResult>,
}

fn yes() -> bool {
    true
}
