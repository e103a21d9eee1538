//! Out of memory on every path: the fake kernel refuses the n-th call of each kind, once or from then on, for every n until
//! there is no such call. Blocks keep their contents through it all, and everything works again afterwards.

use crate::base::size_class;
use crate::base::tuning::others_blocks::INBOX_PER_REFILL;
use crate::heap::data::heap::HeapRef;
use crate::heap::data::tls;
use crate::heap::data::torn::TORN;
use crate::heap::entry::{free_slow, hot, realloc, threadless};
use crate::heap::upkeep::maintain;
use crate::os::fake::{self, Call};
use crate::os::sys::Errno;
use core::sync::atomic::Ordering;
use std::thread;
use std::vec::Vec;

const SIZES: [(usize, usize); 10] = [
    (24, 8),
    (700, 16),
    (3000, 64),
    (20_000, 16),
    (40_000, 4096),
    (300_000, 16),
    (1 << 20, 1 << 16),
    (3 << 20, 16),
    (100, 4 << 20),
    (9 << 20, 1 << 21),
];

struct Held {
    ptr: *mut u8,
    size: usize,
    align: usize,
    mark: u8,
}

impl Held {
    fn check(&self) {
        // SAFETY: live, and `size` bytes long.
        unsafe {
            assert_eq!(
                (*self.ptr, *self.ptr.add(self.size - 1)),
                (self.mark, self.mark)
            );
        }
        assert_eq!(self.ptr as usize % self.align, 0);
    }
}

/// Allocates, grows and frees blocks of every kind. Returns how many requests were refused.
fn work() -> usize {
    let mut held: Vec<Held> = Vec::with_capacity(100);
    let mut refused = 0;
    for round in 0..3u8 {
        for (index, &(size, align)) in SIZES.iter().enumerate() {
            let mark = round * 16 + index as u8 + 1;
            let ptr = if round == 1 {
                hot::alloc_zeroed(size, align, None)
            } else {
                hot::alloc(size, align, None)
            };
            if ptr.is_null() {
                refused += 1;
                continue;
            }
            // SAFETY: just allocated.
            unsafe {
                if round == 1 {
                    assert_eq!(
                        (*ptr, *ptr.add(size / 2), *ptr.add(size - 1)),
                        (0, 0, 0),
                        "zeroed"
                    );
                }
                *ptr = mark;
                *ptr.add(size - 1) = mark;
                assert!(free_slow::usable_size(ptr, "usable size") >= size);
            }
            held.push(Held {
                ptr,
                size,
                align,
                mark,
            });
        }
    }
    for block in held.iter_mut().filter(|block| block.size >= 300_000) {
        let new_size = block.size * 5;
        // SAFETY: live; replaced only where the answer is not null.
        unsafe {
            let new = realloc::realloc(block.ptr, Some(block.size), block.align, new_size);
            if new.is_null() {
                refused += 1;
            } else {
                assert_eq!(*new.add(block.size - 1), block.mark, "contents move along");
                *new.add(new_size - 1) = block.mark;
                (block.ptr, block.size) = (new, new_size);
            }
        }
        block.check();
    }
    refused += pieces();
    refused += swing();
    for block in held {
        block.check();
        // SAFETY: live, and not used again.
        unsafe { hot::dealloc(block.ptr, block.size, block.align) };
    }
    maintain::purge_now();
    refused
}

/// A large block put together from freed ones, grown and cut. Returns how many requests were refused.
fn pieces() -> usize {
    const SIZE: usize = 2_000_000;
    let mut refused = 0;
    let few: Vec<_> = (0..6).map(|_| hot::alloc(SIZE, 16, None)).collect();
    for &ptr in few.iter().filter(|ptr| !ptr.is_null()) {
        // SAFETY: just allocated, and freed once.
        unsafe { hot::dealloc(ptr, SIZE, 16) };
    }
    let mut ptr = hot::alloc(4 * SIZE, 16, None);
    if ptr.is_null() {
        return 1;
    }
    let marks = |ptr: *mut u8| (0..4).map(move |i| (ptr.wrapping_add(i * SIZE + 77), i as u8 + 1));
    let mut size = 4 * SIZE;
    // SAFETY: the marks lie in the block, also where it was cut; it is freed once, by what it has become.
    unsafe {
        marks(ptr).for_each(|(place, mark)| *place = mark);
        for new_size in [5 * SIZE, 3 * SIZE / 2] {
            let new = realloc::realloc(ptr, Some(size), 16, new_size);
            if new.is_null() {
                refused += 1;
                continue;
            }
            (ptr, size) = (new, new_size);
            let left = new_size.div_ceil(SIZE).min(4);
            assert!(
                marks(ptr).take(left).all(|(place, mark)| *place == mark),
                "contents stay"
            );
        }
        hot::dealloc(ptr, size, 16);
    }
    refused
}

