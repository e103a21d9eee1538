//! Huge pages: what the machine offers, and the three ways to request them.

use core::sync::atomic::AtomicU8;
use core::sync::atomic::Ordering::Relaxed;

use super::findings;
use super::mapping::{HUGE_PAGE, Mapping, unmap};
use super::sys::{self, Errno};

/// The system's policy for transparent huge pages, `/sys/kernel/mm/transparent_hugepage/enabled`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Thp {
    /// Every suitable range gets them. A range that must stay on OS pages needs [`refuse`].
    Always = 1,
    /// A range gets them if it asks with [`advise`].
    Madvise = 2,
    /// No range gets them, or the kernel has none.
    Never = 3,
}

/// The system's policy, read once.
pub(crate) fn system_thp() -> Thp {
    // A cache: every thread that computes it stores the same answer, so Relaxed.
    static CACHE: AtomicU8 = AtomicU8::new(0);
    match CACHE.load(Relaxed) {
        1 => Thp::Always,
        2 => Thp::Madvise,
        3 => Thp::Never,
        _ => {
            let policy = sys::preserve_errno(read_system_thp);
            CACHE.store(policy as u8, Relaxed);
            policy
        }
    }
}

fn read_system_thp() -> Thp {
    let mut buf = [0u8; 64];
    match sys::read_line(c"/sys/kernel/mm/transparent_hugepage/enabled", &mut buf) {
        Ok(n) => parse_policy(buf.get(..n).unwrap_or(&[])),
        // A sandbox may hide sysfs. Asking costs nothing if it is not granted.
        Err(Errno::EACCES | Errno::EPERM) => Thp::Madvise,
        Err(_) => Thp::Never,
    }
}

/// The kernel brackets the policy in force: `always [madvise] never`.
fn parse_policy(text: &[u8]) -> Thp {
    let has = |word: &[u8]| text.windows(word.len()).any(|w| w == word);
    if has(b"[always]") {
        Thp::Always
    } else if has(b"[madvise]") {
        Thp::Madvise
    } else {
        Thp::Never
    }
}

/// Requests huge pages. Must come before the range is touched.
///
/// # Safety
/// The caller owns the range.
pub(crate) unsafe fn advise(addr: usize, len: usize) -> Result<(), Errno> {
    // SAFETY: as the caller promises; contents stay.
    unsafe { sys::madvise(addr, len, libc::MADV_HUGEPAGE) }
}

/// Keeps the range on OS pages.
///
/// # Safety
/// The caller owns the range.
pub(crate) unsafe fn refuse(addr: usize, len: usize) -> Result<(), Errno> {
    // SAFETY: as the caller promises; contents stay.
    unsafe { sys::madvise(addr, len, libc::MADV_NOHUGEPAGE) }
}

/// Turns populated OS pages into huge pages now (Linux 6.1). Each 2 MiB needs one resident page. `EAGAIN` and `EBUSY` are
/// temporary; `EINVAL` means an older kernel or [`refuse`]d memory.
///
/// # Safety
/// The caller owns the range.
pub(crate) unsafe fn collapse(addr: usize, len: usize) -> Result<(), Errno> {
    // SAFETY: as the caller promises; contents stay.
    unsafe { sys::madvise(addr, len, sys::MADV_COLLAPSE) }
}

/// The size of a page from the hugetlb pool.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum PoolPage {
    TwoMiB,
    OneGiB,
}

impl PoolPage {
    pub(crate) fn bytes(self) -> usize {
        match self {
            PoolPage::TwoMiB => 2 << 20,
            PoolPage::OneGiB => 1 << 30,
        }
    }

    fn flag(self) -> i32 {
        (self.bytes().trailing_zeros() as i32) << libc::MAP_HUGE_SHIFT
    }
}

/// Maps `len` bytes (rounded up to whole pool pages) from the hugetlb pool.
///
/// The pages are reserved here: without `MAP_NORESERVE` the kernel returns `ENOMEM` now instead of raising SIGBUS at first
/// touch. A forked child would take pages that are not reserved, and be killed if the pool is empty, so the child does not
/// inherit the mapping.
pub(crate) fn map_pool(len: usize, page: PoolPage) -> Result<Mapping, Errno> {
    if len == 0 {
        return Err(Errno::EINVAL);
    }
    let len = len
        .checked_next_multiple_of(page.bytes())
        .ok_or(Errno::ENOMEM)?;
    let prot = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_HUGETLB | page.flag();
    // SAFETY: without MAP_FIXED nothing that exists is replaced.
    let addr = unsafe { sys::mmap(0, len, prot, flags) }
        .inspect_err(|e| findings::pool_refused(len, page.bytes(), *e))?;
    let mapping = Mapping { addr, len };
    let outcome = if addr.is_multiple_of(page.bytes()) {
        // SAFETY: fresh and owned.
        unsafe { sys::madvise(addr, len, libc::MADV_DONTFORK) }
    } else {
        Err(Errno::ENOMEM)
    };
    outcome.map(|()| mapping).inspect_err(|_| {
        // SAFETY: mapped above, and no other code has its address. A whole hugetlb mapping is never split, so unmapping cannot
        // fail for want of mappings.
        let _ = unsafe { unmap(mapping) };
    })
}

