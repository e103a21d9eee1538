//! Where calls came from: the return addresses, each combination kept once, so that a record names it by number.
//!
//! Sites are entered under the store's lock and never change or go, so anybody may read one whose number it has.

use super::mode::{Mode, mode};
use crate::base::tuning::reports::CHECKED_CALLS;
use crate::base::tuning::sites::{CHAINS, CHUNK, CHUNKS};
use crate::os::stack;
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
            Mode::All => stack::capture_again(walks, place as usize, enter),
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
        enter(&frames)
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

/// The number of the site with these return addresses; 0 if there are none, or no room for them. The caller holds the store's
/// lock, which orders all writes here: Relaxed, but for what readers without it follow.
#[inline(never)]
fn enter(frames: &[usize; CHECKED_CALLS]) -> u32 {
    if frames[0] == 0 {
        return 0;
    }
    let mut hash = 0;
    for &frame in frames {
        hash = (hash ^ frame as u64)
            .wrapping_mul(0x9E37_79B9_7F4A_7C15)
            .rotate_left(23);
    }
    let hash = hash.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let chain = &CHAIN[(hash >> 54) as usize % CHAINS];
    let mut at = chain.load(Ordering::Relaxed);
    while let Some(site) = get(at) {
        if site.frames == *frames {
            return at;
        }
        at = site.next;
    }
    add(
        Site {
            next: chain.load(Ordering::Relaxed),
            frames: *frames,
        },
        chain,
    )
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
