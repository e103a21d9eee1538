//! Model checks of a heap whose thread is gone. The thread frees to its last moment, other threads post to its heap, and others
//! take the heap, to give it up or to adopt it.
//!
//! The queue, the inbox, the lock and the protocol between posters and leavers are the real ones. The kernel's report of who is
//! gone is an atomic. Bin and slab are counts that loom watches.

use super::*;
use crate::heap::data::attended::{Attended, IDLE, LIVE};
use crate::os::lock::{Guard, Lock, Locked};
use crate::slab::batch::{Batch, Block};
use crate::slab::inbox::Inbox;
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::AtomicBool;
use loom::thread;
use std::boxed::Box;
use std::vec::Vec;

const THREAD: u32 = 7;

/// The step that is left out, for the twins that must fail.
#[derive(Clone, Copy, PartialEq)]
enum Without {
    Nothing,
    /// The kernel is not asked.
    Asking,
    /// What a gone thread wrote is not made visible.
    Fence,
    LookAgain,
}

/// As `registry::Idle`, with one heap.
struct Registry {
    ending: Queue,
    is_listed: bool,
}

struct World {
    inbox: Inbox,
    lock: Lock,
    state: AtomicU32,
    ending: UnsafeCell<Ending>,
    registry: Locked<Registry>,
    gone: AtomicBool,
    /// Blocks in the bin, which its thread touches without a lock, and those at home in their slab, under the lock.
    bin: UnsafeCell<usize>,
    home: UnsafeCell<usize>,
    without: Without,
}

// SAFETY: the words are loom's, or lie under one of the locks.
unsafe impl Sync for World {}
// SAFETY: as above.
unsafe impl Send for World {}

impl World {
    fn new(without: Without) -> Arc<World> {
        Arc::new(World {
            inbox: Inbox::new(),
            lock: Lock::new(),
            state: AtomicU32::new(LIVE),
            ending: UnsafeCell::new(Ending {
                thread: AtomicU32::new(0),
                queued: Word::new(false),
                next: Word::new(ptr::null_mut()),
            }),
            registry: Locked::new(Registry {
                ending: Queue::new(),
                is_listed: false,
            }),
            gone: AtomicBool::new(false),
            bin: UnsafeCell::new(0),
            home: UnsafeCell::new(0),
            without,
        })
    }

    fn attended(&self) -> Attended<'_> {
        Attended {
            inbox: &self.inbox,
            lock: &self.lock,
            state: &self.state,
        }
    }

    fn ending(&self) -> *mut Ending {
        self.ending.with(|ending| ending.cast_mut())
    }

    fn free_into_bin(&self) {
        // SAFETY: the bin is the thread's own; loom reports another who uses it meanwhile.
        self.bin.with_mut(|bin| unsafe { *bin += 1 });
    }

    /// As `exit::note_ending`, by the heap's thread.
    fn note_ending(&self) {
        let mut registry = self.registry.lock();
        // SAFETY: the heap outlives the queue.
        unsafe {
            (*self.ending()).begins(THREAD);
            registry.ending.add(self.ending());
        }
    }

    /// The heap's thread after its last call: it frees a block, and is gone. Release, as the kernel ends a thread.
    fn end(&self) {
        self.free_into_bin();
        self.gone.store(true, Ordering::Release);
    }

    /// As `registry::take_gone`.
    fn take_gone(&self) -> bool {
        let is_gone = |thread| {
            assert_eq!(thread, THREAD);
            self.without == Without::Asking || self.gone.load(Ordering::Relaxed)
        };
        let mut registry = self.registry.lock();
        let gone = match self.without {
            Without::Fence => registry.ending.pop_gone(1, is_gone),
            _ => registry.ending.take_gone(1, is_gone),
        };
        assert!(gone.is_none_or(|heap| heap == self.ending()));
        gone.is_some()
    }

    /// As `registry::take_left`.
    fn take_left(&self) -> bool {
        self.take_gone() || core::mem::take(&mut self.registry.lock().is_listed)
    }

    /// As `drain::drain_and_unlock`.
    fn drain_and_unlock(&self, guard: Guard<'_>) {
        let mut taken = self.inbox.take_all();
        while let Some(batch) = taken {
            // SAFETY: taken, so owned; one block each.
            unsafe {
                taken = batch.link();
                drop(Box::from_raw(batch.head()));
            }
            self.give(1);
        }
        drop(guard);
    }

    fn give(&self, blocks: usize) {
        // SAFETY: under the lock; loom reports two who get here at once.
        self.home.with_mut(|home| unsafe { *home += blocks });
    }

    /// As `give_up::give_up`.
    fn give_up(&self) {
        let attended = self.attended();
        let guard = self.lock.lock();
        // SAFETY: the heap's.
        unsafe { (*self.ending()).is_over() };
        // SAFETY: the heap's thread is gone, or calls this; loom reports it otherwise.
        let blocks = self
            .bin
            .with_mut(|bin| unsafe { core::mem::take(&mut *bin) });
        self.give(blocks);
        // SAFETY: the lock is held, and the thread is gone.
        unsafe { attended.leave() };
        self.drain_and_unlock(guard);
        if self.without != Without::LookAgain {
            attended.look_again(|guard| self.drain_and_unlock(guard));
        }
        self.registry.lock().is_listed = true;
    }

    /// As `adopt::acquire`, by a thread that frees a block and gives the heap up.
    fn adopt_and_end(&self) {
        let guard = self.lock.lock();
        // SAFETY: the lock is held, and one thread takes the heap.
        unsafe { self.attended().take() };
        drop(guard);
        self.free_into_bin();
        self.give_up();
    }

    /// As `post::post` and `drain::try_drain`.
    fn post(&self) {
        let block = Box::into_raw(Box::new(Block::new()));
        // SAFETY: a chain of one block, just made, and given up.
        let posted = unsafe { self.attended().post(Batch::seal(block, 1)) };
        if posted.nobody_comes {
            match self.without {
                Without::LookAgain => {
                    if let Some(guard) = self.lock.try_lock() {
                        self.drain_and_unlock(guard);
                    }
                }
                _ => self
                    .attended()
                    .try_drain(|guard| self.drain_and_unlock(guard)),
            }
        }
    }

    /// Everything is home once the next thread has looked.
    fn check(&self, blocks: usize) {
        if self.take_gone() {
            self.give_up();
        }
        let registry = self.registry.lock();
        assert!(registry.is_listed && registry.ending.len() == 0);
        assert_eq!(self.state.load(Ordering::Relaxed), IDLE);
        assert!(self.inbox.is_empty(), "a batch nobody comes for");
        // SAFETY: every other thread has been joined.
        self.home
            .with(|home| unsafe { assert_eq!(*home, blocks, "blocks at home") });
    }
}

