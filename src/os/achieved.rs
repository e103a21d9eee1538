//! How much of a range lies on huge pages. The kernel is asked, because a request for them proves nothing. Allocates nothing.
//! Walks page tables, so it is for statistics and on demand only.

use crate::base::tuning::SCAN_STEP;
use core::ffi::c_void;

use super::first_thread;
use super::mapping::HUGE_PAGE;
use super::sys::{self, Errno};

/// One element of a reply to `PAGEMAP_SCAN`: `struct page_region` of linux/fs.h.
#[repr(C)]
#[derive(Clone, Copy)]
struct PageRegion {
    start: u64,
    end: u64,
    categories: u64,
}

/// The request: `struct pm_scan_arg` of linux/fs.h.
#[repr(C)]
struct ScanArg {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    vec: u64,
    vec_len: u64,
    max_pages: u64,
    category_inverted: u64,
    category_mask: u64,
    category_anyof_mask: u64,
    return_mask: u64,
}

const _: () = assert!(
    size_of::<ScanArg>() == 96,
    "the size is part of the request number"
);

/// `_IOWR('f', 16, struct pm_scan_arg)`, Linux 6.7.
const PAGEMAP_SCAN: u64 = 0xC060_6610;
const PAGE_IS_PFNZERO: u64 = 1 << 5;
const PAGE_IS_HUGE: u64 = 1 << 6;

/// Bytes of `[addr, addr + len)` that lie on huge pages, transparent ones or the pool's. The shared page of zeroes does not
/// count: the first write to it faults again.
pub(crate) fn huge_bytes(addr: usize, len: usize) -> Result<usize, Errno> {
    sys::preserve_errno(|| match scan(addr, len) {
        // Before Linux 6.7 only smaps tells, which is slower.
        Err(Errno::ENOTTY | Errno::EINVAL) => read_smaps(addr, len),
        other => other,
    })
}

fn scan(addr: usize, len: usize) -> Result<usize, Errno> {
    let fd = first_thread::PAGEMAP.open()?;
    let outcome = scan_in(fd, addr, addr + len);
    // Nothing was written through this descriptor, so a failing close loses nothing.
    let _ = sys::close(fd);
    outcome
}

fn scan_in(fd: i32, mut from: usize, end: usize) -> Result<usize, Errno> {
    let mut regions = [PageRegion {
        start: 0,
        end: 0,
        categories: 0,
    }; 32];
    let mut total = 0;
    while from < end {
        let to = end.min(from + SCAN_STEP);
        let mut arg = ScanArg {
            size: size_of::<ScanArg>() as u64,
            flags: 0,
            start: from as u64,
            end: to as u64,
            walk_end: 0,
            vec: regions.as_mut_ptr().expose_provenance() as u64,
            vec_len: regions.len() as u64,
            max_pages: 0,
            category_inverted: PAGE_IS_PFNZERO,
            category_mask: PAGE_IS_HUGE | PAGE_IS_PFNZERO,
            category_anyof_mask: 0,
            return_mask: PAGE_IS_HUGE,
        };
        // SAFETY: the argument is what the request takes; the kernel fills at most `vec_len`
        // regions of the array, and `walk_end`.
        let found = unsafe { sys::ioctl(fd, PAGEMAP_SCAN, (&raw mut arg).cast::<c_void>()) }?;
        total += regions
            .iter()
            .take(found)
            .map(|r| (r.end.min(to as u64)).saturating_sub(r.start.max(from as u64)) as usize)
            .sum::<usize>();
        let reached = arg.walk_end as usize;
        // Without progress the walk would repeat for ever.
        if reached <= from {
            return Err(Errno::EIO);
        }
        from = reached;
    }
    Ok(total)
}

/// Sums the huge-page lines of the mappings in the range. A mapping that extends beyond the range counts at most what lies
/// inside.
fn read_smaps(addr: usize, len: usize) -> Result<usize, Errno> {
    let fd = first_thread::SMAPS.open()?;
    let mut sums = SmapsSum {
        lo: addr,
        hi: addr + len,
        inside: 0,
        total: 0,
    };
    let outcome = for_each_line(|buf| sys::read(fd, buf), |line| sums.line(line));
    // As above.
    let _ = sys::close(fd);
    outcome.map(|()| sums.total)
}

struct SmapsSum {
    lo: usize,
    hi: usize,
    /// Bytes of the current mapping that lie inside the range and are not counted yet.
    inside: usize,
    total: usize,
}

impl SmapsSum {
    fn line(&mut self, line: &[u8]) {
        const FIELDS: [&[u8]; 5] = [
            b"AnonHugePages:",
            b"ShmemPmdMapped:",
            b"FilePmdMapped:",
            b"Shared_Hugetlb:",
            b"Private_Hugetlb:",
        ];
        if let Some((start, end)) = parse_range(line) {
            self.inside = end.min(self.hi).saturating_sub(start.max(self.lo));
        } else if self.inside > 0
            && let Some(rest) = FIELDS.iter().find_map(|f| line.strip_prefix(*f))
        {
            let kib = super::memory::number(rest).unwrap_or(0);
            let bytes = kib.saturating_mul(1024).min(self.inside);
            self.inside -= bytes;
            self.total += bytes;
        }
    }
}

