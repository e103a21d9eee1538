//! System calls refused from outside, as sandboxes do.
//!
//! Behaviours imitated:
//! - a sandbox that refuses one call, with each of the errnos in use, from before the first allocation or from a later moment
//!   on;
//! - a program that starts, and then allows only a list of calls.
//!
//! Every case is a child process in which two threads in turn allocate, resize, free and hand on blocks of every kind, and use
//! everything else the interface has. Whatever is refused, no content is lost and nothing hangs. Memory is refused only if
//! `mmap` is.

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
const CALLS: [(&str, c_long); 30] = [
    ("mmap", libc::SYS_mmap),
    ("munmap", libc::SYS_munmap),
    ("mremap", libc::SYS_mremap),
    ("mprotect", libc::SYS_mprotect),
    ("madvise", libc::SYS_madvise),
    ("rt_sigaction", libc::SYS_rt_sigaction),
    ("mincore", libc::SYS_mincore),
    ("gettid", libc::SYS_gettid),
    ("tgkill", libc::SYS_tgkill),
    ("mlock", libc::SYS_mlock),
    ("futex", libc::SYS_futex),
    ("prctl", libc::SYS_prctl),
    ("openat", libc::SYS_openat),
    ("read", libc::SYS_read),
    ("close", libc::SYS_close),
    ("write", libc::SYS_write),
    ("fstat", libc::SYS_fstat),
    ("newfstatat", libc::SYS_newfstatat),
    ("sched_getaffinity", libc::SYS_sched_getaffinity),
    ("getcpu", libc::SYS_getcpu),
    ("clone", libc::SYS_clone),
    ("clone3", libc::SYS_clone3),
    ("nanosleep", libc::SYS_nanosleep),
    ("clock_nanosleep", libc::SYS_clock_nanosleep),
    ("rt_sigprocmask", libc::SYS_rt_sigprocmask),
    ("prlimit64", libc::SYS_prlimit64),
    ("sysinfo", libc::SYS_sysinfo),
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
    steps: 200,
    ..Plan::EVERYTHING
};
/// Steps between two turns.
const TURN: usize = 20;

/// What is done to a block on its way from one thread to the other, which has to end the process with another code than 0.
#[derive(Clone, Copy, PartialEq)]
enum Plant {
    Nothing,
    WrongByte,
    LostBlock,
}

