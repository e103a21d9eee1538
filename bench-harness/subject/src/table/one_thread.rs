//! The chapter of workloads that one thread does alone, or several each for itself.

use super::{
    ALL, BOTH, COLD, FRESH, LIMIT, ROW, SEED, WARM, at_most, full, max_size, min_size, option, place, quick, ranged,
    sizes, threads, word,
};
use crate::spec::{Param, Spec};
use crate::words::{self, count};
use crate::workload::Workload;
use crate::workloads::{batch, few, fragmentation, grow_vec, growth, huge, random_mixed, replace};

/// A parameter of random-mixed that a variable of the environment stands in for, as in the reference program.
const fn or_variable(variable: &'static str, param: Param) -> Param {
    Param { variable: Some(variable), ..param }
}

fn slots_held(s: &Spec, blocks: &str, size: u64) -> u64 {
    s.n(blocks).max(1) * s.n("threads").max(1) * (size + 40)
}

fn on_threads(s: &Spec) -> String {
    words::threads(s.n("threads"))
}

const WARMUP: &str = "Operations before the clock that are drained again, in the warm series";
const PREWARM: &str = "Superslabs taken and populated before the clock, in the warm series";
const PREFAULT: &str = "Operations before the clock whose blocks stay, in the warm series [default: a tenth of CYCLES]";

