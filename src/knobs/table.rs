//! The one table of knobs. Parsing, bounds, profiles, the print-out under `HAKMEM_VERBOSE` and env-knobs.md (by a test) all
//! come from its rows.
#![forbid(unsafe_code)]

use super::parse::{AUTO, Kind};
use super::types::{Hugetlb, Prefault, Profile, StatsMode, ThpPolicy};

/// The knobs, in the order of the table. The discriminant is the row's position.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Knob {
    Profile,
    Thp,
    Hugetlb,
    Prefault,
    NoExplicitPrefault,
    Prewarm,
    RetainMb,
    LargeCacheMb,
    HeapCacheKb,
    PurgeDelayMs,
    Background,
    Verbose,
    Stats,
    StatsFile,
    ReportFile,
    Deepbind,
    CheckOneIn,
    GuardEvery,
}

impl Knob {
    /// The position of its path in `files`, if its value is one.
    pub(super) const fn file(self) -> Option<usize> {
        match self {
            Knob::StatsFile => Some(0),
            Knob::ReportFile => Some(1),
            _ => None,
        }
    }
}

/// How many knobs have a path.
pub(super) const FILES: usize = 2;
/// How many knobs there are.
pub(super) const COUNT: usize = 18;

/// Everything about one knob.
pub(super) struct Row {
    pub(super) knob: Knob,
    /// The environment variable.
    pub(super) name: &'static str,
    /// What its value may be.
    pub(super) kind: Kind,
    /// The raw default under each profile, in the order of [`Profile`]'s variants.
    pub(super) by_profile: [u32; 4],
    /// What env-knobs.md says of it.
    #[cfg_attr(not(test), expect(dead_code, reason = "empty: it is for a test alone"))]
    pub(super) doc: Doc,
}

/// What a knob does, what that costs, and when to use it: for env-knobs.md alone, which a test compares. The library has none of it.
#[cfg(test)]
pub(super) struct Doc {
    pub(super) what: &'static str,
    pub(super) cost: &'static str,
    pub(super) when: &'static str,
}
#[cfg(not(test))]
pub(super) struct Doc;

#[cfg(test)]
const fn doc(what: &'static str, cost: &'static str, when: &'static str) -> Doc {
    Doc { what, cost, when }
}
#[cfg(not(test))]
const fn doc(_what: &'static str, _cost: &'static str, _when: &'static str) -> Doc {
    Doc
}

/// The default of `HAKMEM_GUARD_EVERY`; `docs/hardening.md` has what it costs.
const GUARD_EVERY: u32 = 2000;

/// The same default under every profile.
const fn all(raw: u32) -> [u32; 4] {
    [raw; 4]
}

const SPEED: usize = Profile::Speed as usize;
const BALANCED: usize = Profile::Balanced as usize;
const LEAN: usize = Profile::Lean as usize;
const HARDENED: usize = Profile::Hardened as usize;
const _: () = assert!(
    SPEED == 0 && BALANCED == 1 && LEAN == 2 && HARDENED == 3,
    "the columns of `by_profile` are in this order"
);

