//! The cache when the kernel refuses and when an address is taken, and how much one call gives back.

use super::cache::{self, counts};
use super::run::Run;
use super::{alloc, decay, free, purge_all, realloc, usable_size};
use crate::base::account;
use crate::base::tuning::retention::{ADDRESSES, UNMAPPED_AT_ONCE};
use crate::base::units::SUPERSLAB;
use crate::knobs;
use crate::os::fake::{self, Call};
use crate::os::mapping::{self, Place};
use crate::os::sys::Errno;
use crate::os::{clock, memory, sys};
use crate::slab::directory::DIRECTORY;
use std::vec::Vec;

/// Whether this is the process that runs the test, with an empty cache.
fn alone(name: &str) -> bool {
    fake::alone(name)
        && DIRECTORY
            .init(sys::machine_total(), sys::rlimit_as())
            .is_ok()
}

fn block(bytes: usize) -> *mut u8 {
    alloc(bytes, 16, false, false).expect("memory").ptr
}

#[test]
fn a_mapping_whose_index_is_taken_goes() {
    if !alone("large::cache_tests::a_mapping_whose_index_is_taken_goes") {
        return;
    }
    let first = block(3 << 20);
    let base = first as usize & !(SUPERSLAB - 1);
    // SAFETY: each block is freed once.
    unsafe {
        free(first, None);
        let cached = counts().cached_bytes;
        assert!(cached >= 3 << 20, "{cached}");
        assert_eq!(DIRECTORY.enter(base), Ok(true));
        let second = block(3 << 20);
        assert_ne!(second as usize & !(SUPERSLAB - 1), base);
        assert_eq!(counts().cached_bytes, 0, "it would be found again for ever");
        assert!(counts().returned >= cached as u64);
        DIRECTORY.leave(base);
        free(second, None);
    }
}

#[test]
fn what_can_be_neither_unmapped_nor_cached_is_not_counted() {
    if !alone("large::cache_tests::what_can_be_neither_unmapped_nor_cached_is_not_counted") {
        return;
    }
    account::set_watched(None);
    // More blocks than the cache has entries for, and no two of them neighbours.
    let maps: Vec<_> = (0..240)
        .map(|_| mapping::map_aligned(SUPERSLAB, SUPERSLAB, None).expect("memory"))
        .collect();
    let (freed, others): (Vec<_>, Vec<_>) = maps
        .iter()
        .partition(|map| (map.addr / SUPERSLAB).is_multiple_of(2));
    assert!(
        freed.len() >= 100 && others.len() >= 100,
        "the kernel puts them side by side"
    );
    cache::account_huge((freed.len() * SUPERSLAB) as isize);
    fake::fail_kind_from(Call::Munmap, 1, Errno::ENOMEM);
    for &map in freed {
        cache::keep(&Run::new(map), 0, true, 1);
    }
    fake::clear();
    let stuck = counts();
    assert_eq!(stuck.returned, 0);
    assert_eq!(
        stuck.huge_requested, stuck.cached_bytes,
        "what is not cached is not counted"
    );
    assert_eq!(account::of(account::Kind::Cached), stuck.cached_bytes);
    purge_all();
    let left = counts();
    assert_eq!((left.cached_bytes, left.huge_requested), (0, 0));
    assert_eq!(
        left.returned, stuck.cached_bytes as u64,
        "what was cached went"
    );
}

#[test]
fn one_call_gives_back_so_much_and_the_next_ones_go_on() {
    if !alone("large::cache_tests::one_call_gives_back_so_much_and_the_next_ones_go_on") {
        return;
    }
    let large = block(60 << 20);
    let small = block(2 << 20);
    for watched in [true, false] {
        account::set_watched(watched.then_some(0));
        account::set_seen(watched);
        let large = if watched { large } else { block(60 << 20) };
        let before = counts().returned;
        // SAFETY: each block is freed once.
        unsafe { free(large, None) };
        let mut gone = (counts().returned - before) as usize;
        if !watched {
            assert!(gone >= 48 << 20, "nobody else would: {gone}");
            break;
        }
        assert_eq!(gone, 0, "the program may take it again within the delay");
        for calls in 1.. {
            let some = decay(clock::now_ms() + u64::from(knobs::get().purge_delay_ms));
            assert!(some <= UNMAPPED_AT_ONCE, "{some} at once");
            gone += some;
            if some == 0 {
                assert!(gone >= 50 << 20 && calls > 3, "{gone} in {calls} calls");
                break;
            }
        }
        purge_all();
    }
    // SAFETY: as above.
    unsafe { free(small, None) };
}

