//! What a program sets in code. The environment has the last word over it, the profile the next.
#![forbid(unsafe_code)]

use super::parse::AUTO;
use super::table::{COUNT, Knob};
use super::types::{Hugetlb, Prefault, Profile, StatsMode, ThpPolicy};

/// Settings in code, for `Hakmem::with_config`. Every method is `const`, so that a static can be built with it:
///
/// ```
/// use hakmem_alloc::{Config, Profile, ThpPolicy};
/// const CONFIG: Config = Config::new().profile(Profile::Lean).thp(ThpPolicy::Auto);
/// ```
///
/// The environment (env-knobs.md) overrides each setting singly. A number outside the range that env-knobs.md
/// gives is reported on stderr and left out. Where a process has several allocator statics, the first one that
/// is used decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    pub(super) raw: [Option<u32>; COUNT],
    pub(super) stats_file: Option<&'static str>,
}

impl Config {
    /// Nothing set.
    pub const fn new() -> Self {
        Self {
            raw: [None; COUNT],
            stats_file: None,
        }
    }

    const fn set(mut self, knob: Knob, raw: u32) -> Self {
        self.raw[knob as usize] = Some(raw);
        self
    }

    /// A number for a knob that may also be "auto", whose raw value no number may become: no range reaches this far, so the
    /// number stays out of range.
    const fn set_number(self, knob: Knob, number: u32) -> Self {
        self.set(knob, if number == AUTO { AUTO - 1 } else { number })
    }

    /// `HAKMEM_PROFILE`: what the settings left out aim at.
    pub const fn profile(self, profile: Profile) -> Self {
        self.set(Knob::Profile, profile as u32)
    }

    /// `HAKMEM_THP`: which superslabs ask for transparent huge pages.
    pub const fn thp(self, thp: ThpPolicy) -> Self {
        self.set(Knob::Thp, thp as u32)
    }

    /// `HAKMEM_HUGETLB`: whether superslabs are wished from the pool of huge pages; refused, see [`Hugetlb`].
    pub const fn hugetlb(self, hugetlb: Hugetlb) -> Self {
        self.set(Knob::Hugetlb, hugetlb as u32)
    }

    /// `HAKMEM_SS_PREFAULT`: what is done to a new superslab before it is used.
    pub const fn prefault(self, prefault: Prefault) -> Self {
        self.set(Knob::Prefault, prefault as u32)
    }

    /// `HAKMEM_NO_EXPLICIT_PREFAULT`: turns [`Prefault::Touch`] and [`Prefault::Memset`] off.
    pub const fn no_explicit_prefault(self, on: bool) -> Self {
        self.set(Knob::NoExplicitPrefault, on as u32)
    }

    /// `HAKMEM_SS_PREWARM`: superslabs taken and populated at start.
    pub const fn prewarm(self, superslabs: u32) -> Self {
        self.set(Knob::Prewarm, superslabs)
    }

    /// `HAKMEM_SS_RETAIN_MB`: MiB of freed memory that stay resident for the next use.
    pub const fn retain_mb(self, mb: u32) -> Self {
        self.set_number(Knob::RetainMb, mb)
    }

    /// `HAKMEM_SS_RETAIN_MB=auto`: what stays follows what is in use, also under a profile that sets a number.
    pub const fn retain_auto(self) -> Self {
        self.set(Knob::RetainMb, AUTO)
    }

    /// `HAKMEM_HUGE_CACHE_MB`: MiB of freed huge blocks kept mapped for the next one.
    pub const fn huge_cache_mb(self, mb: u32) -> Self {
        self.set(Knob::HugeCacheMb, mb)
    }

    /// `HAKMEM_HEAP_CACHE_KB`: KiB of free blocks that the heap of one thread may keep beside its slabs.
    pub const fn heap_cache_kb(self, kb: u32) -> Self {
        self.set_number(Knob::HeapCacheKb, kb)
    }

    /// `HAKMEM_HEAP_CACHE_KB=auto`: what a heap may keep follows what the program frees and takes again, also under a
    /// profile that sets a number.
    pub const fn heap_cache_auto(self) -> Self {
        self.set(Knob::HeapCacheKb, AUTO)
    }

    /// `HAKMEM_PURGE_DELAY_MS`: how long retained memory waits before it goes back.
    pub const fn purge_delay_ms(self, ms: u32) -> Self {
        self.set(Knob::PurgeDelayMs, ms)
    }

    /// `HAKMEM_BACKGROUND`: whether a maintenance thread may be started.
    pub const fn background(self, on: bool) -> Self {
        self.set(Knob::Background, on as u32)
    }

    /// `HAKMEM_BACKGROUND=2`: a maintenance thread may be started in a process of one thread as soon as in one of several.
    pub const fn background_alone(self) -> Self {
        self.set(Knob::Background, 2)
    }

    /// `HAKMEM_VERBOSE`: says on stderr what was decided and why.
    pub const fn verbose(self, on: bool) -> Self {
        self.set(Knob::Verbose, on as u32)
    }

    /// `HAKMEM_STATS`: whether statistics are printed at exit, and how.
    pub const fn stats(self, mode: StatsMode) -> Self {
        self.set(Knob::Stats, mode as u32)
    }

    /// `HAKMEM_STATS_FILE`: where they go instead of stderr; `%p` stands for the process id.
    pub const fn stats_file(mut self, path: &'static str) -> Self {
        self.stats_file = Some(path);
        self
    }
}

impl Default for Config {
    fn default() -> Self {
        Self::new()
    }
}
