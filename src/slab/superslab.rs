//! The descriptor of a superslab, out of line, and how to get from a block to its slab.

use super::batch::Block;
use super::bits;
use super::directory::DIRECTORY;
use super::meta;
use super::slab::Slab;
use crate::base::size_class::{self, Class};
use crate::base::sync::atomic::Ordering;
use crate::base::tuning::pool::LIGHT;
use crate::base::units::{CACHE_LINE, SLOT, SLOT_SHIFT, SLOTS, SUPERSLAB, Slots};
use crate::os::numa::Node;
use crate::os::prefault;
use core::ptr::NonNull;

/// Bytes by which the pool counts what is resident; a slot is sixteen of them, whatever the OS page.
pub(crate) const UNIT: usize = 4 << 10;

/// Most blocks of a slab.
pub(super) const MOST_BLOCKS: usize = SLOT / size_class::SIZES[1] as usize;

/// Where a superslab is, as the pool sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum State {
    /// Not mapped: the descriptor waits for re-use.
    Unmapped,
    /// In the pool's lists, or full.
    Pooled,
    /// Taken out of the lists by a thread that maps, populates or purges it.
    InFlight,
}

/// Everything known of one superslab. All fields but the last three belong to the pool's lock; `slabs[i]`, with the bits of
/// the same slot, belongs to the lock of the heap that owns the slab (rule 4).
#[repr(C, align(64))]
pub(crate) struct Superslab {
    pub(crate) base: usize,
    /// Slots nobody claimed; bit i is slot i.
    pub(crate) free: u32,
    /// Slots that were claimed since they were last known to be zero.
    pub(crate) dirty: u32,
    /// Slots claimed for classes that fill their slabs, and those claimed for blocks that may stay unwritten.
    pub(crate) filled: u32,
    pub(crate) larger: u32,
    /// How much of each slot was ever handed out or populated, in [`UNIT`]s: what purging it would give back.
    pub(crate) touched: [u8; SLOTS],
    /// The sum of `touched` over the slots that are free and dirty.
    pub(crate) held: u16,
    pub(crate) state: State,
    /// Whose pool it is in; set before it is listed, and fixed while it is mapped. A descriptor stays with its pool.
    pub(crate) node: Node,
    /// Whether huge pages were asked for.
    pub(crate) huge: bool,
    /// A huge page that a partial purge has split: slots of it come and go in small pages. If `huge` is no longer set, it refuses
    /// huge pages since then.
    pub(crate) split: bool,
    /// Whether the pages were populated ahead of use and should stay.
    pub(crate) populated: bool,
    /// Whether it was populated ahead of demand: then what is not used goes back. What was populated on request stays.
    pub(crate) ahead: bool,
    /// In the list of superslabs with dirty free slots.
    pub(crate) in_dirty: bool,
    /// In the list by number of free slots.
    pub(crate) in_list: bool,
    pub(crate) list: Links,
    pub(crate) dirty_list: Links,
    /// When it entered the dirty list, milliseconds.
    pub(crate) dirty_since: u64,
    /// Its turn in that list, counted from 1, by which the list is ordered.
    pub(crate) dirty_turn: u64,
    /// The last search for superslabs to unmap in which the kernel refused this one.
    pub(crate) refused: u64,
    pub(crate) slabs: [Slab; SLOTS],
    /// A bit for each block of a slab for whose blocks one word is enough.
    few: [u64; SLOTS],
    /// The words of the other slabs. The pointer does not change.
    words: *mut Words,
}

/// A bit for each block of a slab whose blocks need more words than one: in `some` if eight are enough, else in `many`. These
/// tables lie apart from the descriptors, because most of them stays untouched, and the descriptors lie together without them.
#[repr(C, align(64))]
struct Words {
    some: [[u64; SOME]; SLOTS],
    many: [[u64; bits::words(MOST_BLOCKS)]; SLOTS],
}

/// Words of a cache line: enough for blocks of 128 bytes and more.
const SOME: usize = CACHE_LINE / size_of::<u64>();

const _: () = {
    let mut class = 1;
    while class < size_class::SLAB_CLASSES {
        assert!(
            size_class::capacity(Class::new(class)) <= MOST_BLOCKS,
            "a bit for each block"
        );
        class += 1;
    }
};

/// Links of an intrusive list.
#[derive(Clone, Copy)]
pub(crate) struct Links {
    pub(crate) next: *mut Superslab,
    pub(crate) prev: *mut Superslab,
}

impl Superslab {
    /// A descriptor for a superslab yet to be mapped.
    pub(crate) fn allocate() -> Option<NonNull<Superslab>> {
        let words = meta::allocate_sparse::<Words>()?;
        let descriptor = meta::allocate::<Superslab>()?;
        // SAFETY: fresh zeroed memory for one descriptor; every field but these two is valid when zero.
        unsafe {
            (&raw mut (*descriptor.as_ptr()).state).write(State::Unmapped);
            (&raw mut (*descriptor.as_ptr()).words).write(words.as_ptr());
        }
        Some(descriptor)
    }

    /// Makes the descriptor and its words resident. Every byte keeps its value.
    ///
    /// # Safety
    /// `this` is a descriptor of which no slot is claimed, and no other thread refers to it.
    pub(crate) unsafe fn prefault(this: *mut Superslab) {
        // SAFETY: the caller's promise; both are mapped for good.
        unsafe {
            prefault::touch_within(this as usize, size_of::<Superslab>());
            prefault::touch_within((*this).words as usize, size_of::<Words>());
        }
    }

