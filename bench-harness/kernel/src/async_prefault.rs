//! How long others wait while memory comes in: an event loop with a 1 ms timer, and a thread that maps and unmaps.
//!
//! Every mode brings the same memory in, and then the loop uses it, 4 MiB per tick: what was not brought in is paid
//! there. For a file whose page cache was dropped, also the ways people try: reading a byte of every page on another
//! thread, writing the mapping to /dev/null (which never looks at it), and read(2) of the file.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bench_subject::memory::{ANONYMOUS, Mapping, advise};
use hakmem_alloc::region::{Backing, HugeWish, Region};
use serde_json::json;

use crate::maps::POPULATE_WRITE;
use crate::{Row, failed};

const TICK: Duration = Duration::from_millis(1);

const USED_PER_TICK: usize = 4 << 20;

const MEMORY_MODES: [&str; 4] = ["none", "blocking", "one_call", "ticket"];
const FILE_MODES: [&str; 6] = ["none", "blocking", "ticket", "peek", "dev_null", "read"];

pub(crate) fn rows(bytes: usize, say: &dyn Fn(&str)) -> Result<Vec<Row>, String> {
    let mut rows = Vec::new();
    for (pages, wish) in [("4k", HugeWish::Refuse), ("huge", HugeWish::Want)] {
        for mode in MEMORY_MODES {
            say(&format!("anonymous, {pages}, {mode}"));
            let region = Region::builder().len(bytes).huge(wish).map().map_err(failed("a region"))?;
            rows.push(measure("anonymous", pages, mode, &region, None).map_err(failed(mode))?);
        }
    }
    let scratch = scratch(bytes).map_err(failed("a file of that size"))?;
    for mode in FILE_MODES {
        say(&format!("file, {mode}"));
        let file = scratch.try_clone().map_err(failed("the file"))?;
        // SAFETY: advice about a descriptor, whose pages were written back: they leave the page cache.
        unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
        let copy = file.try_clone().map_err(failed("the file"))?;
        let region = Region::builder().backing(Backing::FileReadOnly(file)).map().map_err(failed("the file"))?;
        rows.push(measure("file", "4k", mode, &region, Some(copy)).map_err(failed(mode))?);
    }
    Ok(rows)
}

/// A file on a disk, without a name.
fn scratch(bytes: usize) -> io::Result<File> {
    let path = std::env::temp_dir().join(format!("hakmem-async-{}", std::process::id()));
    let mut file = File::options().read(true).write(true).create_new(true).open(&path)?;
    std::fs::remove_file(path)?;
    let piece: Vec<u8> = (0..1 << 20).map(|i| (i / 4096) as u8).collect();
    for _ in 0..bytes >> 20 {
        file.write_all(&piece)?;
    }
    file.sync_all().map(|()| file)
}

fn measure(backing: &str, pages: &str, mode: &str, region: &Region, file: Option<File>) -> io::Result<Row> {
    let mut lp = Loop { start: Instant::now(), answered: 0, late: Vec::new() };
    let (mut secs, mut use_secs) = (0.0, 0.0);
    let mut maps = with_mapper(|| {
        // A few ticks of peace, so that the timer runs when the work begins.
        (0..5).for_each(|_| lp.turn());
        let start = Instant::now();
        std::thread::scope(|scope| bring_in(scope, mode, region, file, &mut lp))?;
        secs = start.elapsed().as_secs_f64();
        let start = Instant::now();
        for piece in region.chunks(USED_PER_TICK) {
            use_piece(backing, region, piece);
            lp.turn();
        }
        use_secs = start.elapsed().as_secs_f64();
        Ok(())
    })?;
    let (tick_p99, tick_worst) = p99_and_worst(&mut lp.late);
    let (mmap_p99, mmap_worst) = p99_and_worst(&mut maps);
    Ok(json!({
        "backing": backing, "pages": pages, "mode": mode, "bytes": region.len(),
        "tick_p99_ms": tick_p99, "tick_worst_ms": tick_worst, "mmap_p99_ms": mmap_p99, "mmap_worst_ms": mmap_worst,
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
) -> io::Result<()> {
    let work: Box<dyn FnOnce() -> io::Result<()> + Send + 's> = match mode {
        "none" => return Ok(()),
        "blocking" => {
            region.prefault()?;
            lp.turn();
            return Ok(());
        }
        "ticket" => {
            let ticket = region.prefault_async()?;
            loop {
                lp.turn();
                if let Some(outcome) = ticket.try_done() {
                    return outcome.map(|_| ());
                }
            }
        }
        "one_call" => Box::new(move || advise(region.as_ptr() as usize, region.len(), POPULATE_WRITE)),
        "peek" => Box::new(move || {
            std::hint::black_box(region.iter().step_by(4096).map(|b| u64::from(*b)).sum::<u64>());
            Ok(())
        }),
        "dev_null" => Box::new(move || File::create("/dev/null")?.write_all(region)),
        _ => Box::new(move || {
            let mut buffer = vec![0; 1 << 20];
            let mut file = file.ok_or(io::ErrorKind::NotFound)?;
            // The descriptor shares its place with the one that wrote the file.
            file.rewind()?;
            while file.read(&mut buffer)? > 0 {}
            Ok(())
        }),
    };
    let worker = scope.spawn(work);
    while !worker.is_finished() {
        lp.turn();
    }
    worker.join().map_err(|_| io::Error::other("the worker failed"))?
}

/// A byte of every page: written where the memory is for writing.
fn use_piece(backing: &str, region: &Region, piece: &[u8]) {
    let start = piece.as_ptr() as usize - region.as_ptr() as usize;
    for at in (start..start + piece.len()).step_by(4096) {
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

fn p99_and_worst(values: &mut [f64]) -> (f64, f64) {
    values.sort_by(f64::total_cmp);
    let at = (values.len() * 99 / 100).min(values.len().saturating_sub(1));
    (values.get(at).copied().unwrap_or(0.0), values.last().copied().unwrap_or(0.0))
}

/// Runs `body` while another thread maps and unmaps; answers the milliseconds each time took.
fn with_mapper(body: impl FnOnce() -> io::Result<()>) -> io::Result<Vec<f64>> {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let mapper = scope.spawn(|| {
            let mut times = Vec::new();
            // At least once, however short the rest was. A flag on its own: Relaxed.
            loop {
                let start = Instant::now();
                // What is mapped goes again at once; a refusal took its time too.
                drop(Mapping::new(0, 65536, libc::PROT_READ, ANONYMOUS, -1));
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

struct Loop {
    start: Instant,
    answered: u32,
    /// How late each tick was answered, in milliseconds.
    late: Vec<f64>,
}

impl Loop {
    /// Waits for the next tick and answers it; those that went by meanwhile are answered with it.
    fn turn(&mut self) {
        let due = TICK * (self.answered + 1);
        std::thread::sleep(due.saturating_sub(self.start.elapsed()));
        let now = self.start.elapsed();
        self.late.push((now - due).as_secs_f64() * 1e3);
        self.answered = (now.as_nanos() / TICK.as_nanos()) as u32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_backing_meets_every_mode() {
        let rows = rows(8 << 20, &|_| ()).unwrap();
        assert_eq!(rows.len(), 2 * MEMORY_MODES.len() + FILE_MODES.len());
        for row in &rows {
            assert!(row["tick_worst_ms"].as_f64().unwrap() >= row["tick_p99_ms"].as_f64().unwrap());
            assert!(row["mmap_worst_ms"].as_f64().unwrap() > 0.0, "the mapping thread ran: {row:?}");
        }
    }
}
