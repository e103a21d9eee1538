//! Replays the stored inputs of the fuzzer (`fuzz/`) without a fuzzer, and some random ones.
//!
//! Behaviour imitated: anything a fuzzer finds. `ALLOC_TEST_SEED` repeats a run.

mod common;

use common::child::{self, Child};
use common::clock;
use common::faulty::{Fault, Faulty};
use common::script::{self, EveryDoor};
use common::{factor, scale};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use std::path::Path;

fn corpus() -> Vec<(String, Vec<u8>)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/calls");
    let entries = std::fs::read_dir(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    let read = |entry: std::io::Result<std::fs::DirEntry>| {
        let path = entry.expect("a directory that can be read").path();
        let bytes = std::fs::read(&path).expect("a file that can be read");
        (path.display().to_string(), bytes)
    };
    entries.map(read).collect()
}

/// Whether the test is to be done here: in a process where nobody else calls the allocator, so that what statistics say
/// adds up, and the same bytes make the same calls.
fn alone(test: &'static str) -> bool {
    if child::case().is_some() {
        clock::stop();
        return true;
    }
    let child = Child::of(test, "alone").env("HAKMEM_BACKGROUND", "0");
    child.run().success();
    false
}

#[test]
fn the_stored_inputs_of_the_fuzzer_pass() {
    if !alone("the_stored_inputs_of_the_fuzzer_pass") {
        return;
    }
    let corpus = corpus();
    assert!(corpus.len() >= 20, "{} inputs", corpus.len());
    let alloc = EveryDoor::default();
    for (name, bytes) in corpus {
        script::run(&alloc, &bytes).unwrap_or_else(|e| panic!("{name}: {e}"));
    }
}

#[test]
fn random_inputs_pass() {
    if !alone("random_inputs_pass") {
        return;
    }
    let seed =
        std::env::var("ALLOC_TEST_SEED").map_or_else(|_| 7, |text| text.parse().expect("a number"));
    let mut rng = SmallRng::seed_from_u64(seed);
    for round in 0..scale(40, 10) * factor() {
        let mut bytes = vec![0; 6000];
        rng.fill_bytes(&mut bytes);
        let result = script::run(&EveryDoor::default(), &bytes);
        result.unwrap_or_else(|e| panic!("ALLOC_TEST_SEED={seed}, round {round}: {e}"));
    }
}

/// An allocator that goes wrong now and then is seen by what the stored inputs call.
#[test]
fn the_stored_inputs_catch_planted_faults() {
    let corpus = corpus();
    for fault in Fault::ALL {
        // Often enough that an input of a few hundred calls meets it.
        let faulty = Faulty::new(fault, 50, script::MOST);
        let caught = corpus
            .iter()
            .any(|(_, bytes)| script::run(&faulty, bytes).is_err());
        assert!(caught, "{fault:?} went unseen");
    }
}
