//! Brings in the program's own memory ahead of its use, at once or on a thread of its own with an eventfd to wait on.
//!
//! It works in steps with pauses, because one long populate would make every mapping call of other threads wait until its end.

use crate::{os_page, set_errno};
use core::ffi::{c_int, c_void};
use core::hint::black_box;
use core::mem::MaybeUninit;
use core::ptr;
use core::sync::atomic::{AtomicU8, Ordering};

const STEP: usize = 2 << 20;
const PAUSE_NS: i64 = 50_000;
/// Enough for `run`'s few frames and for the thread-local storage of many libraries, which glibc puts on the stack too.
const STACK: usize = 1 << 20;

/// The OS pages that contain `len` bytes at `addr`, or `None` if that is no range.
fn pages(addr: usize, len: usize) -> Option<(usize, usize)> {
    let page = os_page();
    let start = addr & !(page - 1);
    let end = addr.checked_add(len)?.checked_next_multiple_of(page)?;
    (addr != 0 && isize::try_from(len).is_ok()).then_some((start, end))
}

/// Brings in the range. Returns the bytes done and the error that ended it, or 0.
fn populate(start: usize, end: usize) -> (usize, c_int) {
    let mut at = start;
    while at < end {
        let step = STEP.min(end - at);
        if advise(at, step) != 0 {
            // SAFETY: the C library's own location.
            match unsafe { *libc::__errno_location() } {
                libc::EINTR | libc::EAGAIN => continue,
                error => return (at - start, error),
            }
        }
        at += step;
        if at < end {
            let pause = libc::timespec {
                tv_sec: 0,
                tv_nsec: PAUSE_NS,
            };
            // SAFETY: a plain call; a signal may shorten it, and no remainder is asked for.
            unsafe { libc::syscall(libc::SYS_nanosleep, &raw const pause, 0usize) };
        }
    }
    (end - start, 0)
}

/// For kernels before 5.14, which cannot populate by advice: a write to each OS page that changes nothing.
///
/// # Safety
/// The range is mapped for writing.
unsafe fn touch(start: usize, end: usize) {
    let page = os_page();
    for at in (start..end).step_by(page) {
        // SAFETY: the caller's promise; atomic, because the program may be writing there. The box hides the zero: the compiler
        // would drop an update that changes nothing, and the page would not come in.
        unsafe { AtomicU8::from_ptr(at as *mut u8) }.fetch_or(black_box(0), Ordering::Relaxed);
    }
}

/// Populates a range.
fn advise(at: usize, len: usize) -> libc::c_long {
    // SAFETY: populating changes no contents, and for addresses that are not mapped the kernel returns an error.
    unsafe {
        libc::syscall(
            libc::SYS_madvise,
            at,
            len,
            libc::MADV_POPULATE_WRITE as usize,
        )
    }
}

fn has_populate() -> bool {
    // For a range of no bytes the kernel only says whether it knows the advice.
    advise(0, 0) == 0
}

/// Brings in a range. Returns 0 when that is done, or the error number.
///
/// # Safety
/// The range is mapped for writing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hakmem_prefault(addr: *mut c_void, len: usize) -> c_int {
    let Some((start, end)) = pages(addr as usize, len) else {
        return libc::EINVAL;
    };
    // SAFETY: the C library's own location.
    let before = unsafe { *libc::__errno_location() };
    let error = if has_populate() {
        populate(start, end).1
    } else {
        // SAFETY: the caller's promise.
        unsafe { touch(start, end) };
        0
    };
    set_errno(before);
    error
}

struct Work {
    start: usize,
    end: usize,
    /// A duplicate: if the program closes its own descriptor, the thread does not write to the file that gets the number next.
    fd: c_int,
}

/// Brings in a range on a thread of its own. Returns an eventfd that becomes readable when that is done and that the caller
/// closes, or −1 with `errno` set if the work could not begin.
///
/// # Safety
/// The range is mapped for writing until then.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hakmem_prefault_start(addr: *mut c_void, len: usize) -> c_int {
    let Some((start, end)) = pages(addr as usize, len) else {
        set_errno(libc::EINVAL);
        return -1;
    };
    let flags = libc::EFD_CLOEXEC | libc::EFD_NONBLOCK;
    // SAFETY: a plain call.
    let fd = unsafe { libc::syscall(libc::SYS_eventfd2, 0, flags) } as c_int;
    if fd < 0 {
        return -1;
    }
    let error = begin(start, end, fd);
    if error != 0 {
        close(fd);
        set_errno(error);
        return -1;
    }
    fd
}

fn close(fd: c_int) {
    // SAFETY: a descriptor that was made here.
    unsafe { libc::syscall(libc::SYS_close, fd) };
}

fn begin(start: usize, end: usize, fd: c_int) -> c_int {
    // SAFETY: plain calls on values of this function. The work belongs to the new thread, if one was started.
    unsafe {
        let own = libc::syscall(libc::SYS_fcntl, fd, libc::F_DUPFD_CLOEXEC, 3usize) as c_int;
        if own < 0 {
            return *libc::__errno_location();
        }
        let work = libc::malloc(size_of::<Work>()).cast::<Work>();
        if work.is_null() {
            close(own);
            return libc::ENOMEM;
        }
        work.write(Work {
            start,
            end,
            fd: own,
        });
        let error = spawn(work);
        if error != 0 {
            close(own);
            libc::free(work.cast());
        }
        error
    }
}

unsafe fn spawn(work: *mut Work) -> c_int {
    let mut attributes = MaybeUninit::<libc::pthread_attr_t>::uninit();
    let mut all = MaybeUninit::<libc::sigset_t>::uninit();
    let mut before = MaybeUninit::<libc::sigset_t>::uninit();
    let mut thread = MaybeUninit::<libc::pthread_t>::uninit();
    // SAFETY: every value is initialised by the call before its use.
    unsafe {
        let error = libc::pthread_attr_init(attributes.as_mut_ptr());
        if error != 0 {
            return error;
        }
        libc::pthread_attr_setdetachstate(attributes.as_mut_ptr(), libc::PTHREAD_CREATE_DETACHED);
        libc::pthread_attr_setstacksize(attributes.as_mut_ptr(), STACK);
        // The program's signals are for the program's own threads.
        libc::sigfillset(all.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr());
        let error =
            libc::pthread_create(thread.as_mut_ptr(), attributes.as_ptr(), run, work.cast());
        libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), ptr::null_mut());
        libc::pthread_attr_destroy(attributes.as_mut_ptr());
        error
    }
}

extern "C" fn run(work: *mut c_void) -> *mut c_void {
    // SAFETY: `begin` made the work for this thread.
    unsafe {
        let work = work.cast::<Work>();
        let Work { start, end, fd } = work.read();
        libc::free(work.cast());
        let done = if has_populate() {
            populate(start, end).0
        } else {
            touch(start, end);
            end - start
        };
        // One more than the bytes, because an eventfd does not signal 0.
        let value = done as u64 + 1;
        libc::syscall(libc::SYS_write, fd, &raw const value, size_of::<u64>());
        close(fd);
    }
    ptr::null_mut()
}
