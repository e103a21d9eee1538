//! The binary as a user meets it: tiny measurements, tables and files.

mod common;

use std::process::Command;

use common::{ended, harness, json, measured, refused};
use serde_json::Value;

#[test]
fn random_mixed_reports_every_field() {
    let v = measured("random-mixed 20000 256 42 --runs 2 --allocators system,hakmem,null");
    assert_eq!((&v["schema"], &v["complete"]), (&1.into(), &true.into()));
    let machine = &v["machine"];
    for field in ["cpus", "page_size", "memory_mib", "fault_ns", "memory_latency_ns"] {
        assert!(machine[field].as_f64().unwrap() > 0.0, "{field}");
    }
    let results = v["results"].as_array().unwrap();
    assert_eq!(results.len(), 3 * 3);
    for case in results {
        assert_eq!(case["workload"], "random-mixed");
        for (name, value) in [("cycles", 20000), ("ws", 256), ("seed", 42), ("min_size", 16), ("max_size", 1039)] {
            assert_eq!(case["params"][name], value, "{name}");
        }
        let runs = case["runs"].as_array().unwrap();
        assert_eq!(runs.len(), 2);
        for run in runs {
            let number = |field: &str| run[field].as_f64().unwrap_or_else(|| panic!("{field} is missing"));
            assert!((number("ops_per_sec") * number("secs") / 20000.0 - 1.0).abs() < 1e-6);
            assert!(number("max_rss_kib") > 500.0 && number("minor_faults_total") > number("minor_faults_timed"));
            assert!(["major_faults_timed", "user_secs", "sys_secs"].iter().all(|f| number(f) >= 0.0));
        }
    }
    // Ageing left its eighth in use, and only in its own series.
    for case in results.iter().filter(|c| c["allocator"] != "null") {
        let aged = case["runs"][0]["aged_kib"].as_u64().unwrap_or(0);
        assert_eq!(aged > 2000, case["series"] == "aged", "{case}");
    }
}

#[test]
fn cold_faults_inside_the_clock_and_warm_does_not() {
    let v = measured("random-mixed 2000000 4096 7 --runs 1 --allocators system");
    let faults = |series: &str| {
        let case = v["results"].as_array().unwrap().iter().find(|c| c["series"] == series).unwrap();
        case["runs"][0]["minor_faults_timed"].as_u64().unwrap()
    };
    // 4096 slots of half a KiB need hundreds of OS pages, of which the kernel gives some together.
    assert!(faults("cold") > 100 && faults("warm") < faults("cold") / 4, "{} {}", faults("warm"), faults("cold"));
}

#[test]
fn every_workload_runs_on_our_own_allocators_in_every_series() {
    let rows = || bench_harness::workloads::WORKLOADS.iter().filter(|w| !w.name.starts_with("program-"));
    let names: Vec<&str> = rows().map(|w| w.name.as_str()).collect();
    let command = format!("smoke --allocators system,hakmem,null --workloads {}", names.join(","));
    let (said, _) = ended(&mut harness(&command), 0);
    let runs: usize = rows().map(|w| w.series.len() * if w.floor { 3 } else { 2 }).sum();
    assert!(said.starts_with(&format!("smoke: {runs} of {runs} runs gave a result on ")), "{said}");
}

#[test]
fn the_other_modes_of_workloads_run_as_well() {
    for line in [
        "pair 48 10000 --threads 2",
        "batch 500 16 4 --order random --max-size 400 --threads 2",
        "batch 500 64 4 --order lifo",
        "replace 500 2000 --threads 3",
        "huge 10 4 --touch all",
        "producer-consumer 20000 --threads 4",
        "hand-over 3 100 500 4 --mode ring",
        "hand-over 2 100 1000 4 --mode larson",
        "burst 500 4 --threads 2 --max-size 100000",
        "false-sharing passive 100 --given 10",
        "false-sharing active 100 --threads 3",
    ] {
        let v = measured(&format!("{line} --runs 1 --series warm --allocators hakmem,null"));
        let results = v["results"].as_array().unwrap();
        assert_eq!(results.len(), 2, "{line}");
        for run in results.iter().map(|case| &case["runs"][0]) {
            assert!(run["ops"].as_u64().unwrap() > 0 && run["ops_per_sec"].as_f64().unwrap() > 0.0, "{line}: {run}");
            assert!(run["failed_allocs"].is_null(), "{line}: {run}");
        }
    }
}

