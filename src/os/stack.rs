//! The calls that led to this one: the return addresses on the stack of the calling thread.
//!
//! Nothing here allocates, waits for a lock or changes `errno`, and all of it may run in a signal handler. Callers are found by the
//! tables that compilers write for unwinding ([`frame`]), which hold for code with and without frame pointers, this crate's own
//! included. Code without a table is taken to keep frame pointers. Except on the OS page in use and above it on the first thread's
//! stack, a word is read only once the kernel has said that its page can be read, as the program may have put anything into its
//! registers.

use super::context::{Registers, registers_here};
use super::frame::{Base, Cfa, Place, Rule};
use super::reads::{Reads, address};
use super::rules::rule;
use super::stack_in_use::Known;
use super::walked::Walks;
use super::{object, sys};

/// Why a stack ends where it does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum End {
    /// The last call is the thread's first.
    Whole,
    /// There is no room for more.
    Full,
    /// The caller of the last one is not known: its code has neither a table nor a frame pointer, or the stack is damaged.
    Lost,
}

/// A stack that was walked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Walk {
    /// How many calls were stored.
    pub(crate) count: usize,
    /// How many of them come before the first that a frame pointer alone led to: code that keeps none leads elsewhere.
    pub(crate) certain: usize,
    pub(crate) end: End,
}

/// Stores the return addresses of the calling thread, newest first, and returns how many there are. Those in libhakmem.so are
/// left out; in a program that contains this crate they are not told from others. A call that was met before takes about
/// 130 instructions, and each OS page of stack but the first a system call. Leaves `errno` alone.
pub(crate) fn capture(to: &mut [usize]) -> usize {
    walk(to).count
}

/// The number that `enter` gives to what [`capture`] finds. For calls that come from the same places again and again: a walk like
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
    let number = enter(&calls);
    if is_known && walk.end != End::Lost {
        walks.keep(place, at, &reads, number);
    }
    number
}

/// As [`capture`], and says how sure that is and why it ends.
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
        }
    }
    walk
}

/// The registers that one function of the stack runs with.
struct Frame<'a> {
    pc: usize,
    sp: usize,
    fp: usize,
    /// The link register, on architectures that have one: only the newest function may not have stored it.
    link: usize,
    /// Whether `pc` is the instruction to run next, not the one after a call.
    exact: bool,
    /// Whether tables alone led here.
    certain: bool,
    known: Known,
    /// Is told of each word that a step depends on.
    reads: Option<&'a mut Reads>,
}

