//! Bringing memory in before it is used.
//!
//! In steps of one huge page, because the kernel holds the address space's lock during each, with
//! the huge page itself had by a touch, which needs no such lock (see [`first_touch`]); and never
//! beyond what [`super::memory::allow_populate`] grants: populating can be OOM-killed.

use core::hint::black_box;
use core::sync::atomic::AtomicBool;
use core::sync::atomic::AtomicU8;
use core::sync::atomic::Ordering::Relaxed;

use super::findings;
use super::mapping::HUGE_PAGE;
use super::memory::allow_populate;
use super::message::message;
use super::sys::{self, Errno};
use super::tally;

/// Populates a range for writing, and answers how many bytes: fewer than asked where memory would
/// run short, which is also said on stderr, once.
///
/// `Err` where the very first step failed; later failures end the run with what was had.
///
/// # Safety
/// The caller owns the range, mapped writable, whole OS pages.
pub(crate) unsafe fn populate(addr: usize, len: usize) -> Result<usize, Errno> {
    // SAFETY: as the caller promises.
    unsafe { run(addr, len, populate_step) }
}

/// Touches every OS page of a range, which keeps its contents, and answers how many bytes; stops
/// short as [`populate`] does.
///
/// # Safety
/// The caller owns the range, mapped writable; other threads may use it atomically meanwhile.
pub(crate) unsafe fn touch(addr: usize, len: usize) -> usize {
    // SAFETY: as the caller promises.
    let outcome = unsafe {
        run(addr, len, |step, n| {
            touch_step(step, n);
            Ok(())
        })
    };
    outcome.unwrap_or(0)
}

/// Writes zero into every byte of a range, as programs do that know no better, and answers how many bytes; stops
/// short as [`populate`] does.
///
/// # Safety
/// The caller owns the range, mapped writable, and nobody needs its contents.
pub(crate) unsafe fn fill(addr: usize, len: usize) -> usize {
    // SAFETY: as the caller promises.
    let outcome = unsafe {
        run(addr, len, |step, n| {
            core::ptr::write_bytes(step as *mut u8, 0, n);
            Ok(())
        })
    };
    outcome.unwrap_or(0)
}

/// # Safety
/// `step` may be called for any part of the range.
unsafe fn run(
    addr: usize,
    len: usize,
    step: impl FnMut(usize, usize) -> Result<(), Errno>,
) -> Result<usize, Errno> {
    tally::prefault_begun();
    // SAFETY: as the caller promises.
    let outcome = unsafe { run_within(addr, len, allow_populate, step) };
    tally::prefault_done(outcome.unwrap_or(0));
    outcome
}

/// # Safety
/// `step` may be called for any part of the range.
unsafe fn run_within(
    addr: usize,
    len: usize,
    mut allow: impl FnMut(usize) -> bool,
    mut step: impl FnMut(usize, usize) -> Result<(), Errno>,
) -> Result<usize, Errno> {
    let mut done = 0;
    while done < len {
        // Up to the next huge page boundary.
        let here = addr + done;
        let n = ((here / HUGE_PAGE + 1) * HUGE_PAGE - here).min(len - done);
        if !allow(n) {
            say_short(done, len);
            break;
        }
        match step(here, n) {
            Ok(()) => done += n,
            Err(e) => {
                findings::populate_refused(e);
                if done == 0 {
                    return Err(e);
                }
                break;
            }
        }
    }
    Ok(done)
}

fn say_short(done: usize, len: usize) {
    static SAID: AtomicBool = AtomicBool::new(false);
    // Once is enough for a person, and two at once do no harm: Relaxed.
    if !SAID.swap(true, Relaxed) {
        message!(
            "prefault stopped after {} of {} KiB: more would exceed what is left: {}",
            done >> 10,
            len >> 10,
            findings::of_short_populate()
        );
    }
}

/// Whether the kernel has `MADV_POPULATE_*`, found out once on memory of our own: `EINVAL` on
/// somebody's range could mean many things.
pub(crate) fn populate_supported() -> bool {
    // A cache: whoever computes it again stores the same answer, so Relaxed.
    static CACHE: AtomicU8 = AtomicU8::new(0);
    match CACHE.load(Relaxed) {
        1 => true,
        2 => false,
        _ => {
            let (yes, sure) = sys::preserve_errno(probe);
            if sure {
                CACHE.store(if yes { 1 } else { 2 }, Relaxed);
            }
            yes
        }
    }
}

/// Whether it works, and whether that is a lasting truth.
fn probe() -> (bool, bool) {
    let page = sys::page_size();
    let prot = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a fresh mapping of our own, unmapped again.
    unsafe {
        let Ok(addr) = sys::mmap(0, page, prot, libc::MAP_PRIVATE) else {
            return (false, false);
        };
        let outcome = sys::madvise(addr, page, sys::MADV_POPULATE_WRITE);
        // A page that cannot be unmapped (it merged with a neighbour at the limit of mappings)
        // stays behind, once.
        let _ = sys::munmap(addr, page);
        match outcome {
            Ok(()) => (true, true),
            Err(Errno::EINVAL) => (false, true),
            Err(_) => (false, false),
        }
    }
}

fn populate_step(addr: usize, len: usize) -> Result<(), Errno> {
    if !populate_supported() {
        findings::cannot_populate();
        touch_step(addr, len);
        return Ok(());
    }
    if addr.is_multiple_of(HUGE_PAGE) && len == HUGE_PAGE {
        // SAFETY: `run` hands out parts of the caller's range, which is mapped writable.
        unsafe { first_touch(addr) };
    }
    loop {
        // SAFETY: populating changes no contents; `run` hands out parts of the caller's range.
        match unsafe { sys::madvise(addr, len, sys::MADV_POPULATE_WRITE) } {
            Err(Errno::EINTR | Errno::EAGAIN) => {}
            other => return other,
        }
    }
}

/// Touches every OS page, for the reason that [`first_touch`] gives, with no regard to any budget.
///
/// # Safety
/// As for [`first_touch`], all of the range.
pub(crate) unsafe fn touch_within(addr: usize, len: usize) {
    touch_step(addr, len);
}

/// Touches the first byte of a huge page's worth. Since Linux 6.4 the fault of a program in private memory holds the lock
/// of the mapping alone, so that clearing 2 MiB (where a virtual machine's host has to find them first, milliseconds) does
/// not hold up everybody's mmap, as it would within `MADV_POPULATE_WRITE`, which then finds the huge page there.
///
/// # Safety
/// The address is mapped writable; other threads may use it atomically meanwhile.
pub(crate) unsafe fn first_touch(addr: usize) {
    touch_step(addr, 1);
}

fn touch_step(addr: usize, len: usize) {
    let page = sys::page_size();
    let mut at = addr;
    while at < addr + len {
        // SAFETY: mapped writable, as the caller of `touch` promised. Or-ing zero atomically makes
        // the kernel give a page of its own and cannot undo what another thread writes. The box hides
        // the zero: the compiler turns an update that changes nothing into a load, which would map
        // the shared page of zeroes.
        unsafe { AtomicU8::from_ptr(at as *mut u8) }.fetch_or(black_box(0), Relaxed);
        at = (at & !(page - 1)) + page;
    }
}

#[cfg(test)]
#[path = "prefault_tests.rs"]
mod tests;
