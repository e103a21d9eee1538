//! The binary as a user meets it: tiny measurements, tables and files.

mod common;

use std::path::PathBuf;
use std::process::Command;

use common::{harness, run, scratch, text};
use serde_json::Value;

/// Measures and answers the JSON.
fn measured(name: &str, arguments: &str) -> Value {
    let dir = scratch(name);
    let file = dir.join("results.json");
    let output = run(&format!(
        "{arguments} --no-host-warm --json {}",
        file.display()
    ));
    assert!(output.status.success(), "{}", text(&output.stderr));
    let value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    assert_eq!(
        std::fs::read_dir(&dir).unwrap().count(),
        1,
        "something was left beside the results"
    );
    std::fs::remove_dir_all(&dir).unwrap();
    value
}

#[test]
fn random_mixed_reports_every_field() {
    let v = measured(
        "fields",
        "random-mixed 20000 256 42 --runs 2 --allocators system,hakmem,null",
    );
    assert_eq!(v["schema"], 1);
    assert!(v["machine"]["cpus"].as_u64().unwrap() >= 1);
    let results = v["results"].as_array().unwrap();
    assert_eq!(results.len(), 3 * 2);
    for case in results {
        assert_eq!(case["workload"], "random-mixed");
        let params = &case["params"];
        for (name, value) in [
            ("cycles", 20000),
            ("ws", 256),
            ("seed", 42),
            ("min_size", 16),
            ("max_size", 1039),
        ] {
            assert_eq!(params[name], value, "{name}");
        }
        let runs = case["runs"].as_array().unwrap();
        assert_eq!(runs.len(), 2);
        for run in runs {
            let number = |field: &str| {
                run[field]
                    .as_f64()
                    .unwrap_or_else(|| panic!("{field} is missing"))
            };
            assert!((number("ops_per_sec") * number("secs") / 20000.0 - 1.0).abs() < 1e-6);
            assert!(
                number("max_rss_kib") > 500.0
                    && number("minor_faults_total") > number("minor_faults_timed")
            );
            for field in ["major_faults_timed", "user_secs", "sys_secs"] {
                assert!(number(field) >= 0.0);
            }
        }
    }
    let series: Vec<_> = results
        .iter()
        .map(|c| format!("{}/{}", c["allocator"], c["series"]))
        .collect();
    assert_eq!(
        series
            .iter()
            .collect::<std::collections::HashSet<_>>()
            .len(),
        6,
        "{series:?}"
    );
}

#[test]
fn cold_faults_inside_the_clock_and_warm_does_not() {
    let v = measured(
        "series",
        "random-mixed 2000000 4096 7 --runs 1 --allocators system",
    );
    let faults = |series: &str| {
        let case = v["results"]
            .as_array()
            .unwrap()
            .iter()
            .find(|c| c["series"] == series)
            .unwrap();
        case["runs"][0]["minor_faults_timed"].as_u64().unwrap()
    };
    assert!(
        faults("cold") > 100,
        "4096 slots of half a KiB need hundreds of OS pages, of which the kernel gives some together: {}",
        faults("cold")
    );
    assert!(
        faults("warm") < faults("cold") / 4,
        "warm {} cold {}",
        faults("warm"),
        faults("cold")
    );
}

