//! The calls that led to this one: the return addresses on the stack of the calling thread.
//!
//! Nothing here allocates, waits for a lock or changes `errno`, and all of it may run in a signal handler. Callers are found by the
//! tables that compilers write for unwinding (`.eh_frame`), which hold for code with and without frame pointers, this crate's own
//! included. Code without a table is taken to keep frame pointers. Except on the OS page in use and above it on the first thread's
//! stack, a word is read only once the kernel has said that its page can be read, as the program may have put anything into its
//! registers.

pub(crate) use super::caller::End;
use super::caller::Frame;
use super::context::{Registers, registers_here};
use super::reads::Reads;
use super::rules::{self, Tables};
use super::stack_in_use::Known;
use super::walked::Walks;
use super::{object, sys};
use crate::base::tuning::walks::SEARCHED_CALLS;

/// A stack that was walked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Walk {
    /// How many calls were stored.
    pub(crate) count: usize,
    /// How many of them come before the first that a frame pointer or a search led to, which may lead elsewhere.
    pub(crate) certain: usize,
    pub(crate) end: End,
}

/// Stores the return addresses of the calling thread, newest first, without making much of the unwind tables resident: see
/// [`Tables::Few`]. Those in libhakmem.so are left out; in a program that contains this crate they are not told from others. A call
/// that was met before takes about 130 instructions. If tables may not be read, the stack is searched, and each word that points
/// into an object takes a system call, unless it was met before. Leaves `errno` alone.
pub(crate) fn capture(to: &mut [usize]) {
    capture_by(rules::for_samples(), to);
}

#[inline(never)]
fn capture_by(tables: Tables, to: &mut [usize]) {
    let _errno = sys::ErrnoGuard::new();
    let frame = Frame {
        tables,
        ..Frame::here()
    };
    let walk = follow(frame, to, 0);
    for (i, call) in to.iter_mut().enumerate().take(walk.count) {
        *call &= !UNCERTAIN;
        if i >= walk.certain && tables != Tables::All {
            *call |= UNCERTAIN;
        }
    }
}

/// Has [`capture`] read all tables from now on: mistakes are looked for at any cost.
pub(crate) fn read_all_tables() {
    rules::read_all();
}

/// A bit of no address in user space. It is set of a call that [`capture`] found not by tables alone.
pub(crate) const UNCERTAIN: usize = 1 << 63;

/// The number that `enter` gives to what [`walk`] finds. For calls that come from the same places again and again: a walk like
/// one before is not made again, nor `enter` asked. Zeros end what that is asked about. Each call in this crate has a `place` of its
/// own.
#[inline(always)]
pub(crate) fn capture_again<const N: usize>(
    walks: &mut Walks,
    place: usize,
    enter: impl Fn(&[usize; N]) -> u32 + Copy,
) -> u32 {
    let at = registers_here();
    match walks.find(place, at, Known::end_above(at.sp)) {
        Some(number) => number,
        None => capture_by_tables(at, walks, place, enter),
    }
}

/// As [`capture_again`], for a walk that is not kept.
#[inline(never)]
fn capture_by_tables<const N: usize>(
    at: Registers,
    walks: &mut Walks,
    place: usize,
    enter: impl Fn(&[usize; N]) -> u32 + Copy,
) -> u32 {
    let end = Known::end_of_first(at.sp);
    match end.and_then(|end| walks.make(place, at, end, enter)) {
        Some(number) => number,
        None => capture_anew(at, walks, place, enter),
    }
}

/// As [`capture_again`], from code that runs and calls this.
#[cold]
#[inline(never)]
fn capture_anew<const N: usize>(
    at: Registers,
    walks: &mut Walks,
    place: usize,
    enter: impl FnOnce(&[usize; N]) -> u32,
) -> u32 {
    let known = Known::stack(at.sp);
    let mut asked = Known::NOTHING;
    let found = walks.find_anywhere(place, at, known.from..known.to, |at| asked.holds(at));
    if let Some(number) = found {
        return number;
    }
    let _errno = sys::ErrnoGuard::new();
    // Until then frame pointers lead where tables would not.
    let is_known = object::is_known();
    let mut reads = Reads::new();
    let frame = Frame {
        known,
        reads: Some(&mut reads),
        ..Frame::at(at)
    };
    let mut calls = [0; N];
    let walk = follow(frame, &mut calls, 0);
    // A damaged stack may hold any address.
    calls.iter_mut().for_each(|call| *call &= !UNCERTAIN);
    let number = enter(&calls);
    if is_known && walk.end != End::Lost {
        walks.keep(place, at, &reads, number);
    }
    number
}

/// As [`capture`], by whatever tables there are, and says how sure that is and why it ends.
#[inline(never)]
pub(crate) fn walk(to: &mut [usize]) -> Walk {
    // Dropped after the walk, so that the frame it begins with is still there.
    let _errno = sys::ErrnoGuard::new();
    follow(Frame::here(), to, 0)
}

/// As [`walk`], from code of the calling thread that was interrupted. Its stack may not be the one in use. The first address
/// stored is that behind the first byte of the instruction that was interrupted, so that each is behind a byte of its call.
pub(crate) fn walk_from(at: Registers, to: &mut [usize]) -> Walk {
    let stored = match to.first_mut() {
        // Where no registers are known there is no such instruction.
        Some(place) if at.pc != 0 => {
            *place = at.pc + 1;
            1
        }
        _ => 0,
    };
    let _errno = sys::ErrnoGuard::new();
    follow(Frame::at(at), to, stored)
}

/// Stores the callers of a frame behind what is `stored`.
#[inline(never)]
fn follow(mut frame: Frame<'_>, to: &mut [usize], stored: usize) -> Walk {
    let own = object::library();
    let mut walk = Walk {
        count: stored,
        certain: stored,
        end: End::Full,
    };
    // What is left out counts too, so that a damaged stack does not lead around in a circle.
    for _ in 0..to.len() + 64 {
        if let Some(end) = frame.up() {
            walk.end = end;
            break;
        }
        if own.as_ref().is_some_and(|own| own.contains(&frame.pc)) {
            continue;
        }
        let Some(place) = to.get_mut(walk.count) else {
            break;
        };
        *place = frame.pc;
        walk.count += 1;
        if frame.certain {
            walk.certain = walk.count;
        } else if frame.searches() && walk.count - walk.certain == SEARCHED_CALLS {
            break;
        }
    }
    walk
}

#[cfg(all(test, not(miri)))]
#[path = "stack_tests.rs"]
mod tests;
