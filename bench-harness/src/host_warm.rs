//! Touching the host's memory before anything is timed.
//!
//! On a virtual machine the first touch of host memory can cost fifty times the second, and whoever happens to run first
//! pays it. So a child of its own touches, with huge pages, as much as the largest run needs, and ends.

use std::process::Command;
use std::time::{Duration, Instant};

use crate::fail::Fail;
use crate::machine;
use crate::runner::run_limited;

const HUGE: usize = 2 << 20;

/// Touches about `bytes` in a child process and says so on stderr. A failure is said too and changes nothing else.
pub fn warm(bytes: u64) -> Result<(), Fail> {
    // At least what the harness and small runs use; never more than half of what is available.
    let bytes = bytes.max(256 << 20).min(machine::available_bytes() / 2);
    let program =
        std::env::current_exe().map_err(|e| Fail::run(format!("the path of this program: {e}")))?;
    let mut command = Command::new(program);
    command.args(["host-warm", &bytes.to_string()]);
    let start = Instant::now();
    let outcome = run_limited(command, Duration::from_secs(300));
    let mib = bytes >> 20;
    match outcome {
        Ok(f) if f.status.is_some_and(|s| s.success()) => eprintln!(
            "host memory: {mib} MiB touched with huge pages and released in {:.2} s, so that no run pays a virtual \
             machine's first touch (--no-host-warm turns this off)",
            start.elapsed().as_secs_f64()
        ),
        Ok(f) => eprintln!(
            "host memory: {mib} MiB could not be touched: {}; going on",
            crate::fail::one_line(&f.stderr)
        ),
        Err(e) => eprintln!("host memory: {mib} MiB could not be touched: {e}; going on"),
    }
    Ok(())
}

/// The child: touches, and ends.
pub fn child(bytes: u64) -> Result<(), Fail> {
    touch(bytes as usize).map_err(Fail::run)
}

/// Maps, asks for huge pages, touches every OS page's worth of at least 4 KiB, and unmaps.
pub fn touch(bytes: usize) -> Result<(), String> {
    let length = bytes.next_multiple_of(HUGE) + HUGE;
    let base = crate::memory::map(length, false)?;
    let start = base as usize;
    // SAFETY: the range is the mapping just made; the advice cannot harm it. Where huge pages are not to be had, 4 KiB
    // ones are touched all the same.
    unsafe { libc::madvise(base.cast(), length, libc::MADV_HUGEPAGE) };
    for offset in (0..length).step_by(4096) {
        // SAFETY: within the mapping.
        unsafe { ((start + offset) as *mut u8).write_volatile(1) };
    }
    // SAFETY: mapped above, and nobody else knows of it.
    unsafe { libc::munmap(base.cast(), length) };
    Ok(())
}
