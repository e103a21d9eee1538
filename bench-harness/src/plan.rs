//! Which runs there are and in which order.
//!
//! A round holds one run of every allocator and series of every workload; a plan is one round after another. Within a
//! round the workloads take turns in a shuffled order, and so do the runs of each: whatever the machine does meanwhile
//! hits all allocators alike, no allocator always runs after the same neighbour, and a measurement that is interrupted
//! has something of everything.

use bench_subject::record::Series;
use bench_subject::spec::Spec;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

/// What stands for a workload where any program runs under preloaded libraries.
pub const PRELOAD: &str = "preload";

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    pub spec: Spec,
    pub series: Vec<Series>,
    pub runs: usize,
    /// What one run takes on the machine the estimates were made on, in seconds; nothing where nobody knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secs: Option<f64>,
}

impl Entry {
    /// Whether there are such runs. A real program has no single calls that could be timed: it calls its allocator itself.
    pub fn takes(&self, allocator: &str, series: Series, latency: bool) -> bool {
        let is_preload = self.spec.workload == PRELOAD;
        (is_preload || self.spec.takes(allocator, series)) && !(latency && (is_preload || self.spec.is_program()))
    }

    /// Makes its timed part that many times as long.
    pub fn scale(&mut self, share: f64) {
        self.spec.scale(share);
        self.secs = self.secs.map(|s| s * share);
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    pub entries: Vec<Entry>,
    pub allocators: Vec<String>,
    /// Whether each allocator and series of each workload has a further run that times single calls.
    pub latency: bool,
    pub order_seed: u64,
}

/// One child process to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Job {
    /// Index among the cases of the plan.
    pub case: usize,
    /// The round within the workload, from 0.
    pub round: usize,
    /// Whether single calls are timed; such a run counts for nothing else.
    pub latency: bool,
}

impl Plan {
    /// What is measured, each with the index of its entry, in the order in which tables show them.
    pub fn cases(&self) -> Vec<(usize, Series, &str)> {
        let of = |(i, entry): (usize, &'_ Entry)| -> Vec<_> {
            let all = entry.series.iter().flat_map(|&s| self.allocators.iter().map(move |a| (i, s, a.as_str())));
            all.filter(|&(_, series, allocator)| entry.takes(allocator, series, false)).collect()
        };
        self.entries.iter().enumerate().flat_map(of).collect()
    }

    /// All jobs in order.
    pub fn jobs(&self) -> Vec<Job> {
        let mut random = StdRng::seed_from_u64(self.order_seed);
        let (cases, mut jobs) = (self.cases(), Vec::new());
        let rounds = self.entries.iter().map(|e| e.runs).max().unwrap_or(0);
        let all = (0..rounds).map(|round| (round, false)).chain(self.latency.then_some((0, true)));
        for (round, latency) in all {
            let mut order: Vec<usize> = (0..self.entries.len()).filter(|&i| round < self.entries[i].runs).collect();
            order.shuffle(&mut random);
            for entry in order {
                let takes = |c: &(usize, Series, &str)| c.0 == entry && self.entries[entry].takes(c.2, c.1, latency);
                let first = jobs.len();
                let own = (0..cases.len()).filter(|&i| takes(&cases[i]));
                jobs.extend(own.map(|case| Job { case, round, latency }));
                jobs[first..].shuffle(&mut random);
            }
        }
        jobs
    }

    pub fn runs(&self) -> usize {
        self.jobs().iter().filter(|j| !j.latency).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::tests::spec;

    fn plan(seed: u64) -> Plan {
        let entry =
            |spec: &Spec| Entry { spec: spec.clone(), series: vec![Series::Warm, Series::Cold], runs: 4, secs: None };
        Plan {
            entries: ["pair", "batch"].map(spec).iter().map(entry).collect(),
            allocators: ["a", "b", "c"].map(String::from).to_vec(),
            latency: false,
            order_seed: seed,
        }
    }

    #[test]
    fn every_round_holds_each_once() {
        let jobs = plan(1).jobs();
        assert_eq!(jobs.len(), 2 * 3 * 2 * 4);
        assert_eq!(jobs.len(), plan(1).runs());
        for (i, round) in jobs.chunks(12).enumerate() {
            assert!(round.iter().all(|j| j.round == i && !j.latency));
            for half in round.chunks(6) {
                assert!(half.iter().all(|j| j.case / 6 == half[0].case / 6), "a workload's runs stay together");
            }
            let all: std::collections::HashSet<&Job> = round.iter().collect();
            assert_eq!(all.len(), 12);
        }
    }

    #[test]
    fn workloads_leave_after_their_rounds_and_latency_comes_last() {
        let mut plan = plan(3);
        plan.entries[1].runs = 1;
        plan.latency = true;
        let jobs = plan.jobs();
        assert_eq!(plan.runs(), 6 * (4 + 1));
        assert_eq!(jobs.len(), plan.runs() + 2 * 6);
        let count =
            |entry: usize, latency: bool| jobs.iter().filter(|j| j.case / 6 == entry && j.latency == latency).count();
        assert_eq!([count(0, false), count(1, false), count(0, true), count(1, true)], [24, 6, 6, 6]);
        assert!(jobs[plan.runs()..].iter().all(|j| j.latency));
    }
}
