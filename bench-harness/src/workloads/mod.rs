//! The workloads, one file each, and the list that makes them commands, orders and JSON.

pub mod batch;
pub mod burst;
pub mod cache_sets;
pub mod cold_start;
pub mod false_sharing;
pub mod fragmentation;
pub mod grow_vec;
pub mod hand_over;
pub mod huge;
pub mod huge_loop;
pub mod idle_return;
pub mod larson;
pub mod live_set;
pub mod pair;
pub mod producer_consumer;
pub mod program;
pub mod random_mixed;
pub mod replace;
pub mod thread_churn;

use clap::Parser;
use serde::{Deserialize, Serialize};

use crate::child::Bench;
use crate::fail::Fail;
use crate::memory::Slot;
use crate::raw::{ALIGN, RawAllocator};
use crate::record::Series;

/// A workload with its parameters.
pub trait Workload {
    /// The name in commands and reports.
    const NAME: &'static str;

    /// Whether it is a real program, in executables of its own; see [`crate::programs`].
    const IS_PROGRAM: bool = false;

    /// What the figure that the workload notes, if it does, has to reach with our allocator; see
    /// [`Bench::note_figure`].
    const BOUND: Option<Bound> = None;

    /// Fills in what comes from the environment and refuses what cannot be run, in the parent.
    fn check(&mut self) -> Result<(), Fail>;

    /// The parameters in a few words, for tables.
    fn title(&self) -> String;

    /// Roughly the most memory one run holds, so that the host's memory can be warmed before.
    fn peak_bytes(&self) -> u64;

    /// Operations of the timed part of the warm series.
    fn ops(&self) -> u64;

    /// Makes the timed part that many times as long, or as near as can be had.
    fn scale(&mut self, share: f64);

    /// Does it, in the child.
    fn run(&self, bench: &mut Bench) -> Result<(), String>;
}

/// A figure beside throughput, and what is asked of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bound {
    /// The limit.
    pub value: f64,
    /// Whether the figure must not be above it; else not below.
    pub is_most: bool,
    /// What the figure is, after its value.
    pub unit: &'static str,
}

impl Bound {
    /// The figure must not be above `value`.
    pub const fn at_most(value: f64, unit: &'static str) -> Self {
        Self {
            value,
            is_most: true,
            unit,
        }
    }

    /// The figure must not be below `value`.
    pub const fn at_least(value: f64, unit: &'static str) -> Self {
        Self {
            value,
            is_most: false,
            unit,
        }
    }

    /// Whether a figure keeps within it.
    pub fn holds(&self, figure: f64) -> bool {
        if self.is_most {
            figure <= self.value
        } else {
            figure >= self.value
        }
    }
}

impl std::fmt::Display for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let word = if self.is_most { "at most" } else { "at least" };
        write!(f, "{word} {}", self.value)
    }
}

