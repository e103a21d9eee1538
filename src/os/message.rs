//! One line on stderr, and the end of the process.
//!
//! [`message!`] formats into a fixed buffer and writes "hakmem: …\n" with one `write`, so that lines of several threads do not
//! mix. It does not allocate and leaves `errno` alone. [`fatal!`] does the same and aborts.
//!
//! Descriptor 2 is stderr only until the program closes it: a daemon may then open its database there. [`remember_stderr`]
//! records at start which file it is. Later lines are written only if it still is that file, or is a terminal or the null
//! device. A program that moves its stderr to a log file loses these lines, which is the lesser evil. [`keep_stderr`] opens
//! stderr a second time, for what must be said after a program has closed it.

use core::fmt::{self, Write};
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use core::sync::atomic::{AtomicI32, AtomicU32, AtomicU64};

use super::linux::timespec_of_ms;
use super::sys;

/// Capacity of a [`Line`], the prefix and the newline included.
const LINE: usize = 512;
/// How each line begins.
pub(crate) const PREFIX: &str = "hakmem: ";

/// A line being built. What does not fit is cut off.
pub(crate) struct Line {
    bytes: [u8; LINE],
    len: usize,
}

impl Line {
    pub(crate) const fn new() -> Line {
        Line {
            bytes: [0; LINE],
            len: 0,
        }
    }

    fn push(&mut self, text: &[u8]) {
        // One byte is left for the newline.
        let room = LINE - 1 - self.len;
        let n = text.len().min(room);
        if let (Some(to), Some(from)) = (self.bytes.get_mut(self.len..self.len + n), text.get(..n))
        {
            to.copy_from_slice(from);
            self.len += n;
        }
    }

    /// The text so far, cut at a character boundary.
    pub(crate) fn as_str(&self) -> &str {
        let bytes = self.bytes.get(..self.len).unwrap_or(&[]);
        match core::str::from_utf8(bytes) {
            Ok(text) => text,
            Err(e) => {
                core::str::from_utf8(bytes.get(..e.valid_up_to()).unwrap_or(&[])).unwrap_or("")
            }
        }
    }

    fn finish(&mut self) -> &[u8] {
        self.len = self.as_str().len();
        if let Some(end) = self.bytes.get_mut(self.len) {
            *end = b'\n';
        }
        self.bytes.get(..self.len + 1).unwrap_or(&[])
    }
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.push(text.as_bytes());
        Ok(())
    }
}

/// Writes one line to stderr: `message!("HAKMEM_THP={}: expected …", value)`.
macro_rules! message {
    ($($arg:tt)*) => { $crate::os::message::emit(::core::format_args!($($arg)*)) };
}
/// Writes one line to stderr and aborts the process.
macro_rules! fatal {
    ($($arg:tt)*) => { $crate::os::message::die(::core::format_args!($($arg)*)) };
}
pub(crate) use {fatal, message};

#[cold]
pub(crate) fn emit(text: fmt::Arguments<'_>) {
    sys::preserve_errno(|| {
        let mut line = Line::new();
        line.push(PREFIX.as_bytes());
        // `Line` cuts the text instead of failing, and a failing Display only shortens it.
        let _ = line.write_fmt(text);
        if let Some(fd) = stderr() {
            // There is nowhere to report a failed report.
            let _ = sys::write_all(fd, line.finish());
        }
    });
}

#[cold]
pub(crate) fn die(text: fmt::Arguments<'_>) -> ! {
    die_after(text, || ())
}

/// As [`die`], and calls `then` once the line is out.
#[cold]
pub(crate) fn die_after(text: fmt::Arguments<'_>, then: impl FnOnce()) -> ! {
    // First of all, because a handler of SIGABRT may allocate and fork, and this thread may hold a lock.
    #[cfg(not(loom))]
    super::freeze::FREEZE.die();
    emit(text);
    then();
    // SAFETY: ends the process.
    unsafe { libc::abort() }
}

