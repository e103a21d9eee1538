//! Settings in code. The environment takes precedence over them, and they over the profile.
#![forbid(unsafe_code)]

use super::parse::AUTO;
use super::table::{COUNT, FILES, Knob};
use super::types::{Hugetlb, Prefault, Profile, StatsMode, ThpPolicy};

/// Settings in code, for `Hakmem::with_config`. Every method is `const`, so that a static can be built with it:
///
/// ```
/// use hakmem_alloc::{Config, Profile, ThpPolicy};
/// const CONFIG: Config = Config::new().profile(Profile::Lean).thp(ThpPolicy::Auto);
/// ```
///
/// The environment ([`env_knobs`](crate::env_knobs)) overrides each setting singly. A number outside the range given there is
/// reported on stderr and ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    raw: [u32; COUNT],
    /// Which of `raw` are set, a bit for each. Of a set of optional numbers twice as large, a start would copy it by the C
    /// library's function, which lies on pages of its own.
    set: u32,
    pub(super) files: [Option<&'static str>; FILES],
}

impl Config {
    /// Nothing set.
    ///
    /// ```
    /// use hakmem_alloc::Config;
    /// assert_eq!(Config::new(), Config::default());
    /// ```
    pub const fn new() -> Self {
        Self {
            raw: [0; COUNT],
            set: 0,
            files: [None; FILES],
        }
    }

    const fn set(mut self, knob: Knob, raw: u32) -> Self {
        self.raw[knob as usize] = raw;
        self.set |= 1 << knob as u32;
        self
    }

    const fn set_file(mut self, knob: Knob, path: &'static str) -> Self {
        if let Some(at) = knob.file() {
            self.files[at] = Some(path);
        }
        self
    }

    /// Sets a number for a knob that may also be "auto". No number may become the raw value of "auto", and no range reaches
    /// this far, so the replaced number stays out of range.
    const fn set_number(self, knob: Knob, number: u32) -> Self {
        self.set(knob, if number == AUTO { AUTO - 1 } else { number })
    }

    /// What the knob is set to.
    pub(super) fn raw(&self, knob: Knob) -> Option<u32> {
        let set = self.set & 1 << knob as u32 != 0;
        set.then_some(self.raw[knob as usize])
    }

    /// `HAKMEM_PROFILE`: the defaults of the settings that are left out.
    ///
    /// ```
    /// use hakmem_alloc::{Config, Hakmem, Profile};
    /// static HAKMEM: Hakmem = Hakmem::with_config(Config::new().profile(Profile::Lean));
    /// ```
    pub const fn profile(self, profile: Profile) -> Self {
        self.set(Knob::Profile, profile as u32)
    }

    /// `HAKMEM_THP`: which memory asks for transparent huge pages.
    ///
    /// ```
    /// use hakmem_alloc::{Config, Hakmem, ThpPolicy};
    /// static HAKMEM: Hakmem = Hakmem::with_config(Config::new().thp(ThpPolicy::Always));
    /// ```
    pub const fn thp(self, thp: ThpPolicy) -> Self {
        self.set(Knob::Thp, thp as u32)
    }

    /// `HAKMEM_HUGETLB`: whether superslabs are requested from the pool of huge pages. Always refused, see [`Hugetlb`].
    ///
    /// ```
    /// use hakmem_alloc::{Config, Hakmem, Hugetlb};
    /// static HAKMEM: Hakmem = Hakmem::with_config(Config::new().hugetlb(Hugetlb::Off));
    /// ```
    pub const fn hugetlb(self, hugetlb: Hugetlb) -> Self {
        self.set(Knob::Hugetlb, hugetlb as u32)
    }

    /// `HAKMEM_SS_PREFAULT`: what is done to a new superslab before it is used.
    ///
    /// ```
    /// use hakmem_alloc::{Config, Hakmem, Prefault};
    /// static HAKMEM: Hakmem = Hakmem::with_config(Config::new().prefault(Prefault::Async));
    /// ```
    pub const fn prefault(self, prefault: Prefault) -> Self {
        self.set(Knob::Prefault, prefault as u32)
    }

    /// `HAKMEM_NO_EXPLICIT_PREFAULT`: turns [`Prefault::Touch`] and [`Prefault::Memset`] off.
    ///
    /// ```
    /// use hakmem_alloc::{Config, Hakmem};
    /// static HAKMEM: Hakmem = Hakmem::with_config(Config::new().no_explicit_prefault(true));
    /// ```
    pub const fn no_explicit_prefault(self, on: bool) -> Self {
        self.set(Knob::NoExplicitPrefault, on as u32)
    }

    /// `HAKMEM_SS_PREWARM`: superslabs taken and populated at start.
    ///
    /// ```
    /// use hakmem_alloc::{Config, Hakmem};
    /// static HAKMEM: Hakmem = Hakmem::with_config(Config::new().prewarm(64));
    /// ```
    pub const fn prewarm(self, superslabs: u32) -> Self {
        self.set(Knob::Prewarm, superslabs)
    }

    /// `HAKMEM_SS_RETAIN_MB`: MiB of freed memory that stay resident for the next use.
    ///
    /// ```
    /// use hakmem_alloc::{Config, Hakmem};
    /// static HAKMEM: Hakmem = Hakmem::with_config(Config::new().retain_mb(16));
    /// ```
    pub const fn retain_mb(self, mb: u32) -> Self {
        self.set_number(Knob::RetainMb, mb)
    }

    /// `HAKMEM_SS_RETAIN_MB=auto`: what stays follows what is in use, also under a profile that sets a number.
    ///
    /// ```
    /// use hakmem_alloc::{Config, Hakmem, Profile};
    /// static HAKMEM: Hakmem = Hakmem::with_config(Config::new().profile(Profile::Speed).retain_auto());
    /// ```
    pub const fn retain_auto(self) -> Self {
        self.set(Knob::RetainMb, AUTO)
    }

