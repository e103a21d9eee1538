//! The heap's data: a front private to its thread, a part under its lock, and the inbox.
//!
//! A *stack* holds a heap's free blocks of one class behind its bin (`cache::stack`). A block is *out* if its
//! slab handed it out: the program has it, or a bin, outbox, stack or inbox does.

use crate::base::demand::Epoch;
use crate::base::size_class::{self, CLASSES, Class};
use crate::base::tuning::bins::{CARVED, CARVED_LARGER, CARVED_TO};
pub(crate) use crate::heap::data::attended::{IDLE, LIVE};

use crate::heap::data::attended::Attended;
use crate::heap::data::bin::Bin;
use crate::heap::data::class_set::Classes;
use crate::heap::data::ending::Ending;
use crate::heap::data::errands::Errands;
use crate::heap::data::state::{Budget, Empties, IdleOwners, Outbox, Rows};
use crate::heap::data::{holes, stand_in, state};
use crate::os::lock::{Guard, Lock};
use crate::slab::batch::{Addresses, Batch, Block};
use crate::slab::directory::{OWNER_MAX, Tag};
use crate::slab::inbox::Inbox;
use crate::slab::magazine::Magazine;
use crate::slab::slab::Slab;
use core::cell::UnsafeCell;
use core::ops::{Deref, DerefMut};
use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicU32};

/// Nobody's id: all ones in a tag's 20 bits for heap ids.
pub(crate) const NOBODY: u32 = OWNER_MAX;
/// Lists of a class's slabs, by fullness.
pub(crate) const BUCKETS: usize = 4;

/// What the fast paths touch.
#[repr(C, align(64))]
pub(crate) struct Front {
    /// First, so that a class scaled by the size of a bin is the bin's offset, without another addition.
    pub(crate) bins: [Bin; CLASSES],
    /// The owner's part of the tags of this heap's slabs; nobody's while the heap is watched (`slow::watch`).
    pub(crate) tag: u32,
}

/// A front for read-only memory, so without a cell: every bin is empty, and no tag matches.
#[repr(C, align(64))]
pub(crate) struct StandIn {
    bins: [stand_in::StandIn; CLASSES],
    tag: u32,
}

const _: () = assert!(
    size_of::<StandIn>() == size_of::<Front>()
        && core::mem::offset_of!(StandIn, tag) == core::mem::offset_of!(Front, tag),
    "a stand-in is read as a front"
);

// SAFETY: never written; its pointers lead to a null that is never written.
unsafe impl Sync for StandIn {}

impl StandIn {
    pub(crate) const fn new() -> StandIn {
        StandIn {
            tag: Tag::of_owner(NOBODY).0,
            bins: [stand_in::StandIn::NEW; CLASSES],
        }
    }
}

/// A stack. `blocks` counts those in batches, in magazines and on the shelf.
#[repr(C)]
pub(crate) struct Stack {
    pub(crate) top: Option<Batch>,
    pub(crate) magazine: *mut Magazine,
    pub(crate) blocks: u32,
    pub(crate) in_magazines: u32,
    pub(crate) shelved: u32,
    /// Most blocks kept; 0 means not yet decided.
    pub(crate) limit: u32,
    /// Least `blocks` since the last look: so many were not needed.
    pub(crate) low: u32,
    /// Blocks returned to slabs for lack of room since a refill last took from the slabs.
    pub(crate) walked: u32,
    /// Blocks that the class's limit would have kept and the heap's budget did not, less those missed since. Each look halves it.
    pub(crate) cut: u32,
}

