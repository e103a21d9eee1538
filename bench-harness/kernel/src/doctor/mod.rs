//! What this machine gives, and where huge pages or prefault were not had, why and what to do.
//!
//! First it tries: maps a region, asks for huge pages, populates, and looks at what came of it. Only then does it look
//! for causes, and only for those of what was asked for (`HAKMEM_THP`, `HAKMEM_HUGETLB`, `HAKMEM_SS_PREFAULT`) and not
//! had: a setting that hurts nobody is information, not a problem.

use hakmem_alloc::findings;
use hakmem_alloc::region::{Backing, HugetlbSize, Region};

use facts::{Facts, TRY, collect};

mod facts;
#[cfg(test)]
mod tests;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    Ok,
    Info,
    Problem,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub check: &'static str,
    level: Level,
    pub text: String,
}

impl Finding {
    /// Whether it was asked for and not had.
    pub fn is_problem(&self) -> bool {
        self.level == Level::Problem
    }

    pub fn level(&self) -> &'static str {
        match self.level {
            Level::Ok => "ok",
            Level::Info => "info",
            Level::Problem => "problem",
        }
    }
}

pub fn diagnose_here() -> Vec<Finding> {
    diagnose(&collect())
}

fn diagnose(facts: &Facts) -> Vec<Finding> {
    let mut findings = vec![];
    let mut say = |check, level, text: String| findings.push(Finding { check, level, text });
    say("kernel", Level::Info, format!("Linux {}", facts.kernel));
    let (level, text) = huge_pages(facts);
    say("huge-pages", level, text);
    match facts.aligned {
        Some(true) => say("alignment", Level::Ok, "a region lies on a 2 MiB boundary".into()),
        Some(false) => {
            say("alignment", Level::Problem, "a region does not lie on a 2 MiB boundary: please report".into())
        }
        None => {}
    }
    let (level, text) = prefault(facts);
    say("prefault", level, text);
    if let Some(size) = facts.asked.hugetlb {
        let (level, text) = pool(facts, size);
        say("hugetlb", level, text);
    } else {
        let pool = |(size, n): &(u64, u64)| format!("{n} free of {} KiB", size >> 10);
        let text = facts.pool_pages_free.iter().map(pool).collect::<Vec<_>>().join(", ");
        say("hugetlb", Level::Info, format!("not asked for (HAKMEM_HUGETLB); pool: {text}"));
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
    let on: Vec<String> = on.map(|(kib, policy)| format!("{kib} KiB {policy}")).collect();
    let none_on = "no size but the default is on";
    say("mthp", Level::Info, if on.is_empty() { none_on.into() } else { on.join(", ") });
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
    say("memory", Level::Info, format!("{} MiB available; {text}", facts.available >> 20));
    findings
}

/// Whether huge pages were had, else the first cause that explains it.
fn huge_pages(facts: &Facts) -> (Level, String) {
    match facts.huge_try {
        Some((wished, had)) if had >= wished => {
            return (Level::Ok, format!("{} MiB wished, {} MiB had", wished >> 20, had >> 20));
        }
        _ => {}
    }
    let (wished, had) = facts.huge_try.unwrap_or((TRY as u64, 0));
    let why =
        findings::of_huge_pages(facts.thp_disabled_by_prctl, facts.thp_enabled.as_deref(), facts.thp_defrag.as_deref());
    let level = if facts.asked.huge { Level::Problem } else { Level::Info };
    (level, format!("{} MiB wished, {} MiB had: {why}", wished >> 20, had >> 20))
}

fn prefault(facts: &Facts) -> (Level, String) {
    let level = if facts.asked.prefault { Level::Problem } else { Level::Info };
    match &facts.populate_try {
        Some(Ok((wished, had))) if had >= wished => (Level::Ok, format!("{} MiB populated", had >> 20)),
        Some(Ok((wished, had))) => {
            let text = format!("{} of {} MiB populated: {}", had >> 20, wished >> 20, findings::of_short_populate());
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
    let free = facts.pool_pages_free.iter().find(|(s, _)| *s == size).map_or(0, |(_, n)| *n);
    let kind = if size > 2 << 20 { HugetlbSize::OneGiB } else { HugetlbSize::TwoMiB };
    let page = Region::builder().len(size as usize).align(4096).backing(Backing::Hugetlb(kind));
    let region = match page.map() {
        Ok(_) => format!("a Region can use it: a page of {} MiB was had, {free} were free", size >> 20),
        // Says how many pages are free, and what to do.
        Err(e) => format!("a Region could use it, but had none: {e}"),
    };
    (Level::Problem, format!("{WHY}; {region}"))
}
