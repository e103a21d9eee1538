//! The malloc family under its C names: the feature `malloc`.
//!
//! Every function forwards. It adds the rules of glibc, which programs were written against: which argument is refused with
//! which error, what `errno` is afterwards, how sizes are rounded. Nothing here has state or needs a constructor to have run,
//! so the first call may come from the dynamic loader before any initialiser.

mod aligned;
mod basic;
mod errno;
pub(crate) mod file;
#[cfg(target_env = "gnu")]
mod foreign;
#[cfg(target_env = "gnu")]
mod info;
#[cfg(target_env = "gnu")]
mod internal;
mod tuning;

/// Bytes in an OS page.
fn os_page() -> usize {
    crate::os::sys::page_size()
}
