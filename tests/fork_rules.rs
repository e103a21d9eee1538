//! What fork promises beyond a busy process (`fork.rs`).
//!
//! Behaviours imitated:
//! - a library whose fork handlers were registered before the allocator's: they run while its locks are frozen, allocate, and
//!   wait for a lock under which another thread allocates;
//! - a child that stays alone and needs the memory that its parent's threads held, and one that soon ends;
//! - a process that is number 1 of its namespace and forks another such process;
//! - a signal handler that forks in a process of one thread.

mod common;

use common::blocks::Block;
use common::child::{self, Child};
use common::{KIB, MIB, clock, mem, pthread};
use hakmem_alloc::region::Region;
use hakmem_alloc::{Hakmem, stats};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::time::Duration;

#[global_allocator]
static HAKMEM: Hakmem = Hakmem::new();

const LIMIT: Duration = Duration::from_secs(120);

fn wait_for(pid: libc::pid_t) {
    let mut status = 0;
    // SAFETY: a child of this process and a place for its status.
    assert_eq!(unsafe { libc::waitpid(pid, &mut status, 0) }, pid);
    assert_eq!(status, 0, "the child's end (14: it hung)");
}

/// Runs `body` in a forked child, which ends without the parent's handlers.
fn in_child(body: impl FnOnce()) -> libc::pid_t {
    // SAFETY: the child runs code of this test and the allocator, which promises to work after fork.
    match unsafe { libc::fork() } {
        0 => {
            // SAFETY: a plain system call.
            unsafe { libc::alarm(60) };
            let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body));
            // SAFETY: leaves without running the parent's handlers.
            unsafe { libc::_exit(if ended.is_ok() { 0 } else { 101 }) }
        }
        pid => {
            assert!(pid > 0, "fork");
            pid
        }
    }
}

fn allocate_and_free(seed: usize) {
    let blocks: Vec<_> = (0..200)
        .map(|i| Block::new(&HAKMEM, 16 + (seed * 31 + i * 977) % 60_000))
        .collect();
    blocks.into_iter().for_each(|block| block.free(&HAKMEM));
    Block::new(&HAKMEM, 3 * MIB).free(&HAKMEM);
}

/// A minimal lock of a library: a waiter sleeps.
static THEIRS: AtomicBool = AtomicBool::new(false);
static EARLY_CALLS: AtomicUsize = AtomicUsize::new(0);
/// The handlers do nothing except in the test that is about them.
static EARLY: AtomicBool = AtomicBool::new(false);

fn take_theirs() {
    while THEIRS.swap(true, Ordering::Acquire) {
        std::thread::sleep(Duration::from_millis(1));
    }
}

extern "C" fn early_prepare() {
    if EARLY.load(Ordering::Relaxed) {
        EARLY_CALLS.fetch_add(1, Ordering::Relaxed);
        allocate_and_free(1);
        take_theirs();
    }
}

extern "C" fn early_after() {
    if EARLY.load(Ordering::Relaxed) {
        allocate_and_free(2);
        THEIRS.store(false, Ordering::Release);
    }
}

/// Runs before anything of this process allocates through Rust.
#[used]
#[unsafe(link_section = ".init_array")]
static REGISTER_EARLY: extern "C" fn() = {
    extern "C" fn register() {
        // SAFETY: plain functions.
        unsafe { libc::pthread_atfork(Some(early_prepare), Some(early_after), Some(early_after)) };
    }
    register
};

