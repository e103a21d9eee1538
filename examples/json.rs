//! A JSON document built, printed, parsed and changed, with `Hakmem` as the global allocator. `json_system` is the same program with the system's.

#[path = "programs/json.rs"]
mod program;

#[global_allocator]
static GLOBAL: hakmem_alloc::Hakmem = hakmem_alloc::Hakmem::new();

fn main() {
    program::main();
}
