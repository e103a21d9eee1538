use super::*;
use crate::slab::holes::Unused;
use crate::slab::slab_holes::Map;
use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::collections::HashSet;
use std::vec::Vec;

#[test]
fn take_and_give_keep_the_equation() {
    // An interpreter, a thousand times as slow, takes a few classes.
    for class in (1..size_class::SLAB_CLASSES).step_by(if cfg!(miri) { 20 } else { 1 }) {
        let layout = Layout::from_size_align(size_class::slots(class) * SLOT, SLOT).unwrap();
        // SAFETY: as many slots of memory of our own as the slab has, freed below.
        unsafe {
            let base = alloc_zeroed(layout) as usize;
            let mut slab: Slab = core::mem::zeroed();
            Slab::open(&raw mut slab, base, class, 7, true);
            let mut seen = HashSet::new();
            let mut blocks = Vec::new();
            let mut to = [ptr::null_mut::<Block>(); 10];
            let mut scratch = Addresses::new();
            while let Some(taken) = slab.take(to.as_mut_ptr(), 10, 4, &mut scratch) {
                assert!(taken.zero && taken.count <= 4);
                for &at in &to[..taken.count] {
                    assert!(slab.is_block(at as usize) && seen.insert(at as usize));
                    blocks.push(at);
                }
            }
            assert_eq!(
                (blocks.len(), slab.out(), slab.available()),
                (slab.capacity(), slab.capacity(), 0)
            );
            for &block in blocks.iter().rev().skip(1) {
                slab.give(&block, 1);
            }
            assert!(slab.is_valid());
            assert_eq!(slab.out(), 1);
            if slab.capacity() > 1 {
                let one = slab.take(to.as_mut_ptr(), 1, 1, &mut scratch).unwrap();
                assert_eq!((one.count, slab.out()), (1, 2));
                slab.give(&to[0], 1);
                let again = slab.take(to.as_mut_ptr(), 3, 4, &mut scratch).unwrap();
                let all = slab.capacity() - 1;
                let count = all.min(3);
                assert_eq!(again, Taken { count, zero: false });
                assert!(slab.is_valid() && slab.out() == 1 + count);
                slab.give(&to[0], 1);
                assert!(slab.is_valid());
                let wrong = Batch::from_head((base + 1) as *mut Block);
                slab.free.unwrap().set_link(wrong);
                assert!(!slab.is_valid(), "a damaged free list is seen");
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
        for (slot, class) in (0..64).flat_map(|slot| (1..65).map(move |class| (slot, class))) {
            let mut slab: Slab = core::mem::zeroed();
            Slab::open(&raw mut slab, memory + slot * SLOT, class, 7, false);
            let size = size_class::size(class);
            let mut to = [ptr::null_mut::<Block>(); UNIT / 16];
            let mut scratch = Addresses::new();
            let first = slab
                .take(to.as_mut_ptr(), to.len(), UNIT / size, &mut scratch)
                .unwrap();
            let start = to[first.count - 1] as usize;
            let fit = (UNIT - start % UNIT) / size;
            assert_eq!(
                first.count,
                if fit >= FEW { fit } else { UNIT / size },
                "class {class}"
            );
        }
        dealloc(memory as *mut u8, layout);
    }
}

/// A slab of memory of our own whose blocks are all out, and their addresses.
unsafe fn all_out(base: usize, class: usize) -> (Slab, Vec<*mut Block>) {
    // SAFETY: the caller has the memory.
    unsafe {
        let mut slab: Slab = core::mem::zeroed();
        Slab::open(&raw mut slab, base, class, 7, true);
        let mut to = [ptr::null_mut::<Block>(); 64];
        let mut blocks = Vec::new();
        while let Some(taken) = slab.take(to.as_mut_ptr(), 64, 64, &mut Addresses::new()) {
            blocks.extend_from_slice(&to[..taken.count]);
        }
        (slab, blocks)
    }
}

#[test]
#[cfg_attr(miri, ignore = "an interpreter maps no memory for the bits")]
fn a_slab_with_holes_loses_no_block() {
    let mut unused = Unused::NONE;
    for class in (1..size_class::SLAB_CLASSES).step_by(if cfg!(miri) { 40 } else { 1 }) {
        let layout = Layout::from_size_align(size_class::slots(class) * SLOT, SLOT).unwrap();
        // SAFETY: as many slots of memory of our own as the slab has, freed below.
        unsafe {
            let base = alloc_zeroed(layout) as usize;
            let (mut slab, mut blocks) = all_out(base, class);
            // One of nine stays out, and the rest comes back in two parts: in band, and to the bits.
            let (kept, mut freed): (Vec<_>, Vec<_>) =
                blocks.drain(..).enumerate().partition(|(i, _)| i % 9 == 4);
            let late = freed.split_off(freed.len() / 2);
            for (_, block) in &freed {
                slab.give(block, 1);
            }
            let mut map: Map = [0; _];
            let chance = slab.survey(&mut map, &mut Addresses::new());
            assert_eq!(chance.used, chance.pages, "every block was out");
            let held = slab.held_bytes();
            assert!(slab.come_out_of_band(&map, &mut unused) && slab.is_valid());
            // What lies in the pages is gone, and no word of it is missed.
            let mut gone = 0;
            for run in crate::slab::slab_holes::runs(base, chance.pages) {
                ptr::write_bytes(run.addr as *mut u8, 0xA5, run.len);
                gone += run.len;
            }
            slab.lost(chance.pages);
            assert!(slab.is_valid());
            assert_eq!(slab.held_bytes(), held - gone);
            for (_, block) in &late {
                slab.give(block, 1);
            }
            assert!(slab.is_valid());
            assert_eq!(slab.out(), kept.len());
            let again = slab.survey(&mut map, &mut Addresses::new());
            assert_eq!(again.pages & chance.pages, 0, "what is gone cannot go");
            slab.lost(again.pages);
            assert!(slab.is_valid());
            let mut seen: HashSet<_> = kept.iter().map(|(_, block)| *block).collect();
            let mut to = [ptr::null_mut::<Block>(); 64];
            while !slab.is_filled() && slab.available() > 0 {
                let taken = slab.take(to.as_mut_ptr(), 64, 5, &mut Addresses::new());
                let taken = taken.expect("some are free");
                assert!(!taken.zero && slab.is_valid());
                for &block in &to[..taken.count] {
                    assert!(slab.is_block(block as usize) && seen.insert(block));
                }
            }
            assert_eq!(seen.len(), slab.capacity());
            slab.put_holes_away(&mut unused);
            assert!(slab.is_valid());
            assert_eq!(slab.held_bytes(), slab.capacity() * size_class::size(class));
            slab.give(&to[0], 1);
            assert!(slab.is_valid());
            dealloc(base as *mut u8, layout);
        }
    }
}

/// What was never handed out can go with the rest, and is handed out later.
#[test]
#[cfg_attr(miri, ignore = "an interpreter maps no memory for the bits")]
fn what_was_never_carved_goes_along() {
    if crate::os::sys::page_size() >= SLOT {
        return std::println!("an OS page is a whole slot: none of a slab in use can go");
    }
    let layout = Layout::from_size_align(SLOT, SLOT).unwrap();
    for class in [1, 7, 64, 90] {
        // SAFETY: a slot of memory of our own, freed below.
        unsafe {
            let base = alloc_zeroed(layout) as usize;
            let mut slab: Slab = core::mem::zeroed();
            Slab::open(&raw mut slab, base, class, 7, true);
            let mut to = [ptr::null_mut::<Block>(); 64];
            let mut scratch = Addresses::new();
            let few = slab.take(to.as_mut_ptr(), 3, 3, &mut scratch).unwrap();
            let mut map: Map = [0; _];
            let chance = slab.survey(&mut map, &mut scratch);
            assert_eq!(chance.used, 0, "nothing came back");
            assert!(chance.pages != 0);
            slab.give(&to[0], 1);
            let mut unused = Unused::NONE;
            let chance = slab.survey(&mut map, &mut scratch);
            assert!(slab.come_out_of_band(&map, &mut unused));
            slab.lost(chance.pages);
            assert!(slab.is_valid());
            assert_eq!(slab.available(), slab.capacity() - few.count + 1);
            dealloc(base as *mut u8, layout);
        }
    }
}

/// The walker is not blind.
#[test]
#[cfg_attr(miri, ignore = "an interpreter maps no memory for the bits")]
fn the_walker_sees_planted_faults_in_a_slab_with_holes() {
    type Fault = fn(&mut Slab);
    let faults: [Fault; 4] = [
        |slab| slab.free_count += 1,
        |slab| slab.carved -= 1,
        // SAFETY: the words are the slab's.
        |slab| unsafe { slab.holes.unwrap().set_gone(1 | 1 << 15) },
        |slab| {
            let at = slab.base + 64 * 1024;
            slab.free = Batch::from_head(at as *mut Block);
        },
    ];
    let layout = Layout::from_size_align(SLOT, SLOT).unwrap();
    for (number, fault) in faults.iter().enumerate() {
        // SAFETY: a slot of memory of our own, freed below.
        unsafe {
            let base = alloc_zeroed(layout) as usize;
            let (mut slab, blocks) = all_out(base, 64);
            // The blocks of the first page and of the last stay out.
            for block in &blocks {
                if !matches!((*block as usize - base) >> 12, 0 | 15) {
                    slab.give(block, 1);
                }
            }
            let mut map: Map = [0; _];
            let chance = slab.survey(&mut map, &mut Addresses::new());
            assert!(slab.come_out_of_band(&map, &mut { Unused::NONE }));
            slab.lost(chance.pages);
            assert!(slab.is_valid());
            fault(&mut slab);
            assert!(!slab.is_valid(), "fault {number}");
            dealloc(base as *mut u8, layout);
        }
    }
}