#[test]
fn handlers_registered_before_ours_may_allocate_and_wait() {
    const TEST: &str = "handlers_registered_before_ours_may_allocate_and_wait";
    if child::case().is_none() {
        Child::of(TEST, "early").limit(LIMIT).run().success();
        return;
    }
    let stop: &'static AtomicBool = Box::leak(Box::new(AtomicBool::new(false)));
    let threads: Vec<_> = (0..2)
        .map(|_| {
            pthread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    take_theirs();
                    allocate_and_free(3);
                    THEIRS.store(false, Ordering::Release);
                    // Whoever polls is to have its turn.
                    std::thread::sleep(Duration::from_millis(5));
                }
            })
        })
        .collect();
    EARLY.store(true, Ordering::Relaxed);
    for _ in 0..10 {
        wait_for(in_child(|| allocate_and_free(4)));
    }
    EARLY.store(false, Ordering::Relaxed);
    assert_eq!(EARLY_CALLS.load(Ordering::Relaxed), 10);
    stop.store(true, Ordering::Relaxed);
    threads.into_iter().for_each(pthread::Pthread::join);
}

/// Slabs of the sizes that the threads below took.
fn slabs_of_threads() -> u64 {
    let theirs = |size: u64| [64, 512, 4096].contains(&size);
    let stats = stats();
    let classes = stats.classes.iter();
    classes
        .filter(|class| theirs(class.block_bytes))
        .map(|class| class.slabs)
        .sum()
}

const THREADS: usize = 16;

/// Runs `body` in a child of a process whose threads hold much in bins and on stacks, and `before_fork` in that; it reports how many slabs they have,
/// before and after.
fn beside_holders(before_fork: impl FnOnce(), body: impl FnOnce()) {
    const EACH: usize = 2 * MIB;
    // Time alone sends home what gone threads held, too.
    clock::stop();
    let (ready, end) = (
        Arc::new(Barrier::new(THREADS + 1)),
        Arc::new(Barrier::new(THREADS + 1)),
    );
    let threads: Vec<_> = (0..THREADS)
        .map(|_| {
            let (ready, end) = (Arc::clone(&ready), Arc::clone(&end));
            pthread::spawn(move || {
                // The blocks lie in bins and on stacks, and every slab has one in use.
                for size in [64, 512, 4 * KIB] {
                    let blocks: Vec<_> = (0..EACH / size)
                        .map(|_| Block::new(&HAKMEM, size))
                        .collect();
                    blocks.into_iter().for_each(|block| block.free(&HAKMEM));
                }
                ready.wait();
                end.wait();
            })
        })
        .collect();
    ready.wait();
    before_fork();
    let pid = in_child(|| {
        let before = slabs_of_threads();
        body();
        let after = slabs_of_threads();
        println!("\nreport before={before}\nreport after={after}");
    });
    wait_for(pid);
    end.wait();
    threads.into_iter().for_each(pthread::Pthread::join);
}

/// Runs `test` again in a child process of its own; answers how many slabs there were before and after.
fn slabs_before_and_after(test: &'static str, case: &str) -> (u64, u64) {
    let ended = Child::of(test, case).limit(LIMIT).run();
    ended.success();
    let (before, after) = (ended.value("before"), ended.value("after"));
    assert!(before >= 3 * THREADS as u64, "{ended:?}");
    (before, after)
}

#[test]
fn a_child_that_stays_alone_has_the_memory_of_its_parents_threads() {
    const TEST: &str = "a_child_that_stays_alone_has_the_memory_of_its_parents_threads";
    if child::case().is_none() {
        let (before, after) = slabs_before_and_after(TEST, "alone");
        assert!(after <= before / 4, "{after} slabs of {before}");
        return;
    }
    // Of another class than theirs, so that whole slabs have to go back first; and more than all of them and what lies free
    // beside them can serve, so that the class grows into fresh memory until all have gone back.
    beside_holders(
        || (),
        || (0..200).for_each(|_| _ = Block::new(&HAKMEM, 200 * KIB)),
    );
}

/// What it costs to send everything home, page by page copied from the parent, is not paid by a child that soon ends.
#[test]
fn a_childs_first_blocks_leave_what_its_parents_threads_held() {
    const TEST: &str = "a_childs_first_blocks_leave_what_its_parents_threads_held";
    if child::case().is_none() {
        let (before, after) = slabs_before_and_after(TEST, "alone");
        assert_eq!(before, after);
        return;
    }
    // A block of each class but theirs.
    let sizes = (80..1024).step_by(16).filter(|&size| size != 512);
    beside_holders(
        || (),
        || sizes.for_each(|size| _ = Block::new(&HAKMEM, size)),
    );
}

