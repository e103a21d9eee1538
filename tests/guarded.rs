//! Guarded blocks: what a use beyond or after one ends with, what must not be taken for one, and what becomes of other faults.
//!
//! Behaviours imitated:
//! - writes and reads past a block, in front of it and after its free, of every size that fits an OS page; second frees, frees of
//!   the inside, frees and reallocs with a wrong size; each by the thread that allocated the block and by another;
//! - programs with handlers of SIGSEGV of their own, installed before the first guarded block or after it, which repair, end the
//!   process, or count on being called once; Rust's message for an exhausted stack; signals that are sent;
//! - alternative stacks for signals of 8 KiB and less; two threads that fault at once; a handler of SIGABRT that faults;
//! - children of fork; calls that a sandbox refuses; more blocks than are guarded at once; programs all of whose blocks are
//!   checked too.
//!
//! Every case is a child process in which each slow path is given a guarded block and nothing else uses the allocator.

mod common;

use common::child::{self, Child, Ended};
use common::{MIB, seccomp};
use hakmem_alloc::{Hakmem, raw, stats_quick};
use std::alloc::{GlobalAlloc, Layout};
use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;
use std::{ptr, thread};

static HAKMEM: Hakmem = Hakmem::new();

fn page() -> usize {
    // SAFETY: a plain query.
    unsafe { libc::sysconf(libc::_SC_PAGESIZE) as usize }
}

fn tid() -> u32 {
    // SAFETY: asks the kernel.
    unsafe { libc::syscall(libc::SYS_gettid) as u32 }
}

/// Whether the page of an address is mapped and those beside it have no access.
fn is_guarded(addr: usize) -> bool {
    let at = addr & !(page() - 1);
    let maps = std::fs::read_to_string("/proc/self/maps").expect("/proc/self/maps");
    maps.lines().any(|line| {
        let (range, rest) = line.split_once(' ').expect("a range");
        let (from, to) = range.split_once('-').expect("two ends");
        let number = |text| usize::from_str_radix(text, 16).expect("hexadecimal");
        number(from) == at && number(to) == at + page() && rest.starts_with("rw-p")
    })
}

/// Gives the thread its heap: the first slow path is never given a guarded block, nor the process's second one.
fn begin() {
    free(raw::alloc(3 * page(), 16) as usize);
    free(raw::alloc(5 * page(), 16) as usize);
}

fn free(addr: usize) {
    // SAFETY: in use; or none, where the point is that it is noticed.
    unsafe { raw::dealloc(black_box(addr as *mut u8)) };
}

/// A guarded block, at the end of its page or at its beginning. Each allocation of the thread is a slow path.
fn guarded(size: usize, at_end: bool) -> usize {
    let block = raw::alloc(size, 16) as usize;
    let other = raw::alloc(size, 16) as usize;
    assert!(is_guarded(block) && is_guarded(other), "not guarded");
    let starts = |block: usize| block.is_multiple_of(page());
    let ends = |block: usize| (block + size).next_multiple_of(16).is_multiple_of(page());
    let right = |block: usize| if at_end { ends(block) } else { starts(block) };
    let (mine, spare) = if right(block) {
        (block, other)
    } else {
        (other, block)
    };
    assert!(right(mine), "by turns at the end and the beginning");
    free(spare);
    mine
}

fn write(addr: usize) {
    // SAFETY: the point is that it is noticed.
    unsafe { (addr as *mut u8).write_volatile(0) };
}

fn read(addr: usize) {
    // SAFETY: as above.
    black_box(unsafe { (addr as *const u8).read_volatile() });
}

fn sized(size: usize) -> Layout {
    Layout::from_size_align(size, 16).expect("a layout")
}

/// The first line of the child, with the ages replaced by "N".
fn first_line(ended: &Ended) -> String {
    let line = ended.stderr.lines().next().unwrap_or_default();
    let words: Vec<&str> = line.split(' ').collect();
    let shown = words
        .iter()
        .enumerate()
        .map(|(i, word)| match words.get(i + 1..) {
            Some(["ms", "ago", ..]) => "N",
            _ => word,
        });
    shown.collect::<Vec<_>>().join(" ")
}

/// Plays a mistake if `wrong`, else everything up to it. `away` has it made by another thread.
fn play(case: &str) {
    let words: Vec<&str> = case.split(' ').collect();
    let [what, size, by, who, wrong] = words[..] else {
        panic!("{case}");
    };
    let (size, by): (usize, usize) = (size.parse().expect("a size"), by.parse().expect("a number"));
    let wrong = wrong == "wrong";
    begin();
    let at_end = !what.contains("before");
    let block = guarded(size, at_end);
    child::report("block", block);
    child::report("made", tid());
    let act = move || {
        child::report("thread", tid());
        // The last or first byte of the block is the program's.
        let (last, first) = (block + size.max(1) - 1, block);
        match what {
            "write-past" => write(if wrong { last + by } else { last }),
            "read-past" => read(if wrong { last + by } else { last }),
            "write-before" => write(if wrong { first - by } else { first }),
            "read-before" => read(if wrong { first - by } else { first }),
            "write-freed" | "read-freed" | "double" | "realloc-freed" | "usable-freed" => {
                free(block);
                match what {
                    _ if !wrong => {}
                    "write-freed" => write(block + by),
                    "read-freed" => read(block + by),
                    "double" => free(block),
                    // SAFETY: not in use, which is to be noticed.
                    "realloc-freed" => _ = unsafe { raw::realloc(block as *mut u8, 100) },
                    // SAFETY: as above.
                    _ => _ = unsafe { raw::usable_size(block as *const u8) },
                }
                return;
            }
            "inside" => free(if wrong { block + by } else { block }),
            "never" => free(if wrong {
                block + 2 * by * page()
            } else {
                block
            }),
            "size" => {
                let named = if wrong { size + by } else { size };
                // SAFETY: the block is in use; a wrong size is to be noticed.
                unsafe { HAKMEM.dealloc(block as *mut u8, sized(named)) };
            }
            "resize" => {
                let named = if wrong { size + by } else { size };
                // SAFETY: as above.
                free(unsafe { HAKMEM.realloc(block as *mut u8, sized(named), 100) } as usize);
            }
            _ => panic!("{what}"),
        }
        if what.starts_with("write") || what.starts_with("read") {
            free(block);
        }
    };
    match who {
        "same" => act(),
        _ => thread::scope(|scope| scope.spawn(act).join().expect("the other thread")),
    }
    child::report("done", "yes");
}

