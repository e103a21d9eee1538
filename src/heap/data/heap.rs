//! The heap's data: a private front for its thread, a shared part under its lock, and the inbox.

use crate::base::demand::Epoch;
use crate::base::size_class::{self, CLASSES};
pub(crate) use crate::heap::data::attended::{IDLE, LIVE};

use crate::heap::data::attended::Attended;
use crate::heap::data::bin::Bin;
use crate::heap::data::class_set::Classes;
use crate::heap::data::ending::Ending;
use crate::heap::data::state::{Empties, Out, Rows, Slack, Strays};
use crate::heap::data::{holes, stand_in, state};
use crate::os::lock::{Guard, Lock};
use crate::slab::batch::{Addresses, Batch, Block};
use crate::slab::directory::{OWNER_MAX, Tag};
use crate::slab::inbox::Inbox;
use crate::slab::magazine::Magazine;
use crate::slab::slab::Slab;
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU32};

/// Heap ids have 20 bits in a tag; all ones is nobody's.
pub(crate) const NOBODY: u32 = OWNER_MAX;
/// Fullness lists per class.
pub(crate) const BUCKETS: usize = 4;

/// What the fast paths touch.
#[repr(C, align(64))]
pub(crate) struct Front {
    /// First, so that a class scaled by the size of a bin is an address without another addition.
    pub(crate) bins: [Bin; CLASSES],
    /// What the tag of every slab of this heap starts with; nobody's while the heap is watched (`slow::watch`).
    pub(crate) tag: u32,
}

/// A front without a cell in it, so that it lies in read-only memory: every bin empty, a tag that nothing matches.
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

/// A stack of free blocks of one class (`stack`). `blocks` is what its batches count and its magazines hold together.
#[repr(C)]
pub(crate) struct Spare {
    pub(crate) top: Option<Batch>,
    pub(crate) magazine: *mut Magazine,
    pub(crate) blocks: u32,
    pub(crate) in_magazines: u32,
    /// Most blocks kept; 0 means not yet decided.
    pub(crate) limit: u32,
    /// Least `blocks` since the last look: what was not needed.
    pub(crate) low: u32,
    /// Blocks that were walked back for lack of room, since anything missed some.
    pub(crate) walked: u32,
    /// Those of late that the class's limit would have kept, and the heap's slack (`budget`) did not, less those missed since.
    pub(crate) cut: u32,
}

/// Everything under the heap's lock. `out_bytes`, `slab_bytes` and `carved_bytes` are sums over the heap's slabs;
/// `spare_bytes` over its spare stacks.
#[repr(C)]
pub(crate) struct Shared {
    /// Classes of which another heap took a slab over: what is posted here may hold blocks of it for ever after.
    pub(crate) taken_from: Classes,
    pub(crate) slab_bytes: usize,
    /// Bytes of the slabs' blocks that were ever handed out, without OS pages of them that are gone.
    pub(crate) carved_bytes: usize,
    pub(crate) out_bytes: usize,
    pub(crate) spare_bytes: usize,
    /// What the account was last told of `spare_bytes`.
    pub(crate) shown_bytes: usize,
    pub(crate) empties: Empties,
    pub(crate) slack: Slack,
    /// Batches taken from the inbox and not yet opened.
    pub(crate) pending: Option<Batch>,
    /// The pool said it retains too much: trim once no lock is held.
    pub(crate) over_bound: bool,
    /// Bytes of slabs that may stay with the heap when their last block comes home; 0 but while its thread ends.
    pub(crate) keep_left: usize,
    /// Some slab may be empty and listed.
    pub(crate) has_empty: bool,
    /// Bytes that an idle heap was left with, as they were counted then.
    pub(crate) kept: usize,
    /// Slow operations so far, the epoch in which the heap was last looked at, and whether the thread ever did.
    pub(crate) slow_ops: u32,
    pub(crate) looked: Epoch,
    pub(crate) has_looked: bool,
    /// How often what is not needed is still to be sent home, and the class at which that goes on.
    pub(crate) shrinks_left: u8,
    pub(crate) shrinking: usize,
    pub(crate) drained: u64,
    /// Pages of slabs that are to go, or have gone (`slabs::holes`).
    pub(crate) holes: holes::State,
    /// Whether a `sorter::Sorter` has any blocks.
    pub(crate) sorting: bool,
    /// What belongs to a class follows what every thread touches, and the large tables come last: a thread that has a few
    /// blocks does not touch them.
    pub(crate) slab_count: [u32; CLASSES],
    /// Blocks out of this heap's slabs, by class.
    pub(crate) out_blocks: [u64; CLASSES],
    pub(crate) slabs: [[*mut Slab; BUCKETS]; CLASSES],
    pub(crate) spare: [Spare; CLASSES],
    /// What the sorter gathers.
    pub(crate) rows: Rows,
    /// For one at a time: the addresses of blocks that go home or are sifted, of a batch of which a part is taken.
    pub(crate) scratch: Addresses,
}

