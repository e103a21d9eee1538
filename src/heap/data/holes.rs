//! What a heap knows of the OS pages of its slabs that are going or gone, and how far its pass is.

use crate::base::size_class::{self, Class};
use crate::base::tuning::holes::TOGETHER;
use crate::heap::data::class_set::Classes;
use crate::knobs;
use crate::slab::slab::Slab;
use crate::slab::slab_holes::Chance;
use crate::slab::superslab::Superslab;
use core::ptr;

/// A slab and its pages that are going.
#[derive(Clone, Copy)]
pub(crate) struct Going {
    pub(crate) slab: *mut Slab,
    pub(crate) base: usize,
    pub(crate) superslab: *mut Superslab,
    /// The kernel may make them parts of a huge page.
    pub(crate) huge: bool,
    pub(crate) chance: Chance,
}

/// A heap's holes, under its lock. All-zero is valid: there are none.
#[repr(C)]
pub(crate) struct State {
    /// `stirred`: classes to which blocks returned since the last pass began. `marked`: classes with slabs that it marked.
    pub(crate) stirred: Classes,
    pub(crate) marked: Classes,
    /// Classes that the current pass has still to visit.
    pub(crate) left: Classes,
    /// Where the pass is: the class ([`Class::NONE`] if there is no pass), the list of it, and the slab that comes next.
    pub(crate) class: Class,
    pub(crate) list: usize,
    pub(crate) at: *mut Slab,
    /// When the last pass over aged pages began, in milliseconds.
    pub(crate) began: u64,
    /// Slabs off their lists while their pages go. A fork's child finds them here.
    pub(crate) going: [Going; TOGETHER],
    pub(crate) count: usize,
    /// The thread that gives them back, and `pages::GENERATION` at that time.
    pub(crate) by: usize,
    pub(crate) generation: u32,
    /// Bytes of blocks that returned and were not looked at since, at most; and what the account was told of them.
    pub(crate) unsettled: usize,
    pub(crate) shown: usize,
}

/// Which pages a pass gives back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum When {
    /// Those that nobody used for a while, as of this time in milliseconds.
    Aged(u64),
    /// All that can go.
    Now,
}

impl State {
    /// Notes that blocks of `class` returned to a slab.
    #[inline]
    pub(crate) fn given(&mut self, class: Class, bytes: usize) {
        self.stirred.add(class);
        self.unsettled += bytes;
    }

    /// Notes that the slab leaves its list.
    #[inline]
    pub(crate) fn unlinked(&mut self, slab: *mut Slab) {
        if self.at == slab {
            // SAFETY: the caller holds the lock of the slab's heap.
            self.at = unsafe { (*slab).next };
        }
    }

    /// Begins a pass, unless one is under way. Returns whether one is.
    pub(crate) fn begin(&mut self, when: When) -> bool {
        if self.class != Class::NONE {
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
            // A run is alone in its slab, and goes with it.
            if !size_class::is_run(class) {
                self.left.add(class);
                any = true;
            }
        }
        if when == When::Now {
            // Slabs held back in huge pages have left the sets.
            Class::all_of_slabs().for_each(|class| self.left.add(class));
            any = true;
        }
        if any {
            self.at = ptr::null_mut();
            self.next_class(Class::new(1));
        } else {
            self.unsettled = 0;
        }
        any
    }

    /// Goes on with the first class left from `from` on, or ends the pass.
    pub(crate) fn next_class(&mut self, from: Class) {
        let class = from.onward().find(|&class| self.left.has(class));
        self.class = class.unwrap_or(Class::NONE);
        self.list = 0;
        self.left.remove(self.class);
    }
}
