//! The kernel's accounts of this process, read without allocating: a reading must not change what it reads.

use super::{PATIENCE, clock};
use std::time::{Duration, Instant};

/// Resident bytes, exact (statm is off by up to 64 OS pages per CPU, so it is not used).
pub fn rss() -> usize {
    let mut buf = [0u8; 4096];
    let text = read(c"/proc/self/smaps_rollup", &mut buf);
    field(text, "Rss:").expect("smaps_rollup has a line Rss:") * 1024
}

/// Bytes of address space.
pub fn address_space() -> usize {
    let mut buf = [0u8; 4096];
    let text = read(c"/proc/self/status", &mut buf);
    field(text, "VmSize:").expect("status has a line VmSize:") * 1024
}

/// Bytes of address space that files are mapped to: the program and its libraries.
pub fn file_mappings() -> usize {
    let maps = std::fs::read_to_string("/proc/self/maps").expect("/proc is mounted");
    maps.lines()
        .filter(|line| line.contains(" /"))
        .filter_map(|line| line.split_whitespace().next()?.split_once('-'))
        .map(|(start, end)| {
            let address = |text| usize::from_str_radix(text, 16).expect("hexadecimal addresses");
            address(end) - address(start)
        })
        .sum()
}

/// Threads of this process.
pub fn threads() -> usize {
    let mut buf = [0u8; 4096];
    field(read(c"/proc/self/status", &mut buf), "Threads:").expect("status has a line Threads:")
}

/// Threads of this process whose name is such a one.
pub fn threads_named(such: impl Fn(&str) -> bool) -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").expect("/proc is mounted");
    tasks
        .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok())
        .filter(|name| such(name.trim()))
        .count()
}

fn field(text: &str, name: &str) -> Option<usize> {
    let line = text.lines().find_map(|l| l.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

fn read<'a>(path: &std::ffi::CStr, buf: &'a mut [u8]) -> &'a str {
    // SAFETY: a C string and a buffer of the stated length; the descriptor is closed once.
    let length = unsafe {
        let fd = libc::open(path.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC);
        assert!(fd >= 0, "cannot open {path:?}");
        let mut length = 0;
        while length < buf.len() {
            let n = libc::read(fd, buf[length..].as_mut_ptr().cast(), buf.len() - length);
            if n <= 0 {
                break;
            }
            length += n as usize;
        }
        libc::close(fd);
        length
    };
    std::str::from_utf8(&buf[..length]).expect("proc speaks ASCII")
}

/// Minor faults of the calling thread.
pub fn thread_faults() -> usize {
    // SAFETY: getrusage fills the struct it is given.
    unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        assert_eq!(libc::getrusage(libc::RUSAGE_THREAD, &mut usage), 0);
        usage.ru_minflt as usize
    }
}

/// Waits until resident memory is at most `bound`; the last reading decides. `limit` is what that takes on an idle machine.
pub fn wait_for_rss(bound: usize, limit: Duration) -> usize {
    let deadline = Instant::now() + limit * PATIENCE;
    loop {
        let now = rss();
        if now <= bound || Instant::now() >= deadline {
            return now;
        }
        std::thread::sleep(Duration::from_millis(20));
        // The clock may have been stopped.
        clock::pass(20);
    }
}

pub fn page_size() -> usize {
    // SAFETY: sysconf takes any number.
    unsafe { libc::sysconf(libc::_SC_PAGESIZE) as usize }
}