/// `others` do their parts while the main thread, which noted that the heap's thread is ending, does `mine`.
fn check(without: Without, others: &'static [fn(&World)], mine: fn(&World), blocks: usize) {
    let mut model = loom::model::Builder::new();
    // Three threads have too many orders to try all of them: only those with at most three preemptions are tried.
    model.preemption_bound = (others.len() > 1).then_some(3);
    model.check(move || {
        let world = World::new(without);
        world.note_ending();
        let start = |body: fn(&World)| {
            let world = Arc::clone(&world);
            thread::spawn(move || body(&world))
        };
        let others: Vec<_> = others.iter().copied().map(start).collect();
        mine(&world);
        for other in others {
            other.join().expect("another thread");
        }
        world.check(blocks);
    });
}

fn give_up_if_gone(world: &World) {
    if world.take_gone() {
        world.give_up();
    }
}

/// A thread that needs a heap. The count of blocks does not tell whether it got this one.
fn adopt_if_left(world: &World) {
    if world.take_left() {
        world.adopt_and_end();
        // Its own block is not counted.
        let guard = world.lock.lock();
        // SAFETY: under the lock.
        world.home.with_mut(|home| unsafe { *home -= 1 });
        drop(guard);
        world
            .attended()
            .look_again(|guard| world.drain_and_unlock(guard));
    }
}

#[test]
fn a_heap_is_taken_once_its_thread_is_gone() {
    check(Without::Nothing, &[World::end], give_up_if_gone, 1);
    check(Without::Nothing, &[World::end], adopt_if_left, 1);
}

#[test]
#[should_panic(expected = "Causality violation")]
fn without_asking_the_kernel_a_living_threads_bin_is_taken() {
    check(Without::Asking, &[World::end], give_up_if_gone, 1);
}

#[test]
#[should_panic(expected = "Causality violation")]
fn without_the_fence_what_a_gone_thread_wrote_is_not_seen() {
    check(Without::Fence, &[World::end], give_up_if_gone, 1);
}

/// One thread gives the heap up while another wants it.
#[test]
fn one_of_two_takes_a_heap_whose_thread_is_gone() {
    check(
        Without::Nothing,
        &[World::end, give_up_if_gone],
        adopt_if_left,
        1,
    );
}

#[test]
fn what_is_posted_to_a_heap_whose_thread_goes_comes_home() {
    check(
        Without::Nothing,
        &[World::end, World::post],
        give_up_if_gone,
        2,
    );
}

/// The thread is gone. One thread posts to its heap while a second gives the heap up and a third adopts it.
fn taken_twice(without: Without) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(move || {
        let world = World::new(without);
        world.note_ending();
        world.end();
        let start = |body: fn(&World)| {
            let world = Arc::clone(&world);
            thread::spawn(move || body(&world))
        };
        let others = [World::post as fn(&World), give_up_if_gone].map(start);
        adopt_if_left(&world);
        for other in others {
            other.join().expect("another thread");
        }
        world.check(2);
    });
}

#[test]
fn what_is_posted_to_a_heap_that_is_given_up_and_adopted_comes_home() {
    taken_twice(Without::Nothing);
}

#[test]
#[should_panic(expected = "a batch nobody comes for")]
fn without_the_second_look_a_batch_stays_with_a_heap_that_was_taken() {
    taken_twice(Without::LookAgain);
}
