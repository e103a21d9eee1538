//! What the doctor reads and tries, before it judges.

use std::path::PathBuf;

use hakmem_alloc::findings;
use hakmem_alloc::region::{HugeWish, Region};

#[derive(Debug, Clone, Default)]
pub(super) struct Asked {
    pub huge: bool,
    pub hugetlb: Option<u64>,
    pub prefault: bool,
}

/// Everything that was read and tried. `None` where it could not be.
#[derive(Debug, Clone, Default)]
pub(super) struct Facts {
    pub asked: Asked,
    pub kernel: String,
    pub thp_enabled: Option<String>,
    pub thp_defrag: Option<String>,
    pub shmem_enabled: Option<String>,
    pub mthp: Vec<(u64, String)>,
    pub khugepaged: Option<String>,
    pub thp_disabled_by_prctl: bool,
    /// Bytes wished to be huge, and bytes that were.
    pub huge_try: Option<(u64, u64)>,
    pub aligned: Option<bool>,
    /// Bytes to be populated, and bytes that were; or why not.
    pub populate_try: Option<Result<(u64, u64), String>>,
    pub pool_pages_free: Vec<(u64, u64)>,
    pub limits: Vec<(&'static str, Option<u64>)>,
    pub overcommit: Option<String>,
    pub cgroup_left: Option<u64>,
    pub available: u64,
}

pub(super) const TRY: usize = 8 << 20;

fn read(path: &str) -> Option<String> {
    std::fs::read_to_string(path).ok().map(|s| s.trim().to_owned())
}

fn chosen(text: &str) -> &str {
    text.split_once('[').and_then(|(_, r)| r.split_once(']')).map_or(text, |(w, _)| w)
}

pub(super) fn collect() -> Facts {
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
        pool_pages_free: [2u64 << 20, 1 << 30].map(|size| (size, free_pool_pages(size))).to_vec(),
        limits: vec![("RLIMIT_AS", limit(libc::RLIMIT_AS)), ("RLIMIT_MEMLOCK", limit(libc::RLIMIT_MEMLOCK))],
        overcommit: read("/proc/sys/vm/overcommit_memory"),
        cgroup_left: cgroup_left(),
        available: available_bytes(),
    }
}

/// What the variables of the environment ask for.
pub(super) fn asked(var: impl Fn(&str) -> Option<String>) -> Asked {
    let is = |name: &str, values: &[&str]| var(name).is_some_and(|v| values.contains(&v.as_str()));
    Asked {
        // What is not forbidden is asked for: auto gives growing programs huge pages.
        huge: !is("HAKMEM_THP", &["never"]),
        hugetlb: match var("HAKMEM_HUGETLB").as_deref() {
            Some("2m") => Some(2 << 20),
            Some("1g") => Some(1 << 30),
            _ => None,
        },
        prefault: is("HAKMEM_SS_PREFAULT", &["populate", "map_populate", "collapse", "async"])
            || var("HAKMEM_SS_PREWARM").is_some_and(|n| n != "0"),
    }
}

type Tried = (Option<(u64, u64)>, Option<bool>, Option<Result<(u64, u64), String>>);

fn try_region() -> Tried {
    let region = match Region::builder().len(TRY).huge(HugeWish::Want).map() {
        Ok(region) => region,
        Err(e) => {
            let text = format!("no region could be mapped: {e}: {}", findings::of_mapping(TRY));
            return (None, None, Some(Err(text)));
        }
    };
    let aligned = (region.as_ptr() as usize).is_multiple_of(2 << 20);
    match region.prefault() {
        Ok(done) => {
            let huge = Some((TRY as u64, done.huge_bytes as u64));
            (huge, Some(aligned), Some(Ok((TRY as u64, done.bytes as u64))))
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
            let kib = name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
            let text = read(&format!("{thp}/{name}/enabled"))?;
            Some((kib, chosen(&text).to_owned()))
        })
        .collect();
    sizes.sort_unstable();
    sizes
}

/// Free pages of that size in the pool.
pub(super) fn free_pool_pages(size: u64) -> u64 {
    let path = format!("/sys/kernel/mm/hugepages/hugepages-{}kB/free_hugepages", size >> 10);
    read(&path).and_then(|t| t.parse().ok()).unwrap_or(0)
}

/// Memory that could be had without swapping, in bytes.
fn available_bytes() -> u64 {
    let text = read("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|l| l.strip_prefix("MemAvailable:"));
    line.and_then(|l| l.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) * 1024
}

fn limit(which: libc::__rlimit_resource_t) -> Option<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
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
