//! What is said of a guarded block before the process ends: one line.

use super::slot::{Slot, State};
use crate::os::message::fatal;
use crate::os::segv::{Access, Fault};
use crate::os::{clock, thread};
use core::fmt;

/// What is wrong with a call.
#[derive(Clone, Copy)]
pub(super) enum Wrong {
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

/// Ends the process for a call that concerns `slot`.
#[cold]
#[inline(never)]
pub(super) fn call(asked: &str, ptr: *const u8, wrong: Wrong, slot: &Slot) -> ! {
    match wrong {
        Wrong::NoBlock => fatal!(
            "{asked} of {ptr:p}: inside memory of this allocator, but no block; stopping before memory is damaged"
        ),
        Wrong::NoStart => fatal!(
            "{asked} of {ptr:p}: {} {}; stopping before memory is damaged",
            Place(ptr as usize, slot),
            About(slot)
        ),
        Wrong::Freed => fatal!(
            "{}{asked} of {ptr:p}: this block of {} bytes is free already {}; stopping before it is given out twice",
            if asked == "free" { "double " } else { "" },
            slot.size,
            About(slot)
        ),
        Wrong::Size(named) => fatal!(
            "{asked} of {ptr:p}: the layout has {named} bytes, this block {} {}; stopping before memory is damaged",
            slot.size,
            About(slot)
        ),
        Wrong::Overwritten(far) => fatal!(
            "{asked} of {ptr:p}: written {} {} this block of {} bytes {}; stopping before more is damaged",
            Bytes(far.unsigned_abs()),
            if far > 0 { "past" } else { "before" },
            slot.size,
            About(slot)
        ),
    }
}

/// Ends the process for a fault.
#[cold]
#[inline(never)]
pub(super) fn fault(fault: Fault, slot: Option<&Slot>) -> ! {
    let what = match fault.access {
        Access::Read => "read of",
        Access::Write => "write to",
        Access::Unknown => "access to",
    };
    let addr = fault.addr as *const u8;
    match slot {
        Some(slot) => fatal!(
            "{what} {addr:p}: {}{} {}; stopping before memory is damaged",
            Place(fault.addr, slot),
            match slot.state {
                State::Freed => " after it was freed",
                // Its page has access: it was given out anew while the fault was on its way here.
                State::Live if fault.addr >= slot.start && fault.addr < slot.end() =>
                    " or of one before it that was freed",
                _ => "",
            },
            About(slot)
        ),
        None => fatal!(
            "{what} {addr:p}: among guarded blocks, but near none (thread {}); stopping before memory is damaged",
            thread::tid()
        ),
    }
}

/// Where an address lies, seen from the block.
struct Place<'a>(usize, &'a Slot);

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Place(addr, slot) = *self;
        let size = slot.size;
        if addr < slot.start {
            write!(
                f,
                "{} before a block of {size} bytes",
                Bytes(slot.start - addr)
            )
        } else if addr >= slot.end() {
            write!(
                f,
                "{} past a block of {size} bytes",
                Bytes(addr - slot.end() + 1)
            )
        } else {
            write!(f, "inside a block, at byte {} of {size}", addr - slot.start)
        }
    }
}

/// "1 byte", "2 bytes".
struct Bytes(usize);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.0 == 1 { "" } else { "s" };
        write!(f, "{} byte{plural}", self.0)
    }
}

/// Who did what with the block, and when: "(thread 7; allocated 12 ms ago by thread 7, freed 3 ms ago by thread 8)".
struct About<'a>(&'a Slot);

impl fmt::Display for About<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Slot { made, freed, .. } = self.0;
        let now = clock::now_ms();
        write!(
            f,
            "(thread {}; allocated {} ms ago by thread {}",
            thread::tid(),
            now.saturating_sub(made.at_ms),
            made.thread
        )?;
        if self.0.state == State::Freed {
            write!(
                f,
                ", freed {} ms ago by thread {}",
                now.saturating_sub(freed.at_ms),
                freed.thread
            )?;
        }
        f.write_str(")")
    }
}
