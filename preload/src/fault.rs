//! The end of the process when there is no way on: one line on stderr and SIGABRT. Nothing here allocates.

use core::fmt::{self, Write};
use core::panic::PanicInfo;

#[panic_handler]
fn panic(info: &PanicInfo) -> ! {
    die(format_args!("libhakmem.so has a fault: {info}"))
}

/// Says `why` and aborts.
#[cold]
pub(crate) fn die(why: fmt::Arguments) -> ! {
    let mut line = Line {
        bytes: [0; 512],
        len: 0,
    };
    // What does not fit is cut off.
    let _ = writeln!(line, "hakmem: {why}");
    // SAFETY: the bytes are the line's own. A failing write has nobody to be told of.
    unsafe {
        libc::write(libc::STDERR_FILENO, line.bytes.as_ptr().cast(), line.len);
        libc::abort()
    }
}

struct Line {
    bytes: [u8; 512],
    len: usize,
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for &byte in text.as_bytes() {
            match self.bytes.get_mut(self.len) {
                Some(place) => *place = byte,
                None => {
                    self.bytes[self.bytes.len() - 1] = b'\n';
                    return Err(fmt::Error);
                }
            }
            self.len += 1;
        }
        Ok(())
    }
}
