//! The real programs on system malloc.

bench_programs::on!(std::alloc::System = std::alloc::System);
