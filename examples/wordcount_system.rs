//! The program of `wordcount` with the system allocator, to compare outputs, time and memory.

#[path = "programs/wordcount.rs"]
mod program;

fn main() {
    program::main();
}
