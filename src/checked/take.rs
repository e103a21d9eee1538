//! Which block a request gets, and what is compared before it is given out again.

use super::geometry::Kind;
use super::record::{Event, State};
use super::report::{Finding, What};
use super::site::Call;
use super::slab::Checked;
use super::store::{Group, Need, Store, Taken};
use crate::base::account;
use crate::base::tuning::checked as tuning;
use core::ptr;

impl Group {
    /// A slab from whose queue the next block is taken; null if there is none. One in which few wait is passed over, for a while,
    /// so that those wait longer.
    ///
    /// # Safety
    /// The store's lock is held.
    #[inline(always)]
    unsafe fn waited_longest(&mut self) -> *mut Checked {
        // SAFETY: listed slabs are open, and the lock is held.
        unsafe {
            let open = self.open.first();
            let in_open = open.as_ref().map_or(0, |open| open.freed);
            let used = &mut self.used;
            for _ in 0..tuning::LOOKS {
                let slab = used.first();
                if slab.is_null()
                    || usize::from((*slab).freed) > (*slab).capacity() / tuning::FEW_OF
                {
                    break;
                }
                used.remove(slab);
                used.push(slab);
            }
            let slab = used.first();
            let in_used = slab.as_ref().map_or(0, |slab| slab.freed);
            match in_open > in_used {
                true => open,
                false => slab,
            }
        }
    }
}

impl Store {
    /// A block of the kind for `size` bytes, if there is one without opening a slab.
    #[inline(never)]
    pub(super) fn take(
        &mut self,
        kind: Kind,
        size: usize,
        call: &Call,
        need: Need,
    ) -> Result<Option<Taken>, Finding> {
        let keep = self.keep(kind);
        let group = &mut self.groups[kind.index()];
        let open = group.open.first();
        // SAFETY: listed slabs are open, and the lock around `self` is held.
        unsafe {
            // Freed slabs of one block count as well, but none of them is given out again.
            let slab = match group.freed > keep || need == Need::Last && open.is_null() {
                true => group.waited_longest(),
                false => ptr::null_mut(),
            };
            if !slab.is_null() {
                let random = self.random();
                let at = (*slab).pop_freed(random);
                let group = &mut self.groups[kind.index()];
                group.freed -= 1;
                group.allocated += 1;
                if (*slab).freed == 0 && (*slab).fresh == 0 {
                    group.used.remove(slab);
                }
                self.unchanged(slab, at, "the reuse")?;
                return Ok(Some(self.hand_out(slab, at, size, call, false)));
            }
            if open.is_null() {
                return Ok(None);
            }
            let at = (*open).pop_fresh();
            if (*open).fresh == 0 {
                group.open.remove(open);
                if (*open).freed > 0 {
                    group.used.push(open);
                }
            }
            group.allocated += 1;
            Ok(Some(self.hand_out(open, at, size, call, true)))
        }
    }

    #[inline(always)]
    unsafe fn hand_out(
        &mut self,
        slab: *mut Checked,
        at: usize,
        size: usize,
        call: &Call,
        fresh: bool,
    ) -> Taken {
        let fill = self.fill();
        // SAFETY: as in `take`; the block is nobody's.
        unsafe {
            let slab = &mut *slab;
            if fresh {
                account::change(account::Kind::Blocks, slab.told, slab.touched);
                slab.told = slab.touched;
            }
            let block = slab.block(at);
            let record = slab.record(at);
            let was = record.size as usize;
            record.state = State::Allocated;
            record.size = size as u32;
            record.allocated = Event::now(call, self.now());
            if fresh || was != size {
                fill.guard(block, size, slab.extent(size));
            }
            // What was handed out has the word in front of the next.
            if fresh && slab.has_front(at) && (at == 0 || slab.record(at - 1).state == State::Fresh)
            {
                fill.close(slab.before(at), slab.stride);
            }
            Taken {
                ptr: block,
                zero: fresh && slab.claim.clean,
            }
        }
    }

    /// Checks that a block that waits is as it was left, for `asked`.
    #[inline]
    pub(super) unsafe fn unchanged(
        &mut self,
        slab: *mut Checked,
        at: usize,
        asked: &'static str,
    ) -> Result<(), Finding> {
        // SAFETY: the lock is held; the block is one that waits.
        unsafe {
            if self.is_whole(slab, at, true) {
                return Ok(());
            }
            self.changed(slab, at, asked)
        }
    }

    /// How a block that waits differs from what it was left as.
    #[cold]
    #[inline(never)]
    unsafe fn changed(
        &mut self,
        slab: *mut Checked,
        at: usize,
        asked: &'static str,
    ) -> Result<(), Finding> {
        let fill = self.fill();
        // SAFETY: as for `unchanged`.
        unsafe {
            let found = &mut *slab;
            let (block, size) = (found.block(at), found.record(at).size as usize);
            match fill.written(block, size) {
                None => self.damage_beside(slab, at, asked, block as usize),
                Some(damage) => Err(Finding::of(
                    What::Written(damage),
                    block as usize + damage.first,
                    found,
                    at,
                )),
            }
        }
    }
}
