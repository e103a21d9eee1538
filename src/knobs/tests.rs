//! Precedence, bounds and messages, with environments made for the test.

use std::format;
use std::string::{String, ToString};
use std::vec::Vec;

use super::parse::Shown;
use super::*;

/// The result of the two, and the complaints.
fn load(config: Config, env: &[&str]) -> (Knobs, Vec<String>) {
    let env: Vec<&[u8]> = env.iter().map(|entry| entry.as_bytes()).collect();
    let mut lines = Vec::new();
    let mut knobs = Knobs::NONE;
    knobs.load(&config, Environ::Fake(&env), &mut |line| {
        lines.push(line.to_string())
    });
    (knobs, lines)
}

fn printed(knobs: &Knobs) -> Vec<String> {
    let mut lines = Vec::new();
    knobs.print(&mut |line| lines.push(line.to_string()));
    lines
}

#[test]
fn nothing_said_gives_the_defaults() {
    let (knobs, lines) = load(Config::new(), &["PATH=/bin", "HAKMEM", "HAKMEMX=1"]);
    assert!(lines.is_empty(), "{lines:?}");
    assert_eq!(knobs.profile, Profile::Balanced);
    assert_eq!(knobs.thp, ThpPolicy::Auto);
    assert_eq!(knobs.hugetlb, Hugetlb::Off);
    assert_eq!(knobs.prefault, Prefault::Off);
    assert_eq!(knobs.prewarm, 0);
    assert_eq!(knobs.retain_mb, None);
    assert_eq!(knobs.purge_delay_ms, 1000);
    assert!(knobs.background);
    assert!(!knobs.verbose);
    assert_eq!(knobs.stats, StatsMode::Off);
    assert!(knobs.stats_file().is_none() && knobs.report_file().is_none());
}

#[test]
fn every_knob_can_be_set_from_outside() {
    let (knobs, lines) = load(
        Config::new(),
        &[
            "HAKMEM_PROFILE=speed",
            "HAKMEM_THP=never",
            "HAKMEM_HUGETLB=off",
            "HAKMEM_SS_PREFAULT=collapse",
            "HAKMEM_NO_EXPLICIT_PREFAULT=1",
            "HAKMEM_SS_PREWARM=7",
            "HAKMEM_SS_RETAIN_MB=12",
            "HAKMEM_LARGE_CACHE_MB=13",
            "HAKMEM_HEAP_CACHE_KB=14",
            "HAKMEM_PURGE_DELAY_MS=15",
            "HAKMEM_BACKGROUND=0",
            "HAKMEM_VERBOSE=1",
            "HAKMEM_STATS=json",
            "HAKMEM_STATS_FILE=/tmp/%p",
            "HAKMEM_REPORT_FILE=report",
            "HAKMEM_DEEPBIND=1",
            "HAKMEM_CHECK_ONE_IN=16",
            "HAKMEM_GUARD_EVERY=17",
        ],
    );
    assert!(lines.is_empty(), "{lines:?}");
    assert_eq!(knobs.profile, Profile::Speed);
    assert_eq!(knobs.thp, ThpPolicy::Never);
    assert_eq!(knobs.hugetlb, Hugetlb::Off);
    assert_eq!(knobs.prefault, Prefault::Collapse);
    assert_eq!(knobs.prewarm, 7);
    assert_eq!(knobs.retain_mb, Some(12));
    assert_eq!(knobs.large_cache_mb, 13);
    assert_eq!(knobs.heap_cache_kb, Some(14));
    assert_eq!(knobs.purge_delay_ms, 15);
    assert!(!knobs.background && knobs.verbose);
    assert_eq!(knobs.stats, StatsMode::Json);
    assert_eq!(knobs.stats_file().unwrap().as_bytes(), b"/tmp/%p");
    assert_eq!(knobs.report_file().unwrap().as_bytes(), b"report");
    assert!(knobs.deepbind);
    assert_eq!((knobs.check_one_in, knobs.guard_every), (16, 17));
    assert!(
        printed(&knobs)
            .iter()
            .all(|line| line.ends_with(" (environment)")),
        "{:?}",
        printed(&knobs)
    );
}

