//! What is said of a guarded block before the process ends. All of the text is here.

use super::slot::{Slot, State};
use crate::os::context::Registers;
use crate::os::segv::{Access, Fault};
use crate::os::{clock, thread};
use crate::slab::tell::{NAME_THE_SIZE, ONE_TOO_MANY, Report, WHERE_FROM};
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
    let size = slot.size;
    match wrong {
        Wrong::NoBlock => end(
            slot,
            WHERE_FROM,
            None,
            format_args!(
                "{asked} of {ptr:p}: inside memory of this allocator, but no block; stopping before memory is damaged"
            ),
        ),
        Wrong::NoStart => end(
            slot,
            WHERE_FROM,
            None,
            format_args!(
                "{asked} of {ptr:p}: {} {}; stopping before memory is damaged",
                Place(ptr as usize, slot),
                About(slot)
            ),
        ),
        Wrong::Freed => end(
            slot,
            ONE_TOO_MANY,
            None,
            format_args!(
                "{}{asked} of {ptr:p}: this block of {size} bytes is free already {}; stopping before it is given out twice",
                if asked == "free" { "double " } else { "" },
                About(slot)
            ),
        ),
        Wrong::Size(named) => end(
            slot,
            NAME_THE_SIZE,
            None,
            format_args!(
                "{asked} of {ptr:p}: the layout has {named} bytes, this block {size} {}; stopping before memory is damaged",
                About(slot)
            ),
        ),
        Wrong::Overwritten(far) => end(
            slot,
            "the write happened after the allocation and before this call: look for code that takes the block for longer, or to start earlier",
            None,
            format_args!(
                "{asked} of {ptr:p}: written {} {} this block of {size} bytes {}; stopping before more is damaged",
                Bytes(far.unsigned_abs()),
                if far > 0 { "past" } else { "before" },
                About(slot)
            ),
        ),
    }
}

/// Ends the process for a fault.
#[cold]
#[inline(never)]
pub(super) fn fault(fault: Fault, slot: Option<&Slot>) -> ! {
    let Fault { addr, access, at } = fault;
    let what = match access {
        Access::Read => "read of",
        Access::Write => "write to",
        Access::Unknown => "access to",
    };
    let Some(slot) = slot else {
        end(
            &Slot::UNUSED,
            "look where this access has its address from",
            Some(at),
            format_args!(
                "{what} {addr:#x}: in the memory of guarded blocks, near none that is known (thread {}); stopping before memory is damaged",
                thread::tid()
            ),
        )
    };
    let (after, advice) = match slot.state {
        State::Freed => (
            " after it was freed",
            "this access is the mistake: look for a pointer that was kept beyond the free",
        ),
        // Its page has access: it was given out anew while the fault was on its way here.
        State::Live if (slot.start..slot.end()).contains(&addr) => (
            " or of one before it that was freed",
            "this access is the mistake: look for a pointer that was kept beyond a free",
        ),
        _ => (
            "",
            "this access is the mistake: look how it came by an address beyond the block",
        ),
    };
    end(
        slot,
        advice,
        Some(at),
        format_args!(
            "{what} {addr:#x}: {}{after} {}; stopping before memory is damaged",
            Place(addr, slot),
            About(slot)
        ),
    )
}

/// Ends the process with the calls that concern `slot`.
fn end(slot: &Slot, advice: &str, access: Option<Registers>, what: fmt::Arguments<'_>) -> ! {
    Report {
        what,
        freed: (slot.state == State::Freed).then_some(&slot.freed.frames[..]),
        allocated: (slot.state != State::Unused).then_some(&slot.made.frames[..]),
        advice,
    }
    .end_at(access)
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
