//! The thread that works in the background. It starts when it is first needed and ends when it is idle.
//!
//! One thread serves all tickets, one step of each in turn. All signals are blocked in it. A forked child starts its own: it
//! recognises the parent's helper as another process's and never uses it, nor its locks.

use core::ffi::c_void;
use core::ptr;
use core::sync::atomic::AtomicPtr;
use core::sync::atomic::Ordering::{AcqRel, Acquire};
use std::boxed::Box;
use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::ticket::{Ticket, TicketState};
use super::work::Work;
use crate::base::tuning::region::LINGER;
use crate::os::sys;
use crate::os::thread::{Process, process, spawn_for};

struct Job {
    work: Work,
    state: Arc<TicketState>,
}

struct Helper {
    process: Process,
    queue: Mutex<Queue>,
    wake: Condvar,
}

struct Queue {
    jobs: VecDeque<Job>,
    running: bool,
}

/// The helper of the process that last needed one.
static HELPER: AtomicPtr<Helper> = AtomicPtr::new(ptr::null_mut());

/// This process's helper. It is leaked, once per process that needs one: after a fork nothing tells whether the parent's lock
/// was held.
fn own_helper() -> &'static Helper {
    let process = process();
    // Acquire pairs with the AcqRel below: a thread that sees the pointer sees what it points to.
    let mut seen = HELPER.load(Acquire);
    loop {
        // SAFETY: null or leaked, so valid for ever.
        if let Some(helper) = unsafe { seen.as_ref() }
            && helper.process == process
        {
            return helper;
        }
        let fresh = Box::into_raw(Box::new(Helper {
            process,
            queue: Mutex::new(Queue {
                jobs: VecDeque::new(),
                running: false,
            }),
            wake: Condvar::new(),
        }));
        // AcqRel: publishes the helper, and on failure shows the one another thread published.
        match HELPER.compare_exchange(seen, fresh, AcqRel, Acquire) {
            // SAFETY: leaked above, by publishing it.
            Ok(_) => return unsafe { &*fresh },
            Err(theirs) => {
                // SAFETY: made above and never published.
                drop(unsafe { Box::from_raw(fresh) });
                seen = theirs;
            }
        }
    }
}

/// Hands work to the thread.
pub(super) fn submit(work: Work) -> io::Result<Ticket> {
    let state = Arc::new(TicketState::new(work.belongs_to_caller())?);
    let helper = own_helper();
    let mut queue = helper.lock();
    if !queue.running {
        start(helper)?;
        queue.running = true;
    }
    queue.jobs.push_back(Job {
        work,
        state: Arc::clone(&state),
    });
    helper.wake.notify_one();
    Ok(Ticket::new(state))
}

fn start(helper: &'static Helper) -> io::Result<()> {
    let arg = ptr::from_ref(helper).cast_mut().cast();
    spawn_for(run, arg).map_err(|error| io::Error::from_raw_os_error(error.0))
}

extern "C" fn run(helper: *mut c_void) -> *mut c_void {
    // The name is only for people.
    let _ = sys::name_thread(c"hakmem-prefault");
    // SAFETY: what `start` was given, which lives for ever.
    serve(unsafe { &*helper.cast::<Helper>() });
    ptr::null_mut()
}

impl Helper {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Nothing panics under this lock, and the queue would be whole if it did.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next job, or `None` when the thread should end.
    fn next(&self) -> Option<Job> {
        let mut queue = self.lock();
        loop {
            if let Some(job) = queue.jobs.pop_front() {
                return Some(job);
            }
            let (back, timeout) = self
                .wake
                .wait_timeout(queue, LINGER)
                .unwrap_or_else(PoisonError::into_inner);
            queue = back;
            if timeout.timed_out() && queue.jobs.is_empty() {
                queue.running = false;
                return None;
            }
        }
    }
}

fn serve(helper: &'static Helper) {
    while let Some(Job { mut work, state }) = helper.next() {
        match state.step(&mut work) {
            Some(outcome) => {
                // The memory is let go before the outcome is published.
                drop(work);
                state.complete(outcome);
            }
            None => {
                let pause = work.pause_us();
                helper.lock().jobs.push_back(Job { work, state });
                sys::sleep_us(pause);
            }
        }
    }
}