    /// The words with a bit for each block of a slab of `capacity` that begins in `slot`.
    ///
    /// # Safety
    /// `this` is a descriptor.
    pub(crate) unsafe fn bits_of(this: *mut Superslab, slot: usize, capacity: usize) -> *mut u64 {
        // SAFETY: the caller's promise.
        unsafe {
            match bits::words(capacity) {
                1 => &raw mut (*this).few[slot],
                2..=SOME => (&raw mut (*(*this).words).some[slot]).cast(),
                _ => (&raw mut (*(*this).words).many[slot]).cast(),
            }
        }
    }

    /// Whether it is one huge page, or will be when it is touched.
    pub(crate) fn is_whole(&self) -> bool {
        self.huge && !self.split
    }

    /// Whether it refuses huge pages since it was split.
    pub(crate) fn has_left(&self) -> bool {
        self.split && !self.huge
    }

    /// Whether touching a page of it may make pages resident that nobody asked for.
    pub(crate) fn spreads(&self) -> bool {
        self.is_whole() && !self.populated
    }

    /// The slots of which little or nothing is resident. All of them if the superslab is resident as a whole, because a slab
    /// there costs no page of its own.
    pub(crate) fn light(&self) -> u32 {
        if self.is_whole() || self.populated {
            return u32::MAX;
        }
        let mut bits = 0;
        for (slot, &touched) in self.touched.iter().enumerate() {
            bits |= u32::from(touched <= LIGHT) << slot;
        }
        bits
    }

    /// Lowest run of `slots` free slots.
    pub(crate) fn find_run(free: u32, slots: Slots) -> Option<usize> {
        let (mut starts, slots) = (free, slots.count());
        let mut have = 1;
        while have < slots {
            let step = have.min(slots - have);
            starts &= starts >> step;
            have += step;
        }
        (starts != 0).then(|| starts.trailing_zeros() as usize)
    }

    /// The bits of `slots` slots from `slot`.
    pub(crate) fn bits(slot: usize, slots: Slots) -> u32 {
        (((1u64 << slots.count()) - 1) as u32) << slot
    }

    /// The slab that a block of ours lies in. If it has several slots and blocks, each slot says where it begins. A run has its
    /// block in its first slot; nothing of the others is out, so an address inside a run is seen to be no block.
    ///
    /// # Safety
    /// `addr` is in a slab of ours: its tag said so and the slab has blocks out.
    #[inline]
    pub(crate) unsafe fn slab_of(addr: usize) -> *mut Slab {
        let superslab = DIRECTORY.descriptor(addr).load(Ordering::Relaxed) as *mut Superslab;
        let slot = (addr & (SUPERSLAB - 1)) >> SLOT_SHIFT;
        // SAFETY: the descriptor was stored before the slot's tag was set and outlives the process' last block. What the
        // slot's own state says `join` wrote, or it is zero.
        unsafe {
            let back = usize::from((*superslab).slabs[slot].back);
            &raw mut (*superslab).slabs[slot - back]
        }
    }

    /// Whether a run was freed and not allocated since, wherever it lies.
    ///
    /// # Safety
    /// `run` is the start of a run of ours, as for [`Superslab::slab_of`].
    pub(crate) unsafe fn is_free_run(run: *mut Block) -> bool {
        // SAFETY: the caller's promise. The flag alone is looked at. Relaxed: the program that hands a block on orders the rest.
        unsafe {
            (*Superslab::slab_of(run as usize))
                .run_is_free
                .load(Ordering::Relaxed)
        }
    }

    /// Notes that a run is free. Returns whether it was.
    ///
    /// # Safety
    /// As for [`Superslab::is_free_run`].
    pub(crate) unsafe fn run_freed(run: *mut Block) -> bool {
        // SAFETY: as above. Relaxed: as above.
        unsafe {
            (*Superslab::slab_of(run as usize))
                .run_is_free
                .swap(true, Ordering::Relaxed)
        }
    }

    /// Notes that a run is in use.
    ///
    /// # Safety
    /// As for [`Superslab::is_free_run`].
    pub(crate) unsafe fn run_taken(run: *mut Block) {
        // SAFETY: as above. Relaxed: as above.
        unsafe {
            (*Superslab::slab_of(run as usize))
                .run_is_free
                .store(false, Ordering::Relaxed)
        }
    }

    /// Has every slot of a slab of several blocks, of `slots` slots from `slot`, say where it begins.
    ///
    /// # Safety
    /// The caller claimed the slots and holds the lock of the heap they are for.
    pub(crate) unsafe fn join(this: *mut Superslab, slot: usize, slots: Slots) {
        for back in 1..slots.count() {
            // SAFETY: the caller has exclusive use of the slots.
            unsafe { (*this).slabs[slot + back].back = back as u8 };
        }
    }

    /// Undoes [`Superslab::join`].
    ///
    /// # Safety
    /// Nothing of the slab is out, and the caller holds its owner's lock.
    pub(crate) unsafe fn part(this: *mut Superslab, slot: usize, slots: Slots) {
        for back in 1..slots.count() {
            // SAFETY: the caller has exclusive use of the slots.
            unsafe { (*this).slabs[slot + back].back = 0 };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_found_lowest_first() {
        for slots in 1..=16 {
            for free in [
                0u32,
                1,
                0xFFFF_FFFF,
                0x8000_0000,
                0x00FF_0F0F,
                0xFFFF_0000,
                0x7FFF_FFFE,
            ] {
                let length = Slots::new(slots);
                let expected = (0..=32 - slots)
                    .find(|&at| free & Superslab::bits(at, length) == Superslab::bits(at, length));
                assert_eq!(
                    Superslab::find_run(free, length),
                    expected,
                    "free {free:#x} slots {slots}"
                );
            }
        }
        assert_eq!(Superslab::bits(0, Slots::new(32)), u32::MAX);
    }
}
