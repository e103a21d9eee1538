//! One huge page, tried out: whether the kernel gives them is seen from what is had, not from what it answers.

use super::achieved::huge_bytes;
use super::findings::{Topic, cause_of_small, listening, news};
use super::huge;
use super::mapping::{HUGE_PAGE, map_aligned, unmap};
use super::message::message;
use super::prefault::first_touch;
use super::sys;

/// Huge pages are about to be asked for: tries one, and says why if it is not had. Call it with no lock held.
pub(crate) fn huge_pages_wished() {
    if listening(Topic::HugePages) {
        sys::preserve_errno(try_one);
    }
}

#[cold]
fn try_one() {
    if !news(Topic::HugePages) {
        return;
    }
    let Ok(map) = map_aligned(HUGE_PAGE, HUGE_PAGE, None) else {
        return;
    };
    // SAFETY: mapped above, writable, and seen by nobody else. What advice is worth is seen from what is had.
    let had = unsafe {
        let _ = huge::advise(map.addr, map.len);
        first_touch(map.addr);
        let had = huge_bytes(map.addr, map.len);
        let _ = unmap(map);
        had
    };
    // Where the kernel does not say, nothing is claimed.
    if had == Ok(0) {
        message!(
            "huge pages: 2 MiB asked for, none given, using OS pages: {}",
            cause_of_small()
        );
    }
}
