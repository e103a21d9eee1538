//! The options every measuring command shares.

use std::path::PathBuf;

use bench_subject::record::Series;
use clap::Args;

use crate::fail::Fail;
use crate::{noise, subjects};

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Measuring")]
pub struct RunOptions {
    /// Allocators to compare, separated by commas: system, hakmem, null, and peers once built (mimalloc, mimalloc2, jemalloc,
    /// snmalloc, rpmalloc) [default: system,hakmem; of all --quick and --full every one that is built]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub allocators: Option<Vec<String>>,
    /// Runs of each allocator in each series; fewer than 5 give no verdict [default: 5; of all --quick and --full as many as
    /// fit]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub runs: Option<u64>,
    /// Series: warm (prepared before the clock), cold (nothing prepared), aged (warm, on a fragmented heap), separated by
    /// commas [default: all that the workload has; of all --quick the first of them]
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = series)]
    pub series: Option<Vec<Series>>,
    /// Write all results to this file as JSON. It is whole at any time; while it is measured it says so
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Go on with the interrupted measurement of the same command, whose runs so far are in the file of --json
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
    /// Per cent by which system malloc's own runs may spread or drift before a measurement counts as noisy
    #[arg(long, value_name = "PERCENT", default_value_t = noise::bound())]
    pub drift_bound: f64,
    /// Also count instructions (valgrind) and system calls (strace), above the floor of null; all --full does
    #[arg(long, alias = "callgrind")]
    pub exact: bool,
    /// Also time single allocations and frees, in one further run of each allocator and series; all --full does
    #[arg(long)]
    pub latency: bool,
    /// Do not touch the host's memory before measuring
    #[arg(long)]
    pub no_host_warm: bool,
    /// Seconds after which a run counts as hung
    #[arg(long, value_name = "SECS", default_value_t = 120, value_parser = clap::value_parser!(u64).range(1..))]
    pub time_limit: u64,
    /// Seed of the order in which runs are interleaved
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    pub order_seed: u64,
}

fn series(text: &str) -> Result<Series, String> {
    let found = Series::ALL.into_iter().find(|s| s.name() == text);
    found.ok_or_else(|| "expected warm, cold or aged".to_owned())
}

impl RunOptions {
    /// The series asked for, each once.
    pub fn series(&self) -> Option<Vec<Series>> {
        self.series.clone().map(without_repeats)
    }

    /// The allocators asked for, each once, or `default`. Refuses what is not among `known`.
    pub fn allocators(&self, known: &[String], default: &[String]) -> Result<Vec<String>, Fail> {
        let names = self.allocators.as_deref().unwrap_or(default);
        subjects::check_names(names, known)?;
        Ok(without_repeats(names.to_vec()))
    }

    /// Refuses numbers nothing can be measured with.
    pub fn check(&self) -> Result<(), Fail> {
        if let Some(scale) = self.scale_by.filter(|s| !(1e-9..=1e6).contains(s)) {
            return Err(Fail::usage(format!("--scale {scale}: expected 0.000000001 to 1000000")));
        }
        if !(0.0..=1e6).contains(&self.drift_bound) {
            return Err(Fail::usage(format!("--drift-bound {}: expected per cent, 0 or more", self.drift_bound)));
        }
        self.settle_ms().map(|_| ())
    }

    /// How long to rest after a run, if at all: the purge delay of the environment and half a second.
    pub fn settle_ms(&self) -> Result<Option<u64>, Fail> {
        const VARIABLE: &str = "HAKMEM_PURGE_DELAY_MS";
        if !self.settle {
            return Ok(None);
        }
        let delay = match std::env::var(VARIABLE) {
            Ok(text) if !text.is_empty() => text
                .parse::<u64>()
                .map_err(|_| Fail::usage(format!("{VARIABLE}={text}: expected a number of at least 0")))?,
            _ => 1000,
        };
        Ok(Some(delay + 500))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeats_go_and_order_stays() {
        assert_eq!(without_repeats(vec!["b", "a", "b", "c", "a"]), ["b", "a", "c"]);
        assert_eq!(
            [series("aged"), series("lukewarm").map_err(|_| String::new())],
            [Ok(Series::Aged), Err(String::new())]
        );
    }
}
