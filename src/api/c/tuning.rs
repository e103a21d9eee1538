//! Calls that concern the allocator as a whole.

use core::ffi::c_int;

/// `malloc_trim`: gives memory back to the system and returns 1 if any went. glibc's padding at the top of its heap has no
/// counterpart.
#[unsafe(no_mangle)]
pub extern "C" fn malloc_trim(_pad: usize) -> c_int {
    (crate::api::purge() > 0).into()
}

/// The one parameter of glibc's whose value is bounded: the largest size of its fast bins.
const M_MXFAST: c_int = 1;
const MXFAST_MAX: c_int = 160;

/// `mallopt`. Its parameters name parts of glibc's allocator, so nothing changes. Values are accepted and refused as by glibc,
/// because programs check the result.
#[unsafe(no_mangle)]
pub extern "C" fn mallopt(param: c_int, value: c_int) -> c_int {
    match param {
        M_MXFAST => (0..=MXFAST_MAX).contains(&value).into(),
        _ => 1,
    }
}
