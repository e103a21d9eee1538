//! The table of workloads: a row for each, in chapters. Commands, plans, labels and help are made from it.

mod memory;
mod one_thread;
mod programs;
mod threads;

use crate::record::Series::{self, Aged, Cold, Warm};
use crate::spec::{Kind, Param, Spec};
use crate::workload::{Size, When, Workload};

/// All of them, in the order of reports.
pub static WORKLOADS: std::sync::LazyLock<Vec<&'static Workload>> = std::sync::LazyLock::new(|| {
    let chapters: [&'static [Workload]; 4] =
        [&one_thread::WORKLOADS, &threads::WORKLOADS, &memory::WORKLOADS, &programs::WORKLOADS];
    chapters.into_iter().flatten().collect()
});

pub fn find(name: &str) -> Option<&'static Workload> {
    WORKLOADS.iter().find(|w| w.name == name).copied()
}

const ALL: &[Series] = &Series::ALL;
/// What is about first touch or about memory over time has no warm series: nothing is prepared.
const FRESH: &[Series] = &[Cold, Aged];
const WARM: &[Series] = &[Warm];
const COLD: &[Series] = &[Cold];
const BOTH: &[Series] = &[Warm, Cold];

const LIMIT: u64 = 1 << 40;

/// What most rows have in common; each says what is its own.
const ROW: Workload = Workload {
    name: "",
    about: "",
    params: &[],
    label: |s| s.workload.clone(),
    peak: |_| 256 << 20,
    check: |_| Ok(()),
    series: ALL,
    is_program: false,
    has_floor: true,
    figure: None,
    run: |_, _| Ok(()),
    sizes: &[],
};

const fn param(name: &'static str, place: bool, kind: Kind, help: &'static str) -> Param {
    Param { name, place, kind, variable: None, longer: false, help }
}

/// A count given by its place, at least 1.
const fn place(name: &'static str, default: u64, help: &'static str) -> Param {
    ranged(name, default, 1, u64::MAX, help)
}

/// The same with the values it can have.
const fn ranged(name: &'static str, default: u64, least: u64, most: u64, help: &'static str) -> Param {
    param(name, true, Kind::Count(default, least, most), help)
}

const fn option(name: &'static str, default: u64, least: u64, most: u64, help: &'static str) -> Param {
    param(name, false, Kind::Count(default, least, most), help)
}

const fn min_size(default: u64) -> Param {
    option("min-size", default, 1, LIMIT, "Bytes of the smallest block")
}

const fn max_size(default: u64) -> Param {
    option("max-size", default, 1, LIMIT, "Bytes of the largest block")
}

/// One of some words, the first by default.
const fn word(name: &'static str, place: bool, words: &'static [&'static str], help: &'static str) -> Param {
    param(name, place, Kind::Word(words), help)
}

const fn threads(default: u64) -> Param {
    option("threads", default, 1, 4096, "Threads")
}

const SEED: Param = option("seed", 42, 0, u64::MAX, "Seed of sizes, slots and orders");

const fn quick(words: &'static str, series: &'static [Series], secs: f64) -> Size {
    Size { when: When::Quick, words, series, secs, most: usize::MAX }
}

const fn full(words: &'static str, series: &'static [Series], secs: f64) -> Size {
    Size { when: When::Full, words, series, secs, most: usize::MAX }
}

/// A size of at most so many rounds.
const fn at_most(most: usize, size: Size) -> Size {
    Size { most, ..size }
}

fn sizes(s: &Spec) -> String {
    crate::words::sizes(s.n("min-size"), s.n("max-size"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn rows_are_complete_and_every_size_can_be_run() {
        let names: HashSet<&str> = WORKLOADS.iter().map(|w| w.name).collect();
        assert_eq!(names.len(), WORKLOADS.len());
        for row in WORKLOADS.iter() {
            let places: Vec<bool> = row.params.iter().map(|p| p.place).collect();
            assert!(places.is_sorted_by(|a, b| a >= b), "{}: places come first", row.name);
            assert!(row.params.iter().filter(|p| p.longer).count() <= 1, "{}", row.name);
            assert!(row.about.len() > 20 && row.params.iter().all(|p| !p.help.is_empty()), "{}", row.name);
            Spec::new(row).check().unwrap();
            for size in row.sizes {
                let spec = Spec::of(row, size.words).unwrap_or_else(|e| panic!("{} {}: {e}", row.name, size.words));
                assert!(size.series.iter().all(|s| row.series.contains(s)) && !spec.label().is_empty(), "{spec:?}");
            }
            for when in [When::Quick, When::Full] {
                assert!(row.sizes.iter().any(|s| s.when == when), "{}: {when:?}", row.name);
            }
        }
    }

    #[test]
    fn labels_are_words() {
        let label = |line: &str| Spec::parse(&line.split(' ').collect::<Vec<_>>(), |_| None).unwrap().label();
        assert_eq!(label("random-mixed 20000000 256 42"), "256 slots, 20 M operations");
        assert_eq!(label("random-mixed 10 16 5 32 64"), "16 slots, 10 operations, 32–64 B");
        assert_eq!(label("pair 48 --threads 2"), "48 B, 2 threads");
        assert_eq!(label("hand-over 8"), "8 threads, 1000 live each, 16–512 B, successors");
        assert_eq!(label("huge"), "20 live, 5–25 MiB, touched in places");
    }
}
