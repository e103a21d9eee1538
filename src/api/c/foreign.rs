//! Blocks of the dynamic loader. Until it has found the program's `malloc`, the loader allocates from the rest of the last OS
//! page of its own data. Such a block may reach `free` later: that is no error, and it is ignored. (What the loader maps when
//! that page is full cannot be told from other memory, but glibc never frees it.)

use crate::heap::free_slow::set_foreign;
use core::mem::size_of;

/// Runs before the constructors of the program and of most libraries. Earlier calls are served too: it only registers whom to
/// ask about a block that is not the allocator's.
#[used]
#[unsafe(link_section = ".init_array")]
static AT_START: extern "C" fn() = at_start;

extern "C" fn at_start() {
    set_foreign(is_the_loaders);
}

fn is_the_loaders(block: *mut u8) -> bool {
    // SAFETY: a plain query; 0 if the program was started without a loader.
    let base = unsafe { libc::getauxval(libc::AT_BASE) } as usize;
    if base == 0 {
        return false;
    }
    // SAFETY: the kernel mapped the loader there, and a loader is never unmapped.
    let end = unsafe { end_of_image(base) };
    (base..end.next_multiple_of(super::os_page())).contains(&(block as usize))
}

/// The first byte after the last segment.
///
/// # Safety
/// An ELF file is mapped at `base`, its header and program headers in its first segment.
unsafe fn end_of_image(base: usize) -> usize {
    // SAFETY: the caller's promise.
    unsafe {
        let header = base as *const libc::Elf64_Ehdr;
        let first = base + (*header).e_phoff as usize;
        (0..usize::from((*header).e_phnum))
            .map(|i| &*((first + i * size_of::<libc::Elf64_Phdr>()) as *const libc::Elf64_Phdr))
            .filter(|segment| segment.p_type == libc::PT_LOAD)
            .map(|segment| base + segment.p_vaddr as usize + segment.p_memsz as usize)
            .max()
            .unwrap_or(base)
    }
}
