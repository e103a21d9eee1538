//! What this machine gives, and where huge pages or prefault were not had, why and what to do.
//!
//! First it tries: maps a region, asks for huge pages, populates, and looks at what came of it. Only then does it look
//! for causes, and only for those of what was asked for (`HAKMEM_THP`, `HAKMEM_HUGETLB`, `HAKMEM_SS_PREFAULT`) and not
//! had: a setting that hurts nobody is information, not a problem.

use std::path::PathBuf;

use clap::Args;
use hakmem_alloc::region::{Backing, HugeWish, HugetlbSize, Region};
use serde_json::json;

use crate::fail::Fail;
use crate::machine;
use crate::output::Pending;

/// What the doctor takes.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// Prints the findings as JSON, or writes them to a file
    #[arg(long, value_name = "FILE", num_args = 0..=1)]
    pub json: Option<Option<PathBuf>>,
}

/// Whether somebody should do something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    Ok,
    Info,
    Problem,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Finding {
    check: &'static str,
    level: Level,
    text: String,
}

/// What was asked for by the environment.
#[derive(Debug, Clone, Default)]
struct Asked {
    huge: bool,
    hugetlb: Option<u64>,
    prefault: bool,
}

/// Everything that was read and tried. `None` where it could not be.
#[derive(Debug, Clone, Default)]
struct Facts {
    asked: Asked,
    kernel: String,
    thp_enabled: Option<String>,
    thp_defrag: Option<String>,
    shmem_enabled: Option<String>,
    mthp: Vec<(u64, String)>,
    khugepaged: Option<String>,
    thp_disabled_by_prctl: bool,
    /// Bytes wished to be huge, and bytes that were.
    huge_try: Option<(u64, u64)>,
    aligned: Option<bool>,
    /// Bytes to be populated, and bytes that were; or why not.
    populate_try: Option<Result<(u64, u64), String>>,
    pool_pages_free: Vec<(u64, u64)>,
    limits: Vec<(&'static str, Option<u64>)>,
    overcommit: Option<String>,
    cgroup_left: Option<u64>,
    available: u64,
}

const TRY: usize = 8 << 20;

/// Prints one line per finding; exit code 1 where something asked for was not had.
pub fn run(options: Options) -> Result<(), Fail> {
    let file = match &options.json {
        Some(Some(path)) => Some(Pending::new(path)?),
        _ => None,
    };
    let findings = diagnose(&collect());
    let problems = findings
        .iter()
        .filter(|f| f.level == Level::Problem)
        .count();
    if options.json.is_some() {
        let rows = findings
            .iter()
            .map(|f| json!({"check": f.check, "level": level(f), "text": f.text}));
        let rows = rows.collect::<Vec<_>>();
        let value = json!({"schema": 1, "doctor": rows, "problems": problems, "machine": machine::describe()});
        let text =
            serde_json::to_string_pretty(&value).map_err(|e| Fail::run(e.to_string()))? + "\n";
        match file {
            Some(file) => file.write(&text)?,
            None => print!("{text}"),
        }
    }
    if !matches!(options.json, Some(None)) {
        for f in &findings {
            println!("{:<8} {:<16} {}", level(f), f.check, f.text);
        }
    }
    match problems {
        0 => Ok(()),
        1 => Err(Fail::run(
            "one thing that was asked for is not to be had, see above",
        )),
        n => Err(Fail::run(format!(
            "{n} things that were asked for are not to be had, see above"
        ))),
    }
}

fn level(finding: &Finding) -> &'static str {
    match finding.level {
        Level::Ok => "ok",
        Level::Info => "info",
        Level::Problem => "problem",
    }
}

fn read(path: &str) -> Option<String> {
    std::fs::read_to_string(path)
        .ok()
        .map(|s| s.trim().to_owned())
}

