use super::super::reads::Words;
use super::super::steps::Steps;
use super::*;
use crate::os::sys::page_size;
use core::hint::black_box;

#[inline(never)]
fn inner(to: &mut [usize]) -> usize {
    black_box(walk(black_box(to)).count)
}

#[inline(never)]
fn outer(to: &mut [usize]) -> usize {
    black_box(inner(black_box(to))) + 1
}

/// Whether the address lies in the first bytes of the function.
fn is_in(address: usize, function: fn(&mut [usize]) -> usize) -> bool {
    (function as usize..function as usize + 200).contains(&address)
}

#[test]
fn callers_are_found_newest_first() {
    let mut to = [0; 64];
    let count = outer(&mut to) - 1;
    let at = |function| {
        to[..count]
            .iter()
            .position(|&address| is_in(address, function))
    };
    let (inner_at, outer_at) = (at(inner), at(outer));
    assert!(
        inner_at.is_some() && outer_at == inner_at.map(|at| at + 1),
        "{to:x?}"
    );
    assert!(to[..count].iter().all(|&address| address >= 4096));
    assert!(to[count..].iter().all(|&address| address == 0));
}

#[inline(never)]
fn searched_inner(to: &mut [usize]) -> usize {
    capture_by(Tables::Own, black_box(to));
    black_box(to.iter().take_while(|&&call| call != 0).count())
}

#[inline(never)]
fn searched_outer(to: &mut [usize]) -> usize {
    black_box(searched_inner(black_box(to))) + 1
}

#[test]
fn callers_are_searched_in_the_stack_where_tables_are_not_read() {
    // The thread's stack holds nothing of earlier calls but its own start.
    std::thread::spawn(|| {
        let mut to = [0; 64];
        let count = searched_outer(&mut to) - 1;
        let found = &to[..count];
        let at = |function| {
            let is_there = |&call: &usize| is_in(call & !UNCERTAIN, function);
            found.iter().position(is_there)
        };
        let (inner_at, outer_at) = (at(searched_inner), at(searched_outer));
        assert!(inner_at.is_some() && inner_at < outer_at, "{to:x?}");
        let searched = outer_at.is_some_and(|at| found[at] & UNCERTAIN != 0);
        assert!(searched, "{to:x?}");
    })
    .join()
    .expect("no panic");
}

#[test]
fn a_thread_ends_whole() {
    let end = std::thread::spawn(|| walk(&mut [0; 256]))
        .join()
        .expect("no panic");
    // Without glibc's function the C library's own frames have no table that is known.
    let whole = cfg!(all(target_env = "gnu", target_arch = "x86_64"));
    assert!(end.end == End::Whole || !whole, "{end:?}");
    assert!(end.certain == end.count || !whole, "{end:?}");
}

#[test]
fn little_room_is_filled_and_errno_is_kept() {
    let mut all = [0; 64];
    let count = inner(&mut all);
    assert!(count > 2);
    // SAFETY: errno of this thread.
    unsafe { *libc::__errno_location() = 77 };
    let mut some = [0; 3];
    assert_eq!(inner(&mut some[..2]), 2);
    assert_eq!(some[2], 0);
    assert_eq!(inner(&mut []), 0);
    // SAFETY: errno of this thread.
    assert_eq!(unsafe { *libc::__errno_location() }, 77);
}

#[test]
fn what_is_remembered_gives_the_same_stack() {
    // Of a number that the compiler does not know, so that there is one call.
    let mut stacks = std::vec![[0; 64]; black_box(2)];
    for stack in &mut stacks {
        outer(stack);
    }
    assert_eq!(stacks[0], stacks[1]);
}

/// What was kept of a walk from here.
#[inline(never)]
fn found_again() -> [usize; 12] {
    static FOUND: std::sync::Mutex<std::vec::Vec<[usize; 12]>> =
        std::sync::Mutex::new(std::vec::Vec::new());
    static WALKS: std::sync::Mutex<Walks> = std::sync::Mutex::new(Walks::new());
    let mut walks = WALKS.lock().expect("no panic");
    let number = capture_again(&mut walks, 0, |calls: &[usize; 12]| {
        let mut found = FOUND.lock().expect("no panic");
        found.push(*calls);
        found.len() as u32 - 1
    });
    FOUND.lock().expect("no panic")[number as usize]
}

/// A walk from here, and the same by what was kept. Both begin with the call that stands here, which differs.
#[inline(never)]
fn both_ways(differ: &mut usize) {
    for _ in 0..black_box(2) {
        let mut stacks = [[0; 12]; 2];
        walk(black_box(&mut stacks[0]));
        stacks[1] = found_again();
        *differ += usize::from(stacks[0][1..] != stacks[1][1..]);
        assert!(stacks[0][1..].iter().all(|&address| address != 0));
    }
}

/// Two callers with frames of one size, so that what they call has the same stack pointer.
#[inline(never)]
fn caller<const N: usize>(depth: usize, differ: &mut usize) {
    match depth {
        0 => both_ways(differ),
        _ => black_box(caller::<N>)(depth - 1, differ),
    }
    // No call above is the last thing that is done: each has a frame.
    black_box(N);
}

