//! One piece of work on a range: bringing it in, locking it, or writing it back. It runs step by step, so that it can be
//! paused, cancelled, and interleaved with other work on one thread.
//!
//! [`Pace`] decides how long steps are. A page that is unavailable (beyond the end of a truncated file) is an error and never a
//! signal. Nothing outside the range's OS pages is touched. The private memory of a region is brought in by atomic writes that
//! change nothing: its owner must not take away the right to write meanwhile.

use core::hint::black_box;
use core::sync::atomic::AtomicU8;
use core::sync::atomic::Ordering::Relaxed;
use std::io;
use std::sync::Arc;
use std::vec::Vec;

use super::pace::Pace;
use super::{Memory, into_io};
use crate::base::tuning::budget::HOLDS_BYTES;
use crate::base::tuning::region::{RETRIES, SYNC_STEP};
use crate::os::achieved::huge_bytes;
use crate::os::clock::now_ns;
use crate::os::findings;
use crate::os::mapping::HUGE_PAGE;
use crate::os::memory::populate_budget;
use crate::os::prefault::{populate_supported, touch_within};
use crate::os::sys::{self, Errno};
use crate::os::tally;

/// How an OS page is brought in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum How {
    /// Mapped for writing: `MADV_POPULATE_WRITE`.
    Write,
    /// Mapped for reading: `MADV_POPULATE_READ`.
    Read,
}

/// What was brought in.
///
/// ```
/// use hakmem_alloc::region::Region;
///
/// # fn main() -> std::io::Result<()> {
/// let region = Region::builder().len(4 << 20).map()?;
/// let done = region.prefault()?;
/// if done.bytes < region.len() {
///     println!("more would have exceeded what the machine can spare");
/// }
/// # Ok(()) }
/// ```
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Prefaulted {
    /// Bytes brought in (or, for `sync_async`, written back). Less than was asked for if
    /// more would have exceeded what the control group or the machine can spare.
    pub bytes: usize,
    /// Bytes of the range that lie on huge pages now, whatever brought them in. 0 if the kernel does not say.
    pub huge_bytes: usize,
    /// How long it took, including the wait for its turn.
    pub nanos: u64,
}

/// What prefaulting does with a region's memory. Decided when it is mapped.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    pub how: How,
    /// The largest step: a huge page, or a page of the pool.
    pub step: usize,
    /// Whether memory comes only in pieces of `step`, so that a smaller step takes as long.
    pub whole: bool,
    /// Whether it takes memory that the machine may not have to spare.
    pub budgeted: bool,
    /// Whether huge pages were requested.
    pub wants_huge: bool,
    /// Whether pages are touched before the kernel is asked to populate. Only for the region's own memory.
    pub touches: bool,
    pub locks: bool,
    pub collapses: bool,
    /// Whether there is a file to write back to.
    pub syncs: bool,
}

impl Plan {
    /// Memory that is populated for writing.
    pub(super) fn memory() -> Plan {
        Plan {
            how: How::Write,
            step: HUGE_PAGE,
            whole: false,
            budgeted: true,
            wants_huge: false,
            touches: false,
            locks: false,
            collapses: false,
            syncs: false,
        }
    }

    /// Whether the region may be written: every region except read-only files.
    pub(super) fn is_writable(&self) -> bool {
        self.how == How::Write || self.syncs
    }

    fn pace(&self) -> Pace {
        Pace::new(self.step, self.whole)
    }
}

/// A part of the range with one way to bring it in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Segment {
    pub addr: usize,
    pub len: usize,
    pub how: How,
}

/// What keeps the range mapped while work goes on.
pub(super) enum Keep {
    /// A region, by reference count.
    Memory(Arc<Memory>),
    /// The caller of an unsafe function, until the ticket is done or dropped.
    Caller,
}

/// Why work ended early.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Failure {
    pub errno: Errno,
    /// Bytes done by then.
    pub bytes: usize,
    pub reads: bool,
}

