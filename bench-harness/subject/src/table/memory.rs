//! The chapter of programs that are about memory: peak and resting RSS count, time is reported as well.

use super::{
    COLD, FRESH, LIMIT, ROW, SEED, at_most, full, max_size, min_size, option, param, place, quick, ranged, sizes,
    threads, word,
};
use crate::spec::{Kind, Param};
use crate::words::{self, count};
use crate::workload::Workload;
use crate::workloads::{few, memory};

/// What the rows of programs from `memory` have in common.
const MEMORY: Workload = Workload { series: FRESH, has_floor: false, ..ROW };

const REST: Param = rest(2);

const fn rest(secs: u64) -> Param {
    option("rest", secs, 0, 3600, "Seconds of rest before memory is read for the last time")
}

const KINDS: &str = "Letters of the kinds: 4 MiB (h), 300 KB (l), 20 KB (m), 700 B (t), 100 B (s)";

pub(super) static WORKLOADS: [Workload; 10] = [
    Workload {
        name: "idle-return",
        about: "Memory held 0, 1 and 5 seconds after a peak: a server after its busiest hour",
        params: &[
            ranged("mib", 256, 1, 1 << 20, "MiB of the peak, all threads together").longer(),
            ranged("secs", 5, 0, 3600, "Seconds of rest before memory is read for the last time"),
            min_size(16),
            max_size(1024),
            threads(4),
            SEED,
        ],
        label: |s| format!("{} MiB on {} threads, {} s", s.n("mib"), s.n("threads"), s.n("secs")),
        peak: |s| (s.n("mib") * 3) << 19,
        has_floor: true,
        run: few::idle_return,
        sizes: &[at_most(1, quick("32 1", COLD, 1.1)), at_most(2, full("128 5", FRESH, 5.4))],
        ..MEMORY
    },
    Workload {
        name: "memory-sparse",
        about: "Blocks of which only the first page is written: receive buffers and tables that are mostly empty",
        params: &[place("blocks", 1000, "Blocks").longer(), ranged("kib", 900, 1, 1 << 20, "KiB of each"), REST],
        label: |s| format!("{} blocks of {} KiB, a page of each written", count(s.n("blocks")), s.n("kib")),
        run: memory::sparse,
        sizes: &[
            at_most(1, quick("1000 900 --rest 0", COLD, 0.1)),
            at_most(3, full("1000 900", FRESH, 2.1)),
            at_most(3, full("1000 256", COLD, 2.1)),
            at_most(3, full("4000 32", COLD, 2.1)),
        ],
        ..MEMORY
    },
    Workload {
        name: "memory-threads",
        about: "Living threads with a few blocks of each of many sizes: a server of a thousand connections",
        params: &[
            ranged("threads", 1000, 1, 30_000, "Threads").longer(),
            ranged("sizes", 20, 1, 200, "Sizes: 16 + 3 i² bytes"),
            ranged("each", 1, 1, 1000, "Blocks of each size on each thread"),
            REST,
        ],
        label: |s| format!("{} threads, {} of each of {} sizes", s.n("threads"), s.n("each"), s.n("sizes")),
        run: memory::threads,
        sizes: &[
            at_most(1, quick("200 20 1 --rest 0", COLD, 0.1)),
            at_most(3, full("1000 20 1", FRESH, 2.3)),
            at_most(3, full("1000 60 2", COLD, 2.6)),
        ],
        ..MEMORY
    },
    Workload {
        name: "memory-churn",
        about: "A fixed number of blocks of a size a little over a boundary, replaced one at a time",
        params: &[
            ranged("min-size", 65_552, 1, LIMIT, "Bytes of the smallest block"),
            ranged("max-size", 65_552, 1, LIMIT, "Bytes of the largest block"),
            ranged("mib", 200, 1, 1 << 20, "MiB alive"),
            place("rounds", 2, "Times as many replacements as there are blocks").longer(),
            REST,
        ],
        label: |s| format!("{} MiB in blocks of {}, each replaced {} times", s.n("mib"), sizes(s), s.n("rounds")),
        peak: |s| s.n("mib") << 21,
        run: memory::churn,
        sizes: &[
            at_most(1, quick("65552 65552 50 1 --rest 0", COLD, 0.2)),
            at_most(3, full("65552 65552 200 2", FRESH, 2.6)),
            at_most(3, full("131100 131100 200 2", COLD, 2.6)),
        ],
        ..MEMORY
    },
    Workload {
        name: "memory-phases",
        about: "Phases of one kind of block after another, each freed whole, as a compiler's passes are",
        params: &[
            ranged("mib", 60, 1, 1 << 20, "MiB of each phase"),
            word("kinds", true, &["hs", "hml", "sl", "tm"], KINDS),
            place("rounds", 3, "Times through all kinds").longer(),
            REST,
        ],
        label: |s| format!("{} MiB each, {} times {}", s.n("mib"), s.n("rounds"), s.word("kinds")),
        peak: |s| s.n("mib") << 21,
        run: memory::phases,
        sizes: &[at_most(1, quick("60 hs 1 --rest 0", COLD, 0.3)), at_most(3, full("60 hs 3", FRESH, 2.9))],
        ..MEMORY
    },
    Workload {
        name: "memory-idle",
        about: "Bursts on one thread, then nothing at all: a desktop program that waits for its user",
        params: &[
            word("kind", true, &["large", "medium", "small"], "Blocks of 4–24 MiB, 4–200 KiB or 16–2,000 bytes"),
            ranged("mib", 200, 1, 1 << 20, "MiB of each burst"),
            place("bursts", 5, "Bursts").longer(),
            rest(10),
        ],
        label: |s| {
            let (kind, rest) = (s.word("kind"), s.n("rest"));
            format!("{} bursts of {} MiB of {kind} blocks, then {rest} s", s.n("bursts"), s.n("mib"))
        },
        peak: |s| s.n("mib") << 21,
        run: memory::idle,
        sizes: &[
            at_most(1, quick("large 200 2 --rest 0", COLD, 0.6)),
            at_most(2, full("large 200 5", FRESH, 11.0)),
            at_most(2, full("medium 200 20", COLD, 12.0)),
            at_most(2, full("small 200 20", COLD, 13.0)),
        ],
        ..MEMORY
    },
    Workload {
        name: "memory-shrink",
        about: "Buffers that are filled, then shrunk to what was used and kept, as by shrink_to_fit",
        params: &[
            ranged("size", 64 << 20, 1, LIMIT, "Bytes of a buffer"),
            param("part", true, Kind::Share(0.55, 0.001, 1.0), "What is kept of it"),
            ranged("buffers", 4, 1, 1 << 20, "Buffers").longer(),
            REST,
        ],
        label: |s| format!("{} buffers of {} bytes, {} of each kept", s.n("buffers"), s.n("size"), s.share("part")),
        peak: |s| s.n("buffers") * s.n("size"),
        run: memory::shrink,
        sizes: &[
            at_most(1, quick("800000 0.55 50 --rest 0", COLD, 0.1)),
            at_most(3, full("67108864 0.55 4", FRESH, 2.3)),
            at_most(3, full("800000 0.55 200", COLD, 2.2)),
        ],
        ..MEMORY
    },
    Workload {
        name: "memory-aligned",
        about: "One aligned buffer taken, written and freed in a loop, as a codec or a device's driver does",
        params: &[
            ranged("align", 4 << 20, 1, 1 << 30, "Its alignment, a power of two"),
            ranged("size", 6_000_000, 1, LIMIT, "Bytes"),
            place("rounds", 100, "Times").longer(),
            REST,
        ],
        label: |s| format!("{} bytes at a multiple of {}", s.n("size"), words::sizes(s.n("align"), s.n("align"))),
        check: |s| match s.n("align").is_power_of_two() {
            true => Ok(()),
            false => Err(format!("align {}: expected a power of two", s.n("align"))),
        },
        run: memory::aligned,
        sizes: &[
            at_most(1, quick("4194304 6000000 20 --rest 0", COLD, 0.1)),
            at_most(3, full("4194304 6000000 100", FRESH, 2.4)),
        ],
        ..MEMORY
    },
    Workload {
        name: "memory-grow",
        about: "Buffers that double on several threads and are written throughout: readers of streams",
        params: &[
            place("rounds", 20, "Buffers of each thread").longer(),
            ranged("from-kib", 1536, 1, 1 << 30, "KiB of the buffer at first"),
            ranged("to-kib", 24 << 10, 1, 1 << 30, "KiB it grows to"),
            threads(4),
            REST,
        ],
        label: |s| {
            let sizes = words::sizes(s.n("from-kib") << 10, s.n("to-kib") << 10);
            format!("{sizes}, {} times on {} threads", s.n("rounds"), s.n("threads"))
        },
        peak: |s| s.n("threads") * (s.n("to-kib") << 12),
        run: memory::grow,
        sizes: &[at_most(1, quick("4 --rest 0", COLD, 0.3)), at_most(3, full("20", FRESH, 3.0))],
        ..MEMORY
    },
    Workload {
        name: "memory-survivors",
        about: "A large population of which one block in many stays: a batch that leaves its results behind",
        params: &[
            ranged("min-size", 1000, 1, LIMIT, "Bytes of the smallest block"),
            ranged("max-size", 1024, 1, LIMIT, "Bytes of the largest block"),
            place("survivors", 64, "One block in so many stays"),
            ranged("mib", 400, 1, 1 << 20, "MiB at the peak").longer(),
            REST,
        ],
        label: |s| format!("{} MiB in blocks of {}, 1 in {} stays", s.n("mib"), sizes(s), s.n("survivors")),
        peak: |s| s.n("mib") << 20,
        run: memory::survivors,
        sizes: &[
            at_most(1, quick("1000 1024 64 50 --rest 0", COLD, 0.2)),
            at_most(3, full("1000 1024 64 400", FRESH, 2.7)),
        ],
        ..MEMORY
    },
];
