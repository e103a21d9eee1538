//! Two who should not have to wait: an event loop with a 1 ms timer, and a thread that maps and unmaps.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::maps::{Raw, done, owned};

const TICK: Duration = Duration::from_millis(1);

pub(crate) fn p99_and_worst(values: &mut [f64]) -> (f64, f64) {
    values.sort_by(f64::total_cmp);
    let at = (values.len() * 99 / 100).min(values.len().saturating_sub(1));
    (values.get(at).copied().unwrap_or(0.0), values.last().copied().unwrap_or(0.0))
}

/// Runs `body` while another thread maps and unmaps; answers the milliseconds each time took.
pub(crate) fn with_mapper(body: impl FnOnce() -> io::Result<()>) -> io::Result<Vec<f64>> {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let mapper = scope.spawn(|| {
            let mut times = Vec::new();
            // At least once, however short the rest was. A flag on its own: Relaxed.
            loop {
                let start = Instant::now();
                // What is mapped goes again at once; a refusal took its time too.
                drop(Raw::map(0, 65536, libc::PROT_READ, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1));
                times.push(start.elapsed().as_secs_f64() * 1e3);
                if stop.load(Ordering::Relaxed) {
                    return times;
                }
                std::thread::sleep(Duration::from_micros(200));
            }
        });
        let outcome = body();
        stop.store(true, Ordering::Relaxed);
        let times = mapper.join().map_err(|_| io::Error::other("the mapping thread failed"))?;
        outcome.map(|()| times)
    })
}

/// An event loop with a 1 ms timer.
pub(crate) struct Loop {
    epoll: OwnedFd,
    timer: OwnedFd,
    start: Instant,
    answered: u32,
    /// How late each tick was answered, in milliseconds.
    pub late: Vec<f64>,
}

impl Loop {
    pub(crate) fn new() -> io::Result<Loop> {
        // SAFETY: makes descriptors.
        let (epoll, timer) = unsafe {
            let timer = libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_NONBLOCK | libc::TFD_CLOEXEC);
            (owned(libc::epoll_create1(libc::EPOLL_CLOEXEC))?, owned(timer)?)
        };
        let time = libc::timespec { tv_sec: 0, tv_nsec: TICK.as_nanos() as libc::c_long };
        let spec = libc::itimerspec { it_interval: time, it_value: time };
        let lp = Loop { epoll, timer, start: Instant::now(), answered: 0, late: Vec::new() };
        // SAFETY: a valid timer and specification.
        done(unsafe { libc::timerfd_settime(lp.timer.as_raw_fd(), 0, &spec, std::ptr::null_mut()) })?;
        lp.watch(lp.timer.as_raw_fd()).map(|()| lp)
    }

    pub(crate) fn watch(&self, fd: i32) -> io::Result<()> {
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: fd as u64 };
        // SAFETY: two valid descriptors and an event.
        done(unsafe { libc::epoll_ctl(self.epoll.as_raw_fd(), libc::EPOLL_CTL_ADD, fd, &mut event) })
    }

    /// Waits for something, and answers the timer if that is it: how late the first unanswered tick was is noted.
    pub(crate) fn turn(&mut self) -> io::Result<()> {
        let mut event = libc::epoll_event { events: 0, u64: 0 };
        // SAFETY: room for one event.
        if unsafe { libc::epoll_wait(self.epoll.as_raw_fd(), &mut event, 1, -1) } < 0 {
            let e = io::Error::last_os_error();
            return if e.kind() == io::ErrorKind::Interrupted { Ok(()) } else { Err(e) };
        }
        let mut expired = 0u64;
        // SAFETY: a timer's read fills eight bytes.
        let n = unsafe { libc::read(self.timer.as_raw_fd(), (&raw mut expired).cast(), 8) };
        if n == 8 && expired > 0 {
            let due = TICK * (self.answered + 1);
            self.late.push(self.start.elapsed().saturating_sub(due).as_secs_f64() * 1e3);
            self.answered += expired as u32;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles() {
        let mut values: Vec<f64> = (0..200).rev().map(f64::from).collect();
        assert_eq!(p99_and_worst(&mut values), (198.0, 199.0));
        assert_eq!(p99_and_worst(&mut []), (0.0, 0.0));
    }
}
