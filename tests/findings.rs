//! What `HAKMEM_VERBOSE=1` says when something is refused. Each cause is provoked in a process of its own, if this machine
//! allows it, and nothing is said if nothing is refused.

mod common;

use common::child::{self, Child, Ended};
use common::{KIB, MIB};
use hakmem_alloc::region::{Backing, HugeWish, HugetlbSize, Region};
use hakmem_alloc::{prewarm, raw, stats_quick};

/// The lines that are not settings.
fn findings(ended: &Ended) -> Vec<&str> {
    let setting = |line: &str| {
        let name = line
            .strip_prefix("hakmem: ")
            .and_then(|l| l.split('=').next());
        name.is_some_and(|n| n.starts_with("HAKMEM_")) && line.ends_with(')')
    };
    ended
        .success()
        .stderr
        .lines()
        .filter(|line| line.starts_with("hakmem: ") && !setting(line))
        .collect()
}

fn verbose(test: &'static str, case: &str) -> Child {
    Child::of(test, case).env("HAKMEM_VERBOSE", "1")
}

/// Asserts that there is one finding, and that it contains this.
fn one(ended: &Ended, part: &str) {
    let found = findings(ended);
    assert!(found.len() == 1 && found[0].contains(part), "{found:?}");
}

/// Begins superslabs on huge pages twice: a finding is reported once.
fn grow() {
    for _ in 0..2 {
        child::report("superslabs", prewarm(2));
    }
    let region = Region::builder().len(8 * MIB).huge(HugeWish::Want).map();
    let done = region.expect("a region").prefault().expect("brought in");
    child::report("huge", done.huge_bytes);
}

#[test]
fn where_everything_was_had_nothing_is_found() {
    const TEST: &str = "where_everything_was_had_nothing_is_found";
    if child::case().is_some() {
        return grow();
    }
    let ended = verbose(TEST, "plain").env("HAKMEM_THP", "always").run();
    if ended.success().value::<usize>("huge") < 8 * MIB {
        return; // A machine without huge pages: what it says is the next test's.
    }
    assert_eq!(findings(&ended), Vec::<&str>::new());
    // Nobody asked to hear of anything.
    let quiet = Child::of(TEST, "quiet").env("HAKMEM_THP", "always").run();
    let lines = quiet.success().stderr.lines();
    assert_eq!(lines.filter(|l| l.starts_with("hakmem")).count(), 0);
}

#[test]
fn huge_pages_forbidden_to_the_process() {
    const TEST: &str = "huge_pages_forbidden_to_the_process";
    if let Some(case) = child::case() {
        // SAFETY: sets a flag of this process, which runs nothing else.
        unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0) };
        if case == "never" {
            child::report("superslabs", prewarm(2));
            return;
        }
        return grow();
    }
    one(
        &verbose(TEST, "always").env("HAKMEM_THP", "always").run(),
        "PR_SET_THP_DISABLE",
    );
    // Who did not ask for them misses nothing.
    let never = verbose(TEST, "never").env("HAKMEM_THP", "never").run();
    assert_eq!(findings(&never), Vec::<&str>::new());
}

/// From the pool to transparent huge pages, and from there to OS pages: each step is a line for a program that asked for the
/// pool.
#[test]
fn each_step_down_from_the_pool_is_said() {
    const TEST: &str = "each_step_down_from_the_pool_is_said";
    if let Some(case) = child::case() {
        if case == "forbidden" {
            // SAFETY: sets a flag of this process, which runs nothing else.
            unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0) };
        }
        return grow();
    }
    let run = |case| {
        let child = Child::of(TEST, case).env("HAKMEM_HUGETLB", "2m");
        child.env("HAKMEM_THP", "always").run()
    };
    let ended = run("forbidden");
    let found = findings(&ended);
    assert!(
        found.len() == 2
            && found[0].starts_with("hakmem: HAKMEM_HUGETLB=2m: refused for blocks")
            && found[1].contains("using OS pages: PR_SET_THP_DISABLE"),
        "{found:?}"
    );
    let ended = run("allowed");
    if ended.success().value::<usize>("huge") >= 8 * MIB {
        assert_eq!(
            findings(&ended).len(),
            1,
            "huge pages were had: {}",
            ended.stderr
        );
    }
}

#[test]
fn address_space_used_up() {
    const TEST: &str = "address_space_used_up";
    if child::case().is_some() {
        // Small first, so that the end is met by superslabs and by huge blocks alike.
        while !raw::alloc(100 * KIB, 16).is_null() {}
        assert!(raw::alloc(64 * MIB, 16).is_null());
        let failed = stats_quick().failed_calls;
        child::report(
            "refused",
            failed.iter().filter(|f| f.call == "mmap").count(),
        );
        return;
    }
    let ended = verbose(TEST, "limited")
        .address_space(300 * MIB as u64)
        .run();
    one(&ended, "ENOMEM: RLIMIT_AS is 300 MiB");
    assert!(ended.value::<usize>("refused") > 0);
    // Null although the machine has memory is explained to everybody, once.
    let ended = Child::of(TEST, "limited")
        .address_space(300 * MIB as u64)
        .run();
    one(&ended, "ENOMEM: RLIMIT_AS is 300 MiB");
}

#[test]
fn more_than_the_machine_has_is_refused_in_silence() {
    const TEST: &str = "more_than_the_machine_has_is_refused_in_silence";
    if child::case().is_some() {
        assert!(raw::alloc(1 << 60, 16).is_null());
        return;
    }
    let ended = Child::of(TEST, "absurd").run();
    assert!(findings(&ended).is_empty(), "{}", ended.stderr);
}

