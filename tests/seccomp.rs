//! System calls refused from outside, as sandboxes do.
//!
//! Behaviours imitated:
//! - a sandbox that refuses one call, with each of the errnos that are in use, from before the first allocation or from a
//!   moment in mid-life on;
//! - a program that starts, and then lets nothing through but a list of calls.
//!
//! Every case is a child process, where two threads take, resize, free and hand on blocks of every kind by turns, and look
//! aside at everything else the interface has. Whatever is refused, no content is lost and nothing hangs; memory is refused
//! where `mmap` is, and nowhere else.

mod common;

use common::child::{self, Child};
use common::script::{EveryDoor, Whole};
use common::shadow::{Live, Model, Plan, Registry};
use common::{MIB, clock, seccomp};
use hakmem_alloc::region::Region;
use libc::c_long;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

/// Calls that the allocator makes, or the C library on its behalf.
const CALLS: [(&str, c_long); 25] = [
    ("mmap", libc::SYS_mmap),
    ("munmap", libc::SYS_munmap),
    ("mremap", libc::SYS_mremap),
    ("mprotect", libc::SYS_mprotect),
    ("madvise", libc::SYS_madvise),
    ("mincore", libc::SYS_mincore),
    ("mlock", libc::SYS_mlock),
    ("futex", libc::SYS_futex),
    ("prctl", libc::SYS_prctl),
    ("openat", libc::SYS_openat),
    ("read", libc::SYS_read),
    ("close", libc::SYS_close),
    ("write", libc::SYS_write),
    ("fstat", libc::SYS_fstat),
    ("sched_getaffinity", libc::SYS_sched_getaffinity),
    ("getcpu", libc::SYS_getcpu),
    ("clone", libc::SYS_clone),
    ("clone3", libc::SYS_clone3),
    ("nanosleep", libc::SYS_nanosleep),
    ("clock_nanosleep", libc::SYS_clock_nanosleep),
    ("rt_sigprocmask", libc::SYS_rt_sigprocmask),
    ("prlimit64", libc::SYS_prlimit64),
    ("process_vm_readv", libc::SYS_process_vm_readv),
    ("eventfd2", libc::SYS_eventfd2),
    ("getpid", libc::SYS_getpid),
];

const ERRNOS: [(&str, i32); 4] = [
    ("ENOSYS", libc::ENOSYS),
    ("EPERM", libc::EPERM),
    ("EINVAL", libc::EINVAL),
    ("ENOMEM", libc::ENOMEM),
];

const PLAN: Plan = Plan {
    min_size: 1,
    max_size: 6 * MIB,
    max_align: 4 * MIB,
    budget: 24 * MIB,
    blocks: 150,
    steps: 400,
    ..Plan::EVERYTHING
};
/// Steps between two turns.
const TURN: usize = 20;

/// Whose turn it is of two threads that wait without a system call that can be refused. Handed on with release, taken with
/// acquire: they share the blocks in their hands.
static TURNS: AtomicUsize = AtomicUsize::new(0);

fn await_turn(who: usize) {
    while TURNS.load(Acquire) % 2 != who {
        std::hint::spin_loop();
        // SAFETY: yields; where that is refused it spins.
        unsafe { libc::sched_yield() };
    }
}

/// One of the two threads. The other one does whatever `aside` says between turns.
fn play(who: usize, plan: Plan, alloc: &EveryDoor, boxes: &Mutex<Vec<Live>>, registry: &Registry) {
    let mut model = Model::new(alloc, registry, 5 + who as u64, plan);
    for step in 0..plan.steps {
        if step % TURN == 0 {
            if step > 0 {
                TURNS.fetch_add(1, Release);
            }
            await_turn(who);
            let mut boxes = boxes.lock().expect("no panic inside");
            let arrived = std::mem::take(&mut *boxes);
            arrived
                .into_iter()
                .for_each(|block| model.take(block).expect("handed on"));
            boxes.extend((0..10).filter_map(|_| model.give()));
            drop(boxes);
            aside(alloc, step / TURN);
        }
        model
            .step()
            .unwrap_or_else(|e| panic!("thread {who}, step {step}: {e}"));
    }
    let left = std::mem::take(&mut *boxes.lock().expect("no panic inside"));
    left.into_iter()
        .for_each(|block| model.take(block).expect("handed on"));
    model
        .finish()
        .unwrap_or_else(|e| panic!("thread {who} at its end: {e}"));
    TURNS.fetch_add(1, Release);
}

