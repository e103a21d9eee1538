//! Blocks of the dynamic loader. Until it has found the program's `malloc`, the loader allocates from the rest of the last OS
//! page of its own data. Such a block may reach `free` later: that is no error, and it is ignored. (What the loader maps when
//! that page is full cannot be told from other memory, but glibc never frees it.)

use crate::heap::free_slow::set_foreign;
use crate::os::loader;

/// Runs before the constructors of the program and of most libraries. Earlier calls are served too: it only registers whom to
/// ask about a block that is not the allocator's.
#[used]
#[unsafe(link_section = ".init_array")]
static AT_START: extern "C" fn() = at_start;

extern "C" fn at_start() {
    set_foreign(is_the_loaders);
}

fn is_the_loaders(block: *mut u8) -> bool {
    loader::image().is_some_and(|image| {
        (image.start..image.end.next_multiple_of(super::os_page())).contains(&(block as usize))
    })
}
