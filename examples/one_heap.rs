//! Rust and C on one heap, by the feature `malloc`:
//!
//! ```sh
//! cargo run --release --example one_heap --features malloc
//! ```
//!
//! The C library's `strdup` calls `malloc` itself. Without the feature that is glibc's, and a program with much C in it (RocksDB,
//! sqlite) has two heaps, each with free memory that the other cannot use. With it the allocator's own statistics count the
//! blocks of both. Ends with code 1 if they do not.

use hakmem_alloc::{Hakmem, stats_quick};
use std::ffi::{CStr, c_char};
use std::process::ExitCode;

#[global_allocator]
static GLOBAL: Hakmem = Hakmem::new();

const BLOCKS: usize = 10_000;
const TEXT: &CStr = c"a text of the length of which this program has no other blocks, so that they can be told apart";

/// Live blocks of the size class that holds [`TEXT`]. A few of its size are not among them: those that are checked or guarded.
fn live() -> u64 {
    let size = TEXT.count_bytes() as u64 + 1;
    let stats = stats_quick();
    let class = stats.classes.iter().find(|class| class.block_bytes >= size);
    class.map_or(0, |class| class.live_blocks)
}

fn main() -> ExitCode {
    let mut of_c: Vec<*mut c_char> = Vec::with_capacity(BLOCKS);
    let mut of_rust: Vec<Box<[u8]>> = Vec::with_capacity(BLOCKS);
    let before = live();
    for _ in 0..BLOCKS {
        // SAFETY: the text is a C string.
        of_c.push(unsafe { libc::strdup(TEXT.as_ptr()) });
    }
    let with_c = live().saturating_sub(before);
    of_rust.extend((0..BLOCKS).map(|_| TEXT.to_bytes_with_nul().into()));
    let with_both = live().saturating_sub(before);
    for block in of_c {
        // SAFETY: made by strdup above, freed once.
        unsafe { libc::free(block.cast()) };
    }
    drop(of_rust);
    let left = live().saturating_sub(before);
    println!(
        "blocks of one size class by the statistics of hakmem, which leave out a few that are checked:"
    );
    println!("  {with_c:>6} after C made {BLOCKS}");
    println!("  {with_both:>6} after Rust made {BLOCKS} more");
    println!("  {left:>6} after both freed theirs");
    let blocks = BLOCKS as u64;
    let few = blocks / 100;
    let one_heap = with_c >= blocks - few && with_both >= 2 * (blocks - few) && left <= few;
    println!("{}", if one_heap { "one heap" } else { "two heaps" });
    if one_heap {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
