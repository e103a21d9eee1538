//! The real programs on snmalloc.

bench_programs::on!(snmalloc_rs::SnMalloc = snmalloc_rs::SnMalloc);
