//! What the C compiler's start files would bring: they are left out, since each name they import costs the loader a search
//! through all libraries of every program. The library stays loaded, so nothing has to happen at its end.

use core::arch::global_asm;

// By this address the C library tells which library registered a handler. Weak: a link with the start files has theirs. Nobody
// reads the byte, so order.ld can part two mappings with it.
global_asm!(
    ".weak __dso_handle",
    ".hidden __dso_handle",
    ".pushsection .rodata.__dso_handle, \"a\"",
    "__dso_handle: .byte 0",
    ".popsection",
);
