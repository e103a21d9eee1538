//! The knobs: read once, before the first mapping, without allocating.
//!
//! The environment takes precedence, then the configuration in code, then the profile. The result is a [`Knobs`]: plain data
//! that the layers above pass down as arguments. A bad value costs one line on stderr and is ignored. Programs with raised
//! privileges (`AT_SECURE`) ignore the environment.

mod config;
mod environ;
mod parse;
mod path;
mod said;
mod table;
mod types;

#[cfg(test)]
mod tests;

use core::cell::UnsafeCell;
use core::fmt;
use core::sync::atomic::{AtomicBool, Ordering};

use spin::once::Once;

use crate::os::findings;
use crate::os::lock::Lock;
use crate::os::message::{self, message};
use crate::os::sys;

pub use config::Config;
pub(crate) use environ::Environ;
pub(crate) use path::PathBytes;
pub use types::{Hugetlb, Prefault, Profile, StatsMode, ThpPolicy};

use parse::AUTO;
use table::{COUNT, FILES, Knob, Row, TABLE};

/// Takes one line, without prefix or line end.
pub(crate) type Report<'a> = &'a mut dyn FnMut(fmt::Arguments<'_>);

/// Where a value came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Environment,
    Code,
    Profile,
}

/// The value of every knob. Invariant: each is within its row's bounds. It is large, and made in its place.
#[cfg_attr(test, derive(Clone, Copy))]
pub(crate) struct Knobs {
    pub(crate) profile: Profile,
    pub(crate) thp: ThpPolicy,
    pub(crate) hugetlb: Hugetlb,
    /// What to do to new superslabs, after `HAKMEM_NO_EXPLICIT_PREFAULT`.
    pub(crate) prefault: Prefault,
    /// Superslabs to take and populate at start.
    pub(crate) prewarm: u32,
    /// MiB of free memory that may stay resident; `None` means the adaptive bound.
    pub(crate) retain_mb: Option<u32>,
    /// Most MiB of freed large blocks that stay resident.
    pub(crate) large_cache_mb: u32,
    /// KiB of free memory that one heap may hold; `None` means the adaptive budget.
    pub(crate) heap_cache_kb: Option<u32>,
    pub(crate) purge_delay_ms: u32,
    pub(crate) background: bool,
    /// Whether a process of one thread has a maintenance thread as early as one of several.
    pub(crate) background_alone: bool,
    pub(crate) verbose: bool,
    pub(crate) stats: StatsMode,
    /// Whether the preloaded library keeps RTLD_DEEPBIND.
    pub(crate) deepbind: bool,
    /// The paths of the knobs that have one, `%p` not yet replaced; `None` means stderr alone.
    files: [Option<PathBytes>; FILES],
    /// One slab in so many is checked; 1 means every block, 0 none.
    pub(crate) check_one_in: u32,
    /// Whether checked blocks are reused late and in random order, and zeroed.
    pub(crate) hardened: bool,
    /// One in so many slow paths of a thread is given a guarded block; 0 means none.
    pub(crate) guard_every: u32,
    raw: [u32; COUNT],
    sources: [Source; COUNT],
}

impl Knobs {
    /// Before [`Knobs::load`].
    const NONE: Knobs = Knobs {
        profile: Profile::Balanced,
        thp: ThpPolicy::Auto,
        hugetlb: Hugetlb::Off,
        prefault: Prefault::Off,
        prewarm: 0,
        retain_mb: None,
        large_cache_mb: 0,
        heap_cache_kb: None,
        purge_delay_ms: 0,
        background: false,
        background_alone: false,
        verbose: false,
        stats: StatsMode::Off,
        deepbind: false,
        files: [None; FILES],
        check_one_in: 0,
        hardened: false,
        guard_every: 0,
        raw: [0; COUNT],
        sources: [Source::Profile; COUNT],
    };

