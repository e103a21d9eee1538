//! Whole programs with checked blocks: what they do right goes on, whatever happens around it, and what is known of a block is.
//!
//! Behaviours imitated:
//! - a program that does all of it right: growing and shrinking blocks, strings that fill their blocks, threads, forks, a limit of
//!   memory, under which a block shrinks where it is;
//! - a mistake whose block was freed by a child of `vfork`;
//! - one slab in so many: a program that grows gets checked blocks, however its sizes change, a small one none.

mod common;

use common::blocks::{alloc, free};
use common::child::{self, Child, Ended};
use common::{KIB, MIB, mem};
use hakmem_alloc::{Hakmem, raw, stats_quick};
use std::thread;

#[global_allocator]
static HAKMEM: Hakmem = Hakmem::new();

const ALL: (&str, &str) = ("HAKMEM_CHECK_ONE_IN", "1");
const HARDENED: (&str, &str) = ("HAKMEM_PROFILE", "hardened");

fn of(test: &'static str, case: &str, settings: &[(&str, &str)]) -> Ended {
    // What `usable_size` answers is exact in a guarded block too.
    let child = Child::of(test, case).env("HAKMEM_GUARD_EVERY", "0");
    settings
        .iter()
        .fold(child, |child, (key, value)| child.env(key, value))
        .run()
}

/// Blocks of every size grow, shrink, hold what they held and are zero where that was asked for, on several threads.
#[test]
fn a_busy_program_is_left_alone() {
    let test = "a_busy_program_is_left_alone";
    if child::case().is_none() {
        for settings in [ALL, HARDENED, ("HAKMEM_CHECK_ONE_IN", "2")] {
            let ended = of(test, "busy", &[settings]);
            ended.success();
            assert!(ended.stderr.is_empty(), "{settings:?}: {ended:?}");
        }
        return;
    }
    let work = |seed: usize| {
        let mut state = seed as u64 | 1;
        let mut next = move |most: usize| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 33) as usize % most
        };
        let mut live: Vec<Vec<u8>> = Vec::new();
        for round in 0..1500 {
            let size = 1 << next(18);
            let (size, fill) = (size + next(size), round as u8);
            match next(5) {
                0 if !live.is_empty() => {
                    let at = next(live.len());
                    let mut taken = live.swap_remove(at);
                    let first = taken[0];
                    taken.resize(size, first);
                    assert!(taken.iter().all(|&byte| byte == first));
                    taken.shrink_to_fit();
                    live.push(taken);
                }
                1 => {
                    let zeros = vec![0u8; size];
                    assert!(zeros.iter().all(|&byte| byte == 0));
                }
                2 | 3 if live.len() > 100 => drop(live.swap_remove(next(100))),
                _ => live.push(vec![fill; size]),
            }
        }
        live
    };
    let threads: Vec<_> = (1..4)
        .map(|seed| thread::spawn(move || work(seed)))
        .collect();
    let kept: Vec<_> = threads
        .into_iter()
        .map(|thread| thread.join().expect("no panic"))
        .collect();
    drop(kept);
    for _ in 0..3 {
        // SAFETY: the child allocates, frees, and ends.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            drop(work(77));
            // SAFETY: as above.
            unsafe { libc::_exit(0) };
        }
        let mut status = 0;
        // SAFETY: the child of this fork.
        assert_eq!(unsafe { libc::waitpid(pid, &mut status, 0) }, pid);
        assert_eq!(status, 0, "the child of a fork");
    }
    hakmem_alloc::purge();
    child::report("done", "yes");
}

/// Children of forks in the midst of other threads' calls go on.
#[test]
fn a_fork_finds_the_checked_blocks_whole() {
    let test = "a_fork_finds_the_checked_blocks_whole";
    if child::case().is_none() {
        let ended = of(test, "fork", &[ALL]);
        ended.success();
        assert!(ended.stderr.is_empty(), "{ended:?}");
        return;
    }
    let busy = || {
        for round in 0.. {
            let blocks: Vec<usize> = (0..50)
                .map(|i| alloc(1 + (i * 97 + round) % 3000))
                .collect();
            blocks.into_iter().for_each(free);
        }
    };
    for _ in 0..3 {
        thread::spawn(busy);
    }
    for _ in 0..200 {
        // SAFETY: the child allocates, frees, and ends.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            (0..300).map(|i| alloc(i * 10 + 1)).for_each(free);
            // SAFETY: as above.
            unsafe { libc::_exit(0) };
        }
        let mut status = 0;
        // SAFETY: the child of this fork.
        assert_eq!(unsafe { libc::waitpid(pid, &mut status, 0) }, pid);
        assert_eq!(status, 0, "the child of a fork");
    }
    child::report("done", "yes");
    // SAFETY: the other threads never end.
    unsafe { libc::_exit(0) };
}

