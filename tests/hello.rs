//! What a small program costs with every setting at its default: no huge page and no thread.
//!
//! Behaviour imitated: a hello-world.

mod common;

use common::child::{self, Child};
use common::mem;
use hakmem_alloc::{Hakmem, stats};

#[global_allocator]
static HAKMEM: Hakmem = Hakmem::new();

#[test]
fn a_hello_world_maps_no_huge_page_and_starts_no_thread() {
    const TEST: &str = "a_hello_world_maps_no_huge_page_and_starts_no_thread";
    if child::case().is_some() {
        let words: Vec<String> = ["hello", "world"].map(String::from).to_vec();
        println!("{}", words.join(", "));
        let ours = mem::threads_named(|name| name.starts_with("hakmem"));
        child::report("threads", ours);
        let stats = stats();
        child::report("requested", stats.huge_pages.requested_bytes);
        child::report("achieved", stats.huge_pages.achieved_bytes.unwrap_or(0));
        child::report("mapped", stats.bytes.mapped);
        return;
    }
    let run = |thp| Child::of(TEST, "hello").env("HAKMEM_THP", thp).run();
    let ended = run("auto");
    let of = |key| ended.success().value::<usize>(key);
    assert!(ended.stdout.contains("hello, world"));
    assert!(of("mapped") > 0, "it did not use this allocator: {ended:?}");
    assert_eq!((of("threads"), of("requested"), of("achieved")), (0, 0, 0));
    // What is counted is counted: the same with huge pages asked for.
    assert!(run("always").success().value::<usize>("requested") > 0);
}
