//! Touching the host's memory before anything is timed.
//!
//! On a virtual machine the first touch of host memory can cost fifty times the second, and whoever happens to run first
//! pays it. So the harness touches, with huge pages, as much as the largest run needs, and gives it back. It says how far it
//! is, and ends early where its time is up.

use std::time::{Duration, Instant};

use bench_kernel::system;
use bench_subject::memory::{HUGE, Mapping};

use crate::{interrupt, output};

/// How often a warming that takes long says how far it is.
const EVERY: Duration = Duration::from_secs(3);

/// Touches about `bytes`, for at most `limit`, and says so on stderr. A failure is said too and changes nothing else.
pub fn warm(bytes: u64, limit: Duration) {
    // At least what the harness and small runs use; never more than half of what is available.
    let bytes = bytes.max(256 << 20).min(system::available_bytes() / 2);
    let start = Instant::now();
    let (mib, done) = (bytes >> 20, touch(bytes as usize, limit));
    let secs = start.elapsed().as_secs_f64();
    output::say(&match done {
        Ok(true) => format!(
            "host memory: {mib} MiB touched with huge pages and released in {secs:.2} s, so that no run pays a virtual machine's \
             first touch (--no-host-warm turns this off)\n"
        ),
        Ok(false) => format!("host memory: {mib} MiB could not all be touched in {secs:.0} s; going on\n"),
        Err(e) => format!("host memory: {mib} MiB could not be touched: {e}; going on\n"),
    });
}

/// Touches every OS page of so much memory, in huge pages where they are to be had; whether there was time for all.
fn touch(bytes: usize, limit: Duration) -> Result<bool, String> {
    let memory = Mapping::aligned(bytes.next_multiple_of(HUGE), libc::MAP_NORESERVE)?;
    let _ = memory.advise(libc::MADV_HUGEPAGE);
    let (start, mut said) = (Instant::now(), Instant::now());
    for piece in (0..memory.len).step_by(HUGE) {
        if start.elapsed() > limit || interrupt::asked() {
            return Ok(false);
        }
        if said.elapsed() > EVERY {
            said = Instant::now();
            output::say(&format!("host memory: {} of {} MiB touched\n", piece >> 20, memory.len >> 20));
        }
        memory.touch(piece, piece + HUGE, 4096);
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn touching_ends_when_its_time_is_up() {
        let start = Instant::now();
        assert_eq!(touch(1 << 40, Duration::from_millis(20)), Ok(false));
        assert!(start.elapsed() < Duration::from_secs(20));
    }
}
