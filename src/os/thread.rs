//! Threads, as the C library and the kernel see them.

use super::linux;
use super::object;
use super::sys::{self, Errno};
use crate::base::tuning;
use core::ffi::{CStr, c_void};
use core::fmt::Write;
use core::mem::MaybeUninit;
use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};

/// The address of a symbol of the C library, 0 if it has none of this name. The linker resolves it, not a call of the loader,
/// so it may be used anywhere.
#[cfg(all(target_env = "gnu", target_arch = "x86_64", not(miri)))]
macro_rules! weak_address {
    ($name:literal) => {{
        let address: usize;
        // SAFETY: reads an entry of the global offset table, which does not change once the object is loaded.
        unsafe {
            core::arch::asm!(
                concat!(".weak ", $name),
                concat!("mov {}, qword ptr [rip + ", $name, "@GOTPCREL]"),
                out(reg) address,
                options(pure, nomem, nostack, preserves_flags),
            );
        }
        address
    }};
}
#[cfg(all(target_env = "gnu", target_arch = "aarch64", not(miri)))]
macro_rules! weak_address {
    ($name:literal) => {{
        let address: usize;
        // SAFETY: as on x86_64.
        unsafe {
            core::arch::asm!(
                concat!(".weak ", $name),
                concat!("adrp {0}, :got:", $name),
                concat!("ldr {0}, [{0}, :got_lo12:", $name, "]"),
                out(reg) address,
                options(pure, nomem, nostack, preserves_flags),
            );
        }
        address
    }};
}
#[cfg(not(all(
    target_env = "gnu",
    any(target_arch = "x86_64", target_arch = "aarch64"),
    not(miri)
)))]
macro_rules! weak_address {
    ($name:literal) => {
        0usize
    };
}
pub(super) use weak_address;

/// A word that no other living thread of the process has. Unlike the kernel's thread number it stays the same in the child of a
/// fork. May be called in a signal handler.
pub(crate) fn me() -> usize {
    // SAFETY: a plain query.
    unsafe { libc::pthread_self() as usize }
}

/// The kernel's number of the calling thread.
pub(crate) fn tid() -> u32 {
    // SAFETY: a plain query, which cannot fail.
    unsafe { libc::syscall(libc::SYS_gettid) as u32 }
}

/// Whether the calling thread is its process's first.
pub(crate) fn is_first() -> bool {
    tid() == pid()
}

/// The process whose threads the allocator knows; 0 before it is noted. Written when the process has one thread; else only
/// read, so Relaxed.
static PROCESS: AtomicU32 = AtomicU32::new(0);

/// Notes the calling thread's process, whose number this is, unless one is noted. Returns whether it did.
pub(crate) fn note_process(pid: u32) -> bool {
    let first = PROCESS.load(Relaxed) == 0;
    if first {
        PROCESS.store(pid, Relaxed);
    }
    first
}

/// In the child of a fork: notes it, if its parent was noted. Returns whether it did.
pub(crate) fn process_is_new() -> bool {
    let noted = PROCESS.load(Relaxed) != 0;
    if noted {
        PROCESS.store(pid(), Relaxed);
    }
    noted
}

/// Whether the calling thread is of the process that was noted. A child of `vfork` is not: it runs in that one's memory, must
/// start no thread there, and finds none of its threads ([`is_gone`]).
pub(crate) fn is_of_process() -> bool {
    pid() == PROCESS.load(Relaxed)
}

/// Whether the thread with this number is the first of the process that was noted.
pub(crate) fn is_processes_first(tid: u32) -> bool {
    tid == PROCESS.load(Relaxed)
}

/// The number of a thread that no process has: more than the kernel ever gives.
pub(crate) const NO_THREAD: u32 = i32::MAX as u32;

pub(crate) use super::linux::pid;

/// Whether the thread with this number has ended, so that it runs no further instruction of the process. False if the kernel
/// refuses to say. Leaves `errno` alone.
pub(crate) fn is_gone(tid: u32) -> bool {
    sys::preserve_errno(|| {
        // SAFETY: signal 0 checks for the thread and sends nothing.
        let sent = unsafe { libc::syscall(libc::SYS_tgkill, pid(), tid, 0) };
        sent == -1 && Errno::last().0 == libc::ESRCH
    })
}

/// Whether the C library takes the process for one of a single thread, and so takes fewer locks. False where it does not say.
pub(crate) fn single_to_libc() -> bool {
    let flag = weak_address!("__libc_single_threaded") as *const u8;
    // SAFETY: glibc's variable, a `char`, if it exists. Another thread writes it only if there is one, and a read of one byte
    // cannot tear.
    !flag.is_null() && unsafe { flag.read_volatile() } != 0
}

