//! One checked slab: which of its blocks were never handed out, which wait in its queue, and a record of each.
//!
//! `allocated + freed + fresh == capacity`: each block is allocated, waits in the queue, or was never handed out. Everything is
//! under the store's lock. A descriptor lives for ever and keeps its number, so that whoever finds the number in the
//! directory reaches a descriptor, whatever became of the slab meanwhile.

use super::geometry::Kind;
use super::mode;
use super::record::{Record, State};
use crate::base::size_class::RUN_MAX;
use crate::base::tuning::checked as tuning;
use crate::base::units::SLOT;
use crate::pool::Claim;
use crate::slab::meta;
use core::ptr;

#[repr(C)]
pub(super) struct Checked {
    /// The first byte of its blocks, [`Kind::lead`] behind that of its slots; 0 while it has none.
    pub(super) base: usize,
    pub(super) claim: Claim,
    pub(super) kind: Kind,
    /// Bytes from one of its blocks to the next, and how many it has.
    pub(super) stride: usize,
    capacity: usize,
    /// Bytes of all its blocks, and 2^44 divided by the stride, which finds a block without a division: see
    /// [`Checked::find`].
    bytes: usize,
    inverse: u64,
    /// Which one it is in the table.
    pub(super) number: u32,
    /// How many blocks it has records for.
    room: u16,
    /// Blocks that were never handed out; the next is the one at [`Order::at`].
    pub(super) fresh: u16,
    /// Blocks in the queue, and where the one stands that waited longest.
    pub(super) freed: u16,
    head: u16,
    order: Order,
    pub(super) in_list: bool,
    /// Whether it has a word in front of its first block.
    has_lead: bool,
    /// Bytes of blocks, from the base on, that were ever handed out, and how many of them the account was told of.
    pub(super) touched: usize,
    pub(super) told: usize,
    pub(super) next: *mut Checked,
    pub(super) prev: *mut Checked,
    records: *mut Record,
    queue: *mut u16,
}

const WORD: usize = size_of::<u64>();
const SHIFT: u32 = 44;
const _: () = assert!(
    ((RUN_MAX + SLOT) as u128).pow(2) < 1 << SHIFT,
    "a slab with the largest blocks has no more bytes than one of them, and others have fewer"
);

/// Words of a descriptor with what follows it: the records, then the queue.
const fn words(capacity: usize) -> (usize, usize, usize) {
    let head = size_of::<Checked>().div_ceil(WORD);
    let records = capacity * size_of::<Record>() / WORD;
    (head, records, (capacity * size_of::<u16>()).div_ceil(WORD))
}

/// How many blocks a new descriptor for the kind has records for. Where one slab in so many is checked, each serves every kind:
/// the room for all of them is small, and kinds come and go.
pub(super) fn room(kind: Kind) -> usize {
    if mode::is_sampled() {
        tuning::BLOCKS
    } else {
        kind.capacity()
    }
}

/// Bytes that a slab of the kind takes besides its blocks.
pub(super) fn overhead(kind: Kind) -> usize {
    let (head, records, queue) = words(room(kind));
    (head + records + queue) * WORD
}

/// The stride, and what [`Checked::find`] needs besides.
fn sizes(stride: usize, capacity: usize) -> (usize, usize, u64) {
    (stride, capacity * stride, (1 << SHIFT) / stride as u64 + 1)
}

impl Checked {
    /// A descriptor without a slab, or null.
    pub(super) fn allocate(kind: Kind) -> *mut Checked {
        let room = room(kind);
        let (head, records, queue) = words(room);
        let Some(at) = meta::allocate_lines(head + records + queue) else {
            return ptr::null_mut();
        };
        let this: *mut Checked = at.as_ptr().cast();
        // SAFETY: fresh zeroed memory for all three, aligned to a cache line.
        unsafe {
            this.write(Checked {
                base: 0,
                claim: Claim {
                    superslab: ptr::null_mut(),
                    slot: 0,
                    clean: false,
                },
                kind,
                stride: kind.stride(),
                capacity: kind.capacity().min(room),
                bytes: 0,
                inverse: 0,
                number: 0,
                room: room as u16,
                fresh: 0,
                freed: 0,
                head: 0,
                order: Order::AS_THEY_LIE,
                in_list: false,
                has_lead: false,
                touched: 0,
                told: 0,
                next: ptr::null_mut(),
                prev: ptr::null_mut(),
                records: at.as_ptr().add(head).cast(),
                queue: at.as_ptr().add(head + records).cast(),
            });
        }
        this
    }

