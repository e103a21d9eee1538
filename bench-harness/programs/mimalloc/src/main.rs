//! The real programs on mimalloc, version 3.

bench_programs::on!(mimalloc::MiMalloc = mimalloc::MiMalloc);