    /// `HAKMEM_LARGE_CACHE_MB`: MiB of freed large blocks that stay resident for the next one.
    ///
    /// ```
    /// use hakmem_alloc::{Config, Hakmem};
    /// static HAKMEM: Hakmem = Hakmem::with_config(Config::new().large_cache_mb(16));
    /// ```
    pub const fn large_cache_mb(self, mb: u32) -> Self {
        self.set(Knob::LargeCacheMb, mb)
    }

    /// `HAKMEM_HEAP_CACHE_KB`: KiB of free memory that the heap of one thread may hold.
    ///
    /// ```
    /// use hakmem_alloc::{Config, Hakmem};
    /// static HAKMEM: Hakmem = Hakmem::with_config(Config::new().heap_cache_kb(128));
    /// ```
    pub const fn heap_cache_kb(self, kb: u32) -> Self {
        self.set_number(Knob::HeapCacheKb, kb)
    }

    /// `HAKMEM_HEAP_CACHE_KB=auto`: what a heap may keep follows what the program frees and takes again, also under a
    /// profile that sets a number.
    ///
    /// ```
    /// use hakmem_alloc::{Config, Hakmem, Profile};
    /// static HAKMEM: Hakmem = Hakmem::with_config(Config::new().profile(Profile::Lean).heap_cache_auto());
    /// ```
    pub const fn heap_cache_auto(self) -> Self {
        self.set(Knob::HeapCacheKb, AUTO)
    }

    /// `HAKMEM_PURGE_DELAY_MS`: how long retained memory waits before it goes back.
    ///
    /// ```
    /// use hakmem_alloc::{Config, Hakmem};
    /// static HAKMEM: Hakmem = Hakmem::with_config(Config::new().purge_delay_ms(500));
    /// ```
    pub const fn purge_delay_ms(self, ms: u32) -> Self {
        self.set(Knob::PurgeDelayMs, ms)
    }

    /// `HAKMEM_BACKGROUND`: whether a maintenance thread may be started.
    ///
    /// ```
    /// use hakmem_alloc::{Config, Hakmem};
    /// static HAKMEM: Hakmem = Hakmem::with_config(Config::new().background(false));
    /// ```
    pub const fn background(self, on: bool) -> Self {
        self.set(Knob::Background, on as u32)
    }

    /// `HAKMEM_BACKGROUND=2`: a maintenance thread may be started in a process of one thread as soon as in one of several.
    ///
    /// ```
    /// use hakmem_alloc::{Config, Hakmem};
    /// static HAKMEM: Hakmem = Hakmem::with_config(Config::new().background_alone());
    /// ```
    pub const fn background_alone(self) -> Self {
        self.set(Knob::Background, 2)
    }

    /// `HAKMEM_VERBOSE`: prints every setting on stderr, and why something was refused.
    ///
    /// ```
    /// use hakmem_alloc::{Config, Hakmem};
    /// static HAKMEM: Hakmem = Hakmem::with_config(Config::new().verbose(true));
    /// ```
    pub const fn verbose(self, on: bool) -> Self {
        self.set(Knob::Verbose, on as u32)
    }

    /// `HAKMEM_CHECK_ONE_IN`: one slab in so many is checked for mistakes of the program; 1 checks every block, 0 none.
    ///
    /// ```
    /// use hakmem_alloc::{Config, Hakmem};
    /// static HAKMEM: Hakmem = Hakmem::with_config(Config::new().check_one_in(1));
    /// ```
    pub const fn check_one_in(self, slabs: u32) -> Self {
        self.set(Knob::CheckOneIn, slabs)
    }

    /// `HAKMEM_GUARD_EVERY`: how often a block is guarded against use beyond its end and after its free; 0 means never.
    ///
    /// ```
    /// use hakmem_alloc::{Config, Hakmem};
    /// static HAKMEM: Hakmem = Hakmem::with_config(Config::new().guard_every(0));
    /// ```
    pub const fn guard_every(self, slow_paths: u32) -> Self {
        self.set(Knob::GuardEvery, slow_paths)
    }

    /// `HAKMEM_STATS`: whether statistics are printed at exit, and how.
    ///
    /// ```
    /// use hakmem_alloc::{Config, Hakmem, StatsMode};
    /// static HAKMEM: Hakmem = Hakmem::with_config(Config::new().stats(StatsMode::Text));
    /// ```
    pub const fn stats(self, mode: StatsMode) -> Self {
        self.set(Knob::Stats, mode as u32)
    }

    /// `HAKMEM_STATS_FILE`: the file that statistics go to instead of stderr; `%p` stands for the process id.
    ///
    /// ```
    /// use hakmem_alloc::{Config, Hakmem};
    /// static HAKMEM: Hakmem = Hakmem::with_config(Config::new().stats_file("/tmp/stats-%p"));
    /// ```
    pub const fn stats_file(self, path: &'static str) -> Self {
        self.set_file(Knob::StatsFile, path)
    }

    /// `HAKMEM_REPORT_FILE`: a file that gets the report too if a mistake of the program is found; `%p` stands for the process
    /// id.
    ///
    /// ```
    /// use hakmem_alloc::{Config, Hakmem};
    /// static HAKMEM: Hakmem = Hakmem::with_config(Config::new().report_file("/tmp/report-%p"));
    /// ```
    pub const fn report_file(self, path: &'static str) -> Self {
        self.set_file(Knob::ReportFile, path)
    }
}

impl Default for Config {
    fn default() -> Self {
        Self::new()
    }
}
