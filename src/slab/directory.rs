//! The directory: from any address to the tag of its slot, and from a superslab or huge block to its descriptor.
//!
//! Two masked tables in one read-only reservation, made writable part by part as memory is taken. Reading is safe for
//! any pointer value. An address exactly a multiple of the span away from one of ours aliases to its word; whoever
//! acts on a mismatch checks [`Directory::covers`] first. Words are Relaxed throughout: the program that hands a
//! pointer from one thread to another orders the accesses (rule 6).

use crate::base::size_class::CLASSES;
use crate::base::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use crate::base::units::{SLOT_SHIFT, SUPERSLAB, SUPERSLAB_SHIFT};
use crate::os::lock::Lock;
use crate::os::mapping::{self, Window};
use crate::os::sys::{self, Errno};
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicPtr, compiler_fence};

/// The directory's word for one slot: `owner heap id << 12 | class << 4`; 0 is "not ours". The class stands where a size
/// rounded up to 16 has it, so that the fast path compares the two as they are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Tag(pub(crate) u32);

impl Tag {
    pub(crate) const NONE: Tag = Tag(0);

    #[inline(always)]
    pub(crate) const fn new(owner: u32, class: u8) -> Tag {
        Tag(owner << OWNER_SHIFT | (class as u32) << CLASS_SHIFT)
    }
    /// What the tags of all slabs of a heap have in common.
    #[inline(always)]
    pub(crate) const fn of_owner(owner: u32) -> Tag {
        Tag::new(owner, 0)
    }
    #[inline(always)]
    pub(crate) const fn owner(self) -> u32 {
        self.0 >> OWNER_SHIFT
    }
    #[inline(always)]
    pub(crate) const fn class(self) -> usize {
        (self.0 >> CLASS_SHIFT & 0xFF) as usize
    }
}

const CLASS_SHIFT: u32 = 4;
const OWNER_SHIFT: u32 = 12;
/// The largest owner a tag can name.
pub(crate) const OWNER_MAX: u32 = u32::MAX >> OWNER_SHIFT;

const _: () = assert!(CLASSES < 256, "a class fits the byte a tag has for it");

/// Bytes of table made writable at a time: a GiB of addresses for the tags.
const PART: usize = 64 << 10;
/// Largest and smallest address span the tables may describe.
const MAX_SPAN_SHIFT: u32 = 44;
const MIN_SPAN_SHIFT: u32 = 30;
const PARTS: usize =
    ((4 << (MAX_SPAN_SHIFT - SLOT_SHIFT)) + (8 << (MAX_SPAN_SHIFT - SUPERSLAB_SHIFT))) / PART + 2;

/// The process-wide directory. Hot fields share one cache line.
#[repr(C, align(64))]
pub(crate) struct Directory {
    /// The table and its mask. Plain words, so that the fast path folds them into its instructions: written once, by
    /// [`Directory::init`], before the first block exists; a thread that looks a block up has got it from somebody, and
    /// with it the order after that.
    tags: UnsafeCell<*const AtomicU32>,
    mask: UnsafeCell<usize>,
    descriptors: AtomicPtr<AtomicUsize>,
    descriptor_mask: AtomicUsize,
    lo: AtomicUsize,
    hi: AtomicUsize,
    table: AtomicUsize,
    lock: Lock,
    /// One bit per [`PART`] of the reservation that is writable.
    writable: [AtomicU64; PARTS.div_ceil(64)],
}

/// What every lookup finds before the directory exists.
static NO_TAG: AtomicU32 = AtomicU32::new(0);

// SAFETY: all but the two plain words are atomics; for those see the fields.
unsafe impl Sync for Directory {}

pub(crate) static DIRECTORY: Directory = Directory {
    tags: UnsafeCell::new(&raw const NO_TAG),
    mask: UnsafeCell::new(0),
    descriptors: AtomicPtr::new(core::ptr::null_mut()),
    descriptor_mask: AtomicUsize::new(0),
    lo: AtomicUsize::new(0),
    hi: AtomicUsize::new(0),
    table: AtomicUsize::new(0),
    lock: Lock::new(),
    writable: [const { AtomicU64::new(0) }; PARTS.div_ceil(64)],
};

impl Directory {
    /// The tag of the slot that holds `addr`.
    #[inline(always)]
    pub(crate) fn tag(&self, addr: usize) -> Tag {
        Tag(self.word(addr).load(Ordering::Relaxed))
    }

    #[inline(always)]
    fn word(&self, addr: usize) -> &AtomicU32 {
        // SAFETY: see the fields. The table has mask + 1 readable words from before the mask was written (a single
        // word while it is 0) and is never unmapped.
        unsafe { &*(*self.tags.get()).add((addr >> SLOT_SHIFT) & *self.mask.get()) }
    }

    /// Whether `addr` lies in the span the tables describe, so that its word is its own.
    pub(crate) fn covers(&self, addr: usize) -> bool {
        (self.lo.load(Ordering::Relaxed)..self.hi.load(Ordering::Relaxed)).contains(&addr)
    }

    /// The addresses a mapping of ours must lie in. Empty before [`Directory::init`].
    pub(crate) fn window(&self) -> Window {
        Window {
            lo: self.lo.load(Ordering::Relaxed),
            hi: self.hi.load(Ordering::Relaxed),
        }
    }

    pub(crate) fn ready(&self) -> bool {
        self.hi.load(Ordering::Acquire) != 0
    }

