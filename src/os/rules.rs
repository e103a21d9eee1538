//! How to step from one function of the stack to its caller: the rule for an instruction, from the unwind table of its object,
//! or as it was found before.

use super::frame::{self, Base, Cfa, Place, Rule};
use super::object;
use crate::base::units::row;
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::Relaxed;

/// The rule for code at `pc`, whichever object it is in.
pub(super) fn rule(pc: usize) -> Option<Rule> {
    if let Some(rule) = RULES.get(pc) {
        return Some(rule);
    }
    // SAFETY: code of this object, or of one that has a function on the stack of this thread: it stays loaded.
    let rule = unsafe { frame::rule(object::unwind_table(pc)?, pc)? };
    RULES.put(pc, rule);
    Some(rule)
}

/// Rules that were asked for before, by the address, the newest of each row first. An object that is loaded where another one was
/// may be given that one's rules, which leads to wrong addresses; whoever reads there asks first.
struct Rules([[[AtomicU64; 2]; Rules::WAYS]; Rules::ROWS]);

static RULES: Rules =
    Rules([const { [const { [const { AtomicU64::new(0) }; 2] }; Rules::WAYS] }; Rules::ROWS]);

impl Rules {
    const ROWS: usize = 512;
    /// A program has some hundred calls that lead to an allocation. Of so many, two often share a row, five hardly ever.
    const WAYS: usize = 4;

    fn of(&self, pc: usize) -> &[[AtomicU64; 2]; Rules::WAYS] {
        &self.0[row(pc, Rules::ROWS)]
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
mod tests {
    use super::*;

    #[test]
    fn rules_are_packed_and_unpacked() {
        let rules = [
            (Cfa::At(Base::Sp, 8), -8, Place::Same),
            (Cfa::At(Base::Fp, 16), -8, Place::Cfa(-16)),
            (Cfa::At(Base::Sp, 400_000), -16, Place::Cfa(-56)),
            (Cfa::At(Base::Sp, 48), -8, Place::Unknown),
        ];
        for (cfa, pc, fp) in rules {
            let rule = Rule {
                cfa,
                pc: Place::Cfa(pc),
                fp,
                signal: false,
            };
            assert_eq!(pack(rule).and_then(unpack), Some(rule));
            assert_eq!(
                pack(Rule {
                    signal: true,
                    ..rule
                }),
                None
            );
        }
        let far = Rule {
            cfa: Cfa::At(Base::Sp, 8 << 16),
            pc: Place::Cfa(-8),
            fp: Place::Same,
            signal: false,
        };
        assert_eq!(pack(far), None, "does not fit");
        let first = Rule {
            pc: Place::Nowhere,
            ..far
        };
        let same = pack(first).and_then(unpack);
        assert_eq!(same.map(|rule| rule.pc), Some(Place::Nowhere));
        assert_eq!(unpack(0), None);
    }

    /// Rules whose addresses meet in one row are all kept, as many as it has places.
    #[test]
    fn rules_that_share_a_row_are_kept() {
        let rules = Rules(
            [const { [const { [const { AtomicU64::new(0) }; 2] }; Rules::WAYS] }; Rules::ROWS],
        );
        let rule = |words: usize| Rule {
            cfa: Cfa::At(Base::Sp, 8 * words as i32),
            pc: Place::Cfa(-8),
            fp: Place::Same,
            signal: false,
        };
        let row = rules.of(1).as_ptr();
        let meet: std::vec::Vec<usize> = (1..)
            .filter(|&pc| rules.of(pc).as_ptr() == row)
            .take(Rules::WAYS + 1)
            .collect();
        for &pc in &meet {
            rules.put(pc, rule(pc));
        }
        assert_eq!(rules.get(meet[0]), None, "the oldest makes room");
        for &pc in &meet[1..] {
            assert_eq!(rules.get(pc), Some(rule(pc)));
        }
    }
}
