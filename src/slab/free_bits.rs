//! The bits of a slab's free blocks: in the slab's state if there are few, else in words of their own.

use super::bits;
use super::meta;
use core::ptr::{self, NonNull};
use core::slice;

/// A bit for each block of a slab. Which of the two it is, the number of blocks says. All-zero is right for a slab of few.
#[derive(Clone, Copy)]
pub(crate) union FreeBits {
    few: u64,
    many: *mut u64,
}

/// Blocks whose bits are in the slab's state.
const FEW: usize = u64::BITS as usize;

impl FreeBits {
    /// The words, for a slab of `capacity` blocks.
    #[inline]
    pub(super) fn words(&mut self, capacity: usize) -> &mut [u64] {
        // SAFETY: the bits came from `Unused::get` for so many blocks, and are the slab's alone.
        unsafe {
            if capacity <= FEW {
                slice::from_mut(&mut self.few)
            } else {
                slice::from_raw_parts_mut(self.many, bits::words(capacity))
            }
        }
    }

    /// The same, to be read.
    pub(super) fn get(&self, capacity: usize) -> &[u64] {
        // SAFETY: as above.
        unsafe {
            if capacity <= FEW {
                slice::from_ref(&self.few)
            } else {
                slice::from_raw_parts(self.many, bits::words(capacity))
            }
        }
    }
}

/// Sizes in which the words come: with room for 128 blocks, 256, and so on to 4096.
const SIZES: usize = 6;

/// Words that no slab needs at present, by size.
#[repr(C)]
pub(crate) struct Unused([*mut u64; SIZES]);

/// The size for so many blocks, more than [`FEW`], and its words.
fn size_of_words(capacity: usize) -> (usize, usize) {
    let words = bits::words(capacity).next_power_of_two();
    (words.trailing_zeros() as usize - 1, words)
}

impl Unused {
    #[cfg(test)]
    pub(crate) const NONE: Unused = Unused([ptr::null_mut(); SIZES]);

    /// Bits for a slab of so many blocks, none of which is free. `None` when out of memory.
    pub(super) fn get(&mut self, capacity: usize) -> Option<FreeBits> {
        if capacity <= FEW {
            return Some(FreeBits { few: 0 });
        }
        let (size, words) = size_of_words(capacity);
        let head = &mut self.0[size];
        let at = match NonNull::new(*head) {
            Some(at) => {
                // SAFETY: unused words are linked by their first, and are the caller's.
                unsafe {
                    *head = at.cast::<*mut u64>().read();
                    at.write_bytes(0, words);
                }
                at
            }
            // Not touched before a block comes back.
            None => meta::allocate_words(words)?,
        };
        Some(FreeBits { many: at.as_ptr() })
    }

    /// Takes the bits of a slab of so many blocks back.
    ///
    /// # Safety
    /// They came from [`Unused::get`], of any heap, for so many.
    pub(super) unsafe fn put(&mut self, free: &mut FreeBits, capacity: usize) {
        if capacity > FEW {
            let head = &mut self.0[size_of_words(capacity).0];
            // SAFETY: the caller's promise. From here on nobody finds the words by way of the slab.
            unsafe {
                let words = free.many;
                words.cast::<*mut u64>().write(*head);
                *head = words;
                free.many = ptr::null_mut();
            }
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::os::fake::{self, Call};
    use crate::os::sys::Errno;
    use std::vec::Vec;

    #[test]
    #[cfg_attr(miri, ignore = "an interpreter maps no memory for the bits")]
    fn words_are_used_again_and_come_back_clear() {
        let mut unused = Unused::NONE;
        for capacity in [1, 64, 65, 128, 129, 1000, 4096] {
            let mut one = unused.get(capacity).expect("memory");
            let mut two = unused.get(4097 - capacity).expect("memory");
            one.words(capacity).fill(u64::MAX);
            assert_eq!(bits::count(two.get(4097 - capacity)), 0);
            let at = one.words(capacity).as_ptr();
            // SAFETY: the words are this test's.
            unsafe { unused.put(&mut one, capacity) };
            let mut again = unused.get(capacity).expect("memory");
            assert!(capacity <= FEW || again.words(capacity).as_ptr() == at);
            assert_eq!(bits::count(again.get(capacity)), 0, "of {capacity}");
            // SAFETY: as above.
            unsafe {
                unused.put(&mut again, capacity);
                unused.put(&mut two, 4097 - capacity);
            }
        }
    }

    #[test]
    fn without_memory_there_are_no_words() {
        if !fake::alone("slab::free_bits::tests::without_memory_there_are_no_words") {
            return;
        }
        fake::fail_kind_from(Call::Mmap, 1, Errno::ENOMEM);
        let mut unused = Unused::NONE;
        let mut had: Vec<FreeBits> = Vec::new();
        had.extend(core::iter::from_fn(|| unused.get(4096)));
        assert!(unused.get(64).is_some(), "few need none");
        if let Some(mut one) = had.pop() {
            // SAFETY: the words are this test's.
            unsafe { unused.put(&mut one, 4096) };
            assert!(unused.get(4096).is_some(), "what was put back is there");
        }
        fake::clear();
        assert!(unused.get(4096).is_some());
    }
}
