//! Model checks of what heaps do to one another: posts against the end of a thread and against adoption, batches whose
//! slab changes hands while they travel, and the exchange that claims a huge block. Claiming slots is not here: it is
//! done under the pool's lock, which has a model of its own.
//!
//! Inbox, batches, blocks and the lock are the real ones. The heap around them is a shrunken copy of `heap.rs`,
//! `home` and `slabs` (the real ones stand on statics, which loom's atomics cannot be part of), step by step in
//! the same order. Each model has a twin with one step left out that must fail: so each is able to.

use crate::base::sync::atomic::{AtomicU32, Ordering};
use crate::os::lock::Lock;
use crate::slab::batch::{Batch, Block};
use crate::slab::inbox::Inbox;
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::fence;
use loom::thread;
use std::boxed::Box;

const LIVE: u32 = 0;
const IDLE: u32 = 1;
/// Heaps by what a directory word says of the slab's owner.
const A: usize = 0;
const B: usize = 1;

/// What is left out, for the twins.
#[derive(Clone, Copy, PartialEq)]
enum Without {
    Nothing,
    Fences,
    LookAgain,
    TheirLock,
    State,
}

struct Heap {
    inbox: Inbox,
    lock: Lock,
    state: AtomicU32,
}

/// Two heaps and one slab: its owner in the directory's word, its blocks out in a descriptor that only the owner's
/// lock guards.
struct World {
    heaps: [Heap; 2],
    word: AtomicU32,
    out: UnsafeCell<usize>,
    /// Blocks in A's bin, of those out: its thread's alone while it is live, under the lock while it is idle.
    bin: UnsafeCell<usize>,
    without: Without,
}

impl World {
    fn new(state: u32, out: usize, without: Without) -> Arc<World> {
        let heap = || Heap {
            inbox: Inbox::new(),
            lock: Lock::new(),
            state: AtomicU32::new(state),
        };
        Arc::new(World {
            heaps: [heap(), heap()],
            word: AtomicU32::new(A as u32),
            out: UnsafeCell::new(out),
            bin: UnsafeCell::new(0),
            without,
        })
    }

    fn fence(&self) {
        if self.without != Without::Fences {
            fence(Ordering::SeqCst);
        }
    }

    /// As `post::post`: with `may_drain` it walks the inbox of an idle owner home.
    fn post(&self, owner: usize, batch: Batch, may_drain: bool) {
        let heap = &self.heaps[owner];
        // SAFETY: the caller gives the batch up.
        unsafe { heap.inbox.post(batch) };
        self.fence();
        if may_drain && heap.state.load(Ordering::Relaxed) == IDLE {
            self.try_drain(owner);
        }
    }

    fn try_drain(&self, owner: usize) {
        let Some(guard) = self.heaps[owner].lock.try_lock() else {
            return;
        };
        self.drain_locked(owner);
        drop(guard);
        self.look_again(owner);
    }

    fn look_again(&self, owner: usize) {
        if self.without == Without::LookAgain {
            return;
        }
        let heap = &self.heaps[owner];
        loop {
            self.fence();
            if heap.state.load(Ordering::Relaxed) != IDLE || heap.inbox.is_empty() {
                return;
            }
            let Some(guard) = heap.lock.try_lock() else {
                return;
            };
            self.drain_locked(owner);
            drop(guard);
        }
    }

    /// As `drain::drain_locked`: blocks go home, or onward where their slab is another heap's by now.
    fn drain_locked(&self, owner: usize) {
        let mut taken = self.heaps[owner].inbox.take_all();
        while let Some(batch) = taken {
            // SAFETY: taken, so owned; one block each.
            unsafe {
                taken = batch.link();
                let to = self.word.load(Ordering::Relaxed) as usize;
                if to == owner {
                    drop(Box::from_raw(batch.head()));
                    self.give();
                } else {
                    self.post(to, Batch::seal(batch.head(), 1), false);
                }
            }
        }
    }

    /// As `slabs::give`. The owner's lock is held; loom reports two who get here at once.
    fn give(&self) {
        // SAFETY: under the owner's lock.
        self.out.with_mut(|out| unsafe { *out -= 1 });
    }

