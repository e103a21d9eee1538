//! The report in a real browser: a page made of a real measurement has to render on a desktop, a phone and paper, in light
//! and dark, without scripts, without a word in the console and without loading anything.
//!
//! Needs chromium. Where there is none the test says so on stderr and checks what can be checked without one; with
//! `BENCH_HARNESS_BROWSER=required` in the environment, as in CI, it fails instead.

mod devtools;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use devtools::Browser;
use serde_json::{Value, json};

/// Measurements of the page; few, short, and of every kind of chart.
const LINES: [&str; 4] = [
    "pair 48 20000",
    "batch 500 64 4",
    "fragmentation 1",
    "idle-return 4 1",
];

/// Rivals are not built here: their places are taken by copies of what was measured, as many as a report can have.
const RIVALS: [&str; 6] = [
    "mimalloc",
    "mimalloc2",
    "jemalloc",
    "snmalloc",
    "rpmalloc",
    "an-allocator-with-a-long-name",
];

fn harness(arguments: &[&str]) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bench-harness"));
    let output = command.args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {said}");
}

/// Measures, and makes the report.
fn report(dir: &Path) -> PathBuf {
    let (part, all, html) = (
        dir.join("part.json"),
        dir.join("all.json"),
        dir.join("report.html"),
    );
    let mut results: Option<Value> = None;
    for line in LINES {
        let mut arguments: Vec<&str> = line.split(' ').collect();
        arguments.extend(
            "--runs 3 --no-host-warm --latency --allocators system,hakmem,null --json".split(' '),
        );
        arguments.push(part.to_str().unwrap());
        harness(&arguments);
        let read: Value = serde_json::from_str(&std::fs::read_to_string(&part).unwrap()).unwrap();
        match &mut results {
            None => results = Some(read),
            Some(so_far) => {
                let more = read["results"].as_array().unwrap().clone();
                so_far["results"].as_array_mut().unwrap().extend(more);
            }
        }
    }
    let mut results = results.unwrap();
    results["warnings"] = json!([
        "A warning that stands in the file, as long as warnings are when they explain what drifted and by how much."
    ]);
    let cases = results["results"].as_array_mut().unwrap();
    for case in cases.clone().iter().filter(|c| c["allocator"] == "system") {
        for (i, name) in RIVALS.iter().enumerate() {
            let mut rival = case.clone();
            rival["allocator"] = (*name).into();
            for run in rival["runs"].as_array_mut().unwrap() {
                let speed = run["ops_per_sec"].as_f64().unwrap();
                run["ops_per_sec"] = (speed * 0.02 * 4f64.powi(i as i32)).into();
            }
            cases.push(rival);
        }
    }
    std::fs::write(&all, results.to_string()).unwrap();
    harness(&[
        "report",
        all.to_str().unwrap(),
        "-o",
        html.to_str().unwrap(),
    ]);
    html
}

