//! Mappings for the experiments: placed exactly where a question needs them, and never by our own library, so that what is
//! measured is the kernel.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use bench_subject::measure::{Usage, thread_cpu_ns};
use bench_subject::memory::{ANONYMOUS, HUGE, Mapping, RW, advise};

pub(crate) const POPULATE_WRITE: i32 = 23;
pub(crate) const COLLAPSE: i32 = 25;

/// `len` bytes at a multiple of 2 MiB plus `off`, as `flags` (and `fd`) say.
pub(crate) fn placed(len: usize, off: usize, prot: i32, flags: i32, fd: i32) -> io::Result<Mapping> {
    let whole = Mapping::new(0, len + 2 * HUGE, libc::PROT_NONE, ANONYMOUS | libc::MAP_NORESERVE, -1)?;
    // What lies beside it stays reserved to the end of the process, so that no neighbour merges with it.
    let start = whole.addr_for_ever().next_multiple_of(HUGE) + off;
    Mapping::new(start, len, prot, flags | libc::MAP_FIXED, fd)
}

/// Writes one byte into every 4 KiB.
pub(crate) fn touch(map: &Mapping) {
    map.touch(0, map.len, 4096);
}

/// Bytes of a range in huge pages, by the kernel's account.
pub(crate) fn huge_bytes(addr: usize, len: usize) -> u64 {
    const FIELDS: [&str; 3] = ["AnonHugePages:", "ShmemPmdMapped:", "FilePmdMapped:"];
    smaps(addr, len, |line| FIELDS.iter().any(|f| line.starts_with(f)))
}

pub(crate) fn resident(map: &Mapping) -> u64 {
    smaps(map.addr, map.len, |line| line.starts_with("Rss:"))
}

fn smaps(addr: usize, len: usize, counts: impl Fn(&str) -> bool) -> u64 {
    let text = std::fs::read_to_string("/proc/self/smaps").unwrap_or_default();
    let (mut inside, mut kib) = (false, 0);
    for line in text.lines() {
        let head = line.split(' ').next().unwrap_or("");
        if let Some((lo, hi)) = head.split_once('-')
            && let (Ok(lo), Ok(hi)) = (usize::from_str_radix(lo, 16), usize::from_str_radix(hi, 16))
        {
            inside = lo < addr + len && hi > addr;
        } else if inside && counts(line) {
            kib += line.split_whitespace().nth(1).and_then(|n| n.parse::<u64>().ok()).unwrap_or(0);
        }
    }
    kib * 1024
}

/// Runs `f`: seconds of processor time and minor faults.
pub(crate) fn measured<R>(f: impl FnOnce() -> R) -> (R, f64, u64) {
    let (before, start) = (Usage::of(libc::RUSAGE_THREAD), thread_cpu_ns());
    let result = f();
    let secs = (thread_cpu_ns() - start) as f64 / 1e9;
    (result, secs, Usage::of(libc::RUSAGE_THREAD).since(&before).minor)
}

/// A memfd whose memory lies on huge pages: one byte per huge page is written, then they are collapsed.
pub(crate) fn collapsed_memfd(len: usize) -> io::Result<File> {
    let fd = bench_subject::memory::file()?;
    fd.set_len(len as u64)?;
    let map = placed(len, 0, RW, libc::MAP_SHARED, fd.as_raw_fd())?;
    for start in (0..len).step_by(HUGE) {
        map.touch(start, start + 1, 1);
        // The kernel may be busy with a page for a moment.
        let mut tries = 0;
        while let Err(e) = advise(map.addr + start, HUGE.min(len - start), COLLAPSE) {
            tries += 1;
            if tries > 20 {
                return Err(e);
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }
    Ok(fd)
}
