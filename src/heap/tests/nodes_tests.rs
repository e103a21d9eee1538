//! Heaps whose threads run on several pretended nodes. Each test has a process of its own.

use crate::base::units::SUPERSLAB;
use crate::heap::data::tls;
use crate::heap::entry::hot;
use crate::heap::thread::attach;
use crate::heap::upkeep::maintain;
use crate::os::fake::{self, Call};
use crate::os::numa;
use crate::os::sys::{self, Errno};
use crate::pool;
use crate::slab::directory::DIRECTORY;
use crate::slab::superslab::Superslab;
use core::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::vec::Vec;

const NODES: &str = "0,2-4";
const IDS: [usize; 4] = [0, 2, 3, 4];
/// Of slab classes and of runs.
const SIZES: [usize; 5] = [24, 300, 5000, 40_000, 300_000];

macro_rules! alone {
    ($name:ident, $nodes:expr) => {
        let name = concat!("heap::tests::nodes_tests::", stringify!($name));
        if !fake::alone_with_nodes(name, $nodes) {
            return;
        }
        assert!(attach::ensure_ready());
    };
}

/// Allocates blocks. Returns their addresses, which can go between threads.
fn fill(rounds: usize) -> Vec<(usize, usize)> {
    let mut blocks = Vec::new();
    for _ in 0..rounds {
        for size in SIZES {
            let block = hot::alloc(size, 16, None);
            assert!(!block.is_null());
            // SAFETY: just allocated.
            unsafe { *block = 1 };
            blocks.push((block as usize, size));
        }
    }
    blocks
}

fn empty(blocks: Vec<(usize, usize)>) {
    for (block, size) in blocks {
        // SAFETY: from `fill`, and not used again.
        unsafe { hot::dealloc(block as *mut u8, size, 16) };
    }
}

fn node_of(block: usize) -> usize {
    let superslab = DIRECTORY.descriptor(block).load(Ordering::Relaxed) as *mut Superslab;
    // SAFETY: of a live block.
    unsafe { (*superslab).node.index() }
}

#[test]
fn blocks_come_from_the_node_of_their_thread() {
    alone!(blocks_come_from_the_node_of_their_thread, NODES);
    // A thread that starts after another's end takes over what that one's heap holds: all wait for one another.
    let barrier = Arc::new(Barrier::new(IDS.len()));
    let filled: Vec<_> = IDS
        .map(|id| {
            let barrier = Arc::clone(&barrier);
            thread::spawn(move || {
                fake::run_on(id);
                let blocks = fill(200);
                barrier.wait();
                assert!(fake::calls().of(Call::Getcpu) > 0);
                blocks
            })
        })
        .into_iter()
        .map(|thread| thread.join().expect("no panic"))
        .collect();
    for (place, blocks) in filled.iter().enumerate() {
        assert!(blocks.iter().all(|(block, _)| node_of(*block) == place));
    }
    let counts = pool::counts();
    assert!(counts.mapped * SUPERSLAB >= 4 * 200 * 300_000);
    // A few were mapped together with others and wait.
    assert_eq!(counts.mapped, counts.in_use + counts.purged);
    assert!(pool::is_valid());
    // Another thread frees all, on a node of its own.
    thread::spawn(|| {
        fake::run_on(IDS[1]);
        filled.into_iter().for_each(empty);
    })
    .join()
    .expect("no panic");
    maintain::purge_now();
    let after = pool::counts();
    assert!(pool::is_valid());
    assert!(
        after.claimed_slots.count() < counts.claimed_slots.count() / 10,
        "{after:?}"
    );
}

