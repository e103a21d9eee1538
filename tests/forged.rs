//! Words written to freed blocks make the allocator give out no block that is in use, and nothing that is none.
//!
//! Behaviours imitated:
//! - a write after free, of a number, of the address of a block in use or near it, wherever the allocator has a word of its own.

mod common;

use common::blocks::{alloc, free};
use common::child::{self, Child};
use hakmem_alloc::Hakmem;

#[global_allocator]
static HAKMEM: Hakmem = Hakmem::new();

/// What a forked child of the test does: writes one word to a freed block, and then allocates. Returns whether a block came
/// out twice, or one that is in use, or none at all.
fn forge(round: u64, words: &[usize], freed: usize, live: &[usize], size: usize) -> bool {
    let mut state = round;
    let mut random = || {
        // SplitMix64.
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (state ^ state >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ mixed >> 31
    };
    // The first of all is a control: it writes nothing.
    let word = words[random() as usize % words.len()] as *mut u64;
    let other = live[random() as usize % live.len()] as u64;
    // SAFETY: none: a write to freed memory, which stays.
    unsafe {
        word.write(match random() % 5 {
            _ if round == 0 => word.read(),
            0 => random(),
            1 => other,
            2 => other + 8,
            3 => other | random() << 48,
            _ => random() % 1000,
        });
    }
    let mut seen: Vec<usize> = live.to_vec();
    seen.extend((0..freed + 100).map(|_| alloc(size)));
    seen.sort_unstable();
    seen.windows(2).any(|pair| pair[1] - pair[0] < size)
}

#[test]
fn no_written_word_makes_a_block() {
    const TEST: &str = "no_written_word_makes_a_block";
    // As many by hand: `FORGED_ROUNDS=10000`.
    let rounds: u64 = std::env::var("FORGED_ROUNDS").map_or(300, |rounds| rounds.parse().unwrap());
    let Some(case) = child::case() else {
        for size in [16, 48, 64, 256, 512] {
            let ended = Child::of(TEST, &size.to_string()).run();
            let ended = ended.success();
            assert_eq!(ended.value::<u64>("bad"), 0, "of {size} bytes");
            // Most words are left from lists that were opened since; it would all be for nothing if none were read again.
            assert!(
                ended.value::<u64>("noticed") > 0,
                "of {size} bytes: {ended:?}"
            );
        }
        return;
    };
    let size = case.parse().expect("a size");
    let blocks = (0..1200).map(|_| alloc(size)).collect::<Vec<_>>();
    let (freed, live): (Vec<_>, Vec<_>) = blocks.iter().partition(|&&block| block / size % 4 == 0);
    let freed: Vec<usize> = freed;
    let all_words = || {
        freed
            .iter()
            .flat_map(|&block| (block..block + size).step_by(8))
    };
    // SAFETY: in use, and once they are freed their memory stays, as their slabs have blocks in use.
    let written: Vec<usize> = unsafe {
        all_words().for_each(|word| (word as *mut u64).write(!0));
        freed.iter().for_each(|&block| free(block));
        all_words()
            .filter(|&word| (word as *const u64).read() != !0)
            .collect()
    };
    assert!(
        !written.is_empty(),
        "the allocator has words in some of them"
    );
    let (mut bad, mut noticed) = (0u64, 0u64);
    for round in 0..rounds {
        // SAFETY: the child calls nothing that another thread may have been in the middle of but the allocator.
        let pid = unsafe { libc::fork() };
        assert!(pid >= 0);
        if pid == 0 {
            // SAFETY: ends the child here; its message would be one of hundreds.
            unsafe {
                libc::close(2);
                libc::_exit(i32::from(forge(round, &written, freed.len(), &live, size)));
            }
        }
        let mut status = 0;
        // SAFETY: our own child.
        assert_eq!(unsafe { libc::waitpid(pid, &mut status, 0) }, pid);
        match libc::WIFSIGNALED(status) {
            true if round == 0 => bad += 1,
            true if libc::WTERMSIG(status) == libc::SIGABRT => noticed += 1,
            false if libc::WEXITSTATUS(status) == 0 => {}
            _ => bad += 1,
        }
    }
    child::report("bad", bad);
    child::report("noticed", noticed);
}
