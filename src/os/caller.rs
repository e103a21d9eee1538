//! From one function of the stack to its caller: by its rule, by the frame pointer if there is no table, or by a search of the stack
//! if the table may not be read.

use super::context::{Registers, registers_here};
use super::frame::{Base, Cfa, Place, Rule};
use super::object;
use super::reads::{Reads, address};
use super::rules::{Tables, rule};
use super::stack_in_use::Known;
use crate::base::tuning::walks;
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

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

/// Addresses that steps without tables have met, each at the place that its bits choose, with the answer of
/// [`object::follows_call`] in the lowest bit. That takes a system call, and samples come from a few places of a program. Another
/// object may lie there by now: reports say that such calls are doubtful.
static MET: [AtomicUsize; walks::MET] = [const { AtomicUsize::new(0) }; walks::MET];

/// [`object::follows_call`]. No object has an address from 2^63 on.
fn follows_call(pc: usize) -> bool {
    let place = &MET[(pc ^ pc >> 6) % MET.len()];
    let met = place.load(Relaxed);
    if met >> 1 == pc {
        return met & 1 == 1;
    }
    let Some(follows) = object::follows_call(pc) else {
        // That took no system call, and the object may be known later.
        return false;
    };
    place.store(pc << 1 | usize::from(follows), Relaxed);
    follows
}

/// The registers that one function of the stack runs with.
pub(super) struct Frame<'a> {
    pub(super) pc: usize,
    pub(super) sp: usize,
    pub(super) fp: usize,
    /// The link register, on architectures that have one: only the newest function may not have stored it.
    pub(super) link: usize,
    /// Whether `pc` is the instruction to run next, not the one after a call.
    pub(super) exact: bool,
    /// Whether tables alone led here.
    pub(super) certain: bool,
    pub(super) tables: Tables,
    pub(super) known: Known,
    /// Is told of each word that a step depends on.
    pub(super) reads: Option<&'a mut Reads>,
}

impl<'a> Frame<'a> {
    /// The calling function's own.
    #[inline(always)]
    pub(super) fn here() -> Frame<'a> {
        let at = registers_here();
        Frame {
            known: Known::stack(at.sp),
            ..Frame::at(at)
        }
    }

    #[inline(always)]
    pub(super) fn at(Registers { pc, sp, fp, link }: Registers) -> Frame<'a> {
        Frame {
            pc,
            sp,
            fp,
            link,
            exact: true,
            certain: true,
            tables: Tables::All,
            // The stack pointer is the program's, and may be anything.
            known: Known::NOTHING,
            reads: None,
        }
    }

    /// Steps to the caller. Returns why there is none.
    pub(super) fn up(&mut self) -> Option<End> {
        let at = if self.exact { self.pc } else { self.pc - 1 };
        // What was found without tables need not be on the stack, nor its object be loaded for long.
        let tables = match self.tables {
            Tables::Few if !self.certain => Tables::Own,
            tables => tables,
        };
        match rule(at, tables) {
            Some(rule) if rule.pc == Place::Nowhere => return Some(End::Whole),
            Some(rule) => match self.by_rule(rule) {
                None if self.is_doubtful() => self.by_search(),
                found => found,
            },
            None if self.searches() && object::unwind_table(at).is_some() => self.by_search(),
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
        let asks = self.is_doubtful() && !rule.signal && object::knows_others();
        if asks && !follows_call(address(pc)) {
            return None;
        }
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
        self.leave_certainty();
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
        self.leave_to(pc, self.fp + 16, fp);
        self.exact = false;
        Some(())
    }

    /// Whether the stack is searched where a table may not be read. On other architectures code keeps frame pointers.
    pub(super) fn searches(&self) -> bool {
        cfg!(target_arch = "x86_64") && self.tables != Tables::All
    }

    /// Whether a search led here, or may lead on if a rule does not.
    fn is_doubtful(&self) -> bool {
        self.searches() && !self.certain
    }

    /// The next word of the stack that a call stored. The call may be an earlier one, which has returned.
    fn by_search(&mut self) -> Option<()> {
        self.leave_certainty();
        for i in 0..walks::SEARCHED {
            let at = self.sp.checked_add(8 * i)?;
            let pc = address(self.known.word(at)?);
            // Most words are small numbers or point into the stack.
            let may_be_code = (1 << 16..1 << 47).contains(&pc) && !self.is_near(pc);
            if may_be_code && follows_call(pc) {
                self.leave_to(pc, at + 8, self.fp);
                self.exact = false;
                return Some(());
            }
        }
        None
    }

    /// From here on more than tables lead. The program may have closed pages of the stack, into which tables do not lead.
    fn leave_certainty(&mut self) {
        if self.certain {
            self.certain = false;
            self.known = Known::NOTHING;
            self.tell(|reads| reads.certain = false);
        }
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
