//! What a run is asked to do and what it reports: the JSON between parent and child.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Any workload with its parameters; in JSON `"workload": name, "params": {…}`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Spec {
    pub workload: String,
    /// Its parameters by their names in JSON. Null stands in files of older versions for a default.
    pub params: BTreeMap<String, Value>,
}

impl Spec {
    /// A parameter by its name in commands; 0 for one that is not there.
    pub fn value(&self, name: &str) -> Value {
        self.params.get(&name.replace('-', "_")).filter(|v| !v.is_null()).cloned().unwrap_or(json!(0))
    }

    pub fn n(&self, name: &str) -> u64 {
        let value = self.value(name);
        value.as_u64().unwrap_or_else(|| value.as_f64().unwrap_or(0.0) as u64)
    }

    /// The same as an index or a number of bytes.
    pub fn size(&self, name: &str) -> usize {
        self.n(name) as usize
    }

    pub fn share(&self, name: &str) -> f64 {
        self.value(name).as_f64().unwrap_or(0.0)
    }

    pub fn is(&self, name: &str, word: &str) -> bool {
        self.value(name) == word
    }

    /// The same as a command line gives it.
    pub fn word(&self, name: &str) -> String {
        let value = self.value(name);
        value.as_str().map_or_else(|| value.to_string(), str::to_owned)
    }

    /// The name of the real program that is run, if it is one, in an executable of its own.
    pub fn program(&self) -> Option<&str> {
        self.workload.strip_prefix("program-")
    }
}

/// What the heap is like when the clock starts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Series {
    #[default]
    Warm,
    /// The clock starts with the very first allocation.
    Cold,
    /// As warm, on a heap that was fragmented before and of which a share is still in use.
    Aged,
}

impl Series {
    pub const ALL: [Series; 3] = [Series::Warm, Series::Cold, Series::Aged];
}

impl std::fmt::Display for Series {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Series::Warm => "warm",
            Series::Cold => "cold",
            Series::Aged => "aged",
        })
    }
}

/// One run, as the parent asks a child for it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Order {
    #[serde(flatten)]
    pub spec: Spec,
    pub series: Series,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Run {
    pub ops_per_sec: f64,
    pub secs: f64,
    /// Operations in the timed part; what one operation is, each workload says.
    pub ops: u64,
    pub minor_faults_timed: u64,
    pub major_faults_timed: u64,
    pub minor_faults_total: u64,
    pub major_faults_total: u64,
    /// The most that was resident in the process; in the aged series, since the heap was aged.
    pub max_rss_kib: u64,
    /// User time of the timed part, all threads together.
    pub user_secs: f64,
    /// System time of the timed part, all threads together.
    pub sys_secs: f64,
    /// Resident memory before the first allocation, bookkeeping included.
    pub rss_start_kib: u64,
    pub rss_end_kib: u64,
    /// Resident memory at rest, where the workload waits for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rss_after_kib: Option<u64>,
    /// KiB that ageing left in use, in the aged series.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub aged_kib: u64,
    /// Times of single calls; only in a run that sampled them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency: Option<crate::latency::Latency>,
    /// What the workload notes beside its speed; its row says what it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub figure: Option<f64>,
    /// Further figures, of which the workload says what they are: of a program with a preloaded library, what was found in its
    /// output.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub metrics: Vec<f64>,
    /// Of the result, where the workload is a real program; equal for equal work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checksum: Option<u64>,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub failed_allocs: u64,
}

impl Run {
    pub fn cpu_secs(&self) -> f64 {
        self.user_secs + self.sys_secs
    }

    pub fn faults(&self) -> u64 {
        self.minor_faults_timed.saturating_add(self.major_faults_timed)
    }

    /// What was resident at the end: at rest where that was read, else right after everything was freed.
    pub fn left_kib(&self) -> u64 {
        self.rss_after_kib.unwrap_or(self.rss_end_kib)
    }
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}
