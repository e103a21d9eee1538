//! Two monotonic clocks, both read through the vdso without entering the kernel.

/// Milliseconds since some fixed moment, as fresh as the last timer tick (1–4 ms).
#[inline]
pub(crate) fn now_ms() -> u64 {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_advance_together() {
        let (ms, ns) = (now_ms(), now_ns());
        std::thread::sleep(std::time::Duration::from_millis(30));
        let (dms, dns) = (now_ms() - ms, now_ns() - ns);
        assert!(dns >= 30_000_000, "{dns}");
        assert!(
            dms >= 20 && dms <= dns / 1_000_000 + 10,
            "{dms} ms against {dns} ns"
        );
    }
}
