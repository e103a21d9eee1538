//! From the address that a call names to the block, and what the call says against what is known.

use super::geometry::Kind;
use super::record::{Event, State};
use super::report::{Finding, What};
use super::site::Call;
use super::slab::Checked;
use super::store::Store;
use super::table;
use crate::base::size_class::CHECKED;
use crate::os::clock;
use crate::slab::directory::DIRECTORY;
use core::ptr;

impl Store {
    /// Finds the block at an address, for the call `asked`.
    fn locate(
        &mut self,
        addr: usize,
        asked: &'static str,
    ) -> Result<(*mut Checked, usize), Finding> {
        let tag = DIRECTORY.own_tag(addr);
        let slab = match tag.class() == CHECKED as usize {
            true => table::get(tag.owner()),
            false => ptr::null_mut(),
        };
        // SAFETY: descriptors live for ever, and the lock is held.
        let Some(found) = (unsafe { slab.as_mut() }).filter(|slab| slab.base != 0) else {
            return Err(Finding::nowhere(asked, addr));
        };
        let offset = addr.wrapping_sub(found.base);
        let start = found.kind.starting_at(offset);
        if let Some(at) = start.filter(|&at| at < found.capacity()) {
            return Ok((slab, at));
        }
        let (at, inside) = (offset / found.kind.stride(), offset % found.kind.stride());
        Err(if at < found.capacity() {
            Finding::of(What::Inside(asked, inside), addr, found, at)
        } else {
            Finding::nowhere(asked, addr)
        })
    }

    /// Finds the allocated block at an address, for the call `asked`, and whether nothing was written behind it.
    fn in_use(
        &mut self,
        addr: usize,
        asked: &'static str,
    ) -> Result<(*mut Checked, usize), Finding> {
        let fill = self.fill();
        let (slab, at) = self.locate(addr, asked)?;
        // SAFETY: an open slab, under the lock.
        unsafe {
            let found = &mut *slab;
            let (state, size) = (found.record(at).state, found.record(at).size as usize);
            if state != State::Allocated {
                return Err(Finding::of(What::NotInUse(asked, state), addr, found, at));
            }
            match fill.overflow(found.block(at), size, found.kind.stride()) {
                None => Ok((slab, at)),
                Some(damage) => Err(Finding::of(What::Overflow(asked, damage), addr, found, at)),
            }
        }
    }

    /// As [`Store::in_use`], for a caller that says how large the block is.
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

    /// Bytes that were asked for when the block at an address was allocated, for the call `asked`.
    pub(super) fn size(&mut self, addr: usize, asked: &'static str) -> Result<usize, Finding> {
        let (slab, at) = self.in_use(addr, asked)?;
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
        let (slab, at) = self.of_size(addr, "realloc", Some(old))?;
        let fill = self.fill();
        // SAFETY: an open slab, under the lock; the block is the program's, which waits for this call.
        unsafe {
            let found = &mut *slab;
            if !may(found.kind) {
                return Ok(false);
            }
            let record = found.record(at);
            record.size = new as u32;
            record.allocated = Event::now(call, clock::now_ms());
            fill.guard_in_use(addr as *mut u8, new, found.kind.stride());
            Ok(true)
        }
    }
}
