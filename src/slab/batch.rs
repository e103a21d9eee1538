//! Free blocks and batches of them.
//!
//! A batch is a number of free blocks of one class, known by its first. The second word of that block holds a link to another
//! batch (48 bits), the number of blocks (15 bits), and whether the batch waits in an inbox (1 bit). So whole batches move
//! between stack and inbox in one step. The words from the third on hold the addresses of further blocks: the first block names
//! the next few, the second those that follow, and so on. So most blocks are not touched at all, and opening a batch does not
//! wait for one after the other. The smallest blocks, which have no third word, are chained by their first.
//!
//! The words lie in freed memory, where a program may write by mistake, or be made to. So they are concealed: each is combined
//! with a secret of the process. What another party wrote there leads to no block, but for one in 2^32 or so.

use crate::base::sync::Word;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};
#[cfg(not(loom))]
use core::{mem::MaybeUninit, slice};

/// A free block, at least 16 bytes. It was user memory until it was freed.
#[repr(C)]
pub(crate) struct Block {
    pub(crate) next: Word<*mut Block>,
    batch: Word<u64>,
}

/// The secret that conceals the words. Relaxed: it is written before the first block exists.
static SECRET: AtomicU64 = AtomicU64::new(0);

/// Sets the secret that conceals the words of freed blocks.
pub(crate) fn set_secret(secret: u64) {
    SECRET.store(secret, Ordering::Relaxed);
}

#[inline(always)]
fn secret() -> u64 {
    SECRET.load(Ordering::Relaxed)
}

const _: () = assert!(
    core::mem::size_of::<Block>() <= 16 || cfg!(loom),
    "the smallest block holds both words"
);

const LINK_BITS: u32 = 48;
const LINK_MASK: u64 = (1 << LINK_BITS) - 1;
/// Most blocks one batch may count.
pub(crate) const MAX_COUNT: usize = u16::MAX as usize >> 1;
/// Set while the batch waits in an inbox or among the pending ones, and only then. So a batch that is freed, and posted, once
/// more is recognised.
const POSTED: u64 = 1 << 63;

#[cfg(loom)]
impl Block {
    pub(crate) fn new() -> Block {
        Block {
            next: Word::new(core::ptr::null_mut()),
            batch: Word::new(0),
        }
    }
}

/// Free blocks of one class, known by the first of them. The holder of a `Batch` owns every block of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Batch(NonNull<Block>);

impl Batch {
    /// Makes a batch of `head` and the blocks it leads to.
    ///
    /// # Safety
    /// `head` leads to `count` (1 to [`MAX_COUNT`]) free blocks that the caller owns, itself among them.
    #[inline]
    pub(crate) unsafe fn seal(head: *mut Block, count: usize) -> Batch {
        debug_assert!(count > 0 && count <= MAX_COUNT && !head.is_null());
        // SAFETY: the caller owns the first block, which is at least 16 bytes.
        unsafe {
            let batch = Batch(NonNull::new_unchecked(head));
            batch.set_header((count as u64) << LINK_BITS);
            batch
        }
    }

    /// The batch whose first block is at `head`; `None` for null.
    pub(crate) fn from_head(head: *mut Block) -> Option<Batch> {
        NonNull::new(head).map(Batch)
    }

    #[inline]
    pub(crate) fn head(self) -> *mut Block {
        self.0.as_ptr()
    }

    /// The count and the link. What conceals them contains the block's address, so those of another batch are not valid here.
    #[inline]
    unsafe fn word(self) -> u64 {
        // SAFETY: the first block is a free block, owned by the caller.
        unsafe { (*self.head()).batch.get() ^ secret() ^ self.head() as u64 }
    }

    #[inline]
    unsafe fn set_header(self, word: u64) {
        let word = word ^ secret() ^ self.head() as u64;
        // SAFETY: as in `word`.
        unsafe { (*self.head()).batch.set(word) };
    }

    /// # Safety
    /// The caller owns the batch.
    #[inline]
    pub(crate) unsafe fn count(self) -> usize {
        // SAFETY: the caller's promise.
        unsafe { self.header().0 & MAX_COUNT }
    }

