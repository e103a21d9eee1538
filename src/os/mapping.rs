//! Address space: aligned mappings, and what becomes of them.
//!
//! Promises: a mapping that is handed out is aligned as asked and lies in the window as asked,
//! whatever the kernel answered; one that is not is unmapped before anybody saw it. `munmap` can
//! fail where it would have to split a mapping (`vm.max_map_count`): excess that could not be
//! trimmed stays behind as untouched address space, costs no memory, and is counted in
//! [`stranded_bytes`].

use core::sync::atomic::AtomicUsize;
use core::sync::atomic::Ordering::Relaxed;

use super::findings;
use super::sys::{self, Errno};

/// The size of a huge page, and the alignment at which page tables move whole.
pub(crate) const HUGE_PAGE: usize = 2 << 20;

const READ_WRITE: i32 = libc::PROT_READ | libc::PROT_WRITE;

/// A range of address space that belongs to the holder of this value. Dropping it does nothing:
/// the pool and the huge blocks keep theirs in descriptors.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use = "a mapping that is not kept is lost"]
pub(crate) struct Mapping {
    pub addr: usize,
    pub len: usize,
}

impl Mapping {
    pub(crate) fn end(&self) -> usize {
        self.addr + self.len
    }
}

/// The addresses that may be used: `[lo, hi)`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Window {
    pub lo: usize,
    pub hi: usize,
}

impl Window {
    pub(crate) fn contains(&self, addr: usize, len: usize) -> bool {
        self.lo <= addr && addr.checked_add(len).is_some_and(|end| end <= self.hi)
    }
}

/// A mapping made at a wish, and whether the wish was granted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Hinted {
    pub mapping: Mapping,
    pub honoured: bool,
}

/// Address space that could not be given back, in bytes: excess of an over-mapping whose trimming
/// failed, and targets of a failed move.
pub(crate) fn stranded_bytes() -> usize {
    STRANDED.load(Relaxed)
}

/// A counter for people, so Relaxed.
static STRANDED: AtomicUsize = AtomicUsize::new(0);

/// Gives back what nobody has seen yet; what cannot be given back is counted.
///
/// # Safety
/// The caller owns the range, and nothing refers to it.
unsafe fn discard(addr: usize, len: usize) {
    // SAFETY: as the caller promises.
    if len != 0 && unsafe { sys::munmap(addr, len) }.is_err() {
        STRANDED.fetch_add(len, Relaxed);
    }
}

/// What is wanted of a mapping, checked and rounded once.
#[derive(Clone, Copy)]
struct Wish {
    len: usize,
    align: usize,
    window: Option<Window>,
    prot: i32,
    flags: i32,
}

impl Wish {
    fn new(len: usize, align: usize, window: Option<Window>, prot: i32) -> Result<Wish, Errno> {
        let page = sys::page_size();
        if len == 0 || !align.is_power_of_two() {
            return Err(Errno::EINVAL);
        }
        let align = align.max(page);
        let len = len.checked_next_multiple_of(page).ok_or(Errno::ENOMEM)?;
        // The over-mapping must not overflow either.
        if len
            .checked_add(align)
            .is_none_or(|n| n > isize::MAX as usize)
        {
            return Err(Errno::ENOMEM);
        }
        let flags = libc::MAP_PRIVATE | libc::MAP_NORESERVE;
        Ok(Wish {
            len,
            align,
            window,
            prot,
            flags,
        })
    }

    fn granted_by(&self, addr: usize) -> bool {
        addr.is_multiple_of(self.align) && self.window.is_none_or(|w| w.contains(addr, self.len))
    }

    /// Maps at the hint, or wherever the kernel likes, and keeps it only if it suits. `Ok(Err(_))`
    /// carries the address that did not.
    fn try_at(&self, hint: usize, flags: i32) -> Result<Result<Mapping, usize>, Errno> {
        // SAFETY: without MAP_FIXED nothing that exists is replaced.
        let addr = unsafe { sys::mmap(hint, self.len, self.prot, self.flags | flags) }?;
        if self.granted_by(addr) {
            return Ok(Ok(Mapping {
                addr,
                len: self.len,
            }));
        }
        // SAFETY: mapped by this call, and seen by nobody.
        unsafe { discard(addr, self.len) };
        Ok(Err(addr))
    }