impl Failure {
    pub(super) fn into_io(self) -> io::Error {
        if self.errno == Errno::EFAULT && self.reads {
            return io::Error::new(
                io::ErrorKind::UnexpectedEof,
                std::format!(
                    "prefault: EFAULT after {} bytes: the file behind the memory is shorter than \
                     the mapping",
                    self.bytes
                ),
            );
        }
        into_io(self.errno)
    }
}

enum Task {
    Populate(Plan),
    Sync,
}

/// The work, and its progress.
pub(super) struct Work {
    keep: Keep,
    task: Task,
    segments: Vec<Segment>,
    /// Where the next step begins: the segment, and the offset in it.
    at: (usize, usize),
    done: usize,
    /// Bytes requested, which may be less than whole OS pages.
    asked: usize,
    pace: Pace,
    budget: usize,
    /// Bytes until the budget is read again.
    budget_holds: usize,
    began_ns: u64,
}

impl Work {
    pub(super) fn populate(keep: Keep, segment: Segment, plan: Plan, asked: usize) -> Work {
        Work::new(
            keep,
            Task::Populate(plan),
            std::vec![segment],
            plan.pace(),
            asked,
        )
    }

    /// Work on the caller's own range, whose segments may differ in kind.
    pub(super) fn range(segments: Vec<Segment>, asked: usize) -> Work {
        let plan = Plan::memory();
        Work::new(
            Keep::Caller,
            Task::Populate(plan),
            segments,
            plan.pace(),
            asked,
        )
    }

    pub(super) fn sync(keep: Keep, segment: Segment) -> Work {
        let pace = Pace::new(SYNC_STEP, true);
        Work::new(keep, Task::Sync, std::vec![segment], pace, segment.len)
    }

    fn new(keep: Keep, task: Task, segments: Vec<Segment>, pace: Pace, asked: usize) -> Work {
        let began_ns = now_ns();
        let (at, done, budget, budget_holds) = ((0, 0), 0, 0, 0);
        Work {
            keep,
            task,
            segments,
            at,
            done,
            asked,
            pace,
            budget,
            budget_holds,
            began_ns,
        }
    }

    /// Whether a caller waits until its memory is let go.
    pub(super) fn belongs_to_caller(&self) -> bool {
        matches!(self.keep, Keep::Caller)
    }

    /// How long to wait before the next step.
    pub(super) fn pause_us(&self) -> u64 {
        self.pace.pause_us()
    }

    /// Does all of it on this thread.
    pub(super) fn run_here(mut self) -> io::Result<Prefaulted> {
        loop {
            match self.advance() {
                None => sys::sleep_us(self.pause_us()),
                Some(Ok(done)) => return Ok(done),
                Some(Err(failure)) => return Err(failure.into_io()),
            }
        }
    }

    /// Does one step. `Some` when nothing is left to do.
    pub(super) fn advance(&mut self) -> Option<Result<Prefaulted, Failure>> {
        let fail = |errno, bytes, reads| {
            Some(Err(Failure {
                errno,
                bytes,
                reads,
            }))
        };
        // Relaxed: one step too many is harmless.
        if let Keep::Memory(memory) = &self.keep
            && memory.closing.load(Relaxed)
        {
            return fail(Errno::ECANCELED, self.done, false);
        }
        let Some(segment) = self.segments.get(self.at.0).copied() else {
            return Some(Ok(self.finish()));
        };
        let addr = segment.addr + self.at.1;
        let left = segment.len - self.at.1;
        // Up to the next multiple of the step, so that huge pages are brought in whole.
        let step = self.pace.step();
        let len = (step - addr % step).min(left);
        let began = now_ns();
        let outcome = match &self.task {
            Task::Sync => sys::msync(addr, len, libc::MS_SYNC),
            Task::Populate(plan) => {
                let plan = *plan;
                if plan.budgeted && segment.how == How::Write && !self.within_budget(len) {
                    return Some(Ok(self.finish()));
                }
                if plan.touches {
                    // SAFETY: the region's own memory, mapped writable; its contents stay.
                    unsafe { touch_within(addr, len) };
                    // Populating below finds the pages there, and returns an error if it does not.
                }
                bring_in(addr, len, segment.how, plan)
            }
        };
        if let Err(errno) = outcome {
            return fail(errno, self.done, segment.how == How::Read);
        }
        self.pace.took(now_ns() - began);
        if matches!(self.task, Task::Populate(_)) {
            if self.done == 0 {
                tally::prefault_begun();
            }
            tally::prefault_done(len);
        }
        self.done += len;
        self.at.1 += len;
        if self.at.1 == segment.len {
            self.at = (self.at.0 + 1, 0);
        }
        match self.at.0 < self.segments.len() {
            true => None,
            false => Some(Ok(self.finish())),
        }
    }

