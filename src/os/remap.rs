//! Growing, shrinking and moving a mapping without copying a byte: the kernel moves page tables.

use crate::base::tuning::addresses;
use core::sync::atomic::AtomicBool;
use core::sync::atomic::Ordering::Relaxed;

use super::super::sys::{self, Errno};
use super::{HUGE_PAGE, Mapping, Place, STRANDED, Wish};

/// Why a mapping could not be given its new length.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct RemapError {
    pub errno: Errno,
    /// Whether the source is still mapped at its old address and length. False only if the kernel was seen to have lost it.
    pub intact: bool,
}

impl RemapError {
    fn before_anything(errno: Errno) -> RemapError {
        RemapError {
            errno,
            intact: true,
        }
    }
}

/// Gives `old` at least `new_len` bytes: in place if possible, else at another address that is aligned to `align` (to 2 MiB for
/// that large a mapping, so that page tables move whole) and that `place` accepts before the move. `place` still holds the old
/// address then; the caller makes it leave. New bytes are zero. A shrink stays in place.
///
/// # Safety
/// The caller owns `old`, made by [`super::map_aligned`]; on success references into it end.
pub(crate) unsafe fn remap(
    old: Mapping,
    new_len: usize,
    align: usize,
    place: Option<&dyn Place>,
) -> Result<Mapping, RemapError> {
    let wish =
        Wish::new(new_len, align, place, libc::PROT_NONE).map_err(RemapError::before_anything)?;
    let fits_here = old.addr.is_multiple_of(wish.align);
    if fits_here && wish.len <= old.len {
        // SAFETY: the caller owns the tail.
        return unsafe { shrink(old, wish.len) };
    }
    if fits_here {
        // SAFETY: the caller owns the source; without MAYMOVE nothing else is touched.
        match unsafe { sys::mremap(old.addr, old.len, wish.len, 0, 0) } {
            Ok(addr) => {
                return Ok(Mapping {
                    addr,
                    len: wish.len,
                });
            }
            // Another mapping lies behind it.
            Err(Errno::ENOMEM) => {}
            // The source itself does not suit mremap (it spans two mappings, say). A move would fail the same way.
            Err(e) => return Err(RemapError::before_anything(e)),
        }
    }
    // SAFETY: as the caller promises.
    unsafe { relocate(old, wish) }
}

/// Moves `old`, which is one mapping to the kernel, over `target`, a part of another mapping of the caller's. Page tables move
/// whole if both are aligned to 2 MiB. After an error nobody can tell whose the target is, so it counts as stranded. What is
/// left of `old` is still the caller's.
///
/// # Safety
/// The caller owns both; on success references into `old` end, and those into the target in any case.
#[inline(never)]
pub(crate) unsafe fn move_over(old: Mapping, target: usize) -> Result<(), Errno> {
    let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
    // SAFETY: as the caller promises.
    match unsafe { sys::mremap(old.addr, old.len, old.len, flags, target) } {
        Ok(_) => Ok(()),
        Err(errno) => {
            // As in `relocate`.
            note(errno);
            STRANDED.fetch_add(old.len, Relaxed);
            Err(errno)
        }
    }
}

/// Set once the kernel had no mapping left for a move. What moves stays a mapping of its own, so further moves would take the
/// mappings that the process needs for other things. Only a hint, so Relaxed.
#[cfg(not(test))]
static SCARCE: AtomicBool = AtomicBool::new(false);

// The fake's failures concern one thread, and so do their consequences.
#[cfg(test)]
std::thread_local! {
    static SCARCE: AtomicBool = const { AtomicBool::new(false) };
}

fn note(errno: Errno) {
    if errno == Errno::ENOMEM {
        scarce(|flag| flag.store(true, Relaxed));
    }
}

fn scarce<R>(with: impl FnOnce(&AtomicBool) -> R) -> R {
    #[cfg(not(test))]
    return with(&SCARCE);
    #[cfg(test)]
    SCARCE.with(with)
}

/// Whether moves are still tried. They are not once failed ones lost too much address space, or mappings are scarce.
pub(crate) fn may_move() -> bool {
    !scarce(|flag| flag.load(Relaxed)) && STRANDED.load(Relaxed) <= addresses::STRANDED
}

/// # Safety
/// The caller owns `old` and gives up its tail.
unsafe fn shrink(old: Mapping, len: usize) -> Result<Mapping, RemapError> {
    if len < old.len {
        // SAFETY: the caller gives up the tail.
        unsafe { sys::munmap(old.addr + len, old.len - len) }
            .map_err(RemapError::before_anything)?;
    }
    Ok(Mapping {
        addr: old.addr,
        len,
    })
}

/// Moves to an address reserved before, so that it is known to be aligned and free.
///
/// # Safety
/// The caller owns `old`; on success references into it end.
unsafe fn relocate(old: Mapping, wish: Wish) -> Result<Mapping, RemapError> {
    if !may_move() {
        return Err(RemapError::before_anything(Errno::ENOMEM));
    }
    let generous = Wish {
        align: wish.align.max(HUGE_PAGE),
        ..wish
    };
    let roomy = wish.len >= HUGE_PAGE && generous.align > wish.align;
    let reserved = match if roomy { generous.map() } else { wish.map() } {
        Err(_) if roomy => wish.map(),
        other => other,
    };
    let target = reserved.map_err(RemapError::before_anything)?;
    let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
    // SAFETY: the caller owns the source, and this function owns the target.
    match unsafe { sys::mremap(old.addr, old.len, wish.len, flags, target.addr) } {
        Ok(addr) => Ok(Mapping {
            addr,
            len: wish.len,
        }),
        Err(errno) => {
            // The kernel unmaps the target before most of its failures, and another thread may have mapped something there by
            // now, so it must not be unmapped again. If the failure came earlier, the reservation stays behind, which costs
            // addresses only.
            note(errno);
            if let Some(place) = wish.place {
                place.leave(target.addr);
            }
            STRANDED.fetch_add(target.len, Relaxed);
            Err(RemapError {
                errno,
                intact: is_mapped(&old),
            })
        }
    }
}

/// Whether both ends of a mapping are still there.
fn is_mapped(mapping: &Mapping) -> bool {
    let page = sys::page_size();
    let mut one = [0u8; 16];
    debug_assert!(page <= 16 * 4096, "no Linux has larger OS pages");
    // Any other failure than ENOMEM says nothing about the range: it was not lost.
    [mapping.addr, mapping.end() - page]
        .into_iter()
        .all(|addr| sys::mincore(addr, page, &mut one) != Err(Errno::ENOMEM))
}

#[cfg(test)]
#[path = "remap_tests.rs"]
mod tests;
