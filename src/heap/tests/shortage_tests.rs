//! What heaps keep for nobody serves a thread for which the kernel has no memory. Each test has a process of its own: others take what
//! all heaps keep, too.

use crate::base::size_class::{self, Class};
use crate::heap::cache::budget;
use crate::heap::data::bin::Bin;
use crate::heap::data::heap::HeapRef;
use crate::heap::data::{rest, tls};
use crate::heap::entry::hot;
use crate::heap::upkeep::maintain;
use crate::os::fake::{self, Call};
use crate::os::sys::Errno;
use core::sync::atomic::Ordering;
use std::sync::mpsc::channel;
use std::thread;
use std::vec::Vec;

/// Larger than what a bin holds many of, and smaller than a slot.
const SIZE: usize = 20_000;

fn alloc(size: usize) -> usize {
    hot::alloc(size, 16, None) as usize
}

fn free(blocks: &[usize]) {
    for &block in blocks {
        // SAFETY: live, and freed once.
        unsafe { hot::free(block as *mut u8) };
    }
}

fn heap() -> HeapRef {
    tls::current().expect("a heap")
}

/// Takes blocks until there are no more, while the kernel refuses memory, and frees them.
fn take_all() {
    fake::fail_kind_from(Call::Mmap, 1, Errno::ENOMEM);
    let blocks = core::iter::repeat_with(|| alloc(SIZE));
    let blocks: Vec<usize> = blocks.take_while(|&block| block != 0).collect();
    fake::clear();
    free(&blocks);
}

/// Runs `body` in a thread that has a heap, whatever its first allocation got.
fn with_heap(body: impl FnOnce() + Send + 'static) {
    let all = || {
        fake::clear();
        let blocks: Vec<usize> = (0..100).map(|_| alloc(100)).collect();
        free(&blocks);
        body();
        maintain::purge_now();
    };
    thread::spawn(all).join().expect("it holds");
}

/// The thread has learnt nothing, it only freed.
#[test]
fn what_a_sleeping_thread_keeps() {
    if !fake::alone("heap::tests::shortage_tests::what_a_sleeping_thread_keeps") {
        return;
    }
    let ((awake, heaps), (over, wait)) = (channel(), channel::<()>());
    let sleeper = thread::spawn(move || {
        for _ in 0..12 {
            let blocks: Vec<usize> = (0..1500).map(|_| alloc(1000)).collect();
            free(&blocks);
        }
        awake.send(heap()).expect("somebody waits");
        wait.recv().expect("it is woken");
    });
    let sleeping: HeapRef = heaps.recv().expect("it sleeps");
    with_heap(move || {
        let keeps = || {
            let held = sleeping.lock();
            (held.stack_bytes, held.has_empty, budget::demand(&held))
        };
        let (stacks, _, learnt) = keeps();
        assert!(stacks > 0 && learnt == 0, "{stacks} bytes, {learnt} learnt");
        take_all();
        assert_eq!(keeps(), (0, false, 0));
    });
    over.send(()).expect("it sleeps");
    sleeper.join().expect("it ends");
}

#[test]
fn what_an_ended_thread_left() {
    if !fake::alone("heap::tests::shortage_tests::what_an_ended_thread_left") {
        return;
    }
    with_heap(|| {
        let ended = thread::spawn(|| {
            let blocks: Vec<usize> = (0..50).map(|_| alloc(SIZE)).collect();
            free(&blocks);
            heap()
        });
        let left = ended.join().expect("it ends");
        take_all();
        // Another test's thread may have it by now.
        let idle = left.lock().heap().attended().is_idle();
        assert!(!idle || left.rest.load(Ordering::Relaxed) == rest::EMPTY);
    });
}

#[test]
fn what_lies_in_the_bins_of_other_classes() {
    if !fake::alone("heap::tests::shortage_tests::what_lies_in_the_bins_of_other_classes") {
        return;
    }
    with_heap(|| {
        let sizes = (1..=40).map(|i| 256 * i);
        let classes: Vec<Class> = sizes
            .clone()
            .filter_map(|size| size_class::of_layout(size, 16))
            .collect();
        free(&sizes.map(alloc).collect::<Vec<_>>());
        // SAFETY: the bins are this thread's.
        let count = |&class: &Class| unsafe { Bin::count(heap(), class) };
        assert!(classes.iter().map(count).sum::<usize>() > 20);
        take_all();
        let kept = classes.iter().filter(|&class| count(class) > 0);
        assert_eq!(kept.count(), 0);
    });
}
