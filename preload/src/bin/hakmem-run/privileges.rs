//! Whether the kernel would raise a program's privileges: then the loader ignores `LD_PRELOAD`.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

const SETUID: u32 = 0o4000;
const SETGID_AND_RUNNABLE: u32 = 0o2010;

/// Why the library would be ignored, or `None`. A program that is setuid to the user who runs it raises nothing: root may run
/// `su` with the library.
pub(crate) fn raised(path: &Path) -> io::Result<Option<&'static str>> {
    let meta = fs::metadata(path)?;
    let (setuid, setgid) = (
        meta.mode() & SETUID != 0,
        meta.mode() & SETGID_AND_RUNNABLE == SETGID_AND_RUNNABLE,
    );
    let (user, group) = real_ids();
    let other_user = setuid && meta.uid() != user;
    let other_group = setgid && meta.gid() != group;
    // A process of root gains nothing by them.
    let capabilities = user != 0 && has_capabilities(path)?;
    if !(other_user || other_group || capabilities) || ignored(path)? {
        return Ok(None);
    }
    Ok(Some(if capabilities {
        "a program with file capabilities ignores LD_PRELOAD; it would run without the library"
    } else {
        "a setuid or setgid program ignores LD_PRELOAD; it would run without the library"
    }))
}

#[allow(unsafe_code, reason = "what std has no call for")]
fn real_ids() -> (u32, u32) {
    // SAFETY: plain queries, which cannot fail.
    unsafe { (libc::getuid(), libc::getgid()) }
}

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(io::Error::other)
}

#[allow(unsafe_code, reason = "what std has no call for")]
fn has_capabilities(path: &Path) -> io::Result<bool> {
    let path = c_path(path)?;
    // SAFETY: two C strings; with a length of 0 nothing is written.
    let len = unsafe {
        libc::getxattr(
            path.as_ptr(),
            c"security.capability".as_ptr(),
            std::ptr::null_mut(),
            0,
        )
    };
    // Any failure means that there is no such attribute, or that the file system has none.
    Ok(len > 0)
}

/// Whether nothing is raised here: the file system is mounted `nosuid`, or the process has set no_new_privs.
#[allow(unsafe_code, reason = "what std has no call for")]
fn ignored(path: &Path) -> io::Result<bool> {
    let path = c_path(path)?;
    // SAFETY: plain queries; the second gets a C string and a struct of integers, valid when zero.
    unsafe {
        let given_up = libc::prctl(libc::PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1;
        let mut mount: libc::statvfs = std::mem::zeroed();
        let asked = libc::statvfs(path.as_ptr(), &mut mount) == 0;
        Ok(given_up || (asked && mount.f_flag & libc::ST_NOSUID != 0))
    }
}
