//! Whether memory was written, as far as its contents show.
//!
//! `mincore` calls resident what was only read: there lies the kernel's page of zeros. And once one byte of a huge page is written,
//! all of it is resident. So a sample has to hold something else than zeros. What a program filled with zeros seems unwritten;
//! it stays on OS pages.

use super::{mapping, sys, thread};

/// Bytes of a sample, at a multiple of as many. No OS page is smaller.
pub(crate) const SAMPLE: usize = 4096;
/// Bytes of it that are read at a time: most samples show something at once.
const PIECE: usize = 512;

/// How many parts were not written, up to `most`, of those that begin at `parts` and have `len` bytes each, a sample's worth or more.
/// One sample of each decides. Brings no memory in. If the kernel does not say, none was. Any thread may unmap the parts meanwhile.
#[inline(never)]
pub(crate) fn missing(most: usize, parts: impl Iterator<Item = usize>, len: usize) -> usize {
    // Not the process's number: once its first thread has ended, nothing is read by that.
    let own = thread::tid();
    let unwritten = parts.filter(|&part| !is_written(sample_of(part, len), own));
    unwritten.take(most).count()
}

/// Whether the kernel reads memory for a process. It has to for anything to seem written; an emulator may not.
#[cfg(test)]
pub(crate) fn is_told() -> bool {
    let byte = 0u8;
    let told = sys::peek(thread::tid(), (&raw const byte).addr(), &mut [0]).is_ok();
    if !told {
        std::eprintln!(
            "no process_vm_readv here: nothing seems written, and that is what was seen"
        );
    }
    told
}

/// Where the sample of a part begins. It looks random, so that what is written at regular distances is not hit always or never.
fn sample_of(part: usize, len: usize) -> usize {
    debug_assert!(len >= SAMPLE);
    // Fibonacci hashing.
    let hash = (part as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
    (part + hash as usize % len) & !(SAMPLE - 1)
}

fn is_written(sample: usize, own: u32) -> bool {
    if !mapping::is_resident(sample & !(sys::page_size() - 1)) {
        return false;
    }
    let mut bytes = [0; PIECE];
    for piece in (sample..sample + SAMPLE).step_by(PIECE) {
        if sys::peek(own, piece, &mut bytes).is_err() {
            return false;
        }
        if bytes != [0; PIECE] {
            return true;
        }
    }
    false
}
