//! libhakmem.so: the malloc family, C++'s operators new and delete, a `dlopen` that keeps both in charge, and an `unshare`
//! and a `setns` that find one thread where the program made no other, over hakmem-alloc, for programs that know nothing of
//! it.
//!
//! The malloc family itself is hakmem-alloc's, by its feature `malloc`. Like it, what is added here has no state and no
//! constructor.
#![no_std]
#![deny(
    missing_docs,
    unsafe_op_in_unsafe_fn,
    clippy::undocumented_unsafe_blocks
)]

#[cfg(not(all(target_arch = "x86_64", target_env = "gnu")))]
compile_error!(
    "libhakmem.so is built for x86_64 with glibc: its operators new are written in x86_64 assembly and its rules are glibc's"
);

// Cargo links anew when the order of the code changes.
const _: &[u8] = include_bytes!("../order.ld");

mod api;
// These two go on by the dynamic loader, which a static program has not.
#[cfg(not(feature = "static"))]
mod cxx;
mod fault;
mod namespaces;
#[cfg(not(feature = "static"))]
mod open;
mod prefault;

/// Bytes in an OS page.
fn os_page() -> usize {
    // SAFETY: a plain query, which answers from what the loader noted at start.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(size).unwrap_or(4096)
}

/// Sets `errno` of this thread.
fn set_errno(value: i32) {
    // SAFETY: the C library's own location.
    unsafe { *libc::__errno_location() = value };
}
