//! What this machine gives, and where huge pages or prefault were not had, why and what to do.
//!
//! First it tries: maps a region, asks for huge pages, populates, and looks at what came of it. Only then does it look for
//! causes, and only for those of what was not had: a setting that hurts nobody is information, not a problem. Nor is what
//! `HAKMEM_THP=never` asks for.

use hakmem_alloc::findings;
use hakmem_alloc::region::{HugeWish, Region};

use crate::system::{cgroup_left, chosen, meminfo_kib, read};

/// What it is about, how bad it is ([`OK`], [`INFO`] or [`PROBLEM`]), and what was found, in one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub check: &'static str,
    pub level: &'static str,
    pub text: String,
}

pub const OK: &str = "ok";
pub const INFO: &str = "info";
/// It was not had.
pub const PROBLEM: &str = "problem";

const TRY: usize = 8 << 20;
const THP: &str = "/sys/kernel/mm/transparent_hugepage";

pub fn diagnose_here() -> Vec<Finding> {
    let tried = Region::builder().len(TRY).huge(HugeWish::Want).map();
    let had = match &tried {
        Ok(region) => region.prefault().map(|done| (done.bytes, done.huge_bytes)).map_err(|e| e.to_string()),
        Err(e) => Err(format!("no region could be mapped: {e}: {}", findings::of_mapping(TRY))),
    };
    let info = |(check, text)| Finding { check, level: INFO, text };
    let kernel = ("kernel", format!("Linux {}", read("/proc/sys/kernel/osrelease").unwrap_or_default()));
    let unasked = std::env::var("HAKMEM_THP").is_ok_and(|wish| wish == "never");
    let of_this = [kernel].into_iter().chain(settings()).map(info);
    of_this.chain(judged(had, unasked)).collect()
}

/// What was had of what was tried: bytes populated, and bytes in huge pages; and if that was not all, why.
fn judged(had: Result<(usize, usize), String>, unasked: bool) -> [Finding; 2] {
    let mib = |bytes: usize| format!("{} of {} MiB", bytes >> 20, TRY >> 20);
    let huge = match had {
        Ok((_, huge)) if huge >= TRY => (OK, mib(huge)),
        _ => {
            // SAFETY: asks for a number.
            let disabled = unsafe { libc::prctl(libc::PR_GET_THP_DISABLE, 0, 0, 0, 0) } > 0;
            let [enabled, defrag] = ["enabled", "defrag"].map(|name| chosen(&format!("{THP}/{name}")));
            let why = findings::of_huge_pages(disabled, enabled.as_deref(), defrag.as_deref());
            let huge = had.as_ref().map_or(0, |had| had.1);
            (if unasked { INFO } else { PROBLEM }, format!("{}: {why}", mib(huge)))
        }
    };
    let populated = match had {
        Ok((bytes, _)) if bytes >= TRY => (OK, mib(bytes)),
        Ok((bytes, _)) => (PROBLEM, format!("{}: {}", mib(bytes), findings::of_short_populate())),
        Err(why) => (PROBLEM, why),
    };
    [("huge-pages", huge), ("prefault", populated)].map(|(check, (level, text))| Finding { check, level, text })
}

/// Settings and limits, which are information.
fn settings() -> Vec<(&'static str, String)> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_had_is_a_problem_unless_it_was_not_asked_for() {
        let levels = |had, unasked| judged(had, unasked).map(|f| f.level);
        assert_eq!(levels(Ok((TRY, TRY)), false), [OK, OK]);
        assert_eq!(levels(Ok((TRY, 0)), false), [PROBLEM, OK]);
        assert_eq!(levels(Ok((TRY, 0)), true), [INFO, OK]);
        assert_eq!(levels(Ok((TRY / 2, 0)), true), [INFO, PROBLEM]);
        let failed = judged(Err("EINVAL".into()), false);
        assert!(failed[0].text.starts_with("0 of 8 MiB: ") && failed[1].text == "EINVAL", "{failed:?}");
    }
}
