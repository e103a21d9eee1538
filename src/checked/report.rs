//! What is said of a mistake before the process ends. All of the text is here.

use super::fill::Damage;
use super::mode::{Mode, mode};
use super::record::{Event, Record, State};
use super::site;
use super::slab::Checked;
use crate::os::{clock, thread};
use crate::slab::tell::{NAME_THE_SIZE, ONE_TOO_MANY, Report, WHERE_FROM, check_each};
use core::fmt::{self, Display, Formatter};

/// What a program did. The first field says which call brought it to light.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum What {
    /// Named an address at which no block can start, or one whose slab went back.
    Nowhere(&'static str),
    /// Named an address so many bytes inside a block.
    Inside(&'static str, usize),
    /// Named a block that is free.
    NotInUse(&'static str, State),
    /// Named another size than the block's.
    Size(&'static str, usize),
    /// Wrote behind a block.
    Overflow(&'static str, Damage),
    /// Wrote in front of a block, from so many bytes before it on.
    Front(&'static str, usize),
    /// Wrote to a freed block.
    Written(Damage),
}

/// One mistake: what it was, where, and what is known of the block.
#[derive(Clone, Copy, Debug)]
pub(super) struct Finding {
    pub(super) what: What,
    addr: usize,
    /// 0 if there is no block.
    start: usize,
    record: Record,
}

const NOBODY: Event = Event {
    thread: 0,
    site: 0,
    at: 0,
};

impl Finding {
    #[cold]
    pub(super) fn nowhere(asked: &'static str, addr: usize) -> Finding {
        Finding {
            what: What::Nowhere(asked),
            addr,
            start: 0,
            record: Record {
                allocated: NOBODY,
                freed: NOBODY,
                size: 0,
                state: State::Fresh,
            },
        }
    }

    #[cold]
    pub(super) fn of(what: What, addr: usize, slab: &mut Checked, at: usize) -> Finding {
        Finding {
            what,
            addr,
            start: slab.block(at) as usize,
            record: *slab.record(at),
        }
    }

    /// What to do about it.
    fn advice(&self) -> &'static str {
        match self.what {
            What::Nowhere(_) | What::Inside(..) | What::NotInUse(_, State::Fresh)
                if mode() != Mode::All =>
            {
                check_each()
            }
            What::Nowhere(_) | What::Inside(..) | What::NotInUse(_, State::Fresh) => WHERE_FROM,
            What::NotInUse(..) => ONE_TOO_MANY,
            What::Size(..) => NAME_THE_SIZE,
            What::Overflow(..) => {
                "the write happened after the allocation and before this call: look for code that takes the block for longer, or the one behind it to start earlier"
            }
            What::Front(..) => {
                "the write happened after the allocation and before this call: look for code that takes the block to start earlier"
            }
            What::Written(_) => {
                "the write happened after the free and before this call: look for a pointer that was kept beyond the free"
            }
        }
    }
}

impl Display for Finding {
    fn fmt(&self, to: &mut Formatter<'_>) -> fmt::Result {
        let Finding { addr, record, .. } = *self;
        let size = record.size as usize;
        match self.what {
            What::Nowhere(asked) => write!(
                to,
                "{asked} of {addr:#x}: not a block of this allocator, or freed already"
            ),
            What::Inside(asked, at) if record.state == State::Fresh => {
                write!(
                    to,
                    "{asked} of {addr:#x}: inside a block that was never handed out, at byte {at}"
                )
            }
            What::Inside(asked, at) => write!(
                to,
                "{asked} of {addr:#x}: inside a block, at byte {at} of {size}"
            ),
            What::NotInUse(asked, State::Fresh) => {
                write!(to, "{asked} of {addr:#x}: this block was never handed out")
            }
            What::NotInUse("free", _) => {
                write!(
                    to,
                    "double free of {addr:#x}: this block of {size} bytes is free already"
                )
            }
            What::NotInUse(asked, _) => {
                write!(
                    to,
                    "{asked} of {addr:#x}: this block of {size} bytes is free already"
                )
            }
            What::Size(asked, named) => {
                write!(
                    to,
                    "{asked} of {addr:#x}: the size is said to be {named}, but {size} bytes were asked for"
                )
            }
            What::Overflow(asked, damage) => write!(
                to,
                "write {} bytes past a block of {size}, found by {asked} of {addr:#x}",
                damage.last + 1 - size
            ),
            What::Front(asked, bytes) => write!(
                to,
                "write {bytes} bytes in front of a block of {size}, found by {asked} of {addr:#x}"
            ),
            What::Written(damage) => {
                write!(
                    to,
                    "write to {addr:#x} after it was freed, at byte {} of a block of {size}",
                    damage.first
                )
            }
        }?;
        if self.start != 0 && record.state != State::Fresh {
            write!(
                to,
                " (block {:#x}, allocated by {}",
                self.start,
                By(record.allocated)
            )?;
            if record.state == State::Freed {
                write!(to, ", freed by {}", By(record.freed))?;
            }
            write!(to, ")")?;
        }
        write!(
            to,
            "; seen by thread {}; stopping before memory is damaged",
            thread::tid()
        )
    }
}

/// Who it was, and how long ago.
struct By(Event);

impl Display for By {
    fn fmt(&self, to: &mut Formatter<'_>) -> fmt::Result {
        let ago = (clock::now_ms() as u32).wrapping_sub(self.0.at);
        write!(to, "thread {} {ago} ms ago", self.0.thread)
    }
}

/// Ends the process.
#[cold]
#[inline(never)]
pub(super) fn end(finding: Finding) -> ! {
    let Finding { record, .. } = finding;
    let stack = |event: Event| site::get(event.site).map(|site| &site.frames[..]);
    let is_freed = record.state == State::Freed;
    Report {
        what: format_args!("{finding}"),
        freed: stack(record.freed).filter(|_| is_freed),
        allocated: stack(record.allocated).filter(|_| record.state != State::Fresh),
        advice: finding.advice(),
    }
    .end()
}
