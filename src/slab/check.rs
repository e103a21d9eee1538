//! What tells a block's start from other addresses.

use super::batch::Block;
use super::directory::DIRECTORY;
use super::slab::Blocks;
use super::superslab::Superslab;
use crate::base::size_class;
use crate::base::units::SLOT;

/// Whether the addresses, all in slabs of `class` as far as their tags say, are those of blocks of it.
#[inline]
pub(crate) fn all_start(blocks: &[*mut Block], class: usize) -> bool {
    if size_class::slots(class) != 1 || size_class::is_run(class) {
        return blocks.iter().all(|&block| is_start(block, class));
    }
    if blocks.len() < MANY {
        let starts = Blocks::of(class);
        return blocks
            .iter()
            .all(|&block| starts.index(block as usize % SLOT).is_some());
    }
    let size = size_class::size(class) as u32;
    if size.is_power_of_two() {
        let bits = blocks.iter().fold(0, |bits, &block| bits | block as usize);
        return bits & (size as usize - 1) == 0;
    }
    let last = (size_class::capacity(class) - 1) as u64 * u64::from(size);
    // As in `Blocks`, with 32 bits below the number, in such a way that processors do several together: the highest bit of
    // `wrong` is that of a number below 0.
    let inverse = u64::from(u32::MAX / size + 1);
    let mut wrong = 0;
    for &block in blocks {
        let offset = block as u64 % SLOT as u64;
        let below = (offset * inverse) & u64::from(u32::MAX);
        wrong |= (inverse - 1).wrapping_sub(below) | last.wrapping_sub(offset);
    }
    wrong >> 63 == 0
}

/// Addresses from which on it is worth looking at several together.
const MANY: usize = 16;

/// Whether `block` is the start of a block of `class`. That it lies in a slab of that class is the caller's to know, for the
/// time being: whoever frees the block at this moment may be wrong about it.
pub(crate) fn is_start(block: *mut Block, class: usize) -> bool {
    let addr = block as usize;
    let blocks = Blocks::of(class);
    if size_class::slots(class) == 1 && !size_class::is_run(class) {
        return blocks.index(addr % SLOT).is_some();
    }
    if !DIRECTORY.holds(addr) || DIRECTORY.tag(addr).class() != class {
        return false;
    }
    // SAFETY: the tag says that the address is in a slab of ours. Nothing that is read changes while a block of it is in
    // use. The later slots of a run have no slab of their own, but may hold what is left of an earlier one, of which nothing
    // is out.
    unsafe {
        let slab = Superslab::slab_of(addr);
        let is_run = size_class::is_run(class);
        (*slab).class as usize == class
            && !(is_run && (*slab).carved == (*slab).free_count)
            && blocks.index(addr.wrapping_sub((*slab).base)).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_are_told_from_all_other_addresses() {
        let base = 0x7F12_3450_0000_usize;
        let of_one_slot = |&class: &usize| size_class::slots(class) == 1;
        for class in (1..size_class::SLAB_CLASSES).filter(of_one_slot) {
            let size = size_class::size(class);
            // An interpreter, a thousand times as slow, looks at fewer.
            for offset in (0..SLOT).step_by(if cfg!(miri) { 1009 } else { 1 }) {
                let block = (base + offset) as *mut Block;
                let expected = offset % size == 0 && offset + size <= SLOT;
                assert_eq!(is_start(block, class), expected, "{offset} of {size}");
                let mut some = [base as *mut Block; MANY + 1];
                some[1] = block;
                for some in [&some[..3], &some] {
                    assert_eq!(all_start(some, class), expected, "{offset} of {size}");
                }
            }
        }
    }
}