    fn within_budget(&mut self, len: usize) -> bool {
        if len > self.budget_holds {
            self.budget = populate_budget();
            self.budget_holds = HOLDS_BYTES;
        }
        self.budget_holds = self.budget_holds.saturating_sub(len);
        let within = len <= self.budget;
        self.budget = self.budget.saturating_sub(len);
        within
    }

    fn finish(&self) -> Prefaulted {
        let mut huge = 0;
        if let Task::Populate(plan) = &self.task {
            let each = self.segments.iter().map(|s| huge_bytes(s.addr, s.len));
            // Without /proc nothing is claimed.
            if let Ok(bytes) = each.sum::<Result<usize, Errno>>() {
                huge = bytes;
                // File systems decide on their own pages.
                if plan.wants_huge && plan.budgeted && huge < (self.done / 2) & !(HUGE_PAGE - 1) {
                    findings::region_is_small(self.done, huge, !plan.touches);
                }
            }
        }
        Prefaulted {
            bytes: self.done.min(self.asked),
            huge_bytes: huge,
            nanos: now_ns().saturating_sub(self.began_ns),
        }
    }
}

fn bring_in(addr: usize, len: usize, how: How, plan: Plan) -> Result<(), Errno> {
    if plan.collapses && addr.is_multiple_of(HUGE_PAGE) && len == HUGE_PAGE {
        // The collapse needs one resident page. Populating brings in what it does not.
        populate(addr, sys::page_size(), how)?;
        // SAFETY: `Keep` names what keeps the range mapped; contents stay.
        let _ = unsafe { crate::os::huge::collapse(addr, len) };
    }
    populate(addr, len, how)?;
    if plan.locks {
        retry(|| sys::mlock(addr, len)).inspect_err(|e| findings::lock_refused(*e))?;
    }
    Ok(())
}

fn populate(addr: usize, len: usize, how: How) -> Result<(), Errno> {
    if !populate_supported() {
        return populate_by_hand(addr, len, how);
    }
    let advice = match how {
        How::Write => sys::MADV_POPULATE_WRITE,
        How::Read => sys::MADV_POPULATE_READ,
    };
    // SAFETY: populating changes no contents, whatever is mapped there.
    retry(|| unsafe { sys::madvise(addr, len, advice) })
}

/// Before Linux 5.14: touches writable memory, and reads anything else through the kernel, which returns `EFAULT` where a load
/// would raise SIGBUS.
fn populate_by_hand(addr: usize, len: usize, how: How) -> Result<(), Errno> {
    let (page, own) = (sys::page_size(), crate::os::thread::tid());
    for at in (addr..addr + len).step_by(page) {
        retry(|| sys::peek(own, at, &mut [0]))?;
        if how == How::Write {
            // SAFETY: segments to write are mapped writable, as the owner of the range promises, and the read above found the
            // page there. Or-ing zero atomically cannot undo what another thread writes. The box hides the zero: the compiler
            // would drop an update that changes nothing, and the page would not come in.
            unsafe { AtomicU8::from_ptr(at as *mut u8) }.fetch_or(black_box(0), Relaxed);
        }
    }
    Ok(())
}

/// Repeats a call after signals and temporary shortages, but not for ever.
fn retry<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    let mut left = RETRIES;
    loop {
        match call() {
            Err(Errno::EINTR | Errno::EAGAIN) if left > 0 => left -= 1,
            other => return other,
        }
    }
}

#[cfg(test)]
#[path = "work_tests.rs"]
mod tests;
