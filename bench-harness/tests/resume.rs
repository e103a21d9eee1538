//! Long measurements as a user meets them: interrupted, kept, resumed, and within their time.

mod common;

use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use common::{ended, harness, json, refused, script, written};
use serde_json::Value;

const PLAN: &str = "all --quick --only random-mixed,pair,batch --allocators system,hakmem --series warm,cold --runs 12 --scale \
                    0.001 --no-host-warm --json";

/// 4 sizes of 3 workloads in two series, 2 allocators, 12 rounds.
const PLANNED: usize = 4 * 2 * 2 * 12;

fn runs(results: &Value) -> usize {
    results["results"].as_array().unwrap().iter().map(|c| c["runs"].as_array().unwrap().len()).sum()
}

/// Starts it, sends the signal once so many children were seen, and waits for the end.
fn interrupted(command: &mut Command, name: &str, children_seen: usize) -> Output {
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let children = format!("/proc/{0}/task/{0}/children", child.id());
    let deadline = Instant::now() + Duration::from_secs(120);
    let mut seen = 0;
    let mut last = String::new();
    while seen < children_seen {
        assert!(Instant::now() < deadline, "nothing was measured in two minutes");
        let now = std::fs::read_to_string(&children).unwrap_or_default();
        seen += usize::from(!now.is_empty() && now != last);
        last = now;
        std::thread::sleep(Duration::from_micros(500));
    }
    assert!(Command::new("kill").args(["-s", name, &child.id().to_string()]).status().unwrap().success());
    child.wait_with_output().unwrap()
}

#[test]
fn an_interrupted_measurement_is_kept_and_resumed() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("r.json");
    let command = || {
        let mut command = harness(PLAN);
        command.arg(&file);
        command
    };
    // The calibration starts children as well: some have to have come and gone.
    let (out, err) = written(&interrupted(&mut command(), "INT", 40), 130);
    let last = err.lines().last().unwrap();
    assert!(last.starts_with("bench-harness: interrupted after ") && last.contains("--resume goes on"), "{err}");
    assert!(out.contains("warning: interrupted: ") && out.contains("ratio to system"), "{out}");
    let first = json(&file);
    let had = runs(&first);
    assert_eq!((&first["complete"], &first["planned_runs"]), (&false.into(), &PLANNED.into()));
    assert!((1..PLANNED).contains(&had), "{had} of {PLANNED}");

    // Without being told, it is not mixed with runs of another time; nor is another plan.
    refused(&mut command(), "add --resume to go on with it");
    let mut other = harness(&PLAN.replace("--runs 12", "--runs 13"));
    other.arg(&file).arg("--resume");
    refused(&mut other, "--resume: the file is of another command: all --quick");

    let (_, err) = ended(command().arg("--resume"), 0);
    assert!(err.contains(&format!("resumed: {had} of {PLANNED} runs are there already")), "{err}");
    let whole = json(&file);
    assert_eq!((&whole["complete"], runs(&whole)), (&true.into(), PLANNED));
    for case in whole["results"].as_array().unwrap() {
        let mut rounds: Vec<u64> = case["rounds"].as_array().unwrap().iter().map(|r| r.as_u64().unwrap()).collect();
        rounds.sort_unstable();
        assert_eq!(rounds, (0..12).collect::<Vec<_>>(), "every round once");
    }
    assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 1);
    refused(command().arg("--resume"), "it is complete");
}

#[test]
fn what_had_no_run_is_not_shown() {
    let subjects = tempfile::tempdir().unwrap();
    script(&subjects.path().join("subject-hakmem"), "exec sleep 60");
    let mut command = harness("pair 48 1000 --runs 3 --allocators hakmem --series warm --no-host-warm");
    let output = interrupted(command.env("HAKMEM_BENCH_PEERS", subjects.path()), "TERM", 1);
    let (out, err) = written(&output, 130);
    assert!(!out.contains("ratio to system") && out.contains("interrupted: 0 of 3"), "{out}");
    assert!(err.contains("nothing was kept on disk"), "{err}");
}
