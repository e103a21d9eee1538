//! What lies behind a checked block and in a freed one, and how a change is noticed.

use super::words::{differs, fill};
use crate::base::tuning::checked::CANARY;

/// What freed blocks hold: as an address, one that no program has.
const POISON: u8 = 0xDD;

pub(super) const WORD: usize = size_of::<u64>();

/// Where in a block a byte was changed that should not have been: the first and the last such offset.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Damage {
    pub(super) first: usize,
    pub(super) last: usize,
}

/// The patterns of this process.
#[derive(Clone, Copy)]
pub(super) struct Fill {
    secret: u64,
    /// What a freed block holds, in each byte.
    poison: u64,
}

impl Fill {
    pub(super) const fn new(secret: u64, zero: bool) -> Fill {
        Fill {
            secret,
            poison: if zero {
                0
            } else {
                u64::from_ne_bytes([POISON; WORD])
            },
        }
    }

    /// The canary of a block: no byte of it is zero, which is what a string that is too long by one leaves. It differs from
    /// block to block, so that copying too much from one checked block to another does not copy the right bytes.
    #[inline]
    fn canary(self, block: *mut u8) -> u64 {
        let mixed = (self.secret ^ block as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        (mixed ^ mixed >> 29) | 0x8080_8080_8080_8080
    }

    /// The words of a block's canary, from the one with its first byte.
    #[inline]
    fn words(size: usize, stride: usize) -> (usize, usize) {
        (size / WORD, (size + CANARY).min(stride) / WORD)
    }

    /// Writes the canary behind the `size` bytes of a block that is not allocated, and into the last word of the `stride` bytes
    /// that are the block's, which lies in front of the next. Those of the bytes that share a word with the canary become zero.
    /// Nothing is read, so that the first access to an OS page is a write.
    ///
    /// # Safety
    /// `stride` bytes from `block` on may be written. Both are multiples of 8, and `stride` is at least a word more than `size`.
    #[inline]
    pub(super) unsafe fn guard(self, block: *mut u8, size: usize, stride: usize) {
        // SAFETY: the caller's promise.
        unsafe { self.write(block, size, stride, 0) };
    }

    /// As [`Fill::guard`], for a block whose bytes are to stay as they are.
    ///
    /// # Safety
    /// As there, and nobody writes to the block meanwhile.
    pub(super) unsafe fn guard_in_use(self, block: *mut u8, size: usize, stride: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            let shared = block.cast::<u64>().add(size / WORD).read();
            self.write(block, size, stride, shared);
        }
    }

    /// `shared` is what the word holds that belongs to both the block and the canary.
    #[inline]
    unsafe fn write(self, block: *mut u8, size: usize, stride: usize, shared: u64) {
        let word = self.canary(block);
        let (first, end) = Self::words(size, stride);
        // SAFETY: the end is at most `stride`, and behind the word with the first byte that is not the program's.
        unsafe {
            let at = block.cast::<u64>().add(first);
            let mine = behind(size);
            at.write(shared & !mine | word & mine);
            fill(at.add(1), block.cast::<u64>().add(end), word);
            self.close(block, stride);
        }
    }

    /// Writes the last word of what is a block's, which lies in front of the next.
    ///
    /// # Safety
    /// That word may be written.
    #[inline]
    pub(super) unsafe fn close(self, block: *mut u8, stride: usize) {
        // SAFETY: the caller's promise.
        unsafe { last_word(block, stride).write(self.canary(block)) };
    }

    /// Where in what is a block's the word is damaged that [`Fill::close`] wrote.
    ///
    /// # Safety
    /// As there.
    #[inline]
    pub(super) unsafe fn opened(self, block: *mut u8, stride: usize) -> Option<Damage> {
        let word = self.canary(block);
        // SAFETY: the caller's promise.
        unsafe {
            let last = last_word(block, stride);
            if last.read() == word {
                return None;
            }
            let bytes = word.to_ne_bytes();
            damage(stride - WORD..stride, |at| {
                last.cast::<u8>().add(at % WORD).read() == bytes[at % WORD]
            })
        }
    }

    /// Whether the canary is as [`Fill::guard`] wrote it.
    ///
    /// # Safety
    /// As there.
    #[inline]
    pub(super) unsafe fn overflow(
        self,
        block: *mut u8,
        size: usize,
        stride: usize,
    ) -> Option<Damage> {
        let word = self.canary(block);
        let (first, end) = Self::words(size, stride);
        // SAFETY: as above.
        unsafe {
            let at = block.cast::<u64>().add(first);
            let wrong = (at.read() ^ word) & behind(size);
            let rest = differs(at.add(1), block.cast::<u64>().add(end), word);
            let last = last_word(block, stride).read() ^ word;
            if rest | wrong | last == 0 {
                return None;
            }
            let bytes = word.to_ne_bytes();
            let end = end * WORD;
            damage((size..end).chain(end.max(stride - WORD)..stride), |at| {
                block.add(at).read() == bytes[at % WORD]
            })
        }
    }

