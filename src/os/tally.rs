//! Counts since the process began: what was prefaulted, and which calls about memory the kernel refused.
//!
//! The numbers are for people. Each stands by itself and publishes nothing, so all accesses are Relaxed. Nothing here
//! allocates, and a call that succeeds costs nothing.

use core::sync::atomic::Ordering::Relaxed;
use core::sync::atomic::{AtomicU32, AtomicU64};

use super::abi::Errno;

/// The calls whose failures are counted; `madvise` by its advice.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Refused {
    Mmap,
    Munmap,
    Mprotect,
    Mremap,
    HugePage,
    NoHugePage,
    DontNeed,
    Populate,
    Collapse,
    Advice,
    Mlock,
    Msync,
    Memfd,
    Ftruncate,
}

/// In the order of the variants, with a comma after each but the last. As texts of their own each would cost every start a
/// relocation.
const NAMES: &str = "mmap,munmap,mprotect,mremap,madvise hugepage,madvise nohugepage,madvise dontneed,madvise populate,\
madvise collapse,madvise,mlock,msync,memfd_create,ftruncate";

/// How many pairs of call and errno are told apart. Any further pair counts as the one in the last place.
pub(crate) const PLACES: usize = 32;

/// One pair of call and errno. `key` is 0 until the first refusal claims the place, and never changes afterwards.
struct Place {
    key: AtomicU32,
    count: AtomicU64,
}

static TABLE: [Place; PLACES] = [const {
    Place {
        key: AtomicU32::new(0),
        count: AtomicU64::new(0),
    }
}; PLACES];

fn key(call: Refused, errno: Errno) -> u32 {
    // Errnos are below 4096; the top bit keeps the key from being 0.
    1 << 31 | u32::from(call as u8) << 16 | (errno.0 as u32 & 0xFFFF)
}

/// Counts a refusal.
#[cold]
pub(crate) fn refused(call: Refused, errno: Errno) {
    let key = key(call, errno);
    for (i, place) in TABLE.iter().enumerate() {
        let holds = match place.key.compare_exchange(0, key, Relaxed, Relaxed) {
            Ok(_) => key,
            Err(other) => other,
        };
        if holds == key || i + 1 == PLACES {
            place.count.fetch_add(1, Relaxed);
            return;
        }
    }
}

/// Every pair that occurred: the name of the call, the errno, how often.
pub(crate) fn refusals() -> impl Iterator<Item = (&'static str, Errno, u64)> {
    TABLE.iter().filter_map(|place| {
        let key = place.key.load(Relaxed);
        let name = NAMES.split(',').nth((key >> 16 & 0xFF) as usize)?;
        let count = place.count.load(Relaxed);
        (key != 0 && count != 0).then_some((name, Errno((key & 0xFFFF) as i32), count))
    })
}

static PREFAULT_CALLS: AtomicU64 = AtomicU64::new(0);
static PREFAULT_BYTES: AtomicU64 = AtomicU64::new(0);

/// Counts a range that is going to be prefaulted.
pub(crate) fn prefault_begun() {
    PREFAULT_CALLS.fetch_add(1, Relaxed);
}

/// Counts the bytes of it that were.
pub(crate) fn prefault_done(bytes: usize) {
    PREFAULT_BYTES.fetch_add(bytes as u64, Relaxed);
}

