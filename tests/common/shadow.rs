//! A shadow of the heap: random calls of any `GlobalAlloc`, each result checked against the contract.
//!
//! A block must be aligned as requested, overlap no other live block of any thread, keep its content until it is freed, be zero
//! if that was requested, and carry its content through `realloc`. The model reports a violation as `Err`, so that a test can
//! also prove that a faulty allocator is caught.

use super::{GIB, MIB, pattern};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use std::alloc::{GlobalAlloc, Layout};
use std::collections::BTreeMap;
use std::sync::Mutex;

/// What the random sequence looks like.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub steps: usize,
    /// Log-uniform sizes from this on, up to `max_size`.
    pub min_size: usize,
    pub max_size: usize,
    /// Log-uniform alignments up to this for one block in four; the others are aligned to at most 16.
    pub max_align: usize,
    /// One block in this many has an alignment of 1 GiB (0: none).
    pub giant_align_every: u32,
    /// One block in this many has up to eight times `max_size` (0: none).
    pub over_size_every: u32,
    /// Live bytes of one thread; above it blocks are freed.
    pub budget: usize,
    /// Live blocks of one thread around which the sequence wanders.
    pub blocks: usize,
    /// Memory may be refused: null is a valid result, and a block that was to be resized stays unchanged.
    pub refused: bool,
}

impl Plan {
    pub const EVERYTHING: Self = Self {
        steps: 0,
        min_size: 1,
        max_size: 64 * MIB,
        max_align: 64 * MIB,
        giant_align_every: 2500,
        over_size_every: 2500,
        budget: 256 * MIB,
        blocks: 400,
        refused: false,
    };
    pub const SMALL: Self = Self {
        steps: 0,
        min_size: 1,
        max_size: 1024,
        max_align: 64,
        giant_align_every: 0,
        over_size_every: 0,
        budget: 64 * MIB,
        blocks: 20_000,
        refused: false,
    };
    pub const MEDIUM: Self = Self {
        steps: 0,
        min_size: 1,
        max_size: MIB,
        max_align: 65_536,
        giant_align_every: 0,
        over_size_every: 0,
        budget: 128 * MIB,
        blocks: 2_000,
        refused: false,
    };

    /// Sizes around those of which several share a slab of several slots.
    pub const WIDE: Self = Self {
        min_size: 31_000,
        max_size: 52_000,
        budget: 16 * MIB,
        blocks: 200,
        ..Self::MEDIUM
    };

    pub fn steps(self, steps: usize) -> Self {
        Self { steps, ..self }
    }
}

/// Live address ranges of all threads of one run.
#[derive(Default)]
pub struct Registry(Mutex<BTreeMap<usize, usize>>);

impl Registry {
    fn insert(&self, start: usize, size: usize) -> Result<(), String> {
        let mut map = self.0.lock().expect("no holder of this lock panics");
        let end = start
            .checked_add(size)
            .ok_or("overlap: the block wraps round the address space")?;
        if let Some((&other, &other_end)) = map.range(..end).next_back()
            && other_end > start
        {
            return Err(format!(
                "overlap: {start:#x}..{end:#x} with live {other:#x}..{other_end:#x}"
            ));
        }
        map.insert(start, end);
        Ok(())
    }

    fn remove(&self, start: usize) {
        let mut map = self.0.lock().expect("no holder of this lock panics");
        map.remove(&start).expect("a live block is registered");
    }

    pub fn is_empty(&self) -> bool {
        self.0
            .lock()
            .expect("no holder of this lock panics")
            .is_empty()
    }
}

/// One live block and what it was filled with.
#[derive(Clone, Copy, Debug)]
pub struct Live {
    addr: usize,
    layout: Layout,
    tag: u64,
}

impl Live {
    /// Changes a byte of it, as whoever takes it for its own does.
    pub fn spoil(&self) {
        let byte = self.addr as *mut u8;
        // SAFETY: the block is live and no thread's at the moment.
        unsafe { byte.write(!byte.read()) };
    }
}

pub struct Model<'a, A> {
    alloc: &'a A,
    registry: &'a Registry,
    rng: SmallRng,
    plan: Plan,
    live: Vec<Live>,
    bytes: usize,
}

