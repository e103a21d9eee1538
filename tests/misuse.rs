//! Mistakes of the program that are recognised, each by the line it ends with, and what must not be taken for one.
//!
//! Behaviours imitated:
//! - a block freed twice: at once, after others, after forty, by another thread, by two, after its owner's end, after
//!   realloc, in every size; realloc and the usable size of a freed block;
//! - the inside of a block freed, at multiples of 16 and not; what is none of ours; with a size of another class;
//! - a byte written in front of a large block, which is then freed or reallocated;
//! - some of it late in a program, when frees are not looked at one by one any more.

mod common;

use common::blocks::{alloc, free};
use common::child::{self, Child};
use common::{KIB, MIB};
use hakmem_alloc::{Hakmem, raw};
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

#[global_allocator]
static HAKMEM: Hakmem = Hakmem::new();

const SIZES: [usize; 11] = [
    16,
    48,
    200,
    1000,
    4000,
    16 * KIB,
    40_000,
    64 * KIB,
    100_000,
    200_000,
    MIB,
];

fn me() -> u32 {
    // SAFETY: asks the kernel.
    unsafe { libc::syscall(libc::SYS_gettid) as u32 }
}

/// Says what the line is to name: an address that is freed wrongly.
fn expect(addr: usize) {
    child::report("address", format_args!("{addr:#x}"));
    child::report("thread", me());
}

fn free_wrongly(addr: usize) {
    expect(addr);
    free(addr);
}

/// Frees as much as is looked at one by one, and leaves the bins of small sizes empty.
fn grow_old() {
    for _ in 0..200_000 {
        free(alloc(48));
    }
}

fn many(size: usize, count: usize) -> Vec<usize> {
    (0..count).map(|_| alloc(size)).collect()
}

fn on_a_thread(body: impl FnOnce() + Send + 'static) {
    thread::spawn(body).join().expect("nothing that panics");
}

/// Has the calling thread take so many blocks that it opens what others posted to it.
fn look_at_inbox(size: usize) {
    expect_thread();
    many(size, 4000);
}

fn expect_thread() {
    child::report("later", me());
}