/// Calls code of the program's. If it unwinds, because it panics or ends its thread (`pthread_exit`), the process ends: no
/// allocator may unwind.
pub(crate) fn call_out(call: fn()) {
    struct Unwinding;
    impl Drop for Unwinding {
        fn drop(&mut self) {
            fatal!("when_null panicked or ended its thread instead of returning; aborting");
        }
    }
    let unwinding = Unwinding;
    call();
    core::mem::forget(unwinding);
}

const UNKNOWN: u32 = 0;
const CLOSED: u32 = 1;
const OPEN: u32 = 2;

/// Which file was stderr when the process began.
static STATE: AtomicU32 = AtomicU32::new(UNKNOWN);
static DEV: AtomicU64 = AtomicU64::new(0);
static INO: AtomicU64 = AtomicU64::new(0);

/// Records which file descriptor 2 is, once. Must come before the program can have closed it.
pub(crate) fn remember_stderr() {
    // Relaxed: a thread that sees it unset asks the kernel itself, and finds the same file.
    if STATE.load(Relaxed) != UNKNOWN {
        return;
    }
    let state = match sys::preserve_errno(|| sys::fstat(libc::STDERR_FILENO)) {
        Ok(file) => {
            // Published by the Release below.
            DEV.store(file.dev, Relaxed);
            INO.store(file.ino, Relaxed);
            OPEN
        }
        Err(_) => CLOSED,
    };
    // Release pairs with the Acquire in `stderr_is_ours`: a thread that sees OPEN sees the identity.
    STATE.store(state, Release);
}

/// The second descriptor of stderr, or -1.
static KEPT: AtomicI32 = AtomicI32::new(-1);
/// The lowest number it may get: above those that programs assign by hand.
const KEPT_FROM: i32 = 200;

/// Opens stderr a second time, for what is to be said after the program has closed it. The descriptor is closed on exec.
pub(crate) fn keep_stderr() {
    if !stderr_is_ours(libc::STDERR_FILENO) {
        return;
    }
    sys::preserve_errno(|| {
        // SAFETY: makes a descriptor.
        let fd = unsafe { libc::fcntl(libc::STDERR_FILENO, libc::F_DUPFD_CLOEXEC, KEPT_FROM) };
        if fd >= 0 {
            // Relaxed: a number, which every user checks before it writes.
            KEPT.store(fd, Relaxed);
        }
    });
}

/// A descriptor that is stderr and may be written to: see the head of this file.
pub(crate) fn stderr() -> Option<i32> {
    [libc::STDERR_FILENO, KEPT.load(Relaxed)]
        .into_iter()
        .find(|&fd| stderr_is_ours(fd))
}

/// Waits until a write of a few bytes to the descriptor does not block, for at most so many milliseconds. Returns whether it does
/// not, or true if the kernel refuses to say.
pub(crate) fn can_write(fd: i32, wait_ms: u64) -> bool {
    let mut asked = libc::pollfd {
        fd,
        events: libc::POLLOUT,
        revents: 0,
    };
    let wait = timespec_of_ms(wait_ms);
    // SAFETY: one entry; the kernel may change the copy of the time. No mask of signals is set (0).
    let n = unsafe {
        libc::syscall(
            libc::SYS_ppoll,
            &raw mut asked,
            1,
            &raw const wait,
            0usize,
            8,
        )
    };
    n != 0
}

/// Whether the descriptor still is the stderr of the start, or a harmless file.
fn stderr_is_ours(fd: i32) -> bool {
    remember_stderr();
    let Ok(now) = sys::fstat(fd) else {
        return false;
    };
    // Acquire pairs with the Release in `remember_stderr`.
    let same =
        STATE.load(Acquire) == OPEN && (DEV.load(Relaxed), INO.load(Relaxed)) == (now.dev, now.ino);
    same || is_harmless(&now)
}