/// The word in brackets.
fn chosen(text: &str) -> &str {
    text.split_once('[')
        .and_then(|(_, r)| r.split_once(']'))
        .map_or(text, |(w, _)| w)
}

fn collect() -> Facts {
    const THP: &str = "/sys/kernel/mm/transparent_hugepage";
    let policy = |name: &str| read(&format!("{THP}/{name}")).map(|t| chosen(&t).to_owned());
    // SAFETY: asks for a number.
    let disabled = unsafe { libc::prctl(libc::PR_GET_THP_DISABLE, 0, 0, 0, 0) } > 0;
    let (huge_try, aligned, populate_try) = try_region();
    Facts {
        asked: asked(|name| std::env::var(name).ok()),
        kernel: read("/proc/sys/kernel/osrelease").unwrap_or_default(),
        thp_enabled: policy("enabled"),
        thp_defrag: policy("defrag"),
        shmem_enabled: policy("shmem_enabled"),
        mthp: multi_sizes(THP),
        khugepaged: read(&format!("{THP}/khugepaged/max_ptes_none")),
        thp_disabled_by_prctl: disabled,
        huge_try,
        aligned,
        populate_try,
        pool_pages_free: [2u64 << 20, 1 << 30]
            .map(|size| (size, free_pool_pages(size)))
            .to_vec(),
        limits: vec![
            ("RLIMIT_AS", limit(libc::RLIMIT_AS)),
            ("RLIMIT_MEMLOCK", limit(libc::RLIMIT_MEMLOCK)),
        ],
        overcommit: read("/proc/sys/vm/overcommit_memory"),
        cgroup_left: cgroup_left(),
        available: machine::available_bytes(),
    }
}

fn asked(var: impl Fn(&str) -> Option<String>) -> Asked {
    let is = |name: &str, values: &[&str]| var(name).is_some_and(|v| values.contains(&v.as_str()));
    Asked {
        // What is not forbidden is asked for: auto gives growing programs huge pages.
        huge: !is("HAKMEM_THP", &["never"]),
        hugetlb: match var("HAKMEM_HUGETLB").as_deref() {
            Some("2m") => Some(2 << 20),
            Some("1g") => Some(1 << 30),
            _ => None,
        },
        prefault: is(
            "HAKMEM_SS_PREFAULT",
            &["populate", "map_populate", "collapse", "async"],
        ) || var("HAKMEM_SS_PREWARM").is_some_and(|n| n != "0"),
    }
}

type Tried = (
    Option<(u64, u64)>,
    Option<bool>,
    Option<Result<(u64, u64), String>>,
);

fn try_region() -> Tried {
    let Ok(region) = Region::builder().len(TRY).huge(HugeWish::Want).map() else {
        return (
            None,
            None,
            Some(Err("the region could not be mapped".into())),
        );
    };
    let aligned = (region.as_ptr() as usize).is_multiple_of(2 << 20);
    match region.prefault() {
        Ok(done) => {
            let huge = Some((TRY as u64, done.huge_bytes as u64));
            (
                huge,
                Some(aligned),
                Some(Ok((TRY as u64, done.bytes as u64))),
            )
        }
        Err(e) => (None, Some(aligned), Some(Err(e.to_string()))),
    }
}

fn multi_sizes(thp: &str) -> Vec<(u64, String)> {
    let mut sizes: Vec<(u64, String)> = std::fs::read_dir(thp)
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let name = entry.ok()?.file_name().into_string().ok()?;
            let kib = name
                .strip_prefix("hugepages-")?
                .strip_suffix("kB")?
                .parse()
                .ok()?;
            let text = read(&format!("{thp}/{name}/enabled"))?;
            Some((kib, chosen(&text).to_owned()))
        })
        .collect();
    sizes.sort_unstable();
    sizes
}

fn free_pool_pages(size: u64) -> u64 {
    let path = format!(
        "/sys/kernel/mm/hugepages/hugepages-{}kB/free_hugepages",
        size >> 10
    );
    read(&path).and_then(|t| t.parse().ok()).unwrap_or(0)
}

