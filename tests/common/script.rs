//! Calls of the whole interface, read from bytes and checked against the shadow model: for a fuzzer, and for its stored inputs.
//!
//! Every three bytes are one call: which, and two numbers for it. Several threads make the calls, one at a time, so that the
//! same bytes always make the same calls in the same order. Blocks pass from one thread to another, and threads end and are
//! replaced by others.

use super::shadow::{Live, Model, Plan, Registry};
use super::{KIB, MIB, clock};
use hakmem_alloc::{Hakmem, raw};
use std::alloc::{GlobalAlloc, Layout};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

const THREADS: usize = 4;
/// Bytes of the largest block.
pub const MOST: usize = 17 * MIB;
/// Live bytes of one thread at most.
const BUDGET: usize = 64 * MIB;

/// What goes beyond `GlobalAlloc`, for the allocator under test.
pub trait Whole: GlobalAlloc + Sync {
    /// Gives back what can be given back, looks at the statistics, or lets time pass.
    fn aside(&self, which: u8);
}

/// The allocator, called in turn through each of its interfaces.
#[derive(Default)]
pub struct EveryDoor(AtomicUsize);

impl EveryDoor {
    /// Relaxed: the calls are made one at a time.
    fn raw(&self) -> bool {
        self.0.fetch_add(1, Relaxed).is_multiple_of(2)
    }
}

/// # Safety
/// `ptr` is null or a live block.
unsafe fn roomy(ptr: *mut u8, size: usize) -> *mut u8 {
    // SAFETY: the caller's promise.
    let room = unsafe { ptr.is_null() || raw::usable_size(ptr) >= size };
    assert!(room, "{ptr:p} holds less than {size} bytes");
    ptr
}

// SAFETY: every door leads to the one allocator, which takes a block through any of them.
unsafe impl GlobalAlloc for EveryDoor {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller promises.
        unsafe {
            let ptr = match self.raw() {
                true => raw::alloc(layout.size(), layout.align()),
                false => Hakmem::new().alloc(layout),
            };
            roomy(ptr, layout.size())
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller promises.
        unsafe {
            let ptr = match self.raw() {
                true => raw::alloc_zeroed(layout.size(), layout.align()),
                false => Hakmem::new().alloc_zeroed(layout),
            };
            roomy(ptr, layout.size())
        }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe {
            match self.raw() {
                true => raw::dealloc(ptr),
                false => Hakmem::new().dealloc(ptr, layout),
            }
        }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as the caller promises.
        unsafe {
            let ptr = match self.raw() {
                true => raw::realloc_aligned(ptr, size, layout.align()),
                false => Hakmem::new().realloc(ptr, layout, size),
            };
            roomy(ptr, size)
        }
    }
}

impl Whole for EveryDoor {
    fn aside(&self, which: u8) {
        match which % 8 {
            0 => _ = hakmem_alloc::purge(),
            1 => _ = hakmem_alloc::prewarm(1),
            2 => {
                let stats = hakmem_alloc::stats();
                let slabs = stats.superslabs;
                let states = slabs.in_use + slabs.retained + slabs.purged;
                assert_eq!(states, slabs.mapped, "{slabs:?}");
            }
            3 => _ = hakmem_alloc::stats_quick(),
            _ => clock::pass(40 << (which >> 5)),
        }
    }
}

#[derive(Debug)]
enum Call {
    Allocate(Layout, bool),
    Reallocate(usize, usize),
    Free(usize),
    Check(usize),
    Give(usize),
    Take(Live),
    Aside(u8),
}

/// Sizes from 1 byte to 16 MiB: small ones in steps of one byte, larger ones around the ends of classes and OS pages.
fn size(a: u8, b: u8) -> usize {
    let near = usize::from(b);
    match a % 8 {
        0..3 => 1 + near + 256 * usize::from(a >> 6),
        3 => (KIB << ((a >> 3) & 5)) + near - 128,
        4 => 4 * KIB * (1 + near),
        5 => ((64 * KIB) << ((a >> 4) & 3)) + near - 128,
        6 => MIB + 4096 * near - 100,
        _ => ((2 * MIB) << ((a >> 3) & 3)) - 1 + near % 3,
    }
}

