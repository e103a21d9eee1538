//! The debug walker over what a heap lists.

use crate::base::size_class::Class;
use crate::heap::data::heap::{BUCKETS, HeldHeap};
use crate::heap::slabs::slabs::bucket;
use crate::slab::directory::{DIRECTORY, Tag};

/// Debug walker: listed slabs belong here, are in the right list, and are valid themselves. None is of class 0.
pub(crate) fn slabs_are_valid(heap: &HeldHeap) -> bool {
    let mut ok = heap.slabs[Class::NONE].iter().all(|slab| slab.is_null());
    // SAFETY: listed slabs belong to the heap.
    unsafe {
        for class in Class::all() {
            for (index, &head) in heap.slabs[class].iter().enumerate() {
                let mut slab = head;
                while !slab.is_null() {
                    ok &= (*slab).class.get() == class && (*slab).owner == heap.heap().id;
                    ok &= (*slab).bucket as usize == index + 1 && index < BUCKETS;
                    ok &= bucket((*slab).available(), (*slab).capacity()) == index + 1;
                    ok &= !(*slab).going && (*slab).is_valid();
                    ok &= DIRECTORY.tag((*slab).base) == Tag::new(heap.heap().id, class);
                    slab = (*slab).next;
                }
            }
        }
    }
    ok
}