#[test]
fn operations_are_counted_as_documented() {
    let ops = |line: &str, series: &str| {
        let v = measured(&format!("{line} --runs 1 --allocators null --series {series}"));
        v["results"][0]["runs"][0]["ops"].as_u64().unwrap()
    };
    assert_eq!(ops("pair 48 1000 --threads 2", "warm"), 2000);
    assert_eq!(ops("batch 100 64 3", "aged"), 600);
    assert_eq!([ops("replace 100 1000", "warm"), ops("replace 100 1000", "cold")], [1000, 1100]);
    assert_eq!(ops("producer-consumer 1000", "cold"), 1000);
    assert_eq!(ops("hand-over 2 10 100 5", "warm"), 1000);
    assert_eq!(ops("histogram 100 --window 5", "warm"), 400);
}

#[test]
fn the_table_names_what_was_measured_and_ends_in_a_sentence() {
    let dir = tempfile::tempdir().unwrap();
    let csv = dir.path().join("runs.csv");
    let mut command = harness("random-mixed 20000 256 42 --runs 3 --no-host-warm --csv");
    let (table, _) = ended(command.arg(&csv), 0);
    for wanted in
        ["random-mixed 256 slots, 20 k operations, warm: 3 runs each", ", cold: ", ", aged: ", "ratio to system"]
    {
        assert!(table.contains(wanted), "{wanted:?} is missing:\n{table}");
    }
    let last = table.lines().last().unwrap();
    assert!(
        last.starts_with("hakmem against system malloc over 3 measurements: no verdict"),
        "three runs are too few: {last}"
    );
    assert_eq!(std::fs::read_to_string(&csv).unwrap().lines().count(), 1 + 3 * 2 * 3);
}

#[test]
fn the_environment_stands_in_for_sizes_and_passes() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("r.json");
    let variables = [("MIN_SIZE", "32"), ("MAX_SIZE", "64"), ("PREFAULT", "7"), ("WARMUP", "9"), ("PREWARM", "")];
    let mut command = harness("random-mixed 1000 16 5 --runs 1 --no-host-warm --json");
    ended(command.arg(&file).envs(variables.map(|(n, v)| (format!("HAKMEM_BENCH_{n}"), v))), 0);
    let params = &json(&file)["results"][0]["params"];
    for (name, value) in [("min_size", 32), ("max_size", 64), ("prefault", 7), ("warmup", 9), ("prewarm", 0)] {
        assert_eq!(params[name], value, "{name}");
    }
}

#[test]
fn memory_is_read_again_at_rest_and_host_memory_is_warmed() {
    let (out, err) = ended(&mut harness("memory-sparse 10 --rest 0 --runs 1 --series cold --allocators system"), 0);
    assert!(out.contains("at rest"), "{out}");
    assert!(err.contains("host memory: 512 MiB touched"), "{err}");
}

#[test]
fn instructions_and_system_calls_are_counted_above_the_floor() {
    if ["valgrind", "strace"].iter().any(|t| Command::new(t).arg("--version").output().is_err()) {
        refused(&mut harness("pair 48 1000 --exact --runs 1"), "expected it to be installed");
        return;
    }
    let v = measured("pair 48 20000 --runs 1 --series warm --exact --allocators hakmem,null");
    let of = |i: usize| v["results"][i]["instructions_per_op"].as_f64().unwrap();
    assert!((5.0..500.0).contains(&of(1)), "the empty loop costs {}", of(1));
    assert!((10.0..100.0).contains(&of(0)), "an allocation and a free cost {}", of(0));
    assert!(v["results"][0]["syscalls"].as_i64().unwrap() > 0, "{}", v["results"][0]);
}

#[test]
fn results_files_are_compared() {
    let dir = tempfile::tempdir().unwrap();
    let [old, new, elsewhere] = ["old", "new", "elsewhere"].map(|n| dir.path().join(n));
    let value = measured("pair 48 20000 --runs 5 --series warm");
    let write = |path, value: &Value| std::fs::write(path, value.to_string()).unwrap();
    // A quiet machine, whatever this one is.
    let mut quiet = value;
    quiet["noise_bound"] = 1e6.into();
    write(&old, &quiet);
    let mut changed = quiet.clone();
    for run in changed["results"][1]["runs"].as_array_mut().unwrap() {
        run["ops_per_sec"] = (run["ops_per_sec"].as_f64().unwrap() / 100.0).into();
    }
    write(&new, &changed);
    quiet["machine"]["cpu"] = "Another".into();
    write(&elsewhere, &quiet);

    ended(harness("compare").args([&old, &old]), 0);
    let (out, err) = ended(harness("compare").args([&old, &new]), 1);
    assert!(out.contains("SLOWER") && err.contains("1 of 1 measurement: slower by"), "{out}{err}");
    refused(harness("compare").args([&elsewhere, &old]), "different machines: the processor is ");
    ended(harness("compare --across-machines").args([&elsewhere, &old]), 0);
}