/// An address in the last words of the first thread's stack, which the loader noted before it began the program. 0 where it does not
/// say.
#[inline]
pub(crate) fn first_stack_end() -> usize {
    match weak_address!("__libc_stack_end") as *const usize {
        none if none.is_null() => 0,
        // SAFETY: glibc's variable, a pointer, which does not change.
        end => unsafe { end.read() },
    }
}

/// How many threads the process has; `None` if that is unknown. Leaves `errno` alone.
pub(crate) fn count() -> Option<u64> {
    if single_to_libc() {
        return Some(1);
    }
    // glibc does not set its flag again in the child of a fork, and musl has none. A directory has a link for each directory in
    // it, and two more.
    let links = sys::preserve_errno(|| linux::links(c"/proc/self/task"));
    links.ok().map(|links| links.saturating_sub(2))
}

/// Whether the thread sleeps and a signal could wake it, as when it waits for a lock. Leaves `errno` alone.
pub(crate) fn sleeps(tid: u32) -> bool {
    let mut path = Path::new();
    let mut text = [0; 128];
    if write!(path, "/proc/self/task/{tid}/stat\0").is_err() {
        return false;
    }
    let Ok(path) = CStr::from_bytes_until_nul(&path.bytes) else {
        return false;
    };
    let Ok(read) = sys::preserve_errno(|| sys::read_file(path, &mut text)) else {
        return false;
    };
    // The thread's name, in brackets, may contain anything. The state follows the last bracket.
    let text = text.get(..read).unwrap_or(&[]);
    let end = text.iter().rposition(|&byte| byte == b')');
    end.and_then(|end| text.get(end + 2)) == Some(&b'S')
}

struct Path {
    bytes: [u8; 48],
    len: usize,
}

impl Path {
    fn new() -> Path {
        Path {
            bytes: [0; 48],
            len: 0,
        }
    }
}

impl Write for Path {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        let to = self.bytes.get_mut(self.len..self.len + text.len());
        to.ok_or(core::fmt::Error)?.copy_from_slice(text.as_bytes());
        self.len += text.len();
        Ok(())
    }
}

/// Tells a process from its ancestors: the child of a fork never has its parent's value. The kernel's process id alone does
/// not, because each namespace has its own ids.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Process {
    pid: u32,
    forks: u32,
}

/// Forks between this process and the first ancestor that called [`process`]. It is written only in a child, which has one
/// thread: Relaxed.
static FORKS: AtomicU32 = AtomicU32::new(0);

unsafe extern "C" fn count_fork() {
    FORKS.fetch_add(1, Relaxed);
}

/// This process.
pub(crate) fn process() -> Process {
    static COUNTING: AtomicBool = AtomicBool::new(false);
    if !COUNTING.load(Relaxed) {
        // Registering twice is harmless: a fork then counts as two. If it is refused, the process id alone has to do.
        // SAFETY: the handler is a plain function. The C library forgets the handlers of an object that is unloaded.
        let _ = unsafe { libc::pthread_atfork(None, None, Some(count_fork)) };
        COUNTING.store(true, Relaxed);
    }
    Process {
        pid: pid(),
        forks: FORKS.load(Relaxed),
    }
}

/// Functions that take and release glibc's lock around the list of open streams. The same thread may take it more than once.
/// `None` for C libraries without functions of these names.
pub(crate) fn stdio_lock() -> Option<(unsafe extern "C" fn(), unsafe extern "C" fn())> {
    let lock = weak_address!("_IO_list_lock") as *const c_void;
    let unlock = weak_address!("_IO_list_unlock") as *const c_void;
    if lock.is_null() || unlock.is_null() {
        return None;
    }
    // SAFETY: both are functions of glibc without arguments or results.
    unsafe {
        Some((
            core::mem::transmute::<*const c_void, unsafe extern "C" fn()>(lock),
            core::mem::transmute::<*const c_void, unsafe extern "C" fn()>(unlock),
        ))
    }
}

/// Starts a detached thread of the allocator's own and returns whether the C library did. No lock may be held.
#[cold]
pub(crate) fn spawn(body: extern "C" fn(*mut c_void) -> *mut c_void) -> bool {
    spawn_for(body, ptr::null_mut()).is_ok()
}

