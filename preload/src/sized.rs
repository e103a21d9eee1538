//! C++'s operators delete that name a size.
//!
//! The standard defines each as a call of the one without a size, which a program may have replaced. So each jumps there, and the
//! size is lost: a class without a virtual destructor that is deleted by its base names a wrong one, and runs with glibc. If every
//! block is checked, the size is checked, unless the program replaced an operator that takes part. The first call of each operator
//! finds out which way to go, and later ones pay nothing for it.

use core::arch::{asm, global_asm, naked_asm};
use core::ffi::c_void;
use core::sync::atomic::{AtomicPtr, Ordering::Relaxed};
use hakmem_alloc::raw;

// Names of our own operators that the loader does not decide on. Those in assembly have theirs in place.
global_asm!(
    ".globl hakmem_delete",
    ".hidden hakmem_delete",
    ".set hakmem_delete, _ZdlPv",
    ".globl hakmem_delete_aligned",
    ".hidden hakmem_delete_aligned",
    ".set hakmem_delete_aligned, _ZdlPvSt11align_val_t",
    ".globl hakmem_new_nothrow",
    ".hidden hakmem_new_nothrow",
    ".set hakmem_new_nothrow, _ZnwmRKSt9nothrow_t",
    ".globl hakmem_new_array_nothrow",
    ".hidden hakmem_new_array_nothrow",
    ".set hakmem_new_array_nothrow, _ZnamRKSt9nothrow_t",
    ".globl hakmem_new_aligned_nothrow",
    ".hidden hakmem_new_aligned_nothrow",
    ".set hakmem_new_aligned_nothrow, _ZnwmSt11align_val_tRKSt9nothrow_t",
    ".globl hakmem_new_array_aligned_nothrow",
    ".hidden hakmem_new_array_aligned_nothrow",
    ".set hakmem_new_array_aligned_nothrow, _ZnamSt11align_val_tRKSt9nothrow_t",
);

extern "C" fn plain(block: *mut u8, size: usize) {
    // SAFETY: what the program promises of a delete.
    unsafe { raw::dealloc_sized(block, size, 16) }
}

extern "C" fn aligned(block: *mut u8, size: usize, align: usize) {
    // SAFETY: as above; new was given this alignment.
    unsafe { raw::dealloc_sized(block, size, align.max(16)) }
}

/// The operator that the loader found for the name, and whether it is ours.
macro_rules! found {
    ($name:literal, $ours:literal) => {{
        let (found, ours): (*mut c_void, *mut c_void);
        // SAFETY: reads a word that the loader wrote before any code of this library ran.
        unsafe {
            asm!(
                concat!("mov {}, [rip + ", $name, "@GOTPCREL]"),
                concat!("lea {}, [rip + ", $ours, "]"),
                out(reg) found,
                out(reg) ours,
                options(pure, readonly, nostack, preserves_flags)
            )
        };
        (found, found == ours)
    }};
}

/// Where each operator goes on: at first to find out. Threads that find out at once find the same: Relaxed.
static WAYS: [AtomicPtr<c_void>; 4] = [
    AtomicPtr::new(first_plain as *mut c_void),
    AtomicPtr::new(first_array as *mut c_void),
    AtomicPtr::new(first_aligned as *mut c_void),
    AtomicPtr::new(first_array_aligned as *mut c_void),
];

/// Where operator `number` is to go on.
extern "C" fn way(number: usize) -> *mut c_void {
    let (delete, is_delete) = found!("_ZdlPv", "hakmem_delete");
    let (array, is_array) = found!("_ZdaPv", "hakmem_delete_array");
    let (delete_aligned, is_aligned) = found!("_ZdlPvSt11align_val_t", "hakmem_delete_aligned");
    let (array_aligned, is_array_aligned) =
        found!("_ZdaPvSt11align_val_t", "hakmem_delete_array_aligned");
    // What is deleted may come from somebody else's new, which asks for other sizes.
    let is_new =
        found!("_Znwm", "hakmem_new").1 && found!("_ZnwmRKSt9nothrow_t", "hakmem_new_nothrow").1;
    let is_new_array = is_new
        && found!("_Znam", "hakmem_new_array").1
        && found!("_ZnamRKSt9nothrow_t", "hakmem_new_array_nothrow").1;
    let is_new_aligned = found!("_ZnwmSt11align_val_t", "hakmem_new_aligned").1
        && found!(
            "_ZnwmSt11align_val_tRKSt9nothrow_t",
            "hakmem_new_aligned_nothrow"
        )
        .1;
    let is_new_array_aligned = is_new_aligned
        && found!("_ZnamSt11align_val_t", "hakmem_new_array_aligned").1
        && found!(
            "_ZnamSt11align_val_tRKSt9nothrow_t",
            "hakmem_new_array_aligned_nothrow"
        )
        .1;
    let (plain, aligned) = (plain as *mut c_void, aligned as *mut c_void);
    let (checking, other, is_ours) = match number {
        0 => (plain, delete, is_delete && is_new),
        1 => (plain, array, is_array && is_delete && is_new_array),
        2 => (aligned, delete_aligned, is_aligned && is_new_aligned),
        _ => (
            aligned,
            array_aligned,
            is_array_aligned && is_aligned && is_new_array_aligned,
        ),
    };
    let way = match raw::checks_each_block() {
        // There is no block yet.
        None => return other,
        Some(true) if is_ours => checking,
        Some(_) => other,
    };
    if let Some(kept) = WAYS.get(number) {
        kept.store(way, Relaxed);
    }
    way
}

macro_rules! sized {
    ($($function:ident $name:literal, $first:ident, number $number:literal;)*) => {$(
        #[doc = concat!("`", $name, "`, whose block is its first argument.")]
        #[unsafe(naked)]
        #[unsafe(export_name = $name)]
        pub unsafe extern "C" fn $function(block: *mut c_void) {
            naked_asm!(
                concat!(".cfi_startproc\njmp qword ptr [rip + {ways} + 8 * ", $number, "]\n.cfi_endproc"),
                ways = sym WAYS,
            )
        }

        /// Finds the way, with the arguments unchanged, and goes on there.
        #[unsafe(naked)]
        extern "C" fn $first() {
            naked_asm!(
                concat!(
                    ".cfi_startproc\n",
                    "push rdi\n.cfi_adjust_cfa_offset 8\n",
                    "push rsi\n.cfi_adjust_cfa_offset 8\n",
                    "push rdx\n.cfi_adjust_cfa_offset 8\n",
                    "mov edi, ", $number, "\n",
                    "call {way}\n",
                    "pop rdx\n.cfi_adjust_cfa_offset -8\n",
                    "pop rsi\n.cfi_adjust_cfa_offset -8\n",
                    "pop rdi\n.cfi_adjust_cfa_offset -8\n",
                    "jmp rax\n",
                    ".cfi_endproc",
                ),
                way = sym way,
            )
        }
    )*};
}

sized! {
    delete_sized "_ZdlPvm", first_plain, number 0;
    delete_array_sized "_ZdaPvm", first_array, number 1;
    delete_sized_aligned "_ZdlPvmSt11align_val_t", first_aligned, number 2;
    delete_array_sized_aligned "_ZdaPvmSt11align_val_t", first_array_aligned, number 3;
}
