//! What a comparison of programs found, and the files it is kept in.

use serde::{Deserialize, Serialize};

use super::library::{GLIBC, Library};
use super::measures::Measure;
use super::run::Measured;

use crate::fail::Fail;
use crate::machine::Machine;
use crate::output;
use crate::results::{Failure, SCHEMA};
use crate::stats::{Ratio, ratio};

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Case {
    pub library: String,
    pub path: Option<String>,
    pub runs: Vec<Measured>,
    pub rounds: Vec<usize>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<Failure>,
    /// Bytes our library says it mapped in the untimed run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub served_bytes: Option<u64>,
    /// Ratios to the base's, by the name of the measure.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ratios: Vec<(String, Ratio)>,
}

impl Case {
    pub fn new(library: &Library) -> Self {
        Self {
            library: library.name.clone(),
            path: library.path.as_ref().map(|p| p.display().to_string()),
            runs: Vec::new(),
            rounds: Vec::new(),
            failures: Vec::new(),
            served_bytes: None,
            ratios: Vec::new(),
        }
    }

    pub fn add(&mut self, round: usize, outcome: Result<Measured, String>) {
        match outcome {
            Ok(run) => {
                self.runs.push(run);
                self.rounds.push(round);
            }
            Err(error) => self.failures.push(Failure { round, error }),
        }
    }

    /// What one measure says of each run, with its round.
    pub fn values(&self, measure: &Measure) -> Vec<(usize, f64)> {
        let of = |(&round, run)| Some((round, measure.of(run)?));
        self.rounds.iter().zip(&self.runs).filter_map(of).collect()
    }
}

/// The library ratios refer to: glibc where it is among them, else the first.
pub fn base(cases: &[Case]) -> usize {
    cases.iter().position(|c| c.library == GLIBC).unwrap_or(0)
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Results {
    pub schema: u32,
    /// Always "preload": programs under preloaded libraries.
    pub kind: String,
    pub complete: bool,
    pub planned_runs: usize,
    /// What a reader has to know before believing a figure.
    pub warnings: Vec<String>,
    pub machine: Machine,
    pub program: Vec<String>,
    /// The expressions that find figures in its output.
    pub metrics: Vec<String>,
    pub results: Vec<Case>,
}

impl Results {
    pub fn new(
        complete: bool,
        planned_runs: usize,
        warnings: Vec<String>,
        machine: Machine,
        program: &[String],
        metrics: &[String],
        mut cases: Vec<Case>,
    ) -> Self {
        let base = cases[base(&cases)].clone();
        for case in cases.iter_mut().filter(|c| c.library != base.library) {
            for measure in Measure::all(metrics) {
                let found = ratio(&case.values(&measure), &base.values(&measure));
                // Times of nothing at all cannot be compared.
                if let Some(r) = found {
                    case.ratios.push((measure.name, r));
                }
            }
        }
        Self {
            schema: SCHEMA,
            kind: "preload".to_owned(),
            complete,
            planned_runs,
            warnings,
            machine,
            program: program.to_vec(),
            metrics: metrics.to_vec(),
            results: cases,
        }
    }

    pub fn csv(&self) -> Result<String, Fail> {
        let failed = |e: csv::Error| Fail::run(format!("results as CSV: {e}"));
        let mut lines = csv::Writer::from_writer(Vec::new());
        let head =
            ["library", "round", "wall_secs", "user_secs", "sys_secs", "max_rss_kib", "minor_faults", "major_faults"];
        lines.write_record(head.into_iter().chain(self.metrics.iter().map(String::as_str))).map_err(failed)?;
        for case in &self.results {
            for (round, r) in case.rounds.iter().zip(&case.runs) {
                let times = (r.wall_secs, r.user_secs, r.sys_secs, r.max_rss_kib, r.minor_faults, r.major_faults);
                lines.serialize((&case.library, round, times, &r.metrics)).map_err(failed)?;
            }
        }
        let bytes = lines.into_inner().map_err(|e| Fail::run(format!("results as CSV: {e}")))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    pub fn json(&self) -> Result<String, Fail> {
        output::json(self)
    }
}
