//! Which runs there are and in which order: rounds of every (allocator, series), each round shuffled anew.
//!
//! A round holds one run of each, so that whatever the machine does meanwhile hits all alike, and the shuffle keeps any
//! allocator from always running after the same neighbour.

use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

use crate::record::Series;
use crate::workloads::Spec;

/// One child process to be.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// Index of the workload among those of the plan.
    pub spec: usize,
    /// The allocator's name.
    pub allocator: String,
    /// Warm or cold.
    pub series: Series,
    /// The round within the workload, from 0.
    pub round: usize,
}

/// All jobs of all workloads, in order.
pub fn interleave(
    specs: &[Spec],
    allocators: &[String],
    series: &[Series],
    runs: usize,
    seed: u64,
) -> Vec<Job> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut jobs = Vec::with_capacity(specs.len() * allocators.len() * series.len() * runs);
    for (spec, workload) in specs.iter().enumerate() {
        for round in 0..runs {
            let first = jobs.len();
            for &series in series {
                for allocator in allocators {
                    if !workload.takes(allocator, series) {
                        continue;
                    }
                    jobs.push(Job {
                        spec,
                        allocator: allocator.clone(),
                        series,
                        round,
                    });
                }
            }
            jobs[first..].shuffle(&mut random);
        }
    }
    jobs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(seed: u64) -> Vec<Job> {
        let names = ["a", "b", "c"].map(String::from);
        interleave(
            &Spec::report_cases(),
            &names,
            &[Series::Warm, Series::Cold],
            4,
            seed,
        )
    }

    #[test]
    fn every_round_holds_each_once() {
        let jobs = plan(1);
        assert_eq!(jobs.len(), 2 * 3 * 2 * 4);
        for (i, round) in jobs.chunks(6).enumerate() {
            assert!(round.iter().all(|j| j.spec == i / 4 && j.round == i % 4));
            for name in ["a", "b", "c"] {
                for series in [Series::Warm, Series::Cold] {
                    assert_eq!(
                        round
                            .iter()
                            .filter(|j| j.allocator == name && j.series == series)
                            .count(),
                        1
                    );
                }
            }
        }
    }

    #[test]
    fn the_seed_decides_the_order() {
        assert_eq!(plan(7), plan(7));
        assert_ne!(plan(7), plan(8));
        let orders: Vec<Vec<String>> = plan(7)
            .chunks(6)
            .map(|r| {
                r.iter()
                    .map(|j| format!("{}{}", j.allocator, j.series))
                    .collect()
            })
            .collect();
        assert!(
            orders.iter().any(|o| *o != orders[0]),
            "every round came in the same order"
        );
    }
}
