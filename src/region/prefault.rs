//! Brings in the caller's own memory, at once or in the background.

use std::io;
use std::vec::Vec;

pub use super::ticket::Ticket;
pub use super::work::Prefaulted;
use super::work::{How, Segment, Work};
use super::{helper, into_io};
use crate::os::achieved::{for_each_line, parse_range};
use crate::os::first_thread;
use crate::os::sys::{self, Errno};

/// Brings in `len` bytes at `ptr` and returns when that is done. As [`super::Region::prefault`], except that anonymous writable
/// memory is populated for writing and everything else for reading.
///
/// # Errors
/// `ENOMEM` if part of the range is not mapped, else the kernel's.
///
/// # Safety
/// Until it returns, no thread may unmap the range, map other memory there or make it read-only: on kernels older than 5.14 it
/// touches what was writable at the start.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// let buffer = Vec::<u8>::with_capacity(1 << 20);
/// // SAFETY: the buffer stays where it is until the call returns.
/// let done = unsafe { hakmem_alloc::prefault::range(buffer.as_ptr(), buffer.capacity()) }?;
/// println!("{} bytes are in", done.bytes);
/// # Ok(()) }
/// ```
pub unsafe fn range(ptr: *const u8, len: usize) -> io::Result<Prefaulted> {
    range_work(ptr, len)?.run_here()
}

/// As [`range`], in the background.
///
/// # Errors
/// As [`range`], and if the kernel refuses a descriptor or a thread.
///
/// # Safety
/// As for [`range`], until the ticket is done or its drop has returned.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// let buffer = Vec::<u8>::with_capacity(1 << 20);
/// // SAFETY: the buffer stays where it is until the ticket is done.
/// let ticket = unsafe { hakmem_alloc::prefault::range_async(buffer.as_ptr(), buffer.capacity()) }?;
/// // … other work …
/// println!("{} bytes are in", ticket.wait()?.bytes);
/// # Ok(()) }
/// ```
pub unsafe fn range_async(ptr: *const u8, len: usize) -> io::Result<Ticket> {
    helper::submit(range_work(ptr, len)?)
}

fn range_work(ptr: *const u8, len: usize) -> io::Result<Work> {
    let page = sys::page_size();
    let start = ptr.expose_provenance();
    let lo = start & !(page - 1);
    let hi = start
        .checked_add(len)
        .and_then(|end| end.checked_next_multiple_of(page))
        .ok_or_else(|| into_io(Errno::ENOMEM))?;
    let segments = segments_of(lo, if len == 0 { lo } else { hi }).map_err(into_io)?;
    Ok(Work::range(segments, len))
}

/// The range as the kernel describes it. Anonymous writable memory is populated for writing. Files and shared memory are read,
/// so that no page becomes dirty or is copied for nothing.
fn segments_of(lo: usize, hi: usize) -> Result<Vec<Segment>, Errno> {
    let mut segments: Vec<Segment> = Vec::new();
    let mut covered = lo;
    let fd = first_thread::MAPS.open()?;
    let outcome = for_each_line(
        |buf| sys::read(fd, buf),
        |line| {
            let Some((start, end)) = parse_range(line) else {
                return;
            };
            // A gap leaves `covered` below `hi`, which is reported below.
            if start > covered || end <= covered || covered >= hi {
                return;
            }
            let len = end.min(hi) - covered;
            let how = how_of(line);
            match segments.last_mut() {
                Some(last) if last.how == how => last.len += len,
                _ => segments.push(Segment {
                    addr: covered,
                    len,
                    how,
                }),
            }
            covered += len;
        },
    );
    // Nothing was written through this descriptor, so a failing close loses nothing.
    let _ = sys::close(fd);
    outcome?;
    if covered < hi {
        Err(Errno::ENOMEM)
    } else {
        Ok(segments)
    }
}

/// A line is `start-end rwxp offset dev inode name`; an inode of 0 means anonymous memory.
fn how_of(line: &[u8]) -> How {
    let mut words = line.split(|b| *b == b' ').filter(|w| !w.is_empty());
    let writable = words.nth(1).is_some_and(|p| p.get(1) == Some(&b'w'));
    let anonymous = words.nth(2) == Some(b"0");
    if writable && anonymous {
        How::Write
    } else {
        How::Read
    }
}

#[cfg(test)]
#[path = "prefault_tests.rs"]
mod tests;
