//! The page as text: complete in itself, true to its figures, and unmoved by whatever a file holds.

mod hostile;

use super::figures::{self, Place, Verdict};
use super::page;
use crate::latency::{Latency, Percentiles};
use crate::machine::{self, Machine};
use crate::record::{CaseResult, Failure, MemoryPoint, Results, Run, SCHEMA, Series};
use crate::workloads::Spec;

fn run(ops_per_sec: f64) -> Run {
    Run {
        ops_per_sec,
        secs: 1.0,
        ops: 1000,
        minor_faults_timed: 12,
        minor_faults_total: 345,
        max_rss_kib: 9000,
        rss_start_kib: 2000,
        rss_end_kib: 3000,
        ..Run::default()
    }
}

pub fn case(spec: &Spec, allocator: &str, series: Series, speeds: &[f64]) -> CaseResult {
    let runs = speeds.iter().map(|s| run(*s)).collect();
    CaseResult::made(spec.clone(), allocator, series, runs)
}

pub fn results(cases: Vec<CaseResult>) -> Results {
    Results {
        schema: SCHEMA,
        machine: Machine::default(),
        complete: true,
        planned_runs: 0,
        warnings: Vec::new(),
        results: cases,
    }
}

pub fn pair() -> Spec {
    Spec::parse(&["pair"]).unwrap()
}

/// Every workload in both series on four allocators, with everything a file can carry.
fn full() -> Results {
    let percentiles = Percentiles {
        samples: 100,
        p50_ns: 9,
        p99_ns: 80,
        p999_ns: 1200,
        worst_ns: 90_000,
    };
    let mut cases = Vec::new();
    for spec in Spec::all_cases() {
        for series in [Series::Warm, Series::Cold] {
            for (i, name) in ["system", "hakmem", "null", "jemalloc"].iter().enumerate() {
                let speed = 1e6 * (i + 1) as f64;
                let mut case = case(&spec, name, series, &[speed, speed * 1.1, speed * 0.9]);
                case.latency = Some(Latency {
                    alloc: percentiles,
                    free: percentiles,
                });
                if ["fragmentation", "idle-return"].contains(&spec.name()) {
                    let live_kib = if spec.name() == "idle-return" { 0 } else { 70 };
                    for run in &mut case.runs {
                        run.memory = [(0.1, 500), (1.1, 200), (2.2, 90)]
                            .map(|(secs, rss_kib)| MemoryPoint {
                                secs,
                                live_kib,
                                rss_kib,
                            })
                            .to_vec();
                    }
                }
                cases.push(case);
            }
        }
    }
    Results {
        machine: machine::describe(),
        ..results(cases)
    }
}

/// Every tag of a page, without its angle brackets. Values are escaped, so that a bracket is a tag's.
fn tags(page: &str) -> Vec<&str> {
    let style = page.find("<style>").unwrap() + 7..page.find("</style>").unwrap();
    let outside = [&page[..style.start], &page[style.end..]];
    let parts = outside.into_iter().flat_map(|p| p.split('<').skip(1));
    parts.map(|t| t.split('>').next().unwrap()).collect()
}

/// Nothing loaded, nothing run, nothing but the elements the report itself uses.
fn assert_self_contained(page: &str) {
    const KNOWN: &str = "!DOCTYPE html head meta title style body header main section article h1 h2 h3 p strong span a ul li \
        figure figcaption svg defs pattern rect line circle text polyline div table thead tbody tr th td details summary pre code dl dt dd";
    for tag in tags(page) {
        let name = tag.trim_start_matches('/').split(' ').next().unwrap();
        assert!(KNOWN.split_whitespace().any(|k| k == name), "<{tag}>");
        // Between the quoted values stand the attributes' names.
        let names = tag.split('"').step_by(2);
        for attribute in
            names.filter_map(|part| Some(part.rsplit_once(' ')?.1.trim_end_matches('=')))
        {
            assert!(!attribute.starts_with("on"), "<{tag}>");
            let loads = [
                "src",
                "srcdoc",
                "srcset",
                "data",
                "style",
                "action",
                "xlink:href",
            ];
            assert!(!loads.contains(&attribute), "<{tag}>");
        }
        if let Some(target) = tag.split("href=\"").nth(1) {
            assert!(target.starts_with('#'), "<{tag}>");
        }
    }
    let style = page
        .split("<style>")
        .nth(1)
        .unwrap()
        .split("</style>")
        .next()
        .unwrap();
    assert!(
        !style.contains("@import")
            && style.matches("url(").count() == style.matches("url(#hatch)").count()
    );
    assert!(page.contains("default-src 'none'"));
    assert!(!page.contains("://"), "an address stands in the page");
}

#[test]
fn the_page_is_complete_in_itself() {
    let page = page(&full());
    assert_self_contained(&page);
    for wanted in [
        "name=\"viewport\" content=\"width=device-width",
        "prefers-color-scheme: dark",
        "@media print",
        "name=\"color-scheme\" content=\"light dark\"",
    ] {
        assert!(page.contains(wanted), "{wanted}");
    }
}

#[test]
fn every_measurement_has_its_charts() {
    let page = page(&full());
    let articles: Vec<&str> = page.split("<article").skip(1).collect();
    assert_eq!(articles.len(), Spec::all_cases().len() * 2);
    for article in articles {
        let article = article.split("</article>").next().unwrap();
        for heading in [
            "Time per operation",
            "Ratio to system malloc",
            "Latency of one allocation",
            "Latency of one free",
            "Peak memory",
            "Page faults",
        ] {
            assert!(
                article.contains(&format!("<strong>{heading}</strong>")),
                "{heading}: {article}"
            );
        }
        assert!(article.matches("<svg class=\"chart").count() >= 6);
        assert!(article.contains("cargo run --release -p bench-harness -- "));
    }
    assert_eq!(
        page.matches("<strong>Memory over time</strong>").count(),
        2 * 2
    );
    assert_eq!(page.matches("<polyline").count(), 2 * 3 + 2 * (3 + 1));
}

