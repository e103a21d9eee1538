//! What this machine gives, and where huge pages or prefault were not had, why and what to do.
//!
//! First it tries: maps a region, asks for huge pages, populates, and looks at what came of it. Only then does it look
//! for causes, and only for those of what was asked for (`HAKMEM_THP`, `HAKMEM_HUGETLB`, `HAKMEM_SS_PREFAULT`) and not
//! had: a setting that hurts nobody is information, not a problem.

use hakmem_alloc::findings;
use hakmem_alloc::region::{HugeWish, Region};

use crate::system::{cgroup_left, chosen, meminfo_kib, read};

#[cfg(test)]
mod tests;

/// What it is about, how bad it is ([`OK`], [`INFO`] or [`PROBLEM`]), and what was found, in one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub check: &'static str,
    pub level: &'static str,
    pub text: String,
}

pub const OK: &str = "ok";
pub const INFO: &str = "info";
/// It was asked for and not had.
pub const PROBLEM: &str = "problem";

#[derive(Debug, Clone, Default)]
struct Asked {
    huge: bool,
    hugetlb: bool,
    prefault: bool,
}

/// What was tried, and the settings that may explain it. `None` where it could not be.
#[derive(Debug, Clone, Default)]
struct Facts {
    asked: Asked,
    thp_enabled: Option<String>,
    thp_defrag: Option<String>,
    thp_disabled_by_prctl: bool,
    /// Bytes that were huge, of [`TRY`] wished.
    huge: Option<usize>,
    /// Bytes that were populated, of [`TRY`]; or why none.
    populated: Option<Result<usize, String>>,
}

const TRY: usize = 8 << 20;
const THP: &str = "/sys/kernel/mm/transparent_hugepage";

/// What the variables of the environment ask for.
fn asked(var: impl Fn(&str) -> Option<String>) -> Asked {
    let is = |name: &str, values: &[&str]| var(name).is_some_and(|v| values.contains(&v.as_str()));
    Asked {
        // What is not forbidden is asked for: auto gives growing programs huge pages.
        huge: !is("HAKMEM_THP", &["never"]),
        hugetlb: is("HAKMEM_HUGETLB", &["2m", "1g"]),
        prefault: is("HAKMEM_SS_PREFAULT", &["populate", "map_populate", "collapse", "async"])
            || var("HAKMEM_SS_PREWARM").is_some_and(|n| n != "0"),
    }
}

fn collect() -> Facts {
    // SAFETY: asks for a number.
    let disabled = unsafe { libc::prctl(libc::PR_GET_THP_DISABLE, 0, 0, 0, 0) } > 0;
    let facts = Facts {
        asked: asked(|name| std::env::var(name).ok()),
        thp_enabled: chosen(&format!("{THP}/enabled")),
        thp_defrag: chosen(&format!("{THP}/defrag")),
        thp_disabled_by_prctl: disabled,
        ..Facts::default()
    };
    let region = match Region::builder().len(TRY).huge(HugeWish::Want).map() {
        Ok(region) => region,
        Err(e) => {
            let text = format!("no region could be mapped: {e}: {}", findings::of_mapping(TRY));
            return Facts { populated: Some(Err(text)), ..facts };
        }
    };
    match region.prefault() {
        Ok(done) => Facts { huge: Some(done.huge_bytes), populated: Some(Ok(done.bytes)), ..facts },
        Err(e) => Facts { populated: Some(Err(e.to_string())), ..facts },
    }
}

pub fn diagnose_here() -> Vec<Finding> {
    let facts = collect();
    let kernel = format!("Linux {}", read("/proc/sys/kernel/osrelease").unwrap_or_default());
    let mut findings = vec![Finding { check: "kernel", level: INFO, text: kernel }];
    findings.extend(judged(&facts));
    findings.extend(told().into_iter().map(|(check, text)| Finding { check, level: INFO, text }));
    findings
}

/// What was tried, and where it was asked for and not had, why.
fn judged(facts: &Facts) -> Vec<Finding> {
    let bad = |is_asked: bool| if is_asked { PROBLEM } else { INFO };
    let mib = |bytes: usize| bytes >> 20;
    let mut findings = Vec::new();
    let mut say = |check, level, text: String| findings.push(Finding { check, level, text });
    let huge = format!("{} MiB wished, {} MiB had", mib(TRY), mib(facts.huge.unwrap_or(0)));
    if facts.huge.is_some_and(|had| had >= TRY) {
        say("huge-pages", OK, huge);
    } else {
        let (enabled, defrag) = (facts.thp_enabled.as_deref(), facts.thp_defrag.as_deref());
        let why = findings::of_huge_pages(facts.thp_disabled_by_prctl, enabled, defrag);
        say("huge-pages", bad(facts.asked.huge), format!("{huge}: {why}"));
    }
    let level = bad(facts.asked.prefault);
    match &facts.populated {
        Some(Ok(had)) if *had >= TRY => say("prefault", OK, format!("{} MiB populated", mib(*had))),
        Some(Ok(had)) => {
            let why = findings::of_short_populate();
            say("prefault", level, format!("{} of {} MiB populated: {why}", mib(*had), mib(TRY)));
        }
        Some(Err(e)) => say("prefault", level, format!("not populated: {e}")),
        None => say("prefault", level, "not tried".into()),
    }
    if facts.asked.hugetlb {
        let why = "the allocator takes nothing from the pool, because a forked child that writes to such memory is killed if the \
                   pool is empty; HAKMEM_THP decides, and a Region can use the pool";
        say("hugetlb", PROBLEM, why.into());
    }
    findings
}

/// Settings and limits, which are information.
fn told() -> Vec<(&'static str, String)> {
    let setting =
        |name: &str| format!("{name}={}", chosen(&format!("{THP}/{name}")).unwrap_or_else(|| "not there".to_owned()));
    let mut told = vec![("sysfs", ["enabled", "defrag", "shmem_enabled"].map(setting).join(" "))];
    for (name, which) in [("RLIMIT_AS", libc::RLIMIT_AS), ("RLIMIT_MEMLOCK", libc::RLIMIT_MEMLOCK)] {
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: fills the struct.
        let known = unsafe { libc::getrlimit(which, &mut limit) } == 0 && limit.rlim_cur != libc::RLIM_INFINITY;
        let value = if known { format!("{} MiB", limit.rlim_cur >> 20) } else { "unlimited".to_owned() };
        told.push(("limits", format!("{name} is {value}")));
    }
    let group = match cgroup_left() {
        Some(left) => format!("the control group leaves {} MiB", left >> 20),
        None => "no control group limits this process".to_owned(),
    };
    told.push(("memory", format!("{} MiB available; {group}", meminfo_kib("MemAvailable") >> 10)));
    told
}