macro_rules! workloads {
    ($($(#[$doc:meta])* $variant:ident($params:ty)),* $(,)?) => {
        /// Any workload with its parameters; in JSON `"workload": name, "params": {…}`.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "workload", content = "params", rename_all = "kebab-case")]
        pub enum Spec {
            $($(#[$doc])* $variant($params),)*
        }

        /// The command of each workload.
        #[derive(Debug, clap::Subcommand)]
        pub enum WorkloadCommand {
            $($(#[$doc])* $variant(crate::options::WithOptions<$params>),)*
        }

        impl WorkloadCommand {
            /// The workload and the options that came with it.
            pub fn split(self) -> (Spec, crate::options::RunOptions) {
                match self {
                    $(Self::$variant(both) => (Spec::$variant(both.params), both.options),)*
                }
            }
        }

        impl WorkloadCommand {
            /// The names of all workloads.
            pub fn names() -> Vec<String> {
                vec![$(<$params as Workload>::NAME.to_owned(),)*]
            }
        }

        impl Spec {
            /// The name in commands and reports.
            pub fn name(&self) -> &'static str {
                match self {
                    $(Self::$variant(_) => <$params as Workload>::NAME,)*
                }
            }

            /// See [`Workload::IS_PROGRAM`].
            pub fn is_program(&self) -> bool {
                match self {
                    $(Self::$variant(_) => <$params as Workload>::IS_PROGRAM,)*
                }
            }

            /// See [`Workload::BOUND`].
            pub fn bound(&self) -> Option<Bound> {
                match self {
                    $(Self::$variant(_) => <$params as Workload>::BOUND,)*
                }
            }

            /// See [`Workload::check`].
            pub fn check(&mut self) -> Result<(), Fail> {
                match self {
                    $(Self::$variant(w) => w.check(),)*
                }
            }

            /// See [`Workload::title`].
            pub fn title(&self) -> String {
                match self {
                    $(Self::$variant(w) => w.title(),)*
                }
            }

            /// See [`Workload::peak_bytes`].
            pub fn peak_bytes(&self) -> u64 {
                match self {
                    $(Self::$variant(w) => w.peak_bytes(),)*
                }
            }

            /// See [`Workload::ops`].
            pub fn ops(&self) -> u64 {
                match self {
                    $(Self::$variant(w) => w.ops(),)*
                }
            }

            /// See [`Workload::scale`].
            pub fn scale(&mut self, share: f64) {
                match self {
                    $(Self::$variant(w) => w.scale(share),)*
                }
            }

            /// See [`Workload::run`].
            pub fn run(&self, bench: &mut Bench) -> Result<(), String> {
                match self {
                    $(Self::$variant(w) => w.run(bench),)*
                }
            }
        }
    };
}

workloads! {
    /// The benchmark of the report: random slots, allocated when empty and freed when full
    RandomMixed(random_mixed::RandomMixed),
    /// One allocation with its free, again and again
    Pair(pair::Pair),
    /// Allocate n blocks, then free all n: first in first out, last in first out, or at random
    Batch(batch::Batch),
    /// A large live set, one random block replaced at a time
    Replace(replace::Replace),
    /// A few blocks of 5 to 25 MiB, one replaced at random
    Huge(huge::Huge),
    /// One thread allocates, another frees
    ProducerConsumer(producer_consumer::ProducerConsumer),
    /// Threads that hand their live blocks on to other threads
    HandOver(hand_over::HandOver),
    /// Server threads that replace blocks, start a successor and end
    Larson(larson::Larson),
    /// Many blocks of many sizes, all freed, again
    Burst(burst::Burst),
    /// Short-lived threads
    ThreadChurn(thread_churn::ThreadChurn),
    /// One hot object in each of many size classes, touched in turn
    CacheSets(cache_sets::CacheSets),
    /// Small objects written by different threads
    FalseSharing(false_sharing::FalseSharing),
    /// A vector pushed to until it holds 1 GiB
    GrowVec(grow_vec::GrowVec),
    /// Blocks of 1 to 64 MiB, every OS page written
    HugeLoop(huge_loop::HugeLoop),
    /// Grow, free all but every n-th block, grow with other sizes
    Fragmentation(fragmentation::Fragmentation),
    /// From the start of the process to a thousand allocations
    ColdStart(cold_start::ColdStart),
    /// Memory held 0, 1 and 5 seconds after a peak
    IdleReturn(idle_return::IdleReturn),
    /// Real program: parse and print a JSON document of 50 MB with serde_json (needs programs build)
    ProgramJson(program::ProgramJson),
    /// Real program: search a log with regex (needs programs build)
    ProgramRegex(program::ProgramRegex),
    /// Real program: build and query an index of HashMap and BTreeMap (needs programs build)
    ProgramIndex(program::ProgramIndex),
    /// Real program: decode, scale and encode pictures with image on several threads (needs programs build)
    ProgramImage(program::ProgramImage),
    /// Real program: a tokio server under load on loopback (needs programs build)
    ProgramServer(program::ProgramServer),
    /// Real program: an embedded store, redb, filled and queried (needs programs build)
    ProgramStore(program::ProgramStore),
}

impl Spec {
    /// The two cases a bare `bench-harness` runs: the report's and the reference program's default.
    pub fn report_cases() -> Vec<Spec> {
        vec![
            Spec::RandomMixed(random_mixed::RandomMixed::new(1_000_000, 256, 42)),
            Spec::RandomMixed(random_mixed::RandomMixed::new(10_000_000, 8192, 1_234_567)),
        ]
    }

    /// Every workload at its default size, as `bench-harness all` runs them.
    pub fn all_cases() -> Vec<Spec> {
        WorkloadCommand::names()
            .into_iter()
            .filter_map(|name| Self::parse(&[&name]))
            .collect()
    }

    /// Whether it can be run with that allocator in that series: real programs need a real allocator, and what they work
    /// on is made before the clock starts.
    pub fn takes(&self, allocator: &str, series: Series) -> bool {
        !self.is_program() || (allocator != "null" && series == Series::Warm)
    }

    /// The workload a command line would give.
    pub fn parse(words: &[&str]) -> Option<Spec> {
        #[derive(clap::Parser)]
        struct Line {
            #[command(subcommand)]
            workload: WorkloadCommand,
        }
        let line = Line::try_parse_from(std::iter::once(&"bench-harness").chain(words)).ok()?;
        Some(line.workload.split().0)
    }
}

/// Refuses no threads at all, and more than a machine can be asked for.
pub fn check_threads(threads: usize) -> Result<(), Fail> {
    if !(1..=4096).contains(&threads) {
        return Err(Fail::usage(format!(
            "--threads {threads}: expected 1 to 4096"
        )));
    }
    Ok(())
}

/// How a title mentions threads: not at all when there is one.
fn threads_title(threads: usize) -> String {
    if threads == 1 {
        String::new()
    } else {
        format!(", {threads} threads")
    }
}

/// Refuses a size range no allocator can serve.
pub fn check_sizes(min: usize, max: usize) -> Result<(), Fail> {
    const LIMIT: usize = 1 << 40;
    if min == 0 || min > max || max > LIMIT {
        return Err(Fail::usage(format!(
            "sizes {min} to {max}: expected at least 1, at most {LIMIT}, and the smallest not above the largest"
        )));
    }
    Ok(())
}

/// A count made that many times as large, at least 1.
fn scaled(count: u64, share: f64) -> u64 {
    ((count as f64 * share).round() as u64).max(1)
}

/// Refuses a count of zero.
pub fn check_positive(what: &str, value: u64) -> Result<(), Fail> {
    if value == 0 {
        return Err(Fail::usage(format!("{what} 0: expected at least 1")));
    }
    Ok(())
}

/// Fills blocks at both ends and checks them when they are freed, outside the clock.
#[derive(Debug, Default)]
pub struct Checker {
    first_error: Option<String>,
}

impl Checker {
    /// A fresh block for slot `i`, stamped with the slot's number at both ends.
    pub fn fill(&mut self, alloc: &RawAllocator, size: usize, i: usize) -> Slot {
        let ptr = alloc.alloc(size, i);
        if !ptr.is_null() {
            if !(ptr as usize).is_multiple_of(ALIGN) {
                self.fail(format!(
                    "block {ptr:p} of {size} bytes is not aligned to {ALIGN}"
                ));
            }
            // SAFETY: the block has `size` bytes, at least one.
            unsafe {
                ptr.write(i as u8);
                ptr.add(size - 1).write(i as u8);
            }
        }
        Slot { ptr, size }
    }

    /// Checks the stamps of slot `i` and frees its block; an empty slot is left alone.
    pub fn free(&mut self, alloc: &RawAllocator, slot: &mut Slot, i: usize) {
        if slot.ptr.is_null() {
            return;
        }
        // SAFETY: the block has `size` bytes, is alive, and is forgotten here.
        unsafe {
            let ends = (slot.ptr.read(), slot.ptr.add(slot.size - 1).read());
            if ends != (i as u8, i as u8) {
                self.fail(format!(
                    "block {:p} of {} bytes lost its contents",
                    slot.ptr, slot.size
                ));
            }
            alloc.dealloc(slot.ptr, slot.size);
        }
        slot.ptr = std::ptr::null_mut();
    }

    /// Notes an error; only the first is reported.
    pub fn fail(&mut self, error: String) {
        self.first_error.get_or_insert(error);
    }

    /// The first thing that was wrong.
    pub fn verdict(self) -> Result<(), String> {
        self.first_error
            .map_or(Ok(()), |e| Err(format!("verification failed: {e}")))
    }
}
