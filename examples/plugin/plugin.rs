//! A shared library with an allocator of its own inside, for programs that load and unload it.

use hakmem_alloc::Hakmem;
use std::alloc::{GlobalAlloc, Layout};

#[global_allocator]
static GLOBAL: Hakmem = Hakmem::new();

fn layout(size: usize) -> Option<Layout> {
    Layout::from_size_align(size.max(1), 16).ok()
}

/// A block of the library's allocator, or null.
#[unsafe(no_mangle)]
pub extern "C" fn plugin_take(size: usize) -> *mut u8 {
    // SAFETY: the size is not zero.
    layout(size).map_or(std::ptr::null_mut(), |layout| unsafe {
        GLOBAL.alloc(layout)
    })
}

/// Frees a block.
///
/// # Safety
/// `block` came from [`plugin_take`] with the same size and is not used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn plugin_give(block: *mut u8, size: usize) {
    if let Some(layout) = layout(size) {
        // SAFETY: the caller's promise.
        unsafe { GLOBAL.dealloc(block, layout) }
    }
}

/// Builds `count` strings and answers the sum of their lengths.
#[unsafe(no_mangle)]
pub extern "C" fn plugin_strings(count: usize) -> usize {
    let words: Vec<String> = (0..count).map(|i| "x".repeat(i % 100)).collect();
    words.iter().map(String::len).sum()
}
