//! The descriptors of large blocks.

use super::evidence::{Asked, Extent};
use super::run::Run;
use crate::base::account::{self, Kind};
use crate::base::size_class::LARGE;
use crate::os::lock::{Lock, Locked};
use crate::slab::directory::{DIRECTORY, Tag};
use crate::slab::known::{Call, Known, State};
use crate::slab::meta;
use core::ptr;
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// The tag of every large block.
pub(super) const TAG: Tag = Tag::new(0, LARGE);

pub(super) struct Descriptor {
    pub(super) run: Run,
    /// The address that the program has.
    pub(super) start: usize,
    /// Bytes that the program asked for.
    pub(super) size: AtomicUsize,
    pub(super) checked: bool,
    /// Whether the word in front of it is its mark. It is not a checked block's, which has more in front.
    pub(super) marked: bool,
    /// Who allocated and freed it. Null if no block was checked that had this descriptor.
    pub(super) calls: *mut Calls,
    /// Whether huge pages were requested.
    pub(super) huge: bool,
    /// Whether all of its memory was fresh when it was handed out.
    pub(super) fresh: bool,
    pub(super) asked: Asked,
    /// Whether the cache could have served the block.
    pub(super) servable: bool,
    /// Whether it was requested zeroed and is long: when it is freed, it shows whether such blocks are filled.
    pub(super) shows: bool,
    /// Which part of its memory may be resident.
    pub(super) held: Held,
    pub(super) next_free: *mut Descriptor,
}

impl Descriptor {
    /// From the beginning of its mapping to the end of what the program asked for.
    pub(super) fn extent(&self) -> Extent {
        let addr = self.run.map.addr;
        Extent {
            addr,
            len: self.start - addr + self.size.load(Relaxed),
            asked: self.asked,
        }
    }
}

/// The call that allocated a checked block, and the one that freed it once it is closed.
pub(super) struct Calls {
    pub(super) made: Call,
    pub(super) freed: Call,
}

/// Which part of a block's mapping may be resident.
#[derive(Clone, Copy)]
pub(super) struct Held {
    /// Bytes from the beginning of the mapping.
    pub(super) bytes: usize,
    /// Of those, the bytes behind the block's end that were used before, and those that a huge page holds there.
    pub(super) tail: usize,
    pub(super) rest: usize,
}

impl Held {
    /// Counts what is behind the block's end, or no longer.
    pub(super) fn count(&self, in_use: bool) {
        for (kind, bytes) in [(Kind::Tails, self.tail), (Kind::Ends, self.rest)] {
            let (was, is) = if in_use { (0, bytes) } else { (bytes, 0) };
            account::change(kind, was, is);
        }
    }
}

impl Descriptor {
    /// What is known of the block.
    #[cold]
    pub(super) fn known(&self) -> Known {
        // SAFETY: a checked block's are written before another thread knows of the block.
        let calls = unsafe { self.calls.as_ref() }.filter(|_| self.checked);
        Known {
            state: State::Live,
            start: self.start,
            size: self.size.load(Relaxed),
            made: calls.map_or(Call::NONE, |calls| calls.made),
            freed: calls.map_or(Call::NONE, |calls| calls.freed),
            ..Known::UNUSED
        }
    }
}

struct FreeDescriptors(*mut Descriptor);
// SAFETY: descriptors are never unmapped, and one thread at a time reaches them: the holder of the lock around the list.
unsafe impl Send for FreeDescriptors {}
static FREE: Locked<FreeDescriptors> = Locked::new(FreeDescriptors(ptr::null_mut()));

/// A descriptor that nobody uses. Its `calls` are as [`Descriptor::calls`] says, and all else is to be written.
pub(super) fn new_descriptor() -> Option<*mut Descriptor> {
    let mut free = FREE.lock();
    let first = free.0;
    if first.is_null() {
        drop(free);
        return meta::allocate::<Descriptor>().map(|fresh| fresh.as_ptr());
    }
    // SAFETY: free descriptors are linked under the lock.
    free.0 = unsafe { (*first).next_free };
    Some(first)
}

/// As [`new_descriptor`], with `calls` that say who asks for it.
#[cold]
#[inline(never)]
pub(super) fn new_checked() -> Option<*mut Descriptor> {
    let descriptor = new_descriptor()?;
    // SAFETY: only this thread has it, and memory of this kind is never returned.
    unsafe {
        if (*descriptor).calls.is_null() {
            let Some(calls) = meta::allocate::<Calls>() else {
                drop_descriptor(descriptor);
                return None;
            };
            (*descriptor).calls = calls.as_ptr();
        }
        (*descriptor).calls.write(Calls {
            made: Call::now(),
            freed: Call::NONE,
        });
    }
    Some(descriptor)
}

pub(super) unsafe fn drop_descriptor(descriptor: *mut Descriptor) {
    let mut free = FREE.lock();
    // SAFETY: the caller took it out of the directory, and no longer uses it.
    unsafe { (*descriptor).next_free = free.0 };
    free.0 = descriptor;
}

pub(super) fn descriptor_of(addr: usize) -> *mut Descriptor {
    DIRECTORY.descriptor(addr).load(Relaxed) as *mut Descriptor
}

/// For a fork: the lock of the free descriptors.
pub(crate) fn descriptor_lock() -> &'static Lock {
    FREE.raw()
}
