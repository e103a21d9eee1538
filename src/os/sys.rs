//! The contract with the kernel: system calls by name.
//!
//! A function here makes one system call (`read_file`, `read_line` and `write_all` make several), takes numbers and returns
//! `Result<_, Errno>`. Callers do not read libc's `errno`, but a failing call sets it: code that runs inside `free` holds an
//! [`ErrnoGuard`].

use core::ffi::CStr;

pub(crate) use super::abi::{
    Errno, FileIdentity, MADV_COLLAPSE, MADV_POPULATE_READ, MADV_POPULATE_WRITE,
    MAP_FIXED_NOREPLACE,
};
pub(crate) use super::counted::{
    ftruncate, madvise, memfd_create, mlock, mmap, mmap_fd, mprotect, mremap, msync, munmap,
};
#[cfg(test)]
pub(crate) use super::fake::{
    close, cpu_count, current_node, eventfd, fstat, futex_wait, futex_wake, getauxval, ioctl,
    mincore, munlock, name_range, open, peek, read, rlimit_as, write,
};
#[cfg(not(test))]
pub(crate) use super::linux::{
    close, cpu_count, current_node, eventfd, fstat, futex_wait, futex_wake, getauxval, ioctl,
    mincore, munlock, name_range, open, peek, read, rlimit_as, write,
};
pub(crate) use super::linux::{machine_total, name_thread, page_size, prefer_node, sleep_us};

/// Restores `errno` on drop: `free` must not change it, whatever it calls.
#[must_use = "errno is restored when the guard is dropped"]
pub(crate) struct ErrnoGuard(i32);

impl ErrnoGuard {
    #[inline]
    pub(crate) fn new() -> ErrnoGuard {
        ErrnoGuard(Errno::last().0)
    }
}

impl Drop for ErrnoGuard {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: libc returns a valid pointer to this thread's errno.
        unsafe { *libc::__errno_location() = self.0 }
    }
}

/// Runs `f` and leaves `errno` as it was.
#[inline]
pub(crate) fn preserve_errno<R>(f: impl FnOnce() -> R) -> R {
    let _guard = ErrnoGuard::new();
    f()
}

