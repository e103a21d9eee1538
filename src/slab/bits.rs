//! A bitmap over the blocks of a slab, in words that the caller owns. Bit `i` of the words is block `i`.

#![forbid(unsafe_code)]

const WORD: usize = u64::BITS as usize;

/// Words that hold `bits` bits.
pub(crate) const fn words(bits: usize) -> usize {
    bits.div_ceil(WORD)
}

/// Sets a bit. Returns whether it was clear.
#[must_use]
pub(crate) fn set(map: &mut [u64], at: usize) -> bool {
    let (word, bit) = (&mut map[at / WORD], 1 << (at % WORD));
    let was_clear = *word & bit == 0;
    *word |= bit;
    was_clear
}

pub(crate) fn is_set(map: &[u64], at: usize) -> bool {
    map[at / WORD] >> (at % WORD) & 1 != 0
}

pub(crate) fn clear(map: &mut [u64], at: usize) {
    map[at / WORD] &= !(1 << (at % WORD));
}

/// Number of set bits.
pub(crate) fn count(map: &[u64]) -> usize {
    map.iter().map(|word| word.count_ones() as usize).sum()
}

/// The first set bit from `from` on.
pub(crate) fn next_set(map: &[u64], from: usize) -> Option<usize> {
    next(map, from, 0)
}

/// The first clear bit from `from` on. Bits beyond the last block are clear as well.
pub(crate) fn next_clear(map: &[u64], from: usize) -> Option<usize> {
    next(map, from, u64::MAX)
}

/// The first bit from `from` on that differs from `flip`'s.
fn next(map: &[u64], from: usize, flip: u64) -> Option<usize> {
    let mut mask = u64::MAX << (from % WORD);
    for (index, word) in map.iter().enumerate().skip(from / WORD) {
        let found = (word ^ flip) & mask;
        if found != 0 {
            return Some(index * WORD + found.trailing_zeros() as usize);
        }
        mask = u64::MAX;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn bits_are_found_in_order() {
        let mut map = [0; 3];
        let members = [0, 1, 63, 64, 130, 191];
        for &at in &members {
            assert!(set(&mut map, at));
            assert!(!set(&mut map, at), "{at} is set already");
        }
        let each = |find: fn(&[u64], usize) -> Option<usize>, map: &[u64]| {
            let mut from = 0;
            core::iter::from_fn(|| find(map, from).inspect(|at| from = at + 1)).collect::<Vec<_>>()
        };
        assert_eq!(each(next_set, &map), members);
        let others: Vec<_> = (0..192).filter(|at| !members.contains(at)).collect();
        assert_eq!(each(next_clear, &map), others);
        assert_eq!(count(&map), members.len());
        clear(&mut map, 63);
        assert_eq!(next_set(&map, 2), Some(64));
        assert_eq!(next_set(&map, 192), None);
        assert_eq!((words(1), words(64), words(65)), (1, 1, 2));
    }
}