fn call(which: u8, a: u8, b: u8) -> Call {
    let place = usize::from(b);
    match which % 32 {
        0..10 => {
            // One in four is aligned to more than its size may ask for.
            let align = 1 << if which >> 6 == 0 { a >> 4 } else { a >> 6 };
            let layout = Layout::from_size_align(size(a, b), align).expect("small");
            Call::Allocate(layout, which & 32 != 0)
        }
        10..15 => Call::Reallocate(usize::from(which >> 5), size(a, b)),
        15..24 => Call::Free(place),
        24..26 => Call::Check(place),
        26..29 => Call::Give(place),
        _ => Call::Aside(a),
    }
}

struct Worker {
    calls: Sender<Call>,
    answers: Receiver<Result<Option<Live>, String>>,
}

impl Worker {
    fn ask(&self, call: Call) -> Result<Option<Live>, String> {
        let text = format!("{call:?}");
        self.calls.send(call).map_err(|_| "a thread is gone")?;
        let answer = self.answers.recv().map_err(|_| "a thread is gone")?;
        answer.map_err(|error| format!("{text}: {error}"))
    }
}

/// A thread's life: it answers every call, and when there are no more it checks and frees what it has.
fn serve<A: Whole>(
    alloc: &A,
    registry: &Registry,
    calls: &Receiver<Call>,
    answers: &Sender<Result<Option<Live>, String>>,
) {
    let plan = Plan {
        budget: BUDGET,
        ..Plan::SMALL
    };
    let mut model = Model::new(alloc, registry, 1, plan);
    let mut answer = |call| -> Result<Option<Live>, String> {
        let mut given = None;
        match call {
            Call::Allocate(layout, zeroed) if model.bytes() + layout.size() <= BUDGET => {
                model.allocate(layout, zeroed)?;
            }
            Call::Allocate(..) => {}
            Call::Reallocate(place, size) => {
                if let Some(block) = model.give_at(place) {
                    model.reallocate(block, size)?;
                }
            }
            Call::Free(place) => {
                if let Some(block) = model.give_at(place) {
                    model.free(block)?;
                }
            }
            Call::Check(place) => {
                if let Some(block) = model.give_at(place) {
                    model.take(block)?;
                }
            }
            Call::Give(place) => given = model.give_at(place),
            Call::Take(block) => model.take(block)?,
            Call::Aside(which) => alloc.aside(which),
        }
        Ok(given)
    };
    for call in calls {
        if answers.send(answer(call)).is_err() {
            return;
        }
    }
    // Nobody listens any more unless it went wrong.
    let _ = answers.send(model.finish().map(|()| None));
}

/// Makes the calls that `bytes` say; names the first answer that is wrong.
pub fn run<A: Whole>(alloc: &A, bytes: &[u8]) -> Result<(), String> {
    let registry = Registry::default();
    thread::scope(|scope| {
        let start = || {
            let (calls, to_do) = channel();
            let (done, answers) = channel();
            let registry = &registry;
            let thread = scope.spawn(move || serve(alloc, registry, &to_do, &done));
            (Worker { calls, answers }, thread)
        };
        let mut workers: Vec<_> = (0..THREADS).map(|_| start()).collect();
        let end = |(worker, thread): (Worker, thread::ScopedJoinHandle<'_, ()>)| {
            drop(worker.calls);
            let last = worker.answers.recv();
            thread.join().map_err(|_| "a thread panicked")?;
            last.map_err(|_| "a thread is gone")?.map(|_| ())
        };
        for (n, bytes) in bytes.as_chunks::<3>().0.iter().enumerate() {
            let [which, a, b] = *bytes;
            let (at, to) = (usize::from(a ^ b) % THREADS, usize::from(a) % THREADS);
            let mut step = || -> Result<(), String> {
                if which == u8::MAX {
                    // The thread ends, and another takes its place.
                    let old = std::mem::replace(&mut workers[at], start());
                    return end(old);
                }
                if let Some(block) = workers[at].0.ask(call(which, a, b))? {
                    workers[to].0.ask(Call::Take(block))?;
                }
                Ok(())
            };
            step().map_err(|error| format!("call {n}: {error}"))?;
        }
        workers.into_iter().try_for_each(end)
    })?;
    if registry.is_empty() {
        Ok(())
    } else {
        Err("the model lost a block".to_owned())
    }
}