    /// Makes [`Knobs::NONE`] the result of `config` and `env`. `report` is called once for each complaint.
    fn load(&mut self, config: &Config, env: Environ<'_>, report: Report<'_>) {
        let mut said = [None; COUNT];
        let mut coded_files = [None; FILES];
        for (at, path) in config.files.iter().enumerate() {
            if let Some(path) = path {
                coded_files[at] = self.set_file(at, path.as_bytes()).then_some(1);
            }
        }
        first_of_each(&env, &mut |row, value| {
            said[row.knob as usize] = row.kind.parse(value);
            if let Some(at) = row.knob.file() {
                self.set_file(at, value);
            }
        });

        let coded = |row: &Row| match row.knob.file() {
            Some(at) => coded_files[at],
            None => config.raw(row.knob).filter(|&raw| row.kind.allows(raw)),
        };

        let mut profile = Profile::Balanced;
        // The profile's own row comes first, so that the later rows find their column.
        for row in &TABLE {
            let i = row.knob as usize;
            (self.raw[i], self.sources[i]) = match (said[i], coded(row)) {
                (Some(value), _) => (value, Source::Environment),
                (None, Some(value)) => (value, Source::Code),
                (None, None) => (row.by_profile[profile as usize], Source::Profile),
            };
            if row.knob == Knob::Profile {
                profile = Profile::from_raw(self.raw[i]);
            }
        }
        self.set_from_raw();
        self.complain(config, &env, report);
    }

    /// Sets a file, unless `path` cannot be one. Returns whether it can.
    #[cold]
    #[inline(never)]
    fn set_file(&mut self, at: usize, path: &[u8]) -> bool {
        let file = PathBytes::new(path);
        let allowed = file.is_some();
        if allowed {
            self.files[at] = file;
        }
        allowed
    }

    fn set_from_raw(&mut self) {
        let raw = self.raw;
        let value = |knob: Knob| raw[knob as usize];
        let no_explicit_prefault = value(Knob::NoExplicitPrefault) != 0;
        self.profile = Profile::from_raw(value(Knob::Profile));
        self.thp = ThpPolicy::from_raw(value(Knob::Thp));
        self.hugetlb = Hugetlb::from_raw(value(Knob::Hugetlb));
        self.prefault = match Prefault::from_raw(value(Knob::Prefault)) {
            Prefault::Touch | Prefault::Memset if no_explicit_prefault => Prefault::Off,
            other => other,
        };
        self.prewarm = value(Knob::Prewarm);
        self.retain_mb = Some(value(Knob::RetainMb)).filter(|&mb| mb != AUTO);
        self.large_cache_mb = value(Knob::LargeCacheMb);
        self.heap_cache_kb = Some(value(Knob::HeapCacheKb)).filter(|&kb| kb != AUTO);
        self.purge_delay_ms = value(Knob::PurgeDelayMs);
        self.background = value(Knob::Background) != 0;
        self.background_alone = value(Knob::Background) > 1;
        self.verbose = value(Knob::Verbose) != 0;
        self.stats = StatsMode::from_raw(value(Knob::Stats));
        self.deepbind = value(Knob::Deepbind) != 0;
        self.check_one_in = value(Knob::CheckOneIn);
        self.hardened = self.profile == Profile::Hardened;
        self.guard_every = value(Knob::GuardEvery);
    }

    /// The path that statistics go to; `None` means stderr.
    pub(crate) fn stats_file(&self) -> Option<&PathBytes> {
        self.file(Knob::StatsFile)
    }

    /// The path of the file that reports go to as well as to stderr.
    pub(crate) fn report_file(&self) -> Option<&PathBytes> {
        self.file(Knob::ReportFile)
    }

    fn file(&self, knob: Knob) -> Option<&PathBytes> {
        self.files.get(knob.file()?)?.as_ref()
    }
}

/// Of the names of all knobs.
const PREFIX: &[u8] = b"HAKMEM_";
/// Variables of the benchmark harness and of hakmem-run, which are not the allocator's.
const OTHERS: [&[u8]; 2] = [b"HAKMEM_BENCH_", b"HAKMEM_RUN_"];