    /// As `give_up::give_up`.
    fn detach(&self, owner: usize) {
        let heap = &self.heaps[owner];
        let guard = heap.lock.lock();
        heap.state.store(IDLE, Ordering::Relaxed);
        self.fence();
        self.drain_locked(owner);
        drop(guard);
        self.look_again(owner);
    }

    /// As `adopt::acquire`.
    fn adopt(&self, owner: usize) {
        let heap = &self.heaps[owner];
        let _guard = heap.lock.lock();
        heap.state.store(LIVE, Ordering::SeqCst);
    }

    /// As `slabs::take_over`, by the owner of B; who then takes a block from the slab and frees it again.
    fn take_over(&self) {
        let _mine = self.heaps[B].lock.lock();
        let theirs = self.heaps[A].lock.try_lock();
        if theirs.is_none() && self.without != Without::TheirLock {
            return;
        }
        self.word.store(B as u32, Ordering::Relaxed);
        drop(theirs);
        // Who posted to A meanwhile found its lock held, and went.
        self.look_again(A);
        // SAFETY: under the owner's lock.
        self.out.with_mut(|out| unsafe { *out += 1 });
        self.give();
    }

    /// As `settle::settle` with `idle_cache::look`: what an idle heap was left with goes home.
    fn settle(&self, owner: usize) {
        let heap = &self.heaps[owner];
        let Some(guard) = heap.lock.try_lock() else {
            return;
        };
        if heap.state.load(Ordering::Relaxed) == IDLE || self.without == Without::State {
            // SAFETY: loom reports a thread that uses the bin meanwhile.
            let blocks = self
                .bin
                .with_mut(|bin| unsafe { core::mem::take(&mut *bin) });
            (0..blocks).for_each(|_| self.give());
        }
        drop(guard);
        self.look_again(owner);
    }

    /// As `hot`: a thread frees a block of its own into the bin, with no lock.
    fn push(&self) {
        // SAFETY: the bin is the thread's own; loom reports another who uses it meanwhile.
        self.bin.with_mut(|bin| unsafe { *bin += 1 });
    }

    /// Everything is home: nothing in an inbox, nothing out of the slab.
    fn check(&self) {
        assert!(self.heaps.iter().all(|heap| heap.inbox.is_empty()));
        // SAFETY: every other thread has been joined.
        self.out.with(|out| unsafe { assert_eq!(*out, 0) });
    }
}

fn block() -> Batch {
    let block = Box::into_raw(Box::new(Block::new()));
    // SAFETY: a chain of one block, just made.
    unsafe { Batch::seal(block, 1) }
}

/// A thread ends while two others post to its heap, one of whom may find its lock taken by the other.
fn exit_against_posts(without: Without, posters: usize) {
    let mut model = loom::model::Builder::new();
    // Three threads have too many orders for all of them to be tried; those with at most three preemptions are.
    model.preemption_bound = (posters > 1).then_some(3);
    model.check(move || {
        let world = World::new(LIVE, posters, without);
        let others: std::vec::Vec<_> = (0..posters)
            .map(|_| {
                let world = Arc::clone(&world);
                thread::spawn(move || world.post(A, block(), true))
            })
            .collect();
        world.detach(A);
        for other in others {
            other.join().expect("a poster");
        }
        world.check();
    });
}

#[test]
fn nothing_stays_behind_when_a_thread_ends() {
    exit_against_posts(Without::Nothing, 1);
    exit_against_posts(Without::Nothing, 2);
}

#[test]
#[should_panic(expected = "heap.inbox.is_empty")]
fn without_the_fences_a_batch_stays_behind() {
    exit_against_posts(Without::Fences, 1);
}

/// The poster sees Idle, finds the lock held by the thread that ends, which has looked for the last time.
#[test]
#[should_panic(expected = "heap.inbox.is_empty")]
fn without_the_second_look_a_batch_stays_behind() {
    exit_against_posts(Without::LookAgain, 1);
}

/// An idle heap is adopted, used and given up while somebody posts to it on its idle, its live or its idle side.
fn adoption_against_a_post(without: Without) {
    loom::model(move || {
        let world = World::new(IDLE, 1, without);
        let poster = {
            let world = Arc::clone(&world);
            thread::spawn(move || world.post(A, block(), true))
        };
        world.adopt(A);
        world.detach(A);
        poster.join().expect("the poster");
        world.check();
    });
}

