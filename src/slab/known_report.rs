//! What is said of a guarded or large block before the process ends. All of the text is here.

use super::known::{Known, State, Wrong};
use super::tell::{NAME_THE_SIZE, ONE_TOO_MANY, Report, WHERE_FROM, check_each};
use crate::os::context::Registers;
use crate::os::segv::{Access, Fault};
use crate::os::{clock, thread};
use core::fmt;

/// Ends the process for a call that concerns a block.
#[cold]
#[inline(never)]
pub(crate) fn call(asked: &str, ptr: *const u8, wrong: Wrong, known: &Known) -> ! {
    let size = known.size;
    match wrong {
        Wrong::NoBlock => end(
            known,
            WHERE_FROM,
            None,
            format_args!(
                "{asked} of {ptr:p}: inside memory of this allocator, but no block; stopping before memory is damaged"
            ),
        ),
        Wrong::NoStart => end(
            known,
            WHERE_FROM,
            None,
            format_args!(
                "{asked} of {ptr:p}: {} {}; stopping before memory is damaged",
                Place(ptr as usize, known),
                About(known)
            ),
        ),
        Wrong::Freed => end(
            known,
            ONE_TOO_MANY,
            None,
            format_args!(
                "{}{asked} of {ptr:p}: this block of {size} bytes is free already {}; stopping before it is given out twice",
                if asked == "free" { "double " } else { "" },
                About(known)
            ),
        ),
        Wrong::Size(named) => end(
            known,
            NAME_THE_SIZE,
            None,
            format_args!(
                "{asked} of {ptr:p}: the layout has {named} bytes, this block {size} {}; stopping before memory is damaged",
                About(known)
            ),
        ),
        Wrong::Overwritten(far) => end(
            known,
            "the write happened after the allocation and before this call: look for code that takes the block for longer, or to start earlier",
            None,
            format_args!(
                "{asked} of {ptr:p}: written {} {} this block of {size} bytes {}; stopping before more is damaged",
                Bytes(far.unsigned_abs()),
                if far > 0 { "past" } else { "before" },
                About(known)
            ),
        ),
    }
}

/// Ends the process for a fault.
#[cold]
#[inline(never)]
pub(crate) fn fault(fault: Fault, known: Option<&Known>) -> ! {
    let Fault { addr, access, at } = fault;
    let what = match access {
        Access::Read => "read of",
        Access::Write => "write to",
        Access::Unknown => "access to",
    };
    let Some(known) = known else {
        end(
            &Known::UNUSED,
            "look where this access has its address from",
            Some(at),
            format_args!(
                "{what} {addr:#x}: in the memory of guarded blocks, near none that is known (thread {}); stopping before memory is damaged",
                thread::tid()
            ),
        )
    };
    let (after, advice) = match known.state {
        State::Freed => (
            " after it was freed",
            "this access is the mistake: look for a pointer that was kept beyond the free",
        ),
        // Its page has access: it was given out anew while the fault was on its way here.
        State::Live if (known.start..known.end()).contains(&addr) => (
            " or of one before it that was freed",
            "this access is the mistake: look for a pointer that was kept beyond a free",
        ),
        _ => (
            "",
            "this access is the mistake: look how it came by an address beyond the block",
        ),
    };
    end(
        known,
        advice,
        Some(at),
        format_args!(
            "{what} {addr:#x}: {}{after} {}; stopping before memory is damaged",
            Place(addr, known),
            About(known)
        ),
    )
}

/// Ends the process with the calls that concern the block.
fn end(known: &Known, advice: &str, access: Option<Registers>, what: fmt::Arguments<'_>) -> ! {
    Report {
        what,
        freed: (known.state == State::Freed).then_some(&known.freed.frames[..]),
        allocated: (known.made.thread != 0).then_some(&known.made.frames[..]),
        advice: match known.state {
            State::Live | State::Freed if known.made.thread == 0 => check_each(),
            _ => advice,
        },
    }
    .end_at(access)
}

/// Where an address lies, seen from the block.
struct Place<'a>(usize, &'a Known);

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Place(addr, known) = *self;
        let size = known.size;
        if addr < known.start {
            write!(
                f,
                "{} before a block of {size} bytes",
                Bytes(known.start - addr)
            )
        } else if addr >= known.end() {
            write!(
                f,
                "{} past a block of {size} bytes",
                Bytes(addr - known.end() + 1)
            )
        } else {
            write!(
                f,
                "inside a block, at byte {} of {size}",
                addr - known.start
            )
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
struct About<'a>(&'a Known);

impl fmt::Display for About<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Known { made, freed, .. } = self.0;
        let now = clock::now_ms();
        write!(f, "(thread {}", thread::tid())?;
        if made.thread != 0 {
            write!(
                f,
                "; allocated {} ms ago by thread {}",
                now.saturating_sub(made.at_ms),
                made.thread
            )?;
        }
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
