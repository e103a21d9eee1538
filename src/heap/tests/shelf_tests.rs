//! The shelf: what a bin of larger blocks sheds comes back by its addresses, once, and leaves the next free room.

use crate::base::size_class::{self, Class};
use crate::heap::cache::{shelf, stack};
use crate::heap::data::bin::{Bin, bin_limit, room, shelf_room};
use crate::heap::data::heap::HeapRef;
use crate::heap::data::tls;
use crate::heap::entry::hot;
use crate::slab::batch::Block;
use crate::slab::directory::{DIRECTORY, Tag};
use std::collections::HashSet;
use std::vec::Vec;
use std::{ptr, thread};

const SIZE: usize = 2000;
const MARK: usize = 0x5AFE;

fn class() -> Class {
    size_class::of_size(SIZE).expect("a class")
}

/// A block of the calling thread's slabs: neither a checked nor a guarded one, which stay with the program.
fn alloc() -> *mut Block {
    loop {
        let block: *mut Block = hot::alloc(SIZE, 8, None).cast();
        let owner = tls::current().expect("a heap").id;
        if DIRECTORY.tag(block as usize) == Tag::new(owner, class()) {
            return block;
        }
    }
}

/// # Safety
/// A live block of the calling thread's, not used again.
unsafe fn free(block: *mut Block) {
    // SAFETY: the caller's promise.
    unsafe { hot::dealloc(block.cast(), SIZE, 8) };
}

/// The calling thread's heap, whose bin of the class has all its places, and so a shelf. Nothing is on the stack.
fn with_shelf() -> HeapRef {
    let blocks: Vec<_> = (0..4 * room(class())).map(|_| alloc()).collect();
    for block in blocks {
        // SAFETY: just allocated.
        unsafe { free(block) };
    }
    let heap = tls::current().expect("a heap");
    // SAFETY: the thread's own heap, under its lock.
    unsafe {
        let mut held = heap.lock();
        assert!(Bin::widen(heap, class()));
        drop(held.unlock());
        while heap.lock().stacks[class()].blocks > 0 {
            // They stay with the program.
            alloc();
        }
        held = heap.lock();
        assert!(stack::is_valid(&held));
        drop(held.unlock());
    }
    heap
}

/// Blocks of the class whose first words are marked.
fn marked(count: usize) -> Vec<*mut Block> {
    let blocks: Vec<_> = (0..count).map(|_| alloc()).collect();
    for &block in &blocks {
        // SAFETY: a live block.
        unsafe { block.cast::<[usize; 3]>().write([MARK; 3]) };
    }
    blocks
}

fn is_marked(block: *mut Block) -> bool {
    // SAFETY: memory of this test's, freed or not.
    unsafe { block.cast::<[usize; 3]>().read() == [MARK; 3] }
}

#[test]
fn what_lies_on_the_shelf_is_not_written_to_and_comes_back_newest_last() {
    thread::spawn(|| {
        let heap = with_shelf();
        let blocks = marked(shelf_room(class()));
        let mut back = [ptr::null_mut(); 64];
        // SAFETY: the thread's own heap, under its lock, and its own blocks.
        unsafe {
            let mut held = heap.lock();
            assert!(held.stacks[class()].blocks == 0);
            for part in blocks.chunks(5) {
                stack::put(&mut held, class(), part.as_ptr(), part.len());
                assert!(stack::is_valid(&held));
            }
            assert_eq!(shelf::blocks(&held, class()), blocks);
            assert!(blocks.iter().all(|&block| is_marked(block)));
            let some = stack::take(&mut held, class(), back.as_mut_ptr(), 3);
            assert_eq!(back[..some], blocks[blocks.len() - 3..]);
            let rest = stack::take(&mut held, class(), back.as_mut_ptr(), 64);
            assert_eq!(back[..rest], blocks[..blocks.len() - 3]);
            assert_eq!(stack::take(&mut held, class(), back.as_mut_ptr(), 64), 0);
            assert!(stack::is_valid(&held) && held.stacks[class()].blocks == 0);
            drop(held.unlock());
            blocks.into_iter().for_each(|block| free(block));
        }
    })
    .join()
    .expect("it passes");
}

#[test]
fn what_the_shelf_has_no_room_for_becomes_a_batch_and_each_block_comes_back_once() {
    thread::spawn(|| {
        let heap = with_shelf();
        let most = room(class());
        for each in [1, 3, shelf_room(class()) - 1, shelf_room(class()), most] {
            let blocks = marked(5 * shelf_room(class()));
            let mut back = HashSet::new();
            // SAFETY: the thread's own heap, under its lock, and its own blocks.
            unsafe {
                let mut held = heap.lock();
                for part in blocks.chunks(each) {
                    stack::put(&mut held, class(), part.as_ptr(), part.len());
                    assert!(stack::is_valid(&held));
                }
                assert_eq!(held.stacks[class()].blocks as usize, blocks.len());
                assert!(held.stacks[class()].top.is_some(), "no batch of {each}");
                let mut some = [ptr::null_mut(); 512];
                loop {
                    match stack::take(&mut held, class(), some.as_mut_ptr(), most) {
                        0 => break,
                        count => back.extend(&some[..count]),
                    }
                    assert!(stack::is_valid(&held));
                }
                drop(held.unlock());
                assert_eq!(back, blocks.iter().copied().collect());
                blocks.into_iter().for_each(|block| free(block));
                while heap.lock().stacks[class()].blocks > 0 {
                    alloc();
                }
            }
        }
    })
    .join()
    .expect("it passes");
}

/// A program that takes and frees in turns has room for half a bin of frees after a refill, and blocks for half a bin of requests
/// after an overflow.
#[test]
fn a_refill_after_a_free_leaves_half_of_the_bin_empty() {
    thread::spawn(|| {
        let heap = with_shelf();
        // SAFETY: the thread's own heap; bins are its own.
        let count = || unsafe { Bin::count(heap, class()) };
        let limit = bin_limit(class());
        let mut blocks: Vec<_> = (0..4 * limit).map(|_| alloc()).collect();
        // SAFETY: the thread's own blocks, and its own bin under the lock.
        unsafe {
            while count() > 0 {
                blocks.push(alloc());
            }
            let held = heap.lock();
            Bin::set_limit(heap, class(), limit);
            drop(held.unlock());
            for _ in 0..limit + 1 {
                free(blocks.pop().expect("a block"));
            }
            assert_eq!(count(), limit / 2 + 1, "the newer half stays");
            for _ in 0..limit / 2 + 2 {
                blocks.push(alloc());
            }
            assert_eq!(count(), limit / 2 - 1, "half comes back, one is given out");
            assert_eq!(shelf::blocks(&heap.lock(), class()), []);
            blocks.into_iter().for_each(|block| free(block));
        }
    })
    .join()
    .expect("it passes");
}