#[test]
fn every_knob_can_be_set_in_code() {
    let config = Config::new()
        .profile(Profile::Lean)
        .thp(ThpPolicy::Always)
        .hugetlb(Hugetlb::Off)
        .prefault(Prefault::Touch)
        .no_explicit_prefault(false)
        .prewarm(7)
        .retain_auto()
        .large_cache_mb(13)
        .heap_cache_kb(14)
        .purge_delay_ms(15)
        .guard_every(16)
        .background(false)
        .check_one_in(0)
        .verbose(true)
        .stats(StatsMode::Text)
        .stats_file("/tmp/stats")
        .report_file("/tmp/report");
    let (knobs, lines) = load(config, &[]);
    assert!(lines.is_empty(), "{lines:?}");
    assert_eq!(knobs.profile, Profile::Lean);
    assert_eq!(knobs.thp, ThpPolicy::Always);
    assert_eq!(knobs.hugetlb, Hugetlb::Off);
    assert_eq!(knobs.prefault, Prefault::Touch);
    assert_eq!(knobs.prewarm, 7);
    assert_eq!(
        knobs.retain_mb, None,
        "auto in code beats the profile's number"
    );
    assert_eq!((knobs.large_cache_mb, knobs.purge_delay_ms), (13, 15));
    assert_eq!(knobs.heap_cache_kb, Some(14));
    assert_eq!((knobs.check_one_in, knobs.guard_every), (0, 16));
    assert!(!knobs.background && knobs.verbose);
    assert_eq!(knobs.stats, StatsMode::Text);
    assert_eq!(knobs.stats_file().unwrap().as_bytes(), b"/tmp/stats");
    assert_eq!(knobs.report_file().unwrap().as_bytes(), b"/tmp/report");
    assert!(
        printed(&knobs)
            .iter()
            // For the preloaded library, in which no program sets anything.
            .filter(|line| !line.starts_with("HAKMEM_DEEPBIND="))
            .all(|line| line.ends_with(" (set in code)")),
        "{:?}",
        printed(&knobs)
    );
}

#[test]
fn environment_beats_code_and_code_beats_the_profile() {
    let config = Config::new()
        .profile(Profile::Speed)
        .thp(ThpPolicy::Auto)
        .purge_delay_ms(77);
    let (knobs, _) = load(config, &["HAKMEM_PURGE_DELAY_MS=5", "HAKMEM_PROFILE=lean"]);
    assert_eq!(knobs.purge_delay_ms, 5, "environment over code");
    assert_eq!(
        knobs.thp,
        ThpPolicy::Auto,
        "code over profile, also over one from the environment"
    );
    assert_eq!(
        knobs.large_cache_mb, 8,
        "the environment's profile fills the rest"
    );
    let lines = printed(&knobs);
    for line in [
        "HAKMEM_PROFILE=lean (environment)",
        "HAKMEM_PURGE_DELAY_MS=5 (environment)",
        "HAKMEM_THP=auto (set in code)",
        "HAKMEM_LARGE_CACHE_MB=8 (profile lean)",
        "HAKMEM_BACKGROUND=1 (default)",
    ] {
        assert!(lines.iter().any(|l| l == line), "{line} not in {lines:?}");
    }
}

#[test]
fn profiles_differ_as_their_names_promise() {
    let of = |name: &str| load(Config::new(), &[&format!("HAKMEM_PROFILE={name}")]).0;
    let (speed, balanced, lean) = (of("speed"), of("balanced"), of("lean"));
    assert_eq!(
        (speed.thp, balanced.thp, lean.thp),
        (ThpPolicy::Always, ThpPolicy::Auto, ThpPolicy::Never)
    );
    assert!(
        speed.purge_delay_ms > balanced.purge_delay_ms
            && balanced.purge_delay_ms > lean.purge_delay_ms
    );
    let caches = [&speed, &balanced, &lean].map(|knobs| knobs.large_cache_mb);
    assert!(caches.is_sorted_by(|more, less| more > less));
    assert!(speed.heap_cache_kb.is_none() && balanced.heap_cache_kb.is_none());
    assert!(lean.heap_cache_kb.is_some());
    assert!(speed.retain_mb > lean.retain_mb && balanced.retain_mb.is_none());
}