/// Every knob.
pub(super) static TABLE: [Row; COUNT] = [
    Row {
        knob: Knob::Profile,
        name: "HAKMEM_PROFILE",
        kind: Kind::Words(Profile::WORDS),
        by_profile: all(Profile::Balanced as u32),
        doc: doc(
            "Sets the defaults of the other knobs, as the table at the end shows.",
            "speed holds more memory. lean makes more system calls and page faults. hardened checks every block (HAKMEM_CHECK_ONE_IN=1), reuses blocks late and in random order, and zeroes freed ones.",
            "First of all: speed if the machine is yours, lean if many processes share it, hardened if the program's input is hostile.",
        ),
    },
    Row {
        knob: Knob::Thp,
        name: "HAKMEM_THP",
        kind: Kind::Words(ThpPolicy::WORDS),
        by_profile: [
            ThpPolicy::Always as u32,
            ThpPolicy::Auto as u32,
            ThpPolicy::Never as u32,
            ThpPolicy::Auto as u32,
        ],
        doc: doc(
            "Which memory asks for transparent huge pages. never: none. always: all. auto: what will be written. For blocks up to 4.5 KiB that is every slab but a heap's first of a size, from 2 MiB of such slabs on, and those too once they are few; for blocks up to 1 MiB, most slabs once earlier blocks are found written, from 8 MiB on. Larger blocks get them once others of at least a third of their length were found filled, while little of those that have them already is missing; the ones asked for zeroed are judged by themselves. What holds nothing but zeros does not count as written. From 32 MiB on one that was not asked for zeroed needs no such evidence. None has them whose end leaves much of the last one unused. Superslabs that HAKMEM_SS_PREFAULT or prewarming makes resident as a whole get them too, except under map_populate, which populates too early. If the system gives huge pages unasked, other superslabs opt out; large blocks (above 1 MiB) do not, unless their memory was a superslab.",
            "A huge page is resident as a whole. always adds up to 2 MiB for each superslab begun, auto a fraction of what is known to be written. never takes one page fault for each OS page.",
            "always for processes that grow to GiBs and live long, never if every MiB counts.",
        ),
    },
    Row {
        knob: Knob::Hugetlb,
        name: "HAKMEM_HUGETLB",
        kind: Kind::Words(Hugetlb::WORDS),
        by_profile: all(Hugetlb::Off as u32),
        doc: doc(
            "Requests superslabs from the administrator's pool of huge pages (hugetlb). Always refused, with one line: a forked child that writes to such memory is killed if the pool is empty. HAKMEM_THP decides instead, and a second line says why if that gives OS pages only.",
            "None.",
            "Never for blocks. A Region takes memory from the pool by Backing::Hugetlb.",
        ),
    },
    Row {
        knob: Knob::Prefault,
        name: "HAKMEM_SS_PREFAULT",
        kind: Kind::Words(Prefault::WORDS),
        by_profile: all(Prefault::Off as u32),
        doc: doc(
            "What is done to a new superslab before its first block. off: nothing. touch: one write to each OS page. memset: a write to every byte. map_populate: MAP_POPULATE. populate: MADV_POPULATE_WRITE. collapse: as populate, then MADV_COLLAPSE if huge pages were not asked for. async: a thread populates superslabs ahead of demand.",
            "The allocation that maps takes the page faults instead of the first use, and the whole superslab is resident. async starts a thread in a process that grows.",
            "populate or async if the first touch must not stall. touch, memset and map_populate exist to be compared with.",
        ),
    },
    Row {
        knob: Knob::NoExplicitPrefault,
        name: "HAKMEM_NO_EXPLICIT_PREFAULT",
        kind: Kind::Switch,
        by_profile: all(0),
        doc: doc(
            "1 turns HAKMEM_SS_PREFAULT=touch and memset into off. The other policies stay.",
            "None.",
            "To measure what touching is worth without another change.",
        ),
    },
    Row {
        knob: Knob::Prewarm,
        name: "HAKMEM_SS_PREWARM",
        kind: Kind::Number {
            min: 0,
            max: 1_000_000,
        },
        by_profile: all(0),
        doc: doc(
            "Superslabs (2 MiB each) that are mapped and populated before the first block is handed out.",
            "Time at start, 0.1 to 5 ms each, and 2 MiB of resident memory each, used or not.",
            "If the program's size is known and its first requests must be as fast as later ones.",
        ),
    },
    Row {
        knob: Knob::RetainMb,
        name: "HAKMEM_SS_RETAIN_MB",
        kind: Kind::NumberOrAuto {
            min: 0,
            max: 1 << 20,
        },
        by_profile: [256, AUTO, AUTO, AUTO],
        doc: doc(
            "MiB of freed memory that stay resident for the next use until HAKMEM_PURGE_DELAY_MS has passed. auto is an eighth of what is in use and at least half a MiB, or, if that is more: what was prewarmed; what the program often frees and takes again within the delay, and a quarter of that besides; or by how much memory fell within the delay, if that is enough to start the maintenance thread (HAKMEM_BACKGROUND). It is less if that thread is forbidden.",
            "That much memory. Too little costs a purge and new page faults each time memory falls and rises.",
            "A number if not even the first small falls of memory may go back: auto learns from them. With a longer HAKMEM_PURGE_DELAY_MS if memory falls and rises more slowly. 0 or a few for processes that idle after a peak.",
        ),
    },
    Row {
        knob: Knob::LargeCacheMb,
        name: "HAKMEM_LARGE_CACHE_MB",
        kind: Kind::Number {
            min: 0,
            max: 1 << 20,
        },
        by_profile: [1024, 256, 8, 256],
        doc: doc(
            "The most MiB of freed large blocks (above 1 MiB) that stay resident for the next ones. Within that, 6 MiB stay or, if that is more, half of what is live in large blocks. More stays until the purge delay ends: what the program frees and takes again within it, and by how much the live large blocks fell, if that is enough to start the maintenance thread (HAKMEM_BACKGROUND). It is less if that thread is forbidden.",
            "Up to that much memory until the purge delay has passed. After a large fall it takes a little longer: one call gives back 24 MiB or a quarter of what is cached, and later calls or the maintenance thread the rest. If that thread is forbidden, one call gives back all.",
            "Raise it for programs that allocate and free buffers of many MiB in a loop.",
        ),
    },
    Row {
        knob: Knob::HeapCacheKb,
        name: "HAKMEM_HEAP_CACHE_KB",
        kind: Kind::NumberOrAuto {
            min: 0,
            max: 1 << 20,
        },
        by_profile: [AUTO, AUTO, 128, AUTO],
        doc: doc(
            "KiB of free memory that the heap of one thread may hold, on its stacks and in its slabs together, of all size classes. Beyond that, blocks go from its stacks to their slabs. If an eighth of what is live in the heap is more, that is the bound. More than 8 threads share 8 times the number, at least 128 KiB each. auto is 4096 (16384 under HAKMEM_PROFILE=speed), and on top of that what the program frees and takes again, or less of that if HAKMEM_BACKGROUND forbids the maintenance thread.",
            "Up to that much for each thread, and the slabs that those blocks pin. Each block beyond a small number goes to its slab and back.",
            "A number for thousands of threads, or if memory must go back at once when it falls.",
        ),
    },
    Row {
        knob: Knob::PurgeDelayMs,
        name: "HAKMEM_PURGE_DELAY_MS",
        kind: Kind::Number {
            min: 0,
            max: 3_600_000,
        },
        by_profile: [10_000, 1000, 100, 1000],
        doc: doc(
            "Milliseconds that retained memory waits, unused, before it goes back to the system. Time is counted in quarters of the delay, so the wait may be a quarter longer. After that the maintenance thread (HAKMEM_BACKGROUND) gives it back, or a call of the program: the first that frees or resizes a large block, one in 64 of those that find no block at hand or no room for a freed one, or the end of a thread. OS pages between live blocks wait for one to two such delays. Freed large blocks that lie side by side wait as one, from the mean of the times of their frees, weighted by length.",
            "A short delay purges what is needed again soon. A long one holds memory after a peak.",
            "Together with HAKMEM_SS_RETAIN_MB. 0 gives back at once what exceeds that, and large blocks; the rest goes with a later call.",
        ),
    },
    Row {
        knob: Knob::Background,
        name: "HAKMEM_BACKGROUND",
        kind: Kind::Number { min: 0, max: 2 },
        by_profile: all(1),
        doc: doc(
            "The maintenance thread, which gives back idle memory after the purge delay even if the process makes no calls. 0 forbids it. 1 runs it in a process that has had several threads while more than 2 MiB lie idle, and in a process of one thread once more than 32 MiB do, or 2 MiB after a fall by more than 32. 2 treats a process of one thread as one of several.",
            "Without it a process keeps less, since it may fall silent: all that it frees and takes again if that is at most 32 MiB or what is live, else as much as is live, and at least 6 MiB of large blocks and 22 MiB of small ones. With it a process of one thread has two, and glibc treats it as one of several from then on (__libc_single_threaded). It ends with the process's first thread, which may leave others behind (pthread_exit in main). unshare and setns of libhakmem.so end the thread first; elsewhere raw::without_helper does. With 0 HAKMEM_SS_PREFAULT=async does nothing.",
            "0 if a library must not start threads, for example under a filter of system calls that kills. 2 for programs of one thread that sleep with less than 32 MiB idle.",
        ),
    },
    Row {
        knob: Knob::Verbose,
        name: "HAKMEM_VERBOSE",
        kind: Kind::Switch,
        by_profile: all(0),
        doc: doc(
            "1 prints every knob on stderr, with its value and where that came from. When something is first refused, it says why and what to do.",
            "A few lines at start, and a trial of one huge page when the first is asked for.",
            "If a setting seems to have no effect.",
        ),
    },
    Row {
        knob: Knob::Stats,
        name: "HAKMEM_STATS",
        kind: Kind::Words(StatsMode::WORDS),
        by_profile: all(StatsMode::Off as u32),
        doc: doc(
            "Prints the statistics when the process exits. 1: about ten lines of text. full: the same with a table of the size classes. json: one JSON object.",
            "A walk over all slabs at exit.",
            "To see what a program holds, and how much of it in huge pages.",
        ),
    },
    Row {
        knob: Knob::StatsFile,
        name: "HAKMEM_STATS_FILE",
        kind: Kind::Path,
        by_profile: all(0),
        doc: doc(
            "The file that HAKMEM_STATS prints to, in place of stderr. It is made or overwritten; %p stands for the process id.",
            "None.",
            "If stderr is not yours, if all descriptors are closed before the end, or with several processes.",
        ),
    },
    Row {
        knob: Knob::ReportFile,
        name: "HAKMEM_REPORT_FILE",
        kind: Kind::Path,
        by_profile: all(0),
        doc: doc(
            "A file that gets the report if a mistake of the program is found: what happened, and the calls that led to it. stderr gets it in any case. The file is made if there is none, and appended to; %p stands for the process id. It is opened when there is something to report, so a relative path is one from the program's folder at that time.",
            "None.",
            "If stderr is not kept, or closed by the program.",
        ),
    },
    Row {
        knob: Knob::Deepbind,
        name: "HAKMEM_DEEPBIND",
        kind: Kind::Switch,
        by_profile: all(0),
        doc: doc(
            "Under libhakmem.so, 1 keeps the flag RTLD_DEEPBIND of dlopen and dlmopen. 0 drops it: a library that is opened with it would call glibc's malloc and free, also for blocks of hakmem.",
            "With 1 a block that such a library exchanges with the program crashes it. With 0 the program's definition of a name comes before the library's own.",
            "1 for a library that has names in common with the program and exchanges no blocks with it.",
        ),
    },
    Row {
        knob: Knob::CheckOneIn,
        name: "HAKMEM_CHECK_ONE_IN",
        kind: Kind::Number {
            min: 0,
            max: 1_000_000,
        },
        by_profile: [256, 256, 256, 1],
        doc: doc(
            "One slab in so many is checked, once 3 MiB of blocks were handed out: a second free, a free of a block's inside, a wrong size, a write past the size that was asked for or in front of the block, and a write after free end the process with a report, a write when its block is next freed, reallocated or given out again, or at exit. 1 checks every block, 0 none.",
            "At most 256 KiB for all checked slabs together, and a checked block in each sixteenth slow path at first, later in each 256th. With 1, several times the instructions of each allocation, one lock for all threads, and 34 bytes and more for each block.",
            "1 to find a mistake that another line has hinted at, or in tests; 0, and HAKMEM_GUARD_EVERY=0, if processes must be alike to the byte.",
        ),
    },
    Row {
        knob: Knob::GuardEvery,
        name: "HAKMEM_GUARD_EVERY",
        kind: Kind::Number {
            min: 0,
            max: 1_000_000_000,
        },
        by_profile: all(GUARD_EVERY),
        doc: doc(
            "How often a block is guarded: about one in so many of the allocations of a thread that find no block at hand, if it is no larger than an OS page. 1 guards each of those, 0 none; from 1000 on, a process guards one in 20 milliseconds at most. A guarded block lies alone on an OS page without neighbours, at its end or its beginning by turns, and once freed the page has no access for a while: a read or write beyond it or after its free ends the process with a report. At most 64 blocks are guarded at once, and none under a limit of address space.",
            "The first guarded block takes 2 MiB of address space and puts a handler of SIGSEGV in front of the program's. Each takes an OS page and 15 to 90 microseconds, and splits mappings: at most 129 of vm.max_map_count.",
            "A smaller number where crashes are rare and many processes run, 1 to search for a mistake, 0 if the program must have SIGSEGV to itself or a filter of system calls kills it for rt_sigaction.",
        ),
    },
];

const _: () = {
    let mut i = 0;
    while i < COUNT {
        assert!(
            TABLE[i].knob as usize == i,
            "a knob is the position of its row"
        );
        i += 1;
    }
};

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
