//! Zeroing of a block that may have memory or not.
//!
//! Writing zeros makes memory resident. A program that asks for a zeroed block may never touch most of it, and what the block
//! was before may have been purged or never written. So the pages of long blocks that are not resident are dropped instead,
//! which makes them zero whatever they were: the kernel may have moved a page to swap, and calls it not resident then.
//!
//! Programs that fill their blocks pay for a question now and then.

use super::{mapping, sys};
use crate::base::tuning::clear::{ASK_EACH, ASK_FIRST, AT_ONCE, LEAST, RUN_LEAST};
use core::slice;
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// Blocks cleared since one was found that had pages without memory, or many of zeros. Only a hint: Relaxed.
static FILLED: AtomicU32 = AtomicU32::new(0);

/// Makes `len` bytes at `start` zero and returns `start`. Pages that are not resident stay so, unless they are few or the kernel
/// does not say.
///
/// # Safety
/// The bytes are the caller's to write, in private anonymous memory.
#[inline]
pub(crate) unsafe fn clear(start: *mut u8, len: usize) -> *mut u8 {
    if len >= LEAST {
        // SAFETY: the caller's promise.
        return unsafe { clear_long(start, len) };
    }
    // SAFETY: as above.
    unsafe { start.write_bytes(0, len) };
    start
}

/// # Safety
/// As for [`clear`].
#[cold]
#[inline(never)]
unsafe fn clear_long(start: *mut u8, len: usize) -> *mut u8 {
    // SAFETY: the caller's promise.
    unsafe {
        if is_asked(FILLED.fetch_add(1, Relaxed)) {
            sys::preserve_errno(|| clear_resident(start, len));
        } else {
            start.write_bytes(0, len);
        }
    }
    start
}

/// Whether the kernel is asked about a block, after `filled` that were resident as a whole or not asked about.
fn is_asked(filled: u32) -> bool {
    filled < ASK_FIRST || filled.is_multiple_of(ASK_EACH)
}

/// # Safety
/// As for [`clear`].
unsafe fn clear_resident(start: *mut u8, len: usize) {
    let page = sys::page_size();
    let end = start as usize + len;
    // What lies before is zero.
    let mut done = start as usize;
    let mut at = done.next_multiple_of(page);
    while at + page <= end {
        let here = (end - at).min(AT_ONCE) & !(page - 1);
        let mut resident = [0; AT_ONCE / 4096];
        if sys::mincore(at, here, &mut resident).is_err() {
            break;
        }
        let pages = resident.get(..here / page).unwrap_or(&[]);
        let mut index = 0;
        for run in pages.chunk_by(|a, b| a & 1 == b & 1) {
            let (from, bytes) = (at + index * page, run.len() * page);
            index += run.len();
            if bytes < RUN_LEAST || run.first().is_none_or(|first| first & 1 != 0) {
                continue;
            }
            // SAFETY: whole pages of the block, whose contents nobody needs.
            if unsafe { mapping::purge(from, bytes) }.is_ok() {
                FILLED.store(0, Relaxed);
                // SAFETY: part of the block.
                unsafe { clear_written(done, from) };
                done = from + bytes;
            }
        }
        at += here;
    }
    // SAFETY: part of the block.
    unsafe { clear_written(done, end) };
}

/// Zeroes memory where it is not zero. Where it was only read lies the kernel's page of zeros: zeros written there would take memory,
/// so the next block is asked about as well.
///
/// # Safety
/// The bytes are the caller's to read and write.
unsafe fn clear_written(from: usize, to: usize) {
    let (mut at, mut zero) = (from, 0);
    while at < to {
        let end = (at + 1).next_multiple_of(sys::page_size()).min(to);
        // SAFETY: the caller's promise; a part of one OS page.
        unsafe {
            if end - at == sys::page_size() && is_zero(at, end - at) {
                zero += end - at;
            } else {
                (at as *mut u8).write_bytes(0, end - at);
            }
        }
        at = end;
    }
    if zero >= (to - from) / 2 && zero >= RUN_LEAST {
        FILLED.store(0, Relaxed);
    }
}

/// Bytes compared before the first jump.
const PIECE: usize = 512;

