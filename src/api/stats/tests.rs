//! The text and the JSON say what the snapshot says.

use std::string::{String, ToString};
use std::vec::Vec;

use serde_json::Value;

use crate::os::sys::Errno;

use super::*;

/// A snapshot in which every number is different.
pub(super) fn sample() -> Stats {
    let mut stats = Stats::empty();
    stats.superslabs = SuperslabStats {
        mapped: 60,
        in_use: 30,
        retained: 20,
        purged: 10,
        pools: 4,
    };
    for (i, class) in stats.classes.iter_mut().enumerate().skip(1).step_by(3) {
        class.slabs = 1000 + i as u64;
        class.live_blocks = 2000 + i as u64;
    }
    stats.large = LargeStats {
        live_blocks: 3,
        live_bytes: 5 << 20,
        cached_bytes: 6 << 20,
    };
    stats.heaps = HeapStats { live: 7, idle: 8 };
    stats.batches = BatchStats {
        posted: 11,
        drained: 12,
    };
    stats.bytes = ByteStats {
        mapped: 14 << 30,
        retained: 16 << 20,
        metadata: 25 << 20,
        returned: 17 << 10,
        held: 26 << 20,
        peak: 27 << 20,
    };
    stats.huge_pages = HugePageStats {
        requested_bytes: 18 << 21,
        achieved_bytes: Some(19 << 20),
    };
    stats.process = ProcessStats {
        resident_bytes: Some(28 << 20),
        peak_resident_bytes: Some(29 << 20),
        page_faults: Some(30),
    };
    stats.prefault = PrefaultStats {
        calls: 21,
        bytes: 22 << 20,
    };
    stats.failures[0] = Failure::new(libc::ENOMEM, 23);
    stats.failures[1] = Failure::new(4095, 24);
    stats.failed_calls[0] = FailedCall::new("mmap", libc::ENOMEM, 23);
    stats.failed_calls[2] = FailedCall::new("madvise collapse", 4095, 24);
    stats
}

fn json(stats: &Stats) -> Value {
    let mut text = String::new();
    stats
        .write_json(&mut text)
        .expect("a string takes everything");
    assert!(!text.contains('\n'), "one line");
    serde_json::from_str(&text).expect("valid JSON")
}

#[test]
fn totals_are_the_sums_of_the_parts() {
    let stats = sample();
    let classes: u64 = stats
        .classes
        .iter()
        .map(|c| c.live_blocks * c.block_bytes)
        .sum();
    assert!(classes > 0);
    assert_eq!(stats.live_bytes(), classes + (5 << 20));
    assert_eq!(
        stats.live_blocks(),
        stats.classes.iter().map(|c| c.live_blocks).sum::<u64>() + 3
    );
    assert_eq!(
        stats.slabs(),
        stats.classes.iter().map(|c| c.slabs).sum::<u64>()
    );
}

#[test]
fn classes_have_the_sizes_of_the_size_classes() {
    let stats = Stats::empty();
    assert_eq!(stats.classes[0].block_bytes, 0);
    for class in 1..CLASSES {
        assert_eq!(
            stats.classes[class].block_bytes as usize,
            size_class::size(size_class::Class::new(class))
        );
    }
}

#[test]
fn json_holds_every_number() {
    let stats = sample();
    let json = json(&stats);
    let number = |path: &str| {
        json.pointer(path)
            .and_then(Value::as_u64)
            .unwrap_or_else(|| panic!("no {path} in {json}"))
    };
    for (path, expected) in [
        ("/schema", 1),
        ("/live_bytes", stats.live_bytes()),
        ("/live_blocks", stats.live_blocks()),
        ("/slabs", stats.slabs()),
        ("/superslabs/mapped", 60),
        ("/superslabs/in_use", 30),
        ("/superslabs/retained", 20),
        ("/superslabs/purged", 10),
        ("/superslabs/pools", 4),
        ("/large/live_blocks", 3),
        ("/large/live_bytes", 5 << 20),
        ("/large/cached_bytes", 6 << 20),
        ("/heaps/live", 7),
        ("/heaps/idle", 8),
        ("/batches/posted", 11),
        ("/batches/drained", 12),
        ("/bytes/mapped", 14 << 30),
        ("/bytes/retained", 16 << 20),
        ("/bytes/metadata", 25 << 20),
        ("/bytes/returned", 17 << 10),
        ("/bytes/held", 26 << 20),
        ("/bytes/peak", 27 << 20),
        ("/huge_pages/requested_bytes", 18 << 21),
        ("/huge_pages/achieved_bytes", 19 << 20),
        ("/process/resident_bytes", 28 << 20),
        ("/process/peak_resident_bytes", 29 << 20),
        ("/process/page_faults", 30),
        ("/prefault/calls", 21),
        ("/prefault/bytes", 22 << 20),
        ("/failures/ENOMEM", 23),
        ("/failures/errno 4095", 24),
        ("/failed_calls/0/count", 23),
        ("/failed_calls/1/count", 24),
    ] {
        assert_eq!(number(path), expected, "{path}");
    }
    assert_eq!(json["failed_calls"][0]["call"], "mmap");
    assert_eq!(json["failed_calls"][1]["errno"], "errno 4095");
    let classes = json["classes"].as_array().expect("a list");
    let used: Vec<_> = stats.classes.iter().filter(|c| c.slabs != 0).collect();
    assert_eq!(classes.len(), used.len());
    for (class, expected) in classes.iter().zip(used) {
        assert_eq!(class["block_bytes"], expected.block_bytes);
        assert_eq!(class["slabs"], expected.slabs);
        assert_eq!(class["live_blocks"], expected.live_blocks);
        assert_eq!(class["live_bytes"], expected.live_bytes());
    }
}

