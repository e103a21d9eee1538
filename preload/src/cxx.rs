//! C++'s operators new and delete.
//!
//! If memory is available, a block is a block of `malloc`. If it is not, C++ demands the new-handler and then an exception.
//! Rust frames must not be unwound, so neither is called from here: the wrappers below are a few instructions each, and on
//! failure they *jump*, with their arguments and their caller's return address, to the operator of the program's own C++
//! library, which tries `malloc` again, calls the handler and throws.
//!
//! A program may replace some operators and not others, and the standard says which default calls which. So each call of one
//! operator by another goes through the table of the dynamic loader and finds the replacement.

use crate::open;
use core::arch::naked_asm;
use core::ffi::{CStr, c_void};
use core::mem::MaybeUninit;
use core::ptr;
use hakmem_alloc::raw;

extern "C" fn plain(size: usize) -> *mut u8 {
    raw::alloc(size, 16)
}

extern "C" fn aligned(size: usize, align: usize) -> *mut u8 {
    if align.is_power_of_two() {
        raw::alloc(size, align.max(16))
    } else {
        ptr::null_mut()
    }
}

/// The operators that can fail, by the numbers that the wrappers use.
static NAMES: [&CStr; 6] = [
    c"_Znwm",
    c"_ZnwmSt11align_val_t",
    c"_ZnwmRKSt9nothrow_t",
    c"_ZnwmSt11align_val_tRKSt9nothrow_t",
    c"_ZnamRKSt9nothrow_t",
    c"_ZnamSt11align_val_tRKSt9nothrow_t",
];
/// Operators from this number on return null on failure.
const FIRST_NOTHROW: usize = 2;

extern "C" fn answer_null() -> *mut c_void {
    ptr::null_mut()
}

/// The C++ library's version of operator `number`, for a call from `caller` that found no memory.
extern "C" fn elsewhere(number: usize, caller: *const c_void) -> *const c_void {
    let name = NAMES[number];
    let mut found = open::next(name);
    if found.is_null() {
        found = from_callers_libraries(name, caller);
    }
    if !found.is_null() {
        return found;
    }
    if number >= FIRST_NOTHROW {
        return answer_null as *const c_void;
    }
    raw::fatal(format_args!(
        "out of memory in operator new, and no C++ library is loaded that could throw std::bad_alloc; aborting"
    ))
}

/// If a program in C has loaded a plug-in in C++, only the plug-in can see the C++ library.
#[cold]
fn from_callers_libraries(name: &CStr, caller: *const c_void) -> *mut c_void {
    let mut info = MaybeUninit::<libc::Dl_info>::zeroed();
    // SAFETY: plain queries. The handle is closed, and its object stays because the caller's code runs in it.
    unsafe {
        if libc::dladdr(caller, info.as_mut_ptr()) == 0 {
            return ptr::null_mut();
        }
        let file = info.assume_init().dli_fname;
        let handle = libc::dlopen(file, libc::RTLD_LAZY | libc::RTLD_NOLOAD);
        if handle.is_null() {
            return ptr::null_mut();
        }
        let found = libc::dlsym(handle, name.as_ptr());
        libc::dlclose(handle);
        found
    }
}

/// Jumps to `elsewhere(number)` with the three argument registers and the return address unchanged.
macro_rules! jump_elsewhere {
    ($number:literal) => {
        concat!(
            "push rdi\n.cfi_adjust_cfa_offset 8\n",
            "push rsi\n.cfi_adjust_cfa_offset 8\n",
            "push rdx\n.cfi_adjust_cfa_offset 8\n",
            "mov edi, ",
            $number,
            "\nmov rsi, [rsp + 24]\n",
            "call {elsewhere}\n",
            "pop rdx\n.cfi_adjust_cfa_offset -8\n",
            "pop rsi\n.cfi_adjust_cfa_offset -8\n",
            "pop rdi\n.cfi_adjust_cfa_offset -8\n",
            "jmp rax\n",
            ".cfi_endproc",
        )
    };
}

