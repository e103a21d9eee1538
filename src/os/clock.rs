//! Two monotonic clocks. Both are read through the vdso, without entering the kernel, if the machine has one.

/// Milliseconds since some fixed moment, as of the last timer tick, which is at most 10 ms ago.
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
    // SAFETY: an all-zero timespec is valid, and the call fills it. The call cannot fail for a clock that every kernel has; if
    // it did, the time would read as 0, which callers survive.
    let t = unsafe {
        let mut t: libc::timespec = core::mem::zeroed();
        libc::clock_gettime(clock, &mut t);
        t
    };
    t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64
}

/// [`now_ms`] under the control of a unit test that is alone in its process. With a stopped clock a slow machine sees what a
/// fast one sees.
#[cfg(test)]
pub(crate) mod stopped {
    use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

    /// 0 while the clock runs. Relaxed: a clock orders nothing.
    static AT_MS: AtomicU64 = AtomicU64::new(0);

    pub(super) fn now_ms() -> Option<u64> {
        Some(AT_MS.load(Relaxed)).filter(|&ms| ms != 0)
    }

    /// Stops the clock. From then on only [`pass`] moves it.
    pub(crate) fn stop() {
        AT_MS.store(super::now_ms(), Relaxed);
    }

    /// Advances the stopped clock.
    pub(crate) fn pass(ms: u64) {
        AT_MS.fetch_add(ms, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The timer tick decides how far the coarse clock lags. It is never ahead, and it moves on.
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
