//! What programs ask of the allocator as a whole.

use core::ffi::c_int;

/// `malloc_trim`: gives memory back to the system; 1 if there was any. The padding glibc keeps at the top of its heap
/// has no counterpart.
#[unsafe(no_mangle)]
pub extern "C" fn malloc_trim(_pad: usize) -> c_int {
    (crate::api::purge() > 0).into()
}

/// glibc's parameter with a bounded value: the largest size of its quickest bins.
const M_MXFAST: c_int = 1;
const MXFAST_MAX: c_int = 160;

/// `mallopt`. The parameters name parts of glibc's allocator, so that nothing changes here; values are accepted and
/// refused as glibc does, as programs look at the answer.
#[unsafe(no_mangle)]
pub extern "C" fn mallopt(param: c_int, value: c_int) -> c_int {
    match param {
        M_MXFAST => (0..=MXFAST_MAX).contains(&value).into(),
        _ => 1,
    }
}