#[test]
fn a_bad_value_gets_one_line_and_what_holds_without_it() {
    let (knobs, lines) = load(Config::new(), &["HAKMEM_THP=yes"]);
    assert_eq!(
        lines,
        ["HAKMEM_THP=yes: expected auto, always or never; using auto"]
    );
    assert_eq!(knobs.thp, ThpPolicy::Auto);

    let (knobs, lines) = load(Config::new(), &["HAKMEM_SS_PREWARM=-1"]);
    assert_eq!(
        lines,
        ["HAKMEM_SS_PREWARM=-1: expected a number from 0 to 1000000; using 0"]
    );
    assert_eq!(knobs.prewarm, 0);

    let (_, lines) = load(
        Config::new(),
        &["HAKMEM_SS_RETAIN_MB=1gb", "HAKMEM_PROFILE=speed"],
    );
    assert_eq!(
        lines,
        ["HAKMEM_SS_RETAIN_MB=1gb: expected auto or a number from 0 to 1048576; using 256"]
    );

    let (knobs, lines) = load(Config::new().thp(ThpPolicy::Never), &["HAKMEM_THP="]);
    assert_eq!(
        lines,
        ["HAKMEM_THP=: expected auto, always or never; using never"]
    );
    assert_eq!(knobs.thp, ThpPolicy::Never);

    let (_, lines) = load(Config::new(), &["HAKMEM_STATS_FILE="]);
    assert_eq!(
        lines,
        ["HAKMEM_STATS_FILE=: expected a path of 1 to 511 bytes; using stderr"]
    );
}

#[test]
fn a_file_for_statistics_that_nobody_asked_for_gets_one_line() {
    let said = "HAKMEM_STATS_FILE is set and HAKMEM_STATS is not: expected 1, full or json there too; nothing is printed";
    let lines = |config, env: &[&str]| load(config, env).1;
    assert_eq!(lines(Config::new(), &["HAKMEM_STATS_FILE=/tmp/x"]), [said]);
    for silent in [
        lines(
            Config::new(),
            &["HAKMEM_STATS_FILE=/tmp/x", "HAKMEM_STATS=0"],
        ),
        lines(
            Config::new(),
            &["HAKMEM_STATS_FILE=/tmp/x", "HAKMEM_STATS=full"],
        ),
        lines(
            Config::new().stats(StatsMode::Off),
            &["HAKMEM_STATS_FILE=/tmp/x"],
        ),
        lines(Config::new().stats_file("/tmp/x"), &[]),
    ] {
        assert_eq!(silent, [""; 0]);
    }
}

#[test]
fn every_knob_refuses_something() {
    for row in &TABLE {
        let bad = if row.knob.file().is_some() {
            "x".repeat(512)
        } else {
            "nonsense".to_string()
        };
        let (knobs, lines) = load(Config::new(), &[&format!("{}={bad}", row.name)]);
        let start = format!(
            "{}={}: expected {}; using ",
            row.name,
            Shown(bad.as_bytes()),
            row.kind
        );
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(
            lines[0].starts_with(&start),
            "{} does not start with {start}",
            lines[0]
        );
        assert_eq!(
            knobs.raw,
            load(Config::new(), &[]).0.raw,
            "{} changed something",
            row.name
        );
    }
}

#[test]
fn bad_values_in_code_are_reported_too() {
    let config = Config::new()
        .prewarm(2_000_000)
        .retain_mb(u32::MAX)
        .stats_file("")
        .report_file("");
    let (knobs, lines) = load(config, &["HAKMEM_REPORT_FILE=/tmp/x"]);
    assert_eq!(lines.len(), 4, "{lines:?}");
    assert_eq!(
        lines[0],
        "HAKMEM_SS_PREWARM=2000000 set in code: expected a number from 0 to 1000000; using 0"
    );
    assert!(
        lines[1]
            .starts_with("HAKMEM_SS_RETAIN_MB=4294967294 set in code: expected auto or a number")
    );
    assert_eq!(
        lines[2],
        "HAKMEM_STATS_FILE= set in code: expected a path of 1 to 511 bytes; using stderr"
    );
    assert_eq!(
        lines[3],
        "HAKMEM_REPORT_FILE= set in code: expected a path of 1 to 511 bytes; using /tmp/x"
    );
    assert_eq!((knobs.prewarm, knobs.retain_mb), (0, None));
}