fn limit(which: libc::__rlimit_resource_t) -> Option<u64> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: fills the struct.
    let r = unsafe { libc::getrlimit(which, &mut limit) };
    (r == 0 && limit.rlim_cur != libc::RLIM_INFINITY).then_some(limit.rlim_cur)
}

/// What the control group leaves, where it has a limit.
fn cgroup_left() -> Option<u64> {
    let text = read("/proc/self/cgroup")?;
    let path = text.lines().find_map(|l| l.strip_prefix("0::"))?;
    let mut group = PathBuf::from(format!("/sys/fs/cgroup{path}"));
    let mut tightest: Option<u64> = None;
    while group.starts_with("/sys/fs/cgroup") {
        let number = |name: &str| read(group.join(name).to_str()?)?.parse::<u64>().ok();
        if let (Some(max), Some(used)) = (number("memory.max"), number("memory.current")) {
            let left = max.saturating_sub(used);
            tightest = Some(tightest.map_or(left, |t| t.min(left)));
        }
        if !group.pop() {
            break;
        }
    }
    tightest
}

fn diagnose(facts: &Facts) -> Vec<Finding> {
    let mut findings = vec![];
    let mut say = |check, level, text: String| findings.push(Finding { check, level, text });
    say("kernel", Level::Info, format!("Linux {}", facts.kernel));
    let (level, text) = huge_pages(facts);
    say("huge-pages", level, text);
    match facts.aligned {
        Some(true) => say(
            "alignment",
            Level::Ok,
            "a region lies on a 2 MiB boundary".into(),
        ),
        Some(false) => say(
            "alignment",
            Level::Problem,
            "a region does not lie on a 2 MiB boundary: please report".into(),
        ),
        None => {}
    }
    let (level, text) = prefault(facts);
    say("prefault", level, text);
    if let Some(size) = facts.asked.hugetlb {
        let (level, text) = pool(facts, size);
        say("hugetlb", level, text);
    } else {
        let pool = |(size, n): &(u64, u64)| format!("{n} free of {} KiB", size >> 10);
        let text = facts
            .pool_pages_free
            .iter()
            .map(pool)
            .collect::<Vec<_>>()
            .join(", ");
        say(
            "hugetlb",
            Level::Info,
            format!("not asked for (HAKMEM_HUGETLB); pool: {text}"),
        );
    }
    let none = || "not there".to_owned();
    let sysfs = format!(
        "enabled={} defrag={} shmem_enabled={}",
        facts.thp_enabled.clone().unwrap_or_else(none),
        facts.thp_defrag.clone().unwrap_or_else(none),
        facts.shmem_enabled.clone().unwrap_or_else(none)
    );
    say("sysfs", Level::Info, sysfs);
    let on = facts.mthp.iter().filter(|(_, policy)| policy != "never");
    let on: Vec<String> = on
        .map(|(kib, policy)| format!("{kib} KiB {policy}"))
        .collect();
    let none_on = "no size but the default is on";
    say(
        "mthp",
        Level::Info,
        if on.is_empty() {
            none_on.into()
        } else {
            on.join(", ")
        },
    );
    if let Some(n) = &facts.khugepaged {
        let text = format!("max_ptes_none={n}: 511 lets it turn one resident OS page into 2 MiB");
        say("khugepaged", Level::Info, text);
    }
    for (name, value) in &facts.limits {
        let text = match value {
            Some(bytes) => format!("{name} is {} MiB", bytes >> 20),
            None => format!("{name} is unlimited"),
        };
        say("limits", Level::Info, text);
    }
    if let Some(mode) = &facts.overcommit {
        let text = match mode.as_str() {
            "2" => "vm.overcommit_memory=2: what is mapped counts, touched or not".to_owned(),
            other => format!("vm.overcommit_memory={other}"),
        };
        say("overcommit", Level::Info, text);
    }
    let text = match facts.cgroup_left {
        Some(left) => format!("the control group leaves {} MiB", left >> 20),
        None => "no control group limits this process".to_owned(),
    };
    say(
        "memory",
        Level::Info,
        format!("{} MiB available; {text}", facts.available >> 20),
    );
    findings
}

