//! The page as text: complete in itself, true to its figures, and unmoved by whatever a file holds.

use std::sync::OnceLock;

use bench_subject::latency::{Latency, Percentiles};
use bench_subject::record::Series;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use regex::Regex;

use super::page;
use crate::machine::{self, Machine};
use crate::results::Results;
use crate::results::tests::{case, results, spec};
use crate::workloads::WORKLOADS;

/// Workloads of every kind in all their series on four allocators, with everything a file can carry.
fn full() -> Results {
    const KINDS: [&str; 5] = ["pair", "fragmentation", "idle-return", "memory-sparse", "program-json"];
    let percentiles = Percentiles { samples: 100, p50_ns: 9, p99_ns: 80, p999_ns: 1200, worst_ns: 90_000 };
    let mut cases = Vec::new();
    for row in WORKLOADS.iter().filter(|w| KINDS.contains(&w.name.as_str())) {
        for &series in &row.series {
            for (i, name) in ["system", "hakmem", "null", "jemalloc"].iter().enumerate() {
                let speed = (i + 1) as f64;
                let mut case = case(&spec(&row.name), name, series, &[1.0, 1.1, 0.9, 1.0, 1.0].map(|f| f * speed));
                case.latency = Some(Latency { alloc: percentiles, free: percentiles });
                case.exact.instructions_per_op = Some(30.0 * speed);
                cases.push(case);
            }
        }
    }
    Results { machine: machine::describe(), ..results(cases) }
}

/// The page of that file, made once.
fn full_page() -> &'static str {
    static PAGE: OnceLock<String> = OnceLock::new();
    PAGE.get_or_init(|| page(&full()))
}

/// Nothing loaded and nothing run. Values are escaped, so that a bracket is a tag's.
fn assert_self_contained(page: &str) {
    let regex = |text: &str| Regex::new(text).unwrap();
    let (tag, value, target) = (regex("<[^>]*>"), regex("\"[^\"]*\""), regex("href=\"[^#]"));
    let forbidden = regex(
        r"^<(script|iframe|img|link|object|embed)\b|\s(on\w*|src|srcdoc|srcset|data|style|action|formaction|xlink:href)=",
    );
    let (before, rest) = page.split_once("<style>").unwrap();
    let (style, after) = rest.split_once("</style>").unwrap();
    for found in tag.find_iter(before).chain(tag.find_iter(after)).map(|t| t.as_str()) {
        assert!(!forbidden.is_match(&value.replace_all(found, "")) && !target.is_match(found), "{found}");
    }
    assert!(!style.contains("@import") && !style.contains("url("));
    assert!(page.contains("default-src 'none'") && !page.contains("://"), "an address stands in the page");
}

#[test]
fn the_page_is_complete_in_itself_and_every_measurement_has_its_charts() {
    let page = full_page();
    assert_self_contained(page);
    for wanted in ["name=\"viewport\" content=\"width=device-width", "prefers-color-scheme: dark", "@media print"] {
        assert!(page.contains(wanted), "{wanted}");
    }
    let articles: Vec<&str> = page.split("<article").skip(1).map(|a| a.split("</article>").next().unwrap()).collect();
    assert_eq!(articles.len(), full().results.len() / 4);
    for article in articles {
        for heading in ["Time per operation", "Ratio to system malloc"] {
            assert!(article.contains(&format!("<strong>{heading}</strong>")), "{heading}");
        }
        assert!(article.contains("class=\"axis\"") && article.contains("one free: p50 9 ns"));
    }
}

#[test]
fn the_title_is_the_finding_and_aged_stands_beside_warm() {
    let page = full_page();
    let title = page.split("<title>").nth(1).unwrap().split("</title>").next().unwrap();
    assert!(title.starts_with("hakmem is measurably first in 0 of "), "{title}");
    assert_eq!(page.matches(&format!("<h1>{title}</h1>")).count(), 1);
    assert!(page.contains("<h2>Aged heaps beside clean ones</h2>"));
    assert!(page.contains("hakmem 1.00×, jemalloc 1.00×."), "the same speeds in both series");
}