#[test]
fn a_child_that_is_refused_memory_has_that_of_its_parents_threads() {
    const TEST: &str = "a_child_that_is_refused_memory_has_that_of_its_parents_threads";
    if child::case().is_none() {
        let (before, after) = slabs_before_and_after(TEST, "alone");
        assert!(after <= before / 4, "{after} slabs of {before}");
        return;
    }
    // Blocks of classes that have none yet: none grows. What lay on the stacks of the threads serves the parent already; what
    // lies in their bins is single slots.
    let take = || [3000, 5000, 7000].map(|size| Block::new(&HAKMEM, size));
    beside_holders(use_up_address_space, || _ = take());
}

/// Large blocks are new, or one grows, until that is refused.
#[test]
fn a_child_that_is_refused_a_large_block_has_the_memory_of_its_parents_threads() {
    const TEST: &str =
        "a_child_that_is_refused_a_large_block_has_the_memory_of_its_parents_threads";
    let Some(case) = child::case() else {
        for case in ["new", "grown"] {
            let (before, after) = slabs_before_and_after(TEST, case);
            assert!(after <= before / 4, "{case}: {after} slabs of {before}");
        }
        return;
    };
    beside_holders(limit_address_space, || {
        let mut size = 3 * MIB;
        let mut block = hakmem_alloc::raw::alloc(size, 8);
        while !block.is_null() {
            size += 2 * MIB;
            block = match &*case {
                "new" => hakmem_alloc::raw::alloc(size, 8),
                // SAFETY: live, and not used again unless it is refused, which ends the loop.
                _ => unsafe { hakmem_alloc::raw::realloc(block, size) },
            };
        }
    });
}

/// No address space is to be had from here on but what the process has.
fn limit_address_space() {
    let now = mem::address_space() as u64;
    let limit = libc::rlimit {
        rlim_cur: now,
        rlim_max: now,
    };
    // SAFETY: a valid struct.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_AS, &limit) }, 0);
}

/// No memory is to be had from here on but what heaps hold.
fn use_up_address_space() {
    limit_address_space();
    for size in [512 * KIB, 65_536, 1000] {
        while !hakmem_alloc::raw::alloc(size, 8).is_null() {}
    }
}

/// A background prefault that ends, so there is a helper.
fn prefault() {
    let region = Region::builder().len(4 * MIB).map().expect("memory");
    let ticket = region.prefault_async().expect("a helper");
    assert!(ticket.wait().expect("it is done").bytes <= 4 * MIB);
}

/// Runs `body` in a child that is number 1 of a new namespace. Returns false if the kernel does not let this process make one.
fn as_number_one(body: impl FnOnce()) -> bool {
    // SAFETY: plain system calls; as an ordinary user it takes a namespace of users, too.
    let unshared = unsafe {
        libc::unshare(libc::CLONE_NEWPID) == 0
            || libc::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWPID) == 0
    };
    if unshared {
        wait_for(in_child(body));
    }
    unshared
}

#[test]
fn a_process_with_its_parents_number_has_a_helper_of_its_own() {
    const TEST: &str = "a_process_with_its_parents_number_has_a_helper_of_its_own";
    if child::case().is_none() {
        Child::of(TEST, "number one").limit(LIMIT).run().success();
        return;
    }
    // Without namespaces too.
    prefault();
    wait_for(in_child(prefault));
    let nested = || {
        // SAFETY: a plain query.
        assert_eq!(unsafe { libc::getpid() }, 1);
        prefault();
        // The helper lingers, in the parent.
        let there = as_number_one(|| {
            // SAFETY: a plain query.
            assert_eq!(unsafe { libc::getpid() }, 1);
            prefault();
        });
        assert!(there, "a namespace in a namespace");
    };
    if !as_number_one(nested) {
        println!("no namespaces of processes to be had here: forks alone were tried");
    }
}
