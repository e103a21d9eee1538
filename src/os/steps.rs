//! Walks that tables alone lead, on a stack that can be read without asking: a call takes some fifty instructions, where a step by
//! any rule takes three times as many. What rules a step may have is asked once, when it is learnt: the frame reaches up, and holds
//! all that is read.

use super::context::Registers;
use super::frame::Rule;
use super::object;
use super::reads::{Words, address, read};
use super::rules::{self, BACK, LOST, OF_FP, REACH, SAVED, SET, Tables, bytes, rule};
use super::sys::ErrnoGuard;
use crate::base::tuning::walks::{STEP_ROWS, WORDS};
use crate::base::units::row;

/// Rules in one word, by the address. Zeros are a table without entries.
pub(super) struct Steps([[u64; 2]; STEP_ROWS]);

/// What a walk found out besides its calls.
pub(super) struct Walked {
    /// How many words it read.
    pub(super) count: usize,
    /// Whether the frame pointer at the start matters.
    pub(super) needs_fp: bool,
    /// The end of the last frame: all words lie below.
    pub(super) end: usize,
}

impl Steps {
    /// Stores the calls that led to `start`, newest first, and notes all words that this depends on. Those of libhakmem.so are left
    /// out. `None` if a rule is rare, missing or leads anywhere but up the stack.
    ///
    /// # Safety
    /// All words from the stack pointer up to `end` can be read.
    #[inline(always)]
    pub(super) unsafe fn walk<const N: usize>(
        &mut self,
        start: Registers,
        end: usize,
        calls: &mut [usize; N],
        words: &mut Words,
    ) -> Option<Walked> {
        let (mut at, mut sp, mut fp) = (start.pc, start.sp, start.fp);
        let (mut count, mut noted) = (0, 0);
        // Where the frame pointer was read; 0 if it was not, or is noted.
        let mut fp_at = 0;
        let (mut has_first_fp, mut needs_fp) = (true, false);
        if !sp.is_multiple_of(8) {
            return None;
        }
        // Each step notes two words at most.
        while noted + 2 <= WORDS {
            // The first word is the address combined with the second, so that half an entry fits no address.
            let [mixed, packed] = self.0[row(at, STEP_ROWS)];
            let step = match mixed ^ packed == at as u64 {
                true => packed,
                false => self.learn(at, at == start.pc)?,
            };
            calls[count] = at + 1;
            count += usize::from(step & OWN == 0);
            if count == N {
                return Some(Walked {
                    count: noted,
                    needs_fp,
                    end: sp,
                });
            }
            let mut base = sp;
            if step & OF_FP != 0 {
                if step & FIRST == FIRST {
                    if step & OWN != 0 {
                        calls[count] = 0;
                    }
                    return Some(Walked {
                        count: noted,
                        needs_fp,
                        end: sp,
                    });
                }
                if fp < sp || fp > end || !fp.is_multiple_of(8) {
                    return None;
                }
                base = fp;
                needs_fp |= has_first_fp;
                if fp_at != 0 {
                    words.note(noted, fp_at - start.sp, fp);
                    noted += 1;
                }
                (fp_at, has_first_fp) = (0, false);
            }
            let cfa = base + bytes(step, REACH);
            if cfa > end {
                return None;
            }
            let back = cfa - bytes(step, BACK);
            // SAFETY: it and the next lie in the frame, from the stack pointer up to `cfa`, as `pack` allows no other rules.
            let pc = unsafe { read(back) };
            words.note(noted, back - start.sp, pc);
            noted += 1;
            let saved = bytes(step, SAVED);
            if saved != 0 {
                fp_at = cfa - saved;
                // SAFETY: as above.
                fp = unsafe { read(fp_at) };
                has_first_fp = false;
            }
            sp = cfa;
            at = address(pc).wrapping_sub(1);
            // No entry is for an address that zeros fit.
            if at == 0 {
                return None;
            }
        }
        None
    }

    #[cold]
    #[inline(never)]
    fn learn(&mut self, at: usize, is_start: bool) -> Option<u64> {
        let _errno = ErrnoGuard::new();
        let own = is_start || object::library().is_some_and(|own| own.contains(&at));
        let step = pack(rule(at, Tables::All)?)? | if own { OWN } else { 0 };
        self.0[row(at, STEP_ROWS)] = [at as u64 ^ step, step];
        Some(step)
    }
}

/// Bits of a step that a packed rule leaves free. The call is left out.
const OWN: u64 = 1 << 49;
/// There is no caller. Where steps by the frame pointer are told from others, this is too.
const FIRST: u64 = 1 << 50 | OF_FP;

/// A rule by which the frame begins at one of the two registers, and holds the return address and the frame pointer.
fn pack(rule: Rule) -> Option<u64> {
    let packed = rules::pack(rule)?;
    if packed == SET {
        return Some(FIRST);
    }
    let [reach, back, saved] = [REACH, BACK, SAVED].map(|place| bytes(packed, place));
    let is_known = saved != usize::from(LOST) * 8;
    (is_known && back.max(saved) <= reach).then_some(packed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::frame::{Base, Cfa, Place};

    #[test]
    fn rules_that_leave_the_frame_are_not_taken() {
        let rule = |cfa, pc, fp, signal| {
            pack(Rule {
                cfa,
                pc,
                fp,
                signal,
            })
        };
        let (at, back, saved) = (Cfa::At(Base::Sp, 48), Place::Cfa(-8), Place::Cfa(-48));
        let step = rule(at, back, saved, false).expect("usual");
        assert_eq!(
            [REACH, BACK, SAVED].map(|part| bytes(step, part)),
            [48, 8, 48]
        );
        assert_eq!(step & (OF_FP | OWN), 0);
        let by_fp = rule(Cfa::At(Base::Fp, 16), back, Place::Cfa(-16), false);
        assert_eq!(by_fp.map(|step| step & FIRST), Some(OF_FP));
        assert_eq!(rule(at, Place::Nowhere, Place::Same, false), Some(FIRST));
        for (cfa, pc, fp, signal) in [
            (at, back, saved, true),
            (at, back, Place::Cfa(-56), false),
            (at, back, Place::Cfa(8), false),
            (at, back, Place::Unknown, false),
            (at, Place::Cfa(0), saved, false),
            (at, Place::Cfa(-12), saved, false),
            (at, Place::Same, saved, false),
            (Cfa::At(Base::Sp, 0), back, Place::Same, false),
            (Cfa::At(Base::Sp, 8 << 16), back, saved, false),
            (Cfa::In(Base::Sp, 48), back, saved, false),
        ] {
            assert_eq!(rule(cfa, pc, fp, signal), None, "{cfa:?} {pc:?} {fp:?}");
        }
    }
}
