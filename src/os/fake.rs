//! The contract of [`super::sys`] with injected failures, for unit tests only: counts the calls of the calling thread and fails
//! the one it was told to fail. All other calls go to the real kernel, so a test sees real mappings after an injected failure.

use core::cell::Cell;
use core::ffi::CStr;
use core::sync::atomic::AtomicU32;

use super::abi::{Errno, FileIdentity};
use super::linux;

macro_rules! calls {
    ($($kind:ident),* $(,)?) => {
        /// The kinds of calls that are counted and can be failed.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub(crate) enum Call { $($kind),* }
        const KINDS: usize = [$(Call::$kind),*].len();
    };
}

calls!(
    Mmap, Munmap, Mprotect, Madvise, Mremap, Mincore, Mlock, Munlock, Msync, Name, Open, Read,
    Write, Close, Fstat, Ftruncate, Memfd, Eventfd, Ioctl, Peek, FutexWait, FutexWake, Getcpu,
);

/// Resident bytes of mapped memory, asked of the kernel and not counted.
pub(crate) fn resident(addr: usize, len: usize) -> usize {
    let mut pages = std::vec![0; len / 4096];
    linux::mincore(addr, len, &mut pages).expect("mapped");
    // With larger OS pages the rest stays 0.
    pages.iter().filter(|page| **page & 1 != 0).count() * linux::page_size()
}

/// Minor faults of the calling thread so far.
pub(crate) fn faults() -> i64 {
    // SAFETY: an all-zero rusage is valid, and the call fills it.
    unsafe {
        let mut usage: libc::rusage = core::mem::zeroed();
        libc::getrusage(libc::RUSAGE_THREAD, &mut usage);
        usage.ru_minflt
    }
}

/// How often the calling thread made each kind of call since [`clear`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Counts([u32; KINDS]);

impl Counts {
    pub(crate) fn of(&self, kind: Call) -> u32 {
        self.0[kind as usize]
    }

    pub(crate) fn total(&self) -> u32 {
        self.0.iter().sum()
    }
}

#[derive(Clone, Copy)]
struct Plan {
    kind: Option<Call>,
    /// Counts down to the call that fails.
    remaining: u32,
    every_later_one_too: bool,
    errno: Errno,
}

std::thread_local! {
    static PLAN: Cell<Option<Plan>> = const { Cell::new(None) };
    static COUNTS: Cell<Counts> = const { Cell::new(Counts([0; KINDS])) };
    static MISPLACED: Cell<u32> = const { Cell::new(0) };
    static NODE: Cell<Option<usize>> = const { Cell::new(None) };
    static ADVISED: Cell<[u32; 32]> = const { Cell::new([0; 32]) };
}

fn plan(kind: Option<Call>, n: u32, every_later_one_too: bool, errno: Errno) {
    assert!(n >= 1, "calls are counted from 1");
    PLAN.set(Some(Plan {
        kind,
        remaining: n,
        every_later_one_too,
        errno,
    }));
}

/// Fails the `n`-th call from now on, of whatever kind, and no other.
pub(crate) fn fail_nth(n: u32, errno: Errno) {
    plan(None, n, false, errno);
}

/// Fails the `n`-th call from now on and all after it.
pub(crate) fn fail_from(n: u32, errno: Errno) {
    plan(None, n, true, errno);
}

/// Fails the `n`-th call of one kind and no other.
pub(crate) fn fail_kind(kind: Call, n: u32, errno: Errno) {
    plan(Some(kind), n, false, errno);
}

/// Fails the `n`-th call of one kind and all of that kind after it.
pub(crate) fn fail_kind_from(kind: Call, n: u32, errno: Errno) {
    plan(Some(kind), n, true, errno);
}

/// Makes the next `n` anonymous mappings come back one OS page off any larger alignment and far from their hint, as a kernel
/// may.
pub(crate) fn misplace(n: u32) {
    MISPLACED.set(n);
}

/// Names the only test that a process was started to run.
const ALONE: &str = "ALONE_IN_HAKMEM_UNIT_TEST";
/// Holds the list of nodes that a test process pretends to have, in the kernel's format. Pools belong to the process, so the
/// tests that need nodes run themselves again in a process of their own.
pub(crate) const NODES: &str = "NODES_OF_HAKMEM_UNIT_TEST";

