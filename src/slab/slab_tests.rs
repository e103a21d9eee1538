use super::*;
use crate::os::fake::faults;
use crate::os::{mapping, sys};
use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::collections::HashSet;
use std::vec::Vec;

/// Opens a slab with bits of its own, which are never freed.
unsafe fn open(slab: *mut Slab, base: usize, class: Class, clean: bool) {
    static KEPT: std::sync::Mutex<Vec<Vec<u64>>> = std::sync::Mutex::new(Vec::new());
    let mut bits = std::vec![0; bits::words(size_class::capacity(class))];
    let free = bits.as_mut_ptr();
    KEPT.lock().unwrap().push(bits);
    // SAFETY: the caller has the memory.
    unsafe { Slab::open(slab, base, class, 7, clean, free) };
}

unsafe fn give(slab: &mut Slab, block: *mut Block) {
    // SAFETY: the caller took it.
    assert_eq!(unsafe { slab.give(&block, 1) }, Ok(()));
}

fn is_block(slab: &Slab, block: *mut Block) -> bool {
    let at = Blocks::of(slab.class.get()).index(block as usize - slab.base);
    at.is_some_and(|at| slab.base + at * size_class::size(slab.class.get()) == block as usize)
}

/// Every offset into a slab of every class, and some that lie in none.
#[test]
fn starts_are_told_from_all_other_addresses() {
    for class in Class::all().step_by(if cfg!(miri) { 37 } else { 1 }) {
        let (size, capacity) = (size_class::size(class), size_class::capacity(class));
        let blocks = Blocks::of(class);
        // Miri, a thousand times as slow, looks at fewer.
        let some = (0..size_class::slots(class).bytes()).step_by(if cfg!(miri) { 1009 } else { 1 });
        let far =
            (0..64).flat_map(|bit| [1 << bit, size.wrapping_shl(bit), usize::MAX - bit as usize]);
        for offset in some.chain(far) {
            let is = offset % size == 0 && offset / size < capacity;
            let expected = is.then_some(offset / size);
            assert_eq!(blocks.index(offset), expected, "{offset} of {size}");
        }
    }
}

/// Classes to try. Miri, a thousand times as slow, tries a few.
fn classes() -> impl Iterator<Item = Class> {
    Class::all_of_slabs().step_by(if cfg!(miri) { 31 } else { 1 })
}

#[test]
fn take_and_give_keep_the_equation() {
    for class in classes() {
        let layout = Layout::from_size_align(size_class::slots(class).bytes(), SLOT).unwrap();
        // SAFETY: as many slots of memory of our own as the slab has, freed below.
        unsafe {
            let base = alloc_zeroed(layout) as usize;
            let mut slab: Slab = core::mem::zeroed();
            open(&raw mut slab, base, class, true);
            let mut seen = HashSet::new();
            let mut blocks = Vec::new();
            let mut to = [ptr::null_mut::<Block>(); 10];
            while let Some(taken) = slab.take(to.as_mut_ptr(), 10, 4) {
                assert!(taken.zero && taken.count <= 4);
                for &at in &to[..taken.count] {
                    assert!(is_block(&slab, at) && seen.insert(at as usize));
                    blocks.push(at);
                }
            }
            assert_eq!(
                (blocks.len(), slab.allocated(), slab.available()),
                (slab.capacity(), slab.capacity(), 0)
            );
            for &block in blocks.iter().rev().skip(1) {
                give(&mut slab, block);
            }
            assert!(slab.is_valid());
            assert_eq!(slab.allocated(), 1);
            if slab.capacity() > 1 {
                let one = slab.take(to.as_mut_ptr(), 1, 1).unwrap();
                assert_eq!((one.count, slab.allocated()), (1, 2));
                give(&mut slab, to[0]);
                let again = slab.take(to.as_mut_ptr(), 3, 4).unwrap();
                let all = slab.capacity() - 1;
                let count = all.min(3);
                assert_eq!(again, Taken { count, zero: false });
                assert!(slab.is_valid() && slab.allocated() == 1 + count);
                give(&mut slab, to[0]);
                assert!(slab.is_valid());
                for wrong in [to[0], to[0].wrapping_byte_add(1), (base + SLOT * 3) as _] {
                    assert_eq!(slab.give(&wrong, 1), Err(wrong));
                }
                assert!(slab.is_valid());
            }
            dealloc(base as *mut u8, layout);
        }
    }
}

