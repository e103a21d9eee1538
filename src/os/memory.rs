//! How much memory may still be populated before the kernel kills a process for it.
//!
//! It is the smaller of what the machine has available (`MemAvailable`) and what the control groups of this process leave, less
//! a margin. Both are read from /proc and /sys into buffers on the stack.

use crate::base::tuning::budget::{HOLDS_MS, MARGIN, MARGIN_SHARE};
use core::ffi::CStr;
use core::fmt::Write;
use core::sync::atomic::Ordering::Relaxed;
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};

use super::clock::now_ms;
use super::linux;
use super::message::Line;
use super::sys;

/// Bytes that may be populated now; `usize::MAX` if nothing limits them.
pub(crate) fn populate_budget() -> usize {
    sys::preserve_errno(|| {
        let available = machine_available().min(cgroup_available());
        if available == usize::MAX {
            return available;
        }
        available.saturating_sub((available / MARGIN_SHARE).max(MARGIN))
    })
}

/// Whether `len` more bytes may be populated. If so, they count as taken.
///
/// Reading the budget costs as much as populating a huge page, so a reading holds for a while, less what has been taken since.
pub(crate) fn allow_populate(len: usize) -> bool {
    // The budget is a guess about other processes in any case. Two threads that race here may both read it anew, or together
    // take a little too much, so Relaxed.
    static LEFT: AtomicUsize = AtomicUsize::new(0);
    static READ_AT_MS: AtomicU64 = AtomicU64::new(0);
    let take = |left: usize| left.checked_sub(len);
    let now = now_ms();
    if now.wrapping_sub(READ_AT_MS.load(Relaxed)) < HOLDS_MS
        && LEFT.fetch_update(Relaxed, Relaxed, take).is_ok()
    {
        return true;
    }
    LEFT.store(populate_budget(), Relaxed);
    READ_AT_MS.store(now, Relaxed);
    LEFT.fetch_update(Relaxed, Relaxed, take).is_ok()
}

/// Only a hint, so Relaxed.
static ADDRESSES_ARE_LIMITED: AtomicBool = AtomicBool::new(false);

/// Records whether the program has a limit on address space: on all of it, which the caller passes, or on writable memory. It
/// is read at start, because later a filter of system calls may end a program that asks.
pub(crate) fn note_limits(address_limit: Option<usize>) {
    let limited = address_limit.is_some() || linux::limit_of(libc::RLIMIT_DATA).is_some();
    ADDRESSES_ARE_LIMITED.store(limited, Relaxed);
}

/// Whether the program had a limit at its first allocation.
pub(crate) fn addresses_are_limited() -> bool {
    ADDRESSES_ARE_LIMITED.load(Relaxed)
}

pub(super) fn machine_available() -> usize {
    let mut buf = [0u8; 1024];
    let text = file(c"/proc/meminfo", &mut buf);
    match field(text, b"MemAvailable:") {
        Some(kib) => kib.saturating_mul(1024),
        None => usize::MAX,
    }
}

/// The tightest bound of the groups from this process's own up to the root.
pub(super) fn cgroup_available() -> usize {
    let mut buf = [0u8; 1024];
    let text = file(c"/proc/self/cgroup", &mut buf);
    let mut tightest = usize::MAX;
    for line in text.split(|b| *b == b'\n') {
        // "0::/path" is the unified hierarchy, "4:memory:/path" a separate memory controller.
        let mut parts = line.splitn(3, |b| *b == b':');
        let (Some(_), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next())
        else {
            continue;
        };
        let files = if controllers.is_empty() {
            &UNIFIED
        } else if controllers.split(|b| *b == b',').any(|c| c == b"memory") {
            &LEGACY
        } else {
            continue;
        };
        tightest = tightest.min(hierarchy_available(files, path));
    }
    tightest
}

struct GroupFiles {
    mount: &'static str,
    limits: [&'static str; 2],
    usage: &'static str,
    /// File pages that the kernel drops before it kills.
    reclaimable: &'static [u8],
}

const UNIFIED: GroupFiles = GroupFiles {
    mount: "/sys/fs/cgroup",
    limits: ["memory.max", "memory.high"],
    usage: "memory.current",
    reclaimable: b"inactive_file",
};
const LEGACY: GroupFiles = GroupFiles {
    mount: "/sys/fs/cgroup/memory",
    limits: ["memory.limit_in_bytes", "memory.soft_limit_in_bytes"],
    usage: "memory.usage_in_bytes",
    reclaimable: b"total_inactive_file",
};

fn hierarchy_available(files: &GroupFiles, path: &[u8]) -> usize {
    let mut tightest = usize::MAX;
    let mut path = core::str::from_utf8(path).unwrap_or("");
    loop {
        path = path.trim_end_matches('/');
        tightest = tightest.min(group_available(files, path));
        match path.rfind('/') {
            Some(parent) => path = path.get(..parent).unwrap_or(""),
            None => return tightest,
        }
    }
}

fn group_available(files: &GroupFiles, group: &str) -> usize {
    let read = |name: &str| number_in(files.mount, group, name);
    // "max" and a missing file mean no limit, and so does the huge number of the legacy hierarchy.
    let limit = files
        .limits
        .iter()
        .filter_map(|name| read(name))
        .min()
        .unwrap_or(usize::MAX);
    if limit >= usize::MAX >> 2 {
        return usize::MAX;
    }
    let Some(used) = read(files.usage) else {
        return usize::MAX;
    };
    let mut buf = [0u8; 2048];
    let cache = match path_of(files.mount, group, "memory.stat", &mut [0; 512]) {
        Some(path) => field(file(path, &mut buf), files.reclaimable).unwrap_or(0),
        None => 0,
    };
    limit.saturating_sub(used.saturating_sub(cache))
}

fn number_in(mount: &str, group: &str, name: &str) -> Option<usize> {
    let mut buf = [0u8; 32];
    number(file(path_of(mount, group, name, &mut [0; 512])?, &mut buf))
}

/// `mount` + `group` + "/" + `name` as a C string, `None` if it does not fit.
fn path_of<'a>(mount: &str, group: &str, name: &str, buf: &'a mut [u8; 512]) -> Option<&'a CStr> {
    let mut line = Line::new();
    // `Line` cuts the text instead of failing.
    let _ = write!(line, "{mount}{group}/{name}");
    let text = line.as_str().as_bytes();
    if text.len() != mount.len() + group.len() + 1 + name.len() || text.len() >= buf.len() {
        return None;
    }
    buf.get_mut(..text.len())?.copy_from_slice(text);
    *buf.get_mut(text.len())? = 0;
    CStr::from_bytes_until_nul(buf).ok()
}

