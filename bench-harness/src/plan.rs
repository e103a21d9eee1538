//! Which runs there are and in which order.
//!
//! A round holds one run of every allocator and series of every workload; a plan is one round after another. Within a
//! round the workloads take turns in a shuffled order, and so do the runs of each: whatever the machine does meanwhile
//! hits all allocators alike, no allocator always runs after the same neighbour, and a measurement that is interrupted
//! has something of everything. What is planned stands in the results from the start, so that whoever goes on with a file
//! knows what is missing.

use bench_subject::record::{Series, Spec};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

use crate::results::{CaseResult, PRELOAD};
use crate::workloads;

#[derive(Debug, Clone)]
pub struct Entry {
    pub spec: Spec,
    pub series: Vec<Series>,
    pub runs: usize,
    /// What one run takes on the machine the estimates were made on, in seconds; nothing where nobody knows.
    pub secs: Option<f64>,
}

impl Entry {
    /// Makes its timed part that many times as long.
    pub fn scale(&mut self, share: f64) {
        workloads::scale(&mut self.spec, share);
        self.secs = self.secs.map(|s| s * share);
    }
}

/// What is to be measured, in the order in which tables show it.
pub fn cases(entries: &[Entry], allocators: &[String]) -> Vec<CaseResult> {
    let of = |entry: &Entry| -> Vec<CaseResult> {
        let all = entry.series.iter().flat_map(|&s| allocators.iter().map(move |a| (s, a)));
        let taken = all.filter(|(series, allocator)| workloads::takes(&entry.spec, allocator, *series));
        let case = |(series, allocator): (Series, &String)| CaseResult {
            planned: entry.runs,
            secs: entry.secs,
            ..CaseResult::new(entry.spec.clone(), allocator, series)
        };
        taken.map(case).collect()
    };
    entries.iter().flat_map(of).collect()
}

/// One child process to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Job {
    /// Index among the cases.
    pub case: usize,
    /// The round within the workload, from 0.
    pub round: usize,
    /// Whether single calls are timed; such a run counts for nothing else.
    pub latency: bool,
}

/// The runs that are not there yet, in order; at last, where that is asked for, a further one of each case that times single
/// calls. A real program has none that could be timed: it calls its allocator itself.
pub fn jobs(cases: &[CaseResult], latency: bool) -> Vec<Job> {
    let mut random = StdRng::seed_from_u64(1);
    let mut jobs = Vec::new();
    let rounds = cases.iter().map(|c| c.planned).max().unwrap_or(0);
    for (round, latency) in (0..rounds).map(|round| (round, false)).chain(latency.then_some((0, true))) {
        let mut all: Vec<usize> = (0..cases.len()).collect();
        let mut workloads: Vec<&mut [usize]> = all.chunk_by_mut(|a, b| cases[*a].spec == cases[*b].spec).collect();
        workloads.shuffle(&mut random);
        for workload in workloads {
            workload.shuffle(&mut random);
            jobs.extend(workload.iter().map(|&case| Job { case, round, latency }));
        }
    }
    jobs.retain(|job| match &cases[job.case] {
        case if job.latency => case.latency.is_none() && case.spec.program().is_none() && case.spec.workload != PRELOAD,
        case => job.round < case.planned && !case.has(job.round),
    });
    jobs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::tests::spec;

    #[test]
    fn every_round_holds_each_once_and_what_is_there_is_left_out() {
        let series = vec![Series::Warm, Series::Cold];
        let entry = |name, runs| Entry { spec: spec(name), series: series.clone(), runs, secs: None };
        let mut cases = cases(&[entry("pair", 4), entry("batch", 1)], &["a", "b", "c"].map(String::from));
        let all = jobs(&cases, true);
        let count = |workload: usize, latency: bool| {
            all.iter().filter(|j| j.case / 6 == workload && j.latency == latency).count()
        };
        assert_eq!([count(0, false), count(1, false), count(0, true), count(1, true)], [24, 6, 6, 6]);
        assert!(all[30..].iter().all(|j| j.latency), "single calls come last");
        let first = &all[..12];
        assert!(first.iter().all(|j| j.round == 0));
        assert_eq!(first.iter().collect::<std::collections::HashSet<_>>().len(), 12);
        assert!(first.chunks(6).all(|half| half.iter().all(|j| j.case / 6 == half[0].case / 6)), "runs stay together");
        cases[0].add(0, Err("crashed".to_owned()));
        assert_eq!(
            jobs(&cases, false),
            all[..30].iter().copied().filter(|j| (j.case, j.round) != (0, 0)).collect::<Vec<_>>()
        );
    }
}
