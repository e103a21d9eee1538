//! The heap's data: a private front for its thread, a shared part under its lock, and the inbox.

use super::bin::{self, Bin, Places};
use super::classes::Classes;
use super::holes;
use super::out::{self, Out};
use super::registry;
use super::remote::Rows;
use super::slack::Slack;
use super::stack::Empties;
use super::strays::Strays;
use crate::base::demand::Epoch;
use crate::base::size_class::{self, CLASSES};
use crate::os::lock::{Guard, Lock};
use crate::slab::batch::{Addresses, Batch, Block};
use crate::slab::directory::{OWNER_MAX, Tag};
use crate::slab::inbox::Inbox;
use crate::slab::magazine::Magazine;
use crate::slab::slab::Slab;
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU32};

/// Heap ids have 20 bits in a tag; all ones is nobody's.
pub(super) const NOBODY: u32 = OWNER_MAX;
/// Fullness lists per class.
pub(super) const BUCKETS: usize = 4;

/// What the fast paths touch.
#[repr(C, align(64))]
pub(crate) struct Front {
    /// First, so that a class scaled by the size of a bin is an address without another addition.
    pub(super) bins: [Bin; CLASSES],
    /// What the tag of every slab of this heap starts with.
    pub(super) tag: u32,
}

/// A front without a cell in it, so that it lies in read-only memory: every bin empty, a tag that nothing matches.
#[repr(C, align(64))]
pub(super) struct StandIn {
    bins: [bin::StandIn; CLASSES],
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
    pub(super) const fn new() -> StandIn {
        StandIn {
            tag: Tag::of_owner(NOBODY).0,
            bins: [bin::StandIn::NEW; CLASSES],
        }
    }
}

/// A stack of free blocks of one class (`stack`). `blocks` is what its batches count and its magazines hold together.
#[repr(C)]
pub(super) struct Spare {
    pub(super) top: Option<Batch>,
    pub(super) magazine: *mut Magazine,
    pub(super) blocks: u32,
    pub(super) in_magazines: u32,
    /// Most blocks kept; 0 means not yet decided.
    pub(super) limit: u32,
    /// Least `blocks` since the last look: what was not needed.
    pub(super) low: u32,
    /// Blocks that were walked back for lack of room, since anything missed some.
    pub(super) walked: u32,
    /// Those of late that the class's limit would have kept, and the heap's slack (`slack`) did not, less those missed since.
    pub(super) cut: u32,
}

/// Everything under the heap's lock. `out_bytes`, `slab_bytes` and `carved_bytes` are sums over the heap's slabs;
/// `spare_bytes` over its spare stacks.
#[repr(C)]
pub(super) struct Shared {
    pub(super) spare: [Spare; CLASSES],
    pub(super) slabs: [[*mut Slab; BUCKETS]; CLASSES],
    /// Blocks out of this heap's slabs, by class.
    pub(super) out_blocks: [u64; CLASSES],
    /// Classes of which another heap took a slab over: what is posted here may hold blocks of it for ever after.
    pub(super) taken_from: Classes,
    pub(super) slab_count: [u32; CLASSES],
    pub(super) slab_bytes: usize,
    /// Bytes of the slabs' blocks that were ever handed out, without OS pages of them that are gone.
    pub(super) carved_bytes: usize,
    pub(super) out_bytes: usize,
    pub(super) spare_bytes: usize,
    /// What the account was last told of `spare_bytes`.
    pub(super) shown_bytes: usize,
    pub(super) empties: Empties,
    pub(super) slack: Slack,
    /// Batches taken from the inbox and not yet opened.
    pub(super) pending: Option<Batch>,
    /// The pool said it retains too much: trim once no lock is held.
    pub(super) over_bound: bool,
    /// Bytes of slabs that may stay with the heap when their last block comes home; 0 but while its thread ends.
    pub(super) keep_left: usize,
    /// Some slab may be empty and listed.
    pub(super) has_empty: bool,
    /// Bytes that an idle heap was left with, as they were counted then.
    pub(super) kept: usize,
    /// Slow operations so far, the epoch in which the heap was last looked at, and whether the thread ever did.
    pub(super) slow_ops: u32,
    pub(super) looked: Epoch,
    pub(super) has_looked: bool,
    /// How often what is not needed is still to be sent home, and the class at which that goes on.
    pub(super) shrinks_left: u8,
    pub(super) shrinking: usize,
    pub(super) drained: u64,
    /// Pages of slabs that are to go, or have gone (`holes`).
    pub(super) holes: holes::State,
    /// What a `remote::Sorter` gathers, and whether one has any.
    pub(super) rows: Rows,
    pub(super) sorting: bool,
    /// For one at a time: the addresses of blocks that go home or are sifted, of a batch of which a part is taken.
    pub(super) scratch: Addresses,
}