#[test]
fn the_first_sentence_counts_right() {
    let other = Spec::parse(&["replace"]).unwrap();
    let fast = [20.0, 21.0, 20.5, 20.2, 20.8];
    let slow = [10.0, 10.5, 10.2, 10.1, 10.4];
    let page = page(&results(vec![
        case(&pair(), "system", Series::Warm, &slow),
        case(&pair(), "hakmem", Series::Warm, &fast),
        case(&pair(), "null", Series::Warm, &[99.0; 5]),
        case(&other, "system", Series::Warm, &fast),
        case(&other, "hakmem", Series::Warm, &slow),
        case(&other, "null", Series::Warm, &[99.0; 5]),
    ]));
    let sentence = "<strong>hakmem</strong> is first in <strong>1 of 2</strong> measurements.";
    assert!(page.contains(sentence), "{page}");
    assert!(
        page.contains("faster in 1, no difference in 0, slower in 1 of 2."),
        "{page}"
    );
}

#[test]
fn places_and_verdicts_follow_the_intervals() {
    let steady = |v: f64| [v, v * 1.01, v * 0.99, v * 1.005, v * 0.995];
    let noisy = [9.0, 13.0, 10.0, 8.0, 12.0];
    let file = results(vec![
        case(&pair(), "system", Series::Warm, &steady(10.0)),
        case(&pair(), "hakmem", Series::Warm, &steady(20.0)),
        case(&pair(), "jemalloc", Series::Warm, &noisy),
        case(&pair(), "rpmalloc", Series::Warm, &steady(5.0)),
        case(&pair(), "broken", Series::Warm, &[]),
        case(&pair(), "null", Series::Warm, &steady(100.0)),
    ]);
    let groups = figures::groups(&file);
    let of = |name: &str| groups[0].entry(name).map(|e| (e.place, e.verdict)).unwrap();
    assert_eq!(of("system"), (Place::Behind, None));
    assert_eq!(of("hakmem"), (Place::First, Some(Verdict::Faster)));
    assert_eq!(of("jemalloc"), (Place::Behind, Some(Verdict::Same)));
    assert_eq!(of("rpmalloc"), (Place::Behind, Some(Verdict::Slower)));
    assert_eq!(of("broken"), (Place::Out, None));
    assert_eq!(of("null"), (Place::Out, None));
    // 1/10 − 1/100 of a second above the floor against 1/20 − 1/100.
    let hakmem = groups[0].entry("hakmem").unwrap();
    assert!((groups[0].above_floor_ratio(hakmem).unwrap() - 0.04 / 0.09).abs() < 1e-9);

    let level = results(vec![
        case(&pair(), "system", Series::Warm, &noisy),
        case(
            &pair(),
            "hakmem",
            Series::Warm,
            &[10.0, 11.0, 9.0, 10.5, 9.5],
        ),
    ]);
    let groups = figures::groups(&level);
    assert!(groups[0].entries.iter().all(|e| e.place == Place::Level));
}

#[test]
fn few_runs_claim_no_difference() {
    let file = results(vec![
        case(&pair(), "system", Series::Warm, &[10.0]),
        case(&pair(), "hakmem", Series::Warm, &[20.0]),
    ]);
    let groups = figures::groups(&file);
    assert_eq!(
        groups[0].entry("hakmem").unwrap().verdict,
        Some(Verdict::Unsure)
    );
    assert!(page(&file).contains("fewer than three runs no difference is claimed"));
}

#[test]
fn a_bound_is_drawn_and_judged() {
    let spec = Spec::parse(&["cache-sets"]).unwrap();
    let with = |name: &str, figure: f64| {
        let mut case = case(&spec, name, Series::Warm, &[1.0, 1.0, 1.0]);
        for run in &mut case.runs {
            run.figure = Some(figure);
        }
        case
    };
    let shown = |ours: f64| page(&results(vec![with("system", 9.0), with("hakmem", ours)]));
    assert!(shown(0.5).contains("0.50 (0.50–0.50), kept"));
    assert!(shown(1.5).contains("1.50 (1.50–1.50), missed"));
    assert!(shown(1.5).contains("<strong>In ns per touch</strong>"));
}

#[test]
fn measurements_that_read_the_same_are_told_apart() {
    let spec = |seed: &str| Spec::parse(&["replace", "--seed", seed]).unwrap();
    let file = results(vec![
        case(&spec("1"), "system", Series::Warm, &[1.0]),
        case(&spec("2"), "system", Series::Warm, &[1.0]),
    ]);
    let groups = figures::groups(&file);
    assert_eq!(spec("1").title(), spec("2").title());
    assert!(groups[0].title.ends_with("seed=1") && groups[1].title.ends_with("seed=2"));
}

#[test]
fn what_a_reader_must_know_is_said() {
    let mut broken = case(&pair(), "hakmem", Series::Warm, &[]);
    broken.failures.push(Failure {
        round: 1,
        error: "hung: killed after 1 s".to_owned(),
    });
    let mut file = results(vec![broken]);
    file.complete = false;
    file.planned_runs = 7;
    file.warnings = vec!["The machine drifted.".to_owned()];
    let page = page(&file);
    for wanted in [
        "The machine drifted.",
        "interrupted: 1 of 7 runs were made",
        "1 of 1 runs failed",
        "<strong>hakmem</strong>, run 2 failed: hung: killed after 1 s",
        "System malloc was not measured",
        "No measurement gave a result.",
    ] {
        assert!(page.contains(wanted), "{wanted}: {page}");
    }
}
