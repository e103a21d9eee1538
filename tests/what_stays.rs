//! How much freed memory stays for the next use, as env-knobs.md has it under `HAKMEM_SS_RETAIN_MB` and `HAKMEM_LARGE_CACHE_MB`: in
//! a process of one thread whose clock stands, so that no memory goes for its age.

mod common;

use common::blocks::Block;
use common::child::{self, Child};
use common::{KIB, MIB, clock};
use hakmem_alloc::Hakmem;

static HAKMEM: Hakmem = Hakmem::new();

/// With what stands in front of it a mapping of 2 MiB.
const LARGE: usize = 2 * MIB - 4 * KIB;

fn fill(size: usize, bytes: usize) -> Vec<Block> {
    let blocks: Vec<_> = (0..bytes / size)
        .map(|_| Block::new(&HAKMEM, size))
        .collect();
    blocks.iter().for_each(Block::touch);
    blocks
}

/// MiB that stay of 64 MiB in blocks of `size`, beside `live` MiB in such blocks. None were freed before, so that nothing is known to
/// come back.
fn stay(size: usize, live: usize) -> f64 {
    clock::stop();
    let live = fill(size, live * MIB);
    let freed = fill(size, 64 * MIB);
    freed.into_iter().for_each(|block| block.free(&HAKMEM));
    let stats = hakmem_alloc::stats();
    let kept = match size > MIB {
        true => stats.large.cached_bytes,
        false => stats.bytes.retained - stats.large.cached_bytes,
    };
    live.into_iter().for_each(|block| block.free(&HAKMEM));
    kept as f64 / MIB as f64
}

fn play(case: &str) {
    let kept = match case {
        "slots, nothing live" => stay(32 * KIB, 0),
        "slots, 32 MiB live" => stay(32 * KIB, 32),
        "large, nothing live" => stay(LARGE, 0),
        "large, 40 MiB live" => stay(LARGE, 40),
        other => panic!("unknown case {other}"),
    };
    child::report("MiB", kept);
}

#[test]
fn as_much_stays_as_the_page_of_knobs_says() {
    let test = "as_much_stays_as_the_page_of_knobs_says";
    if let Some(case) = child::case() {
        return play(&case);
    }
    // A mapping or a slot more or less, and trims that end a quarter below the bound.
    for (case, least, most) in [
        ("slots, nothing live", 0.25, 0.5625),
        ("slots, 32 MiB live", 3.0, 4.0625),
        ("large, nothing live", 4.0, 6.0),
        ("large, 40 MiB live", 18.0, 20.0),
    ] {
        let child = Child::of(test, case)
            .env("HAKMEM_BACKGROUND", "0")
            .env("HAKMEM_THP", "never")
            .env("HAKMEM_HEAP_CACHE_KB", "0")
            .env("HAKMEM_GUARD_EVERY", "0");
        let kept: f64 = child.run().success().value("MiB");
        assert!((least..=most).contains(&kept), "{case}: {kept} MiB");
    }
}