/// Whether a heap's thread lives.
pub(super) const LIVE: u32 = 0;
/// Its thread has ended: whoever posts to it drains it.
pub(super) const IDLE: u32 = 1;

/// One heap. Never unmapped; its id is never used for another (rule 7). All-zero but for id, tag, bins, their bottoms and
/// `out` is a valid new heap.
#[repr(C, align(128))]
pub(crate) struct Heap {
    pub(super) front: Front,
    pub(super) out: [Out; CLASSES],
    pub(super) strays: Strays,
    pub(super) inbox: Inbox,
    pub(super) lock: Lock,
    pub(super) state: AtomicU32,
    pub(super) id: u32,
    /// Classes in which an idle heap may have slabs with room: a hint for those who would take one over.
    pub(super) idle_classes: Classes,
    /// Classes in which `out` was begun, and those in which foreign blocks may lie in the bin or on the stack, since a
    /// thread last ended. The thread's alone.
    pub(super) gathered: Classes,
    pub(super) mixed: Classes,
    /// What became of an idle heap's bins (`keep`). Under the lock; elsewhere a hint.
    pub(super) rest: AtomicU8,
    /// The next idle heap; under the registry's lock.
    pub(super) next_idle: UnsafeCell<*mut Heap>,
    /// The private part may be torn: a fork froze its thread in the middle of a fast path.
    pub(super) torn: AtomicBool,
    /// The number of its thread, if that may end without another call here; 0 if its end is noticed.
    pub(super) ending: AtomicU32,
    /// Whether the heap stands among those whose threads may be gone, and the next of them; under the registry's lock.
    pub(super) is_ending: UnsafeCell<bool>,
    pub(super) next_ending: UnsafeCell<*mut Heap>,
    pub(super) shared: UnsafeCell<Shared>,
    /// Classes whose last slow path was a free. The owner's alone.
    pub(super) freeing: Classes,
    /// The place of each bin that holds null: among `places`, or in a magazine. Changes under the lock alone.
    pub(super) bottoms: [*mut *mut Block; CLASSES],
    /// Where the bins that lie in no magazine, and the batches in the making, keep the addresses of their blocks.
    pub(super) places: Places,
    pub(super) out_places: out::Places,
}

const _: () = assert!(
    core::mem::offset_of!(Heap, front) == 0,
    "a heap is reached through its front"
);

/// Blocks carved at once: enough that the first pages of a class come together, little enough that a program pays
/// only for what it is about to use. Below 64 bytes in whole cache lines.
pub(super) fn carve_count(class: usize) -> usize {
    let size = size_class::size(class);
    if size <= 1024 {
        (4096 / size) & !3
    } else {
        (8192 / size).max(1)
    }
}

/// The heap of id `owner`; null where no such heap exists.
#[inline]
pub(super) fn by_id(owner: u32) -> *mut Heap {
    registry::heap(owner)
}

/// Locks `heap`.
///
/// # Safety
/// `heap` is a heap of the registry (they live as long as the process).
#[inline]
pub(super) unsafe fn lock<'a>(heap: *mut Heap) -> Guard<'a> {
    // SAFETY: as above.
    unsafe { (*heap).lock.lock() }
}

/// The part under the lock.
///
/// # Safety
/// The caller holds `heap`'s lock.
#[inline]
pub(super) unsafe fn shared(heap: *mut Heap) -> *mut Shared {
    // SAFETY: as above.
    unsafe { (*heap).shared.get() }
}