/// The contents of a small file, empty if it is unreadable.
pub(super) fn file<'a>(path: &CStr, buf: &'a mut [u8]) -> &'a [u8] {
    let n = sys::read_file(path, buf).unwrap_or(0);
    buf.get(..n).unwrap_or(&[])
}

/// The number after `name` at the start of a line.
fn field(text: &[u8], name: &[u8]) -> Option<usize> {
    text.split(|b| *b == b'\n').find_map(|line| {
        let rest = line.strip_prefix(name)?;
        // `name` must be the whole word, not the beginning of a longer one.
        rest.first()
            .is_some_and(u8::is_ascii_whitespace)
            .then(|| number(rest))?
    })
}

/// The decimal number at the start of a text, after blanks.
pub(crate) fn number(text: &[u8]) -> Option<usize> {
    let text = text.trim_ascii_start();
    let digits = text.iter().take_while(|b| b.is_ascii_digit());
    let mut value = None;
    for digit in digits {
        let so_far: usize = value.unwrap_or(0);
        value = Some(
            so_far
                .saturating_mul(10)
                .saturating_add(usize::from(digit - b'0')),
        );
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::fake::{self, Call};
    use crate::os::sys::Errno;

    #[test]
    fn numbers_and_fields() {
        assert_eq!(number(b"  123 kB"), Some(123));
        assert_eq!(number(b"max\n"), None);
        assert_eq!(number(b"99999999999999999999999"), Some(usize::MAX));
        let text = b"active_file 7\ninactive_file 42\ninactive_file_x 9\n";
        assert_eq!(field(text, b"inactive_file"), Some(42));
        assert_eq!(field(text, b"file"), None);
    }

    #[test]
    fn the_budget_is_below_mem_available_and_without_it_unlimited() {
        let budget = populate_budget();
        let meminfo = std::fs::read_to_string("/proc/meminfo").expect("/proc/meminfo");
        let available = field(meminfo.as_bytes(), b"MemAvailable:").expect("MemAvailable") * 1024;
        // Other tests take and release memory meanwhile.
        assert!(budget < available + (512 << 20), "{budget} {available}");
        assert!(budget > 0);
        fake::fail_kind_from(Call::Open, 1, Errno::ENOENT);
        assert_eq!(populate_budget(), usize::MAX);
        fake::clear();
    }

    #[test]
    fn an_allowance_is_read_once_for_many_steps_and_never_exceeded() {
        assert!(!allow_populate(usize::MAX - 1), "no machine has that much");
        // Other tests' threads may use the reading up in between, but not a hundred times in a row.
        fake::clear();
        let reads = (0..100)
            .filter(|_| {
                let before = fake::calls().of(Call::Open);
                assert!(allow_populate(4096));
                fake::calls().of(Call::Open) > before
            })
            .count();
        assert!(reads < 50, "{reads}");
        fake::clear();
    }

    #[test]
    fn a_group_with_a_limit_is_the_bound() {
        let dir = std::env::temp_dir().join(std::format!("hakmem-cgroup-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("a/b")).expect("directories");
        let put = |name: &str, text: &str| std::fs::write(dir.join(name), text).expect("written");
        put("a/memory.max", "1000000\n");
        put("a/memory.high", "900000\n");
        put("a/memory.current", "500000\n");
        put("a/memory.stat", "anon 1\ninactive_file 100000\n");
        put("a/b/memory.max", "max\n");
        put("a/b/memory.current", "1\n");
        let mount: &'static str = std::boxed::Box::leak(
            std::string::String::from(dir.to_str().expect("utf-8")).into_boxed_str(),
        );
        let files = GroupFiles { mount, ..UNIFIED };
        assert_eq!(hierarchy_available(&files, b"/a/b"), 900_000 - 400_000);
        assert_eq!(hierarchy_available(&files, b"/"), usize::MAX);
        std::fs::remove_dir_all(&dir).expect("removed");
    }
}
