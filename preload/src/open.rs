//! `dlopen` and `dlmopen` without RTLD_DEEPBIND.
//!
//! A library opened with this flag searches its own libraries for names first, and finds glibc's `malloc` before ours. A block
//! that it passes to the program, or the program to it, would reach the wrong `free`. So the flag is dropped, unless
//! `HAKMEM_DEEPBIND=1` keeps it. In another namespace (`dlmopen`) a library has its own C library too, so the flag stays.
//!
//! The loader identifies the calling library by the return address of `dlopen`: its RUNPATH counts, $ORIGIN is its directory,
//! and its namespace is used. So the functions here are a few instructions each, which keep the arguments and the return
//! address and *jump* to the real function.

use core::arch::naked_asm;
use core::ffi::{CStr, c_char, c_int, c_void};
use core::ptr;
use hakmem_alloc::raw;

/// Where to jump, and with which flags. Returned in `rax` and `rdx`.
#[repr(C)]
struct Onward {
    real: *const c_void,
    mode: c_int,
}

extern "C" fn answer_null() -> *mut c_void {
    ptr::null_mut()
}

/// The next definition of a function after this library's in the search order: the C library's, or that of another library that
/// replaces it. Null if there is none.
pub(crate) fn next(name: &CStr) -> *mut c_void {
    // SAFETY: a plain question to the loader.
    unsafe { libc::dlsym(libc::RTLD_NEXT, name.as_ptr()) }
}

fn onward(name: &CStr, mode: c_int, drop: bool) -> Onward {
    let mut real = next(name).cast_const();
    if real.is_null() {
        // No other object defines the function that the program called.
        real = answer_null as *const c_void;
    }
    let drop = drop && mode & libc::RTLD_DEEPBIND != 0 && raw::drops_deepbind();
    Onward {
        real,
        mode: if drop {
            mode & !libc::RTLD_DEEPBIND
        } else {
            mode
        },
    }
}

extern "C" fn open(mode: c_int) -> Onward {
    onward(c"dlopen", mode, true)
}

extern "C" fn open_in(namespace: libc::c_long, mode: c_int) -> Onward {
    // 0 is LM_ID_BASE.
    onward(c"dlmopen", mode, namespace == 0)
}

/// `void *dlopen(const char *file, int mode)`
///
/// # Safety
/// As there.
#[unsafe(naked)]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dlopen(file: *const c_char, mode: c_int) -> *mut c_void {
    naked_asm!(
        ".cfi_startproc",
        "endbr64",
        "push rdi\n.cfi_adjust_cfa_offset 8",
        "sub rsp, 16\n.cfi_adjust_cfa_offset 16",
        "mov edi, esi",
        "call {open}",
        "add rsp, 16\n.cfi_adjust_cfa_offset -16",
        "pop rdi\n.cfi_adjust_cfa_offset -8",
        "mov esi, edx",
        "jmp rax",
        ".cfi_endproc",
        open = sym open,
    )
}

/// `void *dlmopen(Lmid_t namespace, const char *file, int mode)`
///
/// # Safety
/// As there.
#[unsafe(naked)]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dlmopen(
    namespace: libc::c_long,
    file: *const c_char,
    mode: c_int,
) -> *mut c_void {
    naked_asm!(
        ".cfi_startproc",
        "endbr64",
        "push rdi\n.cfi_adjust_cfa_offset 8",
        "push rsi\n.cfi_adjust_cfa_offset 8",
        "sub rsp, 8\n.cfi_adjust_cfa_offset 8",
        "mov esi, edx",
        "call {open_in}",
        "add rsp, 8\n.cfi_adjust_cfa_offset -8",
        "pop rsi\n.cfi_adjust_cfa_offset -8",
        "pop rdi\n.cfi_adjust_cfa_offset -8",
        "jmp rax",
        ".cfi_endproc",
        open_in = sym open_in,
    )
}
