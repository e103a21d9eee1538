//! The child that measures rpmalloc.

bench_subject::subject!("rpmalloc", &rpmalloc::RpMalloc);
