//! The options every measuring command shares, and numbers from the environment.

use std::path::PathBuf;

use clap::Args;

use crate::fail::Fail;
use crate::record::Series;

/// The parameters of one workload and the shared options, on one command line.
#[derive(Debug, Args)]
pub struct WithOptions<P: Args> {
    /// The workload's own.
    #[command(flatten)]
    pub params: P,
    /// The shared ones.
    #[command(flatten)]
    pub options: RunOptions,
}

/// Options of every command that measures.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Measuring")]
pub struct RunOptions {
    /// Allocators to compare, separated by commas: system, hakmem, null, and peers once built (mimalloc, mimalloc2, jemalloc,
    /// snmalloc, rpmalloc) [default: system,hakmem; of all --quick and --full every one that is built]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub allocators: Option<Vec<String>>,
    /// Runs of each allocator in each series [default: 5; of all --quick and --full as many as fit]
    #[arg(long, value_name = "N")]
    pub runs: Option<usize>,
    /// Series: warm (prepared before the clock), cold (nothing prepared), or both [default: both; of all --quick and --full
    /// what fits each workload]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub series: Option<Vec<Series>>,
    /// Write all results to this file as JSON; while it is measured, what there is so far is in FILE.partial
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Go on with the interrupted measurement of the same command, whose runs so far are in FILE.partial
    #[arg(long, requires = "json")]
    pub resume: bool,
    /// Write one line per run to this file as CSV
    #[arg(long, value_name = "FILE")]
    pub csv: Option<PathBuf>,
    /// After each run rest until the purge delay has passed, then read resident memory again
    #[arg(long)]
    pub settle: bool,
    /// Make the timed part of every workload that many times as long, 0.01 for a hundredth
    #[arg(long = "scale", value_name = "SHARE")]
    pub scale_by: Option<f64>,
    /// Per cent by which system malloc's own runs may spread or drift before the report warns
    #[arg(long, value_name = "PERCENT", default_value_t = crate::drift::BOUND)]
    pub drift_bound: f64,
    /// Also count instructions per operation with valgrind, above the floor of null
    #[arg(long)]
    pub callgrind: bool,
    /// Also time single allocations and frees, in one further run of each allocator and series
    #[arg(long)]
    pub latency: bool,
    /// Do not touch the host's memory before measuring
    #[arg(long)]
    pub no_host_warm: bool,
    /// Seconds after which a run counts as hung
    #[arg(long, value_name = "SECS", default_value_t = 120)]
    pub time_limit: u64,
    /// Seed of the order in which runs are interleaved
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    pub order_seed: u64,
}

impl std::fmt::Display for Series {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl RunOptions {
    /// The series asked for, each once.
    pub fn series(&self) -> Option<Vec<Series>> {
        self.series.clone().map(without_repeats)
    }

    /// The allocators asked for, each once, or `default`. Refuses what is not among `known`.
    pub fn allocators(&self, known: &[String], default: &[String]) -> Result<Vec<String>, Fail> {
        let names = self.allocators.as_deref().unwrap_or(default);
        for name in names {
            if crate::peers::NAMES.contains(&name.as_str()) && !known.contains(name) {
                return Err(Fail::usage(format!(
                    "{name} is a peer that is not built yet: run bench-harness peers build {name}"
                )));
            }
            if !known.contains(name) {
                return Err(Fail::usage(format!(
                    "unknown allocator {name:?}: expected any of {}",
                    known.join(", ")
                )));
            }
        }
        Ok(without_repeats(names.to_vec()))
    }

    /// Refuses numbers nothing can be measured with.
    pub fn check(&self) -> Result<(), Fail> {
        crate::workloads::check_positive("--runs", self.runs.unwrap_or(1) as u64)?;
        crate::workloads::check_positive("--time-limit", self.time_limit)?;
        if let Some(scale) = self.scale_by.filter(|s| !(1e-9..=1e6).contains(s)) {
            return Err(Fail::usage(format!(
                "--scale {scale}: expected 0.000000001 to 1000000"
            )));
        }
        if !(0.0..=1e6).contains(&self.drift_bound) {
            return Err(Fail::usage(format!(
                "--drift-bound {}: expected per cent, 0 or more",
                self.drift_bound
            )));
        }
        Ok(())
    }

    /// How long to rest after a run, if at all: the purge delay of the environment and half a second.
    pub fn settle_ms(&self) -> Result<Option<u64>, Fail> {
        if !self.settle {
            return Ok(None);
        }
        Ok(Some(
            env_number("HAKMEM_PURGE_DELAY_MS")?.unwrap_or(1000) + 500,
        ))
    }
}

fn without_repeats<T: PartialEq>(list: Vec<T>) -> Vec<T> {
    let mut kept = Vec::with_capacity(list.len());
    for item in list {
        if !kept.contains(&item) {
            kept.push(item);
        }
    }
    kept
}

/// A number from the environment; nothing when the variable is not set or empty.
pub fn env_number(name: &str) -> Result<Option<u64>, Fail> {
    let Some(value) = std::env::var_os(name) else {
        return Ok(None);
    };
    let text = value.to_string_lossy();
    if text.is_empty() {
        return Ok(None);
    }
    text.parse()
        .map(Some)
        .map_err(|_| Fail::usage(format!("{name}={text}: expected a number of at least 0")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeats_go_and_order_stays() {
        assert_eq!(
            without_repeats(vec!["b", "a", "b", "c", "a"]),
            ["b", "a", "c"]
        );
    }
}
