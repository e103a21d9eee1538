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
    /// snmalloc, rpmalloc)
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_values_t = ["system".to_owned(), "hakmem".to_owned()])]
    pub allocators: Vec<String>,
    /// Runs of each allocator in each series
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub runs: usize,
    /// Series: warm (prepared before the clock), cold (nothing prepared), or both
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_values_t = [Series::Warm, Series::Cold])]
    pub series: Vec<Series>,
    /// Write all results to this file as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write one line per run to this file as CSV
    #[arg(long, value_name = "FILE")]
    pub csv: Option<PathBuf>,
    /// After each run rest until the purge delay has passed, then read resident memory again
    #[arg(long)]
    pub settle: bool,
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
    /// Refuses what cannot be run; `known` are the allocators there are.
    pub fn check(&mut self, known: &[String]) -> Result<(), Fail> {
        for name in &self.allocators {
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
        remove_repeats(&mut self.allocators);
        remove_repeats(&mut self.series);
        crate::workloads::check_positive("--runs", self.runs as u64)?;
        crate::workloads::check_positive("--time-limit", self.time_limit)
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

fn remove_repeats<T: PartialEq + Clone>(list: &mut Vec<T>) {
    let mut seen = Vec::new();
    list.retain(|x| {
        !seen.contains(x) && {
            seen.push(x.clone());
            true
        }
    });
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
        let mut list = vec!["b", "a", "b", "c", "a"];
        remove_repeats(&mut list);
        assert_eq!(list, ["b", "a", "c"]);
    }
}