/// The list in [`NODES`].
pub(crate) fn nodes() -> Option<std::string::String> {
    std::env::var(NODES).ok()
}

/// [`alone`] in a process that pretends to have the nodes in `list`.
pub(crate) fn alone_with_nodes(name: &str, list: &str) -> bool {
    again(name, &[(NODES, list)])
}

/// Runs the unit test of this name again in a process of its own, where no other test purges, limits or lets time pass, and
/// asserts that it passes. Returns true in that process, where the test has to do its work.
pub(crate) fn alone(name: &str) -> bool {
    again(name, &[])
}

fn again(name: &str, variables: &[(&str, &str)]) -> bool {
    if std::env::var(ALONE).is_ok_and(|alone| alone == name) {
        return true;
    }
    let me = std::env::current_exe().expect("the path of this program");
    // If cargo was told of an emulator for this machine, the process runs in it.
    let arch = std::env::consts::ARCH.to_uppercase();
    let runner = std::env::var(std::format!("CARGO_TARGET_{arch}_UNKNOWN_LINUX_GNU_RUNNER"));
    let words = runner.as_deref().unwrap_or_default().split_whitespace();
    let mut words = words.map(std::ffi::OsStr::new).chain([me.as_os_str()]);
    let run = std::process::Command::new(words.next().expect("the program at least"))
        .args(words)
        .args([name, "--exact", "--nocapture", "--test-threads=1"])
        .env(ALONE, name)
        // Figures are exact here: no checked slab comes between the others.
        .env("HAKMEM_CHECK_ONE_IN", "0")
        .envs(variables.iter().copied())
        .output()
        .expect("it starts");
    let said = std::string::String::from_utf8_lossy(&run.stdout);
    assert!(
        run.status.success() && said.contains(" 1 passed"),
        "{name}: {}\n{said}\n{}",
        run.status,
        std::string::String::from_utf8_lossy(&run.stderr)
    );
    false
}

/// Makes the calling thread run on the node with this id from now on.
pub(crate) fn run_on(id: usize) {
    NODE.set(Some(id));
}

/// The node set by [`run_on`], else the real one.
pub(crate) fn current_node() -> usize {
    // A failed call means node 0, as with the kernel.
    match (enter(Call::Getcpu), NODE.get()) {
        (Err(_), _) => 0,
        (Ok(()), Some(id)) => id,
        (Ok(()), None) => linux::current_node(),
    }
}

/// Clears the plans and counts of the calling thread.
pub(crate) fn clear() {
    PLAN.set(None);
    MISPLACED.set(0);
    COUNTS.set(Counts([0; KINDS]));
    ADVISED.set([0; 32]);
}

/// How often the calling thread gave this advice since [`clear`].
pub(crate) fn advised(advice: i32) -> u32 {
    ADVISED.get()[advice as usize]
}

/// The calls of the calling thread since [`clear`].
pub(crate) fn calls() -> Counts {
    COUNTS.get()
}

/// Counts the call, and fails it if that is planned.
fn enter(kind: Call) -> Result<(), Errno> {
    let mut counts = COUNTS.get();
    counts.0[kind as usize] += 1;
    COUNTS.set(counts);
    let Some(mut p) = PLAN.get() else {
        return Ok(());
    };
    if p.kind.is_some_and(|k| k != kind) {
        return Ok(());
    }
    if p.remaining > 1 {
        p.remaining -= 1;
        PLAN.set(Some(p));
        return Ok(());
    }
    if !p.every_later_one_too {
        PLAN.set(None);
    }
    // SAFETY: errno of this thread.
    unsafe { *libc::__errno_location() = p.errno.0 };
    Err(p.errno)
}

pub(crate) unsafe fn mmap(hint: usize, len: usize, prot: i32, flags: i32) -> Result<usize, Errno> {
    enter(Call::Mmap)?;
    if MISPLACED.get() > 0 && flags & libc::MAP_FIXED == 0 {
        MISPLACED.set(MISPLACED.get() - 1);
        let page = linux::page_size();
        let huge = 2 << 20;
        // SAFETY: a fresh mapping; only the part that is handed out stays.
        unsafe {
            let whole = linux::mmap(
                0,
                len + 2 * huge,
                prot,
                flags & !super::abi::MAP_FIXED_NOREPLACE,
            )?;
            let start = (whole & !(huge - 1)) + huge + page;
            linux::munmap(whole, start - whole)?;
            linux::munmap(start + len, whole + len + 2 * huge - (start + len))?;
            return Ok(start);
        }
    }
    // SAFETY: as the caller promises.
    unsafe { linux::mmap(hint, len, prot, flags) }
}

