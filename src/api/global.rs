//! `Hakmem`, the `#[global_allocator]`.

use crate::heap::hot::Caller;
use crate::knobs::Config;
use core::alloc::{GlobalAlloc, Layout};

/// The allocator. A handle without state: every `Hakmem` of one version of this crate serves from the same memory.
///
/// ```
/// use hakmem_alloc::Hakmem;
///
/// #[global_allocator]
/// static GLOBAL: Hakmem = Hakmem::new();
///
/// assert_eq!([1, 2].map(Box::new), [Box::new(1), Box::new(2)]);
/// ```
///
/// An allocation that fails returns null, and nothing here panics or unwinds. What happens on misuse is said on the
/// [front page](crate#failure-and-misuse).
#[derive(Debug)]
pub struct Hakmem {
    pub(super) caller: Caller,
}

impl Default for Hakmem {
    fn default() -> Hakmem {
        Hakmem::new()
    }
}

impl Hakmem {
    /// A handle with the default configuration.
    ///
    /// ```
    /// static HAKMEM: hakmem_alloc::Hakmem = hakmem_alloc::Hakmem::new();
    /// ```
    pub const fn new() -> Hakmem {
        Hakmem::with_config(Config::new())
    }

    /// A handle with a configuration of its own. Environment variables override it. Of several handles, the first that
    /// allocates decides. The defaults hold if [`stats`](crate::stats), [`purge`](crate::purge), [`prewarm`](crate::prewarm) or a
    /// region comes before the first allocation.
    ///
    /// ```
    /// use hakmem_alloc::{Config, Hakmem, Profile};
    /// static HAKMEM: Hakmem = Hakmem::with_config(Config::new().profile(Profile::Speed));
    /// ```
    pub const fn with_config(config: Config) -> Hakmem {
        Hakmem {
            caller: Caller {
                config,
                when_ready: super::at_ready,
                when_null: None,
            },
        }
    }

    /// Calls `call` on the allocating thread before `alloc` or `alloc_zeroed` of this handle returns null, whatever the reason.
    /// A C interface sets `errno` there; otherwise it stays unchanged. A resize that fails does not call it. If `call` panics,
    /// the process aborts.
    ///
    /// ```
    /// use hakmem_alloc::{Hakmem, raw};
    /// use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
    ///
    /// static REFUSED: AtomicU32 = AtomicU32::new(0);
    /// static HAKMEM: Hakmem = Hakmem::new().when_null(|| _ = REFUSED.fetch_add(1, Relaxed));
    ///
    /// assert!(raw::alloc_by(&HAKMEM, usize::MAX, 16).is_null());
    /// # if !cfg!(miri) {
    /// assert_eq!(REFUSED.load(Relaxed), 1);
    /// # }
    /// ```
    pub const fn when_null(mut self, call: fn()) -> Hakmem {
        self.caller.when_null = Some(call);
        self
    }
}

#[cfg(not(miri))]
mod serve {
    use super::{GlobalAlloc, Hakmem, Layout};
    use crate::heap::{hot, realloc};

    // SAFETY: blocks are disjoint, aligned and as long as requested; a failure returns null; nothing unwinds, and a panic of
    // `when_null` aborts.
    unsafe impl GlobalAlloc for Hakmem {
        #[inline]
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            hot::alloc(layout.size(), layout.align(), Some(&self.caller))
        }

        #[inline]
        unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
            // SAFETY: the trait's contract.
            unsafe { hot::dealloc(ptr, layout.size(), layout.align()) }
        }

        #[inline]
        unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
            hot::alloc_zeroed(layout.size(), layout.align(), Some(&self.caller))
        }

        #[inline]
        unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
            // SAFETY: the trait's contract.
            unsafe { realloc::realloc(ptr, Some(layout.size()), layout.align(), new_size) }
        }
    }
}

#[cfg(miri)]
mod serve {
    use super::{GlobalAlloc, Hakmem, Layout};

    // SAFETY: forwards to the system allocator: Miri knows neither our mappings nor our assembly.
    unsafe impl GlobalAlloc for Hakmem {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            // SAFETY: the trait's contract.
            unsafe { std::alloc::System.alloc(layout) }
        }
        unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
            // SAFETY: the trait's contract.
            unsafe { std::alloc::System.dealloc(ptr, layout) }
        }
        unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
            // SAFETY: the trait's contract.
            unsafe { std::alloc::System.alloc_zeroed(layout) }
        }
        unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
            // SAFETY: the trait's contract.
            unsafe { std::alloc::System.realloc(ptr, layout, new_size) }
        }
    }
}
