//! Tests of [`super`]: each cause provoked on paper, and those this machine allows for real.

use super::*;

fn good() -> Facts {
    Facts {
        asked: Asked { huge: true, hugetlb: None, prefault: true },
        thp_enabled: Some("madvise".into()),
        thp_defrag: Some("madvise".into()),
        huge: Some(TRY),
        aligned: Some(true),
        populated: Some(Ok(TRY)),
        ..Facts::default()
    }
}

fn problems(facts: &Facts) -> Vec<(&'static str, String)> {
    let all = judged(facts).into_iter();
    all.filter(|f| f.level == PROBLEM).map(|f| (f.check, f.text)).collect()
}

#[test]
fn each_cause_is_named_and_only_the_one_that_explains() {
    let never = || Some("never".to_owned());
    let none = Facts { huge: Some(0), ..good() };
    let unasked = Facts { asked: Asked::default(), populated: Some(Err("EINVAL".into())), ..none.clone() };
    let prefault = Asked { prefault: true, ..Asked::default() };
    let pool = Asked { hugetlb: Some(1 << 30), ..good().asked };
    let cases = [
        (good(), "", ""),
        // Huge pages were had all the same: the settings are not to be complained about.
        (Facts { thp_enabled: never(), thp_defrag: never(), ..good() }, "", ""),
        (Facts { thp_disabled_by_prctl: true, ..none.clone() }, "huge-pages", "PR_SET_THP_DISABLE"),
        (Facts { thp_enabled: None, ..none.clone() }, "huge-pages", "no transparent huge pages"),
        (Facts { thp_enabled: never(), ..none.clone() }, "huge-pages", "enabled is never"),
        (Facts { thp_defrag: never(), ..none.clone() }, "huge-pages", "defrag is never"),
        (none, "huge-pages", "too fragmented"),
        (unasked.clone(), "", ""),
        (Facts { asked: prefault, ..unasked }, "prefault", "EINVAL"),
        (Facts { populated: Some(Ok(2 << 20)), ..good() }, "prefault", "2 of 8 MiB populated: the "),
        (Facts { asked: pool, ..good() }, "hugetlb", "a forked child"),
    ];
    for (facts, check, text) in cases {
        let found = problems(&facts);
        assert_eq!(found.len(), usize::from(!check.is_empty()), "{facts:?}: {found:?}");
        assert!(found.iter().all(|f| f.0 == check && f.1.contains(text)), "{facts:?}: {found:?}");
    }
}

#[test]
fn the_environment_says_what_was_asked() {
    let of = |name: &'static str, value: &'static str| asked(move |n| (n == name).then(|| value.to_owned()));
    assert!(of("", "").huge && !of("HAKMEM_THP", "never").huge);
    assert_eq!(of("HAKMEM_HUGETLB", "1g").hugetlb, Some(1 << 30));
    assert_eq!(of("HAKMEM_HUGETLB", "off").hugetlb, None);
    assert!(of("HAKMEM_SS_PREFAULT", "populate").prefault && !of("HAKMEM_SS_PREFAULT", "off").prefault);
    assert!(of("HAKMEM_SS_PREWARM", "4").prefault && !of("HAKMEM_SS_PREWARM", "0").prefault);
}

/// The problems the doctor names in a child process that has made itself such, and the text its only one has to have.
fn in_a_child(make: fn(), wanted: &str, asked: Asked) {
    // SAFETY: the child calls the doctor and leaves by _exit; its standard output is not used.
    let status = unsafe {
        let mut status = 0;
        match libc::fork() {
            0 => {
                make();
                let found = problems(&Facts { asked, ..collect() });
                libc::_exit(i32::from(found.len() != 1 || !found[0].1.contains(wanted)));
            }
            child => assert_eq!(libc::waitpid(child, &mut status, 0), child),
        }
        status
    };
    assert_eq!(status, 0, "{wanted}");
}

#[test]
fn limits_of_this_process_are_diagnosed_for_real() {
    let no_room = || {
        let used = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
        let pages: u64 = used.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0);
        // Room for the doctor's own files and strings, not for what it tries.
        let bytes = pages * 4096 + (4 << 20);
        let limit = libc::rlimit { rlim_cur: bytes, rlim_max: bytes };
        // SAFETY: a limit of this process.
        unsafe { libc::setrlimit(libc::RLIMIT_AS, &limit) };
    };
    in_a_child(no_room, "RLIMIT_AS is", Asked { prefault: true, ..Asked::default() });
    in_a_child(
        || {
            // SAFETY: a flag of this process.
            unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0) };
        },
        "PR_SET_THP_DISABLE",
        Asked { huge: true, ..Asked::default() },
    );
}

#[test]
fn this_machine_is_diagnosed_and_every_line_is_one_line() {
    let findings = diagnose_here();
    for check in ["kernel", "huge-pages", "alignment", "prefault", "hugetlb", "sysfs", "limits", "memory"] {
        assert!(findings.iter().any(|f| f.check == check), "{check}");
    }
    assert!(findings.iter().all(|f| !f.text.contains('\n') && !f.text.is_empty()));
}