pub(crate) unsafe fn mmap_fd(
    hint: usize,
    len: usize,
    prot: i32,
    flags: i32,
    fd: i32,
    offset: u64,
) -> Result<usize, Errno> {
    enter(Call::Mmap)?;
    // SAFETY: as the caller promises.
    unsafe { linux::mmap_fd(hint, len, prot, flags, fd, offset) }
}

pub(crate) unsafe fn munmap(addr: usize, len: usize) -> Result<(), Errno> {
    enter(Call::Munmap)?;
    // SAFETY: as the caller promises.
    unsafe { linux::munmap(addr, len) }
}

pub(crate) unsafe fn mprotect(addr: usize, len: usize, prot: i32) -> Result<(), Errno> {
    enter(Call::Mprotect)?;
    // SAFETY: as the caller promises.
    unsafe { linux::mprotect(addr, len, prot) }
}

pub(crate) unsafe fn madvise(addr: usize, len: usize, advice: i32) -> Result<(), Errno> {
    let mut advised = ADVISED.get();
    if let Some(count) = advised.get_mut(advice as usize) {
        *count += 1;
        ADVISED.set(advised);
    }
    enter(Call::Madvise)?;
    // SAFETY: as the caller promises.
    unsafe { linux::madvise(addr, len, advice) }
}

/// An injected failure with `MREMAP_FIXED` unmaps the target first, as the kernel does before most of its failures.
pub(crate) unsafe fn mremap(
    old: usize,
    old_len: usize,
    new_len: usize,
    flags: i32,
    new_addr: usize,
) -> Result<usize, Errno> {
    if let Err(e) = enter(Call::Mremap) {
        if flags & libc::MREMAP_FIXED != 0 {
            // SAFETY: the caller owns the target and gave it away with this call.
            unsafe { linux::munmap(new_addr, new_len) }?;
        }
        return Err(e);
    }
    // SAFETY: as the caller promises.
    unsafe { linux::mremap(old, old_len, new_len, flags, new_addr) }
}

pub(crate) unsafe fn ioctl(
    fd: i32,
    request: u64,
    arg: *mut core::ffi::c_void,
) -> Result<usize, Errno> {
    enter(Call::Ioctl)?;
    // SAFETY: as the caller promises.
    unsafe { linux::ioctl(fd, request, arg) }
}

macro_rules! forward {
    ($($kind:ident => fn $name:ident($($arg:ident: $ty:ty),*) -> $out:ty;)*) => {
        $(pub(crate) fn $name($($arg: $ty),*) -> Result<$out, Errno> {
            enter(Call::$kind)?;
            linux::$name($($arg),*)
        })*
    };
}

forward! {
    Mincore => fn mincore(addr: usize, len: usize, out: &mut [u8]) -> ();
    Mlock => fn mlock(addr: usize, len: usize) -> ();
    Munlock => fn munlock(addr: usize, len: usize) -> ();
    Msync => fn msync(addr: usize, len: usize, flags: i32) -> ();
    Name => fn name_range(addr: usize, len: usize, name: &CStr) -> ();
    Open => fn open(path: &CStr, flags: i32, mode: u32) -> i32;
    Read => fn read(fd: i32, buf: &mut [u8]) -> usize;
    Write => fn write(fd: i32, bytes: &[u8]) -> usize;
    Close => fn close(fd: i32) -> ();
    Fstat => fn fstat(fd: i32) -> FileIdentity;
    Ftruncate => fn ftruncate(fd: i32, len: u64) -> ();
    Memfd => fn memfd_create(name: &CStr, flags: u32) -> i32;
    Peek => fn peek(own: u32, addr: usize, out: &mut [u8]) -> ();
    Eventfd => fn eventfd(initial: u32, flags: i32) -> i32;
    FutexWait => fn futex_wait(word: &AtomicU32, expected: u32, timeout_ms: Option<u64>) -> ();
    FutexWake => fn futex_wake(word: &AtomicU32, n: u32) -> usize;
}

pub(crate) use linux::{cpu_count, getauxval, rlimit_as};
