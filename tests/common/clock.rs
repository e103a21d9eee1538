//! The clock by which the allocator gives memory back, under the control of the test.
//!
//! The allocator reads `CLOCK_MONOTONIC_COARSE` for it, which nothing else in a test binary does. The function below replaces
//! the C library's, as any function of an executable does. A test lets time pass without waiting for it, or stops it, so that a
//! slow machine sees what a fast one sees. All other clocks are unchanged.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Nanoseconds added to the clock. Relaxed, here and below: a clock orders nothing.
static AHEAD: AtomicU64 = AtomicU64::new(0);
/// What the clock showed when it was stopped; 0 while it runs.
static STOPPED: AtomicU64 = AtomicU64::new(0);

/// Stops the clock of this process. From then on only [`pass`] moves it.
pub fn stop() {
    STOPPED.store(real(libc::CLOCK_MONOTONIC_COARSE).1, Relaxed);
}

/// Lets the clock run again from what it would show now.
pub fn resume() {
    STOPPED.store(0, Relaxed);
}

/// Advances the clock.
pub fn pass(ms: u64) {
    AHEAD.fetch_add(ms * 1_000_000, Relaxed);
}

/// What the kernel answers, and the time in nanoseconds.
fn real(clock: libc::clockid_t) -> (libc::c_int, u64) {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: fills the struct it is given.
    let answer = unsafe { libc::syscall(libc::SYS_clock_gettime, clock, &raw mut time) };
    let ns = time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64;
    (answer as libc::c_int, ns)
}

/// # Safety
/// `time` may be written to.
// SAFETY: does what the C library's function of this name promises. It calls nothing that allocates or locks.
#[unsafe(no_mangle)]
unsafe extern "C" fn clock_gettime(
    clock: libc::clockid_t,
    time: *mut libc::timespec,
) -> libc::c_int {
    let (answer, mut ns) = real(clock);
    if answer != 0 {
        // `syscall` has set errno.
        return answer;
    }
    if clock == libc::CLOCK_MONOTONIC_COARSE {
        let stopped = STOPPED.load(Relaxed);
        ns = if stopped == 0 { ns } else { stopped } + AHEAD.load(Relaxed);
    }
    // SAFETY: the caller's promise.
    unsafe {
        (*time).tv_sec = (ns / 1_000_000_000) as _;
        (*time).tv_nsec = (ns % 1_000_000_000) as libc::c_long;
    }
    answer
}
