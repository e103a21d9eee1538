//! Statistics as a program sees them: exact where they promise to be, and printed at exit if the environment asks.
//!
//! The blocks counted here have sizes that nothing else in a test process uses, so that other threads of the test harness do
//! not disturb.

mod common;

use common::child::command;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::mpsc;
use std::thread;

use hakmem_alloc::{Hakmem, Stats, stats, stats_quick};
use serde_json::Value;

#[global_allocator]
static GLOBAL: Hakmem = Hakmem::new();

/// Slabs and live blocks of the class that serves `size`.
fn of_size(stats: &Stats, size: usize) -> (u64, u64) {
    let class = stats
        .classes
        .iter()
        .find(|class| class.block_bytes >= size as u64)
        .expect("a class for the size");
    (class.slabs, class.live_blocks)
}

fn blocks(count: usize, size: usize) -> Vec<Vec<u8>> {
    (0..count).map(|i| vec![i as u8; size]).collect()
}

#[test]
fn live_blocks_are_counted_to_the_last_one() {
    const SIZE: usize = 5_300;
    let (_, before) = of_size(&stats(), SIZE);
    let held = blocks(1_000, SIZE);
    let (slabs, now) = of_size(&stats(), SIZE);
    assert_eq!(now - before, 1_000);
    assert!(
        slabs as usize >= 1_000 * SIZE / (64 << 10),
        "{slabs} slabs hold 1,000 blocks"
    );
    drop(held);
    assert_eq!(of_size(&stats(), SIZE).1, before);
}

#[test]
fn live_blocks_are_exact_after_threads_have_freed_across() {
    const SIZE: usize = 3_300;
    const KEPT: usize = 37;
    let (_, before) = of_size(&stats(), SIZE);
    let (to_freer, from_maker) = mpsc::channel::<Vec<Vec<u8>>>();
    let freer = thread::spawn(move || {
        let mut kept = Vec::new();
        for mut sent in from_maker {
            kept.extend(sent.pop());
        }
        kept
    });
    let maker = thread::spawn(move || {
        for _ in 0..KEPT {
            to_freer.send(blocks(100, SIZE)).expect("the freer listens");
        }
    });
    maker.join().expect("the maker");
    let kept = freer.join().expect("the freer");
    assert_eq!(of_size(&stats(), SIZE).1 - before, KEPT as u64);
    drop(kept);
    assert_eq!(of_size(&stats(), SIZE).1, before);
    let stats = stats();
    assert!(
        stats.batches.posted > 0,
        "99 of 100 blocks returned through an inbox"
    );
}

#[test]
fn large_blocks_are_counted_in_bytes() {
    const SIZE: usize = 77 << 20;
    let held = vec![1u8; SIZE];
    let now = stats();
    assert!(now.large.live_blocks >= 1 && now.large.live_bytes >= SIZE as u64);
    assert!(now.bytes.mapped >= SIZE as u64);
    assert!(now.live_bytes() >= SIZE as u64);
    drop(held);
    let after = stats();
    assert!(
        after.large.live_bytes + SIZE as u64
            <= now.large.live_bytes + after.large.cached_bytes + (64 << 20)
    );
}

/// What lies behind the ends of freed large blocks holds no memory.
#[test]
fn no_more_is_retained_than_held() {
    drop(blocks(4, (1 << 20) + 100_000));
    // Other tests may give memory back between the two figures of one answer.
    let mut answers = (0..1000).map(|_| stats_quick().bytes);
    assert!(answers.any(|bytes| bytes.retained <= bytes.held));
}

#[test]
fn states_of_superslabs_add_up() {
    let held = blocks(2_000, 2_100);
    let stats = stats();
    let states = stats.superslabs;
    assert!(states.in_use > 0);
    // Those that a thread is mapping or purging at this moment are in no state.
    assert!(states.in_use + states.retained + states.purged <= states.mapped);
    assert!(stats.bytes.mapped >= states.mapped * (2 << 20));
    assert!(stats.heaps.live >= 1);
    drop(held);
}

/// What prefaults is counted, whoever prefaults: superslabs and regions; and what is refused.
#[test]
fn prefaults_and_refusals_are_counted() {
    use hakmem_alloc::region::Region;
    let before = stats_quick();
    assert_eq!(before.huge_pages.achieved_bytes, None, "nobody was asked");
    let had = hakmem_alloc::prewarm(2) as u64;
    let after = stats_quick();
    assert!(had > 0, "4 MiB are to be had");
    assert!(after.prefault.calls >= before.prefault.calls + had);
    assert!(after.prefault.bytes >= before.prefault.bytes + (had << 21));

    let region = Region::builder().len(3 << 20).map().expect("a region");
    region.prefault().expect("brought in");
    let last = stats_quick();
    assert!(last.prefault.calls > after.prefault.calls);
    assert!(last.prefault.bytes >= after.prefault.bytes + (3 << 20));

    // More than any address space has.
    let refused = Region::builder().len(1 << 62).map();
    assert!(refused.is_err());
    let refused = |stats: &Stats| {
        let of_mmap = stats.failed_calls.iter().filter(|f| f.call == "mmap");
        of_mmap.map(|f| f.count).sum::<u64>()
    };
    let now = stats();
    assert!(refused(&now) > refused(&last), "{now}");
    let enomem = now.failures.iter().find(|f| f.errno == libc::ENOMEM);
    assert!(enomem.is_some_and(|f| f.count > 0), "{now}");
}

