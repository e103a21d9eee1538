//! What is known of a guarded block.

use crate::os::{clock, stack, thread};

/// Return addresses kept of a call.
const DEPTH: usize = 16;

/// A call that allocated or freed a block.
#[derive(Clone, Copy)]
pub(super) struct Call {
    pub(super) thread: u32,
    pub(super) at_ms: u64,
    /// Return addresses, newest first. 0 ends them.
    pub(super) frames: [usize; DEPTH],
}

impl Call {
    const NONE: Call = Call {
        thread: 0,
        at_ms: 0,
        frames: [0; DEPTH],
    };

    pub(super) fn now() -> Call {
        let mut call = Call {
            thread: thread::tid(),
            at_ms: clock::now_ms(),
            ..Call::NONE
        };
        stack::capture(&mut call.frames);
        call
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    Unused,
    Live,
    Freed,
}

/// One page, and the block that lies or lay on it.
#[derive(Clone, Copy)]
pub(super) struct Slot {
    pub(super) state: State,
    pub(super) start: usize,
    /// Exactly what was asked for.
    pub(super) size: usize,
    pub(super) made: Call,
    pub(super) freed: Call,
    /// Frees so far when this one was freed: the smallest number waits longest.
    pub(super) order: u64,
}

impl Slot {
    pub(super) const UNUSED: Slot = Slot {
        state: State::Unused,
        start: 0,
        size: 0,
        made: Call::NONE,
        freed: Call::NONE,
        order: 0,
    };

    pub(super) fn end(&self) -> usize {
        self.start + self.size
    }

    /// Bytes between an address and the block; 0 inside. The first byte behind the block is 1 byte past it.
    pub(super) fn distance(&self, addr: usize) -> usize {
        if addr < self.start {
            self.start - addr
        } else {
            (addr + 1).saturating_sub(self.end())
        }
    }
}
