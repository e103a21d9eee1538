//! The descriptors of large blocks.

use super::run::Run;
use crate::base::size_class::LARGE;
use crate::os::lock::{Lock, Locked};
use crate::slab::directory::{DIRECTORY, Tag};
use crate::slab::known::{Call, Known, State};
use crate::slab::meta;
use core::mem::MaybeUninit;
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
    /// The call that allocated it, if it is checked, and the one that freed it, if it is closed.
    pub(super) made: MaybeUninit<Call>,
    pub(super) freed: MaybeUninit<Call>,
    /// Whether huge pages were requested.
    pub(super) huge: bool,
    /// Whether the cache could have served the block.
    pub(super) servable: bool,
    /// Whether it was requested zeroed and is long: when it is freed, it shows whether such blocks are filled.
    pub(super) shows: bool,
    /// Which part of its memory may be resident.
    pub(super) held: Held,
    pub(super) next_free: *mut Descriptor,
}

/// Which part of a block's mapping may be resident.
#[derive(Clone, Copy)]
pub(super) struct Held {
    /// Bytes from the beginning of the mapping.
    pub(super) bytes: usize,
    /// Of those, the bytes behind the block's end.
    pub(super) tail: usize,
}

impl Descriptor {
    /// What is known of the block.
    pub(super) fn known(&self) -> Known {
        Known {
            state: State::Live,
            start: self.start,
            size: self.size.load(Relaxed),
            made: match self.checked {
                // SAFETY: a checked block's is written before anybody else knows of the block.
                true => unsafe { self.made.assume_init() },
                false => Call::NONE,
            },
            ..Known::UNUSED
        }
    }
}

struct FreeDescriptors(*mut Descriptor);
// SAFETY: descriptors are never unmapped, and one thread at a time reaches them: the holder of the lock around the list.
unsafe impl Send for FreeDescriptors {}
static FREE: Locked<FreeDescriptors> = Locked::new(FreeDescriptors(ptr::null_mut()));

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