/// What the line says behind the address, and of which address.
fn expected(case: &str, ended: &Ended) -> String {
    let words: Vec<&str> = case.split(' ').collect();
    let (what, size, by) = (
        words[0],
        words[1],
        words[2].parse::<usize>().expect("a number"),
    );
    let bytes: usize = size.parse().expect("a size");
    let block: usize = ended.value("block");
    let (thread, made): (u32, u32) = (ended.value("thread"), ended.value("made"));
    let live = format!("(thread {thread}; allocated N ms ago by thread {made})");
    let gone = format!(
        "(thread {thread}; allocated N ms ago by thread {made}, freed N ms ago by thread {thread})"
    );
    let n = format!("{by} byte{}", if by == 1 { "" } else { "s" });
    let (end, beginning) = (block + bytes, block);
    let on_page = |addr: usize| addr / page() == block / page();
    let access = |verb: &str| {
        match (cfg!(target_arch = "x86_64"), verb) {
            (false, _) => "access to",
            (_, "write") => "write to",
            _ => "read of",
        }
        .to_owned()
    };
    let stops = "; stopping before memory is damaged";
    let verb = what.split('-').next().expect("a word");
    let line = match what {
        "write-past" | "write-before" => {
            let past = what == "write-past";
            let at = if past { end + by - 1 } else { beginning - by };
            let side = if past { "past" } else { "before" };
            if on_page(at) {
                format!(
                    "free of {block:#x}: written {n} {side} this block of {size} bytes {live}; stopping before more is damaged"
                )
            } else {
                format!(
                    "{} {at:#x}: {n} {side} a block of {size} bytes {live}{stops}",
                    access(verb)
                )
            }
        }
        "read-past" => {
            let at = end + by - 1;
            format!(
                "{} {at:#x}: {n} past a block of {size} bytes {live}{stops}",
                access(verb)
            )
        }
        "read-before" => {
            let at = beginning - by;
            format!(
                "{} {at:#x}: {n} before a block of {size} bytes {live}{stops}",
                access(verb)
            )
        }
        "write-freed" | "read-freed" => {
            let at = block + by;
            format!(
                "{} {at:#x}: inside a block, at byte {by} of {size} after it was freed {gone}{stops}",
                access(verb)
            )
        }
        "double" => format!(
            "double free of {block:#x}: this block of {size} bytes is free already {gone}; stopping before it is given out twice"
        ),
        "realloc-freed" | "usable-freed" => {
            let asked = if what == "realloc-freed" {
                "realloc"
            } else {
                "usable size"
            };
            format!(
                "{asked} of {block:#x}: this block of {size} bytes is free already {gone}; stopping before it is given out twice"
            )
        }
        "inside" if by < bytes => format!(
            "free of {:#x}: inside a block, at byte {by} of {size} {live}{stops}",
            block + by
        ),
        "inside" => format!(
            "free of {:#x}: {} bytes past a block of {size} bytes {live}{stops}",
            block + by,
            by - bytes + 1
        ),
        "never" => format!(
            "free of {:#x}: inside memory of this allocator, but no block{stops}",
            block + 2 * by * page()
        ),
        "size" | "resize" => format!(
            "{} of {block:#x}: the layout has {} bytes, this block {size} {live}{stops}",
            if what == "size" { "free" } else { "realloc" },
            bytes + by
        ),
        _ => panic!("{what}"),
    };
    format!("hakmem: {line}")
}

/// The first lines of reports of faults.
fn faults(ended: &Ended) -> Vec<&str> {
    let lines = ended.stderr.lines();
    let of_fault = |line: &&str| {
        let verbs = ["write to 0x", "read of 0x", "access to 0x"];
        let said = line.strip_prefix("hakmem: ").unwrap_or_default();
        verbs.iter().any(|verb| said.starts_with(verb))
    };
    lines.filter(of_fault).collect()
}

fn child_of(test: &'static str, case: &str) -> Child {
    Child::of(test, case).env("HAKMEM_GUARD_EVERY", "1")
}

