//! Whether a child's executable was built from the same sources as the parent.
//!
//! Rivals and real programs are executables of their own. One that was built before a workload changed would still run
//! it, in the old way, and the comparison would be unfair without anybody noticing. So each can be asked for a number
//! made of the sources that decide what a child does, and is refused where it differs.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::fail::Fail;
use crate::runner::run_limited;

/// The argument that asks a child for the number.
pub const QUESTION: &str = "--sources";

macro_rules! sources {
    ($($file:literal)*) => {
        #[cfg(test)]
        const FILES: &[&str] = &[$($file),*];

        /// The number of this build.
        pub const NUMBER: u64 = {
            let mut number = 0xcbf2_9ce4_8422_2325;
            $(number = mixed(number, include_bytes!($file));)*
            number
        };
    };
}

sources! {
    "child.rs" "latency.rs" "measure.rs" "memory.rs" "programs.rs" "raw.rs" "record.rs" "rng.rs"
    "workloads/batch.rs" "workloads/burst.rs" "workloads/cache_sets.rs" "workloads/cold_start.rs"
    "workloads/false_sharing.rs" "workloads/fragmentation.rs" "workloads/grow_vec.rs" "workloads/hand_over.rs"
    "workloads/huge.rs" "workloads/huge_loop.rs" "workloads/idle_return.rs" "workloads/larson.rs"
    "workloads/live_set.rs" "workloads/mod.rs" "workloads/pair.rs" "workloads/producer_consumer.rs"
    "workloads/program.rs" "workloads/random_mixed.rs" "workloads/replace.rs" "workloads/thread_churn.rs"
}

/// FNV-1a over words of eight bytes, which the compiler works out.
const fn mixed(mut number: u64, bytes: &[u8]) -> u64 {
    let mut rest = bytes;
    while let Some((word, after)) = rest.split_first_chunk::<8>() {
        rest = after;
        number = (number ^ u64::from_le_bytes(*word)).wrapping_mul(0x0100_0000_01b3);
    }
    while let Some((&byte, after)) = rest.split_first() {
        number = (number ^ byte as u64).wrapping_mul(0x0100_0000_01b3);
        rest = after;
    }
    (number ^ bytes.len() as u64).wrapping_mul(0x0100_0000_01b3)
}

/// What a child answers.
pub fn answer() -> String {
    format!("sources {NUMBER:016x}")
}

/// Refuses an executable that was built from other sources; `command` builds it anew. What cannot be asked at all will be
/// reported by its first run.
pub fn check(executable: &Path, command: &str) -> Result<(), Fail> {
    let mut question = Command::new(executable);
    question.arg(QUESTION);
    let Ok(finished) = run_limited(question, Duration::from_secs(20)) else {
        return Ok(());
    };
    if differs(
        finished.status.and_then(|s| s.code()),
        finished.stdout.trim(),
    ) {
        return Err(Fail::usage(format!(
            "{} was built from other sources than this bench-harness and would measure something else: run {command}",
            executable.display()
        )));
    }
    Ok(())
}

/// Code 3 is a child's that does not understand what it is asked.
fn differs(code: Option<i32>, said: &str) -> bool {
    code == Some(3) || (code == Some(0) && said.starts_with("sources ") && said != answer())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_workload_counts() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/workloads");
        for entry in std::fs::read_dir(directory).unwrap() {
            let name = format!("workloads/{}", entry.unwrap().file_name().to_string_lossy());
            assert!(
                FILES.contains(&name.as_str()),
                "{name} is not among the sources"
            );
        }
    }

    #[test]
    fn any_byte_changes_the_number() {
        let text: &[u8] = b"seventeen bytes..";
        for at in 0..text.len() {
            let mut other = text.to_vec();
            other[at] ^= 1;
            assert_ne!(mixed(1, text), mixed(1, &other));
        }
        assert_ne!(mixed(1, b"a\0"), mixed(1, b"a"));
    }

    #[test]
    fn only_what_answers_otherwise_is_refused() {
        assert!(differs(Some(0), "sources 0000000000000001"));
        assert!(differs(Some(3), ""));
        assert!(!differs(Some(0), &answer()));
        assert!(!differs(Some(9), "sources 0000000000000001"));
        assert!(!differs(None, ""));
        assert!(check(Path::new("/nonexistent/peer"), "x").is_ok());
    }
}
