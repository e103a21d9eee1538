use super::*;
use std::vec::Vec;

/// Every test here uses the same secret, whichever runs first.
fn with_secret() {
    set_secret(0x9E37_79B9_7F4A_7C15);
}

/// A batch opens to the blocks it was made of, in the same order.
fn packs(size: usize, count: usize) {
    with_secret();
    let mut memory: Vec<u128> = std::vec![0; size / 16 * count];
    let base = memory.as_mut_ptr().cast::<u8>();
    let blocks: Vec<*mut Block> = (0..count)
        // SAFETY: inside `memory`, which is aligned to 16. 7 divides none of the counts.
        .map(|i| unsafe { base.add((i * 7 + 3) % count * size) }.cast())
        .collect();
    // SAFETY: the blocks are ours and distinct.
    unsafe {
        let batch = Batch::of(blocks.as_ptr().add(count - 1), count, size);
        let link = Batch::from_head(blocks[0]);
        batch.set_posted(link);
        assert_eq!((batch.count(), batch.link()), (count, link));
        assert!(batch.header().0 > MAX_COUNT);
        batch.end_posted();
        assert_eq!(batch.header(), (count, link));
        let mut out = std::vec![core::ptr::null_mut::<Block>(); count];
        let are_blocks = |some: &[*mut Block], _| some.iter().all(|at| blocks.contains(at));
        let opened = batch.open(count, out.as_mut_ptr().add(count - 1), size, are_blocks);
        assert_eq!(opened, Ok(()));
        assert_eq!(out, blocks);
    }
}

#[test]
fn a_batch_names_every_block_once() {
    for size in [16, 32, 48, 64, 256, 1024, 8192] {
        for count in [1, 2, 3, 5, 8, 15, 16, 100, 128] {
            packs(size, count);
        }
    }
}

#[test]
fn what_a_batch_does_not_need_is_not_written() {
    let mut memory = [u128::MAX; 8 * 64 / 16];
    let base = memory.as_mut_ptr().cast::<Block>();
    // SAFETY: eight blocks of 64 bytes of our own.
    unsafe {
        let blocks: [*mut Block; 7] = core::array::from_fn(|i| base.add(4 * i));
        with_secret();
        let batch = Batch::of(blocks.as_ptr().add(6), 7, 64);
        assert_eq!(batch.count(), 7);
    }
    // The newest block names the six others.
    assert!(memory[..6 * 4].iter().all(|&word| word == u128::MAX));
    assert!(memory[6 * 4 + 4..].iter().all(|&word| word == u128::MAX));
}

/// Miri reports what it is there for: a read behind a batch's blocks. `.ci/run` asks for this test and expects it to fail.
#[cfg(miri)]
#[test]
fn a_planted_read_is_reported() {
    if std::env::var_os("MIRI_PLANT").is_some() {
        let memory = [0u128; 4];
        // SAFETY: not safe, on purpose.
        assert!(unsafe { memory.as_ptr().add(4).read() } == 0);
    }
}

/// Whichever address is damaged is found, and so is the block that names it.
#[test]
fn a_damaged_batch_is_not_followed() {
    with_secret();
    for (size, word, by) in [(16, 0, 7), (32, 2, 7), (32, 3, 5), (64, 4, 7), (64, 2, 6)] {
        let mut memory = [0u128; 4 * 8];
        let base = memory.as_mut_ptr().cast::<u8>();
        // SAFETY: eight blocks of our own.
        unsafe {
            let blocks: [*mut Block; 8] =
                core::array::from_fn(|i| base.add(size * i).cast::<Block>());
            let batch = Batch::of(blocks.as_ptr().add(7), 8, size);
            // A block's address is no secret, but what leads to it is.
            *blocks[by].cast::<usize>().add(word) = blocks[0] as usize;
            let mut out = [core::ptr::null_mut::<Block>(); 8];
            let are_blocks = |some: &[*mut Block], _| some.iter().all(|at| blocks.contains(at));
            let opened = batch.open(8, out.as_mut_ptr().add(7), size, are_blocks);
            assert_eq!(opened, Err(blocks[by]), "size {size}, word {word}");
        }
    }
}