#[test]
fn an_executable_of_another_checkout_is_measured_under_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let [file, other] = ["both.json", "subject-hakmem"].map(|name| dir.path().join(name));
    common::script(&other, &format!("echo the other allocator >&2; exec {}/subject-hakmem \"$1\"", common::built()));
    let with = |list: &str| harness(&format!("pair 4242 2 --runs 5 --series cold --no-host-warm --allocators {list}"));
    let before = format!("before={}", other.display());
    let (_, err) = ended(with(&format!("system,hakmem,{before}")).arg("--json").arg(&file), 0);
    assert_eq!(err.matches("the other allocator").count(), 5, "{err}");
    let case = |i: usize| json(&file)["results"][i]["allocator"].clone();
    assert_eq!([case(0), case(1), case(2)], ["system", "hakmem", "before"]);
    assert_eq!(json(&file)["warnings"][0], format!("before is {}", other.canonicalize().unwrap().display()));
    let compared = harness("compare --bound 99").arg(&file).output().unwrap();
    assert!(String::from_utf8_lossy(&compared.stdout).contains("pair 4242 B, cold"), "{compared:?}");
    refused(harness("compare --allocator system").arg(&file), "--allocator system: expected two files");
    let mut lone = json(&file);
    lone["results"].as_array_mut().unwrap().pop();
    std::fs::write(&file, lone.to_string()).unwrap();
    refused(
        harness("compare").arg(&file),
        "both.json has no allocator before: measure with --allocators hakmem,before=",
    );
    refused(&mut with("hakmem,before=/nonexistent"), "before=/nonexistent: No such file");
    refused(&mut with("hakmem=/bin/true"), "hakmem=/bin/true: expected a name of its own");
    refused(&mut with("before=/tmp"), "before=/tmp: it is no executable");
    refused(&mut with(&before.replace("before", "=")), "expected a name of its own");
}

#[test]
fn single_calls_are_timed_in_a_run_of_their_own() {
    let v = measured("random-mixed 200000 256 42 --runs 1 --series warm --latency --allocators system,null");
    for case in v["results"].as_array().unwrap() {
        assert!(case["runs"][0]["latency"].is_null(), "a throughput run was sampled");
        for what in ["alloc", "free"] {
            let p = |field: &str| case["latency"][what][field].as_u64().unwrap();
            let order = ["p50_ns", "p99_ns", "p999_ns", "worst_ns"].map(p);
            assert!(p("samples") > 1000 && order.is_sorted() && order[3] > 0, "{order:?}");
        }
    }
}

/// The rows of the other experiments are tested beside them; this one starts the binary itself.
#[test]
fn an_experiment_has_its_rows() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("rows.json");
    let (table, _) = ended(harness("experiment prefault --quick --no-host-warm --json").arg(&file), 0);
    let value = json(&file);
    assert_eq!(value["experiment"], "prefault");
    let rows = value["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 2 * 3 * 3 * 2);
    assert!(rows.iter().all(|r| ["cpu_secs", "faults_timed"].iter().all(|k| r[k].is_number())), "{rows:?}");
    assert!(table.lines().count() > rows.len());
    let growth = || rows.iter().filter(|r| r["workload"] == "growth");
    assert!(growth().all(|r| r["cpu_vs_floor"].as_f64().unwrap() > 0.0));
    // Prewarmed memory is written without a fault, whatever brought it in.
    let faults = |series: &str| {
        let is = |r: &&Value| r["policy"] == "off" && r["thp"] == "never" && r["series"] == series;
        growth().find(is).unwrap()["faults_timed"].as_u64().unwrap()
    };
    assert!(faults("warm") * 20 < faults("cold"), "{} {}", faults("warm"), faults("cold"));
}

#[test]
fn the_doctor_answers_in_lines() {
    let output = harness("doctor").output().unwrap();
    assert!(matches!(output.status.code(), Some(0 | 1)), "{output:?}");
    let said = String::from_utf8_lossy(&output.stdout);
    for check in ["kernel", "huge-pages", "prefault", "sysfs", "limits", "memory"] {
        assert!(said.lines().any(|l| l.split_whitespace().nth(1) == Some(check)), "{check}:\n{said}");
    }
}
