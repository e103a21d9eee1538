//! Size classes: which block serves a request.
//!
//! - Class 0 is never used.
//! - Classes 1..=64 are the multiples of 16 up to 1024, so that the class of a small size is one shift.
//! - Then come eight classes per doubling up to 8 KiB.
//! - Then come the sizes that tile a slab: a seventh, a sixth, a fifth, a quarter, a third and a half of a slot, then a fifth
//!   and a quarter of three slots. A slab has one slot, but three for those last two sizes: with one slot per block they would
//!   waste up to half of it.
//! - A *run* class has one block of 1..=16 whole slots.
//!
//! A larger request is served by a large block. Four values of the directory's class byte stand for no class: [`LARGE`],
//! [`OWN`], [`CHECKED`] and [`GUARDED`].

use super::units::{SLOT, SLOT_SHIFT, Slots};
use core::ops::{Index, IndexMut};

/// Largest size served by the one-shift rule.
pub(crate) const SMALL_MAX: usize = 1024;
/// Largest size served from a slab of several blocks.
pub(crate) const SLAB_MAX: usize = 48 << 10;
/// Largest size served from a run of slots.
pub(crate) const RUN_MAX: usize = 1 << 20;
/// The first class whose slabs have [`WIDE_SLOTS`] slots. The classes from it up to [`SLAB_CLASSES`] have as many.
const WIDE: usize = 95;
const WIDE_SLOTS: Slots = Slots::new(3);
/// Number of classes with several blocks to a slab, plus the unused class 0.
pub(crate) const SLAB_CLASSES: usize = 97;
/// All classes, the unused class 0 included.
pub(crate) const CLASSES: usize = SLAB_CLASSES + RUN_MAX / SLOT;
/// The directory's class byte of a large block.
pub(crate) const LARGE: Class = Class(255);
/// The directory's class byte of memory that is ours but holds no block a user may free (a slot being claimed).
pub(crate) const OWN: Class = Class(254);
/// The directory's class byte of a slab of checked blocks.
pub(crate) const CHECKED: Class = Class(253);
/// The directory's class byte of the guarded blocks' memory.
pub(crate) const GUARDED: Class = Class(252);
/// The alignment that every block has, however small it is.
pub(crate) const MIN_ALIGN: usize = 16;

const _: () = assert!(
    CLASSES < GUARDED.0 && GUARDED.0 < CHECKED.0 && CHECKED.0 < OWN.0 && OWN.0 < LARGE.0,
    "a class fits the directory's byte beside LARGE, OWN, CHECKED and GUARDED"
);

/// A size class, class 0, or one of the four that stand for no class: a byte of a tag.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Class(usize);

impl Class {
    /// The unused class.
    pub(crate) const NONE: Class = Class(0);

    #[inline(always)]
    pub(crate) const fn new(index: usize) -> Class {
        Class(index)
    }
    #[inline(always)]
    pub(crate) const fn index(self) -> usize {
        self.0
    }
    #[inline(always)]
    pub(crate) const fn byte(self) -> ClassByte {
        ClassByte(self.0 as u8)
    }
    /// All classes that have blocks.
    #[inline(always)]
    pub(crate) fn all() -> impl DoubleEndedIterator<Item = Class> + Clone {
        (1..CLASSES).map(Class)
    }
    /// This class and those above it; of class 0, all.
    #[inline(always)]
    pub(crate) fn onward(self) -> impl Iterator<Item = Class> {
        (self.0.max(1)..CLASSES).map(Class)
    }
    /// The classes with several blocks to a slab.
    #[inline(always)]
    pub(crate) fn all_of_slabs() -> impl DoubleEndedIterator<Item = Class> + Clone {
        (1..SLAB_CLASSES).map(Class)
    }
    /// Whether there are blocks of this class: it is neither class 0 nor one of the four above the classes.
    #[inline(always)]
    pub(crate) const fn has_blocks(self) -> bool {
        self.0.wrapping_sub(1) < CLASSES - 1
    }
    /// Whether it is none of the four above the classes.
    #[inline(always)]
    pub(crate) const fn is_of_sizes(self) -> bool {
        self.0 < CLASSES
    }
}

