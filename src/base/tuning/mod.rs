//! The numbers that are a choice: value, unit, meaning, and the evidence or the word "guess".
//!
//! What stands elsewhere is no choice, or one with the code around it: the layout of words, slabs and tables, sizes of buffers, what
//! the kernel, the C library and file formats prescribe, and the defaults of the knobs, which are in their table.

mod checks;
mod heap;
mod huge_pages;
mod memory;
mod mistakes;
mod prefault;
mod threads;
pub(crate) mod waits;

pub(crate) use checks::{checked, guarded};
pub(crate) use heap::{
    LATE_FREES, LOOK_EVERY, bins, heap_cache, idle_heaps, magazines, others_blocks, watch,
};
pub(crate) use huge_pages::{
    DENSE_SIXTEENTHS, END_SHARE, ENDS_SHARE, EXPECTED, FIRST_SHARE, KNOWN_SLOTS, LAST_LOOK,
    LOOK_BEHIND, MOST_PAUSED, UNPROVEN_BLOCKS, UNPROVEN_SHARE, UNSEEN_BLOCK, UNSEEN_SHARE,
    UNSEEN_SUPERSLABS, WRITTEN_TO,
};
pub(crate) use memory::{addresses, ceiling, clear, holes, large, pool, retention};
pub(crate) use mistakes::{reports, sites, walks};
pub(crate) use prefault::{SCAN_STEP, budget};
#[cfg(feature = "std")]
pub(crate) use prefault::{pace, region};
pub(crate) use threads::{ahead, helper};
