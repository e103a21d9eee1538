//! A churn of maps, vectors and strings, with `Hakmem` as the global allocator. `churn_system` is the same program with the system's.

#[path = "programs/churn.rs"]
mod program;

#[global_allocator]
static GLOBAL: hakmem_alloc::Hakmem = hakmem_alloc::Hakmem::new();

fn main() {
    program::main();
}