/// The part under the heap's lock. `allocated_bytes`, `slab_bytes` and `carved_bytes` are sums over the heap's slabs,
/// `stack_bytes` over its stacks.
#[repr(C)]
pub(crate) struct Shared {
    /// Classes of which another heap took a slab over. Batches posted here may hold blocks of that slab for ever after.
    pub(crate) taken_from: Classes,
    /// Classes of which others freed blocks since the heap's thread began. What is carved of them comes back and goes round.
    pub(crate) fed: Classes,
    pub(crate) slab_bytes: usize,
    /// Bytes of the slabs' blocks that were ever handed out, less those whose OS pages are gone.
    pub(crate) carved_bytes: usize,
    pub(crate) allocated_bytes: usize,
    pub(crate) stack_bytes: usize,
    /// The `stack_bytes` that the account was last told, and by how much it may be off between two looks at the clock.
    pub(crate) shown_bytes: usize,
    pub(crate) shown_within: usize,
    pub(crate) empties: Empties,
    pub(crate) budget: Budget,
    /// Batches taken from the inbox and not yet opened.
    pub(crate) pending: Option<Batch>,
    /// Bytes of empty slabs that the heap may still keep; 0 except while its thread ends.
    pub(crate) keep_left: usize,
    /// A listed slab may be empty.
    pub(crate) has_empty: bool,
    /// Bytes the heap keeps while it is idle, and those of the blocks that were in its bins and on its stacks when it became so.
    pub(crate) kept: usize,
    pub(crate) unused: usize,
    /// Slow operations so far, the epoch of the heap's last look, and whether its thread has looked.
    pub(crate) slow_ops: u32,
    pub(crate) looked: Epoch,
    pub(crate) has_looked: bool,
    /// How many rounds of returning unneeded blocks are left, and the class at which the round goes on.
    pub(crate) shrinks_left: u8,
    pub(crate) shrinking: Class,
    pub(crate) drained: u64,
    /// OS pages of slabs that are going or gone (`slabs::holes`).
    pub(crate) holes: holes::State,
    /// Whether a `Sorter` has blocks in the heap's `sorted` rows.
    pub(crate) sorting: bool,
    /// Tables by class follow what every thread touches, the large ones last: a thread with few blocks touches none of those.
    pub(crate) slab_count: [u32; CLASSES],
    /// Blocks that are out, by class.
    pub(crate) allocated_blocks: [u64; CLASSES],
    pub(crate) slabs: [[*mut Slab; BUCKETS]; CLASSES],
    pub(crate) stacks: [Stack; CLASSES],
}

/// Begins a pair of cache lines, which some processors fetch together.
#[repr(align(128))]
struct Lines;

/// What any thread may use: atomics, the lock, and what never changes. First what other threads write, and read as they post: they
/// would take away what the heap's own thread uses.
#[repr(C, align(128))]
pub(crate) struct Public {
    pub(crate) inbox: Inbox,
    pub(crate) state: AtomicU32,
    /// What became of an idle heap's bins (`rest`). A hint to all but the lock's holder.
    pub(crate) rest: AtomicU8,
    /// The private part may be inconsistent: a fork froze its thread in the middle of a fast path.
    pub(crate) torn: AtomicBool,
    /// Classes in which an idle heap may have slabs with room: a hint for `take_over`.
    pub(crate) idle_classes: Classes,
    /// The next idle heap. It changes under the registry's lock.
    pub(crate) next_idle: AtomicPtr<Heap>,
    /// Whether the thread may end without another call, and the heap's place in the queue of those, under the registry's lock.
    pub(crate) ending: Ending,
    _own: [Lines; 0],
    pub(crate) lock: Lock,
    pub(crate) id: u32,
    /// Since a thread last ended: `gathered` has the classes whose outbox was used, `mixed` those in whose bin or stack blocks may
    /// lie that were foreign when they came. The thread's alone.
    pub(crate) gathered: Classes,
    pub(crate) mixed: Classes,
    /// Classes whose last slow path was a free. The thread's alone.
    pub(crate) freeing: Classes,
}

/// One heap. It is never unmapped, and its id is never another's (rule 7). Zeroed memory is a valid new heap but for id, tag,
/// bins and their bottoms.
#[repr(C, align(128))]
pub(crate) struct Heap {
    pub(crate) front: Front,
    pub(crate) idle_owners: IdleOwners,
    pub(crate) public: Public,
    /// What `slow::watch` may still spend. The thread's alone.
    pub(crate) watch: usize,
    /// Of each bin, how many of its oldest blocks are known to lie in a row (`slow::watch`); 0 if nobody has looked since they
    /// came. It belongs to whoever may change the bin.
    pub(crate) rows: [u16; CLASSES],
    /// Slow paths until one is given a guarded block, counted down to 1; 0 before it is known. The thread's alone.
    pub(crate) until_guarded: u32,
    /// Each bin's place below its oldest block, which holds null. It is one of the bin's own, of a magazine, or of the stand-in
    /// while the bin has no places. It changes only under the lock.
    pub(crate) bottoms: [*mut *mut Block; CLASSES],
    /// Each bin's own places, for the addresses of its blocks; null until the bin first needs them. Under the lock.
    pub(crate) places: [*mut *mut Block; CLASSES],
    /// Classes whose bins have all the places of their own that they ever need, and those of the shelf. Under the lock, or by the
    /// heap's thread.
    pub(crate) wide: Classes,
    pub(crate) shared: UnsafeCell<Shared>,
    /// The blocks that a `Sorter` has gathered, and what [`HeldHeap::scratch`] leads to. Under the
    /// lock.
    pub(crate) sorted: Rows,
    pub(crate) scratch: Addresses,
    /// The outboxes, and the places of the addresses in them. Last: most threads free no foreign block and never touch them.
    pub(crate) outboxes: [Outbox; CLASSES],
    pub(crate) outbox_places: state::OutboxPlaces,
}

const _: () = assert!(
    core::mem::offset_of!(Heap, front) == 0,
    "a heap is reached through its front"
);