impl<'a> Frame<'a> {
    /// The calling function's own.
    #[inline(always)]
    fn here() -> Frame<'a> {
        let at = registers_here();
        Frame {
            known: Known::stack(at.sp),
            ..Frame::at(at)
        }
    }

    #[inline(always)]
    fn at(Registers { pc, sp, fp, link }: Registers) -> Frame<'a> {
        Frame {
            pc,
            sp,
            fp,
            link,
            exact: true,
            certain: true,
            // The stack pointer is the program's, and may be anything.
            known: Known::NOTHING,
            reads: None,
        }
    }

    /// Steps to the caller. Returns why there is none.
    fn up(&mut self) -> Option<End> {
        let at = if self.exact { self.pc } else { self.pc - 1 };
        match rule(at) {
            Some(rule) if rule.pc == Place::Nowhere => return Some(End::Whole),
            Some(rule) => self.by_rule(rule),
            None => self.by_frame_pointer(),
        }
        .map_or(Some(End::Lost), |()| (self.pc == 0).then_some(End::Whole))
    }

    fn by_rule(&mut self, rule: Rule) -> Option<()> {
        let cfa = match rule.cfa {
            Cfa::At(of, offset) => self.base(of, offset),
            Cfa::In(of, offset) => {
                let at = self.base(of, offset);
                self.word(at)?
            }
            Cfa::Unknown => return None,
        };
        // Stacks grow down. A handler of a signal may have a stack of its own, anywhere.
        let grows = cfa > self.sp || (cfa == self.sp && self.link != 0);
        if !grows && !rule.signal || !self.certain && !self.is_near(cfa) {
            return None;
        }
        let pc = match self.place(rule.pc, cfa) {
            Some(at) => self.word(at)?,
            None if rule.pc == Place::Same => self.link,
            None => return None,
        };
        // Without a frame pointer the next functions may still be found.
        let fp = match self.place(rule.fp, cfa) {
            Some(at) => self.frame_pointer(at).unwrap_or(0),
            None if rule.fp == Place::Same => self.fp,
            None => {
                self.tell(|reads| reads.set_frame_pointer(None));
                0
            }
        };
        self.leave_to(pc, cfa, fp);
        self.exact = rule.signal;
        Some(())
    }

    /// The frame pointer points to the caller's own, and the return address lies behind that.
    fn by_frame_pointer(&mut self) -> Option<()> {
        if !self.is_near(self.fp) {
            return None;
        }
        if self.certain {
            // The program may have closed pages of the stack. Tables do not lead into those.
            self.known = Known::NOTHING;
            self.tell(|reads| reads.certain = false);
        }
        let at = self.base(Base::Fp, 0);
        let fp = self.frame_pointer(at)?;
        let pc = self.word(at.checked_add(8)?)?;
        // Code that keeps no frame pointers may have called the first function that does, with anything in the register.
        let pc = address(pc);
        let goes_on = fp == 0 || fp > self.fp;
        if !goes_on && object::unwind_table(pc.wrapping_sub(1)).is_none() {
            return None;
        }
        // Whether it goes on depends on the word.
        self.tell(|reads| reads.use_frame_pointer(fp));
        self.certain = false;
        self.leave_to(pc, self.fp + 16, fp);
        self.exact = false;
        Some(())
    }

    fn base(&mut self, base: Base, offset: i32) -> usize {
        let register = match base {
            Base::Sp => self.sp,
            Base::Fp => {
                let fp = self.fp;
                self.tell(|reads| reads.use_frame_pointer(fp));
                fp
            }
        };
        register.wrapping_add_signed(offset as isize)
    }

    /// Where a register was stored, if it was.
    fn place(&mut self, place: Place, cfa: usize) -> Option<usize> {
        match place {
            Place::Cfa(offset) => Some(cfa.wrapping_add_signed(offset as isize)),
            Place::At(of, offset) => Some(self.base(of, offset)),
            Place::Same | Place::Nowhere | Place::Unknown => None,
        }
    }

    /// A word that the step depends on.
    fn word(&mut self, at: usize) -> Option<usize> {
        let word = self.known.word(at)?;
        self.tell(|reads| reads.note(at, word));
        Some(word)
    }

    /// The word that is the caller's frame pointer.
    fn frame_pointer(&mut self, at: usize) -> Option<usize> {
        let word = self.known.word(at);
        self.tell(|reads| match word {
            Some(word) => reads.set_frame_pointer(Some([at, word])),
            None => reads.give_up(),
        });
        word
    }

    #[inline]
    fn tell(&mut self, tell: impl FnOnce(&mut Reads)) {
        if let Some(reads) = self.reads.as_deref_mut() {
            tell(reads);
        }
    }

    /// Whether the address is on the same stack, by all appearance. What is further away may be memory that another thread gives
    /// back between the question whether it can be read and the read.
    fn is_near(&self, at: usize) -> bool {
        (0..1 << 20).contains(&at.wrapping_sub(self.sp))
    }

    fn leave_to(&mut self, pc: usize, sp: usize, fp: usize) {
        // A word that is too small for an address ends a stack that was made by hand.
        self.pc = if address(pc) < 4096 { 0 } else { address(pc) };
        (self.sp, self.fp, self.link) = (sp, fp, 0);
    }
}

#[cfg(all(test, not(miri)))]
#[path = "stack_tests.rs"]
mod tests;