/// Runs each mistake by both threads, and each time the same without the mistake.
fn mistakes(test: &'static str, cases: &[(&str, &[usize], &[usize])]) {
    if let Some(case) = child::case() {
        return play(&case);
    }
    let mut wrong = Vec::new();
    for &(what, sizes, by) in cases {
        let each = sizes
            .iter()
            .flat_map(|size| by.iter().map(move |by| (size, by)));
        for (size, by) in each {
            for who in ["same", "other"] {
                let case = format!("{what} {size} {by} {who}");
                let ended = child_of(test, &format!("{case} wrong")).run();
                ended.killed_by(libc::SIGABRT);
                let (line, expected) = (first_line(&ended), expected(&case, &ended));
                if line != expected {
                    wrong.push(format!("{case}\n  {line}\n  {expected}"));
                }
            }
            let right = child_of(test, &format!("{what} {size} {by} same right")).run();
            assert_eq!(right.success().value::<String>("done"), "yes");
            assert_eq!(right.stderr, "", "{right:?}");
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

const SIZES: [usize; 5] = [1, 16, 40, 1000, 4096];

#[test]
fn a_use_past_the_end_is_named() {
    mistakes(
        "a_use_past_the_end_is_named",
        &[
            ("write-past", &SIZES, &[1, 100, 2000]),
            ("read-past", &[16, 4096], &[1]),
            ("read-past", &[1, 40, 1000], &[16, 2000]),
        ],
    );
}

#[test]
fn a_use_before_the_start_is_named() {
    mistakes(
        "a_use_before_the_start_is_named",
        &[
            ("write-before", &SIZES, &[1, 1000]),
            ("read-before", &[40, 4096], &[1, 100]),
        ],
    );
}

#[test]
fn a_use_after_the_free_is_named() {
    mistakes(
        "a_use_after_the_free_is_named",
        &[
            ("write-freed", &SIZES, &[0]),
            ("read-freed", &[40, 4096], &[39]),
            ("realloc-freed", &[40], &[0]),
            ("usable-freed", &[40], &[0]),
        ],
    );
}

#[test]
fn a_wrong_free_is_named() {
    mistakes(
        "a_wrong_free_is_named",
        &[
            ("double", &SIZES, &[0]),
            ("inside", &[40, 4096], &[1, 16]),
            ("inside", &[40], &[47]),
            ("never", &[40], &[10]),
            ("size", &[1, 40, 1000], &[1, 16]),
            ("size", &[40], &[2000]),
            ("resize", &[40], &[1, 80]),
        ],
    );
}

/// Writes to the far side of a block that lies at the other end of its page.
#[test]
fn a_write_on_the_open_side_is_named_at_the_free() {
    const TEST: &str = "a_write_on_the_open_side_is_named_at_the_free";
    match child::case().as_deref() {
        Some(side) => {
            begin();
            let block = guarded(40, side == "before");
            child::report("block", block);
            write(if side == "before" {
                block - 3
            } else {
                block + 42
            });
            free(block);
        }
        None => {
            for side in ["before", "past"] {
                let ended = child_of(TEST, side).run();
                ended.killed_by(libc::SIGABRT);
                let block: usize = ended.value("block");
                let start = format!(
                    "hakmem: free of {block:#x}: written 3 bytes {side} this block of 40 bytes ("
                );
                assert!(ended.stderr.starts_with(&start), "{ended:?}");
            }
        }
    }
}

/// A program that does nothing wrong: in every size, resized and by every function, and with what it holds counted.
#[test]
fn right_programs_see_nothing() {
    const TEST: &str = "right_programs_see_nothing";
    if child::case().is_none() {
        let ended = child_of(TEST, "right").run();
        assert_eq!(ended.success().value::<usize>("most"), most());
        assert_eq!(ended.stderr, "", "{ended:?}");
        return;
    }
    begin();
    let before = stats_quick();
    for round in 0..3 {
        let sizes = (0..200).map(|i| (i * 37 + round) % 4200);
        let blocks: Vec<_> = sizes
            .enumerate()
            .map(|(i, size)| {
                let align = 16 << (i % 6);
                let block = match i % 2 {
                    0 => raw::alloc(size, align),
                    _ => raw::alloc_zeroed(size, align),
                };
                assert!(block.addr().is_multiple_of(align));
                // SAFETY: the block's own bytes.
                unsafe {
                    assert!(raw::usable_size(block) >= size);
                    if i % 2 == 1 {
                        let bytes = std::slice::from_raw_parts(block, size);
                        assert!(bytes.iter().all(|&byte| byte == 0));
                    }
                    ptr::write_bytes(block, i as u8, raw::usable_size(block));
                }
                (block as usize, size, align)
            })
            .collect();
        let most = blocks.iter().filter(|block| is_guarded(block.0)).count();
        child::report("most", most);
        let held = stats_quick();
        assert_eq!(held.live_blocks() - before.live_blocks(), 200);
        assert!(held.bytes.held > before.bytes.held);
        let freed = move |(block, size, align): (usize, usize, usize), i: usize| {
            let block = block as *mut u8;
            // SAFETY: live blocks, freed once.
            unsafe {
                match i % 3 {
                    0 => raw::dealloc_sized(block, size, align),
                    1 => raw::dealloc(block),
                    _ => {
                        let new = raw::realloc(block, size + 100);
                        let kept = std::slice::from_raw_parts(new, size);
                        assert!(kept.iter().all(|&byte| byte == i as u8));
                        raw::dealloc(new);
                    }
                }
            }
        };
        let (here, there): (Vec<_>, Vec<_>) =
            blocks.into_iter().enumerate().partition(|(i, _)| i % 4 < 2);
        let other = thread::spawn(move || there.into_iter().for_each(|(i, b)| freed(b, i)));
        here.into_iter().for_each(|(i, block)| freed(block, i));
        other.join().expect("the other thread");
    }
    let after = stats_quick();
    assert_eq!(after.live_blocks(), before.live_blocks());
}

/// Guarded blocks at once.
fn most() -> usize {
    ((2 * MIB / page() - 1) / 2).min(64)
}

/// A freed page stays without access until all others were used.
#[test]
fn the_page_freed_first_is_reused_first() {
    const TEST: &str = "the_page_freed_first_is_reused_first";
    if child::case().is_none() {
        child_of(TEST, "").run().success();
        return;
    }
    begin();
    let take = || raw::alloc(40, 16) as usize & !(page() - 1);
    let blocks: Vec<usize> = (0..2 * most())
        .map(|_| {
            let block = raw::alloc(40, 16) as usize;
            assert!(is_guarded(block));
            free(block);
            block & !(page() - 1)
        })
        .collect();
    let (first, second) = blocks.split_at(most());
    assert_eq!(first, second);
    assert_eq!(take(), first[0]);
}

/// The setting is the mean distance; 0 means never, and the default is met by none of a few hundred slow paths.
#[test]
fn as_many_blocks_are_guarded_as_were_asked_for() {
    const TEST: &str = "as_many_blocks_are_guarded_as_were_asked_for";
    if let Some(case) = child::case() {
        let slow_paths: usize = case.parse().expect("a number");
        begin();
        // Runs never lie in a bin: each allocation of one is a slow path. They are too large to be guarded.
        let mut found = 0;
        for _ in 0..slow_paths {
            free(raw::alloc(100_000, 16) as usize);
            let block = raw::alloc(40, 16) as usize;
            found += usize::from(is_in_guarded(block));
            // Kept, so that the bin runs empty.
            black_box(block);
        }
        child::report("found", found);
        child::report("mapped", stats_quick().bytes.mapped);
        return;
    }
    let found = |every: &str, rounds: &str| {
        let child = Child::of(TEST, rounds).env("HAKMEM_GUARD_EVERY", every);
        child.run().success().value::<usize>("found")
    };
    assert_eq!(found("0", "3000"), 0);
    // Each round has one slow path, of a block that is not guarded, and one in a hundred or so a second, of one that may be: a
    // guarded block that is due waits for it.
    let some = found("100", "3000");
    assert!((8..=45).contains(&some), "{some}");
    let default = Child::of(TEST, "300").run();
    assert_eq!(default.success().value::<usize>("found"), 0);
}

/// As [`is_guarded`], for many questions: whether the block is of no slab's size.
fn is_in_guarded(block: usize) -> bool {
    // SAFETY: a block in use. Those of slabs hold 48 bytes.
    unsafe { raw::usable_size(block as *const u8) == 40 }
}

#[test]
fn a_fork_goes_on_with_guarded_blocks() {
    const TEST: &str = "a_fork_goes_on_with_guarded_blocks";
    if child::case().is_none() {
        // It takes a fraction of a second; a child that waits for a lock waits for ever.
        let ended = child_of(TEST, "").limit(Duration::from_secs(2)).run();
        ended.success();
        assert_eq!(faults(&ended).len(), 1, "{ended:?}");
        return;
    }
    begin();
    let kept = guarded(16, true);
    // Others are busy with theirs at the moment of the fork.
    let stop = &AtomicUsize::new(0);
    let mut ends = Vec::new();
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                begin();
                while stop.load(Relaxed) == 0 {
                    free(raw::alloc(40, 16) as usize);
                }
            });
        }
        for round in 0..50 {
            // SAFETY: the child allocates, frees and ends.
            let child = unsafe { libc::fork() };
            if child == 0 {
                let block = raw::alloc(40, 16) as usize;
                write(block);
                free(block);
                if round == 0 {
                    write(kept + 16);
                }
                // SAFETY: ends the process.
                unsafe { libc::_exit(0) };
            }
            let mut status = 0;
            // SAFETY: a child of ours.
            unsafe { libc::waitpid(child, &mut status, 0) };
            ends.push(status);
        }
        stop.store(1, Relaxed);
    });
    let aborts = libc::WIFSIGNALED(ends[0]) && libc::WTERMSIG(ends[0]) == libc::SIGABRT;
    assert!(aborts, "{ends:?}");
    let ends_well = |&status: &i32| libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0;
    assert!(ends[1..].iter().all(ends_well), "{ends:?}");
    free(kept);
}

