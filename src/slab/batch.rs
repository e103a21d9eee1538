//! Free blocks and batches of them.
//!
//! A free block's first word is the link to the next block of its chain. The first block of a *batch* carries in its
//! second word a link to another batch (low 48 bits) and the number of blocks in its own chain (high 16 bits): that is
//! how whole batches move between bin, spare stack, `out` and inbox without a block inside being touched.

use crate::base::sync::Word;

/// A free block, at least 16 bytes; user memory until it was freed.
#[repr(C)]
pub(crate) struct Block {
    pub(crate) next: Word<*mut Block>,
    batch: Word<u64>,
}

const _: () = assert!(
    core::mem::size_of::<Block>() <= 16 || cfg!(loom),
    "the smallest block holds both words"
);

const LINK_BITS: u32 = 48;
const LINK_MASK: u64 = (1 << LINK_BITS) - 1;
/// Most blocks one batch may count.
pub(crate) const MAX_COUNT: usize = u16::MAX as usize;

#[cfg(loom)]
impl Block {
    pub(crate) fn new() -> Block {
        Block {
            next: Word::new(core::ptr::null_mut()),
            batch: Word::new(0),
        }
    }
}

/// A chain of free blocks of one class, by its first block. Whoever holds a `Batch` owns every block of the chain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Batch(*mut Block);

impl Batch {
    /// Makes a batch of the chain at `head`.
    ///
    /// # Safety
    /// `head` starts a chain of exactly `count` (1 to [`MAX_COUNT`]) free blocks that the caller owns.
    #[inline]
    pub(crate) unsafe fn seal(head: *mut Block, count: usize) -> Batch {
        debug_assert!(count > 0 && count <= MAX_COUNT && !head.is_null());
        // SAFETY: the caller owns the first block, which is at least 16 bytes.
        unsafe { (*head).batch.set((count as u64) << LINK_BITS) };
        Batch(head)
    }

    /// The batch whose first block is at `head`, or none for null.
    pub(crate) fn from_head(head: *mut Block) -> Option<Batch> {
        (!head.is_null()).then_some(Batch(head))
    }

    #[inline]
    pub(crate) fn head(self) -> *mut Block {
        self.0
    }

    /// # Safety
    /// The caller owns the batch.
    #[inline]
    pub(crate) unsafe fn count(self) -> usize {
        // SAFETY: the first block is a free block, owned by the caller.
        unsafe { ((*self.0).batch.get() >> LINK_BITS) as usize }
    }

    /// # Safety
    /// The caller owns the batch.
    #[inline]
    pub(crate) unsafe fn link(self) -> Option<Batch> {
        // SAFETY: as in `count`.
        unsafe { Batch::from_head(((*self.0).batch.get() & LINK_MASK) as *mut Block) }
    }

    /// # Safety
    /// The caller owns the batch.
    #[inline]
    pub(crate) unsafe fn set_link(self, link: Option<Batch>) {
        let link = link.map_or(0, |batch| batch.0 as u64);
        debug_assert!(
            link & !LINK_MASK == 0,
            "user addresses have at most 48 bits"
        );
        // SAFETY: as in `count`.
        unsafe {
            (*self.0)
                .batch
                .set((*self.0).batch.get() & !LINK_MASK | link)
        };
    }
}
