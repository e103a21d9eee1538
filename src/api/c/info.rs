//! glibc's queries about the allocator as a whole, answered from the allocator's own accounting.
//!
//! glibc's arenas correspond to superslabs, and its blocks with mappings of their own to large blocks.

use super::file::{Buffer, File};
use crate::api::raw;
use crate::api::stats::Stats;
use crate::base::size_class::{self, Class};
use crate::base::units::SUPERSLAB;
use core::ffi::c_int;
use core::fmt::{self, Write};

#[derive(Default)]
struct Totals {
    mapped: u64,
    live: u64,
    large_blocks: u64,
    large_bytes: u64,
    empty_superslabs: u64,
    giveable: u64,
}

impl Totals {
    fn of(stats: &Stats) -> Totals {
        Totals {
            mapped: stats.superslabs.mapped * SUPERSLAB as u64,
            live: stats.live_bytes() - stats.large.live_bytes,
            large_blocks: stats.large.live_blocks,
            large_bytes: stats.large.live_bytes,
            empty_superslabs: stats.superslabs.retained + stats.superslabs.purged,
            giveable: stats.superslabs.retained * SUPERSLAB as u64,
        }
    }
}

/// `mallinfo2`. `arena`: bytes of mapped superslabs; `uordblks` and `fordblks`: the part of them in live blocks, and the rest;
/// `hblks` and `hblkhd`: live large blocks and their bytes; `ordblks`: empty superslabs; `keepcost`: bytes of those that are
/// not purged. There are no fast bins.
#[unsafe(no_mangle)]
pub extern "C" fn mallinfo2() -> libc::mallinfo2 {
    let mut totals = Totals::default();
    raw::with_stats(true, &mut |stats, _| totals = Totals::of(stats));
    let whole = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
    libc::mallinfo2 {
        arena: whole(totals.mapped),
        ordblks: whole(totals.empty_superslabs),
        smblks: 0,
        hblks: whole(totals.large_blocks),
        hblkhd: whole(totals.large_bytes),
        usmblks: 0,
        fsmblks: 0,
        uordblks: whole(totals.live),
        fordblks: whole(totals.mapped.saturating_sub(totals.live)),
        keepcost: whole(totals.giveable),
    }
}

/// `mallinfo`: as [`mallinfo2`]. What does not fit an `int` becomes the largest one.
#[unsafe(no_mangle)]
pub extern "C" fn mallinfo() -> libc::mallinfo {
    let full = mallinfo2();
    let short = |n: usize| c_int::try_from(n).unwrap_or(c_int::MAX);
    libc::mallinfo {
        arena: short(full.arena),
        ordblks: short(full.ordblks),
        smblks: short(full.smblks),
        hblks: short(full.hblks),
        hblkhd: short(full.hblkhd),
        usmblks: short(full.usmblks),
        fsmblks: short(full.fsmblks),
        uordblks: short(full.uordblks),
        fordblks: short(full.fordblks),
        keepcost: short(full.keepcost),
    }
}

/// `malloc_info`: the accounting as XML, in glibc's elements: free blocks by size, then totals. `options` must be 0.
///
/// # Safety
/// `out` is a stream that may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn malloc_info(options: c_int, out: *mut libc::FILE) -> c_int {
    if options != 0 {
        return libc::EINVAL;
    }
    // SAFETY: the caller's promise.
    let mut out = unsafe { File::new(out) };
    raw::with_stats(true, &mut |stats, _| {
        // As with glibc, the stream's own error flag tells whether it was written.
        let _ = write_xml(&mut out, stats);
    });
    0
}

fn write_xml(out: &mut File, stats: &Stats) -> fmt::Result {
    let totals = Totals::of(stats);
    out.write_str("<malloc version=\"1\">\n<heap nr=\"0\">\n<sizes>\n")?;
    let (mut count, mut bytes) = (0, 0);
    // Class 0 has no blocks.
    for (index, class) in stats.classes.iter().enumerate().skip(1) {
        let size = class.block_bytes;
        let blocks = class.slabs * size_class::capacity(Class::new(index)) as u64;
        let free = blocks.saturating_sub(class.live_blocks);
        if free > 0 {
            count += free;
            bytes += free * size;
            writeln!(
                out,
                "  <size from=\"{size}\" to=\"{size}\" total=\"{}\" count=\"{free}\"/>",
                free * size
            )?;
        }
    }
    write!(
        out,
        "</sizes>\n<total type=\"fast\" count=\"0\" size=\"0\"/>\n<total type=\"rest\" count=\"{count}\" size=\"{bytes}\"/>\n"
    )?;
    let tail = |out: &mut File| {
        write!(
            out,
            "<system type=\"current\" size=\"{0}\"/>\n<aspace type=\"total\" size=\"{0}\"/>\n",
            totals.mapped
        )
    };
    tail(out)?;
    write!(
        out,
        "</heap>\n<total type=\"fast\" count=\"0\" size=\"0\"/>\n<total type=\"rest\" count=\"{count}\" size=\"{bytes}\"/>\n\
         <total type=\"mmap\" count=\"{}\" size=\"{}\"/>\n",
        totals.large_blocks, totals.large_bytes
    )?;
    tail(out)?;
    out.write_str("</malloc>\n")
}

/// `malloc_stats`: the allocator's statistics as text on the program's `stderr`.
#[unsafe(no_mangle)]
pub extern "C" fn malloc_stats() {
    unsafe extern "C" {
        static stderr: *mut libc::FILE;
    }
    // SAFETY: the C library's own stream.
    let mut out = unsafe { File::new(stderr) };
    raw::with_stats(false, &mut |stats, room| {
        let size = room.len();
        let mut text = Buffer::new(room);
        // A buffer counts what does not fit and never fails.
        let _ = write!(text, "{stats:#}");
        let len = text.finish();
        // One write, so that the output of several processes does not mix. There is nowhere to report a failure.
        let _ = match room.get(..len).map(core::str::from_utf8) {
            Some(Ok(text)) if len < size => out.write_str(text),
            _ => write!(out, "{stats:#}"),
        };
    });
}