#[test]
fn every_workload_runs_on_every_built_in_allocator() {
    for line in [
        "pair 48 10000",
        "pair 48 10000 --threads 2",
        "batch 500 64 4 --order lifo",
        "batch 500 16 4 --order random --max-size 400 --threads 2",
        "replace 5000 20000",
        "replace 500 2000 --threads 3",
        "huge 20 4",
        "producer-consumer 20000 --threads 4",
        "hand-over 3 100 500 4",
        "hand-over 3 100 500 4 --mode ring",
        "larson 2 100 1000 4",
        "burst 500 4",
        "burst 500 4 --threads 2 --max-size 100000",
        "thread-churn 20 100",
        "cache-sets 60 16 1000",
        "false-sharing passive 100",
        "false-sharing passive 100 --given 10",
        "false-sharing active 100 --threads 3",
        "grow-vec 4",
        "huge-loop 10",
        "fragmentation 2",
        "cold-start 100",
        "idle-return 4 1",
    ] {
        let v = measured(
            "workloads",
            &format!("{line} --runs 1 --allocators system,hakmem,null"),
        );
        let results = v["results"].as_array().unwrap();
        assert_eq!(results.len(), 6, "{line}");
        for case in results {
            let run = &case["runs"][0];
            assert_eq!(
                Some(case["workload"].as_str().unwrap()),
                line.split(' ').next()
            );
            assert!(
                run["ops"].as_u64().unwrap() > 0 && run["ops_per_sec"].as_f64().unwrap() > 0.0,
                "{line}: {run}"
            );
            assert!(run["failed_allocs"].is_null(), "{line}: {run}");
        }
    }
}

#[test]
fn operations_are_counted_as_documented() {
    let ops = |line: &str, series: &str| {
        let v = measured(
            "ops",
            &format!("{line} --runs 1 --allocators null --series {series}"),
        );
        v["results"][0]["runs"][0]["ops"].as_u64().unwrap()
    };
    assert_eq!(ops("pair 48 1000 --threads 2", "warm"), 2000);
    assert_eq!(ops("batch 100 64 3", "warm"), 600);
    assert_eq!(ops("replace 100 1000", "warm"), 1000);
    assert_eq!(ops("replace 100 1000", "cold"), 1100);
    assert_eq!(ops("producer-consumer 1000", "cold"), 1000);
    assert_eq!(ops("hand-over 2 10 100 5", "warm"), 1000);
}

