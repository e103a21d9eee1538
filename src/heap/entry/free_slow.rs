//! Frees that the fast path hands on: all of a watched heap, and those of other heaps' blocks, of large, checked and guarded
//! blocks, and of blocks that shrank in place. A free of what is no block ends the process with a report.

use crate::base::size_class::{self, CHECKED, Class, GUARDED, LARGE};
use crate::checked::{self, Mode};
use crate::guarded;
use crate::heap::data::bin::Bin;
use crate::heap::data::heap::HeapRef;
use crate::heap::data::tls;
use crate::heap::entry::threadless;
use crate::heap::slow::push::push;
use crate::heap::slow::{foreign, watch};
use crate::heap::thread::attach;
use crate::heap::upkeep::{maintain, tick};
use crate::large;
use crate::os::clock;
use crate::os::sys::ErrnoGuard;
use crate::slab::batch::Block;
use crate::slab::directory::{DIRECTORY, Tag};
use crate::slab::tell::Report;
use core::ptr;
use core::sync::atomic::{AtomicPtr, Ordering};

/// A free whose tag is not the calling heap's, or not of the class that the caller `named`.
#[cold]
#[inline(never)]
pub(crate) unsafe fn free_slow(ptr: *mut u8, named: Option<Class>) {
    if ptr.is_null() {
        return;
    }
    let tag = DIRECTORY.own_tag(ptr as usize);
    if tag == Tag::NONE {
        if is_foreign(ptr) {
            return;
        }
        not_ours(
            "free",
            ptr,
            "not a block of this allocator, or freed already",
        );
    }
    if tag.class() == LARGE {
        return free_large(ptr, None);
    }
    let class = tag.class();
    if class == GUARDED {
        return guarded::free(ptr, None);
    }
    if class == CHECKED {
        return free_checked(ptr, None);
    }
    if !class.is_of_sizes() {
        not_ours("free", ptr, "inside memory of this allocator, but no block");
    }
    if named.is_some_and(|named| !legal(named.max(Class::new(1)), class)) {
        not_ours("free", ptr, "the layout's size class is not the block's");
    }
    // SAFETY: a block of `class` that the caller gives up.
    unsafe { route(ptr.cast(), tag) }
}

/// Frees what is tagged as a large block, of `size` bytes if the program says so.
#[inline(never)]
pub(crate) fn free_large(ptr: *mut u8, size: Option<usize>) {
    let _errno = ErrnoGuard::new();
    if checked::mode() == Mode::All {
        guarded::watch_faults();
    }
    // SAFETY: the caller gives the block up.
    unsafe { large::free(ptr, size) };
    maintain::wake();
    tick::pass(clock::now_ms());
}

/// Frees a checked block, of `size` bytes if the program says so.
#[inline(never)]
pub(crate) fn free_checked(ptr: *mut u8, size: Option<usize>) {
    if checked::free(ptr, size, threadless::thread()) {
        let _errno = ErrnoGuard::new();
        maintain::wake();
        tick::pass(clock::now_ms());
    }
}

/// Whether a block of class `actual` may be freed under a layout of class `named`: the same, or a smaller one down to half, as a
/// shrink may have stayed in place.
fn legal(named: Class, actual: Class) -> bool {
    named == actual || named < actual && size_class::size(named) * 2 >= size_class::size(actual)
}

/// Frees a block of a slab, of this heap or another.
#[inline(never)]
unsafe fn route(block: *mut Block, tag: Tag) {
    let mut front = tls::get();
    if tls::is_empty(front) || tls::may_return_to_free(front) {
        attach::attach();
        front = tls::get();
    }
    // SAFETY: the block is the caller's; a front that is no stand-in is this thread's heap.
    unsafe {
        if tls::is_dead(front) || tls::is_empty(front) {
            let _errno = ErrnoGuard::new();
            return foreign::post_single(block, tag);
        }
        let heap = HeapRef::of_front(front);
        watch::look(heap, block, tag);
        if heap.id == tag.owner() {
            return push(front, block, tag.class().index() * size_of::<Bin>());
        }
        foreign::free_foreign(block, heap, tag);
    }
}

/// Bytes the block at `ptr` holds from there on. `asked` is what the program called, for the message.
///
/// # Safety
/// `ptr` is a block of this allocator, in use.
pub(crate) unsafe fn usable_size(ptr: *const u8, asked: &'static str) -> usize {
    let class = class_of(ptr, asked);
    bytes_of(ptr, class, asked)
}

/// The same for a block of which [`class_of`] said `class`.
#[inline]
pub(crate) fn bytes_of(ptr: *const u8, class: Class, asked: &'static str) -> usize {
    if !class.is_of_sizes() {
        return size_without_class(ptr, class, asked);
    }
    size_class::size(class)
}

/// The same for a block of no class, large, checked or guarded, as `class` says.
#[inline(never)]
fn size_without_class(ptr: *const u8, class: Class, asked: &'static str) -> usize {
    if class == CHECKED {
        return checked::size_of(ptr, asked);
    }
    if class == GUARDED {
        return guarded::size_of(ptr, asked);
    }
    large::usable_size(ptr.cast_mut(), asked)
}

/// The class of the block at `ptr`; [`LARGE`], [`CHECKED`] or [`GUARDED`] for what may be such a block. Ends the process if there
/// is no block.
pub(crate) fn class_of(ptr: *const u8, asked: &str) -> Class {
    let tag = DIRECTORY.own_tag(ptr as usize);
    let class = tag.class();
    let has_class = class.is_of_sizes();
    let without = [LARGE, CHECKED, GUARDED];
    if tag == Tag::NONE || (!has_class && !without.contains(&class)) {
        not_ours(
            asked,
            ptr,
            "not a block of this allocator, or freed already",
        );
    }
    if has_class {
        // SAFETY: the tag says so, and the layers above hold no lock.
        unsafe { watch::look_at(ptr, asked) };
    }
    class
}

/// Whom to ask about an address that is not ours before it is called an error.
static FOREIGN: AtomicPtr<()> = AtomicPtr::new(ptr::null_mut());

/// Sets the question: true means that the block is somebody else's, known, and may be forgotten.
#[allow(dead_code, reason = "for the feature `malloc`")]
pub(crate) fn set_foreign(known: fn(*mut u8) -> bool) {
    FOREIGN.store(known as *mut (), Ordering::Release);
}

fn is_foreign(ptr: *mut u8) -> bool {
    let known = FOREIGN.load(Ordering::Acquire);
    if known.is_null() {
        return false;
    }
    // SAFETY: only ever set to such a function.
    let known = unsafe { core::mem::transmute::<*mut (), fn(*mut u8) -> bool>(known) };
    known(ptr)
}

#[cold]
fn not_ours(asked: &str, ptr: *const u8, why: &str) -> ! {
    large::unless_unknown(asked, ptr);
    Report::of(format_args!(
        "{asked} of {ptr:p}: {why}; stopping before memory is damaged"
    ))
    .end()
}
