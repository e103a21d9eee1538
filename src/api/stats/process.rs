//! The kernel's counts for the whole process, not only the allocator's part: resident bytes, their peak, page faults.
//!
//! They are read from `/proc/self/status` and `/proc/self/stat`, which the kernel writes from counters: no page tables are
//! walked. Nothing is allocated.
#![forbid(unsafe_code)]

use super::ProcessStats;
use crate::os::achieved::for_each_line;
use crate::os::first_thread;
use crate::os::memory::number;
use crate::os::sys::{self, Errno};

/// The kernel's counts; `None` for what it does not say.
#[inline(never)]
pub(crate) fn read() -> ProcessStats {
    sys::preserve_errno(|| {
        let mut process = ProcessStats::default();
        // Without /proc there are no counts.
        let _ = read_status(&mut process);
        let mut text = [0; 512];
        if let Ok(len) = sys::read_file(c"/proc/self/stat", &mut text) {
            process.page_faults = faults(text.get(..len).unwrap_or(&[]));
        }
        process
    })
}

fn read_status(process: &mut ProcessStats) -> Result<(), Errno> {
    let fd = first_thread::STATUS.open()?;
    let outcome = for_each_line(|piece| sys::read(fd, piece), |line| status(process, line));
    // Nothing was written through this descriptor, so a failing close loses nothing.
    let _ = sys::close(fd);
    outcome
}

fn status(process: &mut ProcessStats, line: &[u8]) {
    let bytes = |name: &[u8]| {
        let kib = line.strip_prefix(name).and_then(number)?;
        Some((kib as u64).saturating_mul(1024))
    };
    process.resident_bytes = bytes(b"VmRSS:").or(process.resident_bytes);
    process.peak_resident_bytes = bytes(b"VmHWM:").or(process.peak_resident_bytes);
}

/// Minor and major faults from `/proc/self/stat`. The process's name stands in parentheses and may contain anything; the last
/// parenthesis ends it.
fn faults(stat: &[u8]) -> Option<u64> {
    let end = stat.iter().rposition(|&byte| byte == b')')?;
    let mut fields = stat.get(end + 1..)?.trim_ascii().split(|&b| b == b' ');
    // proc_pid_stat(5): the state is field 3, minor faults are field 10, major ones 12.
    let minor = number(fields.nth(7)?)?;
    let major = number(fields.nth(1)?)?;
    Some((minor as u64).saturating_add(major as u64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::fake::{self, Call};

    #[test]
    fn the_kernels_text_is_read() {
        let mut process = ProcessStats::default();
        for line in [
            "Name:\tVmRSS: 1",
            "VmHWM:\t  2048 kB",
            "VmRSS:\t    1024 kB",
        ] {
            status(&mut process, line.as_bytes());
        }
        assert_eq!(process.resident_bytes, Some(1 << 20));
        assert_eq!(process.peak_resident_bytes, Some(2 << 20));
        let stat = b"7 (a ) (b\n) S 1 2 3 4 5 6 100 7 23 8 9";
        assert_eq!(faults(stat), Some(123));
        assert_eq!(faults(b"7 (a) S 1 2 3 4 5 6 100"), None);
        assert_eq!(faults(b""), None);
    }

    #[test]
    fn what_is_resident_is_within_its_peak_and_without_proc_unknown() {
        let process = read();
        assert!(process.resident_bytes > Some(1 << 20), "{process:?}");
        assert!(
            process.peak_resident_bytes >= process.resident_bytes,
            "{process:?}"
        );
        assert!(process.page_faults > Some(100), "{process:?}");
        fake::fail_kind_from(Call::Open, 1, Errno::ENOENT);
        assert_eq!(read(), ProcessStats::default());
        fake::clear();
    }
}