/// The rest of the interface. What it answers is its own affair; that it answers is ours.
fn aside(alloc: &EveryDoor, turn: usize) {
    match turn % 5 {
        0 => _ = hakmem_alloc::prewarm(1),
        1 => _ = hakmem_alloc::purge(),
        2 => alloc.aside(3),
        3 => _ = hakmem_alloc::stats().bytes,
        _ => clock::pass(2000),
    }
}

/// Two threads at work; the second is there before `sandbox` is called, which no blocking call of the C library's may
/// follow: a refused futex ends those.
fn work(plan: Plan, sandbox: impl FnOnce()) -> ! {
    let shared: &'static _ = Box::leak(Box::new((
        EveryDoor::default(),
        Mutex::new(Vec::new()),
        Registry::default(),
    )));
    static BEGUN: AtomicUsize = AtomicUsize::new(0);
    std::thread::spawn(move || {
        BEGUN.store(1, Relaxed);
        // A wrong answer is a panic, and that the end of the process.
        let body = std::panic::AssertUnwindSafe(|| play(1, plan, &shared.0, &shared.1, &shared.2));
        if std::panic::catch_unwind(body).is_err() {
            // SAFETY: ends the process here.
            unsafe { libc::_exit(101) };
        }
        // Not the end of the thread, which is up to the C library.
        await_turn(2);
    });
    while BEGUN.load(Relaxed) == 0 {
        std::thread::yield_now();
    }
    sandbox();
    play(0, plan, &shared.0, &shared.1, &shared.2);
    await_turn(0);
    hakmem_alloc::purge();
    let lost = !shared.2.is_empty();
    // SAFETY: ends the process here; what the C library does at an exit is not at issue.
    unsafe { libc::_exit(i32::from(lost)) }
}

/// A region, too, answers with an error or works. Only where it cannot block on what is refused.
fn region() {
    if let Ok(region) = Region::builder().len(3 * MIB).map() {
        let _ = region.prefault();
        assert!(region.iter().all(|byte| *byte == 0));
    }
}

fn refused(case: &str) -> ! {
    let mut words = case.split(' ');
    let mut word = || words.next().expect("three words");
    let (call, errno, before) = (word(), word(), word() == "before");
    let number = CALLS.iter().find(|c| c.0 == call).expect("a call").1;
    let errno = ERRNOS.iter().find(|e| e.0 == errno).expect("an errno").1;
    let refused = call == "mmap";
    let plan = Plan { refused, ..PLAN };
    if !before {
        hakmem_alloc::raw::alloc(100, 8);
        region();
    }
    work(plan, || {
        seccomp::refuse(number, errno);
        region();
    })
}

#[test]
fn whatever_is_refused_nothing_is_lost() {
    const TEST: &str = "whatever_is_refused_nothing_is_lost";
    if let Some(case) = child::case() {
        refused(&case);
    }
    if !seccomp::available() {
        return println!("the kernel has no filters of system calls: nothing to refuse");
    }
    let mut wrong = Vec::new();
    for (call, _) in CALLS {
        for (n, (errno, _)) in ERRNOS.into_iter().enumerate() {
            let when = ["before", "after"][n % 2];
            let ended = Child::of(TEST, &format!("{call} {errno} {when}")).run();
            if !ended.status.is_some_and(|status| status.success()) {
                wrong.push(format!("{ended:?}"));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} cases:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}