/// The same for a body that is given `arg`; no lock of the allocator's may be held. It works in the child of a fork whatever the
/// parent's other threads did. A thread of the standard library may wait there for a lock that one of them held at the fork.
#[cold]
pub(crate) fn spawn_for(
    body: extern "C" fn(*mut c_void) -> *mut c_void,
    arg: *mut c_void,
) -> Result<(), Errno> {
    pin();
    // SAFETY: plain pthread calls on locals. The new thread inherits the mask, so all signals stay blocked in it.
    unsafe {
        let mut all = MaybeUninit::<libc::sigset_t>::uninit();
        let mut old = MaybeUninit::<libc::sigset_t>::uninit();
        libc::sigfillset(all.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), old.as_mut_ptr());
        let mut attr = MaybeUninit::<libc::pthread_attr_t>::uninit();
        libc::pthread_attr_init(attr.as_mut_ptr());
        libc::pthread_attr_setstacksize(attr.as_mut_ptr(), tuning::helper::STACK);
        libc::pthread_attr_setdetachstate(attr.as_mut_ptr(), libc::PTHREAD_CREATE_DETACHED);
        let mut thread = MaybeUninit::<libc::pthread_t>::uninit();
        let code = libc::pthread_create(thread.as_mut_ptr(), attr.as_ptr(), body, arg);
        libc::pthread_attr_destroy(attr.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, old.as_ptr(), ptr::null_mut());
        match code {
            0 => Ok(()),
            code => Err(Errno(code)),
        }
    }
}

/// Keeps the shared object that contains this code loaded: threads run in it, and memory handed out outlives it.
///
/// The loader is asked only if necessary, and only once. It holds its lock while it runs a library's constructors, and one of
/// those may wait for the very thread that would ask here.
pub(crate) fn pin() {
    static PINNED: AtomicBool = AtomicBool::new(false);
    if object::stays() || PINNED.swap(true, Relaxed) {
        return;
    }
    // SAFETY: plain calls; the name from dladdr lives as long as the object.
    unsafe {
        let mut info = MaybeUninit::<libc::Dl_info>::zeroed();
        if libc::dladdr((pin as *const ()).cast(), info.as_mut_ptr()) != 0 {
            let name = info.assume_init().dli_fname;
            let how = libc::RTLD_LAZY | libc::RTLD_NOLOAD | libc::RTLD_NODELETE;
            if !name.is_null() && !libc::dlopen(name, how).is_null() {
                return;
            }
        }
    }
    // Not found (a relative name after a chdir, say): the next start of a thread tries again.
    PINNED.store(false, Relaxed);
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
    use std::thread;

    static TID: AtomicU32 = AtomicU32::new(0);
    static GO: AtomicBool = AtomicBool::new(false);

    extern "C" fn told(_: *mut c_void) -> libc::c_int {
        libc::c_int::from(is_of_process())
    }

    #[test]
    fn a_child_in_the_same_memory_is_not_of_the_process() {
        // Another test's allocation may have done it.
        note_process(pid());
        assert!(is_of_process());
        let mut stack = std::vec![0u128; 4096];
        let mut status = 0;
        // SAFETY: this thread waits until the child, which has a stack of its own and only asks for its number, has ended.
        unsafe {
            let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
            let top = stack.as_mut_ptr_range().end.cast();
            let child = libc::clone(told, top, flags, ptr::null_mut());
            assert!(child > 0);
            assert_eq!(libc::waitpid(child, &raw mut status, 0), child);
        }
        assert!(libc::WIFEXITED(status));
        assert_eq!(libc::WEXITSTATUS(status), 0);
    }

    #[test]
    fn threads_are_told_apart_asleep_and_gone() {
        let other = thread::spawn(|| {
            TID.store(tid(), Ordering::Release);
            while !GO.load(Ordering::Acquire) {
                thread::park();
            }
            me()
        });
        while TID.load(Ordering::Acquire) == 0 {
            thread::yield_now();
        }
        let theirs = TID.load(Ordering::Acquire);
        assert!(count().is_none_or(|count| count > 1) && !is_gone(theirs) && !is_gone(tid()));
        while !sleeps(theirs) {
            thread::yield_now();
        }
        assert!(!sleeps(tid()), "the calling thread runs");
        GO.store(true, Ordering::Release);
        other.thread().unpark();
        assert_ne!(other.join().expect("the other"), me());
        assert!(is_gone(NO_THREAD));
        // The kernel takes its number back a moment after the join.
        while !is_gone(theirs) {
            thread::yield_now();
        }
        assert!(!sleeps(theirs));
    }
}