/// The children of one process guard blocks of their own: not all of them the third, the tenth and so on.
#[test]
fn the_children_of_a_fork_draw_numbers_of_their_own() {
    const TEST: &str = "the_children_of_a_fork_draw_numbers_of_their_own";
    const DRAWS: usize = 4;
    if child::case().is_none() {
        let child = child_of(TEST, "").env("HAKMEM_GUARD_EVERY", "100");
        let ended = child.env("HAKMEM_CHECK_ONE_IN", "0").run();
        let drawn = |who: &str| ended.success().value::<String>(who);
        assert_ne!(drawn("first"), drawn("second"));
        return;
    }
    begin();
    // SAFETY: a mapping that the children share with this process.
    let shared = unsafe {
        let (prot, flags) = (
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED | libc::MAP_ANONYMOUS,
        );
        libc::mmap(ptr::null_mut(), page(), prot, flags, -1, 0) as *mut [usize; DRAWS]
    };
    for who in 0..2 {
        // SAFETY: the child leaves by `_exit`.
        let child = unsafe { libc::fork() };
        if child == 0 {
            // A guarded block has the size that was asked for, another that of its class.
            let is_guarded = |_: &usize| {
                let block = raw::alloc(4000, 16);
                // SAFETY: the block is in use.
                unsafe { raw::usable_size(block) == 4000 }
            };
            let mut drawn = (0..200_000).filter(is_guarded);
            // SAFETY: the child's own entry; ends the process.
            unsafe {
                *shared.add(who) = [(); DRAWS].map(|()| drawn.next().expect("a guarded block"));
                libc::_exit(0);
            }
        }
        let mut status = 0;
        // SAFETY: a child of ours, which has written its entry once it has ended.
        let drawn = unsafe {
            libc::waitpid(child, &mut status, 0);
            *shared.add(who)
        };
        assert_eq!(status, 0);
        child::report(
            ["first", "second"][who],
            format!("{drawn:?}").replace(' ', ""),
        );
    }
}

/// A child of vfork has its parent's memory and handlers of its own: it gets no guarded block before its parent.
#[test]
fn a_child_in_the_same_memory_installs_nothing() {
    const TEST: &str = "a_child_in_the_same_memory_installs_nothing";
    static BLOCK: AtomicUsize = AtomicUsize::new(0);
    extern "C" fn in_child(_: *mut libc::c_void) -> i32 {
        BLOCK.store(raw::alloc(1000, 16) as usize, Relaxed);
        0
    }
    if child::case().is_some() {
        begin();
        let mut stack = vec![0u128; 16 << 10];
        // SAFETY: this thread waits until the child, which has a stack of its own, has ended.
        unsafe {
            let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
            let top = stack.as_mut_ptr_range().end.cast();
            let child = libc::clone(in_child, top, flags, ptr::null_mut());
            let mut status = 0;
            assert_eq!(libc::waitpid(child, &mut status, 0), child);
            assert_eq!(status, 0);
        }
        child::report("its", is_guarded(BLOCK.load(Relaxed)));
        write(guarded(40, true) + 48);
        return;
    }
    let ended = child_of(TEST, "").run();
    ended.killed_by(libc::SIGABRT);
    assert!(!ended.value::<bool>("its"));
    assert!(
        ended.stderr.contains("9 bytes past a block of 40 bytes"),
        "{ended:?}"
    );
}

/// A sandbox refuses a call: blocks come from slabs, and are whole.
#[test]
fn refused_calls_mean_no_guarded_blocks() {
    const TEST: &str = "refused_calls_mean_no_guarded_blocks";
    let calls = [
        ("mmap", libc::SYS_mmap, 0),
        ("rt_sigaction", libc::SYS_rt_sigaction, 0),
        ("mprotect", libc::SYS_mprotect, 0),
        ("mprotect-later", libc::SYS_mprotect, 1),
        ("madvise", libc::SYS_madvise, 1),
    ];
    if let Some(case) = child::case() {
        let (_, number, later) = *calls.iter().find(|call| call.0 == case).expect("a call");
        begin();
        // The slab that serves those that are not guarded.
        let warm: Vec<usize> = (0..200).map(|_| raw::alloc(40, 16) as usize).collect();
        warm.into_iter().for_each(free);
        // What was used so far may be all of it.
        let held = (later == 1).then(|| raw::alloc(56, 16) as usize);
        seccomp::refuse(number, libc::EPERM);
        if let Some(block) = held {
            assert!(is_guarded(block));
            free(block);
        }
        for size in [40, 300, 2000] {
            let blocks: Vec<usize> = (0..20).map(|_| raw::alloc(size, 16) as usize).collect();
            assert!(case == "mmap" || blocks.iter().all(|&block| block != 0));
            for &block in blocks.iter().filter(|&&block| block != 0) {
                // SAFETY: the block's own bytes.
                unsafe { ptr::write_bytes(block as *mut u8, 7, size) };
            }
            blocks.into_iter().for_each(free);
        }
        child::report("done", "yes");
        return;
    }
    if !seccomp::available() {
        return println!("the kernel has no filters of system calls: nothing to refuse");
    }
    for (case, ..) in calls {
        let ended = child_of(TEST, case).run();
        assert_eq!(ended.success().value::<String>("done"), "yes");
    }
}