impl<'a, A: GlobalAlloc> Model<'a, A> {
    pub fn new(alloc: &'a A, registry: &'a Registry, seed: u64, plan: Plan) -> Self {
        Self {
            alloc,
            registry,
            rng: SmallRng::seed_from_u64(seed),
            plan,
            live: Vec::new(),
            bytes: 0,
        }
    }

    /// The whole sequence, then every block is checked and freed.
    pub fn run(mut self) -> Result<(), String> {
        for n in 0..self.plan.steps {
            self.step().map_err(|e| format!("step {n}: {e}"))?;
        }
        self.finish()
    }

    /// One random call and, when the budget is exceeded, as many frees as bring it back.
    pub fn step(&mut self) -> Result<(), String> {
        let shortage = self.live.len() < self.plan.blocks;
        match self.rng.random_range(0..100) {
            0..10 => self.allocate_any(true)?,
            10..30 => self.reallocate_one()?,
            30..33 => self.recheck()?,
            33..75 if shortage => self.allocate_any(false)?,
            33..50 => self.allocate_any(false)?,
            _ => self.free_one()?,
        }
        while self.bytes > self.plan.budget {
            self.free_one()?;
        }
        Ok(())
    }

    pub fn finish(mut self) -> Result<(), String> {
        while !self.live.is_empty() {
            self.free_one()?;
        }
        Ok(())
    }

    /// A random block for another thread.
    pub fn give(&mut self) -> Option<Live> {
        (!self.live.is_empty()).then(|| self.pick())
    }

