//! Tickets for work in the background.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::into_io;
use super::work::{Failure, Prefaulted, Work};
use crate::os::sys::{self, Errno};
use crate::os::thread::{Process, process};

/// Work in progress in the background.
///
/// Its descriptor (an eventfd) becomes readable when the work is done, and stays so. Put it into `poll`, `epoll`, tokio's
/// `AsyncFd` or whatever drives the program, then call [`Ticket::try_done`]. Dropping the ticket cancels what is left to do.
/// For the caller's own memory ([`super::prefault::range_async`]) the drop waits until the background thread no longer uses it.
///
/// ```
/// use hakmem_alloc::region::Region;
///
/// # fn main() -> std::io::Result<()> {
/// use std::os::fd::AsRawFd;
///
/// let region = Region::builder().len(4 << 20).map()?;
/// let ticket = region.prefault_async()?;
/// println!("poll descriptor {}", ticket.as_raw_fd());
/// # ticket.wait()?;
/// # Ok(()) }
/// ```
#[derive(Debug)]
#[must_use = "dropping the ticket cancels the work"]
pub struct Ticket {
    state: Arc<TicketState>,
}

#[derive(Debug)]
pub(super) struct TicketState {
    /// The process whose thread does the work.
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
            // SAFETY: made above, and this is its only owner.
            event: unsafe { OwnedFd::from_raw_fd(fd) },
            cancelled: AtomicBool::new(false),
            waits_on_drop,
            outcome: Mutex::new(None),
            done: Condvar::new(),
        })
    }

    /// One step of the work, unless it was cancelled.
    pub(super) fn step(&self, work: &mut Work) -> Option<Result<Prefaulted, Failure>> {
        // Relaxed: one more step after the cancellation is harmless, and a drop that has to wait waits for `complete`.
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
        // A write of 1 blocks only if the counter of the eventfd is near 2^64, and this is the only write. If it fails all the
        // same, `wait` and `try_done` still return the outcome.
        let _ = sys::write_all(self.event.as_raw_fd(), &1u64.to_ne_bytes());
    }

    fn lock(&self) -> MutexGuard<'_, Option<Result<Prefaulted, Failure>>> {
        // Nothing panics under this lock.
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// In a forked child no thread does the work, and a thread of the parent may hold the lock.
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
    ///
    /// ```
    /// use hakmem_alloc::region::Region;
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let region = Region::builder().len(4 << 20).map()?;
    /// let done = region.prefault_async()?.wait()?;
    /// assert!(done.bytes <= 4 << 20);
    /// # Ok(()) }
    /// ```
    pub fn wait(&self) -> io::Result<Prefaulted> {
        self.state.check_process()?;
        self.state.wait_done().map_err(Failure::into_io)
    }

    /// The outcome, or `None` while the work goes on. May be called again.
    ///
    /// ```
    /// use hakmem_alloc::region::Region;
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let region = Region::builder().len(4 << 20).map()?;
    /// let ticket = region.prefault_async()?;
    /// while ticket.try_done().is_none() {
    ///     std::thread::yield_now(); // better: poll its descriptor
    /// }
    /// # Ok(()) }
    /// ```
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
        // Relaxed: work that sees it late does one more step.
        self.state.cancelled.store(true, Relaxed);
        if self.state.waits_on_drop && self.state.process == process() {
            // The reason for its end no longer matters.
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