/// A [`Class`] in a byte, as slabs have it.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct ClassByte(u8);

impl ClassByte {
    #[inline(always)]
    pub(crate) const fn get(self) -> Class {
        Class(self.0 as usize)
    }
}

impl<T> Index<Class> for [T; CLASSES] {
    type Output = T;
    #[inline(always)]
    fn index(&self, class: Class) -> &T {
        &self[class.0]
    }
}

impl<T> IndexMut<Class> for [T; CLASSES] {
    #[inline(always)]
    fn index_mut(&mut self, class: Class) -> &mut T {
        &mut self[class.0]
    }
}

/// Block size in bytes of each class.
pub(crate) static SIZES: [u32; CLASSES] = sizes();

const fn sizes() -> [u32; CLASSES] {
    let mut out = [0; CLASSES];
    let mut class = 1;
    while class <= 64 {
        out[class] = class as u32 * 16;
        class += 1;
    }
    let mut base = 1024;
    while base < 8192 {
        let mut step = 1;
        while step <= 8 {
            out[class] = base + base / 8 * step;
            class += 1;
            step += 1;
        }
        base *= 2;
    }
    let tiles = [9344, 10880, 13056, 16384, 21760, 32768, 39296, 49152];
    let mut i = 0;
    while i < tiles.len() {
        out[class] = tiles[i];
        class += 1;
        i += 1;
    }
    assert!(
        class == SLAB_CLASSES,
        "the count of slab classes is stated right"
    );
    while class < CLASSES {
        out[class] = ((class - SLAB_CLASSES + 1) * SLOT) as u32;
        class += 1;
    }
    out
}

const MEDIUM_SHIFT: u32 = 7;
/// Class of a size in (1024, 48 KiB], by the number of 128-byte steps that hold it.
static MEDIUM: [u8; (SLAB_MAX >> MEDIUM_SHIFT) + 1] = mediums();

const fn mediums() -> [u8; (SLAB_MAX >> MEDIUM_SHIFT) + 1] {
    let mut out = [0; (SLAB_MAX >> MEDIUM_SHIFT) + 1];
    let table = sizes();
    let mut steps = 1;
    while steps < out.len() {
        let mut class = 1;
        while (table[class] as usize) < steps << MEDIUM_SHIFT {
            class += 1;
        }
        out[steps] = class as u8;
        steps += 1;
    }
    out
}

/// The class of a size up to [`SMALL_MAX`]; size 0 counts as 1.
#[inline(always)]
pub(crate) const fn small(size: usize) -> Class {
    Class(((size + 15) >> 4) + (size == 0) as usize)
}

/// The class of a size above [`SMALL_MAX`], up to [`SLAB_MAX`].
#[inline(always)]
pub(crate) fn medium(size: usize) -> Class {
    Class(MEDIUM[(size + (1 << MEDIUM_SHIFT) - 1) >> MEDIUM_SHIFT] as usize)
}

/// The class of a size, for alignments up to [`MIN_ALIGN`]. `None` if a large block serves it.
#[inline]
pub(crate) fn of_size(size: usize) -> Option<Class> {
    if size <= SMALL_MAX {
        Some(small(size))
    } else if size <= SLAB_MAX {
        Some(medium(size))
    } else if size <= RUN_MAX {
        Some(Class(SLAB_CLASSES + ((size - 1) >> SLOT_SHIFT)))
    } else {
        None
    }
}

/// The class that serves `size` bytes at `align` (a power of two): the first whose size is a multiple of the alignment, because
/// slabs start at multiples of 64 KiB. `None` if a large block serves it.
pub(crate) fn of_layout(size: usize, align: usize) -> Option<Class> {
    if align <= MIN_ALIGN {
        return of_size(size);
    }
    if align > SLOT || size > RUN_MAX {
        return None;
    }
    let mut class = of_size((size.max(1) + align - 1) & !(align - 1))?;
    // The last class, which is a multiple of every such alignment, ends the search.
    while class.0 < CLASSES - 1 && SIZES[class.0] as usize & (align - 1) != 0 {
        class.0 += 1;
    }
    Some(class)
}

