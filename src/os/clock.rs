//! Two monotonic clocks, both read through the vdso without entering the kernel.

/// Milliseconds since some fixed moment, as fresh as the last timer tick (1–4 ms).
#[inline]
pub(crate) fn now_ms() -> u64 {
    #[cfg(test)]
    if let Some(ms) = stopped::now_ms() {
        return ms;
    }
    read(libc::CLOCK_MONOTONIC_COARSE) / 1_000_000
}

/// Nanoseconds since some fixed moment.
#[inline]
pub(crate) fn now_ns() -> u64 {
    read(libc::CLOCK_MONOTONIC)
}

fn read(clock: libc::clockid_t) -> u64 {
    // SAFETY: an all-zero timespec is valid, and the call fills it. It cannot fail for a clock
    // every kernel has; if it did, time would stand still, which callers survive.
    let t = unsafe {
        let mut t: libc::timespec = core::mem::zeroed();
        libc::clock_gettime(clock, &mut t);
        t
    };
    t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64
}

/// The milliseconds of [`now_ms`] in the hands of a unit test that is alone in its process: stopped, they show a slow machine
/// what a fast one sees.
#[cfg(test)]
pub(crate) mod stopped {
    use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

    /// 0 while the clock runs. Relaxed: a clock orders nothing.
    static AT_MS: AtomicU64 = AtomicU64::new(0);

    pub(super) fn now_ms() -> Option<u64> {
        Some(AT_MS.load(Relaxed)).filter(|&ms| ms != 0)
    }

    /// Stops the clock; [`pass`] alone moves it from then on.
    pub(crate) fn stop() {
        AT_MS.store(super::now_ms(), Relaxed);
    }

    /// Lets time pass at once.
    pub(crate) fn pass(ms: u64) {
        AT_MS.fetch_add(ms, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How far the coarse clock lags is up to the timer tick; it is never ahead, and it goes on.
    #[test]
    fn the_coarse_clock_follows_the_fine_one() {
        let first = now_ms();
        loop {
            let ms = now_ms();
            assert!(ms >= first && ms <= now_ns() / 1_000_000);
            if ms >= first + 20 {
                return;
            }
            std::thread::yield_now();
        }
    }
}