/// Makes a mistake, or in the control all of the same but that.
fn play(how: &str, size: usize, wrong: bool) {
    let then = move |addr| {
        if wrong {
            free_wrongly(addr);
        }
    };
    let late = how.starts_with("late");
    if late {
        grow_old();
    }
    let inside = |by| {
        let block = alloc(size);
        free(block);
        let block = alloc(size);
        if wrong {
            free_wrongly(block + by);
        }
    };
    let elsewhere = how.split_once(": ").map_or(how, |(call, _)| call);
    match how {
        "at once" => {
            let block = alloc(size);
            free(block);
            then(block);
        }
        "after others" => {
            let blocks = many(size, 3);
            blocks.iter().for_each(|&block| free(block));
            then(blocks[0]);
        }
        "after forty" => {
            let blocks = many(size, 40);
            blocks.iter().for_each(|&block| free(block));
            then(blocks[3]);
        }
        "in another thread" => {
            let block = alloc(size);
            on_a_thread(move || {
                free(block);
                then(block);
            });
            // Of a large one each free is a message of its own, and is looked at when those are opened.
            if size > 8 * KIB && size < 64 * KIB {
                look_at_inbox(size);
            }
        }
        "late, in another thread" => {
            let block = alloc(size);
            on_a_thread(move || {
                grow_old();
                free(block);
                if wrong {
                    expect(block);
                    free(block);
                }
            });
            look_at_inbox(size);
        }
        "late, returned to its slab" => {
            let blocks = many(size, 4000);
            if wrong {
                expect(blocks[7]);
                free(blocks[7]);
            }
            blocks.iter().for_each(|&block| free(block));
            expect_thread();
            raw_purge();
        }
        "late, inside, spilled" => {
            let blocks = many(size, 4000);
            for (i, &block) in blocks.iter().enumerate() {
                let by = if wrong && i == 1000 { 16 } else { 0 };
                if by > 0 {
                    expect(block + by);
                }
                free(block + by);
            }
            many(size, 4000);
        }
        "by its owner, then by another thread" => {
            let block = alloc(size);
            // The thread is there before: what it takes to start one would take the block.
            static FREED: AtomicBool = AtomicBool::new(false);
            let other = thread::spawn(move || {
                while !FREED.load(Ordering::Acquire) {
                    thread::yield_now();
                }
                then(block);
            });
            free(block);
            FREED.store(true, Ordering::Release);
            other.join().expect("nothing that panics");
        }
        "after its owner died" => {
            static BLOCK: AtomicUsize = AtomicUsize::new(0);
            on_a_thread(move || BLOCK.store(alloc(size), Ordering::Relaxed));
            let block = BLOCK.load(Ordering::Relaxed);
            free(block);
            then(block);
        }
        "after realloc" => {
            let block = alloc(size);
            // SAFETY: in use.
            let new = unsafe { raw::realloc(block as *mut u8, size * 4 + 200) };
            assert!(new as usize != block, "it moved");
            then(block);
        }
        "realloc" => {
            let (block, other) = (alloc(size), alloc(size));
            free(block);
            expect(block);
            // SAFETY: none if it is wrong.
            unsafe { raw::realloc(if wrong { block } else { other } as *mut u8, size * 4) };
        }
        "realloc: in place" => {
            let (block, other) = (alloc(size), alloc(size));
            free(block);
            expect(block);
            // SAFETY: none if it is wrong.
            unsafe { raw::realloc(if wrong { block } else { other } as *mut u8, size) };
        }
        "usable size" => {
            let (block, other) = (alloc(size), alloc(size));
            free(block);
            expect(block);
            // SAFETY: none if it is wrong.
            unsafe { raw::usable_size(if wrong { block } else { other } as *const u8) };
        }
        "realloc inside" => {
            let block = alloc(size);
            expect(block + 16);
            // The new size fits where the block is.
            // SAFETY: none if it is wrong.
            unsafe { raw::realloc((block + if wrong { 16 } else { 0 }) as *mut u8, size) };
        }
        "usable size inside" => {
            let block = alloc(size);
            expect(block + 16);
            // SAFETY: none if it is wrong.
            unsafe { raw::usable_size((block + if wrong { 16 } else { 0 }) as *const u8) };
        }
        "inside by 1" => inside(1),
        "inside by 8" => inside(8),
        "inside by 16" => inside(16),
        "start of what an aligned block lies in" => {
            // What a program that aligns by hand may free: 48 bytes before. The first block of a slab has another slab there.
            let mut blocks = (0..).map(|_| raw::alloc(size, 64) as usize);
            let block = blocks.find(|at| at % (64 * KIB) != 0).expect("no end");
            if wrong {
                free_wrongly(block - 48);
            } else {
                free(block);
            }
        }
        "late, twice in a row" => {
            let block = alloc(size);
            free(block);
            if wrong {
                expect(block);
                free(block);
            }
            alloc(size);
        }
        "wrong size" => {
            let block = alloc(size);
            let named = if wrong { size * 40 } else { size };
            expect(block);
            // SAFETY: none if it is wrong.
            unsafe { raw::dealloc_sized(block as *mut u8, named, 16) };
        }
        _ if how.contains("written in front") => {
            // Where the kernel gives huge pages unasked, only a block in memory that was used before has the word.
            free(alloc(size));
            let mut block = alloc(size) as *mut u8;
            // SAFETY: in use, and freed once. The byte in front is nobody's.
            unsafe {
                if how.ends_with("moved") {
                    block = raw::realloc(block, 3 * size);
                }
                expect(block as usize);
                if wrong {
                    block.sub(1).write(7);
                }
                if how.starts_with("realloc") {
                    block = raw::realloc(block, size + 1);
                }
                free(block as usize);
            }
        }
        _ if elsewhere == "not ours" => {
            static STATIC: [u64; 8] = [0; 8];
            let local = [0u64; 8];
            then(match how {
                "not ours: stack" => black_box(&local).as_ptr() as usize,
                "not ours: static" => STATIC.as_ptr() as usize,
                _ => 0x1234_5000,
            });
        }
        other => panic!("unknown case {other}"),
    }
}

/// Sends home what the thread's heap keeps.
fn raw_purge() {
    hakmem_alloc::purge();
}

const FREED: &str = "not a block of this allocator, or freed already";

