//! The child's side: take an order, run it on one allocator, print one line of JSON.
//!
//! `Bench` is what a workload sees. The protocol: the order is one JSON argument, the answer one JSON line on stdout and
//! exit code 0; anything else (a signal, silence, other text) is a failed run to the parent.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Barrier, Mutex, OnceLock};
use std::time::Duration;

use crate::measure::{Usage, now_ns, peak_rss_kib, rest, rss_kib, timed_section};
use crate::raw::RawAllocator;
use crate::record::{MemoryPoint, Order, Run, Series};

/// When the parent started the child, in nanoseconds on the monotonic clock, which all processes share.
pub const SPAWNED_VARIABLE: &str = "HAKMEM_BENCH_SPAWNED_NS";

/// Provokes a failure in the child, for the tests of the parent: `crash:NAME`, `hang:NAME` or `garbage:NAME`, where NAME
/// is the allocator whose children are to fail.
pub const FAULT_VARIABLE: &str = "HAKMEM_BENCH_FAULT";

/// One run on one allocator, as the workload sees it.
#[derive(Debug)]
pub struct Bench {
    alloc: &'static RawAllocator,
    series: Series,
    settle: Option<Duration>,
    started_ns: u64,
    run: Run,
}

impl Bench {
    /// A run that has not begun.
    pub fn new(alloc: &'static RawAllocator, series: Series, settle: Option<Duration>) -> Self {
        // The optimiser must not learn which allocator it is where only one is linked in.
        Self {
            alloc: std::hint::black_box(alloc),
            series,
            settle,
            started_ns: 0,
            run: Run::default(),
        }
    }

    /// The allocator under test.
    pub fn allocator(&self) -> &'static RawAllocator {
        self.alloc
    }

    /// Warm or cold.
    pub fn series(&self) -> Series {
        self.series
    }

    /// To be called once the bookkeeping is resident and before the first allocation.
    pub fn start(&mut self) {
        self.run.rss_start_kib = rss_kib();
        self.started_ns = now_ns();
    }

    /// The timed part on this thread; `body` answers how many operations it made.
    pub fn timed(&mut self, body: impl FnOnce() -> u64) {
        let gate = Gate::new(None);
        gate.timed(body);
        self.note(gate);
    }

    /// The timed part on `threads` threads. Each prepares itself, then calls [`Gate::timed`] exactly once; the clock runs
    /// from the moment all are ready until the last one is through. A single thread is the main thread: libraries take
    /// short cuts in a process that never had a second one.
    pub fn timed_threads(&mut self, threads: usize, body: impl Fn(usize, &Gate) + Sync) {
        if threads == 1 {
            let gate = Gate::new(None);
            body(0, &gate);
            return self.note(gate);
        }
        let gate = Gate::new(Some(Barrier::new(threads + 1)));
        std::thread::scope(|scope| {
            for thread in 0..threads {
                let (gate, body) = (&gate, &body);
                scope.spawn(move || body(thread, gate));
            }
            gate.meet();
            gate.start_clock();
            gate.meet();
        });
        self.note(gate);
    }

    /// The timed part on this thread, with the clock running since the parent started this process.
    pub fn timed_since_spawn(&mut self, body: impl FnOnce() -> u64) {
        let gate = Gate::new(None);
        gate.timed(body);
        let spawned = std::env::var(SPAWNED_VARIABLE)
            .ok()
            .and_then(|text| text.parse().ok());
        if let Some(spawned) = spawned {
            gate.start.store(spawned, Relaxed);
        }
        self.note(gate);
    }

    /// Notes moments taken inside the timed part.
    pub fn note_memory(&mut self, moments: &[MemoryMoment]) {
        for m in moments {
            self.run.memory.push(MemoryPoint {
                secs: (m.at_ns - self.started_ns) as f64 / 1e9,
                live_kib: m.live_bytes as u64 >> 10,
                rss_kib: m.rss_kib.saturating_sub(self.run.rss_start_kib),
            });
        }
    }

    /// Notes what is resident now beside what the workload holds.
    pub fn sample_memory(&mut self, live_bytes: usize) {
        self.note_memory(&[MemoryMoment::now(live_bytes)]);
    }

    fn note(&mut self, gate: Gate) {
        let used = gate
            .after
            .into_inner()
            .unwrap_or_default()
            .since(&gate.before.into_inner().unwrap_or_default());
        let ops = gate.ops.into_inner();
        self.run.ops = ops;
        self.run.secs = (gate.end.into_inner() - gate.start.into_inner()).max(1) as f64 / 1e9;
        self.run.ops_per_sec = ops as f64 / self.run.secs;
        self.run.minor_faults_timed = used.minor;
        self.run.major_faults_timed = used.major;
        self.run.user_secs = used.user_secs;
        self.run.sys_secs = used.sys_secs;
    }

    /// Length of the timed part.
    pub fn secs(&self) -> f64 {
        self.run.secs
    }

    /// Operations of the timed part.
    pub fn ops(&self) -> u64 {
        self.run.ops
    }

    /// Notes the figure of which the workload's `BOUND` speaks.
    pub fn note_figure(&mut self, figure: f64) {
        self.run.figure = Some(figure);
    }

    /// Notes what the result came to, for comparison with other runs.
    pub fn note_checksum(&mut self, checksum: u64) {
        self.run.checksum = Some(checksum);
    }

    /// Adds refused allocations to the report.
    pub fn count_failed(&mut self, failed: u64) {
        self.run.failed_allocs += failed;
    }

    /// To be called once everything is freed: reads what is resident, and again after the rest that was asked for.
    pub fn settle(&mut self) {
        self.run.rss_end_kib = rss_kib();
        self.run.max_rss_kib = peak_rss_kib();
        if let Some(time) = self.settle {
            rest(time);
            self.run.rss_after_kib = Some(rss_kib());
        }
        let total = Usage::now();
        self.run.minor_faults_total = total.minor;
        self.run.major_faults_total = total.major;
    }
}

