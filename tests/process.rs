//! The ends of a process: calls before `main`, in `atexit` handlers, and errno in between.
//!
//! Behaviours imitated:
//! - a constructor in `.init_array` that allocates, grows, frees, and leaves a block for later;
//! - `atexit` handlers, registered before main and during it, that allocate and free blocks of all times;
//! - threads still running, and still allocating, while the process exits;
//! - code that reads errno after something was dropped.

mod common;

use common::blocks::Block;
use common::child::{self, Child};
use hakmem_alloc::Hakmem;
use std::alloc::{GlobalAlloc, Layout};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

#[global_allocator]
static HAKMEM: Hakmem = Hakmem::new();

static BEFORE_MAIN: Mutex<Vec<Block>> = Mutex::new(Vec::new());
static EARLY_SUM: AtomicUsize = AtomicUsize::new(0);

#[used]
#[unsafe(link_section = ".init_array")]
static CONSTRUCTOR: extern "C" fn() = {
    extern "C" fn early() {
        let mut numbers = Vec::new();
        numbers.extend(0..10_000usize);
        EARLY_SUM.store(numbers.iter().sum(), Ordering::Release);
        let sizes = [1, 16, 100, 1000, 5000, 70_000, 2 << 20];
        *BEFORE_MAIN.lock().expect("nobody else runs yet") =
            sizes.map(|s| Block::new(&HAKMEM, s)).into();
        // SAFETY: a handler of the right type that does not unwind.
        assert_eq!(unsafe { libc::atexit(last_handler) }, 0);
    }
    early
};

/// Registered first, so it runs last: after everything else of this process that ends in order.
extern "C" fn last_handler() {
    if std::env::var_os("ALLOC_TEST_CASE").is_some() {
        exercise("after all other handlers");
    }
}

extern "C" fn handler() {
    let early = std::mem::take(&mut *BEFORE_MAIN.lock().expect("no panic inside"));
    let count = early.len();
    early.into_iter().for_each(|block| block.free(&HAKMEM));
    exercise(&format!("freed {count}"));
}

fn exercise(label: &str) {
    let words: Vec<String> = (0..1000).map(|i| format!("{i}")).collect();
    let length: usize = words.iter().map(String::len).sum();
    let big = vec![1u8; 3 << 20];
    let line = format!(
        "\nreport exit={label}, {length} digits, {} bytes\n",
        big.len()
    );
    // SAFETY: the bytes of a string; standard output's own lock and buffer may be gone by now.
    unsafe { libc::write(1, line.as_ptr().cast(), line.len()) };
}

#[test]
fn allocation_before_main() {
    assert_eq!(EARLY_SUM.load(Ordering::Acquire), 9_999 * 10_000 / 2);
    let kept = BEFORE_MAIN.lock().expect("no panic inside").len();
    assert_eq!(kept, 7, "blocks taken before main");
}

#[test]
fn allocation_in_exit_handlers() {
    if child::case().is_some() {
        // SAFETY: a handler of the right type that does not unwind.
        assert_eq!(unsafe { libc::atexit(handler) }, 0);
        return;
    }
    let ended = Child::of("allocation_in_exit_handlers", "exit").run();
    let out = &ended.success().stdout;
    let (first, last) = (
        out.find("exit=freed 7, 2890 digits"),
        out.find("exit=after all other handlers, 2890"),
    );
    assert!(
        first.is_some() && last > first,
        "handlers out of order or missing: {ended:?}"
    );
}

#[test]
fn exit_while_threads_allocate() {
    if child::case().is_some() {
        for i in 0..6usize {
            thread::spawn(move || {
                for n in i.. {
                    Block::new(&HAKMEM, 16 + n % 4000).free(&HAKMEM);
                }
            });
        }
        thread::sleep(std::time::Duration::from_millis(10));
        // SAFETY: registered handlers run; the threads above go on meanwhile.
        unsafe { libc::exit(0) };
    }
    for _ in 0..common::scale(40, 20) {
        Child::of("exit_while_threads_allocate", "busy")
            .run()
            .success();
    }
}

#[test]
fn dealloc_preserves_errno() {
    // SAFETY: errno of this thread.
    let errno = unsafe { libc::__errno_location() };
    // Small, multi-slot and huge blocks; many of each, so that slow paths, purges and munmap are met.
    for size in [16, 1000, 20_000, 300_000, 5 << 20, 80 << 20] {
        let count = (64 << 20) / size + 2;
        let blocks: Vec<_> = (0..count.min(50_000))
            .map(|_| Block::new(&HAKMEM, size))
            .collect();
        for block in blocks {
            // SAFETY: a valid pointer to this thread's errno.
            unsafe { *errno = 4242 };
            block.free(&HAKMEM);
            // SAFETY: as above.
            assert_eq!(
                unsafe { *errno },
                4242,
                "dealloc of {size} bytes changed errno"
            );
        }
    }
    // Of another thread's blocks, and of an ended one's.
    let blocks = thread::spawn(|| {
        (0..20_000)
            .map(|_| Block::new(&HAKMEM, 64))
            .collect::<Vec<_>>()
    });
    for block in blocks.join().expect("a short-lived thread") {
        // SAFETY: a valid pointer to this thread's errno.
        unsafe { *errno = 4242 };
        block.free(&HAKMEM);
        // SAFETY: as above.
        assert_eq!(
            unsafe { *errno },
            4242,
            "dealloc of a foreign block changed errno"
        );
    }
}

#[test]
fn two_handles_are_one_allocator() {
    let (first, second) = (Hakmem::new(), Hakmem::default());
    let layout = Layout::new::<[u64; 20]>();
    // SAFETY: each block is freed once, with its layout, through the other handle.
    unsafe {
        let (a, b) = (first.alloc(layout), second.alloc_zeroed(layout));
        assert!(!a.is_null() && !b.is_null() && a != b);
        second.dealloc(a, layout);
        first.dealloc(b, layout);
    }
}
