//! Bookkeeping memory of a child: straight from mmap, touched before the clock, never from the allocator under test.

use std::fs::File;
use std::ops::{Deref, DerefMut};
use std::os::fd::FromRawFd;
use std::sync::{Mutex, MutexGuard};

/// Types for which all bytes zero is a valid value.
///
/// # Safety
/// The implementer promises exactly that, and that the type needs no drop.
pub unsafe trait Zeroed: Copy {}
// SAFETY: zero is a number.
unsafe impl Zeroed for u64 {}
// SAFETY: zero is a number.
unsafe impl Zeroed for u32 {}
// SAFETY: zero is a number.
unsafe impl Zeroed for usize {}
// SAFETY: a line of zeros.
unsafe impl Zeroed for [u64; 8] {}
// SAFETY: the null pointer is a valid raw pointer.
unsafe impl Zeroed for *mut u8 {}

/// One block the workload holds: where it is and how large it was asked for.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct Slot {
    /// The block, or null when the slot is empty.
    pub ptr: *mut u8,
    /// The size that was asked for; a sized free needs it, as in a Rust program.
    pub size: usize,
}
// SAFETY: null pointer, size zero.
unsafe impl Zeroed for Slot {}
// SAFETY: the block is whoever's who holds the slot; a slot is only an address and a number.
unsafe impl Send for Slot {}

impl Slot {
    pub const EMPTY: Slot = Slot { ptr: std::ptr::null_mut(), size: 0 };
}

/// A table of slots per thread, each locked by whoever works on it.
#[derive(Debug)]
pub struct Sets(Vec<Mutex<Table<Slot>>>);

impl Sets {
    pub fn new(sets: usize, slots: usize) -> Result<Self, String> {
        (0..sets).map(|_| Table::new(slots).map(Mutex::new)).collect::<Result<_, _>>().map(Self)
    }

    /// One of them. The lock is the handing over where threads take turns.
    pub fn of(&self, set: usize) -> MutexGuard<'_, Table<Slot>> {
        self.0[set].lock().unwrap_or_else(|e| e.into_inner())
    }
}

/// A fixed array from mmap, all zero at first and resident from the start.
#[derive(Debug)]
pub struct Table<T: Zeroed> {
    base: *mut T,
    len: usize,
}

// SAFETY: the table owns its mapping; access follows the usual rules of `&` and `&mut`.
unsafe impl<T: Zeroed> Send for Table<T> {}
// SAFETY: as above.
unsafe impl<T: Zeroed> Sync for Table<T> {}

impl<T: Zeroed> Table<T> {
    pub fn new(len: usize) -> Result<Self, String> {
        let bytes = len.checked_mul(size_of::<T>()).filter(|&b| b <= isize::MAX as usize);
        let bytes = bytes.ok_or_else(|| format!("a table of {len} elements is too large"))?.max(1);
        let base = map(bytes, true)?;
        Ok(Self { base: base.cast(), len })
    }
}

impl<T: Zeroed> Deref for Table<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        // SAFETY: the mapping has room for `len` elements, zero is valid for T, and it lives as long as `self`.
        unsafe { std::slice::from_raw_parts(self.base, self.len) }
    }
}

impl<T: Zeroed> DerefMut for Table<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`, and `&mut self` makes the access exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.base, self.len) }
    }
}

impl<T: Zeroed> Drop for Table<T> {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours and nothing borrows it any more. A failure would only leave it mapped.
        unsafe { libc::munmap(self.base.cast(), (self.len * size_of::<T>()).max(1)) };
    }
}

/// Maps `bytes` of private anonymous memory, resident at once when `resident` is set, without swap reservation otherwise.
pub fn map(bytes: usize, resident: bool) -> Result<*mut u8, String> {
    let extra = if resident { libc::MAP_POPULATE } else { libc::MAP_NORESERVE };
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | extra;
    // SAFETY: a fresh anonymous mapping touches nothing that exists.
    let base = unsafe { libc::mmap(std::ptr::null_mut(), bytes, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
    if base == libc::MAP_FAILED {
        return Err(format!("mmap of {bytes} bytes for bookkeeping: {}", std::io::Error::last_os_error()));
    }
    Ok(base.cast())
}

/// A file in memory: writing to it costs a program no disk and never waits for a reader.
pub fn file() -> std::io::Result<File> {
    // SAFETY: the name is a valid string; the descriptor, if there is one, is nobody else's.
    unsafe {
        match libc::memfd_create(c"file".as_ptr(), libc::MFD_CLOEXEC) {
            -1 => Err(std::io::Error::last_os_error()),
            fd => Ok(File::from_raw_fd(fd)),
        }
    }
}
