//! How many bytes the kernel keeps on huge pages, by its own account in `/proc/self/smaps`.
//!
//! Reading it walks the page tables of the whole process and makes every mapping call wait meanwhile, so it happens only on
//! request. Nothing is allocated: the text is read in pieces.
#![deny(unsafe_code)]

use crate::os::achieved::{for_each_line, parse_range};
use crate::os::first_thread;
use crate::os::memory::number;
use crate::os::sys::{self, Errno};

/// Bytes on huge pages, transparent or from the pool, in the mappings that `ours` accepts by their first address and the one
/// after their last.
pub(crate) fn huge_bytes(ours: &mut dyn FnMut(usize, usize) -> bool) -> Result<u64, Errno> {
    sys::preserve_errno(|| {
        let fd = first_thread::SMAPS.open()?;
        let mut sum = Sum {
            ours,
            counting: false,
            bytes: 0,
        };
        let outcome = for_each_line(|piece| sys::read(fd, piece), |line| sum.line(line));
        // Nothing was written through this descriptor, so a failing close loses nothing.
        let _ = sys::close(fd);
        outcome.map(|()| sum.bytes)
    })
}

/// Sums over the lines.
struct Sum<'a> {
    ours: &'a mut dyn FnMut(usize, usize) -> bool,
    /// Whether the current lines describe one of our mappings.
    counting: bool,
    bytes: u64,
}

impl Sum<'_> {
    fn line(&mut self, line: &[u8]) {
        const FIELDS: [&[u8]; 3] = [b"AnonHugePages:", b"Private_Hugetlb:", b"Shared_Hugetlb:"];
        if let Some((start, end)) = parse_range(line) {
            self.counting = (self.ours)(start, end);
        } else if self.counting
            && let Some(kib) = FIELDS
                .iter()
                .find_map(|field| line.strip_prefix(*field))
                .and_then(number)
        {
            self.bytes += (kib as u64).saturating_mul(1024);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    const SMAPS: &str = "\
7f1000000000-7f1000400000 rw-p 00000000 00:00 0                          [anon:hakmem]
Size:               4096 kB
AnonHugePages:      2048 kB
Private_Hugetlb:       0 kB
VmFlags: rd wr mr mw me ac hg
7f2000000000-7f2000400000 rw-p 00000000 00:00 0
AnonHugePages:      4096 kB
7f3000000000-7f3000400000 rw-p 00000000 00:0f 1234 /a/rather/long/path/that/does/not/fit/into/the/line
AnonHugePages:         0 kB
Private_Hugetlb:    6144 kB
";

    #[test]
    fn mappings_of_others_do_not_count() {
        let mut asked = Vec::new();
        let mut ours = |start, end| {
            asked.push((start, end - start));
            start != 0x7f20_0000_0000
        };
        let mut sum = Sum {
            ours: &mut ours,
            counting: false,
            bytes: 0,
        };
        SMAPS.lines().for_each(|line| sum.line(line.as_bytes()));
        assert_eq!(sum.bytes, (2048 + 6144) << 10);
        assert_eq!(
            asked,
            [0x7f10_0000_0000, 0x7f20_0000_0000, 0x7f30_0000_0000].map(|start| (start, 4 << 20))
        );
    }

    /// If the kernel made huge pages, its account has exactly those, and none of the neighbours'.
    #[test]
    #[allow(unsafe_code)]
    fn the_kernels_account_is_read() {
        use crate::os::mapping::{HUGE_PAGE, map_aligned, unmap};
        use crate::os::{huge, prefault};
        let map = map_aligned(2 * HUGE_PAGE, HUGE_PAGE, None).expect("a few MiB");
        let mut ours = |from, to| from < map.end() && map.addr < to;
        assert_eq!(huge_bytes(&mut ours), Ok(0), "nothing was touched yet");
        // SAFETY: the mapping is this test's own, and its contents do not matter.
        let collapsed = unsafe {
            huge::advise(map.addr, map.len).and_then(|()| {
                prefault::touch(map.addr, map.len);
                huge::collapse(map.addr, map.len)
            })
        };
        match collapsed {
            Ok(()) => assert_eq!(huge_bytes(&mut ours), Ok(2 * HUGE_PAGE as u64)),
            Err(error) => std::eprintln!("no huge pages to be had: {error}"),
        }
        assert_eq!(huge_bytes(&mut |_, _| false), Ok(0));
        // SAFETY: nothing refers into it.
        unsafe { unmap(map) }.expect("munmap");
    }

    #[test]
    fn a_failure_is_returned_and_the_descriptor_closed() {
        use crate::os::fake::{self, Call};
        fake::fail_kind(Call::Open, 1, Errno::EACCES);
        assert_eq!(huge_bytes(&mut |_, _| true), Err(Errno::EACCES));
        fake::clear();
        fake::fail_kind(Call::Read, 2, Errno::EIO);
        assert_eq!(huge_bytes(&mut |_, _| true), Err(Errno::EIO));
        assert_eq!(fake::calls().of(Call::Close), 1);
        fake::clear();
    }
}
