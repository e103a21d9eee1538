//! Calls to the whole interface, held against the shadow model: libFuzzer looks for bytes that `tests/common/script.rs`
//! reads as calls with a wrong answer. What it came upon is in `tests/corpus/calls`, and `tests/scripts.rs` repeats it.
//!
//! `FUZZ_PLANT=overlap` has a broken allocator in place of ours: a fuzzer that does not find that finds nothing.

#![no_main]

#[path = "../../tests/common/mod.rs"]
mod common;

use common::clock;
use common::faulty::{Fault, Faulty};
use common::script::{self, EveryDoor};
use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;

static PLANTED: LazyLock<bool> = LazyLock::new(|| {
    clock::stop();
    std::env::var("FUZZ_PLANT").is_ok_and(|fault| fault == "overlap")
});

fuzz_target!(|bytes: &[u8]| {
    let result = match *PLANTED {
        true => script::run(&Faulty::new(Fault::Overlap, 50, script::MOST), bytes),
        false => script::run(&EveryDoor::default(), bytes),
    };
    if let Err(error) = result {
        panic!("{error}");
    }
});
