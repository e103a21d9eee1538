//! The debug walker over what a heap lists.

use crate::heap::data::heap::{BUCKETS, Heap, shared};
use crate::heap::slabs::slabs::bucket;
use crate::slab::directory::{DIRECTORY, Tag};

/// Debug walker: listed slabs belong here, are in the right list, and are valid themselves.
///
/// # Safety
/// The caller holds `heap`'s lock.
pub(crate) unsafe fn slabs_are_valid(heap: *mut Heap) -> bool {
    let mut ok = true;
    // SAFETY: the lock is held.
    unsafe {
        for (class, buckets) in (*shared(heap)).slabs.iter().enumerate() {
            for (index, &head) in buckets.iter().enumerate() {
                let mut slab = head;
                while !slab.is_null() {
                    ok &= (*slab).class as usize == class && (*slab).owner == (*heap).id;
                    ok &= (*slab).bucket as usize == index + 1 && index < BUCKETS;
                    ok &= bucket((*slab).available(), (*slab).capacity()) == index + 1;
                    ok &= !(*slab).going && (*slab).is_valid();
                    ok &= DIRECTORY.tag((*slab).base) == Tag::new((*heap).id, class as u8);
                    slab = (*slab).next;
                }
            }
        }
    }
    ok
}