#[test]
fn json_of_nothing_and_of_the_largest_numbers_is_valid() {
    let json_of_nothing = json(&Stats::empty());
    assert_eq!(json_of_nothing["classes"], serde_json::json!([]));
    assert_eq!(json_of_nothing["failures"], serde_json::json!({}));
    assert_eq!(json_of_nothing["failed_calls"], serde_json::json!([]));
    assert_eq!(json_of_nothing["huge_pages"]["achieved_bytes"], Value::Null);
    assert_eq!(json_of_nothing["process"]["page_faults"], Value::Null);
    let mut stats = Stats::empty();
    stats.bytes.mapped = u64::MAX;
    assert_eq!(json(&stats)["bytes"]["mapped"], u64::MAX);
}

#[test]
fn the_text_says_it_in_words() {
    const SHORT: &str = "\
held        26.0 MiB for blocks, 27.0 MiB at most; 16.0 MiB of it retained, 25.0 MiB for tables
process     28.0 MiB resident, 29.0 MiB at most; 30 page faults so far
mapped      14.0 GiB; 17.0 KiB returned so far
superslabs  60 mapped: 30 in use, 20 retained, 10 purged
large       3 blocks, 5.0 MiB; 6.0 MiB cached
heaps       7 live, 8 idle
batches     11 posted, 12 drained so far
huge pages  36.0 MiB asked for, 19.0 MiB given
prefault    21 calls, 22.0 MiB so far
failures    23 × mmap: ENOMEM, 24 × madvise collapse: errno 4095
";
    let stats = sample();
    let text = stats.to_string();
    let (live, rest) = text.split_once('\n').expect("more than a line");
    assert!(live.starts_with("live        "), "{live}");
    assert_eq!(rest, SHORT);
    let full = std::format!("{stats:#}");
    let table = full
        .strip_prefix(&text)
        .expect("the short form comes first");
    let mut rows = table.lines();
    assert_eq!(
        rows.next(),
        Some("block bytes     slabs  live blocks         live")
    );
    assert_eq!(
        rows.next(),
        Some("         16      1001         2001     31.2 KiB")
    );
    assert!(
        !table.contains("         32 "),
        "a class without slabs has no row"
    );
}

#[test]
fn what_never_happened_has_no_line() {
    let text = std::format!("{:#}", Stats::empty());
    let words: Vec<_> = text.lines().filter_map(|l| l.split(' ').next()).collect();
    assert_eq!(words, ["live", "held", "mapped", "superslabs", "heaps"]);
    let mut stats = Stats::empty();
    stats.huge_pages.requested_bytes = 1;
    assert!(
        stats
            .to_string()
            .contains("1 B asked for, not known how much was given\n")
    );
}

/// The counts of the `os` layer arrive, by call and summed by errno.
#[test]
#[allow(unsafe_code)]
fn refusals_and_prefaults_are_taken_over() {
    use crate::os::fake::{self, Call};
    use crate::os::mapping::{HUGE_PAGE, map_aligned, unmap};
    use crate::os::prefault;
    use crate::os::sys;
    // Errnos that no other test of this process meets.
    let (first, second) = (Errno(3101), Errno(3102));
    let map = map_aligned(2 * HUGE_PAGE, HUGE_PAGE, None).expect("a few MiB");
    let mut before = Stats::empty();
    before.take_tally();
    for (call, errno) in [
        (Call::Munmap, first),
        (Call::Munmap, first),
        (Call::Munmap, second),
    ] {
        fake::fail_kind(call, 1, errno);
        // SAFETY: fails before it reaches the kernel.
        assert_eq!(unsafe { sys::munmap(map.addr, map.len) }, Err(errno));
    }
    // Called before, so that the refusal meets the populating itself. If the kernel cannot populate, the range is touched,
    // which nothing refuses.
    let refused = prefault::populate_supported();
    fake::fail_kind(Call::Madvise, 1, first);
    // SAFETY: the mapping is this test's own.
    let outcome = unsafe { prefault::populate(map.addr, HUGE_PAGE) };
    fake::clear();
    assert_eq!(outcome, if refused { Err(first) } else { Ok(HUGE_PAGE) });
    // SAFETY: as above.
    let done = unsafe { prefault::fill(map.addr, map.len) };
    assert_eq!(done, map.len);
    let mut after = Stats::empty();
    after.take_tally();
    let by_errno = |errno: Errno| {
        let all = after.failures.iter().filter(|f| f.errno == errno.0);
        all.map(|f| f.count).sum::<u64>()
    };
    assert_eq!(by_errno(first), 2 + u64::from(refused));
    assert_eq!(by_errno(second), 1);
    let by_call = after
        .failed_calls
        .iter()
        .find(|f| f.call == "munmap" && f.errno == first.0);
    assert_eq!(by_call.map(|f| f.count), Some(2));
    // Other tests prefault too.
    assert!(after.prefault.calls >= before.prefault.calls + 2);
    assert!(after.prefault.bytes >= before.prefault.bytes + map.len as u64);
    // SAFETY: nobody refers into it.
    unsafe { unmap(map) }.expect("munmap");
}

#[test]
fn more_reasons_than_places_are_added_to_the_last() {
    let mut stats = Stats::empty();
    for (i, failure) in stats.failures.iter_mut().enumerate() {
        *failure = Failure::new(4000 + i as i32, 1);
    }
    let before: u64 = stats.failures.iter().map(|f| f.count).sum();
    crate::os::tally::refused(crate::os::tally::Refused::Msync, Errno(3201));
    stats.take_tally();
    let taken: u64 = stats.failed_calls.iter().map(|f| f.count).sum();
    assert!(taken >= 1);
    assert_eq!(
        stats.failures.iter().map(|f| f.count).sum::<u64>(),
        before + taken
    );
}
