//! The real programs on mimalloc, version 2.

bench_programs::on!(mimalloc::MiMalloc = mimalloc::MiMalloc);
