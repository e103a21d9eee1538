//! The dynamic loader.

use super::object::{self, LOAD};
use super::{stack, sys};
use core::ops::Range;
use core::ptr;

/// Where it lies. `None` if the program was started without one.
pub(crate) fn image() -> Option<Range<usize>> {
    let base = sys::getauxval(libc::AT_BASE as usize);
    if base == 0 {
        return None;
    }
    // SAFETY: the kernel mapped the loader there, and a loader is never unmapped.
    let (headers, bias) = unsafe { object::headers_at(ptr::with_exposed_provenance(base))? };
    let segments = headers.iter().filter(|segment| segment.kind == LOAD);
    let ends = segments.map(|it| bias.wrapping_add((it.address + it.size) as usize));
    Some(base..ends.max()?)
}

/// Whether the loader called the allocator. What glibc kept for an ended thread, its loader frees while glibc holds a lock that
/// starting a thread takes: whoever starts one then waits for itself. Reads the tables of the calling code if that may be the
/// program's own, else those of libhakmem.so alone.
pub(crate) fn has_called() -> bool {
    let Some(image) = image() else { return false };
    let mut calls = [0; CALLS];
    // What is left out is libhakmem.so's: the first call is the one into it.
    let most = if object::library().is_some() {
        1
    } else {
        CALLS
    };
    let count = stack::walk(&mut calls[..most]).count;
    calls[..count].iter().any(|call| image.contains(call))
}

/// More than the allocator has on the stack in a program that contains it.
const CALLS: usize = 16;

#[cfg(all(test, not(loom), not(miri)))]
mod tests {
    use super::*;

    #[test]
    fn the_loaders_own_functions_lie_in_it_and_no_others() {
        // A program without a loader has none.
        let Some(image) = image() else {
            assert_eq!(sys::getauxval(libc::AT_BASE as usize), 0);
            return;
        };
        let own = has_called as *const () as usize;
        assert!(!image.contains(&own) && !has_called());
        // SAFETY: a plain query.
        let its = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"__tls_get_addr".as_ptr()) };
        assert!(its.is_null() || image.contains(&its.addr()));
    }
}
