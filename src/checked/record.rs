//! What is known of each checked block, out of reach of whoever writes past one.

use super::site::Call;

/// Where a block is in its life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(super) enum State {
    /// Never handed out since its slab was opened.
    Fresh = 0,
    Allocated,
    /// Freed, and waiting in its slab's queue.
    Freed,
}

/// A call of the program: by whom, and when.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Event {
    /// 0 if it is not known.
    pub(super) thread: u32,
    /// Which of the [`Site`](super::site::Site)s; 0 if it is not known.
    pub(super) site: u32,
    /// Milliseconds of the clock, modulo 2^32.
    pub(super) at: u32,
}

impl Event {
    /// That call, now.
    pub(super) fn now(call: &Call, now: u64) -> Event {
        Event {
            thread: call.thread,
            site: call.site,
            at: now as u32,
        }
    }
}

/// One block. All-zero is a fresh one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record {
    pub(super) allocated: Event,
    pub(super) freed: Event,
    /// As asked for.
    pub(super) size: u32,
    pub(super) state: State,
}

const _: () = assert!(size_of::<Record>() == 32, "four words for each block");