/// Whether an OS page reads as zero. Most that hold something show it at once.
///
/// # Safety
/// It can be read, nobody else writes to it, and `len` is that of an OS page.
unsafe fn is_zero(addr: usize, len: usize) -> bool {
    // SAFETY: the caller's promise; all of its bits are words.
    let words = unsafe { slice::from_raw_parts(addr as *const u64, len / size_of::<u64>()) };
    let mut pieces = words.chunks(PIECE / size_of::<u64>());
    pieces.all(|piece| piece.iter().fold(0, |bits, word| bits | word) == 0)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::os::fake::{self, Call};
    use crate::os::sys::Errno;

    const BLOCK: usize = 3 << 20;

    /// Zeroes all but some bytes at either end of a block in which `written` pages have been written. Returns how many are
    /// resident after.
    fn cleared(written: &[usize]) -> usize {
        let map = mapping::map_aligned(BLOCK, sys::page_size(), None).expect("maps");
        let page = sys::page_size();
        // SAFETY: advice on and access to a mapping of this test.
        unsafe {
            crate::os::huge::refuse(map.addr, map.len).expect("refused");
            let start = map.addr as *mut u8;
            written
                .iter()
                .for_each(|at| start.add(at * page).write_bytes(7, page));
            start.add(BLOCK - 9).write_bytes(7, 9);
            clear_resident(start.add(5), BLOCK - 10);
            let after = fake::resident(map.addr, BLOCK) / page;
            let bytes = core::slice::from_raw_parts(start, BLOCK);
            let (ends, middle) = (&bytes[..5], &bytes[5..BLOCK - 5]);
            assert!(middle.iter().all(|byte| *byte == 0));
            assert!(bytes[BLOCK - 5..].iter().all(|byte| *byte == 7));
            assert!(
                ends.iter()
                    .all(|byte| *byte == if written.contains(&0) { 7 } else { 0 })
            );
            sys::munmap(map.addr, map.len).expect("unmapped");
            after
        }
    }

    #[test]
    fn only_what_was_written_is_resident_after_and_all_is_zero() {
        fake::clear();
        let pages = BLOCK / sys::page_size();
        let all: std::vec::Vec<_> = (0..pages).collect();
        assert_eq!(cleared(&all), pages);
        // The first page and the last are written in part, and so is what lies between two that are near.
        let near = RUN_LEAST / sys::page_size();
        assert_eq!(cleared(&[]), 2);
        if near > 1 {
            assert_eq!(cleared(&[0, 20, 20 + near, 30 + near]), 4 + near);
        }
    }

    /// A page that was only read is the kernel's page of zeros, and writing to it is a page fault.
    #[test]
    fn what_was_only_read_takes_no_memory() {
        fake::clear();
        let faults = || {
            let mut usage = core::mem::MaybeUninit::<libc::rusage>::uninit();
            // SAFETY: a plain call on a local, which it fills.
            unsafe {
                assert_eq!(libc::getrusage(libc::RUSAGE_THREAD, usage.as_mut_ptr()), 0);
                usage.assume_init().ru_minflt
            }
        };
        let map = mapping::map_aligned(BLOCK, sys::page_size(), None).expect("maps");
        // SAFETY: advice on and access to a mapping of this test.
        unsafe {
            crate::os::huge::refuse(map.addr, map.len).expect("refused");
            let start = map.addr as *mut u8;
            start.add(BLOCK - 1).write(7);
            assert!((0..BLOCK - 1).all(|at| start.add(at).read_volatile() == 0));
            let before = faults();
            clear_resident(start, BLOCK);
            assert_eq!(start.add(BLOCK - 1).read(), 0);
            clear_written(map.addr, map.addr + BLOCK);
            let taken = faults() - before;
            assert!(
                taken < (BLOCK / sys::page_size() / 2) as i64,
                "{taken} faults"
            );
            sys::munmap(map.addr, map.len).expect("unmapped");
        }
    }

    #[test]
    fn without_an_answer_or_where_nothing_may_go_all_is_written() {
        let pages = BLOCK / sys::page_size();
        for kind in [Call::Mincore, Call::Madvise] {
            fake::clear();
            if kind == Call::Madvise {
                // The test's own advice comes first.
                fake::fail_kind_from(kind, 2, Errno::EINVAL);
            } else {
                fake::fail_kind(kind, 1, Errno::ENOSYS);
            }
            assert_eq!(cleared(&[3]), pages);
        }
        fake::clear();
    }

    #[test]
    fn filled_blocks_are_asked_about_now_and_then() {
        assert_eq!((0..160).filter(|n| is_asked(*n)).count(), 4 + 9);
    }
}
