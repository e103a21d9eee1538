//! Errors of [`super::RegionBuilder::map`]: each is one line that begins with `region:` and says what was expected.

use core::fmt;
use std::error::Error;
use std::format;
use std::io;
use std::string::String;

use super::into_io;
use crate::os::sys::Errno;

/// The kernel's refusal: what it was about and what to do. The kernel's own error is its source.
#[derive(Debug)]
struct Refused {
    text: String,
    cause: io::Error,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Error for Refused {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.cause)
    }
}

/// An error for a request that no kernel could grant.
pub(super) fn invalid(text: impl fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("region: {text}"))
}

/// An error for `what`, which the kernel refused.
pub(super) fn refused(
    what: impl fmt::Display,
    errno: Errno,
    advice: impl fmt::Display,
) -> io::Error {
    let cause = into_io(errno);
    let text = format!("region: {what}: {errno}: {advice}");
    io::Error::new(cause.kind(), Refused { text, cause })
}

/// What to do if a file cannot be mapped.
pub(super) fn advice_for_file(errno: Errno) -> &'static str {
    match errno.0 {
        libc::ENODEV => {
            "expected a regular file, not a directory or a device that cannot be mapped"
        }
        libc::EACCES => {
            "expected a file opened for reading, and for writing too under Backing::FileShared"
        }
        libc::EPERM => "the file is sealed, or its file system forbids it",
        _ => "the kernel gives no better reason",
    }
}
