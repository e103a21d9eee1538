//! The numbers of the memory policy: value, unit, meaning, and the evidence or the word "guess".

mod checks;
mod heap;
mod huge_pages;
mod memory;
mod threads;

pub(crate) use checks::{checked, guarded};
pub(crate) use heap::{LOOK_EVERY, heap_cache, idle_heaps, others_blocks};
pub(crate) use huge_pages::{
    DENSE_SIXTEENTHS, FILLED_SLABS, HUGE_PAGES_FROM, KNOWN_SLOTS, LOOK_BEHIND, MOST_PAUSED,
    UNPROVEN_BLOCKS, UNPROVEN_SHARE, UNSEEN_SHARE, UNSEEN_SUPERSLABS, WRITTEN_TO,
};
pub(crate) use memory::{ceiling, clear, holes, large, pool, retention};
pub(crate) use threads::{ahead, helper};
