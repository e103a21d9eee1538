//! Reservations: addresses of which parts are opened as they are needed.

use super::{Mapping, Place, READ_WRITE, Wish, purge};
use crate::os::sys::{self, Errno};

/// Reserves `len` bytes that read as zero, for a table that is mostly empty. They are read-only, so they cost no memory, and
/// left out of core dumps. [`make_writable`] opens a part.
pub(crate) fn reserve_readonly(len: usize, align: usize) -> Result<Mapping, Errno> {
    let mapping = Wish::new(len, align, None, libc::PROT_READ)?.map()?;
    // SAFETY: fresh and empty. A kernel without this advice dumps a table of zeroes, which is harmless.
    let _ = unsafe { sys::madvise(mapping.addr, mapping.len, libc::MADV_DONTDUMP) };
    Ok(mapping)
}

/// Makes part of a reservation writable, outwards to whole OS pages.
///
/// # Safety
/// The caller owns the OS pages the range lies in.
pub(crate) unsafe fn make_writable(addr: usize, len: usize) -> Result<(), Errno> {
    let page = sys::page_size();
    let lo = addr & !(page - 1);
    let hi = (addr + len).next_multiple_of(page);
    // SAFETY: as the caller promises; access is only added.
    unsafe { sys::mprotect(lo, hi - lo, READ_WRITE) }
}

/// Replaces part of a reservation by fresh, writable memory, if `mprotect` is refused. One call replaces the range, so that no
/// other mapping can come in between.
///
/// # Safety
/// The caller owns the range, which is whole OS pages, and nobody wrote to it. It may be read meanwhile.
pub(crate) unsafe fn renew(addr: usize, len: usize) -> Result<(), Errno> {
    let flags = libc::MAP_FIXED | libc::MAP_NORESERVE;
    // SAFETY: as the caller promises; zeroes take the place of zeroes.
    unsafe { sys::mmap(addr, len, READ_WRITE, flags) }.map(drop)
}

/// Reserves `len` bytes without access, in a place that accepts them: they cost no memory, and each access faults.
/// [`make_writable`] opens a part.
pub(crate) fn reserve_inaccessible(
    len: usize,
    align: usize,
    place: &dyn Place,
) -> Result<Mapping, Errno> {
    Wish::new(len, align, Some(place), libc::PROT_NONE)?.map()
}

/// Gives the memory of a range back and takes all access away. If the memory is locked, it stays, without access.
///
/// # Safety
/// The caller owns the range, whole OS pages of a reservation, and nobody needs its contents.
pub(crate) unsafe fn make_inaccessible(addr: usize, len: usize) -> Result<(), Errno> {
    // SAFETY: as the caller promises.
    unsafe {
        let _ = purge(addr, len);
        sys::mprotect(addr, len, libc::PROT_NONE)
    }
}
