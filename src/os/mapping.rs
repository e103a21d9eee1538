//! Address space: aligned mappings, and what becomes of them.
//!
//! A mapping that is handed out is aligned as requested and lies where the caller's [`Place`] accepts it, whatever the kernel
//! returned; one that is not is unmapped before any other code has its address. `munmap` can fail if it would have to split a
//! mapping (`vm.max_map_count`). Excess that could not be trimmed stays behind as untouched address space: it costs no memory,
//! and [`stranded_bytes`] counts it.

use crate::base::tuning::addresses::TRIES;
use core::sync::atomic::AtomicUsize;
use core::sync::atomic::Ordering::Relaxed;

use super::sys::{self, Errno};

/// The size of a huge page, and the alignment at which page tables move whole.
pub(crate) const HUGE_PAGE: usize = 2 << 20;

const READ_WRITE: i32 = libc::PROT_READ | libc::PROT_WRITE;

/// A range of address space that belongs to the holder of this value. Dropping the value does nothing: the pool and the large
/// blocks keep theirs in descriptors.
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

/// Decides which addresses mappings may begin at.
pub(crate) trait Place: Sync {
    /// Returns whether it accepts the address of a mapping that was just made; if not, another address is tried. An error means
    /// that no other address will do better, unless it lies beside one that was accepted before.
    fn enter(&self, addr: usize) -> Result<bool, Errno>;
    /// Records that the mapping at an accepted address is gone.
    fn leave(&self, addr: usize);
    /// A hint: an address that was accepted before, or 0.
    fn latest(&self) -> usize;
}

/// A mapping requested at an address, and whether it lies there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Hinted {
    pub mapping: Mapping,
    pub honoured: bool,
}

/// Bytes of address space that could not be given back: excess of an over-mapping whose trimming failed, and targets of failed
/// moves.
pub(crate) fn stranded_bytes() -> usize {
    STRANDED.load(Relaxed)
}

/// A counter for statistics, so Relaxed.
static STRANDED: AtomicUsize = AtomicUsize::new(0);

/// Unmaps what no other code has seen, and counts what cannot be unmapped.
///
/// # Safety
/// The caller owns the range, and nothing refers to it.
unsafe fn discard(addr: usize, len: usize) {
    // SAFETY: as the caller promises.
    if len != 0 && unsafe { sys::munmap(addr, len) }.is_err() {
        STRANDED.fetch_add(len, Relaxed);
    }
}

/// The properties requested of a mapping, checked and rounded once.
#[derive(Clone, Copy)]
struct Wish<'a> {
    len: usize,
    align: usize,
    place: Option<&'a dyn Place>,
    prot: i32,
    flags: i32,
}

