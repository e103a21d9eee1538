//! The one table of knobs. Parsing, bounds, profiles, the print-out under `HAKMEM_VERBOSE` and env-knobs.md (by a
//! test) all come from its rows; nothing about a knob is written anywhere else.
#![forbid(unsafe_code)]

use super::parse::{AUTO, Kind};
use super::types::{Hugetlb, Prefault, Profile, StatsMode, ThpPolicy};

/// The knobs, in the order of the table; the discriminant is the row's position.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Knob {
    Profile,
    Thp,
    Hugetlb,
    Prefault,
    NoExplicitPrefault,
    Prewarm,
    RetainMb,
    HugeCacheMb,
    HeapCacheKb,
    PurgeDelayMs,
    Background,
    Verbose,
    Stats,
    StatsFile,
    Deepbind,
}

/// How many knobs there are.
pub(super) const COUNT: usize = 15;

/// One knob: all that is known about it.
pub(super) struct Row {
    pub(super) knob: Knob,
    /// The environment variable.
    pub(super) name: &'static str,
    /// What its value may be.
    pub(super) kind: Kind,
    /// The raw default under each profile, in the order of [`Profile`]'s variants.
    pub(super) by_profile: [u32; 3],
    /// What it does.
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "for env-knobs.md alone, which a test compares")
    )]
    pub(super) what: &'static str,
    /// What that costs.
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "for env-knobs.md alone, which a test compares")
    )]
    pub(super) cost: &'static str,
    /// When to use it.
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "for env-knobs.md alone, which a test compares")
    )]
    pub(super) when: &'static str,
}

/// The same default under every profile.
const fn all(raw: u32) -> [u32; 3] {
    [raw; 3]
}

const SPEED: usize = Profile::Speed as usize;
const BALANCED: usize = Profile::Balanced as usize;
const LEAN: usize = Profile::Lean as usize;
const _: () = assert!(
    SPEED == 0 && BALANCED == 1 && LEAN == 2,
    "the columns of `by_profile` are in this order"
);

