//! Touching the host's memory before anything is timed.
//!
//! On a virtual machine the first touch of host memory can cost fifty times the second, and whoever happens to run first
//! pays it. So a child of its own touches, with huge pages, as much as the largest run needs, and ends. It says how far it
//! is, and ends early where its time is up.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bench_subject::memory::map;

use crate::fail::Fail;
use crate::{interrupt, machine, output, runner};

const HUGE: usize = 2 << 20;

/// How often a warming that takes long says how far it is.
const EVERY: Duration = Duration::from_secs(3);

/// Touches about `bytes` in a child process, for at most `limit`, and says so on stderr. A failure is said too and changes
/// nothing else.
pub fn warm(bytes: u64, limit: Duration) -> Result<(), Fail> {
    // At least what the harness and small runs use; never more than half of what is available.
    let bytes = bytes.max(256 << 20).min(machine::available_bytes() / 2);
    let mut command = Command::new(runner::own()?);
    command.args(["host-warm", &bytes.to_string(), &limit.as_millis().to_string()]);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let start = Instant::now();
    let ended = command.spawn().and_then(|mut child| {
        // The child watches the time itself; one that hangs is ended here.
        while start.elapsed() < limit + Duration::from_secs(5) && !interrupt::asked() {
            if let Some(status) = child.try_wait()? {
                return Ok(status.success());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        child.kill()?;
        child.wait().map(|_| false)
    });
    let (mib, secs) = (bytes >> 20, start.elapsed().as_secs_f64());
    output::say(&match ended {
        Ok(true) => format!(
            "host memory: {mib} MiB touched with huge pages and released in {secs:.2} s, so that no run pays a virtual machine's \
             first touch (--no-host-warm turns this off)\n"
        ),
        Ok(false) => format!("host memory: {mib} MiB could not all be touched in {secs:.0} s; going on\n"),
        Err(e) => format!("host memory: {mib} MiB could not be touched: {e}; going on\n"),
    });
    Ok(())
}

/// The child: touches until it is through or its time is up.
pub fn child(bytes: u64, limit_ms: u64) -> Result<(), Fail> {
    touch(bytes as usize, Duration::from_millis(limit_ms)).map_err(Fail::run)
}

/// Maps, asks for huge pages, touches every OS page's worth of at least 4 KiB, and unmaps.
fn touch(bytes: usize, limit: Duration) -> Result<(), String> {
    let length = bytes.next_multiple_of(HUGE) + HUGE;
    let base = map(length, false)? as usize;
    // SAFETY: the range is the mapping just made; the advice cannot harm it. Where huge pages are not to be had, 4 KiB ones
    // are touched all the same.
    unsafe { libc::madvise(base as *mut _, length, libc::MADV_HUGEPAGE) };
    let (start, mut said) = (Instant::now(), Instant::now());
    for offset in (0..length).step_by(4096) {
        // SAFETY: within the mapping.
        unsafe { ((base + offset) as *mut u8).write_volatile(1) };
        if !offset.is_multiple_of(HUGE) {
            continue;
        }
        if said.elapsed() > EVERY {
            said = Instant::now();
            output::say(&format!("host memory: {} of {} MiB touched\n", offset >> 20, length >> 20));
        }
        if start.elapsed() > limit {
            output::say(&format!(
                "host memory: {} of {} MiB touched when its time was up\n",
                offset >> 20,
                length >> 20
            ));
            break;
        }
    }
    // SAFETY: mapped above, and nobody else knows of it.
    unsafe { libc::munmap(base as *mut _, length) };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn touching_ends_when_its_time_is_up() {
        let start = Instant::now();
        touch(1 << 40, Duration::from_millis(20)).unwrap();
        assert!(start.elapsed() < Duration::from_secs(20));
    }
}
