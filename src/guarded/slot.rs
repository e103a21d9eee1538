//! What is known of a guarded block.

use crate::os::{clock, thread};

/// Return addresses kept of a call.
const DEPTH: usize = 16;

/// A call that allocated or freed a block.
#[derive(Clone, Copy)]
pub(super) struct Call {
    pub(super) thread: u32,
    pub(super) at_ms: u64,
}

impl Call {
    const NONE: Call = Call {
        thread: 0,
        at_ms: 0,
    };

    pub(super) fn now() -> Call {
        Call {
            thread: thread::tid(),
            at_ms: clock::now_ms(),
        }
    }
}

/// The return addresses of a call, newest first. Kept apart from the rest, which a handler of signals copies to a small stack.
#[derive(Clone, Copy)]
pub(super) struct Trace {
    #[allow(dead_code, reason = "for reports that show stacks")]
    addresses: [usize; DEPTH],
    #[allow(dead_code, reason = "for reports that show stacks")]
    depth: usize,
}

impl Trace {
    pub(super) const NONE: Trace = Trace {
        addresses: [0; DEPTH],
        depth: 0,
    };

    pub(super) fn now() -> Trace {
        let mut addresses = [0; DEPTH];
        let depth = capture(&mut addresses);
        Trace { addresses, depth }
    }
}

/// The traces of a block's allocation and free.
#[derive(Clone, Copy)]
pub(super) struct Traces {
    pub(super) made: Trace,
    pub(super) freed: Trace,
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

/// The return addresses of the calling thread, newest first; how many there are.
fn capture(_: &mut [usize]) -> usize {
    0
}
