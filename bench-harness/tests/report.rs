//! `bench-harness report` as a user meets it: the page of a part of the kept results, in a real browser where there is one,
//! and one clear line where there can be no page.
//!
//! Without chromium the test says so on stderr and checks the page's text alone; with `BENCH_HARNESS_BROWSER=required` in the
//! environment, as in CI, it fails instead.

mod common;

use std::io::Write;
use std::path::Path;
use std::process::Command;

use common::{ended, harness, json, measured, refused};

#[test]
fn the_report_renders_on_a_desktop_and_a_phone() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let (part, html) = (dir.path().join("part.json"), dir.path().join("report.html"));
    let mut kept = json(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/results/full.json")));
    // random-mixed in all series, with every rival.
    kept["results"].as_array_mut().unwrap().truncate(6 * 8);
    std::fs::write(&part, kept.to_string()).unwrap();
    let (said, _) = ended(harness("report").arg(&part).arg("-o").arg(&html), 0);
    assert_eq!(said, format!("{}\n", html.display()));
    let page = std::fs::read_to_string(&html).unwrap();
    assert!(page.contains("<title>hakmem is measurably first in ") && page.matches("<article").count() >= 6);
    let Some(browser) = browser() else { return };
    let chromium = |arguments: &[&str]| {
        let mut command = Command::new(&browser);
        let usual = "--headless --no-sandbox --disable-gpu --hide-scrollbars --virtual-time-budget=2000";
        command.args(usual.split(' '));
        command.arg(format!("--user-data-dir={}", dir.path().join("profile").display()));
        let (dom, err) = ended(command.args(arguments).arg(format!("file://{}", html.display())), 0);
        // Its own policy would say so here if the page wanted to load or run anything.
        assert!(!err.contains("Refused to"), "{err}");
        dom
    };
    let shot = dir.path().join("shot.png");
    for (width, height) in [(1400, 1500), (390, 1500)] {
        let (size, place) = (format!("--window-size={width},{height}"), format!("--screenshot={}", shot.display()));
        let dom = chromium(&["--dump-dom", &size, &place]);
        assert_eq!(dom.matches("<svg class=\"chart").count(), page.matches("<svg class=\"chart").count());
        let png = std::fs::read(&shot).unwrap();
        let number = |at: usize| u32::from_be_bytes(png[at..at + 4].try_into().unwrap());
        assert_eq!((&png[1..4], number(16)), (&b"PNG"[..], width), "a picture of that width");
        assert!(png.len() > 30_000, "a picture with something on it: {} bytes", png.len());
        std::fs::remove_file(&shot).unwrap();
    }
}

fn browser() -> Option<String> {
    let found = ["chromium", "chromium-browser", "google-chrome"].iter().find(|p| which::which(p).is_ok());
    let required = std::env::var("BENCH_HARNESS_BROWSER").is_ok_and(|v| v == "required");
    assert!(found.is_some() || !required, "chromium is not installed, and BENCH_HARNESS_BROWSER=required");
    if found.is_none() {
        // Past the test runner, which keeps what a passing test prints to itself.
        let line = "report: chromium is not installed: NOT rendered, only the page's text is checked (apt-get install chromium)\n";
        std::io::stderr().write_all(line.as_bytes()).unwrap();
    }
    found.map(|p| (*p).to_owned())
}

#[test]
fn what_is_no_results_file_is_refused_in_one_line() {
    let dir = tempfile::tempdir().unwrap();
    for (name, content, wanted) in [
        ("missing.json", None, "missing.json: cannot be read"),
        ("text.json", Some("not\njson"), "text.json: cannot be read"),
        ("list.json", Some("[]"), "its schema is null; expected 1"),
        ("other.json", Some("{\"schema\": 2}"), "its schema is 2; expected 1"),
        ("torn.json", Some("{\"schema\": 1, \"machine\""), "cannot be read"),
        ("bare.json", Some("{\"schema\": 1}"), "missing field"),
        ("empty.json", Some("{\"schema\": 1, \"machine\": {}, \"results\": []}"), "it has no measurement"),
    ] {
        let path = dir.path().join(name);
        if let Some(content) = content {
            std::fs::write(&path, content).unwrap();
        }
        refused(harness("report").arg(&path), wanted);
    }
    let own = dir.path().join("own.json");
    std::fs::write(&own, measured("pair 48 100 --runs 1 --series warm").to_string()).unwrap();
    refused(harness("report").arg(&own).arg("-o").arg(&own), "it is the results file itself");
    refused(harness("report").arg(&own).arg("-o").arg(dir.path()), "it is a directory");
}
