//! Threads that come and go.
//!
//! Behaviours imitated:
//! - 100,000 short-lived threads, some leaving blocks that others free;
//! - threads that allocate and free in Rust thread-local destructors and in pthread key destructors, with keys created
//!   before the allocator's and after it, in every round of destructors (glibc frees its own buffers after the last);
//! - 4,000 threads one after another that call the allocator after its own destructor ran: each must leave nothing behind;
//! - hundreds of threads alive that end at once, and a second wave that takes over what they left.

mod common;

use common::blocks::Block;
use common::child::{self, Child};
use common::{MIB, mem, scale};
use hakmem_alloc::Hakmem;
use std::cell::RefCell;
use std::ffi::c_void;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Barrier, Mutex};
use std::thread;

#[global_allocator]
static HAKMEM: Hakmem = Hakmem::new();

/// Keys made before any Rust code of this process allocated, and their ends of the ring of destructors.
static EARLY_KEY: AtomicU32 = AtomicU32::new(u32::MAX);
static LATE_KEY: AtomicU32 = AtomicU32::new(u32::MAX);
static ROUNDS_SEEN: AtomicUsize = AtomicUsize::new(0);

#[used]
#[unsafe(link_section = ".init_array")]
static MAKE_EARLY_KEY: extern "C" fn() = {
    extern "C" fn make() {
        EARLY_KEY.store(make_key(early_ends), Ordering::Release);
    }
    make
};

fn make_key(end: unsafe extern "C" fn(*mut c_void)) -> u32 {
    let mut key = 0;
    // SAFETY: a place for the key and a destructor of the right type.
    assert_eq!(unsafe { libc::pthread_key_create(&mut key, Some(end)) }, 0);
    key
}

/// What a key holds: grown and replaced in every round of destructors.
struct Held {
    round: usize,
    rounds: usize,
    bytes: Vec<u8>,
}

fn hold(key: &AtomicU32, rounds: usize) {
    let held = Box::new(Held {
        round: 0,
        rounds,
        bytes: vec![0xA5; 700],
    });
    // SAFETY: a valid key; the destructor takes the box back.
    let result = unsafe {
        libc::pthread_setspecific(key.load(Ordering::Acquire), Box::into_raw(held).cast())
    };
    assert_eq!(result, 0);
}

fn ends(held: *mut c_void, key: &AtomicU32) {
    // SAFETY: made by `hold`, and taken back once per setting.
    let mut held = unsafe { Box::from_raw(held.cast::<Held>()) };
    let scratch: Vec<String> = (0..20)
        .map(|i| format!("{i} in round {}", held.round))
        .collect();
    assert_eq!(scratch[7], format!("7 in round {}", held.round));
    assert!(
        held.bytes.iter().all(|&b| b == 0xA5),
        "a block held over thread end was overwritten"
    );
    held.bytes = vec![0xA5; held.bytes.len() * 2];
    held.round += 1;
    ROUNDS_SEEN.fetch_max(held.round, Ordering::Relaxed);
    if held.round < held.rounds {
        // SAFETY: a valid key; the next round takes the box back.
        unsafe {
            libc::pthread_setspecific(key.load(Ordering::Acquire), Box::into_raw(held).cast())
        };
    }
}

unsafe extern "C" fn early_ends(held: *mut c_void) {
    ends(held, &EARLY_KEY);
}

unsafe extern "C" fn late_ends(held: *mut c_void) {
    ends(held, &LATE_KEY);
}

thread_local! {
    static LOCAL: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
    static ENDING: RefCell<Option<Ending>> = const { RefCell::new(None) };
}