/// Blocks of 20 MiB, one after the other.
fn blocks(count: usize) -> Vec<*mut u8> {
    (0..count).map(|_| block(20 << 20)).collect()
}

#[test]
fn addresses_are_kept_as_many_as_are_live_and_serve_the_next_blocks() {
    if !alone(
        "large::cache_tests::addresses_are_kept_as_many_as_are_live_and_serve_the_next_blocks",
    ) {
        return;
    }
    account::set_watched(None);
    let all = blocks(10);
    // SAFETY: each block is freed once, and written to before.
    unsafe {
        all.iter().for_each(|block| block.write(1));
        all[5..].iter().for_each(|block| free(*block, None));
        purge_to_addresses();
        let kept = counts().address_bytes;
        assert!(kept >= 100 << 20, "{kept}");
        let maps = fake::calls().of(Call::Mmap);
        for ptr in blocks(4) {
            assert_eq!(ptr.read(), 0, "fresh");
            free(ptr, None);
        }
        assert_eq!(fake::calls().of(Call::Mmap), maps, "no new mapping");
        all[..5].iter().for_each(|block| free(*block, None));
        purge_to_addresses();
        let kept = counts().address_bytes;
        assert!(kept > 0 && kept <= ADDRESSES, "nothing is live: {kept}");
        purge_all();
        assert_eq!(counts().address_bytes, 0);
    }
    fake::clear();
}

/// Gives back the memory of everything cached.
fn purge_to_addresses() {
    while decay(u64::MAX) > 0 {}
    assert_eq!(counts().cached_bytes, 0);
}

#[test]
fn addresses_go_back_at_once_under_a_limit() {
    if !alone("large::cache_tests::addresses_go_back_at_once_under_a_limit") {
        return;
    }
    let few = libc::rlimit {
        rlim_cur: 1 << 40,
        rlim_max: libc::RLIM_INFINITY,
    };
    // SAFETY: a limit of this process, which does nothing else.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_DATA, &few) }, 0);
    memory::note_limits(sys::rlimit_as());
    let all = blocks(4);
    // SAFETY: each block is freed once.
    all.iter().for_each(|block| unsafe { free(*block, None) });
    purge_to_addresses();
    assert_eq!(counts().address_bytes, 0);
    assert!(counts().returned >= 80 << 20);
}

#[test]
fn a_block_grows_into_the_addresses_it_gave_up() {
    if !alone("large::cache_tests::a_block_grows_into_the_addresses_it_gave_up") {
        return;
    }
    let first = block(28 << 20);
    let moves = fake::calls().of(Call::Mremap);
    // SAFETY: a block in use, freed once.
    unsafe {
        let small = realloc(first, usable_size(first, "test"), 16, 10 << 20).expect("memory");
        assert_eq!(small, first);
        let large = realloc(small, usable_size(small, "test"), 16, 24 << 20).expect("memory");
        assert_eq!((large, fake::calls().of(Call::Mremap)), (first, moves));
        assert!(usable_size(large, "usable size") >= 24 << 20);
        large.add((24 << 20) - 1).write(1);
        free(large, None);
    }
    fake::clear();
}

#[test]
fn moves_end_where_mappings_are_scarce() {
    if !alone("large::cache_tests::moves_end_where_mappings_are_scarce") {
        return;
    }
    assert!(mapping::may_move());
    let small = block(4 << 20);
    let _behind = block(4 << 20);
    fake::fail_kind_from(Call::Mremap, 1, Errno::ENOMEM);
    // SAFETY: a block in use; it is copied where it cannot be moved.
    unsafe {
        small.write(7);
        let large = realloc(small, usable_size(small, "test"), 16, 40 << 20).expect("memory");
        assert_eq!(large.read(), 7);
        assert!(!mapping::may_move());
        free(large, None);
    }
    fake::clear();
}