/// So many blocks of a small class, several times, that their stack asks for magazines. Returns how many requests were refused.
fn swing() -> usize {
    let mut refused = 0;
    for round in 0..4usize {
        let blocks: Vec<*mut usize> = (0..2000).map(|_| hot::alloc(64, 8, None).cast()).collect();
        let mine = |i: usize| round << 16 | i;
        for (i, &block) in blocks.iter().enumerate() {
            if block.is_null() {
                refused += 1;
            } else {
                // SAFETY: just allocated.
                unsafe { *block = mine(i) };
            }
        }
        for (i, &block) in blocks
            .iter()
            .enumerate()
            .filter(|(_, block)| !block.is_null())
        {
            // SAFETY: live, and not used again.
            unsafe {
                assert_eq!(*block, mine(i), "nobody else has the block");
                hot::dealloc(block.cast(), 64, 8);
            }
        }
    }
    refused
}

/// Runs `work` on its own thread under a plan for the n-th call of a kind, then without. Returns how many requests were refused
/// under the plan, and whether the n-th call came.
fn under(kind: Call, n: u32, plan: fn(Call, u32, Errno)) -> (usize, bool) {
    thread::spawn(move || {
        fake::clear();
        plan(kind, n, Errno::ENOMEM);
        let refused = work();
        let reached = fake::calls().of(kind) >= n;
        fake::clear();
        assert_eq!(work(), 0, "memory is back; {kind:?} {n} was refused before");
        (refused, reached)
    })
    .join()
    .expect("no panic under a refused call")
}

/// The calls that take or give back address space and memory: those a kernel can refuse. (A futex wake cannot fail. The fake's
/// mincore may not return ENOMEM, by which a kernel reports that nothing is mapped there.)
const KINDS: [Call; 5] = [
    Call::Mmap,
    Call::Munmap,
    Call::Mprotect,
    Call::Mremap,
    Call::Madvise,
];

/// Runs `work` under `plan` for every n until it makes no n-th call. Returns how many requests were refused.
fn for_every_call(plan: fn(Call, u32, Errno)) -> usize {
    let mut seen = 0;
    for kind in KINDS {
        for n in 1.. {
            let (refused, reached) = under(kind, n, plan);
            seen += refused;
            if !reached {
                break;
            }
            assert!(n < 1000, "the work ends");
        }
    }
    seen
}

#[test]
fn every_single_refusal_is_survived() {
    for_every_call(fake::fail_kind);
}

#[test]
fn a_kernel_that_refuses_everything_from_some_call_on_is_survived() {
    let refused = for_every_call(fake::fail_kind_from);
    assert!(
        refused > 0,
        "a kernel that refuses everything leads to null"
    );
}

/// The heap of a thread that ended, as if a fork had left the thread behind. Another test's thread may have it by now.
fn left_behind() -> HeapRef {
    let ends = || {
        loop {
            let block = hot::alloc(1000, 16, None);
            // SAFETY: taken above.
            unsafe { hot::free(block) };
            // A checked block needs no heap.
            if let Some(heap) = tls::current() {
                return heap;
            }
        }
    };
    let heap = thread::spawn(ends).join().expect("a heap");
    heap.torn.store(true, Ordering::Relaxed);
    TORN.fetch_add(1, Ordering::Relaxed);
    heap
}

#[test]
fn a_thread_without_a_heap_has_what_a_fork_left_behind() {
    let body = || {
        fake::clear();
        let heap = left_behind();
        fake::fail_kind_from(Call::Mmap, 1, Errno::ENOMEM);
        let class = size_class::of_layout(64 << 10, 16).expect("a class of runs");
        let runs = core::iter::repeat_with(|| threadless::alloc(class).ptr as usize);
        let runs: Vec<usize> = runs.take_while(|&run| run != 0).collect();
        fake::clear();
        // SAFETY: heaps live for ever; each block is freed once.
        unsafe {
            let torn = heap.torn.load(Ordering::Relaxed);
            assert!(!torn || !heap.attended().is_idle(), "nobody asked it");
            runs.iter().for_each(|&run| hot::free(run as *mut u8));
        }
        maintain::purge_now();
    };
    thread::spawn(body).join().expect("what is left is used");
}