/// One heap. Never unmapped; its id is never used for another (rule 7). All-zero but for id, tag, bins and their bottoms
/// is a valid new heap.
#[repr(C, align(128))]
pub(crate) struct Heap {
    pub(crate) front: Front,
    pub(crate) strays: Strays,
    pub(crate) inbox: Inbox,
    pub(crate) lock: Lock,
    pub(crate) state: AtomicU32,
    pub(crate) id: u32,
    /// Classes in which an idle heap may have slabs with room: a hint for those who would take one over.
    pub(crate) idle_classes: Classes,
    /// Classes in which `out` was begun, and those in which foreign blocks may lie in the bin or on the stack, since a
    /// thread last ended. The thread's alone.
    pub(crate) gathered: Classes,
    pub(crate) mixed: Classes,
    /// What became of an idle heap's bins (`idle_cache`). Under the lock; elsewhere a hint.
    pub(crate) rest: AtomicU8,
    /// The next idle heap; under the registry's lock.
    pub(crate) next_idle: UnsafeCell<*mut Heap>,
    /// The private part may be torn: a fork froze its thread in the middle of a fast path.
    pub(crate) torn: AtomicBool,
    /// Whether its thread may end without another call here, and the heap's place among those of such threads; under the
    /// registry's lock.
    pub(crate) ending: Ending,
    /// Classes whose last slow path was a free. The owner's alone.
    pub(crate) freeing: Classes,
    /// What `slow::watch` may still spend. The owner's alone.
    pub(crate) watch: usize,
    /// Slow paths until one is given a guarded block, counted down to 1; 0 before it is known. The owner's alone.
    pub(crate) until_guarded: u32,
    /// The place of each bin that holds null: of its own, in a magazine, or one of everybody's while the bin has no places.
    /// Changes under the lock alone.
    pub(crate) bottoms: [*mut *mut Block; CLASSES],
    /// Each bin's own places, for the addresses of its blocks; null until the bin first needed them. Under the lock.
    pub(crate) places: [*mut *mut Block; CLASSES],
    pub(crate) shared: UnsafeCell<Shared>,
    /// The batches in the making, and where they keep the addresses of their blocks. Last: most threads free no block of
    /// another's, and do not touch them.
    pub(crate) out: [Out; CLASSES],
    pub(crate) out_places: state::OutPlaces,
}

const _: () = assert!(
    core::mem::offset_of!(Heap, front) == 0,
    "a heap is reached through its front"
);

/// Blocks carved at once: enough that the first pages of a class come together, little enough that a program pays
/// only for what it is about to use. Below 64 bytes in whole cache lines.
pub(crate) fn carve_count(class: usize) -> usize {
    let size = size_class::size(class);
    if size <= 1024 {
        (4096 / size) & !3
    } else {
        (8192 / size).max(1)
    }
}

/// What `slow::watch` may spend for one heap, in its units: about 90,000 instructions.
pub(crate) const WATCHED: usize = 12 << 10;

/// Locks `heap`.
///
/// # Safety
/// `heap` is a heap of the registry (they live as long as the process).
#[inline]
pub(crate) unsafe fn lock<'a>(heap: *mut Heap) -> Guard<'a> {
    // SAFETY: as above.
    unsafe { (*heap).lock.lock() }
}

/// Who opens the heap's inbox.
///
/// # Safety
/// As for [`lock`].
#[inline]
pub(crate) unsafe fn attended<'a>(heap: *mut Heap) -> Attended<'a> {
    // SAFETY: as above.
    unsafe {
        Attended {
            inbox: &(*heap).inbox,
            lock: &(*heap).lock,
            state: &(*heap).state,
        }
    }
}

/// The part under the lock.
///
/// # Safety
/// The caller holds `heap`'s lock.
#[inline]
pub(crate) unsafe fn shared(heap: *mut Heap) -> *mut Shared {
    // SAFETY: as above.
    unsafe { (*heap).shared.get() }
}