#[test]
fn null_only_when_no_node_has_a_slot() {
    alone!(null_only_when_no_node_has_a_slot, NODES);
    for dead in [false, true] {
        // Room in a superslab of another node.
        let held = thread::spawn(|| {
            fake::run_on(IDS[2]);
            fill(1)
        })
        .join()
        .expect("no panic");
        let got = thread::spawn(move || {
            fake::run_on(IDS[3]);
            if dead {
                tls::set_dead();
            }
            // What setting up takes is allocated beforehand.
            let first = hot::alloc(300_000, 16, None) as usize;
            fake::fail_kind_from(Call::Mmap, 1, Errno::ENOMEM);
            let mut got = Vec::new();
            loop {
                let block = hot::alloc(300_000, 16, None) as usize;
                if block == 0 {
                    break;
                }
                got.push((block, 300_000));
            }
            fake::clear();
            got.push((first, 300_000));
            got
        })
        .join()
        .expect("no panic");
        let foreign = got.iter().filter(|(block, _)| node_of(*block) == 2).count();
        assert!(
            foreign > 0 && foreign < got.len(),
            "{foreign} of {}",
            got.len()
        );
        assert!(pool::is_valid());
        empty(got);
        empty(held);
        maintain::purge_now();
    }
    let after = thread::spawn(|| {
        fake::run_on(IDS[3]);
        fill(20)
    })
    .join()
    .expect("no panic");
    assert!(!after.is_empty(), "memory is back");
    empty(after);
}

#[test]
fn one_node_is_never_asked_for() {
    alone!(one_node_is_never_asked_for, "0");
    thread::spawn(|| {
        empty(fill(300));
        tls::set_dead();
        empty(fill(3));
        maintain::purge_now();
        assert_eq!(numa::count(), 1);
        assert_eq!(fake::calls().of(Call::Getcpu), 0);
        assert!(fake::calls().of(Call::Mmap) > 0);
    })
    .join()
    .expect("no panic");
}

/// Naming a mapping is a system call of a kind at which filters installed after the start end a process.
#[test]
fn what_is_mapped_in_mid_life_gets_no_name() {
    alone!(what_is_mapped_in_mid_life_gets_no_name, NODES);
    fake::clear();
    empty(fill(300));
    let large = hot::alloc(5 << 20, 16, None);
    assert!(!large.is_null());
    // SAFETY: just allocated.
    unsafe { hot::dealloc(large, 5 << 20, 16) };
    let calls = fake::calls();
    assert_eq!(calls.of(Call::Name), 0);
    assert!(calls.of(Call::Mmap) > 10);
}

/// What a child of a fork does, without a call to the standard library. Returns 0 if all is well.
fn as_child() -> i32 {
    if !pool::is_valid() {
        return 2;
    }
    let mut held = [core::ptr::null_mut(); IDS.len() * SIZES.len()];
    for (index, block) in held.iter_mut().enumerate() {
        fake::run_on(IDS[index % IDS.len()]);
        *block = hot::alloc(SIZES[index / IDS.len()], 16, None);
        if block.is_null() {
            return 3;
        }
    }
    for (index, &block) in held.iter().enumerate() {
        // SAFETY: from above, and not used again.
        unsafe { hot::dealloc(block, SIZES[index / IDS.len()], 16) };
    }
    maintain::purge_now();
    if pool::is_valid() { 0 } else { 4 }
}

/// The wait status of a child. A child that hangs is killed: a lock may keep it inside `fork` itself.
fn end_of(pid: i32) -> i32 {
    let mut status = 0;
    for hundredths in 0.. {
        // SAFETY: a child of ours, not yet waited for.
        unsafe {
            match libc::waitpid(pid, &mut status, libc::WNOHANG) {
                0 if hundredths == 60_000 => _ = libc::kill(pid, libc::SIGKILL),
                0 => {}
                ended => {
                    assert_eq!(ended, pid);
                    break;
                }
            }
        }
        sys::sleep_us(10_000);
    }
    status
}

#[test]
fn a_child_of_a_fork_has_every_pool() {
    alone!(a_child_of_a_fork_has_every_pool, NODES);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for id in IDS {
            let stop = &stop;
            scope.spawn(move || {
                fake::run_on(id);
                while !stop.load(Ordering::Relaxed) {
                    empty(fill(20));
                    pool::trim();
                    pool::purge_all();
                }
            });
        }
        let mut bad = None;
        for round in 0..100 {
            // SAFETY: the child calls the allocator and `_exit` alone.
            let pid = unsafe { libc::fork() };
            assert!(pid >= 0);
            if pid == 0 {
                let code = as_child();
                // SAFETY: ends the child here.
                unsafe { libc::_exit(code) };
            }
            let status = end_of(pid);
            if status != 0 {
                bad = Some((round, status));
                break;
            }
        }
        stop.store(true, Ordering::Relaxed);
        assert_eq!(bad, None, "round and wait status");
    });
    assert!(pool::is_valid());
}
