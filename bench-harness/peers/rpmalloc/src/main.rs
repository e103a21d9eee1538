//! The child that measures rpmalloc.

use std::alloc::GlobalAlloc;

use bench_harness::child::child_main;
use bench_harness::raw::{RawAllocator, Subject};

struct Peer;

impl Subject for Peer {
    const NAME: &'static str = "rpmalloc";
    fn allocator() -> &'static (impl GlobalAlloc + 'static) {
        &rpmalloc::RpMalloc
    }
}

static PEER: RawAllocator = RawAllocator::of::<Peer>();

fn main() {
    child_main(&PEER)
}
