//! The words of the contract with the kernel: errors, advice, flags, and what is known of a file.

use core::fmt;

/// `MADV_POPULATE_READ`, Linux 5.14.
pub(crate) const MADV_POPULATE_READ: i32 = 22;
/// `MADV_POPULATE_WRITE`, Linux 5.14.
pub(crate) const MADV_POPULATE_WRITE: i32 = 23;
/// `MADV_COLLAPSE`, Linux 6.1.
pub(crate) const MADV_COLLAPSE: i32 = 25;
/// `MAP_FIXED_NOREPLACE`, Linux 4.17; older kernels take the address as a hint.
pub(crate) const MAP_FIXED_NOREPLACE: i32 = 0x10_0000;

/// Why a system call failed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Errno(pub i32);

macro_rules! errnos {
    ($($name:ident),* $(,)?) => {
        impl Errno {
            $(pub(crate) const $name: Errno = Errno(libc::$name);)*

            /// The symbolic name, for messages and statistics.
            pub(crate) fn name(self) -> &'static str {
                match self {
                    $(Errno::$name => stringify!($name),)*
                    _ => "E?",
                }
            }
        }
        /// Every errno that has a name, in the order counters use.
        #[cfg(test)]
        pub(crate) const NAMED: &[Errno] = &[$(Errno::$name),*];
    };
}

errnos!(
    EPERM, ENOENT, EINTR, EIO, EBADF, EAGAIN, ENOMEM, EACCES, EFAULT, EBUSY, EEXIST, ENODEV,
    EINVAL, ENFILE, EMFILE, EFBIG, ENOSPC, EPIPE, ERANGE, ENOSYS, EOVERFLOW, EOPNOTSUPP, ETIMEDOUT,
    ECANCELED, EHWPOISON, ENOTTY,
);

impl Errno {
    /// What libc's `errno` holds now.
    pub(crate) fn last() -> Errno {
        // SAFETY: libc returns a valid pointer to this thread's errno.
        Errno(unsafe { *libc::__errno_location() })
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            "E?" => write!(f, "errno {}", self.0),
            name => f.write_str(name),
        }
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What `fstat` says about a descriptor, as far as it is used here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct FileIdentity {
    pub dev: u64,
    pub ino: u64,
    pub rdev: u64,
    pub mode: u32,
    pub size: u64,
}