    /// As [`Wish::try_at`], at an address and nowhere else. An occupied one is no error here.
    fn try_exactly(&self, addr: usize) -> Option<Mapping> {
        match self.try_at(addr, sys::MAP_FIXED_NOREPLACE) {
            Ok(Ok(mapping)) => Some(mapping),
            Ok(Err(_)) | Err(_) => None,
        }
    }

    /// Maps more than enough and gives the ends back.
    fn over_map(&self) -> Result<Mapping, Errno> {
        let slack = self.align - sys::page_size();
        let whole_len = self.len + slack;
        // SAFETY: without MAP_FIXED nothing that exists is replaced.
        let whole = unsafe { sys::mmap(0, whole_len, self.prot, self.flags) }?;
        let addr = whole.next_multiple_of(self.align);
        if !self.granted_by(addr) {
            // SAFETY: mapped by this call, and seen by nobody.
            unsafe { discard(whole, whole_len) };
            return Err(Errno::ENOMEM);
        }
        // SAFETY: the two ends outside [addr, addr + len), which nobody has seen.
        unsafe {
            discard(whole, addr - whole);
            discard(addr + self.len, whole + whole_len - (addr + self.len));
        }
        Ok(Mapping {
            addr,
            len: self.len,
        })
    }

    fn map(&self) -> Result<Mapping, Errno> {
        let elsewhere = match self.try_at(0, 0)? {
            Ok(mapping) => return Ok(mapping),
            Err(addr) => addr,
        };
        // The kernel hands out addresses downwards: below what it just offered there is most
        // likely room.
        let below = elsewhere & !(self.align - 1);
        if below != 0
            && self.granted_by(below)
            && let Some(mapping) = self.try_exactly(below)
        {
            return Ok(mapping);
        }
        match (self.over_map(), self.window) {
            (Ok(mapping), _) => Ok(mapping),
            (Err(_), Some(window)) => self.search(window),
            (Err(e), None) => Err(e),
        }
    }

    /// The kernel's own choice lies outside the window: look for a gap inside it.
    fn search(&self, window: Window) -> Result<Mapping, Errno> {
        const PROBES: usize = 64;
        let Some(last) = window.hi.checked_sub(self.len) else {
            return Err(Errno::ENOMEM);
        };
        if last < window.lo {
            return Err(Errno::ENOMEM);
        }
        let step = (last - window.lo) / PROBES;
        for i in 0..=PROBES {
            let addr = (last - i * step) & !(self.align - 1);
            if addr != 0
                && self.granted_by(addr)
                && let Some(mapping) = self.try_exactly(addr)
            {
                return Ok(mapping);
            }
            if step == 0 {
                break;
            }
        }
        Err(Errno::ENOMEM)
    }
}

/// Maps anonymous, private, zeroed memory of at least `len` bytes (whole OS pages), aligned to
/// `align` and inside `window`. It is neither reserved with the kernel's accounting nor touched.
///
/// `EINVAL` for a length of zero or an alignment that is no power of two; `ENOMEM` where there is
/// no such place; else what mmap said.
pub(crate) fn map_aligned(
    len: usize,
    align: usize,
    window: Option<Window>,
) -> Result<Mapping, Errno> {
    Wish::new(len, align, window, READ_WRITE)?
        .map()
        .inspect_err(|errno| findings::mapping_refused(len, *errno))
}

/// As [`map_aligned`], populated while it is mapped (`MAP_POPULATE`): with OS pages where the system's policy is not
/// "always", since advice comes too late. A place that takes more than one try is not populated, because the excess
/// would be populated with it.
pub(crate) fn map_aligned_populated(
    len: usize,
    align: usize,
    window: Option<Window>,
) -> Result<Mapping, Errno> {
    let wish = Wish::new(len, align, window, READ_WRITE)?;
    match wish.try_at(0, libc::MAP_POPULATE)? {
        Ok(mapping) => Ok(mapping),
        Err(_) => wish.map(),
    }
}

/// As [`map_aligned`], at `hint` if that can be had: whether it was is part of the answer. A hint
/// that is misaligned, occupied, outside the window or beyond the end of the address space is one
/// that cannot.
pub(crate) fn map_aligned_at_hint(
    hint: usize,
    len: usize,
    align: usize,
    window: Option<Window>,
) -> Result<Hinted, Errno> {
    let wish = Wish::new(len, align, window, READ_WRITE)?;
    if hint != 0
        && wish.granted_by(hint)
        && let Some(mapping) = wish.try_exactly(hint)
    {
        return Ok(Hinted {
            mapping,
            honoured: mapping.addr == hint,
        });
    }
    Ok(Hinted {
        mapping: wish.map()?,
        honoured: false,
    })
}

