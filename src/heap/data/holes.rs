//! What a heap knows of the OS pages of its slabs that are to go, or have gone, and how far its pass is.

use crate::base::size_class::SLAB_CLASSES;
use crate::heap::data::class_set::Classes;
use crate::knobs;
use crate::slab::slab::Slab;
use crate::slab::slab_holes::Chance;
use crate::slab::superslab::Superslab;
use core::ptr;
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Slabs whose pages go at once.
pub(crate) const TOGETHER: usize = 16;

/// A slab and the pages of it that are going.
#[derive(Clone, Copy)]
pub(crate) struct Going {
    pub(crate) slab: *mut Slab,
    pub(crate) base: usize,
    pub(crate) superslab: *mut Superslab,
    /// The kernel may make them parts of a huge page.
    pub(crate) huge: bool,
    pub(crate) chance: Chance,
}

/// What a heap knows of its holes, under its lock. All-zero is valid: there are none.
#[repr(C)]
pub(crate) struct State {
    /// Classes to which blocks came back since the last pass began, and those that have slabs which one pass has marked.
    pub(crate) stirred: Classes,
    pub(crate) marked: Classes,
    /// Classes that the pass under way has still to see.
    pub(crate) left: Classes,
    /// Where it is: a class, or 0 if none is under way, a list of it, and the slab that comes next.
    pub(crate) class: usize,
    pub(crate) list: usize,
    pub(crate) at: *mut Slab,
    /// When it began, milliseconds.
    pub(crate) began: u64,
    /// Slabs that are out of their lists while their pages go. A fork's child finds them here.
    pub(crate) going: [Going; TOGETHER],
    pub(crate) count: usize,
    /// Who gives them back, and how many forks the process was the child of then.
    pub(crate) by: usize,
    pub(crate) generation: u32,
    /// Bytes of blocks that came back and were not looked at since, at most; and what the account was told of them.
    pub(crate) unsettled: usize,
    pub(crate) shown: usize,
}

/// Whose turn it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum When {
    /// Pages go that nobody used for a while.
    Aged(u64),
    /// All go that can, now.
    Now,
}

impl State {
    /// Blocks of `class` came back to a slab.
    #[inline]
    pub(crate) fn given(&mut self, class: usize, bytes: usize) {
        self.stirred.add(class);
        self.unsettled += bytes;
    }

    /// The slab leaves its list.
    #[inline]
    pub(crate) fn unlinked(&mut self, slab: *mut Slab) {
        if self.at == slab {
            // SAFETY: the caller holds the lock of the slab's heap.
            self.at = unsafe { (*slab).next };
        }
    }

    /// Begins a pass, unless one is under way. Returns whether one is.
    pub(crate) fn begin(&mut self, when: When) -> bool {
        if self.class != 0 {
            return true;
        }
        if let When::Aged(now) = when {
            let delay = u64::from(knobs::get().purge_delay_ms).max(10);
            if now.saturating_sub(self.began) < delay {
                return false;
            }
            self.began = now;
        }
        let mut any = false;
        for class in self.stirred.take().chain(self.marked.take()) {
            // A block alone in its slab goes with it.
            if class < SLAB_CLASSES {
                self.left.add(class);
                any = true;
            }
        }
        if when == When::Now {
            // What lies still in huge pages has left the sets.
            (1..SLAB_CLASSES).for_each(|class| self.left.add(class));
            any = true;
        }
        if any {
            self.at = ptr::null_mut();
            self.next_class(1);
        } else {
            self.unsettled = 0;
        }
        any
    }

    /// Goes on with the first class from `from` that is left, or ends the pass.
    pub(crate) fn next_class(&mut self, from: usize) {
        let class = (from..SLAB_CLASSES).find(|&class| self.left.has(class));
        self.class = class.unwrap_or(0);
        self.list = 0;
        self.left.remove(self.class);
    }
}

/// Whether more waits to be looked at in some heap, so that somebody has to be there to look. A hint, so Relaxed.
pub(crate) static GREW: AtomicBool = AtomicBool::new(false);

/// Whether more waits since the last call.
#[inline]
pub(crate) fn grew() -> bool {
    GREW.load(Relaxed) && GREW.swap(false, Relaxed)
}
