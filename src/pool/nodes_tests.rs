//! Pools of several nodes, pretended, each test in a process of its own: the counts are all its doing.

use super::*;
use crate::base::account;
use crate::base::tuning::pool::{SPARE_SHARE, TOGETHER_MOST, TOGETHER_SHARE};
use crate::base::units::{SLOTS, SUPERSLAB};
use crate::knobs::{self, Knobs, ThpPolicy};
use crate::os::fake::{self, Call};
use crate::os::numa;
use crate::os::sys::Errno;
use crate::slab::directory::DIRECTORY;
use std::collections::HashSet;
use std::thread;
use std::vec::Vec;

/// As the kernel writes them: four, with a gap.
const NODES: &str = "0,2-4";
const IDS: [usize; 4] = [0, 2, 3, 4];
/// The least bound, large enough for slots of several superslabs.
const LEAST: usize = 4 << 20;

macro_rules! alone {
    ($name:ident, $nodes:expr) => {
        let name = concat!("pool::nodes_tests::", stringify!($name));
        if !fake::alone_with_nodes(name, $nodes) {
            return;
        }
        numa::init();
        DIRECTORY.init(0, None).expect("a directory");
        set_retain(None, 1000);
        purge::RETAIN_LEAST.store(LEAST, core::sync::atomic::Ordering::Relaxed);
    };
}

struct Taken {
    claim: Claim,
    count: usize,
}

// SAFETY: claimed slots are whoever's that holds the claim.
unsafe impl Send for Taken {}

impl Taken {
    fn node(&self) -> usize {
        // SAFETY: fixed while a slot is claimed.
        unsafe { (*self.claim.superslab).node.index() }
    }

    /// Back to the pool, every byte used.
    fn release(self, now: u64) -> bool {
        let (claim, slots) = (self.claim, Slots::new(self.count));
        // SAFETY: claimed, and given up.
        unsafe { release(claim.superslab, claim.slot, slots, slots.bytes(), now) }
    }
}

/// Runs `body` on a thread of the node at `place`.
fn on<T: Send>(place: usize, body: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let run = move || {
            fake::run_on(IDS[place]);
            body()
        };
        scope.spawn(run).join().expect("no panic")
    })
}

fn want(slots: usize) -> Want {
    let slots = Slots::new(slots);
    let usage = Usage::Larger;
    Want { slots, usage }
}

/// As a heap does.
fn take(knobs: &Knobs, count: usize) -> Taken {
    let had = obtain(knobs, here(), want(count), |_| None);
    let claim = had.expect("memory").claim;
    Taken { claim, count }
}

/// `count` more superslabs of the calling thread's node, used and free again.
fn grow(count: usize) {
    let taken: Vec<_> = (0..count).map(|_| take(knobs::get(), SLOTS)).collect();
    taken.into_iter().for_each(|slots| _ = slots.release(1));
}

fn of_node(place: usize) -> Counts {
    let node = numa::all().nth(place).expect("a node of that place");
    lock(node).counts
}

fn mapped() -> [usize; 4] {
    [0, 1, 2, 3].map(|place| of_node(place).mapped)
}

fn dirty_slots() -> [usize; 4] {
    [0, 1, 2, 3].map(|place| of_node(place).dirty_bytes / SLOT)
}