/// Under a limit of address space there is none.
#[test]
fn a_limit_of_address_space_means_no_guarded_blocks() {
    const TEST: &str = "a_limit_of_address_space_means_no_guarded_blocks";
    if child::case().is_some() {
        begin();
        let block = raw::alloc(40, 16) as usize;
        child::report("guarded", is_guarded(block));
        return;
    }
    let limited = child_of(TEST, "").address_space(8 << 30).run();
    assert!(!limited.success().value::<bool>("guarded"));
    assert!(child_of(TEST, "").run().success().value::<bool>("guarded"));
}

/// Without memory for another block, one that shrinks stays, and its new end is guarded by what the page holds.
#[test]
fn a_shrink_needs_no_memory() {
    const TEST: &str = "a_shrink_needs_no_memory";
    if let Some(case) = child::case() {
        begin();
        let block = guarded(3000, false);
        child::report("block", block);
        seccomp::refuse(libc::SYS_mmap, libc::ENOMEM);
        while !raw::alloc(2000, 16).is_null() {}
        // SAFETY: the block is in use; a larger one is not to be had.
        unsafe {
            ptr::write_bytes(block as *mut u8, 7, 3000);
            assert!(raw::realloc(block as *mut u8, 3001).is_null());
            let shrunk = raw::realloc(block as *mut u8, 2000);
            assert_eq!(shrunk as usize, block);
            assert_eq!(raw::usable_size(shrunk), 2000);
            let bytes = std::slice::from_raw_parts(shrunk, 2000);
            assert!(bytes.iter().all(|&byte| byte == 7));
        }
        if case == "wrong" {
            write(block + 2001);
        }
        free(block);
        child::report("done", "yes");
        return;
    }
    if !seccomp::available() {
        return println!("the kernel has no filters of system calls: nothing to refuse");
    }
    let right = child_of(TEST, "right").run();
    assert_eq!(right.success().value::<String>("done"), "yes");
    let wrong = child_of(TEST, "wrong").run();
    wrong.killed_by(libc::SIGABRT);
    let block: usize = wrong.value("block");
    let line =
        format!("hakmem: free of {block:#x}: written 2 bytes past this block of 2000 bytes (");
    assert!(wrong.stderr.contains(&line), "{wrong:?}");
}

/// If every block is checked, some are guarded all the same.
#[test]
fn checked_programs_have_guarded_blocks() {
    const TEST: &str = "checked_programs_have_guarded_blocks";
    if let Some(case) = child::case() {
        return play(&case);
    }
    for (name, value) in [
        ("HAKMEM_CHECK_ONE_IN", "1"),
        ("HAKMEM_CHECK_ONE_IN", "2"),
        ("HAKMEM_PROFILE", "hardened"),
    ] {
        for case in [
            "write-past 16 1 other",
            "read-freed 40 39 same",
            "double 40 0 other",
        ] {
            let child = |end: &str| child_of(TEST, &format!("{case} {end}")).env(name, value);
            let ended = child("wrong").run();
            ended.killed_by(libc::SIGABRT);
            assert_eq!(first_line(&ended), expected(case, &ended), "{name}={value}");
            let right = child("right").run();
            assert_eq!(right.success().value::<String>("done"), "yes");
        }
    }
}

/// What follows the first line, and on which stack.
mod reports {
    use super::*;
    use std::sync::atomic::AtomicBool;

    /// The addresses of the calls under a heading.
    fn calls(ended: &Ended, heading: &str) -> Vec<usize> {
        let mut lines = ended.stderr.lines();
        lines.find(|line| line.strip_prefix("hakmem: ") == Some(heading));
        let frames = lines.map_while(|line| line.strip_prefix("hakmem:   #"));
        let hex = |frame: &str| {
            let digits = frame.split(' ').nth(1).expect("an address");
            usize::from_str_radix(digits.trim_start_matches("0x"), 16).expect("a number")
        };
        frames.map(hex).collect()
    }

    #[inline(never)]
    fn accesses(addr: usize) {
        write(addr);
        black_box(());
    }

    #[inline(never)]
    fn allocates() -> usize {
        black_box(raw::alloc(40, 16) as usize)
    }

    #[inline(never)]
    fn frees(block: usize) {
        free(block);
        black_box(());
    }

    #[test]
    fn the_calls_of_access_free_and_allocation_are_told() {
        const TEST: &str = "reports::the_calls_of_access_free_and_allocation_are_told";
        if let Some(case) = child::case() {
            child::report("this access:", accesses as *const () as usize);
            child::report("the free before:", frees as *const () as usize);
            child::report("the allocation:", allocates as *const () as usize);
            let act = || {
                begin();
                let block = allocates();
                frees(block);
                accesses(block + 8);
            };
            match case.as_str() {
                "thread" => thread::spawn(act).join().expect("a thread"),
                _ => without_alternative(act),
            }
            return;
        }
        for case in ["thread", "plain"] {
            let ended = child_of(TEST, case).run();
            ended.killed_by(libc::SIGABRT);
            for heading in ["this access:", "the free before:", "the allocation:"] {
                let function: usize = ended.value(heading);
                let calls = calls(&ended, heading);
                let at = calls
                    .iter()
                    .position(|&call| call >= function && call - function < 400);
                assert!(at.is_some(), "{case}: {heading} {ended:?}");
                // `write` may be a function of its own; the handler is no part of it.
                assert!(heading != "this access:" || at <= Some(2), "{ended:?}");
            }
            assert_whole(&ended);
        }
    }

    fn assert_whole(ended: &Ended) {
        let last = ended
            .stderr
            .lines()
            .rfind(|line| line.starts_with("hakmem: "));
        let last = last.expect("a report");
        assert!(last.starts_with("hakmem: next: this access"), "{ended:?}");
    }

