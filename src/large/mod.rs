//! Huge blocks: a mapping each, above 1 MiB or aligned beyond 64 KiB, and the cache of freed ones.
//!
//! Mappings start at multiples of 2 MiB and are whole superslabs long, so that page tables move whole when a block
//! grows, freed ones can be cut for smaller requests, and a block's descriptor is the only one of its 2 MiB. A block
//! starts a few cache lines into its mapping when no alignment is asked, so that many of them do not share a cache set.
//! The tag is claimed by a compare-exchange to 0, which catches a second free (rule 9).

mod block;
mod cache;
#[cfg(all(test, not(loom)))]
mod cache_tests;
mod parts;
mod resize;
mod runs;
mod seen;

pub(crate) use block::{alloc, descriptor_lock, free, usable_size};
pub(crate) use cache::{cached_bytes, counts, decay, fork_lock, purge_all, reclaim};
pub(crate) use resize::realloc;
pub(crate) use seen::seen_lock;