/// A terminal or the null device, where text damages nothing.
fn is_harmless(file: &sys::FileIdentity) -> bool {
    if file.mode & libc::S_IFMT != libc::S_IFCHR {
        return false;
    }
    let major = libc::major(file.rdev as libc::dev_t);
    let minor = libc::minor(file.rdev as libc::dev_t);
    // Major numbers from Documentation/admin-guide/devices.txt: 4 and 5 are consoles and serial lines, 136–143
    // pseudo-terminals, 1:3 is the null device.
    matches!((major, minor), (1, 3) | (4 | 5, _) | (136..=143, _))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::String;

    #[test]
    fn a_line_is_cut_at_a_character_and_keeps_its_newline() {
        let mut line = Line::new();
        for _ in 0..300 {
            write!(line, "äö").expect("never fails");
        }
        let text = String::from_utf8(line.finish().to_vec()).expect("valid UTF-8");
        assert!(text.ends_with("ä\n") || text.ends_with("ö\n"));
        assert!(
            text.len() <= LINE && text.len() >= LINE - 2,
            "{}",
            text.len()
        );
    }

    #[test]
    fn a_short_line_is_whole() {
        let mut line = Line::new();
        line.push(PREFIX.as_bytes());
        write!(line, "addr={:#x}", 0x1000).expect("never fails");
        assert_eq!(line.finish(), b"hakmem: addr=0x1000\n");
    }

    /// Runs `f` in a forked child whose descriptor 2 `prepare` may replace, and returns what the file holds then.
    fn in_child(prepare: impl Fn(i32), f: impl Fn()) -> String {
        let path = std::env::temp_dir().join(std::format!(
            "hakmem-message-{}-{:?}",
            std::process::id(),
            std::thread::current().id()
        ));
        let c_path = std::ffi::CString::new(path.to_str().expect("utf-8")).expect("no NUL");
        // SAFETY: the child makes only system calls and uses this module, which does not allocate, and leaves by _exit.
        unsafe {
            let flags = libc::O_RDWR | libc::O_CREAT | libc::O_TRUNC;
            let fd = libc::open(c_path.as_ptr(), flags, 0o600);
            assert!(fd > 2);
            match libc::fork() {
                0 => {
                    prepare(fd);
                    f();
                    libc::_exit(0);
                }
                child => {
                    let mut status = 0;
                    assert_eq!(libc::waitpid(child, &mut status, 0), child);
                    libc::close(fd);
                }
            }
        }
        let text = std::fs::read_to_string(&path).expect("readable");
        std::fs::remove_file(&path).expect("removable");
        text
    }

    fn become_stderr(fd: i32) {
        // SAFETY: in a forked child of the test.
        unsafe { libc::dup2(fd, 2) };
    }

    #[test]
    fn a_message_reaches_the_stderr_it_remembered() {
        let text = in_child(become_stderr, || {
            STATE.store(UNKNOWN, Relaxed);
            remember_stderr();
            message!(
                "HAKMEM_THP={}: expected auto, always or never; using auto",
                "yes"
            );
        });
        assert_eq!(
            text,
            "hakmem: HAKMEM_THP=yes: expected auto, always or never; using auto\n"
        );
    }

    #[test]
    fn a_file_that_took_descriptor_2_gets_nothing() {
        let text = in_child(
            |fd| {
                STATE.store(UNKNOWN, Relaxed);
                remember_stderr();
                become_stderr(fd);
            },
            || message!("must not be seen"),
        );
        assert_eq!(text, "");
    }

    #[test]
    fn a_program_started_without_stderr_stays_silent() {
        let text = in_child(
            |fd| {
                // SAFETY: in a forked child of the test.
                unsafe { libc::close(2) };
                STATE.store(UNKNOWN, Relaxed);
                remember_stderr();
                become_stderr(fd);
            },
            || message!("must not be seen"),
        );
        assert_eq!(text, "");
    }

    #[test]
    fn terminals_and_the_null_device_are_harmless() {
        let identity = |path: &core::ffi::CStr| {
            let fd = sys::open(path, libc::O_RDWR | libc::O_NOCTTY, 0).expect("opens");
            let id = sys::fstat(fd).expect("fstat");
            sys::close(fd).expect("close");
            id
        };
        assert!(is_harmless(&identity(c"/dev/null")));
        assert!(!is_harmless(&identity(c"/dev/zero")));
        if std::path::Path::new("/dev/ptmx").exists() {
            assert!(
                is_harmless(&identity(c"/dev/ptmx")),
                "a pseudo-terminal's master is 5:2"
            );
        }
    }
}
