//! Text for a stream of the C library or for a buffer of the caller. Nothing here allocates, except that the C library
//! allocates a buffer for a stream that has none yet.

use core::fmt::{self, Write};

/// A `FILE *` to format into.
#[cfg(target_env = "gnu")]
pub(crate) struct File(*mut libc::FILE);

#[cfg(target_env = "gnu")]
impl File {
    /// # Safety
    /// `stream` may be written for as long as this value lives.
    pub(crate) unsafe fn new(stream: *mut libc::FILE) -> File {
        File(stream)
    }
}

#[cfg(target_env = "gnu")]
impl Write for File {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        // SAFETY: the promise given to `new`.
        let written = unsafe { libc::fwrite(text.as_ptr().cast(), 1, text.len(), self.0) };
        if written == text.len() {
            Ok(())
        } else {
            Err(fmt::Error)
        }
    }
}

/// A buffer filled by the rules of `snprintf`: what does not fit is counted and dropped.
pub struct Buffer<'a> {
    room: &'a mut [u8],
    needed: usize,
}

impl<'a> Buffer<'a> {
    /// Fills `room`.
    pub fn new(room: &'a mut [u8]) -> Buffer<'a> {
        Buffer { room, needed: 0 }
    }

    /// Ends the text with a NUL and returns its full length without it.
    pub fn finish(self) -> usize {
        let end = self.needed.min(self.room.len().saturating_sub(1));
        if let Some(place) = self.room.get_mut(end) {
            *place = 0;
        }
        self.needed
    }
}

impl Write for Buffer<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for &byte in text.as_bytes() {
            if let Some(place) = self.room.get_mut(self.needed) {
                *place = byte;
            }
            self.needed += 1;
        }
        Ok(())
    }
}
