//! Which file an address of code was loaded from, where it is in that file, and the file's build id: what a debugger needs on
//! another machine.
//!
//! The file is looked up in /proc/self/maps. The dynamic loader is not asked, because a thread that never runs again may hold its
//! lock. The headers of a file are read where they lie in memory, if they can be read ([`readable`]). Nothing here allocates.

use core::fmt::{self, Write};
use core::ops::Range;

use super::first_thread;
use super::readable;
use super::sys::{self, Errno};

/// The longest path that is told. Code of a file with a longer one is told by its address alone.
const PATH: usize = 1024;
/// What stands before the path in a line of maps has less than 128 bytes.
const LINE: usize = PATH + 128;
/// Build ids mostly have 16 or 20 bytes. One longer than this is not told.
const ID: usize = 32;

/// A file that code was loaded from.
pub(crate) struct Module {
    path: [u8; PATH],
    path_len: usize,
    /// Where it begins in memory.
    start: usize,
    /// The mapping that was found last.
    found: Range<usize>,
    /// Whether that can be executed, and whether it is of a file of known headers.
    is_no_code: bool,
    is_known: bool,
    /// What is to be taken off an address to get the file's own.
    bias: usize,
    id: [u8; ID],
    id_len: usize,
}

impl Module {
    pub(crate) const fn new() -> Module {
        Module {
            path: [0; PATH],
            path_len: 0,
            start: 0,
            found: 0..0,
            is_no_code: false,
            is_known: false,
            bias: 0,
            id: [0; ID],
            id_len: 0,
        }
    }

    /// Finds what the code at `addr` was loaded from, and returns whether that is a file of known headers.
    pub(crate) fn find(&mut self, addr: usize, maps: &mut Maps) -> bool {
        if self.found.contains(&addr) {
            return self.is_known;
        }
        (self.path_len, self.start, self.id_len) = (0, 0, 0);
        self.found = 0..0;
        let mut is_code = false;
        // A file's first mapping holds its headers, and comes before the others.
        let found = maps.each(&mut |mapping| {
            let here = (mapping.start..mapping.end).contains(&addr);
            if mapping.offset == 0 {
                self.set_path(mapping.path);
                self.start = mapping.start;
            } else if here && self.path() != mapping.path {
                self.path_len = 0;
            }
            if here {
                self.found = mapping.start..mapping.end;
                is_code = mapping.is_code;
            }
            here
        });
        self.is_no_code = found.is_some() && !is_code;
        self.is_known = found == Some(true) && self.path_len > 0 && self.read_headers();
        self.is_known
    }

    /// Whether the address that was looked for last is known to lie in no memory that can be executed.
    pub(crate) fn is_no_code(&self) -> bool {
        self.is_no_code
    }

    fn set_path(&mut self, path: &[u8]) {
        self.path_len = path.len().min(PATH);
        if let (Some(to), Some(from)) = (
            self.path.get_mut(..self.path_len),
            path.get(..self.path_len),
        ) {
            to.copy_from_slice(from);
        }
    }

    pub(crate) fn path(&self) -> &[u8] {
        self.path.get(..self.path_len).unwrap_or(&[])
    }

    /// Tells modules of one process apart.
    pub(crate) fn start(&self) -> usize {
        self.start
    }

    /// Whether it is a file, which others can read.
    pub(crate) fn is_file(&self) -> bool {
        self.path().first() == Some(&b'/')
    }

    /// The address as the file has it, which is what `addr2line` takes.
    pub(crate) fn own_address(&self, addr: usize) -> usize {
        addr.wrapping_sub(self.bias)
    }

    /// Reads the ELF header at the start, the program headers, and the notes. Returns whether it is such a file.
    fn read_headers(&mut self) -> bool {
        let mut header = [0; 64];
        if readable::copy(self.start, &mut header) < header.len()
            || !header.starts_with(b"\x7fELF\x02")
        {
            return false;
        }
        let table = self.start.wrapping_add(word(&header, 32));
        let (size, count) = (half(&header, 54), half(&header, 56).min(64));
        let mut bias = None;
        let mut notes = [(0, 0); 8];
        for i in 0..count {
            let mut row = [0; 56];
            if readable::copy(table.wrapping_add(i * size), &mut row) < row.len() {
                return false;
            }
            let (kind, offset, address) = (word(&row, 0) as u32, word(&row, 8), word(&row, 16));
            match kind {
                // PT_LOAD.
                1 if bias.is_none() => {
                    bias = Some(self.start.wrapping_sub(address.wrapping_sub(offset)))
                }
                // PT_NOTE.
                4 => {
                    if let Some(place) = notes.iter_mut().find(|(_, len)| *len == 0) {
                        *place = (address, word(&row, 32));
                    }
                }
                _ => {}
            }
        }
        let Some(bias) = bias else { return false };
        self.bias = bias;
        for (address, len) in notes {
            self.read_notes(bias.wrapping_add(address), len.min(1 << 16));
        }
        true
    }

