//! batch: allocate n blocks, free all n, again and again, in the order of allocation, against it, or at random.
//!
//! Imitates a program that builds a structure and drops it whole: a parse tree, a frame's scene, a request's objects.
//! Last in, first out is a stack unwinding; first in, first out a queue or a vector of boxes being dropped; random order
//! a hash map. One operation is one allocation or one free. What the workload itself keeps is what such a program would: an
//! address for each block, and its size and place in the order only where these vary.

use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

use super::prelude::*;

fn max_size(s: &Spec) -> usize {
    s.size("size").max(s.size("max-size"))
}

pub fn run(s: &Spec, bench: &mut Bench) -> Result<(), String> {
    let (blocks, rounds, threads) = (s.size("blocks"), s.n("rounds"), s.size("threads"));
    let mut all = (0..threads).map(|t| Tables::new(s, t)).collect::<Result<Vec<_>, _>>()?;
    let alloc = bench.begin(blocks * threads, max_size(s))?;
    let warm = bench.is_warm();
    bench.timed_threads(&mut all, |thread, tables, gate| {
        if warm {
            tables.batch(alloc, thread * blocks);
        }
        gate.timed(|| {
            (0..rounds).for_each(|_| tables.batch(alloc, thread * blocks));
            rounds * blocks as u64 * 2
        });
    });
    bench.finish();
    verify(alloc, &mut Table::new(blocks)?, (s.size("size"), max_size(s)), s.n("seed"));
    Ok(())
}

struct Tables {
    blocks: Table<*mut u8>,
    size: usize,
    sizes: Option<Table<u32>>,
    touch: bool,
    lifo: bool,
    /// The order of freeing, where it is a random one.
    random: Option<Table<u32>>,
}

impl Tables {
    fn new(s: &Spec, thread: usize) -> Result<Tables, String> {
        let (blocks, size, max) = (s.size("blocks"), s.size("size"), max_size(s));
        let mut sizes = (max != size).then(|| Table::<u32>::new(blocks)).transpose()?;
        let mut generator = XorShift64::new(s.n("seed"), thread as u64);
        for drawn in sizes.iter_mut().flat_map(|t| t.iter_mut()) {
            *drawn = generator.between(size, max) as u32;
        }
        let mut random = s.is("order", "random").then(|| Table::<u32>::new(blocks)).transpose()?;
        if let Some(order) = &mut random {
            order.iter_mut().enumerate().for_each(|(i, place)| *place = i as u32);
            order.shuffle(&mut StdRng::seed_from_u64(s.n("seed")));
        }
        let (touch, lifo) = (s.is("touch", "first"), s.is("order", "lifo"));
        Ok(Tables { blocks: Table::new(blocks)?, size, sizes, touch, lifo, random })
    }

    /// One batch; `base` is the thread's first slot.
    fn batch(&mut self, alloc: &RawAllocator, base: usize) {
        let Tables { blocks, size, sizes, touch, lifo, random } = self;
        let order = (*lifo, random.as_deref());
        match sizes {
            Some(sizes) => batch(alloc, blocks, base, *touch, |i| sizes[i] as usize, order),
            None => batch(alloc, blocks, base, *touch, |_| *size, order),
        }
    }
}

#[inline(never)]
fn batch(
    alloc: &RawAllocator,
    blocks: &mut [*mut u8],
    base: usize,
    touch: bool,
    size: impl Fn(usize) -> usize,
    (lifo, random): (bool, Option<&[u32]>),
) {
    for (i, block) in blocks.iter_mut().enumerate() {
        *block = alloc.alloc(size(i), base + i);
        if touch && !block.is_null() {
            // SAFETY: the block has at least one byte.
            unsafe { block.write(i as u8) };
        }
    }
    let free = |i: usize| {
        if !blocks[i].is_null() {
            // SAFETY: allocated above with this size; every place comes once.
            unsafe { alloc.dealloc(blocks[i], size(i)) };
        }
    };
    match (random, lifo) {
        (Some(order), _) => order.iter().for_each(|&i| free(i as usize)),
        (None, true) => (0..blocks.len()).rev().for_each(free),
        (None, false) => (0..blocks.len()).for_each(free),
    }
}