impl<'a> Wish<'a> {
    fn new(
        len: usize,
        align: usize,
        place: Option<&'a dyn Place>,
        prot: i32,
    ) -> Result<Wish<'a>, Errno> {
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
            place,
            prot,
            flags,
        })
    }

    fn mapped(&self, addr: usize) -> Mapping {
        let len = self.len;
        Mapping { addr, len }
    }

    /// Whether a mapping made at `addr` will do. If so, the place has entered it.
    fn granted_by(&self, addr: usize) -> Result<bool, Errno> {
        if !addr.is_multiple_of(self.align) {
            return Ok(false);
        }
        self.place.map_or(Ok(true), |place| place.enter(addr))
    }

    /// Maps at the hint, or wherever the kernel likes, and keeps the mapping only if it suits. `Ok(Err(_))` is the address that
    /// did not.
    fn try_at(&self, hint: usize, flags: i32) -> Result<Result<Mapping, usize>, Errno> {
        // SAFETY: without MAP_FIXED nothing that exists is replaced.
        let addr = unsafe { sys::mmap(hint, self.len, self.prot, self.flags | flags) }?;
        let granted = self.granted_by(addr);
        match granted {
            Ok(true) => return Ok(Ok(self.mapped(addr))),
            // SAFETY: mapped by this call, and seen by nobody.
            _ => unsafe { discard(addr, self.len) },
        }
        granted.map(|_| Err(addr))
    }

    /// As [`Wish::try_at`], but only at this address. `None` if it is occupied.
    fn try_exactly(&self, addr: usize) -> Option<Mapping> {
        if addr == 0 || !addr.is_multiple_of(self.align) {
            return None;
        }
        let tried = self.try_at(addr, sys::MAP_FIXED_NOREPLACE);
        tried.ok().and_then(Result::ok)
    }

    /// Maps `slack` bytes more than enough and gives the ends back. `None` if no address inside will do.
    ///
    /// The range has no access until its ends are gone. Otherwise a process that locks its future mappings would populate all
    /// of it, and a kernel that counts what is mapped would count all of it.
    fn over_map(&self, slack: usize) -> Result<Option<Mapping>, Errno> {
        let whole_len = self.len.checked_add(slack).ok_or(Errno::ENOMEM)?;
        // SAFETY: without MAP_FIXED nothing that exists is replaced.
        let whole = unsafe { sys::mmap(0, whole_len, libc::PROT_NONE, self.flags) }?;
        // From the top, because the kernel hands out addresses downwards.
        let highest = (whole + slack) & !(self.align - 1);
        let below = |&addr: &usize| addr.checked_sub(self.align);
        let granted = core::iter::successors(Some(highest), below)
            .take_while(|&addr| addr >= whole)
            .find_map(|addr| match self.granted_by(addr) {
                Ok(granted) => granted.then_some(Ok(addr)),
                Err(errno) => Some(Err(errno)),
            });
        // SAFETY: mapped by this call, and no other code has its address: all of it, or what lies outside [addr, addr + len).
        unsafe {
            let Some(Ok(addr)) = granted else {
                discard(whole, whole_len);
                return granted.map_or(Ok(None), |outcome| outcome.map(|_| None));
            };
            discard(whole, addr - whole);
            discard(addr + self.len, whole + whole_len - (addr + self.len));
            if self.prot != libc::PROT_NONE
                && let Err(errno) = sys::mprotect(addr, self.len, self.prot)
            {
                self.place.inspect(|place| place.leave(addr));
                discard(addr, self.len);
                return Err(errno);
            }
            Ok(Some(self.mapped(addr)))
        }
    }

    /// Maps where the kernel chooses, else beside what was accepted before, else in ever larger ranges of the kernel's choice.
    /// A range of twice as many addresses as were ever accepted has one to spare, so the search ends with a mapping or with the
    /// end of the address space.
    fn map(&self) -> Result<Mapping, Errno> {
        let first = self.try_at(0, 0);
        match first {
            Ok(Ok(mapping)) => return Ok(mapping),
            // The kernel hands out addresses downwards, so there is most likely room below what it just returned.
            Ok(Err(addr)) => {
                let below = addr.saturating_sub(1) & !(self.align - 1);
                if let Some(mapping) = self.try_exactly(below) {
                    return Ok(mapping);
                }
            }
            Err(_) => {}
        }
        // Beside an accepted mapping one try is enough, however many indexes are taken, and it may need nothing that was
        // refused just now.
        if let Some(mapping) = self.place.and_then(|place| self.map_beside(place.latest())) {
            return Ok(mapping);
        }
        let mut slack = first.map(|_| self.align - sys::page_size())?;
        loop {
            if let Some(mapping) = self.over_map(slack)? {
                return Ok(mapping);
            }
            slack = slack.max(self.align).checked_mul(2).ok_or(Errno::ENOMEM)?;
        }
    }

    /// Maps directly below or above the address `latest`: the kernel needs no new mapping there, and the place no new table.
    fn map_beside(&self, latest: usize) -> Option<Mapping> {
        if latest == 0 {
            return None;
        }
        let below = latest.saturating_sub(self.len) & !(self.align - 1);
        let above = (latest | (self.align - 1)).checked_add(1)?;
        [below, above]
            .into_iter()
            .find_map(|addr| self.try_exactly(addr))
    }
}

/// Maps anonymous, private, zeroed memory of at least `len` bytes (whole OS pages), aligned to `align` and accepted by `place`.
/// The kernel does not account for it as reserved, and it is not touched.
///
/// Returns `EINVAL` for a length of zero or an alignment that is no power of two, `ENOMEM` if there is no such place, else
/// mmap's errno.
pub(crate) fn map_aligned(
    len: usize,
    align: usize,
    place: Option<&dyn Place>,
) -> Result<Mapping, Errno> {
    Wish::new(len, align, place, READ_WRITE)?.map()
}