const _: () = assert!(
    HUGE_PAGE == 2 << 20,
    "PoolPage::TwoMiB and HUGE_PAGE are the same page"
);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::fake::{self, Call};
    use crate::os::mapping::map_aligned;

    #[test]
    fn the_bracket_marks_the_policy() {
        assert_eq!(parse_policy(b"[always] madvise never\n"), Thp::Always);
        assert_eq!(parse_policy(b"always [madvise] never\n"), Thp::Madvise);
        assert_eq!(parse_policy(b"always madvise [never]\n"), Thp::Never);
        assert_eq!(parse_policy(b""), Thp::Never);
    }

    #[test]
    fn the_policy_agrees_with_sysfs_and_is_read_once() {
        let text = std::fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled");
        let expected = text.map_or(Thp::Never, |t| parse_policy(t.as_bytes()));
        assert_eq!(system_thp(), expected);
        fake::clear();
        assert_eq!(system_thp(), expected);
        assert_eq!(fake::calls().total(), 0);
    }

    #[test]
    fn unreadable_sysfs_is_no_huge_pages_and_hidden_sysfs_asks_anyway() {
        fake::fail_kind(Call::Open, 1, Errno::ENOENT);
        assert_eq!(read_system_thp(), Thp::Never);
        fake::fail_kind(Call::Open, 1, Errno::EACCES);
        assert_eq!(read_system_thp(), Thp::Madvise);
        fake::clear();
    }

    #[test]
    fn advised_memory_is_huge_and_refused_memory_is_not() {
        if system_thp() == Thp::Never {
            return;
        }
        let m = map_aligned(4 * HUGE_PAGE, HUGE_PAGE, None).expect("maps");
        // SAFETY: owned here, touched inside its bounds.
        unsafe {
            advise(m.addr, 2 * HUGE_PAGE).expect("advise");
            refuse(m.addr + 2 * HUGE_PAGE, 2 * HUGE_PAGE).expect("refuse");
            *(m.addr as *mut u8) = 1;
            *((m.addr + 2 * HUGE_PAGE) as *mut u8) = 1;
            let mut residency = [0u8; 512];
            sys::mincore(m.addr, HUGE_PAGE, &mut residency).expect("mincore");
            let huge = residency.iter().filter(|b| **b & 1 != 0).count();
            sys::mincore(m.addr + 2 * HUGE_PAGE, HUGE_PAGE, &mut residency).expect("mincore");
            let small = residency.iter().filter(|b| **b & 1 != 0).count();
            assert_eq!(small, 1, "one touch of refused memory is one OS page");
            // Memory may be too fragmented for a huge page; then it is one OS page as well.
            assert!(huge == 512 || huge == 1, "{huge}");
            unmap(m).expect("unmap");
        }
    }

    #[test]
    fn pool_mapping_is_refused_or_whole_and_never_leaks() {
        match map_pool(1, PoolPage::TwoMiB) {
            Ok(m) => {
                assert!(m.addr.is_multiple_of(HUGE_PAGE) && m.len == HUGE_PAGE);
                // SAFETY: owned here.
                unsafe { unmap(m).expect("unmap") };
            }
            Err(e) => assert!(matches!(e, Errno::ENOMEM | Errno::EINVAL), "{e}"),
        }
        assert_eq!(map_pool(0, PoolPage::TwoMiB), Err(Errno::EINVAL));
        assert_eq!(map_pool(usize::MAX, PoolPage::OneGiB), Err(Errno::ENOMEM));
        fake::clear();
        fake::fail_kind(Call::Mmap, 1, Errno::ENOMEM);
        assert_eq!(map_pool(1, PoolPage::TwoMiB), Err(Errno::ENOMEM));
        assert_eq!(fake::calls().of(Call::Munmap), 0);
        fake::clear();
    }
}
