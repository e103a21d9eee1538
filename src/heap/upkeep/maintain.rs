//! The maintenance thread: gives back what a program that falls silent would keep.
//!
//! It is started when much lies idle: more than [`FROM`] in a process of several threads, more than [`FROM_ALONE`] in a process
//! of one, or more than [`FROM`] after a fall by more than that. Such a process then gets a second thread
//! ([`helper`](super::helper) says what that changes for it). It ends when there is nothing left to do or the process's first thread
//! has ended, and a fork's child starts its own when it needs one. It never has a heap. It holds a heap's lock, and the pool's under
//! it, for a short time. It waits for a busy heap only to put back what it took out of that heap's lists.

use crate::base::account::{self, Kind};
use crate::base::tuning::helper::{FROM, FROM_ALONE, ROUND_MS, ROUNDS_TO_LIVE, TURNED_AWAY};
use crate::base::wanted;
use crate::checked;
use crate::heap::data::errands::Errands;
use crate::heap::data::presence::Presence;
use crate::heap::data::{registry, tls};
use crate::heap::upkeep::helper::HELPER;
use crate::heap::upkeep::{give_up, idle_cache, pages, settle, tick};
use crate::os::{clock, first_thread, loader, sys, thread};
use crate::slab::magazine_pool::MAGAZINES;
use crate::{knobs, large, pool};
use core::ffi::c_void;
use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering, fence};

static THREAD: Presence = Presence::new();

/// Whether the process had several threads of its own at a time, or is treated as if it had. A fork's child begins with one.
static MANY: AtomicBool = AtomicBool::new(false);

/// Starts the thread if it is wanted and not there. Call it with no lock held.
#[inline]
pub(crate) fn wake() {
    if !THREAD.is_there() && waiting() > FROM {
        start();
    }
}

/// The same, if a thread is to look; and empties idle heaps to which more came back than they may keep. Every slow path calls it, and
/// so do frees of what others allocated.
#[inline]
pub(crate) fn wake_if_noted() {
    idle_cache::evict_over();
    if wanted::take() {
        wake();
    }
}

/// The calling thread takes memory for the first time, or a large block without a heap of its own.
pub(crate) fn noticed() {
    if MANY.load(Ordering::Relaxed) {
        return;
    }
    let process = thread::pid();
    let knobs = knobs::get();
    if thread::note_process(process) {
        note_watched(knobs.background);
    }
    if knobs.background_alone || registry::live_count() >= 2 || thread::tid() != process {
        MANY.store(true, Ordering::Relaxed);
        wanted::note();
        note_watched(account::is_watched());
    }
}

/// The calling thread ends, and its heap is given up. No lock may be held. The C library ends the process with its last thread, for
/// which it counts the maintenance thread as well: so that one goes with the process's first thread. But for [`note_watched`],
/// whoever misses that is seen to by the next round.
pub(crate) fn ends() {
    if !thread::is_processes_first(tls::thread()) {
        return wake();
    }
    first_thread::note(true);
    fence(Ordering::SeqCst);
    note_watched(false);
    HELPER.dismiss();
    purge_now();
}

/// The thread may be started, or not.
#[inline(never)]
fn note_watched(may: bool) {
    account::set_watched(may.then(falls_from));
    // Either [`ends`] comes later and says that it may not, or its word is seen here.
    fence(Ordering::SeqCst);
    if may && first_thread::has_ended() {
        account::set_watched(None);
    }
}

/// Calls `call` while the process has no maintenance thread.
pub(crate) fn without_helper<R>(call: impl FnOnce() -> R) -> R {
    HELPER.send_away();
    let result = call();
    sys::preserve_errno(wake);
    result
}

/// How many further requests for the thread are dropped, and how many will be after the next refusal. Estimates: Relaxed.
static TURN_AWAY: AtomicU32 = AtomicU32::new(0);
static NEXT_TURNED_AWAY: AtomicU32 = AtomicU32::new(*TURNED_AWAY.start());

