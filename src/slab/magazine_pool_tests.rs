//! Magazines are given out once, and purged when they are back and never while a heap has them, with many threads too.

use super::*;
use crate::os::fake::{self, Call};
use crate::os::sys::Errno;
use crate::slab::batch::Block;
use std::collections::HashSet;
use std::thread;
use std::vec::Vec;

/// A magazine from the pool, which maps some if it has none.
fn get(pool: &MagazinePool) -> *mut Magazine {
    loop {
        match pool.take() {
            Some(magazine) => return magazine,
            None => _ = pool.catch_up(),
        }
    }
}

#[test]
fn every_magazine_is_given_out_once_and_purged_when_it_is_back() {
    let pool = MagazinePool::new();
    let mut list = ptr::null_mut();
    let mut seen = HashSet::new();
    for _ in 0..3 * TOGETHER {
        let magazine = get(&pool);
        assert!(seen.insert(magazine as usize), "given out twice");
        // SAFETY: ours.
        unsafe {
            let block = 16 as *mut Block;
            assert_eq!(Magazine::add(magazine, &raw const block, 1), 1);
            (*magazine).below = list;
        }
        list = magazine;
    }
    // SAFETY: ours, and given up.
    unsafe { pool.give(list) };
    let purged = pool.catch_up();
    // Racks need not begin with an OS page if that is larger than a magazine: a page of which a rack has only a part stays.
    let page = sys::page_size();
    let stays = if page > SIZE { page } else { 0 };
    assert!(purged >= 3 * (TOGETHER * SIZE - stays), "{purged} bytes");
    assert_eq!(pool.catch_up(), 0, "nothing is left to do");
    // SAFETY: still mapped, and nobody has them.
    unsafe {
        let zero = |&&magazine: &&usize| Magazine::count(magazine as *mut Magazine) == 0;
        let zeroed = seen.iter().filter(zero).count();
        assert!(zeroed * SIZE >= purged, "purged memory is zero");
    }
}

#[test]
fn a_refused_purge_is_tried_again_and_a_refused_mapping_not_at_once() {
    let pool = MagazinePool::new();
    let magazine = get(&pool);
    // SAFETY: ours.
    unsafe { pool.give(magazine) };
    fake::clear();
    fake::fail_kind_from(Call::Madvise, 1, Errno::EINVAL);
    assert_eq!(pool.catch_up(), 0);
    fake::clear();
    let again = get(&pool);
    assert_eq!(again, magazine, "what is resident goes first");
    // SAFETY: ours.
    unsafe { pool.give(again) };
    // A larger OS page holds other magazines as well, which nobody had.
    assert!(pool.catch_up() >= SIZE || sys::page_size() > SIZE);

    let mut list = ptr::null_mut();
    fake::fail_kind_from(Call::Mmap, 1, Errno::ENOMEM);
    // Takes all there are, until metadata would have to be mapped.
    let mut refused = 0;
    while refused < 2 * TRY_AGAIN {
        match pool.take() {
            Some(magazine) => {
                // SAFETY: ours.
                unsafe { (*magazine).below = list };
                list = magazine;
            }
            None => {
                pool.catch_up();
                refused += 1;
            }
        }
    }
    let tried = fake::calls().of(Call::Mmap);
    assert!(
        (1..refused / 4).contains(&tried),
        "{tried} calls for {refused} misses"
    );
    fake::clear();
    let bare = pool.racks.lock().bare;
    // SAFETY: this pool's.
    let more = unsafe { bare.as_ref() }.map(|rack| rack.next);
    assert_eq!(
        more,
        Some(ptr::null_mut()),
        "one waits for memory, whatever the tries"
    );
    // SAFETY: ours.
    unsafe { pool.give(list) };
    pool.catch_up();
}

#[test]
fn only_whole_pages_go() {
    let all = u64::MAX;
    let run = |free, dirty, first, from, page| {
        run_of_pages(free, dirty, first, from, page).map(|run| (run.at, run.len))
    };
    assert_eq!(run(all, all, 0, 0, SIZE), Some((0, 64)));
    assert_eq!(run(all, 0, 0, 0, SIZE), None);
    assert_eq!(run(0b1110, 0b0110, 0, 0, SIZE), Some((1, 2)));
    assert_eq!(run(0b1110, 0b1010, 0, 2, SIZE), Some((3, 1)));
    assert_eq!(run(all, 1 << 5, 0, 0, 4 * SIZE), Some((4, 4)));
    assert_eq!(run(all & !(1 << 6), 1 << 5, 0, 0, 4 * SIZE), None);
    // The rack begins with the last quarter of an OS page.
    assert_eq!(run(all, all, 3 * SIZE, 0, 4 * SIZE), Some((1, 60)));
    assert_eq!(run(all, all, 0, 0, 128 * SIZE), None);
}

/// Threads take, write, give back and purge at the same time. What one wrote is there until that thread gives it back.
#[test]
fn nobody_else_has_a_magazine_or_purges_it() {
    static SHARED: MagazinePool = MagazinePool::new();
    let threads: Vec<_> = (1..=4usize)
        .map(|mark| {
            thread::spawn(move || {
                let mine = (mark << 16) as *mut Block;
                let mut purged = 0;
                for round in 0..200 {
                    let mut list = ptr::null_mut();
                    // More than a rack has, and then few, so that each rack has something to purge.
                    for _ in 0..1 + (round * 37 * mark) % (TOGETHER + 10) {
                        let magazine = get(&SHARED);
                        // SAFETY: ours.
                        unsafe {
                            assert_eq!(Magazine::count(magazine), 0);
                            assert_eq!(Magazine::add(magazine, &raw const mine, 1), 1);
                            (*magazine).below = list;
                        }
                        list = magazine;
                    }
                    purged += SHARED.catch_up();
                    thread::yield_now();
                    let mut at = list;
                    while !at.is_null() {
                        // SAFETY: still ours.
                        unsafe {
                            assert_eq!(Magazine::blocks(at), [mine], "somebody else had it");
                            at = (*at).below;
                        }
                    }
                    // SAFETY: ours, and given up.
                    unsafe { SHARED.give(list) };
                    purged += SHARED.catch_up();
                }
                purged
            })
        })
        .collect();
    let purged = threads
        .into_iter()
        .map(|thread| thread.join().expect("it passes"));
    assert!(purged.sum::<usize>() > TOGETHER * SIZE);
}
