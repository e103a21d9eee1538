//! The real programs on system malloc.

#[global_allocator]
static GLOBAL: std::alloc::System = std::alloc::System;

bench_programs::on!(&GLOBAL);
