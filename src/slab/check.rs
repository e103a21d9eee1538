//! What tells a block's start from other addresses.

use super::batch::Block;
use super::directory::DIRECTORY;
use super::slab::Blocks;
use super::superslab::Superslab;
use crate::base::size_class::{self, Class};
use crate::base::units::{SLOT, Slots};

/// Whether the addresses, all in slabs of `class` by their tags, are those of blocks of it.
#[inline]
pub(crate) fn all_start(blocks: &[*mut Block], class: Class) -> bool {
    if size_class::slots(class) != Slots::ONE || size_class::is_run(class) {
        return each_starts(blocks, class);
    }
    let size = size_class::size(class);
    if size.is_power_of_two() {
        // Such blocks fill the slot.
        let bits = blocks.iter().fold(0, |bits, &block| bits | block as usize);
        return bits & (size - 1) == 0;
    }
    // As `Blocks::index` asks of each, without a jump for each, and with an inverse of 32 bits, which is exact for offsets of 16:
    // two are looked at together. A difference below 0 sets the highest bit.
    let Blocks { inverse, capacity } = Blocks::of(class);
    let (inverse, end) = ((inverse >> 32) + 1, (capacity * size) as u64);
    let wrong = blocks.iter().fold(0, |wrong, &block| {
        let offset = block as u64 % SLOT as u64;
        let below = offset * inverse % (1 << 32);
        wrong | (inverse - 1).wrapping_sub(below) | (end - 1).wrapping_sub(offset)
    });
    wrong >> 63 == 0
}

#[cold]
#[inline(never)]
fn each_starts(blocks: &[*mut Block], class: Class) -> bool {
    blocks.iter().all(|&block| is_start(block, class))
}

/// Whether `block` is the start of a block of `class`. The caller knows that its tag says so. If another thread frees the block
/// at the same time, the answer may be wrong.
pub(crate) fn is_start(block: *mut Block, class: Class) -> bool {
    let addr = block as usize;
    let blocks = Blocks::of(class);
    if size_class::slots(class) == Slots::ONE && !size_class::is_run(class) {
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
        (*slab).class.get() == class
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
        let of_one_slot = |&class: &Class| size_class::slots(class) == Slots::ONE;
        for class in Class::all_of_slabs().filter(of_one_slot) {
            let size = size_class::size(class);
            // An interpreter, a thousand times as slow, looks at fewer.
            for offset in (0..SLOT).step_by(if cfg!(miri) { 1009 } else { 1 }) {
                let block = (base + offset) as *mut Block;
                let expected = offset % size == 0 && offset + size <= SLOT;
                assert_eq!(is_start(block, class), expected, "{offset} of {size}");
                let some = [base as *mut Block, block, base as *mut Block];
                assert_eq!(all_start(&some, class), expected, "{offset} of {size}");
            }
        }
    }
}
