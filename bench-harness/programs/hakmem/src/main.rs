//! The real programs on this repository's allocator.

#[global_allocator]
static GLOBAL: hakmem_alloc::Hakmem = hakmem_alloc::Hakmem::new();

bench_programs::on!(&GLOBAL);
