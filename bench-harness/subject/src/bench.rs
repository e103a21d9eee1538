//! One run on one allocator, as a workload sees it: it prepares, does its work inside the clock, and leaves its counts.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Barrier, Mutex, OnceLock};
use std::time::Duration;

use crate::blocks::all_damaged;
use crate::measure::{Usage, forget_peak, now_ns, peak_rss_kib, rss_kib, timed_section};
use crate::raw::{self, RawAllocator};
use crate::record::{Run, Series};
use crate::{age, latency};

/// When the parent started the child, in nanoseconds on the monotonic clock, which all processes share.
pub const SPAWNED_VARIABLE: &str = "HAKMEM_BENCH_SPAWNED_NS";

#[derive(Debug)]
pub struct Bench {
    alloc: &'static RawAllocator,
    series: Series,
    pub(crate) run: Run,
}

impl Bench {
    pub fn new(alloc: &'static RawAllocator, series: Series) -> Self {
        // The optimiser must not learn which allocator it is where only one is linked in.
        let alloc = std::hint::black_box(alloc);
        Self { alloc, series, run: Run::default() }
    }

    /// Whether the workload's preparatory pass runs before the clock: in every series but the cold one.
    pub fn is_warm(&self) -> bool {
        self.series != Series::Cold
    }

    /// Tells the allocator what is coming and notes what is resident. Called once the bookkeeping is resident and before the
    /// first allocation.
    #[inline(never)]
    pub fn begin(&mut self, slots: usize, max_size: usize) -> Result<&'static RawAllocator, String> {
        self.alloc.prepare(slots, max_size)?;
        self.start()?;
        Ok(self.alloc)
    }

    /// The same where the allocator has nothing to be told. In the aged series this thread's heap is aged.
    pub fn start(&mut self) -> Result<(), String> {
        self.run.rss_start_kib = rss_kib();
        if self.series == Series::Aged {
            age::age(self.alloc, 0, 1)?;
            forget_peak();
        }
        Ok(())
    }

    /// The timed part on this thread; `body` answers how many operations it made.
    pub fn timed(&mut self, body: impl FnOnce() -> u64) {
        let gate = Gate::default();
        gate.timed(body);
        self.note(gate);
    }

    /// The timed part on a thread for each of these states. Each prepares itself, then calls [`Gate::timed`] exactly once; the
    /// clock runs from the moment all are ready until the last one is through. A single thread is the main thread: libraries
    /// take short cuts in a process that never had a second one. In the aged series each of several threads ages its own heap
    /// first.
    pub fn timed_threads<S: Send>(&mut self, states: &mut [S], body: impl Fn(usize, &mut S, &Gate) + Sync) {
        let threads = states.len();
        if let [state] = states {
            let gate = Gate::default();
            body(0, state, &gate);
            return self.note(gate);
        }
        let gate = Gate { barrier: Some(Barrier::new(threads + 1)), ..Gate::default() };
        let (alloc, aged) = (self.alloc, self.series == Series::Aged);
        std::thread::scope(|scope| {
            for (thread, state) in states.iter_mut().enumerate() {
                let (gate, body) = (&gate, &body);
                scope.spawn(move || {
                    if aged && let Err(e) = age::age(alloc, thread + 1, threads) {
                        // The others would wait for ever.
                        eprintln!("{e}");
                        std::process::exit(3);
                    }
                    body(thread, state, gate)
                });
            }
            gate.meet();
            gate.start_clock();
            gate.meet();
        });
        self.note(gate);
    }

    /// The timed part on this thread, with the clock running since the parent started this process.
    pub fn timed_since_spawn(&mut self, body: impl FnOnce() -> u64) {
        let gate = Gate::default();
        gate.timed(body);
        let spawned = std::env::var(SPAWNED_VARIABLE).ok().and_then(|text| text.parse().ok());
        if let Some(spawned) = spawned {
            gate.start.store(spawned, Relaxed);
        }
        self.note(gate);
    }

    fn note(&mut self, gate: Gate) {
        let before = gate.before.into_inner().unwrap_or_default();
        let used = gate.after.into_inner().unwrap_or_default().since(&before);
        let ops = gate.ops.into_inner();
        self.run.ops = ops;
        self.run.secs = (gate.end.into_inner() - gate.start.into_inner()).max(1) as f64 / 1e9;
        self.run.ops_per_sec = ops as f64 / self.run.secs;
        self.run.minor_faults_timed = used.minor;
        self.run.major_faults_timed = used.major;
        self.run.user_secs = used.user_secs;
        self.run.sys_secs = used.sys_secs;
    }

    /// Of the timed part, so many nanoseconds of processor time and page faults were the allocator's; nothing else counts.
    pub fn count_only(&mut self, ns: u64, faults: u64) {
        let secs = ns.max(1) as f64 / 1e9;
        (self.run.secs, self.run.user_secs, self.run.sys_secs) = (secs, secs, 0.0);
        self.run.ops_per_sec = self.run.ops as f64 / secs;
        self.run.minor_faults_timed = faults;
    }

    /// Reads what is resident. Called by a workload that allocates further, for checks outside the clock; else at its end.
    pub fn finish(&mut self) {
        self.run.rss_end_kib = rss_kib();
        self.run.max_rss_kib = peak_rss_kib();
        let total = Usage::now();
        self.run.minor_faults_total = total.minor;
        self.run.major_faults_total = total.major;
    }

    /// Reads it once more after so many seconds of rest, with no call into the allocator meanwhile.
    pub fn rest(&mut self, secs: u64) {
        self.finish();
        std::thread::sleep(Duration::from_secs(secs));
        self.run.rss_after_kib = Some(rss_kib());
    }

    /// The run; an error where blocks lost their contents.
    pub fn done(mut self) -> Result<Run, String> {
        if self.run.max_rss_kib == 0 {
            self.finish();
        }
        let (aged_kib, failed_allocs, latency) = (age::kept_kib(), raw::refused(), latency::found());
        match all_damaged() {
            // The blocks of null go with their slots, whose numbers some workloads change.
            n if n > 0 && self.alloc.name != "null" => {
                Err(format!("verification failed: {n} blocks lost their contents or their alignment"))
            }
            _ => Ok(Run { aged_kib, failed_allocs, latency, ..self.run }),
        }
    }
}

