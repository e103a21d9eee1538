//! Two who should not have to wait: an event loop with a 1 ms timer, and a thread that maps and unmaps.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bench_subject::memory::{ANONYMOUS, Mapping};

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

/// An event loop with a 1 ms timer.
pub(crate) struct Loop {
    start: Instant,
    answered: u32,
    /// How late each tick was answered, in milliseconds.
    pub late: Vec<f64>,
}

impl Loop {
    pub(crate) fn new() -> Loop {
        Loop { start: Instant::now(), answered: 0, late: Vec::new() }
    }

    /// Waits for the next tick and answers it; those that went by meanwhile are answered with it.
    pub(crate) fn turn(&mut self) {
        let due = TICK * (self.answered + 1);
        std::thread::sleep(due.saturating_sub(self.start.elapsed()));
        let now = self.start.elapsed();
        self.late.push((now - due).as_secs_f64() * 1e3);
        self.answered = (now.as_nanos() / TICK.as_nanos()) as u32;
    }
}