/// Whether huge pages were had, else the first cause that explains it.
fn huge_pages(facts: &Facts) -> (Level, String) {
    match facts.huge_try {
        Some((wished, had)) if had >= wished => {
            return (
                Level::Ok,
                format!("{} MiB wished, {} MiB had", wished >> 20, had >> 20),
            );
        }
        _ => {}
    }
    let (wished, had) = facts.huge_try.unwrap_or((TRY as u64, 0));
    let why = if facts.thp_disabled_by_prctl {
        "PR_SET_THP_DISABLE is set for this process, by itself or whoever started it: start it from elsewhere, or \
         without the service manager's option for it"
    } else if facts.thp_enabled.is_none() {
        "the kernel has no transparent huge pages (or /sys is not mounted)"
    } else if facts.thp_enabled.as_deref() == Some("never") {
        "transparent_hugepage/enabled is never: as root, echo madvise > \
         /sys/kernel/mm/transparent_hugepage/enabled"
    } else if facts.thp_defrag.as_deref() == Some("never") {
        "defrag is never and no huge page was free at once: echo madvise > \
         /sys/kernel/mm/transparent_hugepage/defrag"
    } else {
        "memory is too fragmented or too scarce: echo 1 > /proc/sys/vm/compact_memory, or use a hugetlb pool"
    };
    let level = if facts.asked.huge {
        Level::Problem
    } else {
        Level::Info
    };
    (
        level,
        format!("{} MiB wished, {} MiB had: {why}", wished >> 20, had >> 20),
    )
}

fn prefault(facts: &Facts) -> (Level, String) {
    let level = if facts.asked.prefault {
        Level::Problem
    } else {
        Level::Info
    };
    match &facts.populate_try {
        Some(Ok((wished, had))) if had >= wished => {
            (Level::Ok, format!("{} MiB populated", had >> 20))
        }
        Some(Ok((wished, had))) => {
            let text = format!(
                "{} of {} MiB populated: the control group or MemAvailable leave no more",
                had >> 20,
                wished >> 20
            );
            (level, text)
        }
        Some(Err(e)) => (level, format!("not populated: {e}")),
        None => (level, "not tried".into()),
    }
}

/// The allocator refuses the pool, whatever it has; a page of it is really taken to say whether a Region could be had.
fn pool(facts: &Facts, size: u64) -> (Level, String) {
    const WHY: &str = "the allocator takes nothing from the pool (a forked child that writes to such memory is killed \
                       where the pool is empty), HAKMEM_THP decides";
    let free = facts
        .pool_pages_free
        .iter()
        .find(|(s, _)| *s == size)
        .map_or(0, |(_, n)| *n);
    let kind = if size > 2 << 20 {
        HugetlbSize::OneGiB
    } else {
        HugetlbSize::TwoMiB
    };
    let page = Region::builder()
        .len(size as usize)
        .align(4096)
        .backing(Backing::Hugetlb(kind));
    let region = match page.map() {
        Ok(_) => format!(
            "a Region can use it: a page of {} MiB was had, {free} were free",
            size >> 20
        ),
        Err(e) => format!(
            "a Region could use it, but no page of {} MiB was had ({e}), {free} are free: as root, echo N > \
             /sys/kernel/mm/hugepages/hugepages-{}kB/nr_hugepages",
            size >> 20,
            size >> 10
        ),
    };
    (Level::Problem, format!("{WHY}; {region}"))
}

#[cfg(test)]
#[path = "doctor_tests.rs"]
mod tests;