/// Where the threads of one run wait for each other and leave their counts.
#[derive(Debug, Default)]
pub struct Gate {
    /// None when the main thread works alone.
    barrier: Option<Barrier>,
    before: OnceLock<Usage>,
    after: Mutex<Usage>,
    // Relaxed throughout: the barrier orders the start, joining the threads orders the rest.
    start: AtomicU64,
    end: AtomicU64,
    ops: AtomicU64,
}

impl Gate {
    fn meet(&self) {
        if let Some(barrier) = &self.barrier {
            barrier.wait();
        }
    }

    fn start_clock(&self) {
        self.before.get_or_init(Usage::now);
        self.start.store(now_ns(), Relaxed);
    }

    /// Waits until every thread is ready, then runs `body`, which answers how many operations it made.
    pub fn timed(&self, body: impl FnOnce() -> u64) {
        // Once before the clock starts: its code may lie in a page of the executable that nobody has touched yet.
        drop(self.after.lock());
        match self.barrier {
            Some(_) => {
                self.meet();
                self.meet();
            }
            None => self.start_clock(),
        }
        let ops = timed_section(body);
        self.end.fetch_max(now_ns(), Relaxed);
        self.ops.fetch_add(ops, Relaxed);
        // Read under the lock, so that the last thread through leaves the latest state.
        let mut after = self.after.lock().unwrap_or_else(|e| e.into_inner());
        *after = Usage::now();
    }
}