/// Allocates while the thread's Rust locals are being destroyed, and sends blocks to others.
struct Ending(&'static Mutex<Vec<Block>>);

impl Drop for Ending {
    fn drop(&mut self) {
        let words: Vec<String> = (0..50).map(|i| "x".repeat(i)).collect();
        assert_eq!(words.iter().map(String::len).sum::<usize>(), 49 * 50 / 2);
        self.0
            .lock()
            .expect("no panic inside")
            .extend((0..5).map(|i| Block::new(&HAKMEM, 100 << i)));
    }
}

fn work(seed: usize) {
    LOCAL.with_borrow_mut(|local| {
        local.extend((0..10).map(|i| format!("thread {seed} string {i}")))
    });
    let blocks: Vec<_> = (0..40)
        .map(|i| Block::new(&HAKMEM, 16 + (i * seed) % 3000))
        .collect();
    blocks.into_iter().for_each(|block| block.free(&HAKMEM));
}

/// Allocates and frees so many small blocks, again and again, that the heap maps memory to keep their addresses in.
fn swing(count: usize, size: usize) {
    for _ in 0..4 {
        let blocks: Vec<_> = (0..count).map(|_| Block::new(&HAKMEM, size)).collect();
        blocks.into_iter().for_each(|block| block.free(&HAKMEM));
    }
}

/// Runs `count` threads, two at a time, and returns by how much memory grew after the first tenth.
fn churn(count: usize) -> usize {
    static LEFT: Mutex<Vec<Block>> = Mutex::new(Vec::new());
    let mut after_first = 0;
    for i in 0..count / 2 {
        let pair = [0, 1].map(|k| {
            thread::Builder::new()
                .stack_size(64 << 10)
                .spawn(move || {
                    work(2 * i + k);
                    if i % 8 == 0 {
                        ENDING.with_borrow_mut(|ending| *ending = Some(Ending(&LEFT)));
                    }
                })
                .expect("a thread")
        });
        pair.into_iter()
            .for_each(|t| t.join().expect("a short-lived thread"));
        std::mem::take(&mut *LEFT.lock().expect("no panic inside"))
            .into_iter()
            .for_each(|b| b.free(&HAKMEM));
        if i == count / 20 {
            after_first = mem::rss();
        }
    }
    mem::rss().saturating_sub(after_first)
}

#[test]
fn a_hundred_thousand_threads_leave_bounded_memory() {
    const TEST: &str = "a_hundred_thousand_threads_leave_bounded_memory";
    if child::case().is_some() {
        child::report("growth", churn(scale(100_000, 10_000)));
        return;
    }
    let ended = Child::of(TEST, "churn").run();
    let growth: usize = ended.success().value("growth");
    assert!(growth <= 4 * MIB, "grew by {} KiB", growth / 1024);
}

/// One thread after another; each allocates and frees in all four rounds of key destructors.
fn one_after_another(count: usize) -> usize {
    LATE_KEY.store(make_key(late_ends), Ordering::Release);
    let mut before = 0;
    for i in 0..count {
        let body = move || {
            work(i);
            hold(&EARLY_KEY, 4);
            hold(&LATE_KEY, 4);
        };
        thread::Builder::new()
            .stack_size(64 << 10)
            .spawn(body)
            .expect("a thread")
            .join()
            .expect("it ends well");
        if i == 100 {
            before = mem::rss();
        }
    }
    mem::rss().saturating_sub(before)
}

#[test]
fn threads_that_free_after_key_destructors_leave_nothing() {
    const TEST: &str = "threads_that_free_after_key_destructors_leave_nothing";
    if child::case().is_some() {
        child::report("growth", one_after_another(4_100));
        child::report("rounds", ROUNDS_SEEN.load(Ordering::Relaxed));
        let batches = hakmem_alloc::stats().batches;
        child::report("posted", batches.posted);
        child::report("drained", batches.drained);
        return;
    }
    let ended = Child::of(TEST, "late").run();
    let rounds: usize = ended.success().value("rounds");
    assert_eq!(
        rounds, 4,
        "the destructors did not run after the allocator's own: {ended:?}"
    );
    let growth: usize = ended.value("growth");
    assert!(
        growth <= 4 * MIB,
        "4,000 threads left {} KiB",
        growth / 1024
    );
    // Threads without a heap post, too.
    let (posted, drained): (u64, u64) = (ended.value("posted"), ended.value("drained"));
    assert!(
        0 < drained && drained <= posted,
        "{posted} batches posted, {drained} drained"
    );
}

#[test]
fn waves_of_threads_that_end_at_once() {
    let threads = scale(300, 100);
    for wave in 0..scale(6, 3) {
        let barrier = Barrier::new(threads);
        let kept: Vec<Vec<Block>> = thread::scope(|scope| {
            let spawn = |i| {
                let barrier = &barrier;
                let body = move || {
                    let kept = (0..200)
                        .map(|k| Block::new(&HAKMEM, 16 + (i * 37 + k * 61) % 5000))
                        .collect();
                    work(i + wave);
                    barrier.wait();
                    kept
                };
                thread::Builder::new()
                    .stack_size(128 << 10)
                    .spawn_scoped(scope, body)
                    .expect("a thread")
            };
            let handles: Vec<_> = (0..threads).map(spawn).collect();
            handles
                .into_iter()
                .map(|h| h.join().expect("a thread of the wave"))
                .collect()
        });
        assert_eq!(kept.iter().map(Vec::len).sum::<usize>(), threads * 200);
        // Freed by threads that never saw the owners alive.
        thread::scope(|scope| {
            let mut kept = kept;
            let half = kept.split_off(threads / 2);
            for part in [kept, half] {
                scope.spawn(|| {
                    part.into_iter()
                        .flatten()
                        .for_each(|block| block.free(&HAKMEM))
                });
            }
        });
    }
}

#[test]
fn blocks_outlive_their_threads() {
    let threads = scale(400, 100);
    let mut kept = Vec::new();
    for i in 0..threads {
        let block =
            thread::spawn(move || (Block::new(&HAKMEM, 64), vec![i; 1000], format!("{i}"))).join();
        kept.push(block.expect("a short-lived thread"));
    }
    for (i, (block, numbers, text)) in kept.into_iter().enumerate() {
        assert!(
            numbers.iter().all(|&n| n == i),
            "a vector of an ended thread was overwritten"
        );
        assert_eq!(text.parse(), Ok(i));
        block.free(&HAKMEM);
    }
}

/// A thread with as little stack as the system allows (timers and language runtimes make such threads) frees what several
/// others allocated, allocates itself, and ends. Without optimisation frames are a few times as large, and so is the stack.
#[test]
fn little_stack_is_enough() {
    static HANDED: Mutex<Vec<Block>> = Mutex::new(Vec::new());
    extern "C" fn body(_: *mut libc::c_void) -> *mut libc::c_void {
        let blocks = std::mem::take(&mut *HANDED.lock().expect("no panic inside"));
        let count = blocks.len();
        for (i, block) in blocks.into_iter().enumerate() {
            block.free(&HAKMEM);
            if i % 3 == 0 {
                Block::new(&HAKMEM, 16 + i % 1000).free(&HAKMEM);
            }
        }
        work(1);
        swing(40_000, 16);
        count as *mut libc::c_void
    }
    let owners: Vec<_> = (0..9)
        .map(|owner| {
            thread::spawn(move || {
                for i in 0..3000 {
                    let block = Block::new(&HAKMEM, 16 + (owner + i * 7) % 1000);
                    HANDED.lock().expect("no panic inside").push(block);
                }
            })
        })
        .collect();
    owners
        .into_iter()
        .for_each(|owner| owner.join().expect("an owner"));
    // musl has 2 KiB, in which its own printf does not run.
    let least = libc::PTHREAD_STACK_MIN.max(16 << 10);
    let stack = if cfg!(debug_assertions) {
        4 * least
    } else {
        least
    };
    // SAFETY: plain calls, with storage of our own; the thread is joined.
    let freed = unsafe {
        let mut attributes = std::mem::zeroed();
        assert_eq!(libc::pthread_attr_init(&mut attributes), 0);
        assert_eq!(libc::pthread_attr_setstacksize(&mut attributes, stack), 0);
        // A number or a pointer, as the C library has it.
        let mut id = std::mem::zeroed::<libc::pthread_t>();
        let mut freed = std::ptr::null_mut();
        let made = libc::pthread_create(&mut id, &attributes, body, std::ptr::null_mut());
        assert_eq!(made, 0, "a thread with {stack} bytes of stack");
        assert_eq!(libc::pthread_join(id, &mut freed), 0);
        libc::pthread_attr_destroy(&mut attributes);
        freed as usize
    };
    assert_eq!(freed, 9 * 3000);
}