/// Parses the line that begins a mapping: `7f0000000000-7f0000200000 rw-p …`.
pub(crate) fn parse_range(line: &[u8]) -> Option<(usize, usize)> {
    let dash = line.iter().position(|b| *b == b'-')?;
    let rest = line.get(dash + 1..)?;
    let space = rest.iter().position(|b| *b == b' ')?;
    Some((hex(line.get(..dash)?)?, hex(rest.get(..space)?)?))
}

fn hex(text: &[u8]) -> Option<usize> {
    usize::from_str_radix(core::str::from_utf8(text).ok()?, 16).ok()
}

/// Feeds a stream line by line through a fixed buffer. A line longer than the buffer comes in pieces.
pub(crate) fn for_each_line(
    mut read: impl FnMut(&mut [u8]) -> Result<usize, Errno>,
    mut each: impl FnMut(&[u8]),
) -> Result<(), Errno> {
    let mut buf = [0u8; 1024];
    let mut filled = 0;
    loop {
        let n = match buf.get_mut(filled..).map(&mut read) {
            Some(Ok(n)) => n,
            Some(Err(Errno::EINTR)) => continue,
            Some(Err(e)) => return Err(e),
            None => 0,
        };
        filled += n;
        let mut start = 0;
        while let Some(line) = buf.get(start..filled)
            && let Some(end) = line.iter().position(|b| *b == b'\n')
        {
            each(line.get(..end).unwrap_or(&[]));
            start += end + 1;
        }
        if n == 0 {
            return Ok(());
        }
        if start == 0 && filled == buf.len() {
            // Only names make a line this long, and they stand at its end.
            each(&buf);
            filled = 0;
        } else {
            buf.copy_within(start..filled, 0);
            filled -= start;
        }
    }
}

const _: () = assert!(
    SCAN_STEP.is_multiple_of(HUGE_PAGE),
    "a huge page is never cut by a step"
);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::fake::{self, Call};
    use crate::os::huge::{self, Thp, system_thp};
    use crate::os::mapping::{map_aligned, unmap};
    use std::vec::Vec;

    #[test]
    fn both_ways_agree_and_count_only_what_was_achieved() {
        let m = map_aligned(5 * HUGE_PAGE, HUGE_PAGE, None).expect("maps");
        // SAFETY: owned here.
        unsafe {
            huge::refuse(m.addr, 2 * HUGE_PAGE).expect("refuse");
            huge::advise(m.addr + 2 * HUGE_PAGE, 2 * HUGE_PAGE).expect("advise");
            // Otherwise the kernel may merge this mapping with another test's behind it, and smaps would count both.
            huge::refuse(m.addr + 4 * HUGE_PAGE, HUGE_PAGE).expect("refuse");
            super::super::prefault::populate(m.addr, 3 * HUGE_PAGE).expect("populate");
        }
        let scanned = scan(m.addr, m.len);
        let summed = read_smaps(m.addr, m.len).expect("smaps");
        if let Ok(bytes) = scanned {
            assert_eq!(bytes, summed);
        }
        assert_eq!(
            huge_bytes(m.addr, 2 * HUGE_PAGE),
            Ok(0),
            "refused memory is small"
        );
        if system_thp() != Thp::Never {
            // Fragmented memory may prevent a huge page; half a huge page never happens.
            assert!(summed == HUGE_PAGE || summed == 0, "{summed}");
            assert_eq!(
                huge_bytes(m.addr + 3 * HUGE_PAGE, HUGE_PAGE),
                Ok(0),
                "untouched"
            );
        }
        // SAFETY: owned here.
        unsafe { unmap(m).expect("unmap") };
    }

    #[test]
    fn an_old_kernel_is_asked_the_slow_way_and_no_proc_is_an_error() {
        fake::fail_kind(Call::Ioctl, 1, Errno::ENOTTY);
        assert_eq!(huge_bytes(1 << 30, HUGE_PAGE), Ok(0));
        fake::clear();
        fake::fail_kind_from(Call::Open, 1, Errno::ENOENT);
        assert_eq!(huge_bytes(1 << 30, HUGE_PAGE), Err(Errno::ENOENT));
        fake::clear();
        fake::fail_kind(Call::Ioctl, 1, Errno::EFAULT);
        assert_eq!(huge_bytes(1 << 30, HUGE_PAGE), Err(Errno::EFAULT));
        assert_eq!(fake::calls().of(Call::Close), 1);
        fake::clear();
    }

    #[test]
    fn lines_survive_any_cut() {
        let text = b"first\n\nthird line\nunfinished";
        for piece in 1..text.len() {
            let (mut at, mut lines) = (0, Vec::new());
            let read = |buf: &mut [u8]| {
                let n = piece.min(text.len() - at).min(buf.len());
                buf[..n].copy_from_slice(&text[at..at + n]);
                at += n;
                Ok(n)
            };
            for_each_line(read, |l| lines.push(l.to_vec())).expect("reads");
            assert_eq!(lines, [&b"first"[..], b"", b"third line"]);
        }
    }

    #[test]
    fn a_mapping_that_sticks_out_counts_what_lies_inside() {
        let mut sum = SmapsSum {
            lo: 0x40_0000,
            hi: 0x80_0000,
            inside: 0,
            total: 0,
        };
        for line in [
            &b"200000-600000 rw-p 00000000 00:00 0"[..],
            b"AnonHugePages:      4096 kB",
            b"Private_Hugetlb:    2048 kB",
            b"800000-a00000 rw-p 00000000 00:00 0",
            b"AnonHugePages:      2048 kB",
        ] {
            sum.line(line);
        }
        assert_eq!(sum.total, 2 << 20);
    }
}