/// Walks that were kept answer for those that are the same in every word, and for no others.
#[test]
fn what_is_kept_is_what_would_be_found() {
    let mut differ = 0;
    for round in 0..200 {
        let depth = 12 + round % 5;
        caller::<1>(depth, &mut differ);
        caller::<2>(depth, &mut differ);
    }
    // Another stack, and a thread after it with the same one.
    for round in 0..20 {
        let deep = move || {
            let mut differ = 0;
            match round % 2 {
                0 => caller::<3>(12, &mut differ),
                _ => caller::<4>(12, &mut differ),
            }
            differ
        };
        differ += std::thread::spawn(deep).join().expect("no panic");
    }
    assert_eq!(differ, 0);
}

fn frame(sp: usize, fp: usize) -> Frame<'static> {
    // No object has code there, so the frame pointer is followed.
    Frame {
        pc: 4096,
        sp,
        fp,
        link: 0,
        exact: true,
        certain: true,
        tables: Tables::All,
        reads: None,
        known: Known { from: sp, to: sp },
    }
}

#[test]
fn a_frame_pointer_leads_up_and_never_into_what_cannot_be_read() {
    let page = page_size();
    // SAFETY: a mapping of the test's own.
    unsafe {
        // One page between three without access, so that no other mapping is beside it.
        let from = sys::mmap(0, 4 * page, libc::PROT_NONE, 0).expect("four pages");
        let at = from + page;
        sys::mprotect(at, page, libc::PROT_READ | libc::PROT_WRITE).expect("ours");
        let word = |offset: usize, value: usize| *((at + offset) as *mut usize) = value;
        word(64, at + 128);
        word(72, 0x5000);
        word(128, at + page);
        word(136, 0x6000);
        let mut walker = frame(at, at + 64);
        assert_eq!(walker.up(), None);
        assert_eq!(
            (walker.pc, walker.fp, walker.sp),
            (0x5000, at + 128, at + 80)
        );
        assert_eq!(walker.up(), None);
        assert_eq!(walker.pc, 0x6000);
        assert_eq!(walker.up(), Some(End::Lost), "the guard page is not read");
        let mut walker = frame(at, at + page);
        walker.known.to = at + 2 * page;
        assert_eq!(
            walker.up(),
            Some(End::Lost),
            "a closed page of a known stack"
        );
        for wild in [
            at + page - 8,
            at + 2 * page,
            at + 65,
            at - 64,
            0,
            8,
            usize::MAX - 7,
            usize::MAX & !15,
        ] {
            assert_eq!(frame(at, wild).up(), Some(End::Lost), "{wild:#x}");
        }
        word(64, at + 64);
        assert_eq!(frame(at, at + 64).up(), Some(End::Lost), "a circle");
        word(64, 0);
        word(72, 0);
        assert_eq!(frame(at, at + 64).up(), Some(End::Whole));
        sys::munmap(from, 4 * page).expect("ours");
    }
}

/// Both walks from here, the one by steps up to `end`. Whether they find the same calls and note the same words;
/// `None` if there is no walk by steps.
#[inline(never)]
fn same_by_steps(steps: &mut Steps, end: usize) -> Option<bool> {
    let at = registers_here();
    let (mut calls, mut reads) = ([[0; 8]; 2], Reads::new());
    let known = Frame {
        known: Known::stack(at.sp),
        reads: Some(&mut reads),
        ..Frame::at(at)
    };
    follow(known, &mut calls[0], 0);
    // SAFETY: zeros are words; from here to the test's frame all is stack in use.
    unsafe {
        let mut words: Words = core::mem::zeroed();
        let walked = steps.walk(at, end, &mut calls[1], &mut words);
        walked.map(|walked| {
            words.fill_group(walked.count);
            // The other walk makes another step before it ends.
            let mut others = reads.words[..reads.count].iter();
            let is_next = |by: u32, word| others.next() == Some(&[at.sp + by as usize, word]);
            calls[0] == calls[1]
                && walked.count >= 8
                && walked.end <= end
                && words.all(walked.count, is_next)
                && words.are_there(walked.count, at.sp)
        })
    }
}

/// What needs a stack pointer that the compiler aligns: it finds the frame by the frame pointer.
#[repr(align(128))]
struct Aligned(usize);

#[inline(never)]
fn from_aligned(depth: usize, then: &mut dyn FnMut()) {
    let aligned = Aligned(depth);
    from_below::<true>(black_box(&aligned).0, then);
    black_box(&aligned);
}

/// Calls the function from so many frames further down, two of them found by the frame pointer if some are to be.
#[inline(never)]
fn from_below<const FP: bool>(depth: usize, then: &mut dyn FnMut()) {
    match depth {
        0 => then(),
        2 | 3 if FP => black_box(from_aligned as fn(usize, &mut dyn FnMut()))(depth - 1, then),
        _ => black_box(from_below::<FP> as fn(usize, &mut dyn FnMut()))(depth - 1, then),
    }
    black_box(depth);
}

#[test]
fn steps_find_what_any_rule_does() {
    // SAFETY: zeros are a table without entries.
    let mut steps = unsafe { std::boxed::Box::<Steps>::new_zeroed().assume_init() };
    let here = 0_usize;
    let end = (&raw const here).addr() & !7;
    for depth in [12, 15, 12, 13] {
        from_below::<true>(depth, &mut || {
            assert_eq!(same_by_steps(&mut steps, end), Some(true));
        });
    }
    // A stack that ends below is not walked.
    from_below::<false>(12, &mut || {
        let below = registers_here().sp;
        assert_eq!(same_by_steps(&mut steps, below), None);
    });
}