/// Every knob there is.
pub(super) static TABLE: [Row; COUNT] = [
    Row {
        knob: Knob::Profile,
        name: "HAKMEM_PROFILE",
        kind: Kind::Words(Profile::WORDS),
        by_profile: all(Profile::Balanced as u32),
        what: "Sets the defaults of the other knobs, as the second table shows.",
        cost: "speed holds more memory, lean makes more system calls and page faults.",
        when: "First of all: speed where the machine is yours, lean where many processes share it.",
    },
    Row {
        knob: Knob::Thp,
        name: "HAKMEM_THP",
        kind: Kind::Words(ThpPolicy::WORDS),
        by_profile: [
            ThpPolicy::Always as u32,
            ThpPolicy::Auto as u32,
            ThpPolicy::Never as u32,
        ],
        what: "Which memory asks for transparent huge pages: never none, always all, auto what will be written. That is: slabs of blocks up to 4.5 KiB in a heap that has filled others of that size, and of blocks up to 1 MiB once those handed out before are found resident, both once there are 16 MiB of such slabs; larger blocks from 32 MiB on that were not asked for zeroed, one at a time until earlier ones are found filled; and superslabs that HAKMEM_SS_PREFAULT or prewarming makes resident as a whole (not map_populate, which comes too early for huge pages).",
        cost: "A huge page is resident as a whole: always adds up to 2 MiB for every superslab begun, auto a fraction of what is known to be written. never pays one fault per OS page.",
        when: "always for processes that grow to GiBs and live long, never where every MiB counts.",
    },
    Row {
        knob: Knob::Hugetlb,
        name: "HAKMEM_HUGETLB",
        kind: Kind::Words(Hugetlb::WORDS),
        by_profile: all(Hugetlb::Off as u32),
        what: "Requests superslabs from the administrator's pool of huge pages (hugetlb). Always refused, with one line: a forked child that writes to such memory is killed if the pool is empty. HAKMEM_THP decides instead, and a second line says why if that gives OS pages only. A Region can have memory from the pool.",
        cost: "None.",
        when: "Not for blocks; memory of one's own comes from the pool by Region's Backing.",
    },
    Row {
        knob: Knob::Prefault,
        name: "HAKMEM_SS_PREFAULT",
        kind: Kind::Words(Prefault::WORDS),
        by_profile: all(Prefault::Off as u32),
        what: "What is done to a new superslab before its first block: nothing, one write per OS page, a write to every byte, MAP_POPULATE, MADV_POPULATE_WRITE, MADV_COLLAPSE after one touch, or populating ahead of demand on a background thread.",
        cost: "Moves the page faults from the first use to the allocation that maps, and makes the whole superslab resident. async starts a thread in a process that grows.",
        when: "populate or async where first touch must not stall; touch, memset and map_populate exist to be compared with.",
    },
    Row {
        knob: Knob::NoExplicitPrefault,
        name: "HAKMEM_NO_EXPLICIT_PREFAULT",
        kind: Kind::Switch,
        by_profile: all(0),
        what: "1 turns HAKMEM_SS_PREFAULT=touch and memset into off and leaves the other policies alone.",
        cost: "None.",
        when: "To measure what touching was worth without another change.",
    },
    Row {
        knob: Knob::Prewarm,
        name: "HAKMEM_SS_PREWARM",
        kind: Kind::Number {
            min: 0,
            max: 1_000_000,
        },
        by_profile: all(0),
        what: "Superslabs (2 MiB each) that are mapped and populated before the first block is handed out.",
        cost: "Time at start, 0.1 to 5 ms each, and 2 MiB of resident memory each, used or not.",
        when: "When the program's size is known and its first requests must be as fast as later ones.",
    },
    Row {
        knob: Knob::RetainMb,
        name: "HAKMEM_SS_RETAIN_MB",
        kind: Kind::NumberOrAuto {
            min: 0,
            max: 1 << 20,
        },
        by_profile: [256, AUTO, AUTO],
        what: "MiB of freed memory that stays resident for the next use; auto is an eighth of what is in use, at least half a MiB, or the most that the program freed and took again within the purge delay, where that happens often. Less where HAKMEM_BACKGROUND allows no maintenance thread.",
        cost: "That much memory held; too little costs a purge and new page faults at every swing.",
        when: "A number for loads that swing more slowly than the purge delay, 0 or a few for processes that idle after a peak.",
    },
    Row {
        knob: Knob::HugeCacheMb,
        name: "HAKMEM_HUGE_CACHE_MB",
        kind: Kind::Number {
            min: 0,
            max: 1 << 20,
        },
        by_profile: [1024, 256, 8],
        what: "The most MiB of freed huge blocks (above 1 MiB) that stay mapped for the next ones. Within that, 6 MiB or half of what is live stay, more where the program freed and took more again within the purge delay, and less where HAKMEM_BACKGROUND allows no maintenance thread.",
        cost: "Up to that much memory held until the purge delay has passed; a little longer after a fall by much more, as one call gives back 24 MiB or a quarter of what is too much, and later ones or the maintenance thread the rest.",
        when: "Raise it for programs that allocate and free buffers of many MiB in a loop.",
    },
    Row {
        knob: Knob::HeapCacheKb,
        name: "HAKMEM_HEAP_CACHE_KB",
        kind: Kind::NumberOrAuto {
            min: 0,
            max: 1 << 20,
        },
        by_profile: [AUTO, AUTO, 128],
        what: "KiB of free blocks that the heap of one thread may keep beside its slabs, all classes together; auto is 4096 (16384 under HAKMEM_PROFILE=speed), or an eighth of what is live, and what the program was seen to free and take again on top. Less where HAKMEM_BACKGROUND allows no maintenance thread.",
        cost: "Up to that much per thread, and the slabs those blocks pin. Little costs a walk to the slabs and back for each block beyond it.",
        when: "A number for thousands of threads, or where memory that swings must go back at once.",
    },
    Row {
        knob: Knob::PurgeDelayMs,
        name: "HAKMEM_PURGE_DELAY_MS",
        kind: Kind::Number {
            min: 0,
            max: 3_600_000,
        },
        by_profile: [10_000, 1000, 100],
        what: "Milliseconds that retained memory waits, unused, before it goes back to the system. It goes at the first call after that which finds no block at hand or frees a huge one, or by the maintenance thread (HAKMEM_BACKGROUND). OS pages between live blocks wait for one to two such delays.",
        cost: "A short delay purges what is needed again soon; a long one holds memory after a peak.",
        when: "Together with HAKMEM_SS_RETAIN_MB; 0 gives back at once.",
    },
    Row {
        knob: Knob::Background,
        name: "HAKMEM_BACKGROUND",
        kind: Kind::Number { min: 0, max: 2 },
        by_profile: all(1),
        what: "The maintenance thread, which gives back what waited for the purge delay in a process that makes no calls: 0 forbids it; with 1 it runs in a process of several threads while more than 2 MiB lie idle, and in one of a single thread once more than 32 MiB do; 2 treats both as several.",
        cost: "A process without it may fall silent, and keeps less: as much as is live or 32 MiB where it frees and takes no more than that again, else 6 MiB of large blocks and 22 MiB of small ones. One that had a single thread has two: unshare and setns send the second away first under libhakmem.so, elsewhere raw::without_helper does; glibc goes on to treat it as a process of several (__libc_single_threaded). With 0 HAKMEM_SS_PREFAULT=async does nothing.",
        when: "0 where a library must not start threads: under a filter of system calls that kills, for example; 2 for programs of one thread that sleep with less than 32 MiB too much.",
    },
    Row {
        knob: Knob::Verbose,
        name: "HAKMEM_VERBOSE",
        kind: Kind::Switch,
        by_profile: all(0),
        what: "1 says on stderr what every knob is set to and by whom, and, when something is first refused, why and what to do about it.",
        cost: "A few lines at start, and one huge page tried when the first is wished for.",
        when: "When a setting seems to have no effect.",
    },
    Row {
        knob: Knob::Stats,
        name: "HAKMEM_STATS",
        kind: Kind::Words(StatsMode::WORDS),
        by_profile: all(StatsMode::Off as u32),
        what: "Prints the statistics when the process exits: 1 as about ten lines of text, full with a table of the size classes, json as one JSON object.",
        cost: "A walk over all slabs at exit.",
        when: "To see what a program holds and how much of it in huge pages.",
    },
    Row {
        knob: Knob::StatsFile,
        name: "HAKMEM_STATS_FILE",
        kind: Kind::Path,
        by_profile: all(0),
        what: "The file to which HAKMEM_STATS prints, made or overwritten; %p stands for the process id.",
        cost: "None.",
        when: "When stderr is not yours or all descriptors are closed before the end, or with several processes.",
    },
    Row {
        knob: Knob::Deepbind,
        name: "HAKMEM_DEEPBIND",
        kind: Kind::Switch,
        by_profile: all(0),
        what: "Under libhakmem.so, 1 leaves the flag RTLD_DEEPBIND of dlopen and dlmopen alone. 0 drops it: a library that is opened with it would call glibc's malloc and free, also for blocks of hakmem.",
        cost: "With 1 a block that such a library exchanges with the program crashes it. With 0 a name that both define is found in the program first.",
        when: "1 for a library that has names in common with the program and exchanges no blocks with it.",
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
mod tests {
    use super::*;
    use std::format;
    use std::string::{String, ToString};
    use std::vec::Vec;

    #[test]
    fn the_table_is_sound() {
        for row in &TABLE {
            assert!(row.name.starts_with("HAKMEM_") && !row.name.starts_with("HAKMEM_BENCH_"));
            assert!(
                row.by_profile.iter().all(|&raw| row.kind.allows(raw)),
                "{}",
                row.name
            );
            assert!(
                TABLE.iter().filter(|other| other.name == row.name).count() == 1,
                "{} twice",
                row.name
            );
            for text in [row.what, row.cost, row.when] {
                assert!(
                    text.ends_with('.') && !text.contains('|') && !text.contains('\n'),
                    "{}: {text}",
                    row.name
                );
            }
        }
    }

    /// The two tables of env-knobs.md, as they have to read.
    fn documented() -> String {
        let mut text = String::from(
            "| Knob | Values | Default | What it does | What it costs | When to use it |\n",
        );
        text += "|---|---|---|---|---|---|\n";
        for row in &TABLE {
            let default = row.kind.show(row.by_profile[Profile::Balanced as usize]);
            text += &format!(
                "| `{}` | {} | {default} | {} | {} | {} |\n",
                row.name, row.kind, row.what, row.cost, row.when
            );
        }
        text += "\n| Knob | speed | balanced | lean |\n|---|---|---|---|\n";
        for row in TABLE
            .iter()
            .filter(|row| row.by_profile.iter().any(|&raw| raw != row.by_profile[0]))
        {
            let [speed, balanced, lean] = row.by_profile.map(|raw| row.kind.show(raw).to_string());
            text += &format!("| `{}` | {speed} | {balanced} | {lean} |\n", row.name);
        }
        text
    }

    #[test]
    fn env_knobs_md_has_the_rows_of_the_table() {
        let file = include_str!("../../env-knobs.md");
        let rows = |text: &str| {
            text.lines()
                .filter(|l| l.starts_with('|'))
                .map(String::from)
                .collect::<Vec<_>>()
        };
        let expected = documented();
        assert!(
            rows(file) == rows(&expected),
            "env-knobs.md should hold these tables:\n{expected}"
        );
    }
}