#[test]
fn a_slab_begins_with_a_single_page() {
    let layout = Layout::from_size_align(64 * SLOT, SLOT).unwrap();
    // SAFETY: sixty-four slots of our own, freed below.
    unsafe {
        let memory = alloc_zeroed(layout) as usize;
        for (slot, class) in
            (0..64).flat_map(|slot| (1..65).map(move |class| (slot, Class::new(class))))
        {
            let mut slab: Slab = core::mem::zeroed();
            open(&raw mut slab, memory + slot * SLOT, class, false);
            let size = size_class::size(class);
            let mut to = [ptr::null_mut::<Block>(); UNIT / 16];
            let first = slab.take(to.as_mut_ptr(), to.len(), UNIT / size).unwrap();
            let start = to[first.count - 1] as usize;
            let fit = (UNIT - start % UNIT) / size;
            assert_eq!(
                first.count,
                if fit >= CARVED_LEAST {
                    fit
                } else {
                    UNIT / size
                },
                "{class:?}"
            );
        }
        dealloc(memory as *mut u8, layout);
    }
}

/// A slab in the test's own memory whose blocks are all out, and their addresses.
unsafe fn all_out(base: usize, class: Class) -> (Slab, Vec<*mut Block>) {
    // SAFETY: the caller has the memory.
    unsafe {
        let mut slab: Slab = core::mem::zeroed();
        open(&raw mut slab, base, class, true);
        let mut to = [ptr::null_mut::<Block>(); 64];
        let mut blocks = Vec::new();
        while let Some(taken) = slab.take(to.as_mut_ptr(), 64, 64) {
            blocks.extend_from_slice(&to[..taken.count]);
        }
        (slab, blocks)
    }
}

#[test]
fn a_slab_with_holes_loses_no_block() {
    for class in classes() {
        let layout = Layout::from_size_align(size_class::slots(class).bytes(), SLOT).unwrap();
        // SAFETY: as many slots of memory of our own as the slab has, freed below.
        unsafe {
            let base = alloc_zeroed(layout) as usize;
            let (mut slab, mut blocks) = all_out(base, class);
            // One of nine stays out. The others return in two parts, before and after the survey.
            let (kept, mut freed): (Vec<_>, Vec<_>) =
                blocks.drain(..).enumerate().partition(|(i, _)| i % 9 == 4);
            let late = freed.split_off(freed.len() / 2);
            for (_, block) in &freed {
                give(&mut slab, *block);
            }
            let chance = slab.survey();
            assert_eq!(chance.used, chance.pages, "every block was out");
            let held = slab.held_bytes();
            slab.carve_rest();
            assert!(slab.is_valid());
            // The pages lose their contents, and no word of them is missed.
            let mut gone = 0;
            for run in crate::slab::slab_holes::runs(base, chance.pages) {
                ptr::write_bytes(run.addr as *mut u8, 0xA5, run.len);
                gone += run.len;
            }
            slab.lost(chance.pages);
            assert!(slab.is_valid());
            assert_eq!(slab.held_bytes(), held - gone);
            for (_, block) in &late {
                give(&mut slab, *block);
            }
            assert!(slab.is_valid());
            assert_eq!(slab.allocated(), kept.len());
            let again = slab.survey();
            assert_eq!(again.pages & chance.pages, 0, "what is gone cannot go");
            slab.lost(again.pages);
            assert!(slab.is_valid());
            let mut seen: HashSet<_> = kept.iter().map(|(_, block)| *block).collect();
            let mut to = [ptr::null_mut::<Block>(); 64];
            while slab.available() > 0 {
                let taken = slab.take(to.as_mut_ptr(), 64, 5);
                let taken = taken.expect("some are free");
                assert!(!taken.zero && slab.is_valid());
                for &block in &to[..taken.count] {
                    assert!(is_block(&slab, block) && seen.insert(block));
                }
            }
            assert_eq!(seen.len(), slab.capacity());
            assert!(slab.is_valid());
            assert_eq!(slab.held_bytes(), slab.capacity() * size_class::size(class));
            give(&mut slab, to[0]);
            assert!(slab.is_valid());
            dealloc(base as *mut u8, layout);
        }
    }
}

/// Blocks never handed out can go with the rest, and are handed out later.
#[test]
fn what_was_never_carved_goes_along() {
    if crate::os::sys::page_size() >= SLOT {
        return std::println!("an OS page is a whole slot: none of a slab in use can go");
    }
    let layout = Layout::from_size_align(SLOT, SLOT).unwrap();
    for class in [1, 7, 64, 90].map(Class::new) {
        // SAFETY: a slot of memory of our own, freed below.
        unsafe {
            let base = alloc_zeroed(layout) as usize;
            let mut slab: Slab = core::mem::zeroed();
            open(&raw mut slab, base, class, true);
            let mut to = [ptr::null_mut::<Block>(); 64];
            let few = slab.take(to.as_mut_ptr(), 3, 3).unwrap();
            let chance = slab.survey();
            assert_eq!(chance.used, 0, "nothing came back");
            assert!(chance.pages != 0);
            give(&mut slab, to[0]);
            let chance = slab.survey();
            slab.carve_rest();
            slab.lost(chance.pages);
            assert!(slab.is_valid());
            assert_eq!(slab.available(), slab.capacity() - few.count + 1);
            dealloc(base as *mut u8, layout);
        }
    }
}