/// What is alive and resident at one moment.
#[derive(Debug, Clone, Copy)]
pub struct MemoryMoment {
    at_ns: u64,
    live_bytes: usize,
    rss_kib: u64,
}

impl MemoryMoment {
    /// This moment; the caller says what it holds. Costs one read of /proc/self/status.
    pub fn now(live_bytes: usize) -> Self {
        Self {
            at_ns: now_ns(),
            live_bytes,
            rss_kib: rss_kib(),
        }
    }
}

/// Where the threads of one run wait for each other and leave their counts.
#[derive(Debug)]
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
    fn new(barrier: Option<Barrier>) -> Self {
        Self {
            barrier,
            before: OnceLock::new(),
            after: Mutex::new(Usage::default()),
            start: AtomicU64::new(0),
            end: AtomicU64::new(0),
            ops: AtomicU64::new(0),
        }
    }

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

/// Runs one order on one allocator.
pub fn run(alloc: &'static RawAllocator, order: &Order) -> Result<Run, String> {
    let mut bench = Bench::new(
        crate::latency::sampled(alloc),
        order.series,
        order.settle_ms.map(Duration::from_millis),
    );
    order.spec.run(&mut bench)?;
    bench.run.latency = crate::latency::found();
    Ok(bench.run)
}

/// The whole life of a child whose only argument is the order: what the executable of a peer calls from its `main`.
pub fn child_main(alloc: &'static RawAllocator) -> ! {
    let mut arguments = std::env::args().skip(1);
    match (arguments.next(), arguments.next()) {
        (Some(order), None) => child_with(alloc, &order),
        _ => give_up(format!(
            "expected one argument, an order as JSON; this is a child of bench-harness for {}",
            alloc.name()
        )),
    }
}

/// Runs the order and ends the process.
pub fn child_with(alloc: &'static RawAllocator, order: &str) -> ! {
    // A child must not outlive its parent.
    // SAFETY: prctl with these arguments only sets a number.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    if order == crate::sources::QUESTION {
        println!("{}", crate::sources::answer());
        std::process::exit(0);
    }
    provoke_fault(alloc.name());
    let order: Order = match serde_json::from_str(order) {
        Ok(order) => order,
        Err(e) => give_up(format!(
            "the order is not what this version understands: {e}"
        )),
    };
    match run(alloc, &order) {
        Ok(run) => match serde_json::to_string(&run) {
            Ok(line) => println!("{line}"),
            Err(e) => give_up(e.to_string()),
        },
        Err(e) => give_up(e),
    }
    std::process::exit(0)
}

fn give_up(error: String) -> ! {
    eprintln!("{}", crate::fail::one_line(&error));
    std::process::exit(3)
}

fn provoke_fault(name: &str) {
    let Ok(wish) = std::env::var(FAULT_VARIABLE) else {
        return;
    };
    match wish.split_once(':') {
        Some(("crash", n)) if n == name => std::process::abort(),
        Some(("hang", n)) if n == name => loop {
            rest(Duration::from_secs(3600));
        },
        Some(("garbage", n)) if n == name => {
            println!("not a result");
            std::process::exit(0);
        }
        _ => {}
    }
}