#[test]
fn slots_come_from_the_own_node_and_go_home_to_it() {
    alone!(slots_come_from_the_own_node_and_go_home_to_it, NODES);
    let taken: Vec<_> = (0..4)
        .map(|place| on(place, || take(knobs::get(), 3 + place)))
        .collect();
    assert_eq!(numa::count(), 4);
    assert_eq!(mapped(), [1; 4]);
    for (place, slots) in taken.iter().enumerate() {
        assert_eq!(slots.node(), place);
        assert_eq!(of_node(place).claimed_slots.count(), 3 + place);
    }
    let sum = counts();
    assert_eq!((sum.mapped, sum.in_use), (4, 4));
    assert_eq!(sum.claimed_slots.count(), 3 + 4 + 5 + 6);
    let whole = on(2, || lock(here()).whole());
    assert_eq!(whole.claimed_slots, sum.claimed_slots);
    assert!(is_valid());

    let places: Vec<_> = taken.iter().map(|slots| slots.claim.addr()).collect();
    // All by a thread of one node.
    on(3, || {
        taken
            .into_iter()
            .for_each(|slots| assert!(!slots.release(5)))
    });
    assert_eq!(dirty_slots(), [3, 4, 5, 6]);
    assert_eq!((counts().claimed_slots.count(), counts().retained), (0, 4));
    assert!(is_valid());
    for (place, &addr) in places.iter().enumerate() {
        let again = on(place, || take(knobs::get(), 3 + place));
        assert_eq!(again.claim.addr(), addr, "what is free at home comes first");
        let _ = again.release(6);
    }
    assert_eq!(mapped(), [1; 4]);
    assert!(purge_all() >= 18 * SLOT);
    assert_eq!((counts().purged, counts().dirty_bytes), (4, 0));
    assert!(is_valid());
}

#[test]
fn other_nodes_serve_when_the_kernel_refuses() {
    alone!(other_nodes_serve_when_the_kernel_refuses, NODES);
    let first = on(1, || take(knobs::get(), 8));
    let other = on(2, || take(knobs::get(), 8));
    let taken = on(3, || {
        let node = here();
        assert!(
            claim(node, ThpPolicy::Auto, want(8)).is_none(),
            "others have some, but not here"
        );
        fake::fail_kind_from(Call::Mmap, 1, Errno::ENOMEM);
        core::iter::from_fn(|| obtain(knobs::get(), node, want(8), |_| None))
            .inspect(|had| assert!(!had.mapped))
            .map(|super::grow::Obtained { claim, .. }| Taken { claim, count: 8 })
            .collect::<Vec<_>>()
    });
    assert_eq!(mapped(), [0, 1, 1, 0]);
    assert_eq!(taken.iter().filter(|slots| slots.node() == 1).count(), 3);
    assert_eq!(taken.iter().filter(|slots| slots.node() == 2).count(), 3);
    assert_eq!(counts().claimed_slots.count(), 2 * SLOTS);
    for slots in taken.into_iter().chain([first, other]) {
        let _ = slots.release(1);
    }
    assert_eq!(dirty_slots(), [0, SLOTS, SLOTS, 0], "home again");
    assert!(is_valid());
}

#[test]
fn the_bound_is_one_for_all_nodes_and_the_oldest_go_first() {
    alone!(
        the_bound_is_one_for_all_nodes_and_the_oldest_go_first,
        NODES
    );
    // 1.25 MiB each: below the least bound for each node, above it for all.
    let mut taken: Vec<_> = (0..4)
        .map(|place| Some(on(place, || take(knobs::get(), 20))))
        .collect();
    let order = [2, 0, 3, 1];
    let over = order.map(|place| {
        let slots = taken[place].take().expect("one for each node");
        on(1, || slots.release(10 * (1 + place as u64)))
    });
    // By the time of release, not by the order of the nodes: 0 is the oldest.
    assert_eq!(over, [false, false, false, true]);
    assert_eq!(dirty_slots(), [20; 4]);
    on(3, trim);
    // To a quarter below the bound and no further: two have to go.
    assert_eq!(dirty_slots(), [0, 0, 20, 20]);
    decay(30 + 1000);
    assert_eq!(dirty_slots(), [0, 0, 0, 20]);
    assert_eq!(counts().returned as usize, 60 * SLOT);
    assert!(is_valid());
}

#[test]
fn an_allowance_of_one_node_counts_once_for_the_process() {
    alone!(an_allowance_of_one_node_counts_once_for_the_process, NODES);
    account::set_watched(Some(0));
    let now = Epoch::at(clock::now_ms(), 1000);
    for (place, bytes) in [(0, 80 << 20), (2, 100 << 20)] {
        on(place, || {
            let mut pool = lock(here());
            [bytes, 0, bytes]
                .into_iter()
                .for_each(|live| pool.demand.live(live, now));
        });
    }
    for place in 0..4 {
        let bound = on(place, || purge::bound(&lock(here()).whole()));
        assert_eq!(bound, (180 << 20) / SPARE_SHARE * (SPARE_SHARE + 1));
    }
}