/// Ranges prefaulted, and their bytes.
pub(crate) fn prefaulted() -> (u64, u64) {
    (PREFAULT_CALLS.load(Relaxed), PREFAULT_BYTES.load(Relaxed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::fake::{self, Call};
    use crate::os::mapping::{self, HUGE_PAGE};
    use crate::os::sys;

    /// Other tests of this process count too. An errno that only the caller uses tells them apart.
    fn count(call: &str, errno: i32) -> u64 {
        refusals()
            .filter(|(name, e, _)| *name == call && e.0 == errno)
            .map(|(_, _, n)| n)
            .sum()
    }

    #[test]
    fn every_call_has_its_name() {
        assert_eq!(NAMES.split(',').count(), Refused::Ftruncate as usize + 1);
    }

    #[test]
    fn each_call_is_counted_under_its_name_and_reason() {
        type Attempt<'a> = &'a dyn Fn() -> Result<(), Errno>;
        let m = mapping::map_aligned(HUGE_PAGE, HUGE_PAGE, None).expect("maps");
        let (at, len) = (m.addr, m.len);
        let wrong = Errno(3001);
        // SAFETY: the range is this test's own, and every call in the list is made to fail.
        let calls: [(Call, &str, Attempt<'_>); 9] = unsafe {
            [
                (Call::Mmap, "mmap", &|| sys::mmap(0, 4096, 0, 0).map(drop)),
                (Call::Munmap, "munmap", &|| sys::munmap(at, len)),
                (Call::Mprotect, "mprotect", &|| sys::mprotect(at, len, 0)),
                (Call::Mremap, "mremap", &|| {
                    sys::mremap(at, len, len, 0, 0).map(drop)
                }),
                (Call::Madvise, "madvise hugepage", &|| {
                    sys::madvise(at, len, libc::MADV_HUGEPAGE)
                }),
                (Call::Madvise, "madvise populate", &|| {
                    sys::madvise(at, len, sys::MADV_POPULATE_READ)
                }),
                (Call::Madvise, "madvise", &|| {
                    sys::madvise(at, len, libc::MADV_DONTDUMP)
                }),
                (Call::Mlock, "mlock", &|| sys::mlock(at, len)),
                (Call::Memfd, "memfd_create", &|| {
                    sys::memfd_create(c"x", 0).map(drop)
                }),
            ]
        };
        for (kind, name, call) in calls {
            let before = count(name, wrong.0);
            fake::fail_kind(kind, 1, wrong);
            assert_eq!(call(), Err(wrong), "{name}");
            assert_eq!(count(name, wrong.0), before + 1, "{name}");
        }
        fake::clear();
        // SAFETY: as above; nobody refers into it.
        unsafe { mapping::unmap(m) }.expect("unmaps");
        assert_eq!(count("munmap", wrong.0), 1, "success is not counted");
    }

    /// A search with MAP_FIXED_NOREPLACE asks whether an address is free, and growth in place whether the one behind the
    /// mapping is.
    #[test]
    fn answers_that_are_no_refusals_do_not_count() {
        let m = mapping::map_aligned(2 * HUGE_PAGE, HUGE_PAGE, None).expect("maps");
        let before = count("mmap", libc::EEXIST);
        // SAFETY: NOREPLACE: nothing that exists is replaced.
        let taken = unsafe { sys::mmap(m.addr, m.len, 0, sys::MAP_FIXED_NOREPLACE) };
        assert!(taken.is_err() || taken != Ok(m.addr));
        assert_eq!(count("mmap", libc::EEXIST), before);
        let before = count("mremap", libc::ENOMEM);
        let half = m.len / 2;
        // SAFETY: the test's own. Its second half lies behind the first, so nothing changes.
        let grown = unsafe { sys::mremap(m.addr, half, m.len, 0, 0) };
        assert_eq!(grown, Err(Errno::ENOMEM));
        assert_eq!(count("mremap", libc::ENOMEM), before);
        fake::fail_kind(Call::Mremap, 1, Errno::ENOMEM);
        // SAFETY: made to fail before it reaches the kernel.
        let moved = unsafe { sys::mremap(m.addr, half, m.len, libc::MREMAP_MAYMOVE, 0) };
        fake::clear();
        assert_eq!(moved, Err(Errno::ENOMEM));
        assert!(
            count("mremap", libc::ENOMEM) > before,
            "a move that fails is a refusal"
        );
        // SAFETY: the test's own.
        unsafe { mapping::unmap(m) }.expect("unmaps");
    }
}
