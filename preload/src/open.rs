//! `dlopen` and `dlmopen` without RTLD_DEEPBIND.
//!
//! A library that is opened with this flag looks for names in its own libraries first, and finds glibc's `malloc` in
//! front of ours. Blocks that it gives to the program, or the program to it, would reach the wrong `free`. So the flag is
//! dropped, unless `HAKMEM_DEEPBIND=1` keeps it. In a namespace of its own (`dlmopen`) a library has a C library of its
//! own as well, and the flag stays.
//!
//! The loader takes the return address of `dlopen` for the library that asks: whose RUNPATH counts, what $ORIGIN is, and
//! which namespace. So the functions here are a few instructions each, which leave the arguments and the return address as
//! they were and *jump* to the real function.

use core::arch::naked_asm;
use core::ffi::{CStr, c_char, c_int, c_void};
use core::ptr;
use hakmem_alloc::raw;

/// What to jump to, and the flags to go there with. Returned in `rax` and `rdx`.
#[repr(C)]
struct Onward {
    real: *const c_void,
    mode: c_int,
}

extern "C" fn answer_null() -> *mut c_void {
    ptr::null_mut()
}

fn onward(name: &CStr, mode: c_int, drop: bool) -> Onward {
    // SAFETY: the next definition behind this library in the program's search order: the C library's, or another
    // library's that stands in for it.
    let mut real = unsafe { libc::dlsym(libc::RTLD_NEXT, name.as_ptr()) }.cast_const();
    if real.is_null() {
        // The program called a function that nobody has but us.
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
    // Lmid_t LM_ID_BASE
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
