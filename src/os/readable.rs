//! Whether memory can be read, as the kernel says, and copies of memory that may not be there. Nothing here faults, allocates or
//! takes a lock.

use super::{reads, sys};
use core::sync::atomic::AtomicU8;
use core::sync::atomic::Ordering::Relaxed;

/// Whether a word at `addr` can be read. The OS page it lies in can be read then. May change `errno`.
pub(crate) fn is(addr: usize) -> bool {
    tells() && mask_read(addr & !7) == libc::EINVAL
}

/// Copies from `addr` as much as can be read, and returns how much that is.
pub(crate) fn copy(addr: usize, to: &mut [u8]) -> usize {
    let mut page = usize::MAX;
    for (i, byte) in to.iter_mut().enumerate() {
        let at = addr.wrapping_add(i);
        let of = at & !(sys::page_size() - 1);
        if of != page && !is(at) {
            return i;
        }
        page = of;
        // SAFETY: in an OS page that can be read.
        let word = unsafe { reads::read(at & !7) };
        *byte = word.to_ne_bytes()[at & 7];
    }
    to.len()
}

/// Whether the kernel reads a mask of signals before it refuses a number that says what to do with it. If an emulator refuses
/// first, nothing is taken to be readable.
fn tells() -> bool {
    // 0: not known yet, 1: no, 2: yes. Every thread finds the same, so Relaxed.
    static TELLS: AtomicU8 = AtomicU8::new(0);
    if TELLS.load(Relaxed) == 0 {
        // The first OS page of a process is never mapped.
        let tells = mask_read(8) == libc::EFAULT;
        TELLS.store(1 + u8::from(tells), Relaxed);
    }
    TELLS.load(Relaxed) == 2
}

/// Hands the word to the kernel as a mask of signals with which nothing is to be done. Returns the errno.
fn mask_read(addr: usize) -> i32 {
    // SAFETY: no such operation exists, so that nothing changes.
    let outcome =
        unsafe { libc::syscall(libc::SYS_rt_sigprocmask, -1_i64, addr, 0_usize, 8_usize) };
    match outcome {
        -1 => sys::Errno::last().0,
        _ => 0,
    }
}

#[cfg(all(test, not(miri)))]
mod tests {
    use super::*;

    #[test]
    fn memory_is_told_from_what_is_none() {
        let page = sys::page_size();
        // SAFETY: a mapping of the test's own.
        unsafe {
            let at =
                sys::mmap(0, 3 * page, libc::PROT_READ | libc::PROT_WRITE, 0).expect("three pages");
            let bytes = core::slice::from_raw_parts_mut(at as *mut u8, page);
            bytes.fill(7);
            sys::mprotect(at + page, page, libc::PROT_NONE).expect("ours");
            sys::munmap(at + 2 * page, page).expect("ours");
            assert!(is(at) && is(at + page - 8));
            assert!(!is(at + page) && !is(at + 2 * page - 8), "not for reading");
            assert!(!is(at + 2 * page), "not mapped");
            assert!(!is(0) && !is(usize::MAX - 7) && !is(0x8000_0000_0000_0000));
            let mut to = [0; 64];
            assert_eq!(copy(at + page - 10, &mut to), 10);
            assert_eq!((to[9], to[10]), (7, 0));
            assert_eq!(copy(at + page, &mut to), 0);
            sys::munmap(at, 2 * page).expect("ours");
        }
    }
}
