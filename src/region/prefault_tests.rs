//! Tests of [`super`].

use super::*;
use crate::os::fake::{self, Call};
use crate::os::mapping::{HUGE_PAGE, map_aligned, unmap};

#[test]
fn a_line_of_the_map_says_how() {
    let anonymous = b"7f00-7f10 rw-p 00000000 00:00 0 ";
    assert_eq!(how_of(anonymous), How::Write);
    assert_eq!(
        how_of(b"7f00-7f10 rw-p 00000000 00:00 0                  [heap]"),
        How::Write
    );
    assert_eq!(how_of(b"7f00-7f10 r--p 00000000 00:00 0"), How::Read);
    assert_eq!(
        how_of(b"7f00-7f10 rw-s 00000000 00:01 12345   /memfd:x (deleted)"),
        How::Read
    );
    assert_eq!(
        how_of(b"7f00-7f10 rw-p 00001000 08:01 77   /bin/x"),
        How::Read
    );
    assert_eq!(how_of(b"garbage"), How::Read);
}

#[test]
fn a_range_is_split_by_kind_and_a_gap_is_an_error() {
    let m = map_aligned(4 * HUGE_PAGE, HUGE_PAGE, None).expect("maps");
    let third = m.addr + 2 * HUGE_PAGE;
    // SAFETY: owned here; nobody refers into it.
    unsafe {
        sys::mprotect(m.addr + HUGE_PAGE, HUGE_PAGE, libc::PROT_READ).expect("mprotect");
        let segments = segments_of(m.addr, third).expect("all mapped");
        let expected = [
            Segment {
                addr: m.addr,
                len: HUGE_PAGE,
                how: How::Write,
            },
            Segment {
                addr: m.addr + HUGE_PAGE,
                len: HUGE_PAGE,
                how: How::Read,
            },
        ];
        assert_eq!(segments, expected);
        fake::fail_kind(Call::Read, 1, Errno::EIO);
        assert_eq!(segments_of(m.addr, third), Err(Errno::EIO));
        fake::fail_kind(Call::Open, 1, Errno::ENOENT);
        assert_eq!(segments_of(m.addr, third), Err(Errno::ENOENT));
        fake::clear();
        unmap(m).expect("unmap");
    }
    assert_eq!(segments_of(4096, 8192), Err(Errno::ENOMEM));
    assert_eq!(segments_of(4096, 4096), Ok(Vec::new()));
}

#[test]
fn a_length_beyond_the_address_space_is_refused() {
    let err = range_work(core::ptr::without_provenance(1 << 20), usize::MAX).err();
    assert_eq!(err.expect("refused").raw_os_error(), Some(libc::ENOMEM));
}
