//! Where calls came from: the return addresses, each combination kept once, so that a record names it by number.
//!
//! Sites are entered under the store's lock and never change or go, so anybody may read one whose number it has.

use super::mode::{Mode, mode};
use crate::base::tuning::reports::CHECKED_CALLS;
use crate::base::tuning::sites::{CHAINS, CHUNK, CHUNKS};
use crate::os::stack::{self, OF_ANOTHER};
use crate::os::sys::ErrnoGuard;
use crate::os::walked::Walks;
use crate::slab::meta;
use core::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

/// A call of the program that is being served.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    pub(super) thread: u32,
    /// Its number; 0 if it is not known.
    pub(super) site: u32,
}

/// What the program calls. Each is served by one function, as far as the stack is concerned.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place {
    Alloc,
    Sample,
    Free,
    Resize,
}

impl Call {
    /// The one that leads here, by the thread of that number. The caller holds the store's lock, and `walks` are the store's.
    #[inline(always)]
    pub(super) fn here(thread: u32, walks: &mut Walks, place: Place) -> Call {
        let site = match mode() {
            // Most calls come from where others came from.
            Mode::All => stack::capture_again(walks, place as usize, known, enter),
            _ => Call::once(),
        };
        Call { thread, site }
    }

    /// As [`Call::here`], for a place that is not worth a copy of it.
    #[inline(never)]
    pub(super) fn here_shared(thread: u32, walks: &mut Walks, place: Place) -> Call {
        Call::here(thread, walks, place)
    }

    #[inline(never)]
    fn once() -> u32 {
        let _errno = ErrnoGuard::new();
        let mut frames = [0; CHECKED_CALLS];
        stack::capture(&mut frames);
        match known(&frames, CHECKED_CALLS) {
            0 => enter(&frames, CHECKED_CALLS),
            number => number,
        }
    }

    #[cfg(test)]
    pub(super) fn by(thread: u32) -> Call {
        Call { thread, site: 0 }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub(super) struct Site {
    /// The next of its chain.
    next: u32,
    pub(super) frames: [usize; CHECKED_CALLS],
}

const WORDS: usize = size_of::<Site>() / size_of::<u64>();

/// Site `n`, from 1, is in chunk `(n - 1) / CHUNK`.
static CHUNK_AT: [AtomicPtr<Site>; CHUNKS] =
    [const { AtomicPtr::new(core::ptr::null_mut()) }; CHUNKS];
static CHAIN: [AtomicU32; CHAINS] = [const { AtomicU32::new(0) }; CHAINS];
static COUNT: AtomicU32 = AtomicU32::new(0);

/// The chain of the sites whose `told` newest return addresses are these.
#[inline]
fn chain(frames: &[usize; CHECKED_CALLS], told: usize) -> &'static AtomicU32 {
    let mut hash = 0;
    for &frame in &frames[..told] {
        hash = (hash ^ frame as u64)
            .wrapping_mul(0x9E37_79B9_7F4A_7C15)
            .rotate_left(23);
    }
    let hash = hash.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    &CHAIN[(hash >> 48) as usize % CHAINS]
}

/// The number of the site with these return addresses, of which the `told` newest tell it from others; 0 if there is none. The
/// caller holds the store's lock, which orders all writes here: Relaxed, but for what readers without it follow.
#[inline(never)]
fn known(frames: &[usize; CHECKED_CALLS], told: usize) -> u32 {
    let mut at = chain(frames, told).load(Ordering::Relaxed);
    while let Some(site) = get(at) {
        let pairs = site.frames.iter().zip(frames).take(told);
        if pairs.fold(0, |wrong, (one, other)| wrong | (one ^ other)) == 0 {
            return at;
        }
        at = site.next;
    }
    0
}

/// Enters a site that is not [`known`], and returns its number; 0 if it has no calls, or if there is no room for it.
#[cold]
#[inline(never)]
fn enter(frames: &[usize; CHECKED_CALLS], told: usize) -> u32 {
    if frames[0] == 0 {
        return 0;
    }
    let mut frames = *frames;
    let older = frames[told..].iter_mut().filter(|frame| **frame != 0);
    older.for_each(|frame| *frame |= OF_ANOTHER);
    let chain = chain(&frames, told);
    let next = chain.load(Ordering::Relaxed);
    add(Site { next, frames }, chain)
}

#[cold]
fn add(site: Site, chain: &AtomicU32) -> u32 {
    let count = COUNT.load(Ordering::Relaxed) as usize;
    // Where some blocks are checked, all that belongs to them has its bound.
    let chunks = if mode() == Mode::All { CHUNKS } else { 1 };
    let Some(place) = CHUNK_AT
        .get(count / CHUNK)
        .filter(|_| count < chunks * CHUNK)
    else {
        return 0;
    };
    let mut chunk = place.load(Ordering::Relaxed);
    if chunk.is_null() {
        let Some(new) = meta::allocate_lines(CHUNK * WORDS) else {
            return 0;
        };
        chunk = new.as_ptr().cast();
        place.store(chunk, Ordering::Relaxed);
    }
    // SAFETY: the chunk has so many places, and the caller is alone in writing to this one.
    unsafe { chunk.add(count % CHUNK).write(site) };
    let number = count as u32 + 1;
    // Release: pairs with the Acquire in `get`. Who has the number finds chunk and site.
    COUNT.store(number, Ordering::Release);
    chain.store(number, Ordering::Relaxed);
    number
}

/// The site of this number.
#[inline]
pub(super) fn get(number: u32) -> Option<&'static Site> {
    // Acquire: see `add`.
    if number == 0 || number > COUNT.load(Ordering::Acquire) {
        return None;
    }
    let at = number as usize - 1;
    let chunk = CHUNK_AT.get(at / CHUNK)?.load(Ordering::Relaxed);
    // SAFETY: sites up to the count are written, and stay.
    Some(unsafe { &*chunk.add(at % CHUNK) })
}
