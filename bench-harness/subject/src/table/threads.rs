//! The chapter of workloads in which threads meet: blocks change hands, threads come and go.

use super::{ALL, ROW, SEED, WARM, full, max_size, min_size, option, place, quick, ranged, sizes, threads, word};
use crate::words::count;
use crate::workload::Workload;
use crate::workloads::{false_sharing, hand_over, histogram, keepers, medium, producer_consumer, thread_churn};

pub(super) static WORKLOADS: [Workload; 7] = [
    Workload {
        name: "producer-consumer",
        about: "One thread allocates, another frees: pipelines and message passing",
        params: &[
            place("blocks", 5_000_000, "Blocks per producer").longer(),
            min_size(16),
            max_size(415),
            threads(2),
            SEED,
        ],
        label: |s| format!("{}, {} threads", sizes(s), s.n("threads")),
        peak: |s| s.n("threads") * 4096 * (s.n("max-size") + 64),
        check: |s| match s.n("threads").is_multiple_of(2) {
            true => Ok(()),
            false => Err(format!("--threads {}: expected an even number", s.n("threads"))),
        },
        run: producer_consumer::run,
        sizes: &[
            quick("500000", ALL, 0.06),
            full("5000000", ALL, 0.46),
            full("5000000 --min-size 64 --max-size 64", WARM, 0.4),
        ],
        ..ROW
    },
    Workload {
        name: "hand-over",
        about: "Threads that replace blocks of a live set and hand the whole set on: sessions that outlive their threads",
        params: &[
            ranged("threads", 2, 1, 4096, "Threads at work at a time"),
            ranged("live", 1000, 1, 1 << 32, "Live blocks of each"),
            place("replacements", 50_000, "Replacements of each turn"),
            place("turns", 40, "Turns: how often each set is handed on").longer(),
            word(
                "mode",
                false,
                &["successors", "ring", "larson"],
                "To a new thread while the old one ends, round a ring of threads that stay, or as Larson's server does",
            ),
            min_size(16),
            max_size(512),
            SEED,
        ],
        label: |s| {
            let mode = s.word("mode");
            format!("{} threads, {} live each, {}, {mode}", s.n("threads"), count(s.n("live")), sizes(s))
        },
        peak: |s| s.n("threads") * (s.n("live") * (s.n("max-size") + 64) + (4 << 20)),
        run: hand_over::run,
        sizes: &[
            quick("2 1000 20000 40", ALL, 0.08),
            quick("2 1000 30000 30 --mode larson --min-size 8 --max-size 1000", ALL, 0.08),
            full("2 1000 50000 60", ALL, 0.25),
            full("8 1000 50000 40", ALL, 0.33),
            full("2 1000 50000 60 --mode ring", ALL, 0.22),
            full("2 1000 100000 40 --mode larson --min-size 8 --max-size 1000", ALL, 0.3),
        ],
        ..ROW
    },
    Workload {
        name: "thread-churn",
        about: "Short-lived threads that each allocate a little: thread-per-request servers and test runners",
        params: &[
            place("count", 3000, "Threads one after another, per thread at a time").longer(),
            ranged("blocks", 100, 1, thread_churn::MOST as u64, "Blocks of each"),
            min_size(16),
            max_size(1024),
            threads(2),
            SEED,
        ],
        label: |s| format!("{} at a time, {} blocks of {} each", s.n("threads"), s.n("blocks"), sizes(s)),
        peak: |s| s.n("threads") * (s.n("blocks") * s.n("max-size") + (4 << 20)),
        run: thread_churn::run,
        sizes: &[quick("300", ALL, 0.08), full("1000", ALL, 0.25)],
        ..ROW
    },
    Workload {
        name: "false-sharing",
        about: "Small objects written by different threads: counters and small state that may share a cache line",
        params: &[
            word("mode", true, &["passive", "active"], "Who allocates first: main for all, or each thread for itself"),
            place("objects", 300_000, "Objects per thread").longer(),
            ranged("size", 16, 1, 1 << 20, "Bytes of an object"),
            threads(2),
            option(
                "given",
                1,
                1,
                1 << 20,
                "Passive: objects that main gives to each thread, neighbours of the others'",
            ),
        ],
        label: |s| format!("{}, {} B, {} threads", s.word("mode"), s.n("size"), s.n("threads")),
        peak: |s| s.n("threads") << 20,
        figure: Some("times the processor time of private cache lines"),
        run: false_sharing::run,
        sizes: &[
            quick("passive 100000", ALL, 0.04),
            quick("active 100000", ALL, 0.05),
            full("passive 300000", ALL, 0.1),
            full("active 300000", ALL, 0.12),
        ],
        ..ROW
    },
    Workload {
        name: "medium",
        about: "Blocks of 8 to 16,000 bytes, zeroed and aligned ones too, a third freed by another thread, in a live set that swings",
        params: &[
            place("ops", 400_000, "Allocations and frees of each thread").longer(),
            option("low-mib", 20, 1, 1 << 20, "MiB alive at the lowest, all threads together"),
            option("high-mib", 80, 1, 1 << 20, "MiB alive at the highest, all threads together"),
            threads(2),
            SEED,
        ],
        label: |s| format!("{}–{} MiB live, {} threads", s.n("low-mib"), s.n("high-mib"), s.n("threads")),
        peak: |s| s.n("high-mib") << 21,
        check: |s| match s.n("low-mib") <= s.n("high-mib") {
            true => Ok(()),
            false => Err(format!("--low-mib {}: expected at most --high-mib {}", s.n("low-mib"), s.n("high-mib"))),
        },
        run: medium::run,
        sizes: &[quick("80000", ALL, 0.1), full("400000", ALL, 0.4)],
        ..ROW
    },
    Workload {
        name: "histogram",
        about: "Records of twelve sizes in measured shares, kept in windows on four threads, as a message broker keeps them",
        params: &[
            place("blocks", 2_000_000, "Blocks of each thread").longer(),
            option("window", 2000, 1, 1 << 24, "Blocks of each size that are kept"),
            threads(4),
            SEED,
        ],
        label: |s| format!("windows of {}, {} threads", count(s.n("window")), s.n("threads")),
        peak: |s| s.n("threads") * s.n("window") * 8000,
        run: histogram::run,
        sizes: &[quick("200000", ALL, 0.1), full("2000000", ALL, 0.5)],
        ..ROW
    },
    Workload {
        name: "keepers",
        about: "Threads that build structures of many blocks, keep them, drop them, pass them on, and touch all of them",
        params: &[
            place("steps", 60_000, "Structures each thread meets").longer(),
            option("kept", 500, 1, 1 << 24, "Structures each thread keeps"),
            threads(4),
            SEED,
        ],
        label: |s| format!("{} structures each, {} threads", count(s.n("kept")), s.n("threads")),
        peak: |s| s.n("threads") * s.n("kept") * 24 * 1500,
        run: keepers::run,
        sizes: &[quick("8000", ALL, 0.1), full("60000", ALL, 0.6)],
        ..ROW
    },
];
