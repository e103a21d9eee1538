//! The child that measures mimalloc, version 3.

bench_subject::subject!("mimalloc", &mimalloc::MiMalloc);
