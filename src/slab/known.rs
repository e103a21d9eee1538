//! What is known of a block that is watched by itself: a guarded one, or a large one.

use crate::base::tuning::reports::WATCHED_CALLS;
use crate::os::{clock, stack, thread};

/// A call that allocated or freed a block. `thread` is 0 if the call is not known.
#[derive(Clone, Copy)]
pub(crate) struct Call {
    pub(crate) thread: u32,
    pub(crate) at_ms: u64,
    /// Return addresses, newest first. 0 ends them.
    pub(crate) frames: [usize; WATCHED_CALLS],
}

impl Call {
    pub(crate) const NONE: Call = Call {
        thread: 0,
        at_ms: 0,
        frames: [0; WATCHED_CALLS],
    };

    pub(crate) fn now() -> Call {
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
pub(crate) enum State {
    Unused,
    Live,
    Freed,
}

/// A block that is or was there.
#[derive(Clone, Copy)]
pub(crate) struct Known {
    pub(crate) state: State,
    pub(crate) start: usize,
    /// Exactly what was asked for.
    pub(crate) size: usize,
    pub(crate) made: Call,
    pub(crate) freed: Call,
    /// Of a guarded block: frees so far when this one was freed. The smallest number waits longest.
    pub(crate) order: u64,
}

impl Known {
    pub(crate) const UNUSED: Known = Known {
        state: State::Unused,
        start: 0,
        size: 0,
        made: Call::NONE,
        freed: Call::NONE,
        order: 0,
    };

    pub(crate) fn end(&self) -> usize {
        self.start + self.size
    }

    /// Bytes between an address and the block; 0 inside. The first byte behind the block is 1 byte past it.
    pub(crate) fn distance(&self, addr: usize) -> usize {
        if addr < self.start {
            self.start - addr
        } else {
            (addr + 1).saturating_sub(self.end())
        }
    }
}

/// What is wrong with a call.
#[derive(Clone, Copy)]
pub(crate) enum Wrong {
    /// No block lies or lay there.
    NoBlock,
    /// An address beside the start of the block, live or freed.
    NoStart,
    Freed,
    /// The size that the program named.
    Size(usize),
    /// How far beyond the block a byte was overwritten: negative in front of it.
    Overwritten(isize),
}

/// What the bytes beside a block hold. No ASCII text has it, and no small number.
pub(crate) const CANARY: u8 = 0xE5;

/// How far beyond a block the farthest byte lies that was overwritten beside it, negative in front of it. `before` are the bytes in
/// front of the block and `behind` those behind it, which were filled with [`CANARY`].
#[inline(never)]
pub(crate) fn overwritten(before: &[u8], behind: &[u8]) -> Option<isize> {
    // All bytes together: a page byte by byte takes thousands of instructions.
    let differ = |bytes: &[u8]| bytes.iter().fold(0, |all, byte| all | (byte ^ CANARY)) != 0;
    if !differ(before) && !differ(behind) {
        return None;
    }
    let is_other = |byte: &u8| *byte != CANARY;
    if let Some(last) = behind.iter().rposition(is_other) {
        return Some(last as isize + 1);
    }
    let first = before.iter().position(is_other)?;
    Some(first as isize - before.len() as isize)
}
