//! Two who should not have to wait: an event loop with a 1 ms timer, and a thread that maps and unmaps.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const TICK: Duration = Duration::from_millis(1);

/// Late answers of the loop and waits of the mapping thread, in milliseconds.
#[derive(Default)]
pub(crate) struct Waits {
    pub ticks: Vec<f64>,
    pub maps: Vec<f64>,
    /// The same without the time in which the mapping thread could have run and had no processor.
    pub blocked: Vec<f64>,
}

/// The 99th percentile and the greatest.
pub(crate) fn p99_and_worst(values: &mut [f64]) -> (f64, f64) {
    values.sort_by(f64::total_cmp);
    let at = (values.len() * 99 / 100).min(values.len().saturating_sub(1));
    (values.get(at).copied().unwrap_or(0.0), values.last().copied().unwrap_or(0.0))
}

/// Runs `body` while another thread maps and unmaps.
pub(crate) fn with_mapper(waits: &mut Waits, body: impl FnOnce(&mut Vec<f64>) -> io::Result<()>) -> io::Result<()> {
    let stop = AtomicBool::new(false);
    let ticks = &mut waits.ticks;
    std::thread::scope(|scope| {
        let mapper = scope.spawn(|| {
            let (mut times, mut blocked) = (Vec::new(), Vec::new());
            let queue = RunQueue::open();
            // At least once, however short the rest was.
            loop {
                let queued = queue.waited_ms();
                let start = Instant::now();
                map_and_unmap();
                let time = start.elapsed().as_secs_f64() * 1e3;
                times.push(time);
                blocked.push((time - (queue.waited_ms() - queued)).max(0.0));
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                std::thread::sleep(Duration::from_micros(200));
            }
            (times, blocked)
        });
        let outcome = body(ticks);
        stop.store(true, Ordering::Relaxed);
        match mapper.join() {
            Ok((maps, blocked)) => (waits.maps, waits.blocked) = (maps, blocked),
            Err(_) => return Err(io::Error::other("the mapping thread failed")),
        }
        outcome
    })
}

/// How long this thread could have run and had no processor, by the scheduler's account.
struct RunQueue(Option<File>);

impl RunQueue {
    /// Of the calling thread. Where the kernel does not say, it is 0.
    fn open() -> RunQueue {
        RunQueue(File::open("/proc/thread-self/schedstat").ok())
    }

    fn waited_ms(&self) -> f64 {
        let mut text = [0; 64];
        let read = self.0.as_ref().map(|file| file.read_at(&mut text, 0));
        let read = read.and_then(Result::ok).unwrap_or(0);
        let text = std::str::from_utf8(&text[..read]).unwrap_or("");
        let second = text.split_whitespace().nth(1);
        second.and_then(|n| n.parse().ok()).map_or(0.0, |ns: f64| ns / 1e6)
    }
}

fn map_and_unmap() {
    // SAFETY: a mapping of our own, unmapped before anybody sees it.
    unsafe {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let p = libc::mmap(std::ptr::null_mut(), 65536, libc::PROT_READ, flags, -1, 0);
        if p != libc::MAP_FAILED {
            libc::munmap(p, 65536);
        }
    }
}

/// An event loop with a 1 ms timer.
pub(crate) struct Loop {
    epoll: OwnedFd,
    timer: OwnedFd,
    start: Instant,
    answered: u32,
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
        let start = Instant::now();
        // SAFETY: a valid timer and specification.
        if unsafe { libc::timerfd_settime(timer.as_raw_fd(), 0, &spec, std::ptr::null_mut()) } != 0 {
            return Err(io::Error::last_os_error());
        }
        let lp = Loop { epoll, timer, start, answered: 0 };
        lp.watch(lp.timer.as_raw_fd())?;
        Ok(lp)
    }

    pub(crate) fn watch(&self, fd: i32) -> io::Result<()> {
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: fd as u64 };
        // SAFETY: two valid descriptors and an event.
        match unsafe { libc::epoll_ctl(self.epoll.as_raw_fd(), libc::EPOLL_CTL_ADD, fd, &mut event) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Waits for something, and answers the timer if that is it: how late the first unanswered tick was, in ms.
    pub(crate) fn turn(&mut self, late: &mut Vec<f64>) -> io::Result<()> {
        let mut event = libc::epoll_event { events: 0, u64: 0 };
        // SAFETY: room for one event.
        let n = unsafe { libc::epoll_wait(self.epoll.as_raw_fd(), &mut event, 1, -1) };
        if n < 0 {
            let e = io::Error::last_os_error();
            return if e.kind() == io::ErrorKind::Interrupted { Ok(()) } else { Err(e) };
        }
        let mut expired = 0u64;
        // SAFETY: a timer's read fills eight bytes.
        let n = unsafe { libc::read(self.timer.as_raw_fd(), (&raw mut expired).cast(), 8) };
        if n == 8 && expired > 0 {
            let due = TICK * (self.answered + 1);
            late.push(self.start.elapsed().saturating_sub(due).as_secs_f64() * 1e3);
            self.answered += expired as u32;
        }
        Ok(())
    }
}

fn owned(fd: i32) -> io::Result<OwnedFd> {
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: just made, and owned by nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scheduler_is_asked_about_this_very_thread() {
        let queue = RunQueue::open();
        let before = queue.waited_ms();
        std::thread::yield_now();
        assert!(queue.waited_ms() >= before);
        assert_eq!(RunQueue(None).waited_ms(), 0.0);
    }

    #[test]
    fn percentiles() {
        let mut values: Vec<f64> = (0..200).rev().map(f64::from).collect();
        assert_eq!(p99_and_worst(&mut values), (198.0, 199.0));
        assert_eq!(p99_and_worst(&mut []), (0.0, 0.0));
    }
}