#[test]
fn what_is_passed_over_keeps_its_place() {
    alone!(what_is_passed_over_keeps_its_place, "0");
    // Huge pages, asked for as in a program that grew: split only when sparse.
    let mut knobs = *knobs::get();
    knobs.thp = ThpPolicy::Always;
    let mut dense: Vec<_> = [2, 14, 16].map(|n| take(&knobs, n)).into();
    let old: Vec<_> = [16, 16].map(|n| take(&knobs, n)).into();
    let young: Vec<_> = [16, 16].map(|n| take(&knobs, n)).into();
    assert_eq!(counts().mapped, 3);
    let _ = dense.remove(0).release(10);
    old.into_iter().for_each(|slots| _ = slots.release(20));
    young.into_iter().for_each(|slots| _ = slots.release(5000));
    let dirty = || counts().dirty_bytes / SLOT;
    assert_eq!(dirty(), 2 + 32 + 32);
    decay(1500);
    assert_eq!(
        dirty(),
        2 + 32,
        "the dense one stays, the next aged one goes"
    );
    assert!(is_valid());
    // Sparse now, and the oldest still: the young one must not hide it.
    let _ = dense.remove(0).release(1400);
    decay(1500);
    assert_eq!(dirty(), 32);
    assert!(is_valid());
    decay(6000);
    assert_eq!(dirty(), 0);
}

#[test]
fn one_refusal_does_not_keep_the_rest_mapped() {
    alone!(one_refusal_does_not_keep_the_rest_mapped, NODES);
    for (place, count) in [(0, 3), (2, 2)] {
        on(place, || grow(count));
    }
    fake::fail_kind(Call::Munmap, 1, Errno::ENOMEM);
    unmap_empty();
    assert_eq!(mapped(), [1, 0, 0, 0]);
    assert!(is_valid());
    unmap_empty();
    assert_eq!(counts().mapped, 0);

    // A kernel that refuses all is left alone after a while.
    grow(60);
    fake::clear();
    fake::fail_kind_from(Call::Munmap, 1, Errno::ENOMEM);
    unmap_empty();
    let asked = fake::calls().of(Call::Munmap);
    fake::clear();
    assert!((1..60).contains(&asked), "{asked}");
    let left = counts();
    assert_eq!(left.retained, 60);
    // What was mapped together with others and never used.
    assert!(left.purged <= 60 / TOGETHER_SHARE);
    assert_eq!(left.mapped, left.retained + left.purged);
    assert!(is_valid());
    unmap_empty();
    assert_eq!(counts().mapped, 0);
}

#[test]
fn surplus_superslabs_are_unmapped_without_a_purge() {
    alone!(surplus_superslabs_are_unmapped_without_a_purge, NODES);
    for refused in [0, 1] {
        grow(10);
        fake::clear();
        if refused > 0 {
            fake::fail_kind(Call::Munmap, 1, Errno::ENOMEM);
        }
        assert_eq!(purge_all(), 10 * SUPERSLAB);
        let calls = fake::calls();
        fake::clear();
        // Four for each of four nodes are kept, and one more if the kernel refuses.
        let kept = 4 + refused;
        assert_eq!((calls.of(Call::Madvise), calls.of(Call::Munmap)), (kept, 6));
        let left = [counts().mapped, counts().purged, counts().dirty_bytes];
        assert_eq!(left, [kept as usize, kept as usize, 0]);
        assert!(is_valid());
        unmap_empty();
    }
}

