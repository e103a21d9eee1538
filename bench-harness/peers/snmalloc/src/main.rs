//! The child that measures snmalloc.

bench_subject::subject!("snmalloc", &snmalloc_rs::SnMalloc);
