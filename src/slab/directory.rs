//! The directory: from any address to the tag of its slot, and from a superslab or large block to its descriptor.
//!
//! Two masked tables in one read-only reservation, made writable part by part as memory is taken. Reading is safe for any pointer
//! value. The tables describe one span of addresses, and the mask lays every other span over it: memory may lie anywhere, as long
//! as no two superslabs or starts of large blocks share an index. Beside each descriptor stands the address that its index is
//! taken for, so that [`Directory::holds`] tells a block from an address exactly a multiple of the span away. The fast paths skip
//! that comparison; slow paths, which act on a mismatch, make it. The first 2 MiB of the span stay empty: null and other small
//! numbers find no tag. Tags and descriptors are Relaxed: the program that hands a pointer from one thread to another orders the
//! accesses (rule 6).

use crate::base::size_class::{CLASSES, Class};
use crate::base::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use crate::base::units::{SLOT_SHIFT, SUPERSLAB, SUPERSLAB_SHIFT, Slots};
use crate::os::lock::Lock;
use crate::os::mapping::{self, Place};
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
    pub(crate) const fn new(owner: u32, class: Class) -> Tag {
        debug_assert!(
            class.index() >> (OWNER_SHIFT - CLASS_SHIFT) == 0,
            "a class beyond its bits would change the owner"
        );
        Tag(owner << OWNER_SHIFT | (class.index() as u32) << CLASS_SHIFT)
    }
    /// What the tags of all slabs of a heap have in common.
    #[inline(always)]
    pub(crate) const fn of_owner(owner: u32) -> Tag {
        Tag::new(owner, Class::NONE)
    }
    #[inline(always)]
    pub(crate) const fn owner(self) -> u32 {
        self.0 >> OWNER_SHIFT
    }
    #[inline(always)]
    pub(crate) const fn class(self) -> Class {
        Class::new((self.0 >> CLASS_SHIFT & 0xFF) as usize)
    }
}

const CLASS_SHIFT: u32 = 4;
const OWNER_SHIFT: u32 = 12;
/// The largest owner a tag can name.
pub(crate) const OWNER_MAX: u32 = u32::MAX >> OWNER_SHIFT;

const _: () = assert!(CLASSES < 256, "a class fits the byte a tag has for it");

/// Bytes of table made writable at a time: a GiB of addresses for the tags.
const PART: usize = 64 << 10;
/// log2 of the bytes of the span: the least, under a limit on addresses; the usual one; and the most.
const MIN_SPAN_SHIFT: u32 = 30;
const SPAN_SHIFT: u32 = 42;
const MAX_SPAN_SHIFT: u32 = 44;
const PARTS: usize =
    ((4 << (MAX_SPAN_SHIFT - SLOT_SHIFT)) + (16 << (MAX_SPAN_SHIFT - SUPERSLAB_SHIFT))) / PART + 2;

/// What is known of 2 MiB of addresses: a superslab, or the start of a large block.
#[repr(C, align(16))]
struct Entry {
    descriptor: AtomicUsize,
    /// The last address of the 2 MiB that the index is taken for; 0 while it is free.
    last: AtomicUsize,
}

/// The process-wide directory. Hot fields share one cache line.
#[repr(C, align(64))]
pub(crate) struct Directory {
    /// The table and its mask. Plain words, so that the fast path folds them into its instructions: written once, by
    /// [`Directory::init`], before the first block exists; a thread that looks a block up has got it from somebody, and
    /// with it the order after that. For a stray pointer, freed by a thread that has no block yet, see
    /// [`Directory::word`].
    tags: UnsafeCell<*const AtomicU32>,
    mask: UnsafeCell<usize>,
    entries: AtomicPtr<Entry>,
    entry_mask: AtomicUsize,
    /// Where the reservation begins; 0 before [`Directory::init`].
    table: AtomicUsize,
    /// The address entered last: a hint only.
    latest: AtomicUsize,
    lock: Lock,
    writable: &'static Parts,
}

/// The tags as they are from the first block on.
#[derive(Clone, Copy)]
pub(crate) struct View {
    tags: *const AtomicU32,
    mask: usize,
}

impl View {
    /// [`Directory::tag`].
    #[inline(always)]
    pub(crate) fn tag(self, addr: usize) -> Tag {
        // SAFETY: the table has mask + 1 readable words and is never unmapped.
        Tag(unsafe { (*self.tags.add((addr >> SLOT_SHIFT) & self.mask)).load(Ordering::Relaxed) })
    }
}

/// One bit per [`PART`] of the reservation that is writable. It lies apart from the directory: what the start of a process writes
/// should lie on few pages, and it writes to little of this.
struct Parts([AtomicU64; PARTS.div_ceil(64)]);