    /// # Safety
    /// The caller owns the batch.
    #[inline]
    pub(crate) unsafe fn link(self) -> Option<Batch> {
        // SAFETY: the caller's promise.
        unsafe { self.header().1 }
    }

    /// [`Batch::count`] and [`Batch::link`], read at once. The count is above [`MAX_COUNT`] if the batch is marked as posted.
    ///
    /// # Safety
    /// The caller owns the batch.
    #[inline]
    pub(crate) unsafe fn header(self) -> (usize, Option<Batch>) {
        // SAFETY: the caller's promise.
        let word = unsafe { self.word() };
        let link = Batch::from_head((word & LINK_MASK) as *mut Block);
        ((word >> LINK_BITS) as usize, link)
    }

    /// # Safety
    /// The caller owns the batch.
    #[inline]
    pub(crate) unsafe fn set_link(self, link: Option<Batch>) {
        let link = link.map_or(0, |batch| batch.head() as u64);
        debug_assert!(
            link & !LINK_MASK == 0,
            "user addresses have at most 48 bits"
        );
        // SAFETY: the caller's promise.
        unsafe { self.set_header(self.word() & !LINK_MASK | link) };
    }
}

#[cfg(not(loom))]
impl Batch {
    /// [`Batch::set_link`] of a batch whose `count` the caller knows.
    ///
    /// # Safety
    /// The caller owns the batch.
    #[inline]
    pub(crate) unsafe fn link_to(self, count: usize, link: Option<Batch>) {
        let link = link.map_or(0, |batch| batch.head() as u64);
        // SAFETY: the caller's promise.
        unsafe { self.set_header((count as u64) << LINK_BITS | link) };
    }
}

/// Batches in inboxes.
impl Batch {
    /// Marks the batch as waiting in an inbox, in front of `link`.
    ///
    /// # Safety
    /// The caller owns the batch.
    #[inline]
    pub(crate) unsafe fn set_posted(self, link: Option<Batch>) {
        // SAFETY: the caller's promise.
        unsafe {
            self.set_link(link);
            self.set_header(self.word() | POSTED);
        }
    }

    /// Clears the mark.
    ///
    /// # Safety
    /// The caller owns the batch.
    #[inline]
    pub(crate) unsafe fn end_posted(self) {
        // SAFETY: the caller's promise.
        unsafe { self.set_header(self.word() & !POSTED) };
    }
}

/// Most blocks in a batch.
#[cfg(not(loom))]
pub(crate) const MOST: usize = 512;

/// Room for the addresses of one batch.
#[cfg(not(loom))]
pub(crate) struct Addresses([MaybeUninit<*mut Block>; MOST]);

#[cfg(not(loom))]
impl Addresses {
    #[inline]
    pub(crate) fn first(this: *mut Addresses) -> *mut *mut Block {
        // SAFETY: no more than a place is named.
        unsafe { (&raw mut (*this).0).cast() }
    }
}

/// How many addresses a block of `size` bytes carries for its batch.
#[cfg(not(loom))]
#[inline(always)]
const fn carried(size: usize) -> usize {
    (size - core::mem::size_of::<Block>()) / core::mem::size_of::<*mut Block>()
}

/// Reveals a concealed address, or conceals one.
#[cfg(not(loom))]
#[inline(always)]
fn reveal(block: *mut Block, secret: u64) -> *mut Block {
    (block as u64 ^ secret) as *mut Block
}

/// Chains a free block to `next`, which may be null.
///
/// # Safety
/// The caller owns the block.
#[cfg(not(loom))]
#[inline]
pub(crate) unsafe fn chain(block: *mut Block, next: *mut Block) {
    // SAFETY: the caller's promise.
    unsafe { (*block).next.set(reveal(next, secret() ^ block as u64)) };
}

/// The block that [`chain`] chained this one to.
///
/// # Safety
/// As for [`chain`].
#[cfg(not(loom))]
#[inline]
pub(crate) unsafe fn chained(block: *mut Block) -> *mut Block {
    // SAFETY: the caller's promise.
    unsafe { reveal((*block).next.get(), secret() ^ block as u64) }
}

