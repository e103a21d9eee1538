//! The program of `json` with the system allocator, to compare outputs, time and memory.

#[path = "programs/json.rs"]
mod program;

fn main() {
    program::main();
}