/// Jumps on if the program's operator `$theirs` is not `$ours`, because it was replaced.
macro_rules! unless_replaced {
    ($theirs:literal, $ours:literal) => {
        concat!(
            "mov rax, [rip + ",
            $theirs,
            "@GOTPCREL]\n",
            "lea rcx, [rip + ",
            $ours,
            "]\n",
            "cmp rax, rcx\n",
            "jne 2f\n",
        )
    };
}

/// A second, hidden name for this place: the loader decides on the addresses of exported names.
macro_rules! hidden_name {
    ($name:literal) => {
        concat!(
            ".globl ",
            $name,
            "\n.hidden ",
            $name,
            "\n",
            $name,
            ":\n",
            ".cfi_startproc\n"
        )
    };
}

macro_rules! take_plain {
    () => {
        concat!(
            "push rdi\n.cfi_adjust_cfa_offset 8\n",
            "call {take}\n",
            "pop rdi\n.cfi_adjust_cfa_offset -8\n",
            "test rax, rax\n",
            "je 2f\n",
            "ret\n",
            "2:\n",
        )
    };
}

macro_rules! take_saving_two {
    () => {
        concat!(
            "push rdi\n.cfi_adjust_cfa_offset 8\n",
            "push rsi\n.cfi_adjust_cfa_offset 8\n",
            "push rdx\n.cfi_adjust_cfa_offset 8\n",
            "call {take}\n",
            "pop rdx\n.cfi_adjust_cfa_offset -8\n",
            "pop rsi\n.cfi_adjust_cfa_offset -8\n",
            "pop rdi\n.cfi_adjust_cfa_offset -8\n",
            "test rax, rax\n",
            "je 2f\n",
            "ret\n",
            "2:\n",
        )
    };
}

/// `operator new(size_t)`
#[unsafe(naked)]
#[unsafe(export_name = "_Znwm")]
pub unsafe extern "C" fn new(size: usize) -> *mut c_void {
    naked_asm!(
        hidden_name!("hakmem_new"),
        take_plain!(),
        jump_elsewhere!(0),
        take = sym plain,
        elsewhere = sym elsewhere,
    )
}

/// `operator new(size_t, align_val_t)`
#[unsafe(naked)]
#[unsafe(export_name = "_ZnwmSt11align_val_t")]
pub unsafe extern "C" fn new_aligned(size: usize, align: usize) -> *mut c_void {
    naked_asm!(
        hidden_name!("hakmem_new_aligned"),
        take_saving_two!(),
        jump_elsewhere!(1),
        take = sym aligned,
        elsewhere = sym elsewhere,
    )
}

/// `operator new(size_t, nothrow_t const &)`
#[unsafe(naked)]
#[unsafe(export_name = "_ZnwmRKSt9nothrow_t")]
pub unsafe extern "C" fn new_nothrow(size: usize, tag: *const c_void) -> *mut c_void {
    naked_asm!(
        ".cfi_startproc",
        unless_replaced!("_Znwm", "hakmem_new"),
        take_saving_two!(),
        jump_elsewhere!(2),
        take = sym plain,
        elsewhere = sym elsewhere,
    )
}

/// `operator new(size_t, align_val_t, nothrow_t const &)`
#[unsafe(naked)]
#[unsafe(export_name = "_ZnwmSt11align_val_tRKSt9nothrow_t")]
pub unsafe extern "C" fn new_aligned_nothrow(
    size: usize,
    align: usize,
    tag: *const c_void,
) -> *mut c_void {
    naked_asm!(
        ".cfi_startproc",
        unless_replaced!("_ZnwmSt11align_val_t", "hakmem_new_aligned"),
        take_saving_two!(),
        jump_elsewhere!(3),
        take = sym aligned,
        elsewhere = sym elsewhere,
    )
}

/// `operator new[](size_t)`
#[unsafe(naked)]
#[unsafe(export_name = "_Znam")]
pub unsafe extern "C" fn new_array(size: usize) -> *mut c_void {
    naked_asm!(
        hidden_name!("hakmem_new_array"),
        "jmp [rip + _Znwm@GOTPCREL]",
        ".cfi_endproc",
    )
}

