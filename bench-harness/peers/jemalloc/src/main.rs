//! The child that measures jemalloc.

bench_subject::subject!("jemalloc", &tikv_jemallocator::Jemalloc);
