//! The child that measures jemalloc, as tikv-jemallocator builds it.

use std::alloc::GlobalAlloc;

use bench_harness::child::child_main;
use bench_harness::raw::{RawAllocator, Subject};

struct Peer;

impl Subject for Peer {
    const NAME: &'static str = "jemalloc";
    fn allocator() -> &'static (impl GlobalAlloc + 'static) {
        &tikv_jemallocator::Jemalloc
    }
}

static PEER: RawAllocator = RawAllocator::of::<Peer>();

fn main() {
    child_main(&PEER)
}