/// The line that the mistake ends with.
fn line(how: &str, class: usize, address: &str, thread: &str) -> String {
    let twice = |asked: &str| {
        format!(
            "hakmem: {asked} of {address}: this block of {class} bytes is free already (thread {thread}); stopping before it is given out twice"
        )
    };
    let inside = |by: usize| {
        format!(
            "hakmem: free of {address}: inside a block, at byte {by} of {class} (thread {thread}); stopping before memory is damaged"
        )
    };
    let not_ours = |asked: &str, why: &str| {
        format!("hakmem: {asked} of {address}: {why}; stopping before memory is damaged")
    };
    let asked = match how {
        _ if how.starts_with("realloc") => "realloc",
        _ if how.starts_with("usable size") => "usable size",
        _ => "free",
    };
    match how {
        // Of a large block the size that was asked for is known.
        _ if class > MIB && how.contains("inside") => format!(
            "hakmem: {asked} of {address}: inside a block, at byte 16 of {} (thread {thread}); stopping before memory is damaged",
            3 * MIB
        ),
        _ if how.contains("written in front") => {
            let size = if how.ends_with("moved") { 9 } else { 3 } * MIB;
            format!(
                "hakmem: {asked} of {address}: written 1 byte before this block of {size} bytes (thread {thread}); stopping before more is damaged"
            )
        }
        "inside by 1" => inside(1),
        "inside by 8" => inside(8),
        "inside by 16" | "late, inside, spilled" => inside(16),
        "start of what an aligned block lies in" => inside(class - 48),
        "wrong size" => not_ours("free", "the layout's size class is not the block's"),
        // Nothing of its slab is in use then.
        "after its owner died" if class > 8 * KIB => not_ours(asked, FREED),
        // So large a run is given back at once, but one that another thread frees waits in the owner's inbox unless that is full.
        _ if class == MIB || class > 128 * KIB && how != "in another thread" => {
            not_ours(asked, FREED)
        }
        _ if how.starts_with("not ours") => not_ours(asked, FREED),
        _ if asked != "free" => twice(asked),
        _ => twice("double free"),
    }
}

fn table() -> Vec<(&'static str, usize)> {
    let mut table = Vec::new();
    for size in SIZES {
        for how in [
            "at once",
            "in another thread",
            "after its owner died",
            "realloc",
            "realloc: in place",
            "usable size",
            "inside by 1",
            "inside by 8",
            "inside by 16",
            "late, twice in a row",
        ] {
            if !(how == "inside by 16" && size == 16) {
                table.push((how, size));
            }
        }
        if size < 64 * KIB {
            table.push(("after others", size));
            table.push(("wrong size", size));
        } else {
            table.push(("by its owner, then by another thread", size));
        }
        if size < 100_000 {
            table.push(("after realloc", size));
        }
    }
    for size in [48, 200, 1000] {
        table.push(("after forty", size));
        table.push(("late, returned to its slab", size));
        table.push(("late, inside, spilled", size));
    }
    for size in [6000, 16 * KIB, 40_000, 64 * KIB, 100_000] {
        table.push(("late, in another thread", size));
    }
    for how in [
        "inside by 16",
        "realloc inside",
        "usable size inside",
        "written in front",
        "written in front, moved",
        "realloc, written in front",
    ] {
        table.push((how, 3 * MIB));
    }
    table.push(("start of what an aligned block lies in", 640));
    for how in ["not ours: stack", "not ours: static", "not ours: nobody"] {
        table.push((how, 64));
    }
    table
}

fn run(
    test: &'static str,
    wrong: bool,
    check: impl Fn(&str, usize, &child::Ended) -> Option<String>,
) {
    if let Some(case) = child::case() {
        let (how, size) = case.split_once('/').expect("mistake and size");
        let size = size.parse().expect("a size");
        let probe = alloc(size);
        // SAFETY: in use.
        child::report("class", unsafe { raw::usable_size(probe as *const u8) });
        play(how, size, wrong);
        child::report("survived", "yes");
        return;
    }
    let table = table();
    let mut failed = Vec::new();
    for (how, size) in &table {
        let ended = Child::of(test, &format!("{how}/{size}")).run();
        if let Some(why) = check(how, *size, &ended) {
            failed.push(format!("{how}, {size} bytes: {why}"));
        }
    }
    child::assert_none(&failed, table.len());
}

#[test]
fn every_mistake_is_named() {
    run("every_mistake_is_named", true, |how, _, ended| {
        let is_told_later = ended.stdout.contains("report later=");
        let thread: String = ended.value(if is_told_later { "later" } else { "thread" });
        let expected = line(
            how,
            ended.value("class"),
            &ended.value::<String>("address"),
            &thread,
        );
        let aborted = ended.status.is_some_and(|status| {
            std::os::unix::process::ExitStatusExt::signal(&status) == Some(libc::SIGABRT)
        });
        let named = ended.stderr.lines().next() == Some(&expected);
        (!named || !aborted).then(|| format!("expected {expected}\n{ended:?}"))
    });
}

#[test]
fn what_is_right_is_not_reported() {
    run("what_is_right_is_not_reported", false, |_, _, ended| {
        let well = ended.status.is_some_and(|status| status.success()) && ended.stderr.is_empty();
        (!well).then(|| format!("{ended:?}"))
    });
}
