//! Words in a row that are all the same.

use crate::base::tuning::checked::MANY_WORDS;

/// Words that are written or compared at a time.
const GROUP: usize = 4;

/// Makes each of the words up to `end` the same.
///
/// # Safety
/// They may be written.
#[inline(always)]
pub(super) unsafe fn fill(mut at: *mut u64, end: *mut u64, word: u64) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut left = end.offset_from(at) as usize;
        if left >= MANY_WORDS {
            return fill_many(at, left, word);
        }
        while left >= GROUP {
            at.cast::<[u64; GROUP]>().write([word; GROUP]);
            at = at.add(GROUP);
            left -= GROUP;
        }
        if left & 2 != 0 {
            at.cast::<[u64; 2]>().write([word; 2]);
            at = at.add(2);
        }
        if left & 1 != 0 {
            at.write(word);
        }
    }
}

/// As [`fill`].
///
/// # Safety
/// As there.
#[inline(never)]
unsafe fn fill_many(at: *mut u64, len: usize, word: u64) {
    // SAFETY: the caller's promise.
    unsafe { core::slice::from_raw_parts_mut(at, len) }.fill(word);
}

/// Not 0 if one of the words up to `end` is not `word`.
///
/// # Safety
/// They may be read.
#[inline(always)]
pub(super) unsafe fn differs(mut at: *mut u64, end: *mut u64, word: u64) -> u64 {
    // SAFETY: the caller's promise.
    unsafe {
        let mut left = end.offset_from(at) as usize;
        if left >= MANY_WORDS {
            return differ_many(at, left, word);
        }
        let mut wrong = 0;
        while left >= GROUP {
            wrong |= any(at.cast::<[u64; GROUP]>().read().map(|one| one ^ word));
            at = at.add(GROUP);
            left -= GROUP;
        }
        if left & 2 != 0 {
            let [one, other] = at.cast::<[u64; 2]>().read();
            wrong |= one ^ word | other ^ word;
            at = at.add(2);
        }
        if left & 1 != 0 {
            wrong |= at.read() ^ word;
        }
        wrong
    }
}

/// As [`differs`]: each word is compared with the one behind it, by the C library's memcmp.
///
/// # Safety
/// As there.
#[inline(never)]
unsafe fn differ_many(at: *mut u64, len: usize, word: u64) -> u64 {
    // SAFETY: the caller's promise.
    let words = unsafe { core::slice::from_raw_parts(at, len) };
    match words {
        [first, behind @ ..] if *first == word && words[..len - 1] == *behind => 0,
        _ => 1,
    }
}

#[inline(always)]
fn any<const N: usize>(words: [u64; N]) -> u64 {
    words.iter().fold(0, |any, &one| any | one)
}