    /// The block at this place of the list, counted round and round, which is nobody's from then on.
    pub fn give_at(&mut self, place: usize) -> Option<Live> {
        let place = place.checked_rem(self.live.len())?;
        let block = self.live.swap_remove(place);
        self.bytes -= block.layout.size();
        Some(block)
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// A block of another thread: still its own content?
    pub fn take(&mut self, block: Live) -> Result<(), String> {
        self.bytes += block.layout.size();
        self.live.push(block);
        self.check(&block)
    }

    pub fn chance(&mut self, one_in: u32) -> bool {
        self.rng.random_ratio(1, one_in)
    }

    pub fn below(&mut self, n: usize) -> usize {
        self.rng.random_range(0..n)
    }

    fn pick(&mut self) -> Live {
        let i = self.rng.random_range(0..self.live.len());
        self.give_at(i).expect("there is one")
    }

    fn log_uniform(&mut self, max: usize) -> usize {
        let min = self.plan.min_size;
        let exponent = self
            .rng
            .random_range((min as f64).log2()..(max as f64).log2());
        (exponent.exp2() as usize).clamp(min, max)
    }

    fn size(&mut self) -> usize {
        let every = self.plan.over_size_every;
        let max = if every > 0 && self.chance(every) {
            8 * self.plan.max_size
        } else {
            self.plan.max_size
        };
        let size = self.log_uniform(max);
        // Powers of two and their neighbours are where classes and OS pages end.
        if self.chance(8) {
            (size.next_power_of_two() + self.below(3))
                .saturating_sub(1)
                .clamp(1, max)
        } else {
            size
        }
    }

    fn layout(&mut self) -> Layout {
        let giant = self.plan.giant_align_every;
        let align = if giant > 0 && self.chance(giant) {
            GIB
        } else if self.chance(4) {
            1 << self.rng.random_range(0..=self.plan.max_align.ilog2())
        } else {
            1 << self.rng.random_range(0..=4)
        };
        Layout::from_size_align(self.size(), align).expect("sizes are far below isize::MAX")
    }

    fn allocate_any(&mut self, zeroed: bool) -> Result<(), String> {
        let layout = self.layout();
        self.allocate(layout, zeroed)
    }

    pub fn allocate(&mut self, layout: Layout, zeroed: bool) -> Result<(), String> {
        // SAFETY: the size is not zero.
        let ptr = unsafe {
            if zeroed {
                self.alloc.alloc_zeroed(layout)
            } else {
                self.alloc.alloc(layout)
            }
        };
        if ptr.is_null() && self.plan.refused {
            return Ok(());
        }
        let fail = |e| {
            format!(
                "{}({layout:?}) = {ptr:p}: {e}",
                if zeroed { "alloc_zeroed" } else { "alloc" }
            )
        };
        self.admit(ptr, layout, zeroed).map_err(fail)
    }

    fn admit(&mut self, ptr: *mut u8, layout: Layout, zeroed: bool) -> Result<(), String> {
        self.place(ptr, layout)?;
        if zeroed {
            // SAFETY: a block of this size that overlaps no other.
            unsafe { pattern::check_zero(ptr, layout.size()) }?;
        }
        self.fill(ptr, layout);
        Ok(())
    }

    fn place(&self, ptr: *mut u8, layout: Layout) -> Result<(), String> {
        if ptr.is_null() {
            return Err("null: memory was not short".to_owned());
        }
        if !(ptr as usize).is_multiple_of(layout.align()) {
            return Err("alignment: not a multiple of what was asked".to_owned());
        }
        self.registry.insert(ptr as usize, layout.size())
    }

    fn fill(&mut self, ptr: *mut u8, layout: Layout) {
        let tag = self.rng.random();
        // SAFETY: a live block of this size that overlaps no other.
        unsafe { pattern::fill(ptr, layout.size(), tag) };
        self.bytes += layout.size();
        self.live.push(Live {
            addr: ptr as usize,
            layout,
            tag,
        });
    }

    fn reallocate_one(&mut self) -> Result<(), String> {
        let Some(old) = self.give() else {
            return Ok(());
        };
        let size = match self.below(4) {
            // Shrinks around the half are where a block may or must stay.
            0 => (old.layout.size() / 2 + self.below(3))
                .saturating_sub(1)
                .max(1),
            // Growth by doubling is what vectors do.
            1 if old.layout.size() <= self.plan.max_size / 2 => old.layout.size() * 2,
            _ => self.size(),
        };
        self.reallocate(old, size)
    }

    /// Resizes a block that nobody else has.
    pub fn reallocate(&mut self, old: Live, size: usize) -> Result<(), String> {
        let layout = Layout::from_size_align(size, old.layout.align())
            .expect("sizes are far below isize::MAX");
        // The old range may be handed to another thread before realloc returns here.
        self.registry.remove(old.addr);
        // SAFETY: a live block with its own layout; the size is not zero.
        let ptr = unsafe { self.alloc.realloc(old.addr as *mut u8, old.layout, size) };
        if ptr.is_null() && self.plan.refused {
            self.registry.insert(old.addr, old.layout.size())?;
            return self.take(old);
        }
        let fail = |e| {
            format!(
                "realloc({:#x}, {:?}, {size}) = {ptr:p}: {e}",
                old.addr, old.layout
            )
        };
        self.place(ptr, layout).map_err(fail)?;
        let kept = size.min(old.layout.size());
        // SAFETY: a live block of `size` bytes.
        unsafe { pattern::check(ptr, old.layout.size(), kept, old.tag) }.map_err(fail)?;
        self.fill(ptr, layout);
        Ok(())
    }

    fn recheck(&mut self) -> Result<(), String> {
        self.give().map_or(Ok(()), |block| self.take(block))
    }

    fn check(&self, block: &Live) -> Result<(), String> {
        let size = block.layout.size();
        // SAFETY: the block is live.
        unsafe { pattern::check(block.addr as *const u8, size, size, block.tag) }
            .map_err(|e| format!("live {:#x} {:?}: {e}", block.addr, block.layout))
    }

    fn free_one(&mut self) -> Result<(), String> {
        self.give().map_or(Ok(()), |block| self.free(block))
    }

    /// Frees a block that nobody else has.
    pub fn free(&mut self, block: Live) -> Result<(), String> {
        self.check(&block)?;
        self.registry.remove(block.addr);
        // SAFETY: a live block with its own layout, no longer in the list of live ones.
        unsafe { self.alloc.dealloc(block.addr as *mut u8, block.layout) };
        Ok(())
    }
}
