//! Bringing memory in, in the background or at once: the ticket, and the caller's own memory.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::vec::Vec;

use super::work::{Failure, How, Segment, Work};
use super::{helper, into_io};
use crate::os::achieved::{for_each_line, parse_range};
use crate::os::sys::{self, Errno};
use crate::os::thread::{Process, process};

/// What was brought in.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Prefaulted {
    /// Bytes brought in (or, for `sync_async`, written back). Less than was asked for where more
    /// would have exceeded what the control group or the machine can spare.
    pub bytes: usize,
    /// Bytes of the range that lie on huge pages now, whoever brought them in. 0 where the kernel
    /// could not be asked.
    pub huge_bytes: usize,
    /// How long it took, waiting for its turn included.
    pub nanos: u64,
}

/// Work in progress in the background.
///
/// Its descriptor (an eventfd) becomes readable when the work is done, and stays so: put it into
/// `poll`, `epoll`, tokio's `AsyncFd` or whatever drives the program, then ask [`Ticket::try_done`].
/// Dropping the ticket cancels what has not been done; for memory of the caller's own
/// ([`range_async`]) the drop waits for the step in progress.
#[derive(Debug)]
#[must_use = "dropping the ticket cancels the work"]
pub struct Ticket {
    state: Arc<TicketState>,
}

#[derive(Debug)]
pub(super) struct TicketState {
    /// The process that works on it.
    process: Process,
    event: OwnedFd,
    cancelled: AtomicBool,
    /// Whether the drop has to wait, because the memory is the caller's.
    waits_on_drop: bool,
    outcome: Mutex<Option<Result<Prefaulted, Failure>>>,
    done: Condvar,
}

impl TicketState {
    pub(super) fn new(waits_on_drop: bool) -> io::Result<TicketState> {
        let fd = sys::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK).map_err(into_io)?;
        Ok(TicketState {
            process: process(),
            // SAFETY: made above, and owned by nobody else.
            event: unsafe { OwnedFd::from_raw_fd(fd) },
            cancelled: AtomicBool::new(false),
            waits_on_drop,
            outcome: Mutex::new(None),
            done: Condvar::new(),
        })
    }

    /// One step of the work, unless it was cancelled.
    pub(super) fn step(&self, work: &mut Work) -> Option<Result<Prefaulted, Failure>> {
        // A step more after the cancellation does no harm, and who waits for the end of it waits
        // for `complete`: Relaxed.
        if self.cancelled.load(Relaxed) {
            let (errno, bytes, reads) = (Errno::ECANCELED, 0, false);
            return Some(Err(Failure {
                errno,
                bytes,
                reads,
            }));
        }
        work.advance()
    }

    pub(super) fn complete(&self, outcome: Result<Prefaulted, Failure>) {
        *self.lock() = Some(outcome);
        self.done.notify_all();
        // An eventfd takes a hundred thousand such writes before it would block; this is the only
        // one. Were it to fail all the same, `wait` and `try_done` still know.
        let _ = sys::write_all(self.event.as_raw_fd(), &1u64.to_ne_bytes());
    }

    fn lock(&self) -> MutexGuard<'_, Option<Result<Prefaulted, Failure>>> {
        // Nothing panics under this lock.
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// In a forked child nobody works on it, and the lock may be held by a thread of the parent.
    fn check_process(&self) -> io::Result<()> {
        if self.process == process() {
            Ok(())
        } else {
            Err(into_io(Errno::ECANCELED))
        }
    }

    fn wait_done(&self) -> Result<Prefaulted, Failure> {
        let mut outcome = self.lock();
        loop {
            match *outcome {
                Some(done) => return done,
                None => {
                    outcome = self
                        .done
                        .wait(outcome)
                        .unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }
}

impl Ticket {
    pub(super) fn new(state: Arc<TicketState>) -> Ticket {
        Ticket { state }
    }

    /// Waits until the work is done.
    ///
    /// # Errors
    /// What ended the work early; `ECANCELED` in a child forked meanwhile.
    pub fn wait(&self) -> io::Result<Prefaulted> {
        self.state.check_process()?;
        self.state.wait_done().map_err(Failure::into_io)
    }

    /// The outcome, or `None` while the work goes on. May be asked again.
    pub fn try_done(&self) -> Option<io::Result<Prefaulted>> {
        if let Err(e) = self.state.check_process() {
            return Some(Err(e));
        }
        self.state
            .lock()
            .map(|outcome| outcome.map_err(Failure::into_io))
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        // Seen late means one step more: Relaxed.
        self.state.cancelled.store(true, Relaxed);
        if self.state.waits_on_drop && self.state.process == process() {
            // Why it ended does not matter any more.
            let _ = self.state.wait_done();
        }
    }
}

impl AsFd for Ticket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.state.event.as_fd()
    }
}

impl AsRawFd for Ticket {
    fn as_raw_fd(&self) -> RawFd {
        self.state.event.as_raw_fd()
    }
}

/// Brings `len` bytes at `ptr` in; returns when that is done. As [`super::Region::prefault`]:
/// anonymous memory is populated for writing, anything else for reading.
///
/// # Errors
/// `ENOMEM` where part of the range is not mapped, else what the kernel said.
///
/// # Safety
/// Until it returns, the range must not be unmapped and mapped anew by another thread: where the
/// kernel is older than 5.14, what is found writable at the start is touched.
pub unsafe fn range(ptr: *const u8, len: usize) -> io::Result<Prefaulted> {
    range_work(ptr, len)?.run_here()
}

/// As [`range`], in the background.
///
/// # Errors
/// As [`range`], and where there is no descriptor or no thread to be had.
///
/// # Safety
/// As for [`range`], until the ticket is done or its drop has returned.
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

/// The range as the kernel describes it: what is anonymous and writable is populated for writing;
/// files and shared memory are read, so that no page becomes dirty or is copied for nothing.
fn segments_of(lo: usize, hi: usize) -> Result<Vec<Segment>, Errno> {
    let mut segments: Vec<Segment> = Vec::new();
    let mut covered = lo;
    let fd = sys::open(c"/proc/self/maps", libc::O_RDONLY | libc::O_CLOEXEC, 0)?;
    let outcome = for_each_line(
        |buf| sys::read(fd, buf),
        |line| {
            let Some((start, end)) = parse_range(line) else {
                return;
            };
            // A gap leaves `covered` behind, and that is the answer.
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

/// `start-end rwxp offset dev inode name`: an inode of 0 is anonymous memory.
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
