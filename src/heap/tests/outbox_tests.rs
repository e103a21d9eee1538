//! Blocks of another heap do not circulate in a thread for ever: they go to their owner, and blocks of its own take their place.

use crate::heap::data::tls;
use crate::heap::entry::hot;
use crate::slab::directory::DIRECTORY;
use std::collections::VecDeque;
use std::sync::mpsc;
use std::thread;
use std::vec::Vec;

const SIZE: usize = 112;
const LIVE: usize = 100;

fn takes() -> usize {
    let block = hot::alloc(SIZE, 8, None);
    assert!(!block.is_null());
    block as usize
}

/// Replaces the oldest block of the set, many times over. Returns how many blocks of the set are another heap's then.
fn replaces(mut set: VecDeque<usize>) -> usize {
    for _ in 0..50 * LIVE {
        let oldest = set.pop_front().expect("a block");
        // SAFETY: a block of the set, which leaves it.
        unsafe { hot::dealloc(oldest as *mut u8, SIZE, 8) };
        set.push_back(takes());
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

#[test]
fn blocks_of_another_heap_do_not_stay_for_ever() {
    let (give, given) = mpsc::channel();
    let (end, ended) = mpsc::channel::<()>();
    let owner = thread::spawn(move || {
        let blocks: Vec<_> = (0..LIVE).map(|_| takes()).collect();
        give.send(blocks).expect("the test waits");
        // Its heap stays its own.
        let _ = ended.recv();
    });
    let set = given.recv().expect("blocks");
    let foreign = thread::spawn(|| replaces(set.into()))
        .join()
        .expect("it passes");
    drop(end);
    owner.join().expect("it ends");
    assert!(
        foreign <= LIVE / 10,
        "{foreign} of {LIVE} blocks are another heap's"
    );
}