#[test]
fn the_report_renders_everywhere() {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("report-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let html = report(&dir);
    match devtools::find() {
        Some(program) => in_a_browser(&mut Browser::start(&program), &html),
        None => without_a_browser(&html),
    }
    std::fs::remove_dir_all(&dir).unwrap();
}

/// Past the test runner, which keeps what a passing test prints to itself.
fn say(line: &str) {
    std::io::stderr()
        .write_all(format!("{line}\n").as_bytes())
        .unwrap();
}

fn without_a_browser(html: &Path) {
    let required = std::env::var("BENCH_HARNESS_BROWSER").is_ok_and(|v| v == "required");
    assert!(
        !required,
        "chromium is not installed, and BENCH_HARNESS_BROWSER=required (apt-get install chromium)"
    );
    say(
        "report_browser: chromium is not installed: NOT rendered, only the page's text is checked (apt-get install chromium)",
    );
    let page = std::fs::read_to_string(html).unwrap();
    assert_eq!(page.matches("<article").count(), LINES.len() * 2);
    assert!(page.matches("<svg class=\"chart").count() >= LINES.len() * 2 * 6);
    for wanted in [
        "prefers-color-scheme: dark",
        "@media print",
        "width=device-width",
    ] {
        assert!(page.contains(wanted), "{wanted}");
    }
    assert!(!page.contains("<script") && !page.contains("://"));
}

fn in_a_browser(browser: &mut Browser, html: &Path) {
    browser.call(
        "Emulation.setScriptExecutionDisabled",
        json!({"value": true}),
    );
    let keep = std::env::var_os("BENCH_HARNESS_SCREENSHOTS").map(PathBuf::from);
    for (width, scheme) in [
        (1200, "light"),
        (1200, "dark"),
        (768, "light"),
        (390, "light"),
        (390, "dark"),
        (360, "light"),
    ] {
        let what = format!("{width} px, {scheme}");
        let phone = width < 700;
        browser.call(
            "Emulation.setDeviceMetricsOverride",
            json!({"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": phone}),
        );
        let scheme_wanted = json!([{"name": "prefers-color-scheme", "value": scheme}]);
        browser.call(
            "Emulation.setEmulatedMedia",
            json!({"media": "screen", "features": scheme_wanted}),
        );
        browser.open(html);
        let seen = browser.evaluate(include_str!("look.js"));
        assert_fine(&seen, &what);
        assert_eq!(
            seen["ground"].as_f64().unwrap() < 0.1,
            scheme == "dark",
            "{what}: {}",
            seen["ground"]
        );
        assert_eq!(seen["window_width"], width, "{what}");
        if let Some(dir) = &keep {
            let shot = json!({"format": "png", "captureBeyondViewport": true});
            let shot = browser.call("Page.captureScreenshot", shot);
            std::fs::write(
                dir.join(format!("{width}-{scheme}.png")),
                base64(shot["data"].as_str().unwrap()),
            )
            .unwrap();
        }
    }
    on_paper(browser, html);
    assert_quiet(&browser.events, html);
}

fn assert_fine(seen: &Value, what: &str) {
    // The standings; five in each measurement, a sixth where there were faults; memory over time in two, warm and cold.
    let least = 1 + LINES.len() * 2 * 5 + 4;
    assert!(
        seen["charts"].as_u64().unwrap() >= least as u64,
        "{what}: {seen:#}"
    );
    assert!(seen["texts"].as_u64().unwrap() > 500, "{what}: {seen:#}");
    let faults = [
        "small",
        "empty",
        "outside",
        "touching",
        "beyond",
        "faint",
        "broken_links",
    ];
    assert_none(seen, &faults, what);
    assert_eq!(
        seen["page_width"], seen["window_width"],
        "{what}: the page scrolls sideways"
    );
}

fn assert_none(seen: &Value, faults: &[&str], what: &str) {
    for fault in faults {
        let found = seen[fault].as_array().unwrap();
        let first: Vec<_> = found.iter().take(5).collect();
        assert!(
            first.is_empty(),
            "{what}: {fault}: {} in all, {first:#?}",
            found.len()
        );
    }
}

/// In print everything is open and light, whatever the reader's screen is.
fn on_paper(browser: &mut Browser, html: &Path) {
    // A4 between its margins.
    browser.call(
        "Emulation.setDeviceMetricsOverride",
        json!({"width": 718, "height": 1000, "deviceScaleFactor": 1, "mobile": false}),
    );
    let dark = json!([{"name": "prefers-color-scheme", "value": "dark"}]);
    browser.call(
        "Emulation.setEmulatedMedia",
        json!({"media": "print", "features": dark}),
    );
    browser.open(html);
    let seen = browser.evaluate(include_str!("look.js"));
    assert!(
        seen["ground"].as_f64().unwrap() > 0.9,
        "dark paper: {}",
        seen["ground"]
    );
    assert_eq!(
        seen["open_tables"], seen["details"],
        "tables stay folded in print"
    );
    assert_none(&seen, &["empty", "touching", "outside", "faint"], "print");
    let pdf = browser.call("Page.printToPDF", json!({"preferCSSPageSize": true}));
    let pdf = base64(pdf["data"].as_str().unwrap());
    assert!(pdf.starts_with(b"%PDF-") && pdf.len() > 10_000);
}

/// No word in the console, no error, nothing loaded but the page itself.
fn assert_quiet(events: &[Value], html: &Path) {
    let noisy = [
        "Runtime.exceptionThrown",
        "Runtime.consoleAPICalled",
        "Log.entryAdded",
        "Network.loadingFailed",
    ];
    let said: Vec<&Value> = events
        .iter()
        .filter(|e| noisy.iter().any(|n| e["method"] == *n))
        .collect();
    assert!(said.is_empty(), "{said:#?}");
    let asked = events
        .iter()
        .filter(|e| e["method"] == "Network.requestWillBeSent");
    let urls: Vec<&str> = asked
        .map(|e| e["params"]["request"]["url"].as_str().unwrap())
        .collect();
    let own = format!("file://{}", html.display());
    assert!(
        !urls.is_empty() && urls.iter().all(|u| *u == own),
        "{urls:?}"
    );
}

/// The bytes of a base64 text.
fn base64(text: &str) -> Vec<u8> {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let value = |c: u8| DIGITS.iter().position(|d| *d == c);
    let values: Vec<usize> = text.bytes().filter_map(value).collect();
    let mut bytes = Vec::with_capacity(values.len() * 3 / 4);
    for group in values.chunks(4) {
        let word = group.iter().fold(0, |w, v| w << 6 | v) << (6 * (4 - group.len()));
        let three = [word >> 16, word >> 8, word];
        bytes.extend(three.iter().take(group.len() - 1).map(|b| *b as u8));
    }
    bytes
}
