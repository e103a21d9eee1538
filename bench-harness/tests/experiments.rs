//! `experiment` and `doctor` as a person calls them: tables, files, exit codes.

use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::Value;

fn harness(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_bench-harness"))
        .args(args)
        .output()
        .unwrap()
}

fn scratch(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("experiments-{}-{name}.json", std::process::id()))
}

/// Runs a quick experiment and answers its rows, having checked the frame.
fn rows(name: &str) -> Vec<Value> {
    let file = scratch(name);
    let path = file.to_str().unwrap();
    let out = harness(&[
        "experiment",
        name,
        "--quick",
        "--no-host-warm",
        "--json",
        path,
    ]);
    let stderr = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{name}: {stderr}");
    let value: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    std::fs::remove_file(&file).unwrap();
    assert_eq!(
        (&value["schema"], &value["experiment"]),
        (&Value::from(1), &Value::from(name))
    );
    assert!(
        value["machine"]["kernel"]
            .as_str()
            .is_some_and(|k| !k.is_empty())
    );
    let rows = value["rows"].as_array().unwrap().clone();
    // The table has a line for each row and its heading at least.
    assert!(String::from_utf8_lossy(&out.stdout).lines().count() > rows.len());
    rows
}

/// Every row that `which` picks has a number under each of `keys`.
fn numbers(rows: &[Value], which: impl Fn(&Value) -> bool, keys: &[&str]) {
    let picked: Vec<_> = rows.iter().filter(|r| which(r)).collect();
    assert!(!picked.is_empty());
    for row in picked {
        for key in keys {
            assert!(row[key].is_number(), "{key} of {row}");
        }
    }
}

#[test]
fn alignment_has_its_rows() {
    let rows = rows("alignment");
    for placement in ["aligned", "off_64k", "off_4k"] {
        let keys = ["bytes", "minor_faults", "huge_bytes", "secs"];
        numbers(
            &rows,
            |r| r["placement"] == placement && r["backing"] == "anonymous_thp",
            &keys,
        );
    }
    let hints: Vec<_> = rows.iter().filter(|r| r["placement"] == "hint").collect();
    assert_eq!(hints.len(), 2);
    assert!(
        hints
            .iter()
            .all(|h| h["ours_aligned"] == true && h["kernel"].is_string())
    );
    assert_eq!(hints[1]["ours_honoured"], false, "200 GiB do not fit there");
}

#[test]
fn tlb_has_its_rows() {
    let rows = rows("tlb");
    numbers(
        &rows,
        |_| true,
        &["ns_per_element", "ratio_to_4k", "huge_bytes"],
    );
    assert!(
        rows.iter()
            .all(|r| r["dtlb_misses"].is_null() || r["dtlb_misses"].is_u64())
    );
}

#[test]
fn populate_order_has_its_rows() {
    let rows = rows("populate-order");
    let keys = [
        "resident_before",
        "huge_before",
        "faults_before",
        "faults_at_touch",
    ];
    numbers(&rows, |r| r["faults_at_touch"].is_number(), &keys);
    assert!(rows.len() >= 8);
}

#[test]
fn async_prefault_has_its_rows() {
    let rows = rows("async-prefault");
    let keys = [
        "tick_p99_ms",
        "tick_worst_ms",
        "mmap_p99_ms",
        "mmap_worst_ms",
        "secs",
        "bytes",
    ];
    for backing in ["anonymous", "memfd", "file"] {
        for mode in ["none", "blocking", "one_call", "ticket"] {
            numbers(
                &rows,
                |r| r["backing"] == backing && r["mode"] == mode,
                &keys,
            );
        }
    }
}

#[test]
fn prefault_has_its_rows_and_its_floor() {
    let rows = rows("prefault");
    numbers(
        &rows,
        |r| r["policy"] == "kernel-floor",
        &["ops_per_sec", "secs"],
    );
    let keys = [
        "ops_per_sec",
        "faults_timed",
        "faults_untimed",
        "setup_secs",
        "sys_secs",
        "worst_alloc_us",
    ];
    for thp in ["auto", "always", "never"] {
        for series in ["cold", "warm"] {
            let is = |w: &'static str| {
                move |r: &Value| r["thp"] == thp && r["series"] == series && r["workload"] == w
            };
            numbers(&rows, is("random-mixed"), &keys);
            numbers(&rows, is("growth"), &keys);
            numbers(&rows, is("growth"), &["growth_vs_floor"]);
        }
    }
    let faults = |policy: &str, series: &str| {
        let found = rows.iter().find(|r| {
            r["policy"] == policy
                && r["thp"] == "never"
                && r["series"] == series
                && r["workload"] == "growth"
        });
        found.and_then(|r| r["faults_timed"].as_u64()).unwrap()
    };
    for row in rows
        .iter()
        .filter(|r| r["workload"] == "random-mixed" && r["series"] == "warm")
    {
        // None for memory. A program built without optimisation has code that runs once in a long while.
        let bound = if cfg!(debug_assertions) { 2 } else { 0 };
        assert!(row["faults_timed"].as_u64() <= Some(bound), "{row}");
    }
    // Prewarmed memory is written without a fault, whatever brought it in.
    assert!(faults("off", "warm") * 20 < faults("off", "cold"));
}

#[test]
fn wrong_requests_are_one_line_and_code_2() {
    for args in [
        &["experiment", "alignment", "0"][..],
        &["experiment", "tlb", "0"],
        &["experiment", "nothing"],
        &[
            "experiment",
            "populate-order",
            "--quick",
            "--json",
            "/no/such/dir/x.json",
        ],
    ] {
        let out = harness(args);
        let stderr = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(2), "{args:?}: {stderr}");
        assert_eq!(stderr.lines().count(), 1, "{args:?}: {stderr}");
    }
}

#[test]
fn the_doctor_says_one_line_per_finding_and_its_code_is_its_verdict() {
    let out = harness(&["doctor"]);
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let problems = text.lines().filter(|l| l.starts_with("problem")).count();
    assert_eq!(out.status.code(), Some(i32::from(problems > 0)), "{text}");
    assert!(
        text.lines()
            .all(|l| ["ok", "info", "problem"].iter().any(|w| l.starts_with(w)))
    );
    let json = harness(&["doctor", "--json"]);
    let value: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(value["schema"], 1);
    assert_eq!(
        value["doctor"].as_array().unwrap().len(),
        text.lines().count()
    );
}

/// Asked for a pool that is not there: a problem, and exit code 1.
#[test]
fn the_doctor_finds_an_empty_pool() {
    let pool = "/sys/kernel/mm/hugepages/hugepages-1048576kB/free_hugepages";
    if std::fs::read_to_string(pool).is_ok_and(|n| n.trim() != "0") {
        return;
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_bench-harness"));
    let out = command
        .arg("doctor")
        .env("HAKMEM_HUGETLB", "1g")
        .output()
        .unwrap();
    assert_eq!(out.status.code(), Some(1));
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let line = text.lines().find(|l| l.starts_with("problem")).unwrap();
    assert!(
        line.contains("hugetlb") && line.contains("nr_hugepages"),
        "{line}"
    );
}