    /// Looks for the build id in the notes at `addr`.
    fn read_notes(&mut self, addr: usize, len: usize) {
        let mut at = 0;
        while self.id_len == 0 && at + 16 <= len {
            let mut head = [0; 16];
            if readable::copy(addr.wrapping_add(at), &mut head) < head.len() {
                return;
            }
            let number = |offset: usize| word(&head, offset) as u32 as usize;
            let (name, value, kind) = (number(0), number(4), number(8));
            // NT_GNU_BUILD_ID.
            if name == 4 && kind == 3 && head.ends_with(b"GNU\0") && value <= ID {
                let id = self.id.get_mut(..value).unwrap_or(&mut []);
                self.id_len = readable::copy(addr.wrapping_add(at + 16), id);
            }
            at += 12 + name.next_multiple_of(4) + value.next_multiple_of(4);
        }
    }
}

/// `path+0x1234 (build id abcd)`.
pub(crate) struct At<'a>(pub(crate) &'a Module, pub(crate) usize);

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let At(module, addr) = self;
        write!(
            f,
            "{}+{:#x}",
            Plain(module.path()),
            module.own_address(*addr)
        )?;
        if module.id_len > 0 {
            f.write_str(" (build id ")?;
            for byte in module.id.iter().take(module.id_len) {
                write!(f, "{byte:02x}")?;
            }
            f.write_str(")")?;
        }
        Ok(())
    }
}

/// A path on one line, without what a terminal obeys.
pub(crate) struct Plain<'a>(pub(crate) &'a [u8]);

impl fmt::Display for Plain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for letter in chunk.valid().chars() {
                f.write_char(if letter.is_control() { '?' } else { letter })?;
            }
            if !chunk.invalid().is_empty() {
                f.write_char('?')?;
            }
        }
        Ok(())
    }
}

/// A path as a shell reads it.
pub(crate) struct Quoted<'a>(pub(crate) &'a [u8]);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/._-+:,@%=".contains(byte);
        if self.0.iter().all(plain) {
            return Plain(self.0).fmt(f);
        }
        f.write_char('\'')?;
        for (i, piece) in self.0.split(|&byte| byte == b'\'').enumerate() {
            if i > 0 {
                f.write_str("'\\''")?;
            }
            Plain(piece).fmt(f)?;
        }
        f.write_char('\'')
    }
}

fn word(bytes: &[u8], at: usize) -> usize {
    let bytes = bytes
        .get(at..at + 8)
        .and_then(|bytes| bytes.try_into().ok());
    usize::from_ne_bytes(bytes.unwrap_or_default())
}

fn half(bytes: &[u8], at: usize) -> usize {
    word(bytes, at) & 0xffff
}

/// A line of /proc/self/maps.
struct Mapping<'a> {
    start: usize,
    end: usize,
    is_code: bool,
    offset: usize,
    path: &'a [u8],
}

impl Mapping<'_> {
    /// Of `7f12-7f34 r-xp 00001000 08:01 1234   /path`.
    fn parse(line: &[u8]) -> Option<Mapping<'_>> {
        let mut rest = line;
        let mut field = |end: u8| {
            let at = rest.iter().position(|&byte| byte == end)?;
            let (field, behind) = rest.split_at(at);
            rest = behind.get(1..)?;
            Some(field)
        };
        let (start, end) = (hex(field(b'-')?)?, hex(field(b' ')?)?);
        let is_code = field(b' ')?.contains(&b'x');
        let offset = hex(field(b' ')?)?;
        let _device = field(b' ')?;
        let path = match rest.iter().position(|&byte| byte == b' ') {
            Some(inode) => rest.get(inode..)?.trim_ascii_start(),
            None => &[],
        };
        Some(Mapping {
            start,
            end,
            is_code,
            offset,
            path,
        })
    }
}

fn hex(digits: &[u8]) -> Option<usize> {
    usize::from_str_radix(core::str::from_utf8(digits).ok()?, 16).ok()
}

/// Room for reading /proc/self/maps.
pub(crate) struct Maps {
    piece: [u8; 1024],
    line: [u8; LINE],
}

impl Maps {
    pub(crate) const fn new() -> Maps {
        Maps {
            piece: [0; 1024],
            line: [0; LINE],
        }
    }

    /// Calls `visit` with each mapping, from the lowest on, until it returns true. Returns whether it did,
    /// `None` if there is nothing to read.
    fn each(&mut self, visit: &mut dyn FnMut(Mapping<'_>) -> bool) -> Option<bool> {
        let Ok(fd) = first_thread::MAPS.open() else {
            return None;
        };
        let mut len = 0;
        let mut found = false;
        while !found {
            let filled = match sys::read(fd, &mut self.piece) {
                Ok(0) => break,
                Ok(filled) => filled,
                Err(Errno::EINTR) => continue,
                Err(_) => break,
            };
            for &byte in self.piece.iter().take(filled) {
                if byte != b'\n' {
                    if let Some(place) = self.line.get_mut(len) {
                        *place = byte;
                        len += 1;
                    }
                    continue;
                }
                let line = self.line.get(..len).unwrap_or(&[]);
                len = 0;
                if Mapping::parse(line).is_some_and(&mut *visit) {
                    found = true;
                    break;
                }
            }
        }
        // Nothing was written through this descriptor, so a failing close loses nothing.
        let _ = sys::close(fd);
        Some(found)
    }
}

#[cfg(all(test, not(miri)))]
#[path = "modules_tests.rs"]
mod tests;
