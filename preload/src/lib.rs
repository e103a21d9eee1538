//! libhakmem.so: hakmem-alloc for programs that know nothing of it.
//!
//! The malloc family is hakmem-alloc's own, by its feature `malloc`. This library adds C++'s operators new and delete; a
//! `dlopen` that keeps opened libraries on the same allocator; an `unshare`, a `setns` and a `fork` that work although the allocator
//! may run a thread; and the functions of `hakmem.h`. Like the family, none of it needs a constructor to have run.
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

// So that cargo links again when the order of the code changes.
const _: &[u8] = include_bytes!("../order.ld");

mod api;
// Both forward through the dynamic loader, which a static program does not have.
#[cfg(not(feature = "static"))]
mod cxx;
mod fault;
#[cfg(not(feature = "static"))]
mod fork;
mod namespaces;
#[cfg(not(feature = "static"))]
mod open;
mod prefault;
#[cfg(not(feature = "static"))]
mod sized;
mod start;

/// Bytes in an OS page.
fn os_page() -> usize {
    // SAFETY: a plain query, answered from what the kernel wrote at start.
    match unsafe { libc::getauxval(libc::AT_PAGESZ) } as usize {
        0 => 4096,
        size => size,
    }
}

/// Sets `errno` of this thread.
fn set_errno(value: i32) {
    // SAFETY: the C library's own location.
    unsafe { *libc::__errno_location() = value };
}
