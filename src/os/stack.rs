//! The calls that led to this one: the return addresses on the stack of the calling thread.
//!
//! Nothing here allocates, takes a lock or changes `errno`, and all of it may run in a signal handler. Callers are found by the
//! tables that compilers write for unwinding ([`frame`]), which hold for code with and without frame pointers, this crate's own
//! included. Code without a table is taken to keep frame pointers. Except on the OS page in use, a word of the stack is read
//! only once the kernel has said that its page can be read, as the program may have put anything into its registers.

use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::Relaxed;

use super::context::{Registers, registers_here};
use super::frame::{self, Base, Cfa, Place, Rule};
use super::sys::{self, page_size};
use super::{object, readable};

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
fn follow(mut frame: Frame, to: &mut [usize], stored: usize) -> Walk {
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
struct Frame {
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
}

impl Frame {
    /// The calling function's own.
    #[inline(always)]
    fn here() -> Frame {
        let at = registers_here();
        Frame {
            known: Known::page(at.sp),
            ..Frame::at(at)
        }
    }

    #[inline(always)]
    fn at(Registers { pc, sp, fp, link }: Registers) -> Frame {
        Frame {
            pc,
            sp,
            fp,
            link,
            exact: true,
            certain: true,
            // The stack pointer is the program's, and may be anything.
            known: Known { from: 0, to: 0 },
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
        let base = |base: Base, offset: i32| {
            let register = if base == Base::Sp { self.sp } else { self.fp };
            register.wrapping_add_signed(offset as isize)
        };
        let mut known = self.known;
        let cfa = match rule.cfa {
            Cfa::At(of, offset) => base(of, offset),
            Cfa::In(of, offset) => known.word(base(of, offset))?,
            Cfa::Unknown => return None,
        };
        // Stacks grow down. A handler of a signal may have a stack of its own, anywhere.
        let grows = cfa > self.sp || (cfa == self.sp && self.link != 0);
        if !grows && !rule.signal || !self.certain && !self.is_near(cfa) {
            return None;
        }
        let mut value = |place: Place, same: usize| match place {
            Place::Same => Some(same),
            Place::Cfa(offset) => known.word(cfa.wrapping_add_signed(offset as isize)),
            Place::At(of, offset) => known.word(base(of, offset)),
            Place::Nowhere | Place::Unknown => None,
        };
        let pc = value(rule.pc, self.link)?;
        // Without a frame pointer the next functions may still be found.
        let fp = value(rule.fp, self.fp).unwrap_or(0);
        self.leave_to(pc, cfa, fp, known);
        self.exact = rule.signal;
        Some(())
    }

    /// The frame pointer points to the caller's own, and the return address lies behind that.
    fn by_frame_pointer(&mut self) -> Option<()> {
        let mut known = self.known;
        if !self.is_near(self.fp) {
            return None;
        }
        let fp = known.word(self.fp)?;
        let pc = known.word(self.fp.checked_add(8)?)?;
        // Code that keeps no frame pointers may have called the first function that does, with anything in the register.
        let pc = address(pc);
        let goes_on = fp == 0 || fp > self.fp;
        if !goes_on && object::unwind_table(pc.wrapping_sub(1)).is_none() {
            return None;
        }
        self.certain = false;
        self.leave_to(pc, self.fp + 16, fp, known);
        self.exact = false;
        Some(())
    }

    /// Whether the address is on the same stack, by all appearance. What is further away may be memory that another thread gives
    /// back between the question whether it can be read and the read.
    fn is_near(&self, at: usize) -> bool {
        (0..1 << 20).contains(&at.wrapping_sub(self.sp))
    }

    fn leave_to(&mut self, pc: usize, sp: usize, fp: usize, known: Known) {
        // A word that is too small for an address ends a stack that was made by hand.
        self.pc = if address(pc) < 4096 { 0 } else { address(pc) };
        (self.sp, self.fp, self.link, self.known) = (sp, fp, 0, known);
    }
}

/// Without the bits that sign a return address on aarch64.
fn address(word: usize) -> usize {
    if cfg!(target_arch = "aarch64") {
        word & ((1 << 48) - 1)
    } else {
        word
    }
}

/// A range of the stack that can be read.
#[derive(Clone, Copy)]
struct Known {
    from: usize,
    to: usize,
}

impl Known {
    /// The OS page of an address that is in use.
    fn page(at: usize) -> Known {
        let from = at & !(page_size() - 1);
        Known {
            from,
            to: from + page_size(),
        }
    }

    #[inline]
    fn word(&mut self, at: usize) -> Option<usize> {
        if !at.is_multiple_of(8) {
            return None;
        }
        if !(self.from..self.to).contains(&at) {
            self.ask(at)?;
        }
        // SAFETY: in an OS page that can be read. It is memory of the calling thread's stack, or whatever a damaged one leads to.
        Some(unsafe { core::ptr::with_exposed_provenance::<usize>(at).read_volatile() })
    }

    /// Adds the OS page of an address, if it can be read.
    #[cold]
    #[inline(never)]
    fn ask(&mut self, at: usize) -> Option<()> {
        if !readable::is(at) {
            return None;
        }
        // Next to what is known, or a range of its own.
        let page = Known::page(at);
        (self.from, self.to) = match () {
            () if page.from == self.to => (self.from, page.to),
            () if page.to == self.from => (page.from, self.to),
            () => (page.from, page.to),
        };
        Some(())
    }
}

/// The rule for code at `pc`, whichever object it is in.
fn rule(pc: usize) -> Option<Rule> {
    if let Some(rule) = RULES.get(pc) {
        return Some(rule);
    }
    // SAFETY: code of this object, or of one that has a function on the stack of this thread: it stays loaded.
    let rule = unsafe { frame::rule(object::unwind_table(pc)?, pc)? };
    RULES.put(pc, rule);
    Some(rule)
}

/// Rules that were asked for before, by the address, the newest of each row first. An object that is loaded where another one was
/// may be given that one's rules, which leads to wrong addresses and no fault.
struct Rules([[[AtomicU64; 2]; Rules::WAYS]; Rules::ROWS]);

static RULES: Rules =
    Rules([const { [const { [const { AtomicU64::new(0) }; 2] }; Rules::WAYS] }; Rules::ROWS]);

impl Rules {
    const ROWS: usize = 512;
    /// A program has some hundred calls that lead to an allocation. Of so many, two often share a row, five hardly ever.
    const WAYS: usize = 4;

    fn of(&self, pc: usize) -> &[[AtomicU64; 2]; Rules::WAYS] {
        let hash = (pc as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 55;
        &self.0[hash as usize % Rules::ROWS]
    }

    fn get(&self, pc: usize) -> Option<Rule> {
        self.of(pc).iter().find_map(|words| {
            // Relaxed: the first word is the address combined with the second, so that two words of different rules fit no
            // address.
            let [mixed, packed] = words.each_ref().map(|word| word.load(Relaxed));
            (mixed ^ packed == pc as u64).then(|| unpack(packed))?
        })
    }

    fn put(&self, pc: usize, rule: Rule) {
        if let Some(packed) = pack(rule) {
            let mut new = [pc as u64 ^ packed, packed];
            for words in self.of(pc) {
                // Relaxed: see `get`. Of threads that come at the same time, one's rule may be lost.
                for (word, new) in words.iter().zip(&mut new) {
                    let old = word.load(Relaxed);
                    word.store(*new, Relaxed);
                    *new = old;
                }
            }
        }
    }
}

const SET: u64 = 1 << 63;
const LOST: u16 = u16::MAX;

/// The rules of nearly all functions, in words: how far the frame reaches and from which register, and where in it the return
/// address and the caller's frame pointer are. No word in the place of the first says that there is no caller, and [`LOST`] in
/// that of the second that the caller's frame pointer is not known.
fn pack(rule: Rule) -> Option<u64> {
    let words = |offset: i32| {
        u16::try_from(offset.unsigned_abs() / 8)
            .ok()
            .filter(|_| offset % 8 == 0)
    };
    if rule.pc == Place::Nowhere {
        return Some(SET);
    }
    let (of_fp, reach) = match rule.cfa {
        Cfa::At(base, offset) if offset >= 0 => (base == Base::Fp, words(offset)?),
        _ => return None,
    };
    let pc = match rule.pc {
        Place::Cfa(offset) if offset < 0 => words(offset)?,
        _ => return None,
    };
    let fp = match rule.fp {
        Place::Same => 0,
        Place::Cfa(offset) if offset < 0 => words(offset).filter(|&words| words != LOST)?,
        Place::Unknown => LOST,
        _ => return None,
    };
    let parts =
        u64::from(reach) | u64::from(pc) << 16 | u64::from(fp) << 32 | u64::from(of_fp) << 48;
    (!rule.signal).then_some(SET | parts)
}

fn unpack(packed: u64) -> Option<Rule> {
    let words = |shift: u32| i32::from((packed >> shift) as u16) * 8;
    let base = if packed >> 48 & 1 != 0 {
        Base::Fp
    } else {
        Base::Sp
    };
    (packed & SET != 0).then(|| Rule {
        cfa: Cfa::At(base, words(0)),
        pc: match words(16) {
            0 => Place::Nowhere,
            words => Place::Cfa(-words),
        },
        fp: match words(32) {
            0 => Place::Same,
            words if words == i32::from(LOST) * 8 => Place::Unknown,
            words => Place::Cfa(-words),
        },
        signal: false,
    })
}

#[cfg(all(test, not(miri)))]
#[path = "stack_tests.rs"]
mod tests;
