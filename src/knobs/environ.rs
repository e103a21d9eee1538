//! The source of settings from outside: the C library's `environ`, or `/proc/self/environ` if the allocator is called before
//! the C library has filled that in (preloaded, from the dynamic loader). Entries are passed on one by one; nothing is
//! allocated or kept.

use core::ffi::{CStr, c_char};

use crate::os::sys::{self, Errno};

/// An environment that can be read any number of times.
#[derive(Clone, Copy)]
pub(crate) enum Environ<'a> {
    /// An environment without entries.
    Empty,
    /// A list that ends with a null pointer.
    List(&'a EnvironList),
    /// What the kernel shows of this process's environment.
    Proc,
    /// Entries of a test.
    #[cfg(test)]
    Fake(&'a [&'a [u8]]),
}

/// The start of the C library's list. Cannot be made by safe code, see [`Environ::of_process`].
pub(crate) struct EnvironList(*const *const c_char);

unsafe extern "C" {
    /// The C library's own variable. Null until the library has been initialised.
    static environ: *const *const c_char;
}

impl Environ<'_> {
    /// Calls `with` with the environment of this process, or with an empty one if the process is privileged, because a caller
    /// with fewer rights may have written it.
    ///
    /// A thread that calls `setenv` at the same moment is the same hazard here as for `getenv`.
    pub(super) fn of_process<R>(privileged: bool, with: impl FnOnce(Environ<'_>) -> R) -> R {
        if privileged {
            return with(Environ::Empty);
        }
        // SAFETY: the variable is defined by the C library, which is linked, and has this type in C.
        let list = unsafe { environ };
        if list.is_null() {
            with(Environ::Proc)
        } else {
            with(Environ::List(&EnvironList(list)))
        }
    }

    /// Calls `visit` with each entry that begins with `prefix`, `NAME=value` without the zero. An entry longer than any accepted
    /// one may be cut off, and is then still too long to be accepted.
    pub(super) fn each(&self, prefix: &[u8], visit: &mut dyn FnMut(&[u8])) {
        let mut visit = |entry: &[u8]| {
            if entry.starts_with(prefix) {
                visit(entry);
            }
        };
        match *self {
            Self::Empty => {}
            Self::List(list) => list.each(prefix, &mut visit),
            Self::Proc => read_proc(&mut visit),
            #[cfg(test)]
            Self::Fake(entries) => entries.iter().for_each(|entry| visit(entry)),
        }
    }
}

impl EnvironList {
    /// Passes over what does not begin with `prefix` without reading it to its end.
    fn each(&self, prefix: &[u8], visit: &mut dyn FnMut(&[u8])) {
        let mut next = self.0;
        loop {
            // SAFETY: `environ` is an array of pointers that ends with a null pointer, and `next` has not passed that end.
            let entry = unsafe { *next };
            if entry.is_null() {
                return;
            }
            // SAFETY: every pointer before the null one is a C string, and nobody frees it while this runs (see
            // `of_process`). The prefix has no zero, so the comparison ends with the string at the latest.
            unsafe {
                let mut bytes = prefix.iter().enumerate();
                if bytes.all(|(at, &byte)| *entry.add(at) as u8 == byte) {
                    visit(CStr::from_ptr(entry).to_bytes());
                }
            }
            // SAFETY: the element at `next` was not the null pointer, so there is another one behind it.
            next = unsafe { next.add(1) };
        }
    }
}

fn read_proc(visit: &mut dyn FnMut(&[u8])) {
    // Without /proc there is no other source.
    let Ok(fd) = sys::open(c"/proc/self/environ", libc::O_RDONLY | libc::O_CLOEXEC, 0) else {
        return;
    };
    let mut entries = Entries::new();
    let mut piece = [0u8; 512];
    loop {
        match sys::read(fd, &mut piece) {
            Ok(0) => break,
            Ok(n) => entries.feed(piece.get(..n).unwrap_or(&[]), visit),
            Err(Errno::EINTR) => {}
            // What was read so far are whole entries, and better than none.
            Err(_) => break,
        }
    }
    // Nothing was written through this descriptor, so a failing close loses nothing.
    let _ = sys::close(fd);
}

/// Joins pieces to entries that end with a zero. An entry that does not fit is cut off.
struct Entries {
    bytes: [u8; Entries::CAPACITY],
    len: usize,
}

impl Entries {
    /// Longer than the longest name, `=` and the longest path together, so that an entry that is cut off is refused.
    const CAPACITY: usize = 640;

    const fn new() -> Self {
        Self {
            bytes: [0; Self::CAPACITY],
            len: 0,
        }
    }

    fn feed(&mut self, piece: &[u8], visit: &mut dyn FnMut(&[u8])) {
        for &byte in piece {
            if byte == 0 {
                visit(self.bytes.get(..self.len).unwrap_or(&[]));
                self.len = 0;
            } else if let Some(place) = self.bytes.get_mut(self.len) {
                *place = byte;
                self.len += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn pieces_of_any_size_make_the_same_entries() {
        let text = b"A=1\0LONGER=some value\0\0HAKMEM_X=\0cut off at the end";
        for size in 1..=text.len() {
            let mut got = Vec::new();
            let mut entries = Entries::new();
            for piece in text.chunks(size) {
                entries.feed(piece, &mut |entry| got.push(entry.to_vec()));
            }
            assert_eq!(
                got,
                [&b"A=1"[..], b"LONGER=some value", b"", b"HAKMEM_X="],
                "pieces of {size}"
            );
        }
    }

    #[test]
    fn an_entry_too_long_is_cut_and_the_next_one_is_whole() {
        let mut text = std::vec![b'x'; 5000];
        text.extend_from_slice(b"\0B=2\0");
        let mut got = Vec::new();
        Entries::new().feed(&text, &mut |entry| got.push(entry.to_vec()));
        assert_eq!(got[0].len(), Entries::CAPACITY);
        assert_eq!(got[1], b"B=2");
    }

    #[test]
    fn both_sources_agree_on_this_process() {
        let mut list = Vec::new();
        let mut proc = Vec::new();
        let cut = |entry: &[u8]| entry[..entry.len().min(Entries::CAPACITY)].to_vec();
        Environ::of_process(false, |env| {
            env.each(b"", &mut |entry| list.push(cut(entry)))
        });
        Environ::Proc.each(b"", &mut |entry| proc.push(cut(entry)));
        assert!(
            proc.iter().any(|entry| entry.starts_with(b"PATH=")),
            "an environment without PATH"
        );
        assert_eq!(list, proc, "nothing in this test binary sets variables");
    }

    #[test]
    fn a_prefix_selects_from_each_source() {
        let chosen = |env: Environ<'_>| {
            let mut names = Vec::new();
            env.each(b"PATH=", &mut |entry| names.push(entry.to_vec()));
            names
        };
        let mut whole = Vec::new();
        Environ::Proc.each(b"", &mut |entry| whole.push(entry.to_vec()));
        whole.retain(|entry| entry.starts_with(b"PATH="));
        assert_eq!(whole.len(), 1);
        assert_eq!(chosen(Environ::Proc), whole);
        assert_eq!(Environ::of_process(false, chosen), whole);
        let fake: &[&[u8]] = &[b"", b"P", b"PATH", b"PATH=", b"PATHS=1", b"PATH=2"];
        assert_eq!(chosen(Environ::Fake(fake)), [&b"PATH="[..], b"PATH=2"]);
    }

    #[test]
    fn a_privileged_process_reads_nothing() {
        let mut count = 0;
        Environ::of_process(true, |env| env.each(b"", &mut |_| count += 1));
        assert_eq!(count, 0);
    }
}