    /// Sets the alternative stack of the thread.
    fn alternative(sp: usize, size: usize, flags: i32) {
        let stack = libc::stack_t {
            ss_sp: sp as *mut _,
            ss_flags: flags,
            ss_size: size,
        };
        // SAFETY: memory that stays as long as the process.
        assert_eq!(unsafe { libc::sigaltstack(&stack, ptr::null_mut()) }, 0);
    }

    /// Calls `act` in a thread without an alternative stack; Rust gives each thread one.
    fn without_alternative(act: impl FnOnce() + Send) {
        thread::scope(|scope| {
            let thread = scope.spawn(|| {
                alternative(0, 0, libc::SS_DISABLE);
                act();
            });
            thread.join().expect("a thread");
        });
    }

    /// The alternative stack: what is not used yet holds `UNUSED`.
    static STACK: AtomicUsize = AtomicUsize::new(0);
    static STACK_SIZE: AtomicUsize = AtomicUsize::new(0);
    const UNUSED: u8 = 0xA7;

    fn used() -> usize {
        let size = STACK_SIZE.load(Relaxed);
        // SAFETY: the stack is not in use any more, or only further up.
        let bytes = unsafe { std::slice::from_raw_parts(STACK.load(Relaxed) as *const u8, size) };
        size - bytes.iter().take_while(|&&byte| byte == UNUSED).count()
    }

    extern "C" fn tell_used(_: i32) {
        child::report("used", used());
    }

    extern "C" fn nothing(_: i32) {}

    fn on_signal(signal: i32, handler: extern "C" fn(i32), flags: i32) {
        // SAFETY: the handler is of the kind that the flags say.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = handler as *const () as usize;
            action.sa_flags = flags;
            assert_eq!(libc::sigaction(signal, &action, ptr::null_mut()), 0);
        }
    }

    /// A page without access lies below the stack. What the kernel puts there for a signal depends on the processor: the child
    /// finds out, and has so many bytes more.
    #[test]
    fn a_small_alternative_stack_is_enough() {
        const TEST: &str = "reports::a_small_alternative_stack_is_enough";
        if let Some(case) = child::case() {
            let more: usize = case.parse().expect("a number");
            let most = 1 << 20;
            // SAFETY: a mapping of the test's own.
            let map = unsafe {
                let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
                let map = libc::mmap(ptr::null_mut(), 2 * most, libc::PROT_NONE, flags, -1, 0);
                let top = map as usize + most;
                libc::mprotect(top as *mut _, most, libc::PROT_READ | libc::PROT_WRITE);
                top
            };
            let prepare = |size: usize| {
                STACK.store(map, Relaxed);
                STACK_SIZE.store(size, Relaxed);
                // SAFETY: memory of the test's own.
                unsafe { ptr::write_bytes(map as *mut u8, UNUSED, size) };
                alternative(map, size, 0);
            };
            prepare(most);
            on_signal(libc::SIGUSR1, nothing, libc::SA_ONSTACK);
            // SAFETY: a signal that has a handler.
            unsafe { libc::raise(libc::SIGUSR1) };
            let frame = used();
            child::report("frame", frame);
            prepare((frame + more).next_multiple_of(16));
            on_signal(libc::SIGABRT, tell_used, 0);
            begin();
            let block = guarded(40, true);
            accesses(block + 48);
            return;
        }
        for more in ["2048", "8192", "100000"] {
            let ended = child_of(TEST, more).run();
            ended.killed_by(libc::SIGABRT);
            assert_whole(&ended);
            let (used, frame): (usize, usize) = (ended.value("used"), ended.value("frame"));
            println!("{more}: {} bytes of stack beside the frame", used - frame);
            assert!(
                used <= frame + 2048 || more == "100000",
                "{more}: {ended:?}"
            );
        }
    }

    static FIRST: AtomicUsize = AtomicUsize::new(0);
    static SECOND: AtomicUsize = AtomicUsize::new(0);
    static ABORTS: AtomicUsize = AtomicUsize::new(0);
    static GO: AtomicBool = AtomicBool::new(false);

    fn sleeps(tid: usize) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/self/task/{tid}/stat"));
        stat.is_ok_and(|stat| {
            stat.rsplit(')')
                .next()
                .is_some_and(|rest| rest.starts_with(" S"))
        })
    }

    /// Has the other thread fault, and returns once that one waits.
    extern "C" fn wait_for_second(_: i32) {
        child::report("aborts", ABORTS.fetch_add(1, Relaxed) + 1);
        child::report("by", tid());
        GO.store(true, Relaxed);
        let mut asleep = 0;
        while asleep < 20 {
            asleep = match SECOND.load(Relaxed) {
                0 => 0,
                tid if sleeps(tid) => asleep + 1,
                _ => 0,
            };
            thread::sleep(Duration::from_millis(1));
        }
        child::report("waits", "yes");
    }

    /// The second thread faults while the first is in its handler of SIGABRT: the report is the first one's, and alone.
    #[test]
    fn a_second_fault_waits_for_the_end_of_the_first() {
        const TEST: &str = "reports::a_second_fault_waits_for_the_end_of_the_first";
        if let Some(case) = child::case() {
            on_signal(libc::SIGABRT, wait_for_second, 0);
            begin();
            let blocks = [guarded(16, true), guarded(40, true)];
            let small = |name: &str| case.split(' ').any(|word| word == name);
            let act = |number: usize| {
                if !small(["first", "second"][number]) {
                    alternative(0, 0, libc::SS_DISABLE);
                }
                if number == 0 {
                    FIRST.store(tid() as usize, Relaxed);
                    child::report("first", tid());
                } else {
                    while !GO.load(Relaxed) {
                        std::hint::spin_loop();
                    }
                    SECOND.store(tid() as usize, Relaxed);
                }
                accesses(blocks[number] + 48);
            };
            thread::scope(|scope| {
                scope.spawn(|| act(0));
                scope.spawn(|| act(1));
            });
            return;
        }
        // Who has a small alternative stack.
        for case in ["first second", "first", "second", "none"] {
            let ended = child_of(TEST, case).run();
            ended.killed_by(libc::SIGABRT);
            assert_eq!(ended.value::<usize>("aborts"), 1, "{case}");
            assert_eq!(ended.value::<u32>("by"), ended.value::<u32>("first"));
            assert_eq!(ended.value::<String>("waits"), "yes");
            let faults = faults(&ended);
            assert_eq!(faults.len(), 1, "{case}: {ended:?}");
            assert!(faults[0].contains(" past a block of 16 bytes"), "{ended:?}");
            assert_whole(&ended);
        }
    }

    static BLOCK: AtomicUsize = AtomicUsize::new(0);

    extern "C" fn fault_again(_: i32) {
        child::report("aborts", ABORTS.fetch_add(1, Relaxed) + 1);
        accesses(BLOCK.load(Relaxed) + 8);
    }

    /// The second fault has its line, and the handler is not called for it.
    #[test]
    fn a_handler_of_sigabrt_that_faults_ends_the_process() {
        const TEST: &str = "reports::a_handler_of_sigabrt_that_faults_ends_the_process";
        if let Some(case) = child::case() {
            let act = || {
                begin();
                let block = guarded(16, true);
                BLOCK.store(block, Relaxed);
                free(block);
                accesses(block);
            };
            // In which stack the handler runs makes a difference too.
            let flags = if case.contains("on-stack") {
                libc::SA_ONSTACK
            } else {
                0
            };
            on_signal(libc::SIGABRT, fault_again, flags);
            match case.starts_with("small") {
                true => act(),
                false => without_alternative(act),
            }
            return;
        }
        for case in ["small", "small on-stack", "plain"] {
            let ended = child_of(TEST, case).run();
            ended.killed_by(libc::SIGABRT);
            assert_eq!(ended.value::<usize>("aborts"), 1, "{case}");
            let bytes: Vec<bool> = faults(&ended)
                .iter()
                .zip([0, 8])
                .map(|(line, at)| line.contains(&format!("at byte {at} of 16 after it was freed")))
                .collect();
            assert_eq!(bytes, [true, true], "{case}: {ended:?}");
        }
    }
}