/// Copies `count` addresses, a few at a time, and conceals or reveals them with `secret`.
///
/// # Safety
/// As for `ptr::copy_nonoverlapping`.
#[cfg(not(loom))]
#[inline(always)]
unsafe fn copy(from: *const *mut Block, to: *mut *mut Block, count: usize, secret: u64) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut at = 0;
        while at + 4 <= count {
            let four = from.add(at).cast::<[*mut Block; 4]>().read_unaligned();
            let four = four.map(|block| reveal(block, secret));
            to.add(at).cast::<[*mut Block; 4]>().write_unaligned(four);
            at += 4;
        }
        while at + 2 <= count {
            let pair = from.add(at).cast::<[*mut Block; 2]>().read_unaligned();
            let pair = pair.map(|block| reveal(block, secret));
            to.add(at).cast::<[*mut Block; 2]>().write_unaligned(pair);
            at += 2;
        }
        if at < count {
            *to.add(at) = reveal(*from.add(at), secret);
        }
    }
}

#[cfg(not(loom))]
impl Batch {
    /// Makes a batch of the `count` addresses up to and including `*last`, which becomes the first block.
    ///
    /// # Safety
    /// The addresses are those of free blocks of `size` bytes that the caller owns, 1 to [`MOST`] of them.
    #[inline]
    pub(crate) unsafe fn of(last: *const *mut Block, count: usize, size: usize) -> Batch {
        debug_assert!(count <= MOST);
        let (each, secret) = (carried(size), secret());
        // SAFETY: the caller owns the blocks; every address read is one of the `count`.
        unsafe {
            let mut named = 1;
            let mut carrier = 0;
            while named < count {
                let block = *last.sub(carrier);
                if each == 0 {
                    (*block).next.set(reveal(*last.sub(named), secret));
                    named += 1;
                } else {
                    let words = block.cast::<*mut Block>().add(2);
                    let some = each.min(count - named);
                    named += some;
                    copy(last.sub(named - 1), words, some, secret);
                }
                carrier += 1;
            }
            Batch::seal(*last, count)
        }
    }

    /// Writes the addresses of the batch's `count` blocks downwards from `last`, where the first block's goes. Every other
    /// address is checked by `are_blocks`, which is also told whether what the blocks hold is about to be read. The error is
    /// the block that names something else: it was written to after it was freed, or was freed twice.
    ///
    /// # Safety
    /// The caller owns the batch, whose blocks have `size` bytes, and has room for `count` addresses. `count`, at least 1,
    /// is what [`Batch::count`] said and the caller found plausible.
    pub(crate) unsafe fn open(
        self,
        count: usize,
        last: *mut *mut Block,
        size: usize,
        are_blocks: impl Fn(&[*mut Block], bool) -> bool,
    ) -> Result<(), *mut Block> {
        let (each, secret) = (carried(size), secret());
        let mut carrier = 0;
        // SAFETY: the caller's promises; the batch is as `of` made it, or `are_blocks` finds out.
        unsafe {
            let named_by = move |i: usize| *last.sub((i - 1) / each.max(1));
            *last = self.head();
            let mut named = 1;
            while named < count {
                let block = *last.sub(carrier);
                if carrier > 0 && !are_blocks(&[block], true) {
                    return Err(named_by(carrier));
                }
                if each == 0 {
                    *last.sub(named) = reveal((*block).next.get(), secret);
                    named += 1;
                } else {
                    let words = block.cast::<*mut Block>().add(2);
                    let some = each.min(count - named);
                    named += some;
                    copy(words, last.sub(named - 1), some, secret);
                }
                carrier += 1;
            }
            let read = carrier.max(1);
            let others = slice::from_raw_parts(last.sub(count - 1), count - read);
            if !are_blocks(others, false) {
                let wrong = others
                    .iter()
                    .rposition(|block| !are_blocks(&[*block], false));
                // The oldest block has the lowest place.
                return Err(named_by(wrong.map_or(read, |at| count - 1 - at)));
            }
        }
        Ok(())
    }
}

#[cfg(all(test, not(loom)))]
#[path = "batch_tests.rs"]
mod tests;
