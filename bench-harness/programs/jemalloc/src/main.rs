//! The real programs on jemalloc.

bench_programs::on!(tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc);