/// Bytes in a block of `class`.
#[inline(always)]
pub(crate) fn size(class: Class) -> usize {
    SIZES[class.0] as usize
}

/// Whether a slab of `class` holds a single block.
#[inline(always)]
pub(crate) const fn is_run(class: Class) -> bool {
    class.0 >= SLAB_CLASSES
}

/// Slots in one slab of `class`.
#[inline]
pub(crate) const fn slots(class: Class) -> Slots {
    if is_run(class) {
        Slots::new(class.0 - SLAB_CLASSES + 1)
    } else if class.0 >= WIDE {
        WIDE_SLOTS
    } else {
        Slots::ONE
    }
}

/// The class that serves a request of `class` if no neighbouring slots are free for a slab of it: one with a slot for each
/// block. Such a block may be freed as one of `class`, because it is less than twice as large.
pub(crate) fn in_single_slots(class: Class) -> Option<Class> {
    (WIDE..SLAB_CLASSES)
        .contains(&class.0)
        .then_some(Class(SLAB_CLASSES))
}

/// Blocks in one slab of `class`.
#[inline]
pub(crate) const fn capacity(class: Class) -> usize {
    if is_run(class) {
        1
    } else {
        slots(class).bytes() / SIZES[class.0] as usize
    }
}

/// Where each class's part of an array begins if the parts lie one after the other. The last element is where the last part
/// ends.
pub(crate) const fn starts(lens: [u16; CLASSES]) -> [u16; CLASSES + 1] {
    let mut starts = [0; CLASSES + 1];
    let mut class = 0;
    while class < CLASSES {
        starts[class + 1] = starts[class] + lens[class];
        class += 1;
    }
    starts
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Under Miri, which is a thousand times as slow, only some sizes are tried.
    const STEP: usize = if cfg!(miri) { 5003 } else { 1 };

    #[test]
    fn every_size_round_trips() {
        let mut last = Class(1);
        for n in (0..RUN_MAX).step_by(STEP).chain([RUN_MAX]) {
            let class = of_size(n).unwrap();
            assert!(size(class) >= n.max(1), "size {n} in class {}", class.0);
            assert!(
                class.0 == 1 || size(Class(class.0 - 1)) < n.max(1),
                "size {n}: class {} is not the smallest",
                class.0
            );
            assert!(class >= last, "monotone at {n}");
            last = class;
        }
        assert_eq!(of_size(RUN_MAX + 1), None);
        assert_eq!(last, Class(CLASSES - 1));
    }

    #[test]
    fn waste_is_bounded() {
        for class in 2..CLASSES {
            let (prev, this) = (size(Class(class - 1)), size(Class(class)));
            let bound = match prev {
                0..1024 => this - prev == 16,
                1024..8192 => (this - prev) * 8 <= prev + prev / 8,
                // The tiling classes; memory past the request is never touched on 4 KiB pages.
                8192..21760 => (this - prev) * 100 <= prev * 34,
                21760 => this == 32768,
                // Sizes that a run of one slot would waste half of.
                32768..49152 => (this - prev) * 100 <= prev * 26,
                49152 => this == SLOT,
                _ => this - prev <= SLOT,
            };
            assert!(bound, "class {class}: {prev} to {this}");
        }
        for class in Class::all_of_slabs() {
            let (used, all) = (capacity(class) * size(class), slots(class).bytes());
            assert!(
                (all - used) * 100 <= all * 10,
                "class {} leaves {} of {all}",
                class.0,
                all - used
            );
        }
    }

    #[test]
    fn alignment_is_kept() {
        for shift in 0..=16 {
            let align = 1usize << shift;
            for n in (0..70_000).step_by(STEP).chain([RUN_MAX - 1, RUN_MAX]) {
                if let Some(class) = of_layout(n, align) {
                    assert!(
                        size(class) >= n && size(class).is_multiple_of(align.min(SLOT))
                            || align <= MIN_ALIGN
                    );
                    if align > MIN_ALIGN {
                        assert_eq!(size(class) % align, 0, "size {n} align {align}");
                    }
                } else {
                    assert!(n > RUN_MAX || align > SLOT);
                }
            }
        }
        assert_eq!(of_layout(1, 2 * SLOT), None);
    }
}
