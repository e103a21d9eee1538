//! From the address that a call names to the block, and what the call says against what is known.

use super::fill::Damage;
use super::geometry::Kind;
use super::record::{Event, State};
use super::report::{Finding, What};
use super::site::Call;
use super::slab::Checked;
use super::store::Store;
use super::table;
use crate::base::size_class::CHECKED;
use crate::slab::directory::DIRECTORY;
use core::ptr;

impl Store {
    /// The block that begins at an address. Else the slab, if there is one, and where the address lies in it.
    #[inline(always)]
    fn locate(&mut self, addr: usize) -> Result<(*mut Checked, usize), Option<Inside>> {
        // The tag may be that of another address: the slab says whether this one is in it.
        let tag = DIRECTORY.tag(addr);
        let slab = match tag.class() == CHECKED {
            true => table::get(tag.owner()),
            false => ptr::null_mut(),
        };
        // SAFETY: descriptors live for ever, and the lock is held. One without a slab has no bytes.
        let found = unsafe { slab.as_ref() }.and_then(|slab| slab.find(addr));
        match found {
            Some((at, 0)) => Ok((slab, at)),
            Some((at, by)) => Err(Some(Inside { slab, at, by })),
            None => Err(None),
        }
    }

    /// What is wrong with an address, named by the call `asked`, at which no block begins.
    #[cold]
    fn nowhere(addr: usize, asked: &'static str, inside: Option<Inside>) -> Finding {
        match inside {
            None => Finding::nowhere(asked, addr),
            // SAFETY: an open slab, under the lock.
            Some(Inside { slab, at, by }) => unsafe {
                Finding::of(What::Inside(asked, by), addr, &mut *slab, at)
            },
        }
    }

    /// Whether nothing was written behind an allocated block and in front of it, for the call `asked` of `addr`.
    ///
    /// # Safety
    /// The lock is held, and the slab is open.
    #[inline(always)]
    pub(super) unsafe fn beside(
        &mut self,
        slab: *mut Checked,
        at: usize,
        asked: &'static str,
        addr: usize,
    ) -> Result<(), Finding> {
        // SAFETY: the caller's promise.
        unsafe {
            if self.is_whole(slab, at, false) {
                return Ok(());
            }
            self.damage_beside(slab, at, asked, addr)
        }
    }

    /// Whether nothing was written behind a block that is or was allocated and in front of it, nor, if it is `freed`, into it.
    ///
    /// # Safety
    /// As for [`Store::beside`].
    #[inline(always)]
    pub(super) unsafe fn is_whole(&mut self, slab: *mut Checked, at: usize, freed: bool) -> bool {
        let fill = self.fill();
        // SAFETY: the caller's promise.
        unsafe {
            let found = &mut *slab;
            let size = found.record(at).size as usize;
            let (block, extent) = (found.block(at), found.extent(size));
            fill.is_whole(block, size, extent, found.front(at), freed)
        }
    }

    /// What was written behind a block that is or was allocated, or in front of it.
    ///
    /// # Safety
    /// As for [`Store::beside`].
    #[cold]
    #[inline(never)]
    pub(super) unsafe fn damage_beside(
        &mut self,
        slab: *mut Checked,
        at: usize,
        asked: &'static str,
        addr: usize,
    ) -> Result<(), Finding> {
        let fill = self.fill();
        // SAFETY: the caller's promise.
        unsafe {
            let found = &mut *slab;
            let size = found.record(at).size as usize;
            match fill.overflow(found.block(at), size, found.extent(size)) {
                None => self.in_front(slab, at, asked, addr),
                Some(damage) => Err(whose(found, Some(at), at + 1, damage, asked, addr)),
            }
        }
    }

    /// Whether nothing was written in front of a block that is or was allocated.
    ///
    /// # Safety
    /// As for [`Store::beside`].
    unsafe fn in_front(
        &mut self,
        slab: *mut Checked,
        at: usize,
        asked: &'static str,
        addr: usize,
    ) -> Result<(), Finding> {
        let fill = self.fill();
        // SAFETY: the caller's promise. A word lies there, in the block before or in what the slab has in front of its blocks.
        unsafe {
            let found = &mut *slab;
            if !found.has_front(at) {
                return Ok(());
            }
            let stride = found.stride;
            let Some(mut damage) = fill.opened(found.before(at), stride) else {
                return Ok(());
            };
            let before = at
                .checked_sub(1)
                .filter(|&before| found.record(before).state != State::Fresh);
            if let Some(before) = before {
                // All of it, which tells a write past that block from one in front of this.
                let size = found.record(before).size as usize;
                let all = fill.overflow(found.block(before), size, stride);
                damage = all.unwrap_or(damage);
            }
            Err(whose(found, before, at, damage, asked, addr))
        }
    }