    /// Reserves the tables, smaller ones where `RLIMIT_AS` or the kernel refuses the full size. `span_shift` is log2
    /// of the bytes of address space wanted. May be called again after a failure; once it succeeded it does nothing.
    pub(crate) fn init(&self, span_shift: u32, address_limit: Option<usize>) -> Result<(), Errno> {
        let _guard = self.lock.lock();
        if self.ready() {
            return Ok(());
        }
        let mut shift = span_shift.clamp(MIN_SPAN_SHIFT, MAX_SPAN_SHIFT);
        if let Some(limit) = address_limit {
            while shift > MIN_SPAN_SHIFT && Self::table_bytes(shift) > limit / 16 {
                shift -= 1;
            }
        }
        loop {
            match mapping::reserve_readonly(Self::table_bytes(shift), SUPERSLAB) {
                Ok(table) => {
                    let _ = sys::name_range(table.addr, table.len, c"hakmem: directory");
                    self.publish(table.addr, shift);
                    return Ok(());
                }
                Err(error) if shift == MIN_SPAN_SHIFT => return Err(error),
                Err(_) => shift = (shift - 2).max(MIN_SPAN_SHIFT),
            }
        }
    }

    fn table_bytes(shift: u32) -> usize {
        let words: usize = (4 << (shift - SLOT_SHIFT)) + (8 << (shift - SUPERSLAB_SHIFT));
        words.next_multiple_of(PART)
    }

    fn publish(&self, table: usize, shift: u32) {
        let span = 1usize << shift;
        // Anonymous maps grow down from where the kernel put this one; leave an eighth above it.
        let mid = table & !(SUPERSLAB - 1);
        let lo = mid.saturating_sub(span / 8 * 7).max(SUPERSLAB);
        self.table.store(table, Ordering::Relaxed);
        // SAFETY: under the lock, and nobody has a block yet.
        unsafe { *self.tags.get() = table as *const AtomicU32 };
        let descriptors = table + (4usize << (shift - SLOT_SHIFT));
        self.descriptors
            .store(descriptors as *mut AtomicUsize, Ordering::Relaxed);
        self.descriptor_mask
            .store((span >> SUPERSLAB_SHIFT) - 1, Ordering::Relaxed);
        // A thread that was given no block may free a stray pointer at this very moment: the compiler at least keeps
        // table before mask.
        compiler_fence(Ordering::Release);
        // SAFETY: as above.
        unsafe { *self.mask.get() = (span >> SLOT_SHIFT) - 1 };
        self.lo.store(lo, Ordering::Relaxed);
        self.hi.store(lo + span, Ordering::Release);
    }

    /// Makes the words and descriptors of `[addr, addr + len)` writable. To be called before any of them is set.
    pub(crate) fn prepare(&self, addr: usize, len: usize) -> Result<(), Errno> {
        let table = self.table.load(Ordering::Relaxed);
        let last = addr + len - 1;
        // SAFETY: written before `hi`, which the caller has seen.
        let (mask, tags) = unsafe { (*self.mask.get(), *self.tags.get() as usize - table) };
        self.prepare_words(tags, addr >> SLOT_SHIFT, last >> SLOT_SHIFT, mask, 4)?;
        let descriptors = self.descriptors.load(Ordering::Relaxed) as usize - table;
        let mask = self.descriptor_mask.load(Ordering::Relaxed);
        self.prepare_words(
            descriptors,
            addr >> SUPERSLAB_SHIFT,
            last >> SUPERSLAB_SHIFT,
            mask,
            8,
        )
    }

    fn prepare_words(
        &self,
        start: usize,
        first: usize,
        last: usize,
        mask: usize,
        width: usize,
    ) -> Result<(), Errno> {
        let per_part = PART / width;
        let mut index = first;
        loop {
            self.prepare_part((start + (index & mask) * width) / PART)?;
            let next = (index / per_part + 1) * per_part;
            // The parts of the second table need not start at one of its own multiples.
            self.prepare_part((start + ((next - 1).min(last) & mask) * width) / PART)?;
            if next > last {
                return Ok(());
            }
            index = next;
        }
    }

    fn prepare_part(&self, part: usize) -> Result<(), Errno> {
        let (word, bit) = (part / 64, 1u64 << (part % 64));
        // Acquire pairs with the Release below: the mprotect has happened.
        if self.writable[word].load(Ordering::Acquire) & bit != 0 {
            return Ok(());
        }
        let _guard = self.lock.lock();
        // SAFETY: the part lies in our own reservation; which is whole parts long.
        unsafe { mapping::make_writable(self.table.load(Ordering::Relaxed) + part * PART, PART)? };
        self.writable[word].fetch_or(bit, Ordering::Release);
        Ok(())
    }

    /// Sets the tags of `slots` slots from `addr`. The range must be prepared, and the rules of who may change a tag
    /// (rules 1 to 3) are the caller's.
    pub(crate) fn set(&self, addr: usize, slots: usize, tag: Tag) {
        for slot in 0..slots {
            self.word(addr + (slot << SLOT_SHIFT))
                .store(tag.0, Ordering::Relaxed);
        }
    }

    /// Takes the tag of one slot away, if it is `tag`: of several threads that try, one succeeds.
    #[must_use]
    pub(crate) fn claim(&self, addr: usize, tag: Tag) -> bool {
        // Relaxed: the block's contents were handed to the caller with its pointer; only the atomicity matters.
        self.word(addr)
            .compare_exchange(tag.0, 0, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok()
    }

    /// The descriptor word of the 2 MiB that hold `addr`.
    #[inline]
    pub(crate) fn descriptor(&self, addr: usize) -> &AtomicUsize {
        let index = (addr >> SUPERSLAB_SHIFT) & self.descriptor_mask.load(Ordering::Relaxed);
        // SAFETY: only called for addresses whose tag said they are ours, so the table exists; see `word`.
        unsafe { &*self.descriptors.load(Ordering::Relaxed).add(index) }
    }

    /// For fork: the lock, to be taken before and reset after.
    pub(crate) fn fork_lock(&self) -> &Lock {
        &self.lock
    }
}