pub(super) static WORKLOADS: [Workload; 11] = [
    Workload {
        name: "random-mixed",
        about: "The benchmark of the report: random slots, a block allocated where one is empty and freed where it is full",
        params: &[
            place("cycles", 10_000_000, "Operations in the timed part").longer(),
            ranged("ws", 8192, 1, u32::MAX as u64, "Number of slots: the most blocks alive at a time"),
            ranged("seed", 1_234_567, 1, u32::MAX as u64, "Seed of the generator, not 0"),
            or_variable("HAKMEM_BENCH_MIN_SIZE", ranged("min-size", 16, 1, LIMIT, "Sizes below are raised to this")),
            or_variable("HAKMEM_BENCH_MAX_SIZE", ranged("max-size", 1039, 1, LIMIT, "Sizes above are lowered to this")),
            or_variable("HAKMEM_BENCH_WARMUP", option("warmup", 0, 0, u64::MAX, WARMUP)),
            or_variable("HAKMEM_BENCH_PREFAULT", option("prefault", u64::MAX, 0, u64::MAX, PREFAULT)),
            or_variable("HAKMEM_BENCH_PREWARM", option("prewarm", 0, 0, 1 << 20, PREWARM)),
        ],
        label: |s| {
            let odd = if sizes(s) == "16–1039 B" { String::new() } else { format!(", {}", sizes(s)) };
            format!("{} slots, {} operations{odd}", count(s.n("ws")), count(s.n("cycles")))
        },
        peak: |s| s.n("ws") * (s.n("max-size") + 16),
        run: random_mixed::run,
        sizes: &[
            quick("2000000 256 42", ALL, 0.04),
            quick("2000000 8192 42", ALL, 0.06),
            full("20000000 256 42", ALL, 0.34),
            full("20000000 8192 42", ALL, 0.5),
            full("1000000 256 42", BOTH, 0.03),
            full("10000000 8192 1234567", WARM, 0.26),
        ],
        ..ROW
    },
    Workload {
        name: "pair",
        about: "One allocation with its free, again and again: the two fast paths and nothing else",
        params: &[
            ranged("size", 48, 1, LIMIT, "Bytes of the block"),
            place("pairs", 20_000_000, "Pairs per thread").longer(),
            threads(1),
        ],
        label: |s| words::sizes(s.n("size"), s.n("size")) + &on_threads(s),
        peak: |s| s.n("size") * s.n("threads"),
        run: few::pair,
        sizes: &[
            quick("48 4000000", ALL, 0.05),
            full("48 20000000", ALL, 0.22),
            full("48 20000000 --threads 2", ALL, 0.25),
        ],
        ..ROW
    },
    Workload {
        name: "batch",
        about: "Many blocks allocated, then all freed, as a parse tree, a frame's scene or a request's objects are",
        params: &[
            place("blocks", 50_000, "Blocks of a batch"),
            ranged("size", 64, 1, LIMIT, "Bytes of a block, or of the smallest where --max-size is larger"),
            place("rounds", 100, "Batches per thread").longer(),
            word("order", false, &["fifo", "lifo", "random"], "Order of freeing"),
            option("max-size", 0, 0, LIMIT, "Bytes of the largest block: sizes are drawn up to it; 0 stands for SIZE"),
            word("touch", false, &["first", "none"], "What is written into each block: its first byte, or nothing"),
            threads(1),
            SEED,
        ],
        label: |s| {
            let sizes = words::sizes(s.n("size"), batch::max_size(s) as u64);
            let touched = if s.is("touch", "none") { ", untouched" } else { "" };
            format!("{} blocks of {sizes}, {}{touched}{}", count(s.n("blocks")), s.word("order"), on_threads(s))
        },
        peak: |s| slots_held(s, "blocks", batch::max_size(s) as u64),
        check: |s| match batch::max_size(s) >= s.size("size") {
            true => Ok(()),
            false => Err(format!("--max-size {}: expected at least SIZE, {}", s.n("max-size"), s.n("size"))),
        },
        run: batch::run,
        sizes: &[
            quick("50000 64 40", ALL, 0.05),
            full("50000 64 300 --order fifo", ALL, 0.27),
            full("50000 64 300 --order lifo", WARM, 0.27),
            full("50000 64 200 --order random", ALL, 0.3),
        ],
        ..ROW
    },
    Workload {
        name: "replace",
        about: "A large live set in which one random block at a time is replaced, as in a cache or a database",
        params: &[
            place("live", 1_000_000, "Live blocks per thread"),
            place("replacements", 4_000_000, "Replacements per thread").longer(),
            min_size(16),
            max_size(271),
            threads(1),
            SEED,
        ],
        label: |s| format!("{} live, {}{}", count(s.n("live")), sizes(s), on_threads(s)),
        peak: |s| slots_held(s, "live", s.n("min-size").midpoint(s.n("max-size"))),
        run: replace::replace,
        sizes: &[quick("100000 500000", ALL, 0.1), full("1000000 4000000", ALL, 1.2)],
        ..ROW
    },
    Workload {
        name: "burst",
        about: "Many blocks of many sizes, all freed, again with other sizes, as a request or a compilation unit does",
        params: &[
            place("blocks", 50_000, "Blocks of a burst"),
            place("rounds", 40, "Bursts per thread").longer(),
            min_size(16),
            max_size(16384),
            threads(1),
            SEED,
        ],
        label: |s| format!("{} blocks, {}{}", count(s.n("blocks")), sizes(s), on_threads(s)),
        peak: |s| slots_held(s, "blocks", s.n("max-size") / 6),
        run: replace::burst,
        sizes: &[quick("10000 8", ALL, 0.09), full("50000 10", ALL, 0.48)],
        ..ROW
    },
    Workload {
        name: "huge",
        about: "A few blocks of 5 to 25 MiB, replaced one after the other: image and matrix buffers",
        params: &[
            place("replacements", 2000, "Blocks replaced").longer(),
            ranged("live", 20, 1, 1 << 20, "Live blocks"),
            min_size(5 << 20),
            max_size(25 << 20),
            word(
                "touch",
                false,
                &["sparse", "all"],
                "A byte per 64 KiB of random blocks, or every OS page of blocks in turn",
            ),
            SEED,
        ],
        label: |s| {
            let touched = if s.is("touch", "all") { "all written" } else { "touched in places" };
            format!("{} live, {}, {touched}", s.n("live"), sizes(s))
        },
        peak: |s| s.n("live") * s.n("max-size"),
        run: huge::run,
        sizes: &[
            quick("150", ALL, 0.07),
            quick("20 4 --min-size 1048576 --max-size 67108864 --touch all", ALL, 0.15),
            full("1000", ALL, 0.35),
            full("50 4 --min-size 1048576 --max-size 67108864 --touch all", ALL, 0.5),
        ],
        ..ROW
    },
    Workload {
        name: "cache-sets",
        about: "One hot object in each of many size classes, touched in turn: a server's state, an interpreter's frames",
        params: &[
            ranged("classes", 60, 1, 4096, "Objects, each larger than the one before"),
            ranged("step", 16, 1, 1 << 20, "Bytes of the smallest, and by how much each is larger than the one before"),
            place("rounds", 3_000_000, "Times each is touched").longer(),
        ],
        label: |s| format!("{} objects of {}", s.n("classes"), words::sizes(s.n("step"), s.n("classes") * s.n("step"))),
        peak: |s| s.n("classes") * s.n("classes") * s.n("step"),
        check: |s| match s.n("classes") * s.n("step") <= 1 << 20 {
            true => Ok(()),
            false => Err(format!("classes {} × step {}: expected at most 1 MiB", s.n("classes"), s.n("step"))),
        },
        figure: Some("ns per touch"),
        run: few::cache_sets,
        sizes: &[quick("60 16 1000000", ALL, 0.05), full("60 16 3000000", ALL, 0.15)],
        ..ROW
    },
    Workload {
        name: "grow-vec",
        about: "A vector of numbers pushed to until it holds 1 GiB: a large input of unknown length",
        params: &[ranged("mib", 1024, 1, 1 << 20, "MiB the vector grows to").longer()],
        label: |s| format!("to {} MiB", s.n("mib")),
        // Old and new at once, where an allocator copies.
        peak: |s| s.n("mib") << 21,
        run: grow_vec::run,
        sizes: &[quick("128", FRESH, 0.1), full("1024", ALL, 1.8)],
        ..ROW
    },
    Workload {
        name: "growth",
        about: "Small blocks until they add up to a size, none freed: a compiler or a solver that reads its data in",
        params: &[
            ranged("mib", 1024, 1, 1 << 20, "MiB the blocks add up to").longer(),
            option("prewarm", 0, 0, 1 << 20, "Superslabs taken and populated before the clock"),
        ],
        label: |s| format!("to {} MiB", s.n("mib")),
        peak: |s| (s.n("mib") * 5) << 18,
        series: FRESH,
        has_floor: false,
        figure: Some("times the processor time of the same writes on a bare mapping"),
        run: growth::run,
        sizes: &[quick("64", FRESH, 0.1), at_most(5, full("1024", FRESH, 1.0))],
        ..ROW
    },
    Workload {
        name: "fragmentation",
        about: "Grow, free all but every n-th block, grow with other sizes: a cache in a program whose mix of sizes drifts",
        params: &[
            ranged("mib", 128, 1, 1 << 20, "MiB alive at the end of each growth").longer(),
            place("survivors", 8, "One block in so many survives a phase"),
            place("phases", 12, "Phases"),
            SEED,
        ],
        label: |s| format!("{} MiB live, 1 in {} survives, {} phases", s.n("mib"), s.n("survivors"), s.n("phases")),
        peak: |s| s.n("mib") << 22,
        series: FRESH,
        run: fragmentation::run,
        sizes: &[quick("8", FRESH, 0.2), at_most(5, full("64", FRESH, 1.6))],
        ..ROW
    },
    Workload {
        name: "cold-start",
        about: "From the start of a process to its first thousand allocations: command-line tools",
        params: &[ranged("blocks", 1000, 1, 1 << 24, "Allocations"), min_size(16), max_size(512), SEED],
        label: |s| format!("{} blocks of {}", count(s.n("blocks")), sizes(s)),
        peak: |s| slots_held(s, "blocks", s.n("max-size")),
        series: COLD,
        run: few::cold_start,
        sizes: &[quick("", COLD, 0.01), full("", COLD, 0.01)],
        ..ROW
    },
];