/// Blocks carved at once: up to [`CARVED`] bytes of them, of blocks above [`CARVED_TO`] up to [`CARVED_LARGER`], at least one. Four
/// of the former are whole cache lines.
pub(crate) fn carve_count(class: Class) -> usize {
    let size = size_class::size(class);
    if size <= CARVED_TO {
        (CARVED / size) & !3
    } else {
        (CARVED_LARGER / size).max(1)
    }
}

/// A heap of the registry. Those live as long as the process, so what any thread may use of one ([`Public`]) is safe to reach,
/// and so is the guarded part through the lock. The private part is reached by [`HeapRef::ptr`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(transparent)]
pub(crate) struct HeapRef(NonNull<Heap>);

// SAFETY: what is safe of a heap is so for any thread.
unsafe impl Send for HeapRef {}

impl HeapRef {
    /// # Safety
    /// `heap` is a heap of the registry, or one in the making, which the registry is about to publish.
    #[inline(always)]
    pub(crate) unsafe fn of(heap: NonNull<Heap>) -> HeapRef {
        HeapRef(heap)
    }

    /// The heap that a front belongs to.
    ///
    /// # Safety
    /// The front is no stand-in.
    #[inline(always)]
    pub(crate) unsafe fn of_front(front: *mut Front) -> HeapRef {
        // SAFETY: a heap begins with its front, and a front is never null.
        HeapRef(unsafe { NonNull::new_unchecked(front.cast()) })
    }

    #[inline(always)]
    pub(crate) fn ptr(self) -> *mut Heap {
        self.0.as_ptr()
    }

    #[inline(always)]
    pub(crate) fn public(self) -> &'static Public {
        // SAFETY: heaps live for ever, and nobody forms a `&mut Public`.
        unsafe { &(*self.ptr()).public }
    }

    /// Locks the heap.
    #[inline]
    pub(crate) fn lock(self) -> HeldHeap {
        // SAFETY: the guard is of this heap's lock.
        unsafe { HeldHeap::of(self, self.public().lock.lock()) }
    }

    /// `None` if the lock is held.
    #[inline]
    #[must_use]
    pub(crate) fn try_lock(self) -> Option<HeldHeap> {
        let guard = self.public().lock.try_lock()?;
        // SAFETY: the guard is of this heap's lock.
        Some(unsafe { HeldHeap::of(self, guard) })
    }

    /// The words that settle who opens the heap's inbox.
    #[inline]
    pub(crate) fn attended(self) -> Attended<'static> {
        let public = self.public();
        Attended {
            inbox: &public.inbox,
            lock: &public.lock,
            state: &public.state,
        }
    }
}

impl Deref for HeapRef {
    type Target = Public;
    #[inline(always)]
    fn deref(&self) -> &Public {
        self.public()
    }
}

/// A heap whose lock the calling thread holds, until this is dropped. It leads to the guarded part. A function that takes two of
/// them runs under two heaps' locks.
#[must_use = "the lock is released when the guard is dropped"]
pub(crate) struct HeldHeap {
    heap: HeapRef,
    guard: Guard<'static>,
    pub(crate) errands: Errands,
}

impl HeldHeap {
    /// # Safety
    /// The guard is of the heap's lock.
    #[inline]
    pub(crate) unsafe fn of(heap: HeapRef, guard: Guard<'static>) -> HeldHeap {
        HeldHeap {
            heap,
            guard,
            errands: Errands::NONE,
        }
    }

    /// Releases the lock. If the heap may be idle, the caller looks into its inbox again, as `drain::release` does.
    #[inline]
    pub(crate) fn unlock(self) -> Errands {
        drop(self.guard);
        self.errands
    }

    /// The heap, for what needs no lock, or the lock and more.
    #[inline]
    pub(crate) fn heap(&self) -> HeapRef {
        self.heap
    }

    /// Room for the addresses of one batch's blocks ([`batch::MOST`](crate::slab::batch::MOST)). It has one user at a time.
    #[inline]
    pub(crate) fn scratch(&mut self) -> *mut *mut Block {
        // SAFETY: a place inside the heap, to which nobody forms a reference.
        Addresses::first(unsafe { &raw mut (*self.heap.ptr()).scratch })
    }
}

impl Deref for HeldHeap {
    type Target = Shared;
    #[inline(always)]
    fn deref(&self) -> &Shared {
        // SAFETY: the lock is held, so no other thread has access, and `&self` excludes `&mut` through this guard.
        unsafe { &*(*self.heap.ptr()).shared.get() }
    }
}

impl DerefMut for HeldHeap {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut Shared {
        // SAFETY: the lock is held, and `&mut self` makes this the only access through it.
        unsafe { &mut *(*self.heap.ptr()).shared.get() }
    }
}
