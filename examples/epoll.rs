//! An event loop that keeps answering a 1 ms timer while 1 GiB of memory and a real file come in.
//!
//! ```text
//! cargo run --release --example epoll [FILE]
//! ```
//! Without a file it makes one of 256 MiB in the temporary directory and drops it from the page
//! cache first. Prints when each came in, and how late the timer was answered meanwhile.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

use hakmem_alloc::region::{Backing, HugeWish, Region, Ticket};

const TICK: Duration = Duration::from_millis(1);

/// What a descriptor in the loop stands for; `epoll` hands the number back.
const TIMER: u64 = 0;
const FIRST_TICKET: u64 = 1;

fn main() -> io::Result<()> {
    let path = std::env::args_os().nth(1);
    let file = match &path {
        Some(path) => File::open(path)?,
        None => made_file(256 << 20)?,
    };

    let memory = Region::builder().len(1 << 30).huge(HugeWish::Want).map()?;
    let contents = Region::builder()
        .backing(Backing::FileReadOnly(file))
        .map()?;
    let work = [("1 GiB of memory", &memory), ("the file", &contents)];

    let epoll = new_epoll()?;
    let timer = new_timer(TICK)?;
    watch(&epoll, &timer, TIMER)?;
    let start = Instant::now();
    let mut tickets: Vec<Option<Ticket>> = Vec::new();
    for ((_, region), key) in work.iter().zip(FIRST_TICKET..) {
        let ticket = region.prefault_async()?;
        watch(&epoll, &ticket, key)?;
        tickets.push(Some(ticket));
    }

    let mut late: Vec<Duration> = Vec::new();
    let mut ticks = 0u64;
    let timer_start = Instant::now();
    while tickets.iter().any(Option::is_some) {
        for key in wait(&epoll)? {
            if key == TIMER {
                // How many periods have passed since the last read: more than one means late.
                ticks += expirations(&timer)?;
                late.push(timer_start.elapsed().saturating_sub(TICK * ticks as u32));
                continue;
            }
            let index = (key - FIRST_TICKET) as usize;
            let Some(ticket) = tickets[index].take() else {
                continue;
            };
            // Readable means done; dropping the ticket also takes it out of the epoll set.
            let done = ticket.try_done().expect("readable, so done")?;
            println!(
                "{}: {} MiB in after {:.0} ms, {} MiB of it on huge pages",
                work[index].0,
                done.bytes >> 20,
                start.elapsed().as_secs_f64() * 1e3,
                done.huge_bytes >> 20
            );
        }
    }
    late.sort_unstable();
    let p99 = late
        .get(late.len() * 99 / 100)
        .or(late.last())
        .copied()
        .unwrap_or_default();
    println!(
        "the 1 ms timer meanwhile: answered {} times, p99 {:.2} ms late, worst {:.2} ms",
        late.len(),
        p99.as_secs_f64() * 1e3,
        late.last().copied().unwrap_or_default().as_secs_f64() * 1e3
    );
    Ok(())
}

/// A file that is on the disk and not in the page cache, unlinked.
fn made_file(len: usize) -> io::Result<File> {
    let path = std::env::temp_dir().join(format!("hakmem-epoll-{}", std::process::id()));
    let mut file = File::options()
        .create_new(true)
        .read(true)
        .write(true)
        .open(&path)?;
    std::fs::remove_file(&path)?;
    let piece = vec![0x5A; 1 << 20];
    for _ in 0..len >> 20 {
        file.write_all(&piece)?;
    }
    file.sync_all()?;
    // SAFETY: advice about a descriptor of our own.
    match unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) } {
        0 => Ok(file),
        e => Err(io::Error::from_raw_os_error(e)),
    }
}

fn new_epoll() -> io::Result<OwnedFd> {
    // SAFETY: makes a descriptor.
    owned(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })
}

fn new_timer(period: Duration) -> io::Result<OwnedFd> {
    // SAFETY: makes a descriptor.
    let timer = owned(unsafe {
        libc::timerfd_create(
            libc::CLOCK_MONOTONIC,
            libc::TFD_NONBLOCK | libc::TFD_CLOEXEC,
        )
    })?;
    let time = libc::timespec {
        tv_sec: 0,
        tv_nsec: period.as_nanos() as libc::c_long,
    };
    let spec = libc::itimerspec {
        it_interval: time,
        it_value: time,
    };
    // SAFETY: a valid timer and specification.
    let r = unsafe { libc::timerfd_settime(timer.as_raw_fd(), 0, &spec, std::ptr::null_mut()) };
    if r == 0 {
        Ok(timer)
    } else {
        Err(io::Error::last_os_error())
    }
}

fn owned(fd: i32) -> io::Result<OwnedFd> {
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: just made, and owned by nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn watch(epoll: &OwnedFd, fd: &impl AsFd, key: u64) -> io::Result<()> {
    let mut event = libc::epoll_event {
        events: libc::EPOLLIN as u32,
        u64: key,
    };
    let fd = fd.as_fd().as_raw_fd();
    // SAFETY: two valid descriptors and an event.
    let r = unsafe { libc::epoll_ctl(epoll.as_raw_fd(), libc::EPOLL_CTL_ADD, fd, &mut event) };
    if r == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// The keys of what is ready.
fn wait(epoll: &OwnedFd) -> io::Result<Vec<u64>> {
    let mut events = [libc::epoll_event { events: 0, u64: 0 }; 8];
    // SAFETY: room for eight events.
    let n = unsafe { libc::epoll_wait(epoll.as_raw_fd(), events.as_mut_ptr(), 8, -1) };
    match usize::try_from(n) {
        Ok(n) => Ok(events.iter().take(n).map(|e| e.u64).collect()),
        Err(_) => match io::Error::last_os_error() {
            e if e.kind() == io::ErrorKind::Interrupted => Ok(Vec::new()),
            e => Err(e),
        },
    }
}

fn expirations(timer: &OwnedFd) -> io::Result<u64> {
    let mut count = 0u64;
    // SAFETY: a timer's read fills eight bytes.
    let n = unsafe { libc::read(timer.as_raw_fd(), (&raw mut count).cast(), 8) };
    match n {
        8 => Ok(count),
        _ => match io::Error::last_os_error() {
            e if e.kind() == io::ErrorKind::WouldBlock => Ok(0),
            e => Err(e),
        },
    }
}