/// Reserves `len` bytes that read as zero, for a table that is mostly empty: read-only, so that it
/// costs no memory, and left out of core dumps. [`make_writable`] opens a part.
pub(crate) fn reserve_readonly(len: usize, align: usize) -> Result<Mapping, Errno> {
    let mapping = Wish::new(len, align, None, libc::PROT_READ)?.map()?;
    // SAFETY: fresh and empty. A kernel without it dumps a table of zeroes: no harm.
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

/// Gives a mapping back. On failure it is as it was and still the caller's: retain it.
///
/// # Safety
/// The caller owns it, and nothing refers into it.
pub(crate) unsafe fn unmap(mapping: Mapping) -> Result<(), Errno> {
    // SAFETY: as the caller promises.
    unsafe { sys::munmap(mapping.addr, mapping.len) }
}

/// Gives a mapping back, or its memory at least: what cannot be unmapped is counted in
/// [`stranded_bytes`].
///
/// # Safety
/// The caller owns it, and nothing refers into it.
pub(crate) unsafe fn abandon(mapping: Mapping) {
    // SAFETY: as the caller promises.
    unsafe {
        if unmap(mapping).is_err() {
            // Locked or pool memory stays: nothing is left to try.
            let _ = purge(mapping.addr, mapping.len);
            STRANDED.fetch_add(mapping.len, Relaxed);
        }
    }
}

/// What is wanted of a mapping of a descriptor.
#[derive(Clone, Copy)]
pub(crate) struct FileWish {
    pub fd: i32,
    pub offset: u64,
    pub len: usize,
    /// The address is congruent to `phase` modulo this.
    pub align: usize,
    pub phase: usize,
    pub writable: bool,
    pub shared: bool,
}

/// Maps part of a file at an address congruent to `phase` modulo `align`: shared file memory gets
/// huge pages only where address and offset agree modulo 2 MiB.
///
/// The address is found by mapping anonymous memory and giving it back; somebody else may take it
/// in between, which is noticed, and another is tried.
pub(crate) fn map_file(wish: FileWish) -> Result<Mapping, Errno> {
    const TRIES: usize = 16;
    let phase = wish.phase & (wish.align - 1);
    let prot = libc::PROT_READ | if wish.writable { libc::PROT_WRITE } else { 0 };
    let flags = if wish.shared {
        libc::MAP_SHARED
    } else {
        libc::MAP_PRIVATE
    };
    let len = wish
        .len
        .checked_next_multiple_of(sys::page_size())
        .ok_or(Errno::ENOMEM)?;
    let with_phase = len.checked_add(phase).ok_or(Errno::ENOMEM)?;
    for _ in 0..TRIES {
        let place = Wish::new(with_phase, wish.align, None, libc::PROT_NONE)?.map()?;
        // SAFETY: mapped above, and seen by nobody.
        unsafe { unmap(place) }.inspect_err(|_| {
            STRANDED.fetch_add(place.len, Relaxed);
        })?;
        let at = place.addr + phase;
        // SAFETY: NOREPLACE, or on old kernels a mere hint: nothing that exists is replaced.
        let mapped = unsafe {
            sys::mmap_fd(
                at,
                len,
                prot,
                flags | sys::MAP_FIXED_NOREPLACE,
                wish.fd,
                wish.offset,
            )
        };
        match mapped {
            Ok(addr) if addr == at => return Ok(Mapping { addr, len }),
            // SAFETY: mapped above, and seen by nobody.
            Ok(addr) => unsafe { discard(addr, len) },
            Err(Errno::EEXIST) => {}
            Err(e) => return Err(e),
        }
    }
    Err(Errno::EEXIST)
}

/// Gives the memory of a range back and keeps its addresses: reads as zero afterwards. On failure
/// (a locked page) some or all bytes are still there.
///
/// # Safety
/// The caller owns the range, whole OS pages, and nobody needs its contents.
pub(crate) unsafe fn purge(addr: usize, len: usize) -> Result<(), Errno> {
    // SAFETY: as the caller promises.
    unsafe { sys::madvise(addr, len, libc::MADV_DONTNEED) }
}

#[path = "remap.rs"]
mod remap;
#[cfg(test)]
pub(crate) use remap::remap;
pub(crate) use remap::{RemapError, may_move, move_over, remap_checked};

#[cfg(test)]
#[path = "mapping_tests.rs"]
mod tests;
