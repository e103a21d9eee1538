//! A word count of a generated text on several threads, with `Hakmem` as the global allocator. `wordcount_system` is the same program with the system's.

#[path = "programs/wordcount.rs"]
mod program;

#[global_allocator]
static GLOBAL: hakmem_alloc::Hakmem = hakmem_alloc::Hakmem::new();

fn main() {
    program::main();
}