/// Slots that are free, but no three of them side by side.
#[test]
fn single_slots_serve_where_there_is_nothing_else() {
    const SIZE: usize = 64 << 10;
    let body = || {
        fake::clear();
        let many: Vec<usize> = (0..200)
            .map(|_| hot::alloc(SIZE, 16, None) as usize)
            .collect();
        fake::fail_kind_from(Call::Mmap, 1, Errno::ENOMEM);
        let rest = core::iter::repeat_with(|| hot::alloc(SIZE, 16, None) as usize);
        let mut runs: Vec<usize> = rest.take_while(|&run| run != 0).collect();
        runs.extend(many);
        runs.sort_unstable();
        let mut kept = Vec::with_capacity(runs.len());
        for (index, &run) in runs.iter().enumerate() {
            if index % 2 == 0 {
                // SAFETY: live, and freed once.
                unsafe { hot::dealloc(run as *mut u8, SIZE, 16) };
            } else {
                kept.push(run);
            }
        }
        for (size, align) in [(33_000, 16), (40_000, 1 << 14), (48 << 10, 16)] {
            for zeroed in [false, true] {
                let ptr = if zeroed {
                    hot::alloc_zeroed(size, align, None)
                } else {
                    hot::alloc(size, align, None)
                };
                assert!(!ptr.is_null(), "{size} bytes at {align}, zeroed: {zeroed}");
                assert!((ptr as usize).is_multiple_of(align));
                // SAFETY: live, `size` bytes long, and freed once.
                unsafe {
                    assert!(!zeroed || (0..size).all(|at| *ptr.add(at) == 0));
                    ptr.write_bytes(0xA5, size);
                    let ptr = realloc::realloc(ptr, Some(size), align, size - 500);
                    assert!(!ptr.is_null());
                    hot::dealloc(ptr, size - 500, align);
                }
            }
        }
        fake::clear();
        for run in kept {
            // SAFETY: live, and freed once.
            unsafe { hot::dealloc(run as *mut u8, SIZE, 16) };
        }
        maintain::purge_now();
    };
    thread::spawn(body).join().expect("free slots are used");
}

/// More batches wait in the inbox than a refill opens, and the one that is needed came first.
#[test]
fn what_waits_behind_others_in_the_inbox_serves_where_there_is_nothing_else() {
    const SIZE: usize = 20_000;
    let refuse = || fake::fail_kind_from(Call::Mmap, 1, Errno::ENOMEM);
    let freed_by_another = move |blocks: Vec<(usize, usize)>| {
        let free = move || {
            refuse();
            for (ptr, size) in blocks {
                // SAFETY: live, and freed once.
                unsafe { hot::dealloc(ptr as *mut u8, size, 16) };
            }
            fake::clear();
        };
        thread::spawn(free).join().expect("frees");
    };
    let body = move || {
        fake::clear();
        let taken = |size: usize| (hot::alloc(size, 16, None) as usize, size);
        let others = (1..=INBOX_PER_REFILL + 4).map(|i| taken(16 * i));
        let others: Vec<_> = others.flat_map(|first| [first, taken(first.1)]).collect();
        let mut blocks: Vec<_> = (0..200).map(|_| taken(SIZE)).collect();
        refuse();
        blocks.extend(core::iter::repeat_with(|| taken(SIZE)).take_while(|block| block.0 != 0));
        freed_by_another(blocks.drain(..1).collect());
        freed_by_another(others.iter().copied().step_by(2).collect());
        let again = taken(SIZE);
        fake::clear();
        assert_ne!(again.0, 0, "one is free");
        let rest = others.iter().copied().skip(1).step_by(2);
        for (ptr, size) in blocks.into_iter().chain(rest).chain([again]) {
            // SAFETY: live, and freed once.
            unsafe { hot::dealloc(ptr as *mut u8, size, 16) };
        }
        maintain::purge_now();
    };
    thread::spawn(body).join().expect("it is found");
}
