//! How long others wait while memory comes in: an event loop with a 1 ms timer, and a thread that maps and unmaps.
//!
//! Every mode brings the same memory in, and then the loop uses it, 4 MiB per tick: what was not brought in is paid
//! there. For a file whose page cache was dropped, also the ways people try: reading a byte of every page on another
//! thread, writing the mapping to /dev/null (which never looks at it), and read(2) of the file.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use hakmem_alloc::prefault::Ticket;
use hakmem_alloc::region::{Backing, HugeWish, Region};
use serde_json::json;

use crate::maps::POPULATE_WRITE;
use crate::waits::{Loop, Waits, p99_and_worst, with_mapper};
use crate::{Row, failed, row};

const USED_PER_TICK: usize = 4 << 20;
/// A loop that nothing happens in is watched for this long.
const IDLE: Duration = Duration::from_millis(300);

/// Bytes per mode.
pub(crate) fn bytes(quick: bool) -> usize {
    if quick { 8 << 20 } else { 1 << 30 }
}

const MEMORY_MODES: [&str; 4] = ["none", "blocking", "one_call", "ticket"];
const FILE_MODES: [&str; 6] = ["none", "blocking", "ticket", "peek", "dev_null", "read"];

pub(crate) fn rows(quick: bool, say: &dyn Fn(&str)) -> Result<Vec<Row>, String> {
    let bytes = bytes(quick);
    let mut rows = vec![idle_row().map_err(failed("an idle loop"))?];
    for (pages, wish) in [("4k", HugeWish::Refuse), ("huge", HugeWish::Want)] {
        for mode in MEMORY_MODES {
            say(&format!("anonymous, {pages}, {mode}"));
            let region = Region::builder().len(bytes).huge(wish).map().map_err(failed("a region"))?;
            rows.push(measure("anonymous", pages, mode, &region, None).map_err(failed(mode))?);
        }
    }
    let scratch = Scratch::new(bytes).map_err(failed("a file of that size"))?;
    for mode in FILE_MODES {
        say(&format!("file, {mode}"));
        let file = scratch.cold().map_err(failed("dropping the page cache"))?;
        let copy = file.try_clone().map_err(failed("the file"))?;
        let region = Region::builder().backing(Backing::FileReadOnly(file)).map().map_err(failed("the file"))?;
        rows.push(measure("file", "4k", mode, &region, Some(copy)).map_err(failed(mode))?);
    }
    Ok(rows)
}

/// A file on a disk, gone with the value.
struct Scratch(PathBuf);

impl Scratch {
    fn new(bytes: usize) -> io::Result<Scratch> {
        let path = std::env::temp_dir().join(format!("hakmem-async-{}", std::process::id()));
        let mut file = File::create_new(&path)?;
        let scratch = Scratch(path);
        let piece: Vec<u8> = (0..1 << 20).map(|i| (i / 4096) as u8).collect();
        for _ in 0..bytes >> 20 {
            file.write_all(&piece)?;
        }
        file.sync_all()?;
        Ok(scratch)
    }

    fn cold(&self) -> io::Result<File> {
        let file = File::open(&self.0)?;
        // SAFETY: advice about a descriptor.
        match unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) } {
            0 => Ok(file),
            e => Err(io::Error::from_raw_os_error(e)),
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Left behind in the temporary directory if it cannot be removed: nothing better can be done.
        let _ = std::fs::remove_file(&self.0);
    }
}

fn idle_row() -> io::Result<Row> {
    let mut waits = Waits::default();
    with_mapper(&mut waits, |ticks| {
        let mut lp = Loop::new()?;
        let end = Instant::now() + IDLE;
        while Instant::now() < end {
            lp.turn(ticks)?;
        }
        Ok(())
    })?;
    Ok(result("nothing", "", "idle", 0, &mut waits, IDLE.as_secs_f64(), 0.0))
}

fn measure(backing: &str, pages: &str, mode: &str, region: &Region, file: Option<File>) -> io::Result<Row> {
    let mut waits = Waits::default();
    let (mut secs, mut use_secs) = (0.0, 0.0);
    with_mapper(&mut waits, |ticks| {
        let mut lp = Loop::new()?;
        // A few ticks of peace, so that the timer runs when the work begins.
        for _ in 0..5 {
            lp.turn(ticks)?;
        }
        let start = Instant::now();
        std::thread::scope(|scope| bring_in(scope, mode, region, file, &mut lp, ticks))?;
        secs = start.elapsed().as_secs_f64();
        let start = Instant::now();
        for piece in region.chunks(USED_PER_TICK) {
            use_piece(backing, region, piece);
            lp.turn(ticks)?;
        }
        use_secs = start.elapsed().as_secs_f64();
        Ok(())
    })?;
    Ok(result(backing, pages, mode, region.len(), &mut waits, secs, use_secs))
}

