//! A fault in the library itself ends the process with one line on stderr and SIGABRT.

use core::panic::PanicInfo;
use hakmem_alloc::raw;

#[panic_handler]
fn panic(info: &PanicInfo) -> ! {
    raw::fatal(format_args!("libhakmem.so has a fault: {info}"))
}