    /// Finds the allocated block at an address, for the call `asked`, and whether nothing was written beside it.
    #[inline(always)]
    fn in_use(
        &mut self,
        addr: usize,
        asked: &'static str,
    ) -> Result<(*mut Checked, usize), Finding> {
        let found = self.locate(addr);
        let (slab, at) = found.map_err(|inside| Store::nowhere(addr, asked, inside))?;
        // SAFETY: an open slab, under the lock.
        unsafe {
            let found = &mut *slab;
            let state = found.record(at).state;
            if state != State::Allocated {
                return Err(Finding::of(What::NotInUse(asked, state), addr, found, at));
            }
            self.beside(slab, at, asked, addr)?;
            Ok((slab, at))
        }
    }

    /// As [`Store::in_use`], for a caller that says how large the block is.
    #[inline(always)]
    pub(super) fn of_size(
        &mut self,
        addr: usize,
        asked: &'static str,
        named: Option<usize>,
    ) -> Result<(*mut Checked, usize), Finding> {
        let (slab, at) = self.in_use(addr, asked)?;
        // SAFETY: as there.
        let found = unsafe { &mut *slab };
        match named {
            Some(named) if named != found.record(at).size as usize => {
                Err(Finding::of(What::Size(asked, named), addr, found, at))
            }
            _ => Ok((slab, at)),
        }
    }

    /// As [`Store::of_size`], for callers that are not worth a copy of it.
    #[inline(never)]
    fn of_size_shared(
        &mut self,
        addr: usize,
        asked: &'static str,
        named: Option<usize>,
    ) -> Result<(*mut Checked, usize), Finding> {
        self.of_size(addr, asked, named)
    }

    /// Bytes that were asked for when the block at an address was allocated, for the call `asked`.
    pub(super) fn size(&mut self, addr: usize, asked: &'static str) -> Result<usize, Finding> {
        let (slab, at) = self.of_size_shared(addr, asked, None)?;
        // SAFETY: an open slab, under the lock.
        Ok(unsafe { (*slab).record(at).size as usize })
    }

    /// Resizes the block at `addr` from `old` to `new` bytes where it is, if one of its kind may. Returns whether it did.
    pub(super) fn resize(
        &mut self,
        addr: usize,
        [old, new]: [usize; 2],
        may: impl Fn(Kind) -> bool,
        call: &Call,
    ) -> Result<bool, Finding> {
        let (slab, at) = self.of_size_shared(addr, "realloc", Some(old))?;
        let fill = self.fill();
        // SAFETY: an open slab, under the lock; the block is the program's, which waits for this call.
        unsafe {
            let found = &mut *slab;
            if !may(found.kind) {
                return Ok(false);
            }
            let record = found.record(at);
            record.size = new as u32;
            record.allocated = Event::now(call, self.now());
            fill.guard_in_use(addr as *mut u8, new, found.extent(new));
            Ok(true)
        }
    }
}

/// An address in a block, `by` bytes behind its start.
struct Inside {
    slab: *mut Checked,
    at: usize,
    by: usize,
}

/// Damage between two blocks: a write past the one `before`, if that is or was allocated, or one in front of the `next`, if there
/// is one that is or was. The damage is taken for that of the block which it is nearer to.
#[cold]
fn whose(
    slab: &mut Checked,
    before: Option<usize>,
    next: usize,
    damage: Damage,
    asked: &'static str,
    addr: usize,
) -> Finding {
    let stride = slab.stride;
    let is_next = next < slab.capacity() && slab.record(next).state != State::Fresh;
    if let Some(at) = before {
        let past = damage.first - slab.record(at).size as usize;
        if !is_next || past <= stride - 1 - damage.last {
            return Finding::of(What::Overflow(asked, damage), addr, slab, at);
        }
    }
    Finding::of(What::Front(asked, stride - damage.first), addr, slab, next)
}
