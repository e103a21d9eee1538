//! Blocks of another heap do not circulate in a thread for ever: they go to their owner, and blocks of its own take their place.
//! Before a request is refused they serve it all the same.

use crate::base::size_class;
use crate::base::tuning::heap_cache::{OUTBOX_SPARED, TURN_LATEST};
use crate::heap::data::state::Outbox;
use crate::heap::data::tls;
use crate::heap::entry::hot;
use crate::os::fake::{self, Call};
use crate::os::sys::Errno;
use crate::slab::directory::DIRECTORY;
use std::collections::VecDeque;
use std::sync::mpsc;
use std::thread;
use std::vec::Vec;

const SIZE: usize = 112;
const LIVE: usize = 100;

fn takes(size: usize) -> usize {
    let block = hot::alloc(size, 8, None);
    assert!(!block.is_null());
    block as usize
}

/// Replaces the oldest block of the set, many times over. Returns how many blocks of the set are another heap's then.
fn replaces(mut set: VecDeque<usize>) -> usize {
    for _ in 0..50 * LIVE {
        let oldest = set.pop_front().expect("a block");
        // SAFETY: a block of the set, which leaves it.
        unsafe { hot::dealloc(oldest as *mut u8, SIZE, 8) };
        set.push_back(takes(SIZE));
    }
    let own = tls::current()
        .expect("a thread that allocates has a heap")
        .id;
    let foreign = set.iter().filter(|&&at| DIRECTORY.tag(at).owner() != own);
    let count = foreign.count();
    for block in set {
        // SAFETY: as above.
        unsafe { hot::dealloc(block as *mut u8, SIZE, 8) };
    }
    count
}

/// Runs `body` with blocks that a thread allocated which lives meanwhile. In a process of other tests its heap may be an adopted one
/// that holds blocks of several owners, and some of the blocks may be checked, which no outbox gathers.
fn with_blocks_of_another<T: Send>(
    size: usize,
    count: usize,
    body: impl FnOnce(Vec<usize>) -> T + Send,
) -> T {
    let (give, given) = mpsc::channel();
    let (end, ended) = mpsc::channel::<()>();
    thread::scope(|scope| {
        scope.spawn(move || {
            let blocks: Vec<_> = (0..count).map(|_| takes(size)).collect();
            give.send(blocks).expect("the test waits");
            // Its heap stays its own.
            let _ = ended.recv();
        });
        let set = given.recv().expect("blocks");
        let result = scope.spawn(|| body(set)).join().expect("it passes");
        drop(end);
        result
    })
}

#[test]
fn blocks_of_another_heap_do_not_stay_for_ever() {
    let foreign = with_blocks_of_another(SIZE, LIVE, |set| replaces(set.into()));
    assert!(
        foreign <= LIVE / 10,
        "{foreign} of {LIVE} blocks are another heap's"
    );
}

/// A thread frees what two others sent it, one message after the other: each message finds blocks of the other owner in the
/// outbox, which makes way before the message ends.
#[test]
fn runs_of_other_owners_go_home_through_the_outbox() {
    if !fake::alone("heap::tests::outbox_tests::runs_of_other_owners_go_home_through_the_outbox") {
        return;
    }
    const RUN: usize = 2 * TURN_LATEST as usize;
    with_blocks_of_another(SIZE, 3 * RUN, |first| {
        with_blocks_of_another(SIZE, 3 * RUN, |second| {
            let class = size_class::small(SIZE);
            // From its first allocation on the thread has a heap.
            let first_own = takes(SIZE);
            for (one, other) in first.chunks(RUN).zip(second.chunks(RUN)) {
                for run in [one, other] {
                    for &block in run {
                        // SAFETY: a block of the set, freed once.
                        unsafe { hot::dealloc(block as *mut u8, SIZE, 8) };
                    }
                    let owner = DIRECTORY.tag(run[RUN - 1]).owner();
                    let heap = tls::current().expect("it allocated");
                    // SAFETY: the thread's own heap.
                    let gathers = unsafe { Outbox::owner(heap, class) };
                    assert!(gathers.is_none_or(|gathers| gathers == owner));
                }
            }
            // SAFETY: live, and freed once.
            unsafe { hot::dealloc(first_own as *mut u8, SIZE, 8) };
        });
    });
}

/// Each freed block is in the outbox when the next is wanted, whether this refill would leave it there or not.
#[test]
fn an_outbox_serves_before_memory_is_refused() {
    if !fake::alone("heap::tests::outbox_tests::an_outbox_serves_before_memory_is_refused") {
        return;
    }
    for size in [SIZE, 32] {
        with_blocks_of_another(size, 4 * OUTBOX_SPARED as usize, |set| {
            fake::clear();
            fake::fail_kind_from(Call::Mmap, 1, Errno::ENOMEM);
            let all = core::iter::repeat_with(|| hot::alloc(size, 8, None) as usize);
            let mut blocks: Vec<usize> = all.take_while(|&block| block != 0).collect();
            for block in set {
                // SAFETY: a block of the set, freed once.
                unsafe { hot::dealloc(block as *mut u8, size, 8) };
                let again = hot::alloc(size, 8, None) as usize;
                assert_ne!(again, 0, "{size} bytes are refused, and a block is at hand");
                blocks.push(again);
            }
            fake::clear();
            for block in blocks {
                // SAFETY: live, and freed once.
                unsafe { hot::dealloc(block as *mut u8, size, 8) };
            }
        });
    }
}
