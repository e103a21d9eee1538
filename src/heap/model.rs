//! Model checks of what heaps do to one another: posts against the end of a thread and against adoption, and batches whose slab
//! changes hands while they travel; and of the exchange that claims a large block. Claiming slots is not here: it is done under
//! the pool's lock, and locks have a model of their own.
//!
//! Inbox, batches, blocks, the lock and the protocol between posters and leavers (`data::attended`) are the real ones. The
//! slabs and bins around them are a small copy, step by step in the same order: the real ones stand on statics, which loom's
//! atomics cannot be part of. Each model has a twin with one step left out that must fail: so each is able to. Taking over a
//! heap whose thread is gone has its model beside it (`data::ending`).

use crate::base::sync::atomic::{AtomicU32, Ordering};
use crate::heap::data::attended::{Attended, IDLE, LIVE, Posted};
use crate::os::lock::{Guard, Lock};
use crate::slab::batch::{Batch, Block};
use crate::slab::inbox::Inbox;
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;
use std::boxed::Box;

/// The heaps, as a directory word names the slab's owner.
const A: usize = 0;
const B: usize = 1;

/// The step that is left out, for the twins that must fail.
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

/// Two heaps and one slab: its owner in the directory's word, its count of blocks out in a descriptor under the owner's lock.
struct World {
    heaps: [Heap; 2],
    word: AtomicU32,
    out: UnsafeCell<usize>,
    /// Of the blocks out, those in A's bin: its thread's alone while A is live, under the lock while A is idle.
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

    fn attended(&self, owner: usize) -> Attended<'_> {
        let heap = &self.heaps[owner];
        Attended {
            inbox: &heap.inbox,
            lock: &heap.lock,
            state: &heap.state,
        }
    }

    /// As `post::post`. With `may_drain` it drains the inbox of an idle owner.
    fn post(&self, owner: usize, batch: Batch, may_drain: bool) {
        let attended = self.attended(owner);
        // SAFETY: the caller gives the batch up.
        let posted = unsafe {
            match self.without {
                // As the real one, without its fence.
                Without::Fences => Posted {
                    waiting: attended.inbox.post(batch),
                    nobody_comes: attended.is_idle(),
                },
                _ => attended.post(batch),
            }
        };
        if may_drain && posted.nobody_comes {
            self.try_drain(owner);
        }
    }

    /// As `drain::drain_and_unlock`.
    fn drain_and_unlock(&self, owner: usize, guard: Guard<'_>) {
        self.drain_locked(owner);
        drop(guard);
    }

    fn try_drain(&self, owner: usize) {
        let attended = self.attended(owner);
        match self.without {
            Without::LookAgain => {
                if let Some(guard) = attended.lock.try_lock() {
                    self.drain_and_unlock(owner, guard);
                }
            }
            _ => attended.try_drain(|guard| self.drain_and_unlock(owner, guard)),
        }
    }

    fn look_again(&self, owner: usize) {
        if self.without != Without::LookAgain {
            let drain = |guard: Guard<'_>| self.drain_and_unlock(owner, guard);
            self.attended(owner).look_again(drain);
        }
    }

    /// As `drain::drain_locked`: blocks return to their slab, or travel on if that is another heap's by now.
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
        let attended = self.attended(owner);
        let guard = attended.lock.lock();
        match self.without {
            // As the real one, without its fence.
            Without::Fences => attended.state.store(IDLE, Ordering::Relaxed),
            // SAFETY: the lock is held, by the thread that leaves.
            _ => unsafe { attended.leave() },
        }
        self.drain_and_unlock(owner, guard);
        self.look_again(owner);
    }

    /// As `adopt::acquire`.
    fn adopt(&self, owner: usize) {
        let _guard = self.heaps[owner].lock.lock();
        // SAFETY: the lock is held, and one thread takes the heap.
        unsafe { self.attended(owner).take() };
    }

    /// As `take_over::take_over`, by the thread of B, which then takes a block from the slab and frees it again.
    fn take_over(&self) {
        let _mine = self.heaps[B].lock.lock();
        let theirs = self.heaps[A].lock.try_lock();
        if theirs.is_none() && self.without != Without::TheirLock {
            return;
        }
        self.word.store(B as u32, Ordering::Relaxed);
        drop(theirs);
        // A poster that meanwhile found A's lock held has gone away.
        self.look_again(A);
        // SAFETY: under the owner's lock.
        self.out.with_mut(|out| unsafe { *out += 1 });
        self.give();
    }

    /// As `settle::settle` with `idle_cache::look`: what an idle heap kept returns to its slab.
    fn settle(&self, owner: usize) {
        let Some(guard) = self.heaps[owner].lock.try_lock() else {
            return;
        };
        if self.attended(owner).is_idle() || self.without == Without::State {
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

/// A thread ends while `posters` others post to its heap, one of which may find its lock held by another.
fn exit_against_posts(without: Without, posters: usize) {
    let mut model = loom::model::Builder::new();
    // Three threads have too many orders to try all of them: only those with at most three preemptions are tried.
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

/// The poster sees the heap idle, but finds its lock held by the thread that ends, which has looked for the last time.
#[test]
#[should_panic(expected = "heap.inbox.is_empty")]
fn without_the_second_look_a_batch_stays_behind() {
    exit_against_posts(Without::LookAgain, 1);
}

/// An idle heap is adopted, used and given up while a poster finds it idle, live, or idle again.
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

/// A batch travels to idle heap A while B's thread takes over the slab its block lies in. The thread that opens the batch finds
/// the slab's owner under that owner's lock, or sends the block on. B's thread, which is alive, finds it in its inbox.
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

/// The owner's word changes while the lock of the heap that loses the slab is held by a thread that has just read the word.
#[test]
#[should_panic(expected = "Causality violation")]
fn without_the_robbed_heaps_lock_two_work_on_one_slab() {
    robbery_against_a_batch(Without::TheirLock);
}

/// A heap is left as it is, with a block in its bin, adopted by a thread that frees another, and given up again. Meanwhile
/// another thread comes to return what idle heaps keep.
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

/// Two threads free the same large block, as a broken program does. As `Directory::claim`, whose word is the table's.
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
fn one_of_two_claims_of_a_large_block_wins() {
    two_claims(true);
}

#[test]
#[should_panic(expected = "Causality violation")]
fn without_the_exchange_both_claims_win() {
    two_claims(false);
}