fn result(backing: &str, pages: &str, mode: &str, bytes: usize, waits: &mut Waits, secs: f64, use_secs: f64) -> Row {
    let (tick_p99, tick_worst) = p99_and_worst(&mut waits.ticks);
    let (mmap_p99, mmap_worst) = p99_and_worst(&mut waits.maps);
    // How much of that was a lock, and not the want of a processor.
    let (_, mmap_blocked) = p99_and_worst(&mut waits.blocked);
    row(json!({
        "backing": backing, "pages": pages, "mode": mode, "bytes": bytes,
        "tick_p99_ms": tick_p99, "tick_worst_ms": tick_worst,
        "mmap_p99_ms": mmap_p99, "mmap_worst_ms": mmap_worst, "mmap_blocked_worst_ms": mmap_blocked,
        "secs": secs, "use_secs": use_secs,
    }))
}

/// Brings the memory in as `mode` says, while the loop turns where the mode lets it.
fn bring_in<'s>(
    scope: &'s std::thread::Scope<'s, '_>,
    mode: &str,
    region: &'s Region,
    file: Option<File>,
    lp: &mut Loop,
    ticks: &mut Vec<f64>,
) -> io::Result<()> {
    let work: Box<dyn FnOnce() -> io::Result<()> + Send + 's> = match mode {
        "none" => return Ok(()),
        "blocking" => {
            region.prefault()?;
            return lp.turn(ticks);
        }
        "ticket" => {
            let ticket = region.prefault_async()?;
            lp.watch(ticket.as_raw_fd())?;
            return until_done(lp, ticks, &ticket);
        }
        "one_call" => Box::new(move || one_call(region, POPULATE_WRITE)),
        "peek" => Box::new(move || {
            let sum = region.iter().step_by(4096).map(|b| u64::from(*b)).sum::<u64>();
            std::hint::black_box(sum);
            Ok(())
        }),
        "dev_null" => Box::new(move || File::create("/dev/null")?.write_all(region)),
        _ => Box::new(move || {
            let mut buffer = vec![0; 1 << 20];
            let mut file = file.ok_or(io::ErrorKind::NotFound)?;
            while file.read(&mut buffer)? > 0 {}
            Ok(())
        }),
    };
    let worker = scope.spawn(work);
    while !worker.is_finished() {
        lp.turn(ticks)?;
    }
    worker.join().map_err(|_| io::Error::other("the worker failed"))?
}

fn until_done(lp: &mut Loop, ticks: &mut Vec<f64>, ticket: &Ticket) -> io::Result<()> {
    loop {
        lp.turn(ticks)?;
        if let Some(outcome) = ticket.try_done() {
            return outcome.map(|_| ());
        }
    }
}

fn one_call(region: &Region, advice: i32) -> io::Result<()> {
    // SAFETY: the region's own memory; populating changes no contents.
    match unsafe { libc::madvise(region.as_mut_ptr().cast(), region.len(), advice) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A byte of every page: written where the memory is for writing.
fn use_piece(backing: &str, region: &Region, piece: &[u8]) {
    let start = piece.as_ptr() as usize - region.as_ptr() as usize;
    let len = piece.len();
    for at in (start..start + len).step_by(4096) {
        // SAFETY: inside the region, which is mapped readable, and writable unless it is the file.
        unsafe {
            let p = region.as_mut_ptr().add(at);
            if backing == "file" {
                std::hint::black_box(p.read_volatile());
            } else {
                p.write_volatile(1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_backing_meets_every_mode() {
        let rows = rows(true, &|_| ()).unwrap();
        assert_eq!(rows.len(), 1 + 2 * MEMORY_MODES.len() + FILE_MODES.len());
        for row in &rows {
            assert!(row["tick_worst_ms"].as_f64().unwrap() >= row["tick_p99_ms"].as_f64().unwrap());
            assert!(row["mmap_worst_ms"].as_f64().unwrap() > 0.0, "the mapping thread ran: {row:?}");
        }
    }
}