/// Idle bytes from which the thread is started: few as well if a store keeps what fell for the thread to see to.
fn from() -> usize {
    if account::fell() { FROM } else { falls_from() }
}

/// Bytes of a fall from which the thread sees to it.
fn falls_from() -> usize {
    match MANY.load(Ordering::Relaxed) {
        true => FROM,
        false => FROM_ALONE,
    }
}

#[cold]
fn start() {
    // Unit tests count what heaps hold, of which nothing is to go by itself.
    if waiting() <= from() || !knobs::get().background || cfg!(test) {
        return;
    }
    let _errno = sys::ErrnoGuard::new();
    if first_thread::has_ended() || !thread::is_of_process() {
        return;
    }
    if turned_away() || loader::frees_a_thread() {
        return wanted::note();
    }
    if !THREAD.begin() {
        return;
    }
    HELPER.starts();
    let started = thread::spawn(run);
    note_start(started);
    note_watched(started);
    if !started {
        HELPER.goes();
        THREAD.is_not();
        wanted::note();
    }
}

/// Whether a refusal is too recent for another try.
fn turned_away() -> bool {
    let left = TURN_AWAY.load(Ordering::Relaxed);
    if left > 0 {
        // Of two at once one may go uncounted.
        TURN_AWAY.store(left - 1, Ordering::Relaxed);
    }
    left > 0
}

/// After each refusal twice as many requests are dropped as after the one before.
fn note_start(started: bool) {
    let next = if started {
        *TURNED_AWAY.start()
    } else {
        let now = NEXT_TURNED_AWAY.load(Ordering::Relaxed);
        TURN_AWAY.store(now, Ordering::Relaxed);
        (now * 2).min(*TURNED_AWAY.end())
    };
    NEXT_TURNED_AWAY.store(next, Ordering::Relaxed);
}

extern "C" fn run(_: *mut c_void) -> *mut c_void {
    // Whatever the C library allocates for this thread comes from the threadless heap.
    tls::set_dead();
    HELPER.came();
    account::set_seen(true);
    loop {
        let left = work();
        let sent_away = HELPER.goes();
        account::set_seen(false);
        // For what was freed since the last round: the thread that freed it found this one there, and may fall silent.
        let wanted =
            || !sent_away && !first_thread::has_ended() && waiting() > from() && waiting() != left;
        if THREAD.end(wanted) {
            return ptr::null_mut();
        }
        HELPER.stays();
        account::set_seen(true);
    }
}

/// Makes rounds until nothing is left to do, or the thread is sent away. Returns what the last one left.
fn work() -> usize {
    let delay = u64::from(knobs::get().purge_delay_ms);
    let mut rounds = Rounds::begin(delay);
    while !rounds.are_over() && !first_thread::has_ended() && HELPER.work_after(rounds.pause) {
        let before = waiting();
        round();
        HELPER.rest();
        rounds.passed(before, waiting(), from());
    }
    rounds.left
}

/// For how long the thread goes on. What is freed last waits for the delay and a quarter of it, and a program that fell silent
/// does not start the thread again.
struct Rounds {
    /// Milliseconds before each.
    pause: u64,
    most: u64,
    idle: u64,
    /// What the last one left.
    left: usize,
}

impl Rounds {
    fn begin(delay: u64) -> Rounds {
        let pause = (delay / 2).clamp(*ROUND_MS.start(), *ROUND_MS.end());
        Rounds {
            pause,
            most: (2 * delay / pause).max(ROUNDS_TO_LIVE),
            idle: 0,
            left: 0,
        }
    }

    /// `before` bytes waited before a round and `left` do after it; the thread is started from `from` on.
    fn passed(&mut self, before: usize, left: usize, from: usize) {
        // The program took or freed, and would start the thread again. If there is more than before, it freed during the round.
        let changed = before > from && before != self.left || left > from.max(before);
        let got = before > FROM && left < before;
        self.idle = if changed || got { 0 } else { self.idle + 1 };
        self.left = left;
    }

