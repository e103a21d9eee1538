//! Paths of files that the allocator writes.
#![forbid(unsafe_code)]

use core::ffi::CStr;

use crate::os::sys::{self, Errno};

/// A path and its terminating zero, held by value because the environment it came from may be rewritten.
#[derive(Clone, Copy)]
pub(crate) struct PathBytes {
    bytes: [u8; Self::CAPACITY],
    len: u16,
}

impl PathBytes {
    const CAPACITY: usize = 512;
    /// The longest path that fits, without its zero.
    pub(super) const MAX: usize = Self::CAPACITY - 1;
    /// No path.
    pub(super) const EMPTY: Self = Self {
        bytes: [0; Self::CAPACITY],
        len: 0,
    };

    /// Whether `path` can be one: it is not empty, fits, and has no zero byte.
    pub(super) fn allows(path: &[u8]) -> bool {
        !path.is_empty() && path.len() <= Self::MAX && !path.contains(&0)
    }

    /// A copy of `path`, or `None` if it is empty, too long or holds a zero byte.
    pub(crate) fn new(path: &[u8]) -> Option<Self> {
        if !Self::allows(path) {
            return None;
        }
        let mut copy = Self::EMPTY;
        copy.bytes.get_mut(..path.len())?.copy_from_slice(path);
        copy.len = path.len() as u16;
        Some(copy)
    }

    /// The path without its zero.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or(&[])
    }

    /// Opens the file for writing, with `how` (`O_TRUNC` or `O_APPEND`); `pid` replaces `%p`. If there is none, it is made.
    ///
    /// In a program with raised privileges the file must not be a symbolic link, because somebody with fewer rights may have put
    /// it there.
    pub(crate) fn open_to_write(&self, pid: u32, how: i32) -> Result<i32, Errno> {
        let mut expanded = [0; EXPANDED];
        let path = expand(self.as_bytes(), pid, &mut expanded).ok_or(Errno(libc::ENAMETOOLONG))?;
        let raised = sys::getauxval(libc::AT_SECURE as usize) != 0;
        let follow = if raised { libc::O_NOFOLLOW } else { 0 };
        let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_CLOEXEC | libc::O_NOCTTY;
        sys::open(path, flags | follow | how, 0o644)
    }
}

/// Room for the longest path of the knob with some `%p` in it.
const EXPANDED: usize = 1024;

/// `path` with every `%p` replaced, as a C string in `room`; `None` if it does not fit.
fn expand<'a>(path: &[u8], pid: u32, room: &'a mut [u8; EXPANDED]) -> Option<&'a CStr> {
    let mut digits = [0; 10];
    let pid = decimal(pid, &mut digits);
    let mut len = 0;
    let mut rest = path;
    while let Some((&first, behind)) = rest.split_first() {
        let (piece, next) = match rest.strip_prefix(b"%p") {
            Some(next) => (pid, next),
            None => (core::slice::from_ref(&first), behind),
        };
        room.get_mut(len..len + piece.len())?.copy_from_slice(piece);
        len += piece.len();
        rest = next;
    }
    *room.get_mut(len)? = 0;
    CStr::from_bytes_with_nul(room.get(..=len)?).ok()
}

fn decimal(mut n: u32, digits: &mut [u8; 10]) -> &[u8] {
    let mut start = digits.len();
    for (i, place) in digits.iter_mut().enumerate().rev() {
        *place = b'0' + (n % 10) as u8;
        start = i;
        n /= 10;
        if n == 0 {
            break;
        }
    }
    digits.get(start..).unwrap_or(&[])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_kept_whole_or_refused() {
        assert_eq!(PathBytes::new(b"/tmp/x").unwrap().as_bytes(), b"/tmp/x");
        assert_eq!(
            PathBytes::new(&[b'a'; PathBytes::MAX])
                .unwrap()
                .as_bytes()
                .len(),
            PathBytes::MAX
        );
        assert!(PathBytes::new(&[b'a'; PathBytes::MAX + 1]).is_none());
        assert!(PathBytes::new(b"").is_none());
        assert!(PathBytes::new(b"a\0b").is_none());
    }

    fn expanded(path: &[u8], pid: u32) -> Option<std::vec::Vec<u8>> {
        expand(path, pid, &mut [0; EXPANDED]).map(|path| path.to_bytes().to_vec())
    }

    #[test]
    fn the_process_id_takes_its_place() {
        assert_eq!(
            expanded(b"/tmp/%p.json", 4_294_967_295).unwrap(),
            b"/tmp/4294967295.json"
        );
        assert_eq!(expanded(b"%p%p", 10).unwrap(), b"1010");
        assert_eq!(expanded(b"100%", 7).unwrap(), b"100%");
        assert_eq!(expanded(b"%d%%p", 0).unwrap(), b"%d%0");
        assert_eq!(
            expanded(&[b'x'; EXPANDED - 1], 1).unwrap().len(),
            EXPANDED - 1
        );
        assert_eq!(expanded(&[b'x'; EXPANDED], 1), None);
        assert_eq!(
            expanded(&b"%p".repeat(200), 1_000_000_000),
            None,
            "must not run over its room"
        );
    }
}