    /// Sets it up as a slab of the kind in the claimed slots. `random` chooses the order in which blocks are first handed out; 0
    /// means as they lie.
    pub(super) fn open(&mut self, kind: Kind, claim: Claim, random: u64) {
        // Records of blocks that were never handed out are as they were made.
        for at in 0..self.touched.div_ceil(self.stride) {
            self.record(at).state = State::Fresh;
        }
        self.kind = kind;
        let capacity = kind.capacity().min(usize::from(self.room));
        self.capacity = capacity;
        (self.stride, self.bytes, self.inverse) = sizes(kind.stride(), capacity);
        self.has_lead = kind.lead() > 0;
        self.base = claim.addr() + kind.lead();
        self.claim = claim;
        self.fresh = capacity as u16;
        self.freed = 0;
        self.head = 0;
        (self.touched, self.told) = (0, 0);
        self.order = Order::new(self.stride, capacity, random);
    }

    /// It has no slab any more.
    pub(super) fn close(&mut self) {
        (self.base, self.bytes) = (0, 0);
    }

    pub(super) fn capacity(&self) -> usize {
        self.capacity
    }

    pub(super) fn allocated(&self) -> usize {
        self.capacity() - usize::from(self.fresh) - usize::from(self.freed)
    }

    pub(super) fn record(&mut self, at: usize) -> &mut Record {
        debug_assert!(at < self.capacity());
        // SAFETY: there is a record for each block, valid when zero and since, and `&mut self` guards them all.
        unsafe { &mut *self.records.add(at) }
    }

    pub(super) fn block(&self, at: usize) -> *mut u8 {
        (self.base + at * self.stride) as *mut u8
    }

    /// As [`Kind::extent`].
    #[inline(always)]
    pub(super) fn extent(&self, size: usize) -> usize {
        if self.capacity > 1 {
            self.stride
        } else {
            self.kind.extent(size)
        }
    }

    /// Whether the slab has a word in front of the block.
    #[inline(always)]
    pub(super) fn has_front(&self, at: usize) -> bool {
        at > 0 || self.has_lead
    }

    /// Which block an address is in, and how far.
    #[inline(always)]
    pub(super) fn find(&self, addr: usize) -> Option<(usize, usize)> {
        let offset = addr.wrapping_sub(self.base);
        if offset >= self.bytes {
            return None;
        }
        // The inverse is at most 1 too large, which adds less than `offset / 2^44` to the quotient. That is too little to reach
        // the next whole number, which is at least `1 / stride` away, as `offset * stride` is below 2^44.
        let at = ((offset as u64 * self.inverse) >> SHIFT) as usize;
        Some((at, offset - at * self.stride))
    }

    /// What [`Fill::is_whole`](super::fill::Fill::is_whole) takes for the block in front: null if it has no word there.
    #[inline(always)]
    pub(super) fn front(&self, at: usize) -> *mut u8 {
        if self.has_front(at) {
            self.before(at)
        } else {
            ptr::null_mut()
        }
    }

    /// Where the block before begins, or would.
    pub(super) fn before(&self, at: usize) -> *mut u8 {
        self.block(at).wrapping_sub(self.stride)
    }

    /// The next block that was never handed out, of which there are some.
    pub(super) fn pop_fresh(&mut self) -> usize {
        let capacity = self.capacity();
        let turn = capacity - usize::from(self.fresh);
        let at = self.order.at(turn, capacity);
        self.fresh -= 1;
        self.touched = self.touched.max((at + 1) * self.stride);
        at
    }

    /// Where in the queue the block stands before which `before` others wait.
    fn place(&self, before: usize) -> *mut u16 {
        let mut at = usize::from(self.head) + before;
        if at >= self.capacity() {
            at -= self.capacity();
        }
        // SAFETY: the queue has a place for each block.
        unsafe { self.queue.add(at) }
    }

