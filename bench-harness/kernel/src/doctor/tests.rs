//! Tests of [`super`]: what is a problem, on paper.

use super::*;

fn good() -> Facts {
    Facts {
        asked: Asked { huge: true, hugetlb: false, prefault: true },
        thp_enabled: Some("madvise".into()),
        thp_defrag: Some("madvise".into()),
        huge: Some(TRY),
        populated: Some(Ok(TRY)),
        ..Facts::default()
    }
}

fn problems(facts: &Facts) -> Vec<(&'static str, String)> {
    let all = judged(facts).into_iter();
    all.filter(|f| f.level == PROBLEM).map(|f| (f.check, f.text)).collect()
}

#[test]
fn only_what_was_asked_for_and_not_had_is_a_problem() {
    let none = Facts { huge: Some(0), ..good() };
    let unasked = Facts { asked: Asked::default(), populated: Some(Err("EINVAL".into())), ..none.clone() };
    let prefault = Asked { prefault: true, ..Asked::default() };
    let cases = [
        (good(), "", ""),
        // Huge pages were had all the same: the settings are not to be complained about.
        (Facts { thp_enabled: Some("never".into()), ..good() }, "", ""),
        (Facts { thp_enabled: Some("never".into()), ..none.clone() }, "huge-pages", "enabled is never"),
        (none, "huge-pages", "too fragmented"),
        (unasked.clone(), "", ""),
        (Facts { asked: prefault, ..unasked }, "prefault", "EINVAL"),
        (Facts { populated: Some(Ok(2 << 20)), ..good() }, "prefault", "2 of 8 MiB populated: the "),
        (Facts { asked: Asked { hugetlb: true, ..good().asked }, ..good() }, "hugetlb", "a forked child"),
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
    assert!(of("HAKMEM_HUGETLB", "1g").hugetlb && !of("HAKMEM_HUGETLB", "off").hugetlb);
    assert!(of("HAKMEM_SS_PREFAULT", "populate").prefault && !of("HAKMEM_SS_PREFAULT", "off").prefault);
    assert!(of("HAKMEM_SS_PREWARM", "4").prefault && !of("HAKMEM_SS_PREWARM", "0").prefault);
}
