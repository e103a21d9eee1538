//! Ends the process for the mistakes that are recognised by what a slab knows of its blocks. Each function makes the first line
//! of the [`Report`].

use super::batch::Block;
use super::check;
use super::directory::DIRECTORY;
use super::slab::Blocks;
use super::superslab::Superslab;
use super::tell::Report;
use crate::base::size_class::{self, Class};
use crate::base::units::{SLOT, Slots};
use crate::os::thread;

/// The call `asked` named a block that is free already. A second free may come to light only later.
#[cold]
#[inline(never)]
pub(crate) fn free_already(asked: &str, block: *mut Block, class: Class) -> ! {
    Report::of(format_args!(
        "{}{asked} of {block:p}: this block of {} bytes is free already (thread {}); stopping before it is given out twice",
        if asked == "free" { "double " } else { "" },
        size_class::size(class),
        thread::tid()
    ))
    .end()
}

/// The call `asked` named an address that lies in a slab of `class` and is no block's start.
#[cold]
#[inline(never)]
pub(crate) fn no_start(asked: &str, addr: *mut Block, class: Class) -> ! {
    let at = addr as usize;
    let slot = at - at % SLOT;
    let base = match size_class::slots(class) {
        Slots::ONE => slot,
        _ if !DIRECTORY.holds(at) => at,
        // The later slots of a run do not say where it begins.
        slots if size_class::is_run(class) => (0..slots.count())
            .map(|back| slot.wrapping_sub(back * SLOT))
            .find(|&start| check::is_start(start as *mut Block, class))
            .unwrap_or(at),
        // SAFETY: the caller found the class in the directory; a descriptor that is there lives for ever.
        _ => unsafe { (*Superslab::slab_of(at)).base },
    };
    let (offset, size) = (at - base, size_class::size(class));
    Report::of(format_args!(
        "{asked} of {addr:p}: {} a block, at byte {} of {size} (thread {}); stopping before memory is damaged",
        if Blocks::of(class).index(offset - offset % size).is_some() {
            "inside"
        } else {
            "behind"
        },
        offset % size,
        thread::tid()
    ))
    .end()
}

/// What was freed, in a slab of `class`, is no block's start or was free already.
#[cold]
#[inline(never)]
pub(crate) fn wrong(block: *mut Block, class: Class) -> ! {
    if !check::is_start(block, class) {
        no_start("free", block, class);
    }
    free_already("free", block, class)
}

/// Ends the process if one of the addresses, freed and all in slabs of `class`, is no block's start.
#[inline]
pub(crate) fn unless_all_start(blocks: &[*mut Block], class: Class) {
    if !check::all_start(blocks, class) {
        let wrong = blocks.iter().find(|&&block| !check::is_start(block, class));
        no_start(
            "free",
            wrong.copied().unwrap_or(core::ptr::null_mut()),
            class,
        );
    }
}

/// Ends the process: the words of a free block were changed.
#[cold]
#[inline(never)]
pub(crate) fn damaged(block: *mut Block) -> ! {
    Report::of(format_args!(
        "block {block:p}: written to after it was freed, or freed twice; its free-list words are damaged"
    ))
    .end()
}
