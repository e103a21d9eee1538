//! The same as the example `epoll`, in a tokio program: `AsyncFd` around a ticket.
//!
//! ```text
//! cargo run --release --example tokio [FILE]
//! ```

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use hakmem_alloc::prefault::{Prefaulted, Ticket};
use hakmem_alloc::region::{Backing, HugeWish, Region};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

const TICK: Duration = Duration::from_millis(1);

/// A ticket as a future. Dropping the future cancels the work, as dropping the ticket does.
async fn done(ticket: Ticket) -> io::Result<Prefaulted> {
    // SAFETY: the ticket owns its eventfd, always the same one, and keeps it open for as long as it lives.
    let ticket = unsafe { AsyncFd::register_with_interest(ticket, Interest::READABLE) }?;
    loop {
        let mut ready = ticket.readable().await?;
        if let Some(outcome) = ticket.get_ref().try_done() {
            return outcome;
        }
        ready.clear_ready();
    }
}

async fn bring_in(name: &str, region: &Region) -> io::Result<()> {
    let start = Instant::now();
    let done = done(region.prefault_async()?).await?;
    println!(
        "{name}: {} MiB in after {:.0} ms, {} MiB of it on huge pages",
        done.bytes >> 20,
        start.elapsed().as_secs_f64() * 1e3,
        done.huge_bytes >> 20
    );
    Ok(())
}

/// Answers the timer for ever, and notes how late.
async fn tick(late: &mut Vec<Duration>) -> io::Result<()> {
    let mut timer = tokio::time::interval(TICK);
    loop {
        let due = timer.tick().await;
        late.push(due.elapsed());
    }
}

// One thread, as the example is about a loop that must not be held up.
#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<()> {
    let file = match std::env::args_os().nth(1) {
        Some(path) => File::open(path)?,
        None => made_file(256 << 20)?,
    };
    let memory = Region::builder().len(1 << 30).huge(HugeWish::Want).map()?;
    let contents = Region::builder()
        .backing(Backing::FileReadOnly(file))
        .map()?;

    let mut late = Vec::new();
    tokio::select! {
        both = async {
            tokio::try_join!(bring_in("1 GiB of memory", &memory), bring_in("the file", &contents))
        } => both.map(|_| ())?,
        never = tick(&mut late) => never?,
    }
    late.sort_unstable();
    let p99 = late
        .get(late.len() * 99 / 100)
        .or(late.last())
        .copied()
        .unwrap_or_default();
    println!(
        "the 1 ms timer meanwhile: answered {} times, p99 {:.2} ms late, worst {:.2} ms (tokio's \
         timer itself counts whole milliseconds)",
        late.len(),
        p99.as_secs_f64() * 1e3,
        late.last().copied().unwrap_or_default().as_secs_f64() * 1e3
    );
    Ok(())
}

/// A file that is on the disk and not in the page cache, unlinked.
fn made_file(len: usize) -> io::Result<File> {
    let path = std::env::temp_dir().join(format!("hakmem-tokio-{}", std::process::id()));
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