#[test]
fn the_table_and_csv_name_what_was_measured() {
    let dir = scratch("table");
    let csv = dir.join("runs.csv");
    let output = run(&format!(
        "random-mixed 20000 256 42 --runs 3 --no-host-warm --csv {}",
        csv.display()
    ));
    let table = text(&output.stdout);
    for wanted in [
        "random-mixed 20000 256 42, warm, 3 runs each",
        ", cold,",
        "system",
        "hakmem",
        "ratio to system",
    ] {
        assert!(table.contains(wanted), "{wanted:?} is missing:\n{table}");
    }
    let lines = std::fs::read_to_string(&csv).unwrap();
    assert_eq!(lines.lines().count(), 1 + 3 * 2 * 2);
    let columns = lines.lines().next().unwrap().split(',').count();
    assert!(
        lines.lines().all(|l| l.split(',').count() == columns),
        "{lines}"
    );
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn the_environment_stands_in_for_sizes_and_passes() {
    let dir = scratch("environment");
    let file = dir.join("r.json");
    let status = harness("random-mixed 1000 16 5 --runs 1 --no-host-warm --json")
        .arg(&file)
        .envs([
            ("HAKMEM_BENCH_MIN_SIZE", "32"),
            ("HAKMEM_BENCH_MAX_SIZE", "64"),
            ("HAKMEM_BENCH_PREFAULT", "7"),
        ])
        .envs([("HAKMEM_BENCH_WARMUP", "9")])
        .output()
        .unwrap()
        .status;
    assert!(status.success());
    let v: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    let params = &v["results"][0]["params"];
    assert_eq!(
        (&params["min_size"], &params["max_size"]),
        (&32.into(), &64.into())
    );
    assert_eq!(
        (&params["prefault"], &params["warmup"]),
        (&7.into(), &9.into())
    );
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn memory_is_read_again_at_rest() {
    let mut command = harness(
        "replace 20000 1000 --runs 1 --series warm --allocators system --no-host-warm --settle",
    );
    let output = command.env("HAKMEM_PURGE_DELAY_MS", "0").output().unwrap();
    let table = text(&output.stdout);
    assert!(
        output.status.success() && table.contains("at rest (growth)"),
        "{table}"
    );
}

#[test]
fn host_memory_is_warmed_and_said() {
    let output = run("pair 48 1000 --runs 1 --series warm");
    let err = text(&output.stderr);
    assert!(
        output.status.success() && err.contains("host memory: 256 MiB touched"),
        "{err}"
    );
}

#[test]
fn callgrind_counts_above_the_floor() {
    if Command::new("valgrind").arg("--version").output().is_err() {
        let output = run("pair 48 1000 --callgrind --runs 1");
        assert_eq!(output.status.code(), Some(2));
        assert!(text(&output.stderr).contains("valgrind cannot be started"));
        return;
    }
    let v = measured(
        "callgrind",
        "pair 48 20000 --runs 1 --series warm --callgrind --allocators system,null",
    );
    let of = |i: usize| v["results"][i]["instructions_per_op"].as_f64().unwrap();
    let (system, floor) = (of(0), of(1));
    assert!(
        (5.0..500.0).contains(&floor),
        "the empty loop costs {floor}"
    );
    assert!(
        (10.0..2000.0).contains(&system),
        "a malloc and a free cost {system}"
    );
}

#[test]
fn results_files_are_compared_and_shown_as_markdown() {
    let dir = scratch("compare");
    let (old, new, other) = (
        dir.join("old.json"),
        dir.join("new.json"),
        dir.join("other.json"),
    );
    let line = "pair 48 20000 --runs 2 --series warm --no-host-warm --json";
    assert!(harness(line).arg(&old).output().unwrap().status.success());
    let mut value: Value = serde_json::from_str(&std::fs::read_to_string(&old).unwrap()).unwrap();
    for run in value["results"][1]["runs"].as_array_mut().unwrap() {
        run["ops_per_sec"] = (run["ops_per_sec"].as_f64().unwrap() / 100.0).into();
    }
    std::fs::write(&new, value.to_string()).unwrap();
    value["schema"] = 7.into();
    std::fs::write(&other, value.to_string()).unwrap();

    let compare = |a: &PathBuf, b: &PathBuf| harness("compare").args([a, b]).output().unwrap();
    let same = compare(&old, &old);
    assert_eq!(same.status.code(), Some(0), "{}", text(&same.stderr));
    assert!(text(&same.stdout).contains("no difference"));
    let slower = compare(&old, &new);
    assert_eq!(slower.status.code(), Some(1));
    assert!(
        text(&slower.stdout).contains("SLOWER")
            && text(&slower.stderr).contains("1 of 1 measurements")
    );
    let foreign = compare(&old, &other);
    assert_eq!(foreign.status.code(), Some(2));
    assert!(
        text(&foreign.stderr).contains("its schema is 7; expected 1"),
        "{}",
        text(&foreign.stderr)
    );
    let missing = compare(&old, &dir.join("missing.json"));
    assert_eq!(
        (missing.status.code(), text(&missing.stderr).lines().count()),
        (Some(2), 1)
    );

    let markdown = harness("markdown").arg(&old).output().unwrap();
    assert!(
        text(&markdown.stdout).contains("| hakmem | "),
        "{}",
        text(&markdown.stdout)
    );
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn single_calls_are_timed_in_a_run_of_their_own() {
    let v = measured(
        "latency",
        "random-mixed 200000 256 42 --runs 1 --series warm --latency --allocators system,null",
    );
    for case in v["results"].as_array().unwrap() {
        assert!(
            case["runs"][0]["latency"].is_null(),
            "a throughput run was sampled"
        );
        for what in ["alloc", "free"] {
            let p = |field: &str| case["latency"][what][field].as_u64().unwrap();
            assert!(p("samples") > 1000, "{case}");
            let order = ["p50_ns", "p99_ns", "p999_ns", "worst_ns"].map(p);
            assert!(order.is_sorted() && order[3] > 0, "{order:?}");
        }
    }
}
