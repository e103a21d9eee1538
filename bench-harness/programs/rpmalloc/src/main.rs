//! The real programs on rpmalloc.

bench_programs::on!(rpmalloc::RpMalloc = rpmalloc::RpMalloc);
