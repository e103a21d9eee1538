//! Brings memory in before it is used.
//!
//! It works in steps of one huge page, because the kernel holds the lock of the address space during each step. The huge page
//! itself is brought in by a touch, which needs no such lock (see [`first_touch`]). It never goes beyond what
//! [`super::memory::allow_populate`] grants, because populating can end in an OOM kill.

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

/// Populates a range for writing and returns how many bytes: fewer than requested if memory runs short, which is also reported
/// on stderr, once.
///
/// `Err` if the very first step fails. A later failure ends the run with what has come in.
///
/// # Safety
/// The caller owns the range, mapped writable, whole OS pages.
pub(crate) unsafe fn populate(addr: usize, len: usize) -> Result<usize, Errno> {
    // SAFETY: as the caller promises.
    unsafe { run(addr, len, |step, n| populate_step(step, n)) }
}

/// Touches every OS page of a range, keeps the contents, and returns how many bytes; stops short as [`populate`] does.
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

/// Writes zero into every byte of a range, as programs do that do not know better, and returns how many bytes; stops short as
/// [`populate`] does.
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
    // Once is enough for a person, and twice is harmless: Relaxed.
    if !SAID.swap(true, Relaxed) {
        message!(
            "prefault stopped after {} of {} KiB: more would exceed what is left: {}",
            done >> 10,
            len >> 10,
            findings::of_short_populate()
        );
    }
}

/// Whether the kernel has `MADV_POPULATE_*`. It is tried once on the allocator's own memory, because `EINVAL` on a caller's
/// range could have many causes.
pub(crate) fn populate_supported() -> bool {
    // A cache: every thread that computes it stores the same answer, so Relaxed.
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

/// Whether it works, and whether that answer is final.
fn probe() -> (bool, bool) {
    let page = sys::page_size();
    let prot = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a fresh mapping of our own, unmapped again.
    unsafe {
        let Ok(addr) = sys::mmap(0, page, prot, libc::MAP_PRIVATE) else {
            return (false, false);
        };
        let outcome = sys::madvise(addr, page, sys::MADV_POPULATE_WRITE);
        // If the page cannot be unmapped (it merged with a neighbour, at the limit of mappings), it stays behind, once.
        let _ = sys::munmap(addr, page);
        match outcome {
            Ok(()) => (true, true),
            Err(Errno::EINVAL) => (false, true),
            Err(_) => (false, false),
        }
    }
}

/// # Safety
/// As for [`populate`], all of the step.
unsafe fn populate_step(addr: usize, len: usize) -> Result<(), Errno> {
    if !populate_supported() {
        findings::cannot_populate();
        // SAFETY: as the caller promises.
        unsafe { touch_step(addr, len) };
        return Ok(());
    }
    if addr.is_multiple_of(HUGE_PAGE) && len == HUGE_PAGE {
        // SAFETY: as the caller promises.
        unsafe { first_touch(addr) };
    }
    loop {
        // SAFETY: as the caller promises; populating changes no contents.
        match unsafe { sys::madvise(addr, len, sys::MADV_POPULATE_WRITE) } {
            Err(Errno::EINTR | Errno::EAGAIN) => {}
            other => return other,
        }
    }
}

/// Touches every OS page, for the reason that [`first_touch`] gives, without asking for a budget.
///
/// # Safety
/// As for [`first_touch`], all of the range.
pub(crate) unsafe fn touch_within(addr: usize, len: usize) {
    // SAFETY: as the caller promises.
    unsafe { touch_step(addr, len) };
}

/// Touches the first byte of a huge page. Since Linux 6.4 a fault in private memory takes only the lock of its mapping.
/// Clearing 2 MiB then does not hold up other threads' mmap, as it would within `MADV_POPULATE_WRITE`; on a virtual machine
/// whose host has to find the memory first, clearing takes milliseconds. `MADV_POPULATE_WRITE` afterwards finds the huge page
/// there.
///
/// # Safety
/// The address is mapped writable; other threads may use it atomically meanwhile.
pub(crate) unsafe fn first_touch(addr: usize) {
    // SAFETY: as the caller promises.
    unsafe { touch_step(addr, 1) };
}

/// # Safety
/// As for [`first_touch`], all of the range.
unsafe fn touch_step(addr: usize, len: usize) {
    let page = sys::page_size();
    let mut at = addr;
    while at < addr + len {
        // SAFETY: mapped writable, as the caller promises. Or-ing zero atomically makes the kernel provide a page of its own
        // and cannot undo what another thread writes. The box hides the zero: the compiler would drop an update that changes
        // nothing, and the page would not come in.
        unsafe { AtomicU8::from_ptr(at as *mut u8) }.fetch_or(black_box(0), Relaxed);
        at = (at & !(page - 1)) + page;
    }
}

#[cfg(test)]
#[path = "prefault_tests.rs"]
mod tests;
