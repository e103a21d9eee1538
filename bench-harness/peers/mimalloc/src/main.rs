//! The child that measures mimalloc, version 3.

use std::alloc::GlobalAlloc;

use bench_harness::child::child_main;
use bench_harness::raw::{RawAllocator, Subject};

struct Peer;

impl Subject for Peer {
    const NAME: &'static str = "mimalloc";
    fn allocator() -> &'static (impl GlobalAlloc + 'static) {
        &mimalloc::MiMalloc
    }
}

static PEER: RawAllocator = RawAllocator::of::<Peer>();

fn main() {
    child_main(&PEER)
}
