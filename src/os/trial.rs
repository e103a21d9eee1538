//! Tries one huge page. Whether the kernel grants them shows in what it maps, not in what it returns.

use super::achieved::huge_bytes;
use super::findings::{Topic, cause_of_small, listening, news};
use super::huge;
use super::mapping::{HUGE_PAGE, map_aligned, unmap};
use super::message::message;
use super::prefault::first_touch;
use super::sys;

/// Called before huge pages are requested: tries one, and says why if the kernel does not give it. No lock may be held.
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
    // SAFETY: mapped above, writable, and known to this function alone. Whether the advice had an effect shows in what was
    // mapped.
    let had = unsafe {
        let _ = huge::advise(map.addr, map.len);
        first_touch(map.addr);
        let had = huge_bytes(map.addr, map.len);
        let _ = unmap(map);
        had
    };
    // If the kernel does not say, nothing is reported.
    if had == Ok(0) {
        message!(
            "huge pages: 2 MiB asked for, none given, using OS pages: {}",
            cause_of_small()
        );
    }
}
