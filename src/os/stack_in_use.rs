//! What of the stack in use can be read without asking the kernel, and what it says of the rest.

use core::sync::atomic::AtomicUsize;
use core::sync::atomic::Ordering::Relaxed;

use super::sys::{self, page_size};
use super::{readable, reads, thread};

/// A range of the stack that can be read.
#[derive(Clone, Copy)]
pub(super) struct Known {
    pub(super) from: usize,
    pub(super) to: usize,
}

/// Bytes of the first thread's stack that are told from other memory by the address: the kernel leaves as much free below its top as
/// it may grow, 8 MiB unless the limit is another, and a gap.
const FIRST_STACK: usize = 8 << 20;

impl Known {
    pub(super) const NOTHING: Known = Known { from: 0, to: 0 };

    /// The end of the first thread's stack, if `sp` is in it, in few instructions.
    #[inline(always)]
    pub(super) fn end_of_first(sp: usize) -> Option<usize> {
        /// What the C library says, which does not change; 0 before it was asked.
        static END: AtomicUsize = AtomicUsize::new(0);
        match END.load(Relaxed) {
            0 => END.store(thread::first_stack_end().max(1), Relaxed),
            end if end.wrapping_sub(sp) < FIRST_STACK => return Some(end),
            _ => {}
        }
        None
    }

    /// The end of what [`Known::stack`] says, in few instructions.
    #[inline(always)]
    pub(super) fn end_above(sp: usize) -> usize {
        // The OS page in use, or a part of it if it is a large one.
        Known::end_of_first(sp).unwrap_or((sp | 4095) + 1)
    }

    /// What is in use of the stack of the running code whose stack pointer is `sp`, as far as tables lead: on the first thread's all
    /// above it, as that stack is one mapping and stays; else the OS page.
    #[inline]
    pub(super) fn stack(sp: usize) -> Known {
        let page = Known::page(sp);
        match thread::first_stack_end() {
            end if (1..FIRST_STACK).contains(&end.wrapping_sub(sp)) => Known {
                to: Known::page(end).to,
                ..page
            },
            _ => page,
        }
    }

    /// The OS page of an address that is in use.
    fn page(at: usize) -> Known {
        let from = at & !(page_size() - 1);
        Known {
            from,
            to: from + page_size(),
        }
    }

    #[inline]
    pub(super) fn word(&mut self, at: usize) -> Option<usize> {
        // SAFETY: in an OS page that can be read.
        (at.is_multiple_of(8) && self.holds(at)).then(|| unsafe { reads::read(at) })
    }

    /// Whether the OS page of an address can be read.
    #[inline]
    pub(super) fn holds(&mut self, at: usize) -> bool {
        (self.from..self.to).contains(&at) || self.ask(at).is_some()
    }

    /// Adds the OS page of an address, if it can be read.
    #[cold]
    #[inline(never)]
    fn ask(&mut self, at: usize) -> Option<()> {
        let _errno = sys::ErrnoGuard::new();
        if !readable::is(at) {
            return None;
        }
        // Next to what is known, or a range of its own.
        let page = Known::page(at);
        (self.from, self.to) = match () {
            () if page.from == self.to => (self.from, page.to),
            () if page.to == self.from => (page.from, self.to),
            () => (page.from, page.to),
        };
        Some(())
    }
}