impl Plant {
    fn harm(self, on_their_way: &mut Vec<Live>) {
        match self {
            Plant::Nothing => {}
            Plant::WrongByte => on_their_way.iter().for_each(Live::spoil),
            Plant::LostBlock => _ = on_their_way.pop(),
        }
    }
}

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
fn play(
    who: usize,
    plan: Plan,
    plant: Plant,
    alloc: &EveryDoor,
    boxes: &Mutex<Vec<Live>>,
    registry: &Registry,
) {
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
            plant.harm(&mut boxes);
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
fn work(plan: Plan, plant: Plant, sandbox: impl FnOnce()) -> ! {
    let shared: &'static _ = Box::leak(Box::new((
        EveryDoor::default(),
        Mutex::new(Vec::new()),
        Registry::default(),
    )));
    static BEGUN: AtomicUsize = AtomicUsize::new(0);
    std::thread::spawn(move || {
        BEGUN.store(1, Relaxed);
        // A wrong answer is a panic, and that the end of the process.
        let body = std::panic::AssertUnwindSafe(|| {
            play(1, plan, Plant::Nothing, &shared.0, &shared.1, &shared.2)
        });
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
    play(0, plan, plant, &shared.0, &shared.1, &shared.2);
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
    work(plan, Plant::Nothing, || {
        seccomp::refuse(number, errno);
        // SAFETY: the filter answers before the kernel looks at an argument, and no argument is one that the call takes.
        let answer = unsafe { libc::syscall(number, -1, -1, -1, -1, -1, -1) };
        let said = std::io::Error::last_os_error().raw_os_error();
        assert_eq!((answer, said), (-1, Some(errno)), "{call} is not refused");
        region();
    })
}

/// Starts a child for each call and errno of these.
fn every_call(test: &'static str, when: &str, errnos: &[(&str, i32)]) {
    if let Some(case) = child::case() {
        refused(&case);
    }
    if !seccomp::available() {
        return println!("the kernel has no filters of system calls: nothing to refuse");
    }
    let mut wrong = Vec::new();
    for (call, _) in CALLS {
        for (errno, _) in errnos {
            let mut child = Child::of(test, &format!("{call} {errno} {when}"));
            if call == "futex" {
                // The C library ends a process in which a lock of its own waits for a refused futex, as it may where a
                // thread is started.
                child = child.env("HAKMEM_BACKGROUND", "0");
            }
            let ended = child.run();
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

#[test]
fn whatever_is_refused_from_the_start_nothing_is_lost() {
    let test = "whatever_is_refused_from_the_start_nothing_is_lost";
    every_call(test, "before", &ERRNOS[..2]);
}

#[test]
fn whatever_is_refused_in_mid_life_nothing_is_lost() {
    let test = "whatever_is_refused_in_mid_life_nothing_is_lost";
    every_call(test, "after", &ERRNOS[2..]);
}

/// The workload is not blind.
#[test]
fn a_wrong_byte_and_a_lost_block_are_seen() {
    const TEST: &str = "a_wrong_byte_and_a_lost_block_are_seen";
    match child::case().as_deref() {
        Some("nothing") => work(PLAN, Plant::Nothing, || ()),
        Some("a wrong byte") => work(PLAN, Plant::WrongByte, || ()),
        Some("a lost block") => work(PLAN, Plant::LostBlock, || ()),
        _ => {}
    }
    let code = |case: &str| Child::of(TEST, case).run().status.and_then(|s| s.code());
    assert_eq!(code("nothing"), Some(0));
    assert_eq!(code("a wrong byte"), Some(101));
    assert_eq!(code("a lost block"), Some(1));
}

/// `mallopt` is the C library's of GNU: elsewhere the model's own memory cannot be kept out of the killing filter.
#[cfg(target_env = "gnu")]
mod killing {
    use super::*;
    use common::mem;
    use std::os::unix::process::ExitStatusExt;

    /// The calls that the documentation names, by their numbers.
    fn documented() -> Vec<(String, c_long)> {
        let text = include_str!("../src/lib.rs");
        let section = text
            .split("//! # System calls")
            .nth(1)
            .expect("the section");
        let rows = section
            .lines()
            .take_while(|line| !line.starts_with("//! #"));
        let cells = rows.filter_map(|row| row.strip_prefix("//! | `")?.split(" | ").next());
        let names =
            cells.flat_map(|cell| cell.split("`, `").map(|name| name.trim_end_matches('`')));
        let number = |name: &str| {
            let known = CALLS.iter().find(|(call, _)| *call == name);
            (
                name.to_owned(),
                known.unwrap_or_else(|| panic!("{name}: add it to CALLS")).1,
            )
        };
        names.map(number).collect()
    }

    /// A program that lets these calls through, and those that the test itself makes.
    fn sandboxed(allowed: &[c_long], threads: bool) -> ! {
        // The model's own memory comes from a heap that is large enough beforehand.
        // SAFETY: sets numbers.
        unsafe {
            for (parameter, value) in [
                (libc::M_TOP_PAD, 64 * MIB as libc::c_int),
                (libc::M_TRIM_THRESHOLD, libc::c_int::MAX),
                (libc::M_MMAP_THRESHOLD, libc::c_int::MAX),
                (libc::M_ARENA_MAX, 1),
            ] {
                assert_eq!(libc::mallopt(parameter, value), 1);
            }
        }
        drop(vec![1u8; 16 * MIB]);
        hakmem_alloc::raw::alloc(100, 8);
        let mut allowed = allowed.to_vec();
        allowed.extend([libc::SYS_sched_yield, libc::SYS_clock_gettime]);
        if threads {
            allowed.extend([
                libc::SYS_clone3,
                libc::SYS_clone,
                libc::SYS_rt_sigprocmask,
                libc::SYS_set_robust_list,
                libc::SYS_rseq,
                libc::SYS_exit,
                libc::SYS_getpid,
                libc::SYS_nanosleep,
                libc::SYS_prctl,
            ]);
        }
        work(PLAN, Plant::Nothing, || {
            seccomp::allow_only(&allowed);
            if std::env::var_os("HAKMEM_SS_PREFAULT").is_some() {
                grow_ahead();
            }
            give_back_large_blocks();
            if allowed.contains(&libc::SYS_prlimit64) {
                // More than any machine has.
                assert!(hakmem_alloc::raw::alloc(1 << 60, 16).is_null());
            }
        })
    }

    /// More than the allocator keeps.
    fn give_back_large_blocks() {
        let blocks = [(); 30].map(|()| hakmem_alloc::raw::alloc(24 * MIB, 16));
        for block in blocks {
            // SAFETY: allocated above, and freed once.
            unsafe { hakmem_alloc::raw::dealloc(block) };
        }
    }

    /// Grows until the allocator's own thread has come, and waits until it has gone.
    fn grow_ahead() {
        clock::stop();
        let before = mem::threads();
        while mem::threads() == before {
            // Not freed: whoever grows goes on growing.
            (0..100).for_each(|_| _ = hakmem_alloc::raw::alloc(40_000, 8));
        }
        while mem::threads() > before {
            // SAFETY: yields.
            unsafe { libc::sched_yield() };
        }
    }

    /// Calls of the table that this workload, where nobody waits or fails, does not make on every machine and at every address.
    const AT_TIMES: [&str; 12] = [
        "fstat",
        "futex",
        "getcpu",
        "getpid",
        "gettid",
        "mprotect",
        "nanosleep",
        "newfstatat",
        "prlimit64",
        "rt_sigprocmask",
        "tgkill",
        "write",
    ];

    #[test]
    fn a_filter_that_kills_lets_what_is_documented_through() {
        const TEST: &str = "killing::a_filter_that_kills_lets_what_is_documented_through";
        let documented = documented();
        let all: Vec<_> = documented.iter().map(|(_, number)| *number).collect();
        if let Some(case) = child::case() {
            let without = |name: &str| {
                let rest = documented.iter().filter(|(call, _)| call != name);
                rest.map(|(_, number)| *number).collect::<Vec<_>>()
            };
            match case.as_str() {
                "quiet" => sandboxed(&all, false),
                "threads" => sandboxed(&all, true),
                "unrefused" => {
                    let why = [libc::SYS_prlimit64, libc::SYS_sysinfo];
                    let rest = all.iter().filter(|call| !why.contains(call));
                    sandboxed(&rest.copied().collect::<Vec<_>>(), false)
                }
                name => sandboxed(&without(name), false),
            }
        }
        if !seccomp::available() {
            return println!("the kernel has no filters of system calls: nothing to forbid");
        }
        let run =
            |case: &str, (name, value): (&str, &str)| Child::of(TEST, case).env(name, value).run();
        let code = |ended: &child::Ended| ended.status.and_then(|status| status.code());
        let none = ("HAKMEM_BACKGROUND", "0");
        let ahead = ("HAKMEM_SS_PREFAULT", "async");
        run("quiet", none).success();
        run("threads", ahead).success();
        run("threads", ("HAKMEM_GUARD_EVERY", "1")).success();
        let told = Child::of(TEST, "quiet")
            .env(none.0, none.1)
            .env("HAKMEM_THP", "never");
        let told = told.env("HAKMEM_VERBOSE", "1").run();
        told.success();
        assert!(told.stderr.contains(" refused, ENOMEM"), "{told:?}");
        // Why memory is refused is asked only where it is.
        run("unrefused", none).success();
        let ended = run("quiet", ahead);
        // The C library may block the signal that the filter sends; then the kernel ends the process.
        let signal = ended.status.and_then(|status| status.signal());
        assert!(
            code(&ended) == Some(seccomp::CAUGHT) || signal == Some(libc::SIGSYS),
            "no thread: {ended:?}"
        );
        // And no call is in the table for nothing: without it, the filter catches it.
        for (name, number) in &documented {
            let ended = match name.as_str() {
                // By default a guarded block is too rare.
                "rt_sigaction" => Child::of(TEST, name)
                    .env(none.0, none.1)
                    .env("HAKMEM_GUARD_EVERY", "1")
                    .run(),
                _ => run(name, none),
            };
            if !AT_TIMES.contains(&name.as_str()) {
                assert_eq!(
                    code(&ended),
                    Some(seccomp::CAUGHT),
                    "{name} is not called: {ended:?}"
                );
                assert_eq!(ended.value::<c_long>("caught"), *number, "{ended:?}");
            }
        }
    }
}