/// As [`map_aligned`], but populated while it is mapped (`MAP_POPULATE`). It gets OS pages unless the system's policy is
/// "always", because advice would come too late. If the first address does not suit, the mapping is not populated: the excess
/// would be populated with it.
pub(crate) fn map_aligned_populated(
    len: usize,
    align: usize,
    place: Option<&dyn Place>,
) -> Result<Mapping, Errno> {
    let wish = Wish::new(len, align, place, READ_WRITE)?;
    match wish.try_at(0, libc::MAP_POPULATE) {
        Ok(Ok(mapping)) => Ok(mapping),
        _ => wish.map(),
    }
}

/// As [`map_aligned`], but at `hint` if possible; the result says whether it was. It is not if the hint is misaligned, occupied
/// or beyond the end of the address space.
pub(crate) fn map_aligned_at_hint(hint: usize, len: usize, align: usize) -> Result<Hinted, Errno> {
    let wish = Wish::new(len, align, None, READ_WRITE)?;
    let mapping = match wish.try_exactly(hint) {
        Some(mapping) => mapping,
        None => wish.map()?,
    };
    let honoured = mapping.addr == hint;
    Ok(Hinted { mapping, honoured })
}

/// Gives a mapping back. After a failure it is unchanged and still the caller's, who has to keep it.
///
/// # Safety
/// The caller owns it, and nothing refers into it.
pub(crate) unsafe fn unmap(mapping: Mapping) -> Result<(), Errno> {
    // SAFETY: as the caller promises.
    unsafe { sys::munmap(mapping.addr, mapping.len) }
}

/// Whether the OS page that begins at an address is resident. False if the kernel does not say.
pub(crate) fn is_resident(addr: usize) -> bool {
    // A byte per 4 KiB, see `sys::mincore`; no Linux has larger OS pages.
    let mut page = [0; 16];
    sys::mincore(addr, sys::page_size(), &mut page).is_ok() && page[0] & 1 != 0
}

/// Gives a mapping back, or at least its memory. [`stranded_bytes`] counts what cannot be unmapped.
///
/// # Safety
/// The caller owns it, and nothing refers into it.
#[cold]
#[inline(never)]
pub(crate) unsafe fn abandon(mapping: Mapping) {
    // SAFETY: as the caller promises.
    unsafe {
        if unmap(mapping).is_err() {
            // Locked or pool memory stays: there is nothing else to try.
            let _ = purge(mapping.addr, mapping.len);
            STRANDED.fetch_add(mapping.len, Relaxed);
        }
    }
}

/// The properties requested of a mapping of a descriptor.
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

/// Maps part of a file at an address congruent to `phase` modulo `align`: shared file memory gets huge pages only where address
/// and offset agree modulo 2 MiB.
///
/// The address is found by mapping anonymous memory and giving it back. If another thread takes it in between, another is
/// tried.
pub(crate) fn map_file(wish: FileWish) -> Result<Mapping, Errno> {
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
        // SAFETY: mapped above, and no other code has its address.
        unsafe { unmap(place) }.inspect_err(|_| {
            STRANDED.fetch_add(place.len, Relaxed);
        })?;
        let at = place.addr + phase;
        // SAFETY: NOREPLACE, or on old kernels a mere hint: no existing mapping is replaced.
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
            // SAFETY: mapped above, and no other code has its address.
            Ok(addr) => unsafe { discard(addr, len) },
            Err(Errno::EEXIST) => {}
            Err(e) => return Err(e),
        }
    }
    Err(Errno::EEXIST)
}

/// Gives the memory of a range back and keeps its addresses, which read as zero afterwards. After a failure (a locked page)
/// some or all of the contents are still there.
///
/// # Safety
/// The caller owns the range, whole OS pages, and nobody needs its contents.
pub(crate) unsafe fn purge(addr: usize, len: usize) -> Result<(), Errno> {
    // SAFETY: as the caller promises.
    unsafe { sys::madvise(addr, len, libc::MADV_DONTNEED) }
}

#[path = "remap.rs"]
mod remap;
#[path = "reserve.rs"]
mod reserve;
pub(crate) use remap::{RemapError, may_move, move_over, remap};
pub(crate) use reserve::{
    make_inaccessible, make_writable, renew, reserve_inaccessible, reserve_readonly,
};

#[cfg(test)]
#[path = "mapping_tests.rs"]
mod tests;
