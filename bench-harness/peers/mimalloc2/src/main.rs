//! The child that measures mimalloc, version 2.

bench_subject::subject!("mimalloc2", &mimalloc::MiMalloc);