impl Parts {
    const fn new() -> Parts {
        Parts([const { AtomicU64::new(0) }; PARTS.div_ceil(64)])
    }
}

static WRITABLE: Parts = Parts::new();

/// What every lookup finds before the directory exists.
static NO_TAG: AtomicU32 = AtomicU32::new(0);
static NO_ENTRY: Entry = Entry {
    descriptor: AtomicUsize::new(0),
    last: AtomicUsize::new(0),
};

// SAFETY: all but the two plain words are atomics; for those see the fields.
unsafe impl Sync for Directory {}

pub(crate) static DIRECTORY: Directory = Directory::new(&WRITABLE);

impl Directory {
    const fn new(writable: &'static Parts) -> Directory {
        Directory {
            tags: UnsafeCell::new(&raw const NO_TAG),
            mask: UnsafeCell::new(0),
            entries: AtomicPtr::new((&raw const NO_ENTRY).cast_mut()),
            entry_mask: AtomicUsize::new(0),
            table: AtomicUsize::new(0),
            latest: AtomicUsize::new(0),
            lock: Lock::new(),
            writable,
        }
    }

    /// The tag of the slot that holds `addr`.
    #[inline(always)]
    pub(crate) fn tag(&self, addr: usize) -> Tag {
        Tag(self.word(addr).load(Ordering::Relaxed))
    }

    /// The tags, for many lookups in a row by a thread that has a block.
    #[inline(always)]
    pub(crate) fn view(&self) -> View {
        // SAFETY: see the fields.
        unsafe {
            View {
                tags: *self.tags.get(),
                mask: *self.mask.get(),
            }
        }
    }

    #[inline(always)]
    fn word(&self, addr: usize) -> &AtomicU32 {
        // SAFETY: see the fields. The table has mask + 1 readable words from before the mask was written (a single
        // word while it is 0) and is never unmapped. The fence keeps the compiler from reading the table before the
        // mask, so that a stray pointer freed during `init` never meets the new mask with the old table; other
        // processors than x86 may still reorder the two reads.
        unsafe {
            let index = (addr >> SLOT_SHIFT) & *self.mask.get();
            compiler_fence(Ordering::Acquire);
            &*(*self.tags.get()).add(index)
        }
    }

    /// The entry of the 2 MiB that hold `addr`, which may be taken for others.
    #[inline]
    fn entry(&self, addr: usize) -> &Entry {
        // Acquire: pairs with the Release in `publish`, so that the mask comes with its table.
        let index = (addr >> SUPERSLAB_SHIFT) & self.entry_mask.load(Ordering::Acquire);
        // SAFETY: the table has mask + 1 readable entries and is never unmapped.
        unsafe { &*self.entries.load(Ordering::Relaxed).add(index) }
    }

    /// Whether `addr` lies in a superslab, or in the first 2 MiB of a large block: whether its tag is its own.
    #[inline]
    pub(crate) fn holds(&self, addr: usize) -> bool {
        self.entry(addr).last.load(Ordering::Relaxed) == addr | (SUPERSLAB - 1)
    }

    /// The tag of `addr` if it is its own, else none.
    #[inline]
    pub(crate) fn own_tag(&self, addr: usize) -> Tag {
        if self.holds(addr) {
            self.tag(addr)
        } else {
            Tag::NONE
        }
    }

    pub(crate) fn ready(&self) -> bool {
        // Acquire: pairs with the Release in `publish`.
        self.table.load(Ordering::Acquire) != 0
    }

    /// A directory for tests, of what this machine has. It may exist already.
    #[cfg(test)]
    pub(crate) fn begin(&self) {
        self.init(sys::machine_total(), None).expect("a directory");
    }