/// The walker is not blind.
#[test]
fn the_walker_sees_planted_faults_in_a_slab_with_holes() {
    type Fault = fn(&mut Slab);
    let faults: [Fault; 4] = [
        |slab| slab.free_count += 1,
        // More blocks than lie outside side by side, wherever carving began.
        |slab| slab.carved -= 5,
        |slab| slab.gone = 1 | 1 << 8,
        |slab| crate::slab::bits::clear(slab.bits_mut(), 30),
    ];
    let layout = Layout::from_size_align(SLOT, SLOT).unwrap();
    for (number, fault) in faults.iter().enumerate() {
        // SAFETY: a slot of memory of our own, freed below.
        unsafe {
            let base = alloc_zeroed(layout) as usize;
            let (mut slab, blocks) = all_out(base, Class::new(64));
            // The blocks of two pages stay out, four of each.
            for block in &blocks {
                if !matches!((*block as usize - base) >> 12, 0 | 8) {
                    give(&mut slab, *block);
                }
            }
            assert_eq!(slab.capacity() - slab.available(), 8);
            let chance = slab.survey();
            slab.carve_rest();
            slab.lost(chance.pages);
            assert!(slab.is_valid());
            fault(&mut slab);
            assert!(!slab.is_valid(), "fault {number}");
            dealloc(base as *mut u8, layout);
        }
    }
}

/// A block not handed out yet is as free as one that came back.
#[test]
fn blocks_are_free_before_they_are_carved_and_after_they_come_back() {
    let layout = Layout::from_size_align(SLOT, SLOT).unwrap();
    for class in [3, 20, 64].map(Class::new) {
        // SAFETY: a slot of memory of our own, freed below.
        unsafe {
            let base = alloc_zeroed(layout) as usize;
            let mut slab: Slab = core::mem::zeroed();
            open(&raw mut slab, base, class, true);
            let mut to = [ptr::null_mut::<Block>(); 4];
            let count = slab.take(to.as_mut_ptr(), 4, 4).unwrap().count;
            let out = &to[..count];
            for at in 0..slab.capacity() {
                let addr = base + at * size_class::size(class);
                let block = addr as *mut Block;
                assert_eq!(slab.is_free(addr), !out.contains(&block));
                if !out.contains(&block) {
                    assert_eq!(slab.give(&block, 1), Err(block), "never handed out");
                }
            }
            give(&mut slab, to[0]);
            assert!(slab.is_free(to[0] as usize));
            assert!(!slab.is_free(base + 1), "no block");
            // Closing leaves the bits clear.
            for &block in &to[1..count] {
                give(&mut slab, block);
            }
            slab.close();
            assert_eq!(bits::count(slab.bits()), 0);
            dealloc(base as *mut u8, layout);
        }
    }
}

/// The bits of a slab to which nothing came back are not looked at, and written before they are read.
#[test]
#[cfg_attr(miri, ignore = "it has no page faults")]
fn the_first_block_that_comes_back_costs_one_fault_for_the_bits() {
    const SLABS: usize = 64;
    let page = sys::page_size();
    let map = mapping::map_aligned(SLABS * page, page, None).expect("mapped");
    let layout = Layout::from_size_align(SLOT, SLOT).unwrap();
    // SAFETY: a slot of our own, and fresh pages for the bits of slabs that are open there one after another.
    unsafe {
        crate::os::huge::refuse(map.addr, map.len).expect("refused");
        let base = alloc_zeroed(layout) as usize;
        let mut to = [ptr::null_mut::<Block>(); 4];
        let (mut looking, mut giving) = (0, 0);
        for bits in (map.addr..map.end()).step_by(page) {
            let mut slab: Slab = core::mem::zeroed();
            Slab::open(
                &raw mut slab,
                base,
                Class::new(3),
                7,
                true,
                bits as *mut u64,
            );
            let count = slab.take(to.as_mut_ptr(), 4, 4).unwrap().count;
            let before = faults();
            assert!(!slab.is_free(to[0] as usize));
            looking += faults() - before;
            let before = faults();
            assert_eq!(slab.give(&to[count - 1], count), Ok(()));
            giving += faults() - before;
            assert!(slab.is_valid());
        }
        let slabs = SLABS as i64;
        assert!(looking < slabs / 2, "{looking} faults of looks");
        assert!(
            giving < slabs * 3 / 2,
            "{giving} faults of blocks that came back"
        );
        mapping::unmap(map).expect("unmapped");
        dealloc(base as *mut u8, layout);
    }
}