/// Under a limit of address space allocations fail with null, and those that were made can be freed. What is freed can be had
/// again, also where blocks wait.
#[test]
fn memory_that_is_refused_is_null() {
    let test = "memory_that_is_refused_is_null";
    const SIZES: [usize; 3] = [1000, 5000, 300_000];
    if child::case().is_none() {
        let ended = of(test, "limit", &[ALL]);
        ended.success();
        for size in SIZES {
            let had: usize = ended.value(&format!("{size}"));
            assert!(had * size > 4 * MIB, "{size}: {ended:?}");
        }
        return;
    }
    for size in SIZES {
        let mut blocks = Vec::with_capacity(50_000);
        limit_address_space(mem::address_space() + 16 * MIB);
        while blocks.len() < blocks.capacity() {
            let block = raw::alloc(size, 16) as usize;
            if block == 0 {
                break;
            }
            blocks.push(block);
        }
        assert!(blocks.len() < blocks.capacity(), "{size}: no end");
        child::report(&format!("{size}"), blocks.len());
        free(blocks.swap_remove(0));
        blocks.push(alloc(size));
        blocks.into_iter().for_each(free);
        hakmem_alloc::purge();
        limit_address_space(libc::RLIM_INFINITY as usize);
    }
    free(alloc(100));
}

fn limit_address_space(bytes: usize) {
    let limit = libc::rlimit {
        rlim_cur: bytes as u64,
        rlim_max: libc::RLIM_INFINITY,
    };
    // SAFETY: a limit for this process alone.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_AS, &limit) }, 0);
}

/// The size that was asked for is the size that is answered, in a checked block alone.
fn checked(blocks: &[usize], size: usize) -> usize {
    // SAFETY: in use.
    let exact = |&&block: &&usize| unsafe { raw::usable_size(block as *const u8) } == size;
    blocks.iter().filter(exact).count()
}

#[test]
fn one_slab_in_so_many_is_checked() {
    let test = "one_slab_in_so_many_is_checked";
    // A checked block of it is of the same class, with the word behind it.
    const SIZE: usize = 1000;
    if let Some(case) = child::case() {
        let blocks: Vec<usize> = (0..case.parse::<usize>().expect("MiB") * MIB / KIB)
            .map(|_| alloc(SIZE))
            .collect();
        child::report("checked", checked(&blocks, SIZE));
        let before = stats_quick();
        child::report(
            "counted",
            before
                .classes
                .iter()
                .find(|class| class.block_bytes == 1008)
                .map_or(0, |class| class.live_blocks),
        );
        child::report("blocks", blocks.len());
        blocks.into_iter().for_each(free);
        return;
    }
    let counted = |mib: &str, one_in: &str| {
        let ended = of(test, mib, &[("HAKMEM_CHECK_ONE_IN", one_in)]);
        ended.success();
        assert!(ended.stderr.is_empty(), "{ended:?}");
        (ended.value::<usize>("checked"), ended)
    };
    assert_eq!(counted("60", "0").0, 0);
    assert_eq!(counted("0", "256").0, 0, "a program below a MiB");
    let (some, ended) = counted("60", "256");
    assert!((1..=3 * 65).contains(&some), "{some} checked: {ended:?}");
    assert!(
        ended.value::<usize>("counted") >= ended.value::<usize>("blocks"),
        "{ended:?}"
    );
    let (all, ended) = counted("3", "1");
    assert_eq!(all, ended.value::<usize>("blocks"));
}

/// Nothing lives between the phases, and all slabs that are checked fit few sizes at a time.
#[test]
fn sampling_goes_on_as_sizes_change() {
    let test = "sampling_goes_on_as_sizes_change";
    const PHASES: [(usize, usize); 7] = [
        (20_001, 300),
        (15_001, 300),
        (30_001, 300),
        (10_001, 500),
        (25, 60_000),
        (41, 60_000),
        (1001, 3000),
    ];
    if child::case().is_some() {
        for (size, live) in PHASES {
            let mut seen = 0;
            for _ in 0..2 {
                let blocks: Vec<usize> = (0..live).map(|_| alloc(size)).collect();
                seen += checked(&blocks, size);
                blocks.into_iter().for_each(free);
            }
            child::report(&format!("{size}"), seen);
        }
        return;
    }
    let ended = of(test, "phases", &[("HAKMEM_CHECK_ONE_IN", "16")]);
    ended.success();
    for (size, _) in PHASES {
        assert!(
            ended.value::<usize>(&format!("{size}")) > 0,
            "{size}: {ended:?}"
        );
    }
}