/// `operator new[](size_t, align_val_t)`
#[unsafe(naked)]
#[unsafe(export_name = "_ZnamSt11align_val_t")]
pub unsafe extern "C" fn new_array_aligned(size: usize, align: usize) -> *mut c_void {
    naked_asm!(
        hidden_name!("hakmem_new_array_aligned"),
        "jmp [rip + _ZnwmSt11align_val_t@GOTPCREL]",
        ".cfi_endproc",
    )
}

/// `operator new[](size_t, nothrow_t const &)`
#[unsafe(naked)]
#[unsafe(export_name = "_ZnamRKSt9nothrow_t")]
pub unsafe extern "C" fn new_array_nothrow(size: usize, tag: *const c_void) -> *mut c_void {
    naked_asm!(
        ".cfi_startproc",
        unless_replaced!("_Znam", "hakmem_new_array"),
        unless_replaced!("_Znwm", "hakmem_new"),
        take_saving_two!(),
        jump_elsewhere!(4),
        take = sym plain,
        elsewhere = sym elsewhere,
    )
}

/// `operator new[](size_t, align_val_t, nothrow_t const &)`
#[unsafe(naked)]
#[unsafe(export_name = "_ZnamSt11align_val_tRKSt9nothrow_t")]
pub unsafe extern "C" fn new_array_aligned_nothrow(
    size: usize,
    align: usize,
    tag: *const c_void,
) -> *mut c_void {
    naked_asm!(
        ".cfi_startproc",
        unless_replaced!("_ZnamSt11align_val_t", "hakmem_new_array_aligned"),
        unless_replaced!("_ZnwmSt11align_val_t", "hakmem_new_aligned"),
        take_saving_two!(),
        jump_elsewhere!(5),
        take = sym aligned,
        elsewhere = sym elsewhere,
    )
}

/// `operator delete(void *)`
///
/// # Safety
/// `block` is null or a block that is not used again.
#[unsafe(export_name = "_ZdlPv")]
pub unsafe extern "C" fn delete(block: *mut c_void) {
    // SAFETY: the caller's promise.
    unsafe { raw::dealloc(block.cast()) }
}

/// `operator delete(void *, align_val_t)`
///
/// # Safety
/// As [`delete`].
#[unsafe(export_name = "_ZdlPvSt11align_val_t")]
pub unsafe extern "C" fn delete_aligned(block: *mut c_void, _align: usize) {
    // SAFETY: the caller's promise.
    unsafe { raw::dealloc(block.cast()) }
}

/// The deletes that the standard defines as a call of another one. Those that name a size are in `sized`.
macro_rules! deletes {
    ($($function:ident $name:literal $(as $hidden:literal)? calls $other:literal;)*) => {$(
        #[doc = concat!("`", $name, "`, by way of `", $other, "`.")]
        #[unsafe(naked)]
        #[unsafe(export_name = $name)]
        pub unsafe extern "C" fn $function(block: *mut c_void) {
            naked_asm!(concat!(
                $(".globl ", $hidden, "\n.hidden ", $hidden, "\n", $hidden, ":\n",)?
                ".cfi_startproc\njmp [rip + ", $other, "@GOTPCREL]\n.cfi_endproc"
            ))
        }
    )*};
}

deletes! {
    delete_nothrow "_ZdlPvRKSt9nothrow_t" calls "_ZdlPv";
    delete_array "_ZdaPv" as "hakmem_delete_array" calls "_ZdlPv";
    delete_array_nothrow "_ZdaPvRKSt9nothrow_t" calls "_ZdaPv";
    delete_aligned_nothrow "_ZdlPvSt11align_val_tRKSt9nothrow_t" calls "_ZdlPvSt11align_val_t";
    delete_array_aligned "_ZdaPvSt11align_val_t" as "hakmem_delete_array_aligned" calls "_ZdlPvSt11align_val_t";
    delete_array_aligned_nothrow "_ZdaPvSt11align_val_tRKSt9nothrow_t" calls "_ZdaPvSt11align_val_t";
}
