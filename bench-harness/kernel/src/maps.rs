//! Raw mappings for the experiments: placed exactly where a question needs them, and never by our own library, so that
//! what is measured is the kernel.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;

use bench_subject::measure::{Usage, thread_cpu_ns};

pub(crate) const HUGE: usize = 2 << 20;
pub(crate) const POPULATE_WRITE: i32 = 23;
pub(crate) const COLLAPSE: i32 = 25;
pub(crate) const RW: i32 = libc::PROT_READ | libc::PROT_WRITE;

#[derive(Debug)]
pub(crate) struct Raw {
    pub addr: usize,
    pub len: usize,
}

impl Drop for Raw {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's own. A failure leaves addresses behind in a process that ends soon.
        unsafe { libc::munmap(self.addr as *mut _, self.len) };
    }
}

impl Raw {
    pub(crate) fn map(at: usize, len: usize, prot: i32, flags: i32, fd: i32) -> io::Result<Raw> {
        // SAFETY: callers give MAP_FIXED only inside a reservation of their own.
        let addr = unsafe { libc::mmap(at as *mut _, len, prot, flags, fd, 0) };
        if addr == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Raw { addr: addr as usize, len })
    }

    /// `len` bytes at a multiple of 2 MiB plus `off`, as `flags` (and `fd`) say.
    pub(crate) fn placed(len: usize, off: usize, prot: i32, flags: i32, fd: i32) -> io::Result<Raw> {
        let reserve = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        let mut whole = Raw::map(0, len + 2 * HUGE, libc::PROT_NONE, reserve, -1)?;
        let start = whole.addr.next_multiple_of(HUGE) + off;
        let raw = Raw::map(start, len, prot, flags | libc::MAP_FIXED, fd)?;
        // What lies beside it stays reserved, so that no neighbour merges with it; only the head is kept track of, the
        // tail goes with the process.
        whole.len = start - whole.addr;
        std::mem::forget(whole);
        Ok(raw)
    }

    pub(crate) fn advise(&self, advice: i32) -> io::Result<()> {
        advise(self.addr, self.len, advice)
    }

    pub(crate) fn protect(&self, prot: i32) -> io::Result<()> {
        // SAFETY: as above.
        done(unsafe { libc::mprotect(self.addr as *mut _, self.len, prot) })
    }

    /// Writes one byte into every 4 KiB.
    pub(crate) fn touch(&self) {
        for at in (self.addr..self.addr + self.len).step_by(4096) {
            // SAFETY: inside the mapping, which is writable by now.
            unsafe { (at as *mut u8).write_volatile(1) };
        }
    }

    /// Bytes in huge pages, by the kernel's account.
    pub(crate) fn huge_bytes(&self) -> u64 {
        const FIELDS: [&str; 5] =
            ["AnonHugePages:", "ShmemPmdMapped:", "FilePmdMapped:", "Shared_Hugetlb:", "Private_Hugetlb:"];
        self.smaps(|line| FIELDS.iter().any(|f| line.starts_with(f)))
    }

    pub(crate) fn resident(&self) -> u64 {
        self.smaps(|line| line.starts_with("Rss:"))
    }

    fn smaps(&self, counts: impl Fn(&str) -> bool) -> u64 {
        let text = fs::read_to_string("/proc/self/smaps").unwrap_or_default();
        let (mut inside, mut kib) = (false, 0);
        for line in text.lines() {
            let head = line.split(' ').next().unwrap_or("");
            if let Some((lo, hi)) = head.split_once('-')
                && let (Ok(lo), Ok(hi)) = (usize::from_str_radix(lo, 16), usize::from_str_radix(hi, 16))
            {
                inside = lo < self.addr + self.len && hi > self.addr;
            } else if inside && counts(line) {
                kib += line.split_whitespace().nth(1).and_then(|n| n.parse::<u64>().ok()).unwrap_or(0);
            }
        }
        kib * 1024
    }
}

/// madvise of memory of the caller's own, whose contents do not matter.
pub(crate) fn advise(addr: usize, len: usize, advice: i32) -> io::Result<()> {
    // SAFETY: the caller's own mapping.
    done(unsafe { libc::madvise(addr as *mut _, len, advice) })
}

/// What a system call that answers 0 or less came to.
fn done(answer: i32) -> io::Result<()> {
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Runs `f`: seconds of processor time and minor faults.
pub(crate) fn measured<R>(f: impl FnOnce() -> R) -> (R, f64, u64) {
    let (before, start) = (Usage::of_thread(), thread_cpu_ns());
    let result = f();
    let secs = (thread_cpu_ns() - start) as f64 / 1e9;
    (result, secs, Usage::of_thread().since(&before).minor)
}

/// A memfd whose memory lies on huge pages: one byte per huge page is written, then they are collapsed.
pub(crate) fn collapsed_memfd(len: usize) -> io::Result<File> {
    let fd = bench_subject::memory::file()?;
    fd.set_len(len as u64)?;
    let map = Raw::placed(len, 0, RW, libc::MAP_SHARED, fd.as_raw_fd())?;
    for start in (map.addr..map.addr + len).step_by(HUGE) {
        // SAFETY: inside the mapping.
        unsafe { (start as *mut u8).write_volatile(1) };
        // The kernel may be busy with a page for a moment.
        let mut tries = 0;
        while let Err(e) = advise(start, HUGE.min(map.addr + len - start), COLLAPSE) {
            tries += 1;
            if tries > 20 {
                return Err(e);
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }
    Ok(fd)
}