/// Where nothing else can be had, a block that shrinks stays where it is.
#[test]
fn a_shrink_needs_no_memory() {
    let test = "a_shrink_needs_no_memory";
    if child::case().is_none() {
        let ended = of(test, "shrink", &[ALL]);
        ended.success();
        assert_eq!(ended.value::<usize>("refused"), 0, "{ended:?}");
        return;
    }
    let blocks: Vec<usize> = (0..500).map(|_| alloc(3000)).collect();
    limit_address_space(MIB);
    for size in (4..=20).rev() {
        while !raw::alloc(1 << size, 16).is_null() {}
    }
    let shrunk = |&block: &usize| {
        // SAFETY: in use, of 3000 bytes.
        let new = unsafe { raw::realloc(block as *mut u8, 2200) } as usize;
        if new != 0 {
            // SAFETY: in use.
            assert_eq!(unsafe { raw::usable_size(new as *const u8) }, 2200);
        }
        new != 0
    };
    let refused = blocks.iter().filter(|block| !shrunk(block)).count();
    child::report("refused", refused);
}

extern "C" fn free_and_end(block: *mut libc::c_void) -> libc::c_int {
    free(block as usize);
    0
}

/// A child of `vfork` has the memory of its parent's thread, and a number of its own.
#[test]
fn a_child_in_the_same_memory_does_not_name_its_parent() {
    let test = "a_child_in_the_same_memory_does_not_name_its_parent";
    if child::case().is_none() {
        let ended = of(test, "vfork", &[ALL]);
        ended.killed_by(libc::SIGABRT);
        let tid: u32 = ended.value("tid");
        let expected = format!("freed by thread {tid} ");
        assert!(ended.stderr.contains(&expected), "{ended:?}");
        return;
    }
    let block = alloc(77);
    // A thread that has not called the allocator before, as far as that can be had: its stack, and the child's, are there.
    static CHILD_STACK: [std::sync::atomic::AtomicU64; 8192] =
        [const { std::sync::atomic::AtomicU64::new(0) }; 8192];
    extern "C" fn body(block: *mut libc::c_void) -> *mut libc::c_void {
        let mut status = 0;
        // SAFETY: this thread waits until the child has ended, which has a stack of its own.
        unsafe {
            let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
            let top = CHILD_STACK.as_ptr_range().end.cast_mut().cast();
            let child = libc::clone(free_and_end, top, flags, block);
            assert_eq!(libc::waitpid(child, &raw mut status, 0), child);
        }
        let block = alloc(40);
        // SAFETY: a plain query.
        child::report("tid", unsafe { libc::gettid() });
        free(block);
        free(block);
        std::ptr::null_mut()
    }
    // SAFETY: the thread is joined, and its body takes any pointer.
    unsafe {
        let mut thread = std::mem::zeroed();
        let started = libc::pthread_create(
            &raw mut thread,
            std::ptr::null(),
            body,
            block as *mut libc::c_void,
        );
        assert_eq!(started, 0);
        libc::pthread_join(thread, std::ptr::null_mut());
    }
}

/// The calls that allocated and freed a block are told, and the thread in the first line.
#[test]
fn a_report_tells_the_calls_and_the_thread() {
    let test = "a_report_tells_the_calls_and_the_thread";
    if child::case().is_some() {
        // SAFETY: a plain query.
        child::report("tid", unsafe { libc::gettid() });
        let block = alloc(100);
        free(block);
        free(block);
        return;
    }
    let ended = of(test, "twice", &[ALL]);
    ended.killed_by(libc::SIGABRT);
    let by = format!("thread {} ", ended.value::<u32>("tid"));
    let first = ended.stderr.lines().next().unwrap_or_default();
    assert_eq!(first.matches(&by).count(), 2, "{ended:?}");
    let told = |what: &str| ended.stderr.contains(&format!("hakmem: {what}:"));
    if cfg!(any(target_arch = "x86_64", target_arch = "aarch64")) {
        assert!(
            told("the free before") && told("the allocation"),
            "{ended:?}"
        );
    }
}

/// A report advises to check every block where that would tell more.
#[test]
fn the_advice_is_to_check_blocks_that_are_not() {
    let test = "the_advice_is_to_check_blocks_that_are_not";
    if let Some(case) = child::case() {
        if case == "nowhere" {
            let local = [0u64; 4];
            free(local.as_ptr().addr() + 16);
        }
        let block = alloc(100);
        free(block);
        free(block);
        return;
    }
    for (case, one_in, advised) in [
        ("twice", "0", true),
        ("nowhere", "0", true),
        ("twice", "1", false),
        ("nowhere", "1", false),
    ] {
        let ended = of(test, case, &[("HAKMEM_CHECK_ONE_IN", one_in)]);
        ended.killed_by(libc::SIGABRT);
        let next = ended
            .stderr
            .lines()
            .find(|line| line.starts_with("hakmem: next: "));
        let next = next.unwrap_or_else(|| panic!("{case} {one_in}: {ended:?}"));
        assert_eq!(
            next.contains("run it again with HAKMEM_CHECK_ONE_IN=1:"),
            advised,
            "{case} {one_in}: {next}"
        );
    }
}