/// Writes all of `bytes`, resuming after signals and short writes.
///
/// A descriptor that would block returns `EAGAIN` with an unknown part written: messages are not worth waiting for.
pub(crate) fn write_all(fd: i32, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match write(fd, bytes) {
            Ok(0) => return Err(Errno::EIO),
            Ok(n) => bytes = bytes.get(n..).unwrap_or(&[]),
            Err(Errno::EINTR) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// A number that nobody outside the process knows, mixed from the kernel's 16 random bytes. It does not show these bytes, which
/// contain secrets of the C library. Without them the number is no more random than where the kernel put the stack.
pub(crate) fn random() -> u64 {
    let here = 0u8;
    let at = getauxval(libc::AT_RANDOM as usize) as *const [u64; 2];
    let [one, two] = match at.is_null() {
        true => [(&raw const here) as u64, 0],
        // SAFETY: the kernel put 16 bytes there, for the life of the process.
        false => unsafe { at.read_unaligned() },
    };
    let mut mixed = one ^ two.rotate_left(32);
    for factor in [0xBF58_476D_1CE4_E5B9, 0x94D0_49BB_1331_11EB] {
        mixed = (mixed ^ mixed >> 29).wrapping_mul(factor);
    }
    mixed ^ mixed >> 32
}

/// Reads a small file, at most `buf.len()` bytes of it, and returns how many it read.
pub(crate) fn read_file(path: &CStr, buf: &mut [u8]) -> Result<usize, Errno> {
    read_up_to(path, buf, false)
}

/// Reads a file of one line, as those in /sys are.
pub(crate) fn read_line(path: &CStr, buf: &mut [u8]) -> Result<usize, Errno> {
    read_up_to(path, buf, true)
}

fn read_up_to(path: &CStr, buf: &mut [u8], one_line: bool) -> Result<usize, Errno> {
    let fd = open(path, libc::O_RDONLY | libc::O_CLOEXEC, 0)?;
    let mut filled = 0;
    let outcome = loop {
        match buf.get_mut(filled..) {
            None | Some([]) => break Ok(filled),
            Some(rest) => match read(fd, rest) {
                Ok(0) => break Ok(filled),
                Ok(n) => {
                    filled += n;
                    // A file of the kernel's that has one line comes whole with the first read.
                    if one_line && buf.get(filled - 1) == Some(&b'\n') {
                        break Ok(filled);
                    }
                }
                Err(Errno::EINTR) => {}
                Err(e) => break Err(e),
            },
        }
    };
    // Nothing was written through this descriptor, so a failing close loses nothing.
    let _ = close(fd);
    outcome
}

#[cfg(test)]
mod tests {
    use super::super::abi::NAMED;
    use super::*;
    use std::format;

    #[test]
    fn every_named_errno_prints_its_name() {
        for &e in NAMED {
            assert!(e.name().starts_with('E') && e.name() != "E?", "{}", e.0);
            assert_eq!(format!("{e}"), e.name());
        }
        assert_eq!(format!("{}", Errno(4095)), "errno 4095");
    }

    #[test]
    fn guard_restores_errno() {
        // SAFETY: errno of this thread.
        unsafe { *libc::__errno_location() = 77 };
        preserve_errno(|| {
            assert_eq!(
                open(c"/nonexistent/file", libc::O_RDONLY, 0),
                Err(Errno::ENOENT)
            );
            assert_eq!(Errno::last(), Errno::ENOENT);
        });
        assert_eq!(Errno::last(), Errno(77));
    }

    #[test]
    fn read_file_stops_at_the_buffer_and_at_the_end() {
        let mut small = [0u8; 4];
        assert_eq!(read_file(c"/proc/self/status", &mut small), Ok(4));
        assert_eq!(&small, b"Name");
        let mut large = [0u8; 256];
        let n = read_file(c"/proc/self/comm", &mut large).expect("comm is readable");
        assert!(n > 1 && n < 256 && large[n - 1] == b'\n');
        assert_eq!(
            read_file(c"/proc/self/nothing", &mut large),
            Err(Errno::ENOENT)
        );
        assert_eq!(read_file(c"/proc/self/comm", &mut []), Ok(0));
    }

    #[test]
    fn a_line_takes_one_read_and_a_file_two() {
        use super::super::fake::{self, Call};
        let (mut one, mut two) = ([0u8; 64], [0u8; 64]);
        fake::clear();
        let n = read_line(c"/proc/self/comm", &mut one).expect("comm is readable");
        assert_eq!(fake::calls().of(Call::Read), 1);
        assert_eq!(read_file(c"/proc/self/comm", &mut two), Ok(n));
        assert_eq!(fake::calls().of(Call::Read), 3);
        assert_eq!(one, two);
        fake::clear();
    }

    #[test]
    fn read_file_resumes_after_a_signal_and_closes_after_an_error() {
        use super::super::fake::{self, Call};
        let mut buf = [0u8; 64];
        fake::fail_kind(Call::Read, 1, Errno::EINTR);
        assert!(read_file(c"/proc/self/comm", &mut buf).is_ok());
        fake::clear();
        fake::fail_kind(Call::Read, 1, Errno::EIO);
        assert_eq!(read_file(c"/proc/self/comm", &mut buf), Err(Errno::EIO));
        assert_eq!(fake::calls().of(Call::Close), 1);
        fake::clear();
    }

    #[test]
    fn facts_about_the_machine_are_plausible() {
        assert!(page_size().is_power_of_two() && page_size() >= 4096);
        assert!(cpu_count() >= 1);
        assert!(current_node() < 1024);
        assert_eq!(getauxval(libc::AT_PAGESZ as usize), page_size());
    }
}
