//! Filters of system calls, as sandboxes install them: one refuses a single call with an errno, and one allows a list of calls
//! and ends the process at any other.

use libc::{BPF_ABS, BPF_JEQ, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W, c_long, sock_filter};
use std::sync::atomic::{AtomicI32, Ordering::Relaxed};

/// Exit code of a process that made a call which its filter does not let through.
pub const CAUGHT: i32 = 99;

/// Where the number of the call lies in what a filter is shown.
const NUMBER: u32 = 0;

fn op(code: u32, k: u32) -> sock_filter {
    sock_filter {
        code: code as u16,
        jt: 0,
        jf: 0,
        k,
    }
}

/// Goes on with the next instruction if the call is this one, else with the one behind it.
fn if_call(call: c_long) -> sock_filter {
    sock_filter {
        jf: 1,
        ..op(BPF_JMP | BPF_JEQ | BPF_K, call as u32)
    }
}

/// Puts a filter on every thread of the process. The numbers are those of the machine the test was built for: no other
/// architecture's calls are made here.
fn install(mut program: Vec<sock_filter>) {
    let filter = libc::sock_fprog {
        len: program.len() as u16,
        filter: program.as_mut_ptr(),
    };
    // SAFETY: the program outlives the calls, which copy it.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        let how = libc::SECCOMP_SET_MODE_FILTER;
        let flags = libc::SECCOMP_FILTER_FLAG_TSYNC;
        let outcome = libc::syscall(libc::SYS_seccomp, how, flags, &raw const filter);
        assert_eq!(outcome, 0, "{}", std::io::Error::last_os_error());
    }
}

/// Whether a filter may be installed here. Without CONFIG_SECCOMP_FILTER there is nothing to test.
pub fn available() -> bool {
    // SAFETY: asks whether the kernel knows the action; changes nothing.
    unsafe {
        let action = libc::SECCOMP_RET_ERRNO;
        let what = libc::SECCOMP_GET_ACTION_AVAIL;
        libc::syscall(libc::SYS_seccomp, what, 0, &raw const action) == 0
    }
}

/// Makes the kernel return this errno for that call from now on.
pub fn refuse(call: c_long, errno: i32) {
    install(vec![
        op(BPF_LD | BPF_W | BPF_ABS, NUMBER),
        if_call(call),
        op(BPF_RET | BPF_K, libc::SECCOMP_RET_ERRNO | errno as u32),
        op(BPF_RET | BPF_K, libc::SECCOMP_RET_ALLOW),
    ]);
}

/// Ends the process at any call but these from now on, with [`CAUGHT`] and a line that names the call. Apart from the line it
/// is like `SECCOMP_RET_KILL`.
pub fn allow_only(calls: &[c_long]) {
    // SAFETY: the handler calls nothing but `write` and `_exit`.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = caught as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO;
        assert_eq!(
            libc::sigaction(libc::SIGSYS, &action, std::ptr::null_mut()),
            0
        );
    }
    let mut program = vec![op(BPF_LD | BPF_W | BPF_ABS, NUMBER)];
    // What the test itself reports and ends with.
    for &call in calls.iter().chain(&[libc::SYS_write, libc::SYS_exit_group]) {
        program.push(if_call(call));
        program.push(op(BPF_RET | BPF_K, libc::SECCOMP_RET_ALLOW));
    }
    program.push(op(BPF_RET | BPF_K, libc::SECCOMP_RET_TRAP));
    install(program);
}

extern "C" fn caught(_: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    /// So that a second thread does not write between the digits.
    static ONCE: AtomicI32 = AtomicI32::new(0);
    // SAFETY: the kernel's struct, in which the call's number follows an address after the three words all signals have.
    let mut number = unsafe { *info.cast::<libc::c_int>().add(6) };
    if ONCE.swap(1, Relaxed) == 0 {
        let mut line = *b"\nreport caught=000\n";
        for place in (15..18).rev() {
            line[place] = b'0' + (number % 10) as u8;
            number /= 10;
        }
        // SAFETY: a buffer of this length.
        unsafe { libc::write(1, line.as_ptr().cast(), line.len()) };
    }
    // SAFETY: ends the process here.
    unsafe { libc::_exit(CAUGHT) };
}
