//! What blocks are filled with, so that a byte that moved, vanished or came from another block is noticed.
//!
//! The content of a block with tag `t` is a window of one table of random bytes, starting at `t`. The table's length
//! is a prime, so that no power-of-two shift of a block maps it onto itself. Filling and checking are memcpy and
//! memcmp: quick in debug builds too. Blocks above 1 MiB are filled at both ends and in strips between.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use std::ops::Range;
use std::sync::OnceLock;

const PERIOD: usize = 65_521;
const END: usize = 64 << 10;
const STRIP: usize = 256;
const WHOLE: usize = 1 << 20;

fn table() -> &'static [u8] {
    static TABLE: OnceLock<Vec<u8>> = OnceLock::new();
    TABLE.get_or_init(|| {
        let mut bytes = vec![0; PERIOD];
        SmallRng::seed_from_u64(0x5EED).fill_bytes(&mut bytes);
        bytes.extend_from_within(..);
        bytes
    })
}

/// The parts of a block of `size` bytes that are filled and checked.
fn parts(size: usize) -> impl Iterator<Item = Range<usize>> {
    let whole = size <= WHOLE;
    let first = if whole { 0..size } else { 0..END };
    let last = if whole { 0..0 } else { size - END..size };
    let strips = if whole { 0..0 } else { 1..size / END - 1 };
    std::iter::once(first)
        .chain(strips.map(|i| i * END..i * END + STRIP))
        .chain(std::iter::once(last))
}

/// Cuts a range into pieces that lie in the doubled table without wrapping.
fn pieces(range: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    range
        .clone()
        .step_by(PERIOD)
        .map(move |start| start..range.end.min(start + PERIOD))
}

/// Fills `size` bytes at `ptr`.
///
/// # Safety
/// `ptr` is valid for writes of `size` bytes.
pub unsafe fn fill(ptr: *mut u8, size: usize, tag: u64) {
    let table = table();
    for piece in parts(size).flat_map(pieces) {
        let at = ((tag % PERIOD as u64) as usize + piece.start) % PERIOD;
        // SAFETY: the piece lies within the block.
        let target = unsafe { std::slice::from_raw_parts_mut(ptr.add(piece.start), piece.len()) };
        target.copy_from_slice(&table[at..at + piece.len()]);
    }
}

/// Compares the first `len` of the `size` bytes filled at `ptr` and names the first that differs.
///
/// # Safety
/// `ptr` is valid for reads of `len` bytes, and `len <= size`.
pub unsafe fn check(ptr: *const u8, size: usize, len: usize, tag: u64) -> Result<(), String> {
    let table = table();
    for mut piece in parts(size).flat_map(pieces) {
        piece.end = piece.end.min(len);
        if piece.is_empty() {
            continue;
        }
        let at = ((tag % PERIOD as u64) as usize + piece.start) % PERIOD;
        // SAFETY: the piece lies within the first `len` bytes.
        let found = unsafe { std::slice::from_raw_parts(ptr.add(piece.start), piece.len()) };
        let wanted = &table[at..at + piece.len()];
        if found != wanted {
            let i = found
                .iter()
                .zip(wanted)
                .position(|(f, w)| f != w)
                .expect("they differ");
            let (got, want) = (found[i], wanted[i]);
            return Err(format!(
                "content: byte {} is {got:#04x}, {want:#04x} was written",
                piece.start + i
            ));
        }
    }
    Ok(())
}

/// Names the first byte that is not zero; above 4 MiB both ends and a strip per 64 KiB are read.
///
/// # Safety
/// `ptr` is valid for reads of `size` bytes.
pub unsafe fn check_zero(ptr: *const u8, size: usize) -> Result<(), String> {
    let (whole, strips) = if size <= 4 << 20 {
        (size, 0)
    } else {
        (0, size)
    };
    let parts = std::iter::once(0..whole).chain(parts(strips));
    for part in parts.filter(|p| !p.is_empty()) {
        // SAFETY: the part lies within the block.
        let found = unsafe { std::slice::from_raw_parts(ptr.add(part.start), part.len()) };
        if found[0] != 0 || found[1..] != found[..found.len() - 1] {
            let i = found
                .iter()
                .position(|&b| b != 0)
                .expect("some byte is not zero");
            return Err(format!(
                "zeroing: byte {} of {size} is {:#04x}",
                part.start + i,
                found[i]
            ));
        }
    }
    Ok(())
}