#[test]
fn names_nobody_knows_get_one_line_except_the_harness_s_and_the_launcher_s() {
    let (_, lines) = load(
        Config::new(),
        &[
            "HAKMEM_THB=never",
            "HAKMEM_BENCH_WARMUP=5",
            "HAKMEM_BENCH_NONSENSE=",
            "HAKMEM_RUN_LIBRARY=/lib/x.so",
            "HAKMEM_=1",
            "HAKMEM_thp=never",
        ],
    );
    let said = |name: &str| format!("{name}: no such knob, ignored; env-knobs.md lists them all");
    assert_eq!(
        lines,
        [said("HAKMEM_THB"), said("HAKMEM_"), said("HAKMEM_thp")]
    );
}

#[test]
fn the_first_of_two_entries_holds() {
    let (knobs, lines) = load(
        Config::new(),
        &["HAKMEM_THP=never", "HAKMEM_THP=always", "HAKMEM_THP=bad"],
    );
    assert_eq!(knobs.thp, ThpPolicy::Never);
    assert!(lines.is_empty(), "{lines:?}");
    let (_, lines) = load(Config::new(), &["HAKMEM_THP=bad", "HAKMEM_THP=always"]);
    assert_eq!(lines.len(), 1);
}

#[test]
fn no_explicit_prefault_turns_off_what_touches_and_nothing_else() {
    for (policy, without) in [
        ("touch", Prefault::Off),
        ("memset", Prefault::Off),
        ("off", Prefault::Off),
        ("map_populate", Prefault::MapPopulate),
        ("populate", Prefault::Populate),
        ("collapse", Prefault::Collapse),
        ("async", Prefault::Async),
    ] {
        let asked = format!("HAKMEM_SS_PREFAULT={policy}");
        let (with, lines) = load(Config::new(), &[&asked]);
        assert!(lines.is_empty(), "{lines:?}");
        assert_eq!(
            format!("{:?}", with.prefault).to_lowercase(),
            policy.replace('_', "")
        );
        let (knobs, _) = load(Config::new(), &[&asked, "HAKMEM_NO_EXPLICIT_PREFAULT=1"]);
        assert_eq!(knobs.prefault, without, "{policy}");
    }
    let (knobs, _) = load(
        Config::new(),
        &["HAKMEM_SS_PREFAULT=touch", "HAKMEM_NO_EXPLICIT_PREFAULT=1"],
    );
    let line = "HAKMEM_SS_PREFAULT=touch (environment, made off by HAKMEM_NO_EXPLICIT_PREFAULT)";
    assert!(
        printed(&knobs).iter().any(|l| l == line),
        "{:?}",
        printed(&knobs)
    );
}

#[test]
fn a_path_from_outside_is_shown_as_such() {
    let (knobs, _) = load(Config::new(), &["HAKMEM_STATS_FILE=/tmp/a\nb"]);
    assert!(printed(&knobs).contains(&"HAKMEM_STATS_FILE=/tmp/a\\nb (environment)".to_string()));
}

#[test]
fn the_pool_is_refused_with_the_reason() {
    let said = |word: &str| {
        format!(
            "HAKMEM_HUGETLB={word}: refused for blocks, since a forked child that writes to memory of the pool is \
             killed if the pool is empty; HAKMEM_THP decides"
        )
    };
    let (knobs, lines) = load(Config::new(), &["HAKMEM_HUGETLB=2m", "HAKMEM_THP=always"]);
    assert_eq!(lines, [said("2m")]);
    assert_eq!(
        (knobs.hugetlb, knobs.thp),
        (Hugetlb::TwoMib, ThpPolicy::Always)
    );
    let (knobs, lines) = load(Config::new().hugetlb(Hugetlb::OneGib), &[]);
    assert_eq!(lines, [said("1g")]);
    assert_eq!(knobs.hugetlb, Hugetlb::OneGib);
}
