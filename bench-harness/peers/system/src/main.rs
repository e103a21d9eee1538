//! The child that measures system malloc.

bench_subject::subject!("system", &std::alloc::System);
