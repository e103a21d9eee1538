//! Real programs that live off their allocator: well-known crates at work on data made here, a file each.
//!
//! A program is prepared outside the clock (its input is generated) and does its work inside it, everything it takes
//! freed again before it answers. The answer is a checksum of its result that is the same for the same scale under any
//! allocator and on any number of processors: another one than system malloc's is a failure.
#![deny(unsafe_code)]

mod image;
mod index;
mod json;
mod regex;
mod server;
mod store;

use bench_subject::program::Work;

/// Prepares the program of that name; at scale 1 its work takes a second or two.
pub fn prepare(name: &str, scale: f64) -> Result<Work, String> {
    match name {
        "json" => json::prepare(scale),
        "regex" => regex::prepare(scale),
        "index" => index::prepare(scale),
        "image" => image::prepare(scale),
        "server" => server::prepare(scale),
        "store" => store::prepare(scale),
        _ => Err(format!("there is no program {name:?}")),
    }
}

#[doc(hidden)]
pub use bench_subject;

/// The `main` of these programs with that global allocator.
#[macro_export]
macro_rules! on {
    ($kind:ty = $allocator:expr) => {
        #[global_allocator]
        static GLOBAL: $kind = $allocator;

        $crate::bench_subject::subject!("programs", &GLOBAL, programs: $crate::prepare);
    };
}

/// How many of `usual` there are at that scale, at least `least`.
fn scaled(usual: usize, scale: f64, least: usize) -> usize {
    ((usual as f64 * scale) as usize).max(least)
}

/// Fails with a sentence unless `found` is what is expected.
fn expect<T: PartialEq + std::fmt::Debug>(what: &str, found: T, expected: T) -> Result<(), String> {
    if found == expected { Ok(()) } else { Err(format!("wrong result: {what} is {found:?}, expected {expected:?}")) }
}

/// The checksum of a result: the same for the same bytes in the same order, in executables of one build.
pub(crate) use std::hash::{DefaultHasher as Checksum, Hasher};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_program_answers_the_same_for_the_same_work() {
        for name in ["json", "regex", "index", "image", "server", "store"] {
            let run = |scale| {
                let outcome = prepare(name, scale).and_then(|work| work());
                outcome.unwrap_or_else(|e| panic!("{name}: {e}"))
            };
            let (first, again, other) = (run(0.02), run(0.02), run(0.04));
            assert_eq!(first, again, "{name}");
            assert!(first.units > 0, "{name}");
            assert_ne!(first, other, "{name}: twice the work came to the same");
        }
    }

    #[test]
    fn a_wrong_result_is_an_error() {
        assert_eq!(expect("their number", 3, 4).unwrap_err(), "wrong result: their number is 3, expected 4");
    }
}