#[test]
fn a_large_process_maps_several_superslabs_together() {
    alone!(a_large_process_maps_several_superslabs_together, NODES);
    let knobs = knobs::get();
    let mut taken: Vec<_> = (0..8 * TOGETHER_SHARE)
        .map(|_| take(knobs, SLOTS))
        .collect();
    fake::clear();
    taken.extend((0..16).map(|_| take(knobs, SLOTS)));
    let asked = fake::calls().of(Call::Mmap);
    assert!((1..=3).contains(&asked), "{asked}");
    assert!(is_valid());
    // Once those that wait are used up, a refusal leaves one at a time.
    while counts().purged > 0 {
        taken.push(take(knobs, SLOTS));
    }
    let before = counts().mapped;
    fake::fail_kind(Call::Mmap, 1, Errno::ENOMEM);
    taken.push(take(knobs, SLOTS));
    fake::clear();
    assert_eq!(counts().mapped, before + 1);
}

#[test]
fn what_is_refused_of_superslabs_mapped_together_is_not_lost() {
    alone!(
        what_is_refused_of_superslabs_mapped_together_is_not_lost,
        NODES
    );
    let knobs = knobs::get();
    let mut taken: Vec<_> = (0..4 * TOGETHER_SHARE)
        .map(|_| take(knobs, SLOTS))
        .collect();
    let mut groups = 0;
    // One call after the other; then every mapping but the first, from 200 on those of an alignment, until a descriptor gets none.
    for n in 1..400 {
        while counts().purged > 0 {
            taken.push(take(knobs, SLOTS));
        }
        let before = counts().mapped;
        fake::clear();
        match n {
            ..40 => fake::fail_nth(n, Errno::ENOMEM),
            _ => fake::fail_kind_from(Call::Mmap, 2 + n / 200 * (n % 3), Errno::ENOMEM),
        }
        let had = obtain(knobs, here(), want(SLOTS), |_| None);
        let (unmapped, after) = (fake::calls().of(Call::Munmap), counts());
        fake::clear();
        groups += u32::from(after.mapped > before + 1);
        let (count, had) = (SLOTS, had.map(|had| had.claim));
        taken.extend(had.map(|claim| Taken { claim, count }));
        assert!(is_valid());
        assert_eq!(after.mapped, after.in_use + after.purged);
        assert_eq!(after.in_use, taken.len());
        let together = (before / TOGETHER_SHARE).clamp(1, TOGETHER_MOST);
        if n >= 40 && (before + 1..before + together).contains(&after.mapped) {
            let most = if n < 200 { 1 } else { 4 };
            assert!((1..=most).contains(&unmapped), "the rest is unmapped");
            break;
        }
        assert!(n < 399, "descriptors never ran out");
    }
    assert!(groups > 0, "some were mapped together all the same");
    let places: HashSet<_> = taken.iter().map(|slots| slots.claim.addr()).collect();
    assert_eq!(places.len(), taken.len());
    for &addr in &places {
        assert!(DIRECTORY.holds(addr));
        // SAFETY: claimed above.
        unsafe { (addr as *mut u8).write(1) };
    }
    taken.into_iter().for_each(|slots| _ = slots.release(1));
    unmap_empty();
    assert_eq!(counts().mapped, 0);
    // Nothing beside them stayed in the directory.
    let around = |addr: &usize| (addr - 16 * SUPERSLAB..addr + 16 * SUPERSLAB).step_by(SUPERSLAB);
    assert!(
        !places
            .iter()
            .flat_map(around)
            .any(|addr| DIRECTORY.holds(addr))
    );
}

#[test]
fn what_is_made_ready_is_ready_for_one_node() {
    alone!(what_is_made_ready_is_ready_for_one_node, NODES);
    let knobs = knobs::get();
    let node = |place| numa::all().nth(place).expect("a node of that place");
    assert_eq!(on(2, || prewarm(knobs, 2)), 2);
    assert!(stock(knobs, node(1)));
    assert_eq!(
        [0, 1, 2, 3].map(|place| ready(node(place), 9)),
        [0, 1, 2, 0]
    );
    assert_eq!(ready(node(2), 1), 1);
    unstock();
    assert_eq!(mapped(), [0, 0, 2, 0], "what was wished stays");
    // A node that the kernel does not have cannot be preferred: what is stocked is where the thread is.
    assert_eq!(on(1, || serving(node(3))), node(1));
    assert!(purge_all() > 0);
    assert_eq!(ready(node(2), 9), 0);
    assert!(is_valid());
}
