//! The dynamic loader.

use super::object::{self, LOAD};
use super::{stack, symbols, sys};
use core::ops::Range;
use core::ptr;

/// Where it lies. `None` if the kernel started the program without one.
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

const FREES_TLS: &[u8] = b"_dl_deallocate_tls\0";

/// Whether glibc's loader is freeing what an ended thread had. glibc holds a lock meanwhile that starting a thread takes: whoever
/// starts one then waits for itself. False in a static program, whose functions cannot be told apart.
pub(crate) fn frees_a_thread() -> bool {
    let mut calls = [0; CALLS];
    // What is left out is libhakmem.so's. Between it and the loader there may be a wrapper of `free`.
    let most = if object::library().is_some() {
        4
    } else {
        CALLS
    };
    let count = stack::walk(&mut calls[..most]).count;
    calls[..count].iter().any(|&call| {
        // Whoever knows of no other objects asks the one that the kernel names.
        let base = object::start_of(call).unwrap_or(sys::getauxval(libc::AT_BASE as usize));
        // SAFETY: the object has called, and a loader is never unmapped.
        let frees = (base != 0).then(|| unsafe { symbols::function_in(base, FREES_TLS) });
        frees.flatten().is_some_and(|frees| frees.contains(&call))
    })
}

/// More than the allocator has on the stack in a program that contains it.
const CALLS: usize = 20;

#[cfg(all(test, not(miri)))]
mod tests {
    use super::*;

    #[test]
    fn the_loaders_own_functions_lie_in_it_and_no_others() {
        assert!(!frees_a_thread());
        // A program without a loader has none.
        let Some(image) = image() else {
            assert_eq!(sys::getauxval(libc::AT_BASE as usize), 0);
            return;
        };
        assert!(!image.contains(&(frees_a_thread as *const () as usize)));
        // SAFETY: a loader is never unmapped.
        let frees = unsafe { symbols::function_in(image.start, FREES_TLS) };
        let in_glibc = cfg!(target_env = "gnu");
        assert_eq!(frees.is_some(), in_glibc, "{frees:?}");
        if let Some(frees) = frees {
            assert!(image.contains(&frees.start) && image.contains(&frees.end));
            assert!((1..1 << 12).contains(&frees.len()));
        }
    }
}
