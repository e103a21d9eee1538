//! What a child can know about itself: clock, getrusage, resident memory. Nothing here allocates.

use std::fs::File;
use std::io::{Read, Write};

/// Seconds and nanoseconds of the monotonic clock, as nanoseconds.
#[inline]
pub fn now_ns() -> u64 {
    clock(libc::CLOCK_MONOTONIC)
}

#[inline]
fn clock(which: libc::clockid_t) -> u64 {
    let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `t` is a valid place to write to; both clocks always exist.
    unsafe { libc::clock_gettime(which, &mut t) };
    t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64
}

/// What getrusage says of this process, all threads together.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Usage {
    pub minor: u64,
    pub major: u64,
    pub user_secs: f64,
    pub sys_secs: f64,
}

impl From<&libc::rusage> for Usage {
    fn from(r: &libc::rusage) -> Self {
        let secs = |t: libc::timeval| t.tv_sec as f64 + t.tv_usec as f64 / 1e6;
        Self {
            minor: r.ru_minflt.max(0) as u64,
            major: r.ru_majflt.max(0) as u64,
            user_secs: secs(r.ru_utime),
            sys_secs: secs(r.ru_stime),
        }
    }
}

impl Usage {
    pub fn now() -> Self {
        Self::of(libc::RUSAGE_SELF)
    }

    /// The same of `whom`: RUSAGE_THREAD is this thread alone.
    pub fn of(whom: libc::c_int) -> Self {
        // SAFETY: all-zero is a valid rusage, and getrusage fills it.
        let r = unsafe {
            let mut r: libc::rusage = std::mem::zeroed();
            libc::getrusage(whom, &mut r);
            r
        };
        Self::from(&r)
    }

    pub fn since(&self, earlier: &Usage) -> Usage {
        Usage {
            minor: self.minor - earlier.minor,
            major: self.major - earlier.major,
            user_secs: self.user_secs - earlier.user_secs,
            sys_secs: self.sys_secs - earlier.sys_secs,
        }
    }
}

pub fn rss_kib() -> u64 {
    status_kib(b"VmRSS:")
}

/// The most that was ever resident, in KiB. Read from the process's own memory map: `ru_maxrss` would carry over what
/// the parent had resident when it started this child.
pub fn peak_rss_kib() -> u64 {
    status_kib(b"VmHWM:")
}

/// Forgets the most that was ever resident: from now on it counts anew. Where the kernel refuses, it counts from the start.
pub fn forget_peak() {
    if let Ok(mut file) = File::options().write(true).open("/proc/self/clear_refs") {
        let _ = file.write_all(b"5");
    }
}

pub fn thread_cpu_ns() -> u64 {
    clock(libc::CLOCK_THREAD_CPUTIME_ID)
}

/// One field of /proc/self/status, 0 where it cannot be read.
fn status_kib(field: &[u8]) -> u64 {
    let mut buffer = [0u8; 4096];
    let length = File::open("/proc/self/status").and_then(|mut file| file.read(&mut buffer)).unwrap_or(0);
    field_kib(&buffer[..length], field)
}

fn field_kib(status: &[u8], field: &[u8]) -> u64 {
    let Some(line) = status.split(|&b| b == b'\n').find(|l| l.starts_with(field)) else {
        return 0;
    };
    line.iter().filter(|b| b.is_ascii_digit()).fold(0, |n, b| n * 10 + u64::from(b - b'0'))
}

/// The timed part of a workload on one thread. A function of its own, never inlined, so that
/// `valgrind --tool=callgrind --toggle-collect='*timed_section*'` counts this part and nothing else.
#[inline(never)]
pub fn timed_section<R>(body: impl FnOnce() -> R) -> R {
    let result = body();
    // Keeps the call to `body` from becoming a tail jump, after which this function would have no end of its own.
    std::hint::black_box(());
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_read_from_its_own_line() {
        let text = b"Name:\tx9\nVmPeak:\t  12 kB\nVmHWM:\t   4096 kB\nVmRSS:\t   77 kB\n";
        assert_eq!(field_kib(text, b"VmHWM:"), 4096);
        assert_eq!(field_kib(text, b"VmRSS:"), 77);
        assert_eq!(field_kib(text, b"VmSwap:"), 0);
    }
}