/// Runs one test of this file in a process of its own with these variables.
fn child(variables: &[(&str, &str)]) -> Output {
    let mut command = command(std::env::current_exe().expect("a path to this binary"));
    command.args(["--exact", "live_blocks_are_counted_to_the_last_one"]);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("HAKMEM_") {
            command.env_remove(name);
        }
    }
    let output = command
        .envs(variables.iter().copied())
        .output()
        .expect("the test binary starts");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("UTF-8 on stderr")
}

fn check_json(text: &str) {
    assert_eq!(text.lines().count(), 1, "one line: {text}");
    let json: Value = serde_json::from_str(text).expect("valid JSON");
    assert_eq!(json["schema"], 1);
    assert!(json["superslabs"]["mapped"].as_u64() > Some(0), "{json}");
    assert!(json["live_bytes"].as_u64() > Some(0), "{json}");
    assert!(json["heaps"]["live"].as_u64() > Some(0), "{json}");
    assert!(
        json["classes"]
            .as_array()
            .is_some_and(|classes| !classes.is_empty()),
        "{json}"
    );
}

#[test]
fn nothing_is_printed_unless_asked() {
    assert_eq!(stderr(&child(&[])), "");
    assert_eq!(
        stderr(&child(&[
            ("HAKMEM_STATS", "0"),
            ("HAKMEM_STATS_FILE", "/tmp/never")
        ])),
        ""
    );
}

#[test]
fn text_goes_to_stderr_at_exit() {
    for (mode, tables) in [("1", 0), ("full", 1)] {
        let text = stderr(&child(&[("HAKMEM_STATS", mode)]));
        assert!(text.starts_with("hakmem: statistics of process "), "{text}");
        let lines = |word: &str| text.lines().filter(|line| line.starts_with(word)).count();
        for word in ["live ", "held ", "process ", "superslabs ", "heaps "] {
            assert_eq!(lines(word), 1, "{word} in {text}");
        }
        assert_eq!(lines("block bytes "), tables, "{text}");
        assert!(tables == 1 || text.lines().count() <= 12, "short: {text}");
    }
}

#[test]
fn json_goes_to_stderr_at_exit() {
    check_json(&stderr(&child(&[("HAKMEM_STATS", "json")])));
}

/// A directory that is gone when dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("hakmem-stats-test-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).expect("a scratch directory");
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed stays in the temporary directory.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn as_str(path: &Path) -> &str {
    path.to_str().expect("a UTF-8 path")
}

#[test]
fn a_file_of_its_own_for_each_process() {
    let scratch = Scratch::new("file");
    let pattern = scratch.0.join("stats-%p.json");
    for _ in 0..2 {
        let output = child(&[
            ("HAKMEM_STATS", "json"),
            ("HAKMEM_STATS_FILE", as_str(&pattern)),
        ]);
        assert_eq!(stderr(&output), "", "all went to the file");
    }
    let files: Vec<_> = fs::read_dir(&scratch.0)
        .expect("readable")
        .map(|e| e.expect("an entry").path())
        .collect();
    assert_eq!(files.len(), 2, "{files:?}");
    for file in files {
        let name = file
            .file_name()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        let pid = name
            .strip_prefix("stats-")
            .and_then(|n| n.strip_suffix(".json"))
            .expect("the pattern's name");
        pid.parse::<u32>().expect("a process id");
        check_json(&fs::read_to_string(file).expect("readable"));
    }
}

#[test]
fn a_file_that_cannot_be_written_costs_one_line_and_the_statistics_come_to_stderr() {
    let scratch = Scratch::new("missing");
    let file = scratch.0.join("no/such/directory");
    let text = stderr(&child(&[
        ("HAKMEM_STATS", "json"),
        ("HAKMEM_STATS_FILE", as_str(&file)),
    ]));
    let (line, json) = text.split_once('\n').expect("two lines");
    assert_eq!(
        line,
        format!(
            "hakmem: HAKMEM_STATS_FILE={}: ENOENT; using stderr",
            as_str(&file)
        )
    );
    check_json(json);
}
