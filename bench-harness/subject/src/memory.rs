//! Memory of a child's own: straight from mmap, never from the allocator under test.

use std::fs::File;
use std::io;
use std::ops::{Deref, DerefMut};
use std::os::fd::FromRawFd;

pub const HUGE: usize = 2 << 20;

/// Read, write, private, nobody's file.
pub const RW: i32 = libc::PROT_READ | libc::PROT_WRITE;
pub const ANONYMOUS: i32 = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;

/// A mapping of one's own, given back when it is dropped.
#[derive(Debug)]
pub struct Mapping {
    pub addr: usize,
    pub len: usize,
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's own. A failure leaves addresses behind in a process that ends soon.
        unsafe { libc::munmap(self.addr as *mut _, self.len) };
    }
}

impl Mapping {
    pub fn new(at: usize, len: usize, prot: i32, flags: i32, fd: i32) -> io::Result<Mapping> {
        // SAFETY: callers give MAP_FIXED only inside a reservation of their own.
        let addr = unsafe { libc::mmap(at as *mut _, len, prot, flags, fd, 0) };
        if addr == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Mapping { addr: addr as usize, len })
    }

    /// Memory for bookkeeping, to be written to; `flags` besides the usual ones.
    pub fn anonymous(len: usize, flags: i32) -> Result<Mapping, String> {
        Mapping::new(0, len, RW, ANONYMOUS | flags, -1).map_err(|e| format!("mmap of {len} bytes: {e}"))
    }

    /// The same at a multiple of 2 MiB: over-mapped, then trimmed.
    pub fn aligned(len: usize, flags: i32) -> Result<Mapping, String> {
        let mut head = Mapping::anonymous(len + HUGE, flags)?;
        let start = head.addr.next_multiple_of(HUGE);
        let tail = Mapping { addr: start + len, len: head.addr + HUGE - start };
        head.len = start - head.addr;
        // munmap refuses to unmap nothing, which does no harm.
        drop((head, tail));
        Ok(Mapping { addr: start, len })
    }

    /// Where it begins; it stays to the end of the process.
    pub fn addr_for_ever(self) -> usize {
        std::mem::ManuallyDrop::new(self).addr
    }

    pub fn advise(&self, advice: i32) -> io::Result<()> {
        advise(self.addr, self.len, advice)
    }

    /// Writes one byte at every `step`-th place from `start` to `end`, both counted from the mapping's begin.
    pub fn touch(&self, start: usize, end: usize, step: usize) {
        for at in (start..end.min(self.len)).step_by(step) {
            // SAFETY: inside the mapping, which is this value's own and writable by now.
            unsafe { ((self.addr + at) as *mut u8).write_volatile(1) };
        }
    }
}

/// madvise of memory of the caller's own, whose contents do not matter.
pub fn advise(addr: usize, len: usize, advice: i32) -> io::Result<()> {
    // SAFETY: the caller's own mapping.
    match unsafe { libc::madvise(addr as *mut _, len, advice) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Types for which all bytes zero is a valid value.
///
/// # Safety
/// The implementer promises exactly that, and that the type needs no drop.
pub unsafe trait Zeroed: Copy {}
// SAFETY: zero is a number.
unsafe impl Zeroed for u32 {}
// SAFETY: zero is a number.
unsafe impl Zeroed for usize {}
// SAFETY: zeros are numbers.
unsafe impl Zeroed for [usize; 2] {}
// SAFETY: a line of zeros.
unsafe impl Zeroed for [u64; 8] {}
// SAFETY: the null pointer is a valid raw pointer.
unsafe impl Zeroed for *mut u8 {}

/// A fixed array from mmap, all zero at first and resident from the start.
#[derive(Debug)]
pub struct Table<T: Zeroed> {
    memory: Mapping,
    len: usize,
    elements: std::marker::PhantomData<T>,
}

// SAFETY: the table owns its mapping; access follows the usual rules of `&` and `&mut`. Addresses in it are the owner's.
unsafe impl<T: Zeroed> Send for Table<T> {}
// SAFETY: as above.
unsafe impl<T: Zeroed> Sync for Table<T> {}

impl<T: Zeroed> Table<T> {
    pub fn new(len: usize) -> Result<Self, String> {
        let bytes = len.checked_mul(size_of::<T>()).filter(|&b| b <= isize::MAX as usize);
        let bytes = bytes.ok_or_else(|| format!("a table of {len} elements is too large"))?.max(1);
        Ok(Self { memory: Mapping::anonymous(bytes, libc::MAP_POPULATE)?, len, elements: std::marker::PhantomData })
    }
}

impl<T: Zeroed> Deref for Table<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        // SAFETY: the mapping has room for `len` elements, zero is valid for T, and it lives as long as `self`.
        unsafe { std::slice::from_raw_parts(self.memory.addr as *const T, self.len) }
    }
}

impl<T: Zeroed> DerefMut for Table<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`, and `&mut self` makes the access exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.memory.addr as *mut T, self.len) }
    }
}

/// A file in memory: writing to it costs a program no disk and never waits for a reader.
pub fn file() -> io::Result<File> {
    // SAFETY: the name is a valid string; the descriptor, if there is one, is nobody else's.
    unsafe {
        match libc::memfd_create(c"file".as_ptr(), libc::MFD_CLOEXEC) {
            -1 => Err(io::Error::last_os_error()),
            fd => Ok(File::from_raw_fd(fd)),
        }
    }
}
