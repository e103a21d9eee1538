//! The child that measures this repository's allocator.

static HAKMEM: hakmem_alloc::Hakmem = hakmem_alloc::Hakmem::new();

bench_subject::subject!("hakmem", &HAKMEM, prewarm: hakmem_alloc::prewarm);
