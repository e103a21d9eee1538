//! The program of `churn` with the system allocator, to compare outputs, time and memory.

#[path = "programs/churn.rs"]
mod program;

fn main() {
    program::main();
}
