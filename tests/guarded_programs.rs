//! A whole program whose blocks are guarded from its start on.
//!
//! Behaviour imitated: a Rust program with the allocator as its global one, whose standard library asks whether there is a handler
//! of SIGSEGV, allocates, and installs its own, all before `main`. It is no program of libtest's, whose blocks would take all
//! slots for guarded ones.

mod common;

use common::child;
use hakmem_alloc::Hakmem;
use std::os::unix::process::ExitStatusExt;

#[global_allocator]
static HAKMEM: Hakmem = Hakmem::new();

/// Not named `HAKMEM_*`: the allocator reports names of that kind which it does not know.
const CASE: &str = "ALLOC_TEST_CASE";

fn main() {
    // An OS page's worth, so that it ends where the page does.
    // SAFETY: a plain query.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize;
    if std::env::var_os(CASE).is_some() {
        // The first of them may come from a bin that is not empty.
        let mut blocks: Vec<Vec<u8>> = (0..6).map(|_| vec![1; page]).collect();
        for block in &mut blocks {
            // SAFETY: none, which is the point: behind a guarded one there is no access.
            unsafe { block.as_mut_ptr().add(page).write_volatile(7) };
        }
        return;
    }
    let program = std::env::current_exe().expect("this program");
    let ended = child::command(program)
        .env(CASE, "past")
        .env("HAKMEM_GUARD_EVERY", "1")
        .output()
        .expect("starts");
    assert_eq!(ended.status.signal(), Some(libc::SIGABRT), "{ended:?}");
    let says = format!(": 1 byte past a block of {page} bytes");
    let stderr = String::from_utf8_lossy(&ended.stderr);
    assert!(stderr.contains(&says), "{stderr}");
}
