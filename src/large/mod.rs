//! Large blocks: above 1 MiB or aligned beyond 64 KiB, each with a mapping of its own, and the cache of freed ones.
//!
//! A mapping starts at a multiple of 2 MiB and is whole superslabs long. So page tables move whole when a block grows, freed
//! mappings can be cut for smaller requests, and a block's descriptor is the only one of its 2 MiB. If no alignment is
//! requested, a block starts a few cache lines into its mapping, so that many blocks do not share a cache set. A free claims
//! the tag by a compare-exchange to 0, which catches a second free (rule 9 of `docs/design.md`).
//!
//! The word in front of a block holds a canary, but not on a huge page that nobody touched ([`guard`]). If every block is checked, more bytes in front and those behind do, and
//! a freed block's addresses have no access for a while ([`closed`]).

mod block;
mod cache;
#[cfg(all(test, not(loom)))]
mod cache_tests;
mod closed;
#[cfg(all(test, not(loom)))]
mod closed_tests;
mod descriptor;
mod evidence;
mod exchange;
mod guard;
#[cfg(all(test, not(loom)))]
mod guard_tests;
mod parts;
mod resize;
mod run;
mod runs;
mod seen;
#[cfg(all(test, not(loom)))]
mod seen_tests;

pub(crate) use block::{alloc, free, usable_size};

pub(crate) use cache::{cached_bytes, counts, decay, fork_lock, purge_all, reclaim};
pub(crate) use closed::{closed_lock, is_closed, try_closed};
pub(crate) use descriptor::descriptor_lock;
pub(crate) use exchange::lend;
pub(crate) use guard::unless_unknown;
pub(crate) use resize::realloc;
pub(crate) use seen::{after_fork, seen_lock};
