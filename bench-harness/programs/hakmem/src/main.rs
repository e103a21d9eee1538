//! The real programs on this repository's allocator.

bench_programs::on!(hakmem_alloc::Hakmem = hakmem_alloc::Hakmem::new());