    /// Whether all is there that [`Fill::overflow`] compares, and the word that [`Fill::opened`] does of the block `before`,
    /// null for none. If `freed`, whether the block is as [`Fill::poison`] left it too.
    ///
    /// # Safety
    /// As for those.
    #[inline(always)]
    pub(super) unsafe fn is_whole(
        self,
        block: *mut u8,
        size: usize,
        stride: usize,
        before: *mut u8,
        freed: bool,
    ) -> bool {
        let word = self.canary(block);
        let (first, end) = Self::words(size, stride);
        // SAFETY: the caller's promise.
        unsafe {
            let words = block.cast::<u64>();
            let shared = words.add(first).read() ^ word;
            let mut wrong = last_word(block, stride).read() ^ word;
            if freed {
                let mine = behind(size);
                wrong |= shared & mine | (shared ^ word ^ self.poison) & !mine;
                wrong |= differs(words, words.add(first), self.poison);
            } else {
                wrong |= shared & behind(size);
            }
            wrong |= differs(words.add(first + 1), words.add(end), word);
            if !before.is_null() {
                // A word in front of a block is the last of what is another's.
                wrong |= words.sub(1).read() ^ self.canary(before);
            }
            wrong == 0
        }
    }

    /// Fills a freed block whose canary is as it was.
    ///
    /// # Safety
    /// `size` bytes from `block` on and the word behind may be written.
    #[inline]
    pub(super) unsafe fn poison(self, block: *mut u8, size: usize) {
        let mine = behind(size);
        // SAFETY: the caller's promise.
        unsafe {
            let words = block.cast::<u64>();
            let end = words.add(size / WORD);
            end.write(self.poison & !mine | self.canary(block) & mine);
            fill(words, end, self.poison);
        }
    }

    /// Where a freed block is not as [`Fill::poison`] left it.
    ///
    /// # Safety
    /// As there; the block begins at a multiple of 16.
    pub(super) unsafe fn written(self, block: *mut u8, size: usize) -> Option<Damage> {
        let [byte, ..] = self.poison.to_ne_bytes();
        // SAFETY: the caller's promise.
        damage(0..size, |at| unsafe { block.add(at).read() } == byte)
    }
}

/// The last word of the `stride` bytes from a block on, which need not all be memory.
#[inline]
fn last_word(block: *mut u8, stride: usize) -> *mut u64 {
    block.wrapping_add(stride - WORD).cast()
}

/// The bits of a word that lie at and behind byte `size % 8`.
#[inline]
fn behind(size: usize) -> u64 {
    // Bytes in memory go from the low bits up, or from the high bits down.
    if cfg!(target_endian = "little") {
        u64::MAX << (size % WORD * 8)
    } else {
        u64::MAX >> (size % WORD * 8)
    }
}

/// The first and the last offset that is not right.
#[cold]
fn damage(
    mut range: impl DoubleEndedIterator<Item = usize>,
    right: impl Fn(usize) -> bool,
) -> Option<Damage> {
    let first = range.find(|&at| !right(at))?;
    let last = range.rev().find(|&at| !right(at)).unwrap_or(first);
    Some(Damage { first, last })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[repr(align(16))]
    struct Room([u8; 2048]);

    #[test]
    fn every_changed_byte_is_found_and_no_other() {
        let fill = Fill::new(0x1234_5678_9ABC_DEF0, false);
        for size in [0, 1, 7, 8, 15, 16, 40, 1000, 1023] {
            let mut room = Room([0x5A; 2048]);
            let block = room.0.as_mut_ptr();
            let stride = (size + WORD).next_multiple_of(16);
            // SAFETY: the room is larger than any stride here.
            unsafe {
                fill.guard_in_use(block, size, stride);
                assert_eq!(fill.overflow(block, size, stride), None);
                let none = core::ptr::null_mut();
                assert!(fill.is_whole(block, size, stride, none, false));
                assert!(
                    (0..size).all(|at| block.add(at).read() == 0x5A),
                    "{size}: the block is written to"
                );
                assert_eq!(
                    block.add(stride).read(),
                    0x5A,
                    "{size}: the next block is written to"
                );
                for at in size..stride {
                    let was = block.add(at).read();
                    assert_ne!(was, 0, "{size}: a zero would not be noticed");
                    block.add(at).write(was ^ 1);
                    let damage = Some(Damage {
                        first: at,
                        last: at,
                    });
                    assert_eq!(fill.overflow(block, size, stride), damage);
                    assert!(
                        !fill.is_whole(block, size, stride, none, false),
                        "{size}: {at}"
                    );
                    block.add(at).write(was);
                }
                fill.poison(block, size);
                assert_eq!(fill.written(block, size), None);
                assert!(fill.is_whole(block, size, stride, none, true));
                assert_eq!(
                    fill.overflow(block, size, stride),
                    None,
                    "{size}: poison meets the canary"
                );
                for at in 0..size {
                    block.add(at).write(0);
                    let damage = Some(Damage {
                        first: at,
                        last: at,
                    });
                    assert_eq!(fill.written(block, size), damage);
                    assert!(
                        !fill.is_whole(block, size, stride, none, true),
                        "{size}: {at}"
                    );
                    block.add(at).write(POISON);
                }
            }
        }
    }

    #[test]
    fn much_room_behind_a_block_is_not_all_written() {
        let fill = Fill::new(7, true);
        let mut room = Room([0x5A; 2048]);
        let block = room.0.as_mut_ptr();
        // SAFETY: the room is as large as the stride.
        unsafe {
            fill.guard_in_use(block, 13, 2048);
            assert!(
                (0..13)
                    .chain(13 + CANARY..2048 - WORD)
                    .all(|at| block.add(at).read() == 0x5A)
            );
            assert_eq!(fill.overflow(block, 13, 2048), None);
            assert_eq!(fill.opened(block, 2048), None);
            // The last word lies in front of the next block.
            let at = 2048 - WORD + 2;
            block.add(at).write(0);
            let damage = Some(Damage {
                first: at,
                last: at,
            });
            assert_eq!(fill.overflow(block, 13, 2048), damage);
            assert_eq!(fill.opened(block, 2048), damage);
        }
    }
}
