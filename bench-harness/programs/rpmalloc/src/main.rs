//! The real programs on rpmalloc.

#[global_allocator]
static GLOBAL: rpmalloc::RpMalloc = rpmalloc::RpMalloc;

bench_programs::on!(&GLOBAL);