    /// Takes a block from the queue, which has some: the one that waited longest, or by a random number one of the half that
    /// waited longer.
    pub(super) fn pop_freed(&mut self, random: u64) -> usize {
        let first = self.place(0);
        let half = u64::from(self.freed).div_ceil(2);
        let chosen = self.place((random % half) as usize);
        // SAFETY: both are places of the queue that hold blocks.
        let at = unsafe {
            let at = *chosen;
            *chosen = *first;
            at
        };
        self.head = if usize::from(self.head) + 1 == self.capacity() {
            0
        } else {
            self.head + 1
        };
        self.freed -= 1;
        usize::from(at)
    }

    pub(super) fn push_freed(&mut self, at: usize) {
        let place = self.place(usize::from(self.freed));
        // SAFETY: fewer blocks wait than there are places, as this one does not.
        unsafe { *place = at as u16 };
        self.freed += 1;
    }

    /// The block before which `before` others wait.
    pub(super) fn waiting_at(&self, before: usize) -> usize {
        debug_assert!(before < usize::from(self.freed));
        // SAFETY: a place of the queue that holds a block.
        unsafe { usize::from(*self.place(before)) }
    }
}

/// The order in which the blocks of a slab are first handed out: by windows of so many blocks, in each from the block `start` on,
/// every `step`-th.
#[derive(Clone, Copy)]
struct Order {
    /// A power of two.
    window: u16,
    start: u16,
    step: u16,
}

impl Order {
    const AS_THEY_LIE: Order = Order {
        window: 1,
        start: 0,
        step: 1,
    };

    fn new(stride: usize, capacity: usize, random: u64) -> Order {
        if random == 0 || capacity == 0 {
            return Order::AS_THEY_LIE;
        }
        let most = (tuning::WINDOW / stride).max(tuning::WINDOW_FEWEST);
        let window = 1 << most.min(capacity).ilog2();
        Order {
            window,
            start: (random >> 32) as u16 % window,
            // A number without a divisor in common with a power of two, so that every block is reached.
            step: (random as u16 % window) | 1,
        }
    }

    #[inline(always)]
    fn at(self, turn: usize, capacity: usize) -> usize {
        let window = usize::from(self.window);
        let from = turn & !(window - 1);
        // The last window may be a part of one.
        if window == 1 || from + window > capacity {
            return turn;
        }
        let order =
            usize::from(self.start) + from / window + (turn - from) * usize::from(self.step);
        from + order % window
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::vec::Vec;

    #[test]
    fn an_address_is_found_as_by_a_division() {
        for kind in Kind::all() {
            let (stride, capacity) = (kind.stride(), kind.capacity());
            // SAFETY: zeros are a descriptor without a slab, of which `find` reads no pointer.
            let mut slab: Checked = unsafe { core::mem::zeroed() };
            slab.base = 1 << 46;
            (slab.stride, slab.bytes, slab.inverse) = sizes(stride, capacity);
            for offset in 0..capacity * stride {
                let found = slab.find(slab.base + offset);
                assert_eq!(found, Some((offset / stride, offset % stride)), "{kind:?}");
            }
            assert_eq!(slab.find(slab.base + capacity * stride), None);
            assert_eq!(slab.find(slab.base - 1), None);
            slab.close();
            assert_eq!(slab.find(0), None);
        }
    }

    #[test]
    fn every_block_is_handed_out_once_and_by_chance() {
        for (stride, capacity) in [(16, 4095), (48, 1364), (1024, 63), (4096, 15), (32_768, 2)] {
            let orders: BTreeSet<Vec<usize>> = (1..40_u64)
                .map(|seed| {
                    let random = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
                    let order = Order::new(stride, capacity, random);
                    (0..capacity).map(|turn| order.at(turn, capacity)).collect()
                })
                .collect();
            assert!(orders.len() > 1, "{stride}");
            for order in orders {
                let blocks: BTreeSet<usize> = order.into_iter().collect();
                assert!(blocks.into_iter().eq(0..capacity), "{stride}");
            }
        }
        let order = Order::new(64, 1023, 0);
        assert!((0..1023).all(|turn| order.at(turn, 1023) == turn));
    }
}