#[test]
fn nothing_stays_behind_when_a_heap_is_adopted_and_given_up() {
    adoption_against_a_post(Without::Nothing);
}

#[test]
#[should_panic(expected = "heap.inbox.is_empty")]
fn without_the_second_look_adoption_leaves_a_batch() {
    adoption_against_a_post(Without::LookAgain);
}

/// A batch travels to idle heap A while B's thread robs A of the slab its block lies in. Whoever opens the batch finds
/// the slab's owner under that owner's lock, or sends it on; B's thread, which is alive, finds it in its inbox.
fn robbery_against_a_batch(without: Without) {
    loom::model(move || {
        let world = World::new(LIVE, 1, without);
        world.heaps[A].state.store(IDLE, Ordering::Relaxed);
        let poster = {
            let world = Arc::clone(&world);
            thread::spawn(move || world.post(A, block(), true))
        };
        world.take_over();
        poster.join().expect("the poster");
        let guard = world.heaps[B].lock.lock();
        world.drain_locked(B);
        drop(guard);
        world.check();
    });
}

#[test]
fn a_batch_finds_its_slab_at_whoever_took_it_over() {
    robbery_against_a_batch(Without::Nothing);
}

#[test]
#[should_panic(expected = "heap.inbox.is_empty")]
fn without_the_second_look_a_robber_leaves_a_batch() {
    robbery_against_a_batch(Without::LookAgain);
}

/// The owner's word changes while the robbed heap's lock is held by somebody who has just read it.
#[test]
#[should_panic(expected = "Causality violation")]
fn without_the_robbed_heaps_lock_two_work_on_one_slab() {
    robbery_against_a_batch(Without::TheirLock);
}

/// A heap is left as it is, with a block in its bin, adopted by a thread that frees another, and given up again, while
/// somebody comes to send home what idle heaps keep.
fn kept_bins_against_a_settler(without: Without) {
    loom::model(move || {
        let world = World::new(LIVE, 2, without);
        let settler = {
            let world = Arc::clone(&world);
            thread::spawn(move || world.settle(A))
        };
        world.push();
        world.detach(A);
        world.adopt(A);
        world.push();
        world.detach(A);
        settler.join().expect("the settler");
        world.settle(A);
        world.check();
    });
}

#[test]
fn a_kept_bin_is_its_adopters_or_the_settlers() {
    kept_bins_against_a_settler(Without::Nothing);
}

#[test]
#[should_panic(expected = "Causality violation")]
fn without_a_look_at_the_state_a_living_threads_bin_is_sent_home() {
    kept_bins_against_a_settler(Without::State);
}

/// Two threads free the same huge block, as a broken program does. As `Directory::claim`, whose word is the table's.
fn two_claims(exchange: bool) {
    const TAG: u32 = 255;
    loom::model(move || {
        let block = Arc::new((AtomicU32::new(TAG), UnsafeCell::new(1)));
        let claim = move |block: &(AtomicU32, UnsafeCell<i32>)| {
            let won = if exchange {
                let (all, none) = (Ordering::Relaxed, Ordering::Relaxed);
                block.0.compare_exchange(TAG, 0, all, none).is_ok()
            } else {
                let is = block.0.load(Ordering::Relaxed) == TAG;
                block.0.store(0, Ordering::Relaxed);
                is
            };
            if won {
                // SAFETY: the descriptor is the winner's; loom reports a second one.
                block.1.with_mut(|live| unsafe { *live -= 1 });
            }
            won
        };
        let other = {
            let block = Arc::clone(&block);
            thread::spawn(move || claim(&block))
        };
        let mine = claim(&block);
        assert!(mine != other.join().expect("the other"));
        // SAFETY: the other thread has been joined.
        block.1.with(|live| unsafe { assert_eq!(*live, 0) });
    });
}

#[test]
fn one_of_two_claims_of_a_huge_block_wins() {
    two_claims(true);
}

#[test]
#[should_panic(expected = "Causality violation")]
fn without_the_exchange_both_claims_win() {
    two_claims(false);
}
