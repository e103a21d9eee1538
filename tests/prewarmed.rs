//! The accounting of superslabs that were prewarmed, used in part, and given back after the delay.
//!
//! Behaviour imitated: a service that prewarms at its start, handles a first request that needs a fraction of it, rests until
//! the purge delay has passed, and asks for everything to be given back.
//!
//! Also the huge pages of what is made resident as a whole, under `HAKMEM_THP=auto`.

mod common;

use common::blocks::Block;
use common::child::{self, Child};
use common::{KIB, MIB, clock, mem};
use hakmem_alloc::{Hakmem, prewarm, purge, stats};

static HAKMEM: Hakmem = Hakmem::new();

fn request_and_rest() {
    clock::stop();
    Block::new(&HAKMEM, 100).free(&HAKMEM);
    assert_eq!(prewarm(1), 1);
    let blocks: Vec<_> = (0..16).map(|_| Block::new(&HAKMEM, 120 * 1000)).collect();
    blocks.into_iter().for_each(|block| block.free(&HAKMEM));
    let (rested, returned) = (mem::rss(), stats().bytes.returned);
    clock::pass(100);
    // Slow paths, which look at the clock now and then: more blocks than a bin holds.
    for _ in 0..400 {
        let blocks: Vec<_> = (0..2000).map(|_| Block::new(&HAKMEM, 64)).collect();
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

/// A small program under auto has no huge page, unless a setting makes superslabs resident as a whole anyway.
#[test]
fn what_is_resident_as_a_whole_is_a_huge_page_under_auto() {
    const TEST: &str = "what_is_resident_as_a_whole_is_a_huge_page_under_auto";
    if let Some(case) = child::case() {
        let before = mem::rss();
        if case == "prewarm" {
            assert_eq!(prewarm(3), 3);
        }
        let faults = mem::thread_faults();
        let blocks: Vec<_> = (0..40).map(|_| Block::new(&HAKMEM, 60 * KIB)).collect();
        child::report("faults", mem::thread_faults() - faults);
        child::report("grown", mem::rss().saturating_sub(before));
        let stats = stats();
        child::report("mapped", stats.superslabs.mapped << 21);
        child::report("requested", stats.huge_pages.requested_bytes);
        child::report("achieved", stats.huge_pages.achieved_bytes.unwrap_or(0));
        blocks.into_iter().for_each(|block| block.free(&HAKMEM));
        return;
    }
    let run = |policy, thp| {
        let child = Child::of(TEST, policy).env("HAKMEM_THP", thp);
        let known = if policy == "prewarm" { "off" } else { policy };
        child.env("HAKMEM_SS_PREFAULT", known).run()
    };
    let has_huge = |policy| {
        let always = run(policy, "always");
        always.success().value::<usize>("achieved") > 0
    };
    for policy in ["touch", "memset", "populate", "collapse", "prewarm"] {
        let (auto, never) = (run(policy, "auto"), run(policy, "never"));
        let of = |key| auto.success().value::<usize>(key);
        assert_eq!(of("requested"), of("mapped"), "{policy}: {auto:?}");
        // No byte more than the same on OS pages.
        let small = never.success().value::<usize>("grown");
        assert!(of("grown") <= small + 256 * KIB, "{policy}: {auto:?}");
        assert_eq!(never.value::<usize>("requested"), 0, "{policy}: {never:?}");
        if has_huge(policy) {
            assert_eq!(of("achieved"), of("mapped"), "{policy}: {auto:?}");
            // 40 blocks of 60 KiB are 600 OS pages.
            assert!(of("faults") < 150, "{policy}: {auto:?}");
        }
    }
    for policy in ["off", "map_populate", "async"] {
        let auto = run(policy, "auto");
        let of = |key| auto.success().value::<usize>(key);
        assert_eq!(
            (of("requested"), of("achieved")),
            (0, 0),
            "{policy}: {auto:?}"
        );
    }
}
