//! Where and how something was measured: the `machine` object of every results file.
//!
//! It has the cost of a page fault and of a miss in all caches, found out in a fifth of a second: without them a file from
//! another machine, or from this one on another day, looks like another allocator.

use bench_kernel::system::{self, chosen, field, meminfo_kib};
use bench_subject::measure::thread_cpu_ns;
use bench_subject::memory::{HUGE, Mapping, Table};
use itertools::Itertools;
use serde::{Deserialize, Serialize};

use crate::stats::median;
use crate::text;

/// The machine, the settings that matter, and the command. What cannot be read is left empty.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Machine {
    pub cpu: String,
    pub cpus: usize,
    pub memory_mib: u64,
    pub kernel: String,
    pub arch: String,
    pub page_size: u64,
    /// The choice in /sys/kernel/mm/transparent_hugepage/enabled.
    pub thp: String,
    /// The choice in /sys/kernel/mm/transparent_hugepage/defrag.
    pub thp_defrag: String,
    /// Nanoseconds of the first touch of an OS page of 4 KiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault_ns: Option<f64>,
    /// Nanoseconds of the first touch of a huge page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub huge_fault_ns: Option<f64>,
    /// Nanoseconds of a load that misses all caches.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_latency_ns: Option<f64>,
    /// Whether the processor says that it is a virtual machine's.
    pub virtual_machine: bool,
    pub load: String,
    /// Seconds since 1970 when the measurement began.
    pub unix_time: u64,
    pub version: String,
    pub command: Vec<String>,
    /// Variables of the environment named HAKMEM_*.
    pub environment: Vec<String>,
}

pub fn describe() -> Machine {
    let read = |path: &str| system::read(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    // SAFETY: sysconf only answers a number.
    let page_size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    let variables = std::env::vars_os().filter_map(|(k, v)| Some(format!("{}={}", k.to_str()?, v.to_str()?)));
    let environment = variables.filter(|line| line.starts_with("HAKMEM_")).sorted().collect();
    Machine {
        cpu: field(&cpuinfo, "model name").unwrap_or_default(),
        cpus: std::thread::available_parallelism().map_or(1, |n| n.get()),
        memory_mib: meminfo_kib("MemTotal") / 1024,
        kernel: read("/proc/sys/kernel/osrelease"),
        arch: std::env::consts::ARCH.to_owned(),
        page_size: page_size.max(0) as u64,
        thp: chosen("/sys/kernel/mm/transparent_hugepage/enabled").unwrap_or_default(),
        thp_defrag: chosen("/sys/kernel/mm/transparent_hugepage/defrag").unwrap_or_default(),
        virtual_machine: field(&cpuinfo, "flags").is_some_and(|f| f.split(' ').any(|w| w == "hypervisor")),
        load: read("/proc/loadavg").split(' ').take(3).collect::<Vec<_>>().join(" "),
        unix_time: std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_secs()),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        command: std::env::args_os().map(|a| a.to_string_lossy().into_owned()).collect(),
        environment,
        ..Machine::default()
    }
}

impl Machine {
    /// With what a short probe says of its memory.
    pub fn probed(self) -> Machine {
        let (fault_ns, huge_fault_ns) = fault_ns();
        Machine { fault_ns, huge_fault_ns, memory_latency_ns: memory_latency_ns(), ..self }
    }

    /// When it was measured, and where, as far as it is known.
    pub fn words(&self) -> String {
        let day = text::utc(self.unix_time).and_then(|t| t.split(' ').next().map(str::to_owned));
        let kernel = self.kernel.split('-').next().filter(|k| !k.is_empty());
        let parts = [
            day,
            Some(self.cpu.replace("(R)", "")).filter(|cpu| !cpu.is_empty()),
            (self.cpus > 0).then(|| text::counted(self.cpus, "processor")),
            self.virtual_machine.then(|| "a virtual machine".to_owned()),
            kernel.map(|k| format!("Linux {k}")),
        ];
        parts.iter().flatten().join(", ")
    }

    /// What makes figures of `other` no figures of this machine, in words.
    pub fn difference(&self, other: &Machine) -> Option<String> {
        let fields = |m: &Machine| {
            [
                ("processor", m.cpu.clone()),
                ("architecture", m.arch.clone()),
                ("number of processors", m.cpus.to_string()),
                ("memory", format!("{} GiB", (m.memory_mib + 512) / 1024)),
                ("kernel", m.kernel.clone()),
                ("state of transparent huge pages", m.thp.clone()),
            ]
        };
        let both = fields(self).into_iter().zip(fields(other));
        let differs = |((what, now), (_, then)): ((&str, String), (&str, String))| {
            (now != then).then(|| format!("the {what} is {now:?}, was {then:?}"))
        };
        both.filter_map(differs).next()
    }
}

/// Nanoseconds of processor time for the first touch of an OS page of 4 KiB, and for that of a huge page: medians over
/// pieces of 2 MiB. Nothing where memory cannot be had.
fn fault_ns() -> (Option<f64>, Option<f64>) {
    (first_touch(8 * HUGE, libc::MADV_NOHUGEPAGE, 4096), first_touch(16 * HUGE, libc::MADV_HUGEPAGE, HUGE))
}

fn first_touch(bytes: usize, advice: libc::c_int, page: usize) -> Option<f64> {
    let memory = Mapping::aligned(bytes, libc::MAP_NORESERVE).ok()?;
    // Where the kernel has no huge pages the figure shows it.
    let _ = memory.advise(advice);
    let nanoseconds = |piece: usize| {
        let before = thread_cpu_ns();
        memory.touch(piece, piece + HUGE, page);
        (thread_cpu_ns() - before) as f64 / (HUGE / page) as f64
    };
    median(&(0..bytes).step_by(HUGE).map(nanoseconds).collect::<Vec<_>>())
}

/// Nanoseconds of one load whose address depends on the last, at random in 64 MiB: the median of ten tries.
fn memory_latency_ns() -> Option<f64> {
    const ELEMENTS: usize = (64 << 20) / 64;
    const LOADS: usize = 40_000;
    let mut next = Table::<[u64; 8]>::new(ELEMENTS).ok()?;
    // One cycle through all lines: a congruential generator of full period, which no prefetcher foresees.
    for (i, line) in next.iter_mut().enumerate() {
        line[0] = (i as u64 * 1_664_525 + 1_013_904_223) % ELEMENTS as u64;
    }
    let mut at = 0;
    let tries: Vec<f64> = (0..10)
        .map(|_| {
            let before = thread_cpu_ns();
            for _ in 0..LOADS {
                at = next[at][0] as usize;
            }
            (thread_cpu_ns() - before) as f64 / LOADS as f64
        })
        .collect();
    std::hint::black_box(at);
    median(&tries)
}
