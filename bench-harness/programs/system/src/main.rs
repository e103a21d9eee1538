//! The real programs on system malloc.

#[global_allocator]
static GLOBAL: std::alloc::System = std::alloc::System;

fn main() {
    bench_programs::child_main()
}
