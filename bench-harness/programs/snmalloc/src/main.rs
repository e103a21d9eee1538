//! The real programs on snmalloc.

#[global_allocator]
static GLOBAL: snmalloc_rs::SnMalloc = snmalloc_rs::SnMalloc;

bench_programs::on!(&GLOBAL);
