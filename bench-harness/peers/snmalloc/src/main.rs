//! The child that measures snmalloc, built by cmake.

use std::alloc::GlobalAlloc;

use bench_harness::child::child_main;
use bench_harness::raw::{RawAllocator, Subject};

struct Peer;

impl Subject for Peer {
    const NAME: &'static str = "snmalloc";
    fn allocator() -> &'static (impl GlobalAlloc + 'static) {
        &snmalloc_rs::SnMalloc
    }
}

static PEER: RawAllocator = RawAllocator::of::<Peer>();

fn main() {
    child_main(&PEER)
}
