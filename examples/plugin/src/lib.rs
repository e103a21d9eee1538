//! A plug-in: a shared library with an allocator of its own inside, for programs that open and close it by dlopen and
//! dlclose. Its Cargo.toml asks for the feature that such libraries need.

use hakmem_alloc::Hakmem;
use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;

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

/// More thread-local storage than the dynamic loader keeps ready for libraries that are opened late.
const WORDS: usize = 512;

thread_local! {
    static LOCAL: Cell<[u64; WORDS]> = const { Cell::new([0; WORDS]) };
}

/// Counts up one word of the calling thread's; answers what it is now.
#[unsafe(no_mangle)]
pub extern "C" fn plugin_count(word: usize) -> u64 {
    LOCAL.with(|local| {
        let mut words = local.get();
        let counted = &mut words[word % WORDS];
        *counted += 1;
        let now = *counted;
        local.set(words);
        now
    })
}