#[test]
fn noise_is_one_line_and_a_mark_on_its_row() {
    let wild = [10.0, 30.0, 5.0, 40.0, 10.0];
    let both = |workload| ["system", "hakmem"].map(|name| case(&spec(workload), name, Series::Warm, &wild));
    let mut file = results([both("pair"), both("batch")].concat());
    file.warnings = vec![
        "pair 48 B, warm: system's own runs spread over 90 % of their median: it does not count".to_owned(),
        "Something else.".to_owned(),
    ];
    let page = page(&file);
    assert_eq!(page.matches("<p class=\"note\">").count(), 2);
    assert!(page.contains("not quiet in 2 of 2 measurements") && page.contains("Something else."));
    assert!(page.matches("~ noisy").count() >= 4, "both rows in both tables");
}

#[test]
fn a_phone_shows_ours_and_the_best_other_at_first() {
    let page = full_page();
    let first = page.split("<fieldset").nth(1).unwrap().split("</fieldset>").next().unwrap();
    let checked =
        |name: &str| first.split("<label>").find(|l| l.contains(&format!(" {name}<"))).unwrap().contains("checked");
    assert_eq!([checked("system"), checked("hakmem"), checked("jemalloc")], [false, true, true]);
}

#[test]
fn what_a_reader_must_know_is_said() {
    let mut broken = case(&spec("pair"), "hakmem", Series::Warm, &[]);
    broken.add(1, Err("hung: killed after 1 s".to_owned()));
    let mut file = results(vec![broken]);
    (file.complete, file.planned_runs) = (false, 7);
    let page = page(&file);
    for wanted in [
        "interrupted: 1 of 7 runs were made",
        "1 of 1 runs failed",
        "<strong>hakmem</strong> run 2 FAILED: hung: killed after 1 s",
        "System malloc was not measured",
    ] {
        assert!(page.contains(wanted), "{wanted}");
    }
    file.planned_runs = 1;
    assert!(self::page(&file).contains("interrupted: all runs were made, but not all instructions"));
}

#[test]
fn hostile_text_stays_text() {
    const HOSTILE: [&str; 5] = [
        "<script>alert(1)</script>",
        "\"><img src=x onerror=alert(1)>",
        "</style></title><iframe srcdoc='x'>",
        "' onload='alert(1)",
        "&lt;b&gt; \u{202e}\0\r\n]]>--><!--",
    ];
    for text in HOSTILE.map(str::to_owned) {
        let mut file = full();
        file.results.truncate(8);
        file.warnings = vec![text.clone()];
        file.machine = Machine {
            cpu: text.clone(),
            kernel: text.clone(),
            thp: text.clone(),
            command: ["bench-harness", &text, "--order-seed", &text].map(str::to_owned).to_vec(),
            environment: vec![format!("HAKMEM_X={text}"), text.clone()],
            ..file.machine
        };
        for case in file.results.iter_mut().filter(|c| c.allocator == "jemalloc") {
            case.allocator = text.clone();
            case.add(usize::MAX, Err(text.clone()));
        }
        file.results[0].spec.workload = text.clone();
        let page = page(&file);
        assert_self_contained(&page);
        let shown = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;");
        assert!(page.contains(&shown), "{text:?} is not shown");
    }
}

#[test]
fn no_figure_breaks_a_chart() {
    let mut random = StdRng::seed_from_u64(11);
    let odd = [0.0, -1.0, 1e-300, 1e300, f64::MIN_POSITIVE, f64::MAX, 1.0, 1e6, 3e8];
    for _ in 0..10 {
        let mut file = full();
        file.results.truncate(24);
        let mut float = || odd[random.random_range(0..odd.len())];
        for case in &mut file.results {
            case.runs.truncate(float().clamp(0.0, 5.0) as usize);
            case.rounds = (0..float().clamp(0.0, 6.0) as usize).collect();
            for run in &mut case.runs {
                (run.ops_per_sec, run.secs, run.user_secs) = (float(), float(), float());
                (run.max_rss_kib, run.rss_end_kib, run.failed_allocs) =
                    (float() as u64, float() as u64, float() as u64);
            }
            case.exact.instructions_per_op = Some(float());
        }
        // An offset to the left is the one value that may be below 0.
        let page = page(&file).replace("dx=\"-9\"", "");
        assert_self_contained(&page);
        for wrong in ["NaN", "inf%", "inf,", "inf ", "=\"-"] {
            assert_eq!(page.split_inclusive('>').find(|tag| tag.contains(wrong)), None, "{wrong}");
        }
    }
}