fn split(entry: &[u8]) -> (&[u8], &[u8]) {
    let end = entry
        .iter()
        .position(|&byte| byte == b'=')
        .unwrap_or(entry.len());
    let (name, rest) = entry.split_at(end);
    (name, rest.get(1..).unwrap_or(&[]))
}

/// Not inlined: it compares with every name.
#[inline(never)]
fn find(name: &[u8]) -> Option<&'static Row> {
    TABLE.iter().find(|row| row.name.as_bytes() == name)
}

/// Calls `visit` with the first entry of every knob, the one that `getenv` would find. Later duplicates have no effect.
fn first_of_each(env: &Environ<'_>, visit: &mut dyn FnMut(&Row, &[u8])) {
    let mut met = [false; COUNT];
    env.each(PREFIX, &mut |entry| {
        let (name, value) = split(entry);
        if let Some(row) = find(name)
            && !core::mem::replace(&mut met[row.knob as usize], true)
        {
            visit(row, value);
        }
    });
}

/// What was read, and the configuration that it was read with.
struct Known {
    config: Config,
    knobs: Knobs,
}

/// Where what is read goes. It is not moved there, since a start would call the C library's `memcpy`, which lies on pages of
/// its own, and use a page more of the stack.
struct Place(UnsafeCell<Known>);

// SAFETY: whoever initialises `KNOBS` is the only one to write, and others read what it leads to.
unsafe impl Sync for Place {}

static PLACE: Place = Place(UnsafeCell::new(Known {
    config: Config::new(),
    knobs: Knobs::NONE,
}));
static KNOBS: Once<&'static Known> = Once::new();
/// Held while the knobs are read, so that no thread spins on `KNOBS`, and no fork leaves it half done in the child.
static READING: Lock = Lock::new();
/// Whether a second, different configuration was reported. Once is enough.
static MENTIONED: AtomicBool = AtomicBool::new(false);

/// The knobs of this process. The first call reads them, with `config` as the program's settings, and must come before the
/// first mapping. A later call with another configuration changes nothing. Leaves `errno` alone.
pub(crate) fn init(config: &Config) -> &'static Knobs {
    let known = match KNOBS.get() {
        Some(known) => known,
        None => sys::preserve_errno(|| {
            let _reading = READING.lock();
            KNOBS.call_once(|| read(config))
        }),
    };
    let knobs = &known.knobs;
    // Relaxed: the flag only limits the number of messages.
    if knobs.verbose && known.config != *config && !MENTIONED.swap(true, Ordering::Relaxed) {
        message!(
            "another allocator static asks for other settings; those of the first one used hold"
        );
    }
    knobs
}

/// Called once, by whoever initialises [`KNOBS`].
#[cold]
fn read(config: &Config) -> &'static Known {
    // SAFETY: nothing else refers to it before this returns.
    let known = unsafe { &mut *PLACE.0.get() };
    known.config = *config;
    let knobs = &mut known.knobs;
    // The program cannot have changed its descriptors before its first allocation.
    message::remember_stderr();
    let mut say = |line: fmt::Arguments<'_>| message!("{line}");
    let privileged = sys::getauxval(libc::AT_SECURE as usize) != 0;
    Environ::of_process(privileged, |env| knobs.load(config, env, &mut say));
    if knobs.verbose {
        knobs.print(&mut say);
        findings::listen();
    } else if knobs.hugetlb != Hugetlb::Off {
        findings::listen_for_huge_pages();
    }
    known
}

/// The knobs after [`init`]. If it was not called, those of a program that sets nothing in code.
pub(crate) fn get() -> &'static Knobs {
    match KNOBS.get() {
        Some(known) => &known.knobs,
        None => init(&Config::new()),
    }
}

/// The knobs, if they were read. Takes no lock.
pub(crate) fn known() -> Option<&'static Knobs> {
    KNOBS.get().map(|known| &known.knobs)
}

/// For a fork: the lock under which the knobs are read.
pub(crate) fn fork_lock() -> &'static Lock {
    &READING
}