    fn are_over(&self) -> bool {
        self.idle >= self.most
    }
}

/// Bytes that may be given back, now or after a while.
fn waiting() -> usize {
    account::idle() + account::of(Kind::Unsettled)
}

fn settle_all() -> Errands {
    let mut errands = Errands::NONE;
    registry::all().for_each(|heap| errands.add(settle::settle(heap)));
    errands
}

fn round() {
    // The stores say so again if it is still so.
    account::fell_no_more();
    give_up::give_up_gone();
    settle_all().run();
    let now = clock::now_ms();
    pages::run(now);
    tick::pass(now);
    // Nobody waits for this thread. What fell before the delay began raises the bounds no more.
    while pool::decay(now) + large::decay(now) + pool::trim() > 0 {}
}

/// Gives back everything that can be given back at once. Returns the bytes.
pub(crate) fn purge_now() -> usize {
    if give_up::give_up_gone() {
        tick::pass(clock::now_ms());
    }
    let mut errands = Errands::NONE;
    for _ in 0..4 {
        // The first look may only finish another that was under way. The next marks what the stacks hold as unneeded, the one
        // after it returns that, and the last gives back the magazines that emptied.
        errands.add(settle_all());
    }
    checked::trim();
    let holes = pages::purge_all();
    let cached = large::cached_bytes();
    large::purge_all();
    let bytes = holes + pool::purge_all() + cached + MAGAZINES.catch_up();
    // After the counting: what the pool is trimmed by is purged by now.
    errands.run();
    debug_assert!(pool::is_valid(), "the pool's lists and counts agree");
    bytes
}

/// In the child of a fork: the thread is gone.
pub(crate) fn after_fork() {
    THREAD.is_not();
    HELPER.after_fork();
    account::set_seen(false);
    first_thread::note(false);
    wanted::note();
    if thread::process_is_new() {
        let knobs = knobs::get();
        MANY.store(knobs.background_alone, Ordering::Relaxed);
        note_watched(knobs.background);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn what_is_freed_last_is_waited_for() {
        for delay in [0, 100, 1000, 8000, 10_000, 3_600_000] {
            let mut rounds = Rounds::begin(delay);
            // A program whose usage rises and falls, so that nothing grows old.
            for round in 0..100 {
                rounds.passed(FROM_ALONE + 1 + round, FROM_ALONE + 1 + round, FROM_ALONE);
                assert!(!rounds.are_over());
            }
            let mut waited = 0;
            while !rounds.are_over() {
                rounds.passed(FROM_ALONE + 100, FROM_ALONE + 100, FROM_ALONE);
                waited += rounds.pause;
            }
            assert!(waited > delay + delay / 4, "{waited} ms of {delay}");
        }
    }

    #[test]
    fn it_ends_where_little_is_left_or_nothing_more_can_go() {
        for (before, left) in [(FROM, FROM - 1), (FROM_ALONE, FROM_ALONE)] {
            let mut rounds = Rounds::begin(1000);
            for _ in 0..8 {
                assert!(!rounds.are_over());
                rounds.passed(before, left, FROM_ALONE);
            }
            assert!(rounds.are_over());
        }
        let mut rounds = Rounds::begin(1000);
        for _ in 0..100 {
            rounds.passed(FROM, FROM_ALONE + 1, FROM_ALONE);
            assert!(!rounds.are_over(), "much was freed during the round");
        }
    }

    /// Of the whole process: the one test that touches these words.
    #[test]
    fn after_each_refusal_twice_as_many_are_turned_away() {
        for refusal in 0..14 {
            assert!(!turned_away());
            note_start(false);
            let away = (0..).take_while(|_| turned_away()).count();
            assert_eq!(away, 64usize.checked_shl(refusal).unwrap_or(0).min(65_536));
        }
        note_start(true);
        assert!(!turned_away());
        note_start(false);
        assert_eq!((0..).take_while(|_| turned_away()).count(), 64);
        note_start(true);
    }
}
