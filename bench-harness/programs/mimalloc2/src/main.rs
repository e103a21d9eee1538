//! The real programs on mimalloc, version 2.

#[global_allocator]
static GLOBAL: mimalloc::MiMalloc = mimalloc::MiMalloc;

bench_programs::on!(&GLOBAL);
