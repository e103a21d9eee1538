//! The pools in the child of a fork.

use super::place::lock;
use super::{Pool, recount};
use crate::base::sync::atomic::Ordering;
use crate::base::units::SLOTS;
use crate::os::mapping::Place;
use crate::os::numa;
use crate::slab::directory::DIRECTORY;

/// In the child of a fork, with the lock taken over: restores the superslabs in flight, whose threads are gone. All of their
/// slots count as dirty (rule 13 of `docs/design.md`).
///
/// # Safety
/// The calling thread is the only one of the process, and the pools' locks have been reset.
pub(crate) unsafe fn restore_in_flight() {
    for node in numa::all() {
        // SAFETY: as the caller promises.
        unsafe { restore_one(&mut lock(node)) };
    }
}

unsafe fn restore_one(pool: &mut Pool) {
    while let Some(superslab) = pool.in_flight.first() {
        // SAFETY: no other thread is left to use it. An unmap in flight may or may not have happened, and the address may be
        // another mapping's by now: a superslab whose descriptor word is not its own is abandoned.
        unsafe {
            let base = (*superslab).base;
            let descriptor = DIRECTORY.descriptor(base).load(Ordering::Relaxed);
            if descriptor != superslab as usize {
                if descriptor == 0 && DIRECTORY.holds(base) {
                    DIRECTORY.leave(base);
                }
                pool.went(superslab);
            } else {
                (*superslab).dirty = u32::MAX;
                recount(superslab);
                pool.put_back(superslab);
            }
        }
    }
    const { assert!(SLOTS == 32, "a bit of a u32 for every slot") };
}