/// What a handler of the program's does.
mod handlers {
    use super::*;

    /// Memory without access of the program's own, and how often its handler was called.
    static OWN: AtomicUsize = AtomicUsize::new(0);
    static CALLS: AtomicUsize = AtomicUsize::new(0);

    fn open(addr: usize) {
        CALLS.fetch_add(1, Relaxed);
        let own = OWN.load(Relaxed);
        if !(own..own + page()).contains(&addr) {
            // SAFETY: ends the process.
            unsafe { libc::_exit(3) };
        }
        // SAFETY: the page is the test's.
        unsafe { libc::mprotect(own as *mut _, page(), libc::PROT_READ | libc::PROT_WRITE) };
    }

    extern "C" fn detailed(_: i32, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
        // SAFETY: the kernel passes it.
        open(unsafe { (*info).si_addr() } as usize);
    }

    extern "C" fn plain(_: i32) {
        // SAFETY: asks for this thread's mask.
        let blocked = unsafe {
            let mut mask = std::mem::zeroed();
            libc::pthread_sigmask(libc::SIG_BLOCK, ptr::null(), &mut mask);
            [libc::SIGSEGV, libc::SIGUSR1].map(|signal| libc::sigismember(&mask, signal))
        };
        assert_eq!(blocked, [1, 1], "the handler's mask holds");
        open(OWN.load(Relaxed));
    }

    /// Needs more stack than alternative ones have.
    extern "C" fn wide(signal: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
        black_box([1u8; 100_000]);
        detailed(signal, info, context);
    }

    static FOUND: AtomicUsize = AtomicUsize::new(0);

    /// Calls what was there when it was installed.
    extern "C" fn chained(signal: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
        if CALLS.fetch_add(1, Relaxed) > 3 {
            // SAFETY: ends the process.
            unsafe { libc::_exit(4) };
        }
        type Detailed = extern "C" fn(i32, *mut libc::siginfo_t, *mut libc::c_void);
        // SAFETY: a handler that was installed with SA_SIGINFO.
        let found = unsafe { std::mem::transmute::<usize, Detailed>(FOUND.load(Relaxed)) };
        found(signal, info, context);
    }

    fn install_chained() {
        // SAFETY: asks for the handler.
        unsafe {
            let mut was: libc::sigaction = std::mem::zeroed();
            libc::sigaction(libc::SIGSEGV, ptr::null(), &mut was);
            FOUND.store(was.sa_sigaction, Relaxed);
        }
        install(libc::SA_SIGINFO, chained as *const () as usize);
    }

