//! libhakmem.so: the malloc family, C++'s operators new and delete, a `dlopen` that keeps both in charge, and an `unshare`
//! and a `setns` that find one thread where the program made no other, over hakmem-alloc, for programs that know nothing of
//! it.
//!
//! Every function is a forwarder; what it adds are the rules of glibc, which the programs were written against: which
//! argument is refused with which error, what `errno` says afterwards, what rounding is due. Nothing here has state or
//! a constructor, so that the first call may come from the dynamic loader before any initialiser has run.
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

mod aligned;
mod api;
mod basic;
mod cxx;
mod errno;
mod fault;
mod file;
mod foreign;
mod info;
mod internal;
mod namespaces;
mod open;
mod prefault;
mod tuning;

/// Bytes in an OS page.
fn os_page() -> usize {
    // SAFETY: a plain query, which answers from what the loader noted at start.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(size).unwrap_or(4096)
}
