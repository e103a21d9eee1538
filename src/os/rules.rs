//! How to step from one function of the stack to its caller: the rule for an instruction, from the unwind table of its object,
//! or as it was found before.

use super::frame::{self, Base, Cfa, Place, Rule};
use super::object;
use crate::base::account::{self, Kind};
use crate::base::tuning::checked::TABLES_SHARE;
use crate::base::tuning::walks::{OWN_PARTS, PARTS, RULE_ROWS, RULE_WAYS};
use crate::base::units::row;
use core::sync::atomic::Ordering::Relaxed;
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};

/// Which parts of unwind tables may be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Tables {
    All,
    /// That of libhakmem.so, and of others as much as is a small share of the process's blocks: what is read becomes resident.
    Few,
    /// That of libhakmem.so.
    Own,
}

/// The rule for code at `pc`, whichever object it is in. `None` if there is none, or a part that may not be read has it. Unless
/// only [`Tables::Own`] may be read, the object has a function on the stack of this thread.
pub(super) fn rule(pc: usize, tables: Tables) -> Option<Rule> {
    if let Some(rule) = RULES.get(pc) {
        return Some(rule);
    }
    let header = object::unwind_table(pc)?;
    let own = object::is_own(pc);
    let may_read = |at| match tables {
        Tables::All => true,
        _ if own && object::library().is_some() => true,
        Tables::Few => READ.takes(at, own),
        Tables::Own => false,
    };
    // SAFETY: code of this object, or of one that has a function on the stack of this thread: it stays loaded.
    let rule = unsafe { frame::rule(header, pc, &may_read)? };
    RULES.put(pc, rule);
    Some(rule)
}

/// Whether mistakes are looked for at any cost.
static ALL: AtomicBool = AtomicBool::new(false);

/// All tables may be read for samples from now on.
pub(super) fn read_all() {
    ALL.store(true, Relaxed);
}

/// What may be read for a call that is kept in case a report needs it.
pub(super) fn for_samples() -> Tables {
    match ALL.load(Relaxed) {
        true => Tables::All,
        false => Tables::Few,
    }
}

/// Parts of tables that were read, and of what size. Around a page of a file that is missing the kernel maps 64 KiB.
struct Parts([AtomicUsize; PARTS]);

static READ: Parts = Parts([const { AtomicUsize::new(0) }; PARTS]);

impl Parts {
    const SIZE: usize = 64 << 10;

    /// Whether the part at `at` is among them, or may be.
    fn takes(&self, at: usize, is_own: bool) -> bool {
        let share = account::of(Kind::Blocks) / (TABLES_SHARE * Parts::SIZE);
        let least = if is_own { OWN_PARTS } else { 0 };
        self.among(at / Parts::SIZE, share.max(least))
    }

    /// Whether the part is among the first `most`, where the first free place is given to it. Relaxed: the words guard nothing.
    fn among(&self, part: usize, most: usize) -> bool {
        self.0.iter().take(most).any(|place| {
            let had = place.load(Relaxed);
            let take = || place.compare_exchange(0, part, Relaxed, Relaxed);
            had == part || had == 0 && take().map_or_else(|had| had == part, |_| true)
        })
    }
}

/// Rules that were asked for before, by the address, the newest of each row first. An object that is loaded where another one was
/// may be given that one's rules, which leads to wrong addresses; whoever reads there asks first.
struct Rules([[[AtomicU64; 2]; RULE_WAYS]; RULE_ROWS]);

static RULES: Rules =
    Rules([const { [const { [const { AtomicU64::new(0) }; 2] }; RULE_WAYS] }; RULE_ROWS]);

impl Rules {
    fn of(&self, pc: usize) -> &[[AtomicU64; 2]; RULE_WAYS] {
        &self.0[row(pc, RULE_ROWS)]
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

pub(super) const SET: u64 = 1 << 63;
pub(super) const LOST: u16 = u16::MAX;
/// Where in a packed rule the numbers of words begin: how far the frame reaches from the stack pointer, or from the frame pointer
/// if [`OF_FP`] says so, and how far below its end the return address and the caller's frame pointer are.
pub(super) const REACH: u32 = 0;
pub(super) const BACK: u32 = 16;
pub(super) const SAVED: u32 = 32;
pub(super) const OF_FP: u64 = 1 << 48;

/// The rules of nearly all functions, in words. None in the place of the return address says that there is no caller, none in that
/// of the frame pointer that it is in its register, and [`LOST`] there that it is not known.
pub(super) fn pack(rule: Rule) -> Option<u64> {
    let words = |offset: i32| {
        u16::try_from(offset.unsigned_abs() / 8)
            .ok()
            .filter(|_| offset % 8 == 0)
    };
    if rule.pc == Place::Nowhere {
        return Some(SET);
    }
    let (base, reach) = match rule.cfa {
        Cfa::At(Base::Sp, offset) if offset >= 0 => (0, words(offset)?),
        Cfa::At(Base::Fp, offset) if offset >= 0 => (OF_FP, words(offset)?),
        _ => return None,
    };
    let back = match rule.pc {
        Place::Cfa(offset) if offset < 0 => words(offset)?,
        _ => return None,
    };
    let saved = match rule.fp {
        Place::Same => 0,
        Place::Cfa(offset) if offset < 0 => words(offset).filter(|&words| words != LOST)?,
        Place::Unknown => LOST,
        _ => return None,
    };
    let parts = u64::from(reach) << REACH | u64::from(back) << BACK | u64::from(saved) << SAVED;
    (!rule.signal).then_some(SET | base | parts)
}

/// The number of words in that place of a packed rule, in bytes.
#[inline(always)]
pub(super) fn bytes(packed: u64, place: u32) -> usize {
    usize::from((packed >> place) as u16) * 8
}

fn unpack(packed: u64) -> Option<Rule> {
    let below = |place: u32| -(bytes(packed, place) as i32);
    let base = match packed & OF_FP {
        0 => Base::Sp,
        _ => Base::Fp,
    };
    (packed & SET != 0).then(|| Rule {
        cfa: Cfa::At(base, bytes(packed, REACH) as i32),
        pc: match below(BACK) {
            0 => Place::Nowhere,
            at => Place::Cfa(at),
        },
        fp: match below(SAVED) {
            0 => Place::Same,
            at if at == -8 * i32::from(LOST) => Place::Unknown,
            at => Place::Cfa(at),
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

    #[test]
    fn parts_are_taken_as_far_as_there_may_be_some() {
        let parts = Parts([const { AtomicUsize::new(0) }; PARTS]);
        assert!(!parts.among(7, 0));
        assert!(parts.among(7, 1) && parts.among(7, 1), "taken, and known");
        assert!(!parts.among(8, 1) && parts.among(8, 2) && !parts.among(9, 2));
        assert!(!parts.among(8, 1), "the bound has sunk");
    }

    /// Rules whose addresses meet in one row are all kept, as many as it has places.
    #[test]
    fn rules_that_share_a_row_are_kept() {
        let rules =
            Rules([const { [const { [const { AtomicU64::new(0) }; 2] }; RULE_WAYS] }; RULE_ROWS]);
        let rule = |words: usize| Rule {
            cfa: Cfa::At(Base::Sp, 8 * words as i32),
            pc: Place::Cfa(-8),
            fp: Place::Same,
            signal: false,
        };
        let row = rules.of(1).as_ptr();
        let meet: std::vec::Vec<usize> = (1..)
            .filter(|&pc| rules.of(pc).as_ptr() == row)
            .take(RULE_WAYS + 1)
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