    fn install(flags: i32, handler: usize) {
        // SAFETY: the handler is of the kind that the flags say.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = handler;
            action.sa_flags = flags;
            libc::sigaddset(&mut action.sa_mask, libc::SIGUSR1);
            assert_eq!(libc::sigaction(libc::SIGSEGV, &action, ptr::null_mut()), 0);
        }
    }

    /// Takes the access to a page away and writes to it.
    fn own_fault() {
        if OWN.load(Relaxed) == 0 {
            // SAFETY: a mapping of the test's own.
            let map = unsafe {
                let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
                libc::mmap(ptr::null_mut(), page(), libc::PROT_NONE, flags, -1, 0)
            };
            OWN.store(map as usize, Relaxed);
        }
        let own = OWN.load(Relaxed);
        // SAFETY: as above.
        unsafe { libc::mprotect(own as *mut _, page(), libc::PROT_NONE) };
        write(own + 8);
    }

    fn no_core() {
        let none = libc::rlimit {
            rlim_cur: 0,
            rlim_max: 0,
        };
        // SAFETY: sets a limit.
        unsafe { libc::setrlimit(libc::RLIMIT_CORE, &none) };
    }

    #[inline(never)]
    #[allow(unconditional_recursion)]
    fn exhaust(n: usize) -> usize {
        black_box([n; 64]);
        black_box(exhaust(n + 1)) + 1
    }

    fn play(case: &str) {
        no_core();
        let info = libc::SA_SIGINFO;
        match case {
            "detailed" => install(info, detailed as *const () as usize),
            "plain" => install(0, plain as *const () as usize),
            "once" => install(info | libc::SA_RESETHAND, detailed as *const () as usize),
            // What a Rust program has is its own.
            "rust stack" | "rust thread" => {}
            "wide" => install(info, wide as *const () as usize),
            "closed" => install(info, detailed as *const () as usize),
            "cycle" => install_chained(),
            _ => install(0, libc::SIG_DFL),
        }
        begin();
        let block = guarded(40, true);
        if case == "later" {
            install(info, detailed as *const () as usize);
        }
        match case {
            "wide" => {
                own_fault();
                assert_eq!(CALLS.load(Relaxed), 1);
            }
            "closed" => {
                let pages = [guarded(page(), true), guarded(page(), true)];
                for (round, &own) in pages.iter().chain(&pages).enumerate() {
                    OWN.store(own, Relaxed);
                    own_fault();
                    assert_eq!(CALLS.load(Relaxed), round + 1);
                }
                // A free needs no access to the block.
                // SAFETY: the page is that of the block.
                unsafe { libc::mprotect(pages[0] as *mut _, page(), libc::PROT_NONE) };
                free(pages[0]);
            }
            "cycle" => {
                install_chained();
                own_fault();
            }
            "restored" => {
                // SAFETY: the old handler is put back as C programs do.
                unsafe {
                    let was = libc::signal(libc::SIGSEGV, libc::SIG_DFL);
                    libc::signal(libc::SIGSEGV, was);
                }
                own_fault();
            }
            "detailed" | "plain" | "later" => {
                for round in 1..=3 {
                    own_fault();
                    assert_eq!(CALLS.load(Relaxed), round);
                }
                // SAFETY: asks for this thread's mask.
                unsafe {
                    let mut mask = std::mem::zeroed();
                    libc::pthread_sigmask(libc::SIG_BLOCK, ptr::null(), &mut mask);
                    assert_eq!(libc::sigismember(&mask, libc::SIGSEGV), 0);
                    assert_eq!(libc::sigismember(&mask, libc::SIGUSR1), 0);
                }
            }
            "once" => {
                own_fault();
                assert_eq!(CALLS.load(Relaxed), 1);
                own_fault();
            }
            "default" => own_fault(),
            "sent" => {
                // SAFETY: sends this thread a signal.
                unsafe { libc::raise(libc::SIGSEGV) };
            }
            "rust stack" => _ = exhaust(0),
            "rust thread" => {
                let name = thread::Builder::new().name("deep".into());
                let deep = name.stack_size(256 << 10).spawn(|| exhaust(0));
                _ = deep.expect("a thread").join();
            }
            _ => panic!("{case}"),
        }
        child::report("done", "yes");
        // Ours still stands in front, but for a handler that was installed later.
        write(block + 47 + 1);
    }

    #[test]
    fn other_faults_go_where_they_went() {
        const TEST: &str = "handlers::other_faults_go_where_they_went";
        if let Some(case) = child::case() {
            return play(&case);
        }
        for case in ["detailed", "plain", "wide", "closed"] {
            let ended = child_of(TEST, case).run();
            ended.killed_by(libc::SIGABRT);
            assert_eq!(ended.value::<String>("done"), "yes");
            assert!(
                ended.stderr.contains("9 bytes past a block of 40 bytes"),
                "{ended:?}"
            );
        }
        // One that came later is called for every fault, ours included: it ends the process with 3.
        let later = child_of(TEST, "later").run();
        assert_eq!(later.value::<String>("done"), "yes");
        assert_eq!(
            later.status.and_then(|status| status.code()),
            Some(3),
            "{later:?}"
        );
        for case in ["once", "default", "sent", "cycle", "restored"] {
            let ended = child_of(TEST, case).limit(Duration::from_secs(2)).run();
            ended.killed_by(libc::SIGSEGV);
            assert!(!ended.stdout.contains("done"), "{ended:?}");
            assert_eq!(ended.stderr, "", "{ended:?}");
        }
    }

    /// A program that ignores the signal hands that on to what it executes: it has no guarded blocks.
    #[test]
    fn an_ignored_signal_stays_ignored() {
        const TEST: &str = "handlers::an_ignored_signal_stays_ignored";
        if let Some(case) = child::case() {
            no_core();
            if case == "ignored" {
                install(0, libc::SIG_IGN);
            }
            begin();
            let blocks: Vec<usize> = (0..50).map(|_| raw::alloc(40, 16) as usize).collect();
            let guarded = blocks.iter().filter(|&&block| is_guarded(block)).count();
            child::report("guarded", guarded);
            // SAFETY: asks for the handler.
            let now = unsafe {
                let mut now: libc::sigaction = std::mem::zeroed();
                libc::sigaction(libc::SIGSEGV, ptr::null(), &mut now);
                now.sa_sigaction
            };
            child::report("ignored", now == libc::SIG_IGN);
            blocks.into_iter().for_each(free);
            own_fault();
        }
        for (case, guarded) in [("ignored", 0), ("default", 50)] {
            let ended = child_of(TEST, case).run();
            ended.killed_by(libc::SIGSEGV);
            assert_eq!(ended.value::<usize>("guarded"), guarded);
            assert_eq!(ended.value::<bool>("ignored"), case == "ignored");
        }
    }

    #[test]
    fn an_exhausted_stack_of_rust_is_said_to_be_one() {
        const TEST: &str = "handlers::an_exhausted_stack_of_rust_is_said_to_be_one";
        if let Some(case) = child::case() {
            return play(&case);
        }
        for case in ["rust stack", "rust thread"] {
            let ended = child_of(TEST, case).run();
            ended.killed_by(libc::SIGABRT);
            assert!(
                ended.stderr.contains("has overflowed its stack"),
                "{ended:?}"
            );
            assert!(!ended.stderr.contains("hakmem"), "{ended:?}");
        }
    }

    /// Two threads fault at once: one line, and it is that of a fault.
    #[test]
    fn of_two_faults_at_once_one_is_reported() {
        const TEST: &str = "handlers::of_two_faults_at_once_one_is_reported";
        if child::case().is_some() {
            begin();
            let blocks = [guarded(16, true), guarded(16, true)];
            let barrier = std::sync::Barrier::new(2);
            thread::scope(|scope| {
                for block in blocks {
                    let barrier = &barrier;
                    scope.spawn(move || {
                        barrier.wait();
                        write(block + 16);
                    });
                }
            });
            return;
        }
        let ended = child_of(TEST, "").run();
        ended.killed_by(libc::SIGABRT);
        let faults = faults(&ended);
        assert_eq!(faults.len(), 1, "{ended:?}");
        assert!(
            faults[0].contains(": 1 byte past a block of 16 bytes"),
            "{ended:?}"
        );
    }
}