    /// Reserves the tables: for a span of [`SPAN_SHIFT`], or of at least four times what the machine has if that is more, up to
    /// [`MAX_SPAN_SHIFT`]; for a smaller one if `RLIMIT_AS` or the kernel does not allow that. May be called again after a
    /// failure; after a success it does nothing.
    pub(crate) fn init(&self, machine: usize, address_limit: Option<usize>) -> Result<(), Errno> {
        let _guard = self.lock.lock();
        if self.ready() {
            return Ok(());
        }
        let mut shift = machine.saturating_mul(4).max(1).ilog2() + 1;
        shift = shift.clamp(SPAN_SHIFT, MAX_SPAN_SHIFT);
        if let Some(limit) = address_limit {
            while shift > MIN_SPAN_SHIFT && Self::table_bytes(shift) > limit / 16 {
                shift -= 1;
            }
        }
        loop {
            match mapping::reserve_readonly(Self::table_bytes(shift), SUPERSLAB) {
                Ok(table) => {
                    // For readers of /proc/self/maps; kernels without names refuse. What is mapped later gets no name: by then
                    // the program may have installed a filter of system calls that ends it at this one.
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
        let words: usize = (4 << (shift - SLOT_SHIFT)) + (16 << (shift - SUPERSLAB_SHIFT));
        words.next_multiple_of(PART)
    }

    fn publish(&self, table: usize, shift: u32) {
        let span = 1usize << shift;
        let entries = table + (4usize << (shift - SLOT_SHIFT));
        self.entries.store(entries as *mut Entry, Ordering::Relaxed);
        // Release: pairs with the Acquire in `entry`, which may be asked about a stray pointer at this very moment.
        self.entry_mask
            .store((span >> SUPERSLAB_SHIFT) - 1, Ordering::Release);
        // SAFETY: under the lock, and nobody has a block yet.
        unsafe { *self.tags.get() = table as *const AtomicU32 };
        // See `word`.
        compiler_fence(Ordering::Release);
        // SAFETY: as above.
        unsafe { *self.mask.get() = (span >> SLOT_SHIFT) - 1 };
        self.table.store(table, Ordering::Release);
    }

    /// Makes the tags and the entry of the 2 MiB at `addr` writable.
    fn prepare(&self, addr: usize) -> Result<(), Errno> {
        let table = self.table.load(Ordering::Relaxed);
        let tags = (&raw const *self.word(addr)) as usize - table;
        let entry = (&raw const *self.entry(addr)) as usize - table;
        // A superslab's tags are 128 bytes and an entry is 16, both aligned: neither straddles a part.
        self.prepare_part(tags / PART)?;
        self.prepare_part(entry / PART)
    }

    fn prepare_part(&self, part: usize) -> Result<(), Errno> {
        let (word, bit) = (part / 64, 1u64 << (part % 64));
        // Acquire pairs with the Release below: the mprotect has happened.
        if self.writable.0[word].load(Ordering::Acquire) & bit != 0 {
            return Ok(());
        }
        let _guard = self.lock.lock();
        if self.writable.0[word].load(Ordering::Relaxed) & bit != 0 {
            return Ok(());
        }
        let start = self.table.load(Ordering::Relaxed) + part * PART;
        // SAFETY: the part lies in our own reservation, which is whole parts long, and nobody could write to it yet.
        unsafe { mapping::make_writable(start, PART).or_else(|_| mapping::renew(start, PART))? };
        self.writable.0[word].fetch_or(bit, Ordering::Release);
        Ok(())
    }

    /// Sets the tags of `slots` slots from `addr`. The range must be prepared, and the rules of who may change a tag
    /// (rules 1 to 3) are the caller's.
    pub(crate) fn set(&self, addr: usize, slots: Slots, tag: Tag) {
        for slot in 0..slots.count() {
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

    /// The descriptor word of the 2 MiB that hold `addr`, which are entered.
    #[inline]
    pub(crate) fn descriptor(&self, addr: usize) -> &AtomicUsize {
        &self.entry(addr).descriptor
    }

    /// For fork: the directory's lock.
    pub(crate) fn fork_lock(&self) -> &Lock {
        &self.lock
    }
}

/// A superslab, and a large block while it is in use, has the index of its first 2 MiB for itself.
impl Place for Directory {
    fn enter(&self, addr: usize) -> Result<bool, Errno> {
        debug_assert!(addr.is_multiple_of(SUPERSLAB));
        let entry = self.entry(addr);
        // The first entry's tags are those of null.
        let first = (addr >> SUPERSLAB_SHIFT) & self.entry_mask.load(Ordering::Relaxed) == 0;
        if first || entry.last.load(Ordering::Relaxed) != 0 {
            return Ok(false);
        }
        self.prepare(addr)?;
        let last = addr | (SUPERSLAB - 1);
        // Acquire: pairs with the Release in `leave`. What the one before wrote to tags and descriptor comes first.
        let (ok, err) = (Ordering::Acquire, Ordering::Relaxed);
        let entered = entry.last.compare_exchange(0, last, ok, err).is_ok();
        if entered {
            self.latest.store(addr, Ordering::Relaxed);
        }
        Ok(entered)
    }

    fn leave(&self, addr: usize) {
        let entry = self.entry(addr);
        debug_assert_eq!(entry.last.load(Ordering::Relaxed), addr | (SUPERSLAB - 1));
        // Release: pairs with the Acquire in `enter`.
        entry.last.store(0, Ordering::Release);
    }

    fn latest(&self) -> usize {
        self.latest.load(Ordering::Relaxed)
    }
}

#[cfg(all(test, not(loom)))]
#[path = "directory_tests.rs"]
mod tests;