#[test]
fn memory_that_may_not_be_locked() {
    const TEST: &str = "memory_that_may_not_be_locked";
    if child::case().is_some() {
        let limit = libc::rlimit {
            rlim_cur: 64 << 10,
            rlim_max: 64 << 10,
        };
        // SAFETY: a limit of this process, and its identity: root is not bound by the limit.
        unsafe {
            assert_eq!(libc::setrlimit(libc::RLIMIT_MEMLOCK, &limit), 0);
            if libc::geteuid() == 0 {
                assert_eq!(libc::setresuid(65534, 65534, 65534), 0);
            }
        }
        let region = Region::builder().len(4 * MIB).lock(true).map();
        let refused = region.expect("a region").prefault();
        child::report("refused", refused.is_err());
        return;
    }
    let ended = verbose(TEST, "locked").run();
    assert!(ended.success().value::<bool>("refused"));
    one(&ended, "RLIMIT_MEMLOCK is 64 KiB");
}

#[test]
fn an_alignment_that_is_none() {
    const TEST: &str = "an_alignment_that_is_none";
    if child::case().is_some() {
        for align in [48, 0, 3 * MIB] {
            assert!(hakmem_alloc::raw::alloc(100, align).is_null());
        }
        return;
    }
    let ended = verbose(TEST, "none").run();
    one(
        &ended,
        "alignment 48: expected a power of two; null is returned",
    );
}

#[test]
fn a_pool_without_pages() {
    const TEST: &str = "a_pool_without_pages";
    let free = "/sys/kernel/mm/hugepages/hugepages-1048576kB/free_hugepages";
    if std::fs::read_to_string(free).is_ok_and(|n| n.trim() != "0") {
        return;
    }
    if child::case().is_some() {
        let backing = Backing::Hugetlb(HugetlbSize::OneGiB);
        let region = Region::builder().len(1 << 30).backing(backing).map();
        child::report("refused", region.is_err());
        return;
    }
    let ended = verbose(TEST, "empty").run();
    assert!(ended.success().value::<bool>("refused"));
    one(&ended, "0 pages of 1024 MiB are free");
}

#[test]
fn populating_ahead_without_a_thread() {
    const TEST: &str = "populating_ahead_without_a_thread";
    if child::case().is_some() {
        for _ in 0..64 * MIB / (100 * KIB) {
            assert!(!raw::alloc(100 * KIB, 16).is_null());
        }
        return;
    }
    let run = |background| {
        verbose(TEST, background)
            .env("HAKMEM_SS_PREFAULT", "async")
            .env("HAKMEM_BACKGROUND", background)
            .run()
    };
    one(&run("0"), "HAKMEM_BACKGROUND=0 forbids");
    assert_eq!(findings(&run("1")), Vec::<&str>::new());
}

/// Gives this thread its own view of /sys/fs/cgroup, in which its control groups have 200 MiB and use 180 of them. The real
/// groups are not touched, because they belong to the machine's owner. Returns whether that is possible.
fn see_a_tight_group() -> bool {
    let (none, cgroup) = (c"none".as_ptr(), c"/sys/fs/cgroup".as_ptr());
    let nothing = std::ptr::null();
    // SAFETY: plain calls; what is mounted is seen by this thread alone, and gone with it.
    let hidden = unsafe {
        libc::unshare(libc::CLONE_NEWNS) == 0
            && libc::mount(
                none,
                c"/".as_ptr(),
                nothing,
                libc::MS_REC | libc::MS_PRIVATE,
                nothing.cast(),
            ) == 0
            && libc::mount(none, cgroup, c"tmpfs".as_ptr(), 0, nothing.cast()) == 0
    };
    if !hidden {
        return false;
    }
    let groups =
        std::fs::read_to_string("/proc/thread-self/cgroup").expect("the groups of this thread");
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next().unwrap_or(""), parts.next().unwrap_or(""));
        let (dir, limit, usage) = match controllers {
            "" => (String::new(), "memory.max", "memory.current"),
            "memory" => (
                "/memory".into(),
                "memory.limit_in_bytes",
                "memory.usage_in_bytes",
            ),
            _ => continue,
        };
        let dir = format!("/sys/fs/cgroup{dir}{}", path.trim_end_matches('/'));
        std::fs::create_dir_all(&dir).expect("a directory");
        for (name, bytes) in [(limit, 200 * MIB), (usage, 180 * MIB)] {
            std::fs::write(format!("{dir}/{name}"), bytes.to_string()).expect("written");
        }
    }
    true
}

#[test]
fn a_control_group_that_leaves_too_little() {
    const TEST: &str = "a_control_group_that_leaves_too_little";
    if child::case().is_some() {
        let seen = see_a_tight_group();
        child::report("seen", seen);
        if seen {
            child::report("superslabs", prewarm(20));
            child::report("requested", stats_quick().huge_pages.requested_bytes);
        }
        return;
    }
    let ended = verbose(TEST, "tight").run();
    if ended.success().value::<bool>("seen") {
        assert_eq!(ended.value::<usize>("superslabs"), 0);
        // What will not be resident at once must not become so with its first byte.
        assert_eq!(ended.value::<usize>("requested"), 0);
        one(&ended, "the control group leaves 20 MiB");
    }
}
