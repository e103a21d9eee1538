//! The books of superslabs that were prewarmed, used in part, and given back by the delay.
//!
//! Behaviour imitated: a service that prewarms at its start, handles a first request that needs a fraction of it, rests
//! until the purge delay has passed, and asks for everything to be given back.

mod common;

use common::blocks::Block;
use common::child::{self, Child};
use common::{KIB, MIB, mem};
use hakmem_alloc::{Hakmem, prewarm, purge, stats};
use std::time::Duration;

static HAKMEM: Hakmem = Hakmem::new();

fn request_and_rest() {
    Block::new(&HAKMEM, 100).free(&HAKMEM);
    assert_eq!(prewarm(1), 1);
    let blocks: Vec<_> = (0..16).map(|_| Block::new(&HAKMEM, 120 * 1000)).collect();
    blocks.into_iter().for_each(|block| block.free(&HAKMEM));
    let (rested, returned) = (mem::rss(), stats().bytes.returned);
    std::thread::sleep(Duration::from_millis(100));
    // Slow paths, which look at the clock now and then.
    for _ in 0..20_000 {
        let blocks: Vec<_> = (0..40).map(|_| Block::new(&HAKMEM, 64)).collect();
        blocks.into_iter().for_each(|block| block.free(&HAKMEM));
    }
    child::report("fell", rested.saturating_sub(mem::rss()));
    child::report("counted", stats().bytes.returned - returned);
    let before = mem::rss();
    child::report("purged", purge());
    child::report("went", before.saturating_sub(mem::rss()));
    let slabs = stats().superslabs;
    child::report("retained", slabs.retained);
    let states = [slabs.in_use, slabs.retained, slabs.purged];
    child::report(
        "sum",
        states.iter().fold(0u64, |sum, n| sum.wrapping_add(*n)),
    );
    child::report("mapped", slabs.mapped);
}

#[test]
fn what_went_with_the_delay_is_not_there_to_be_purged() {
    const TEST: &str = "what_went_with_the_delay_is_not_there_to_be_purged";
    if child::case().is_some() {
        return request_and_rest();
    }
    let ended = Child::of(TEST, "rest")
        .env("HAKMEM_PURGE_DELAY_MS", "40")
        .run();
    let value = |key| ended.success().value::<usize>(key);
    assert!(
        value("counted") + 256 * KIB >= value("fell"),
        "less was counted than went: {ended:?}"
    );
    assert!(
        value("purged") <= value("went") + 256 * KIB && value("purged") < MIB,
        "purge counts what was gone before: {ended:?}"
    );
    assert_eq!(value("retained"), 0, "{ended:?}");
    assert_eq!(value("sum"), value("mapped"), "{ended:?}");
}
