//! Long measurements as a user meets them: said beforehand, interrupted, kept, resumed.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

const PLAN: &str = "all --quick --only random-mixed,pair,batch,idle-return --allocators system,hakmem --runs 3 \
                    --scale 0.001 --no-host-warm --order-seed 5";

/// 2 workloads in two series, 2 in one, 2 allocators, 3 rounds.
const PLANNED: usize = (2 * 2 + 3) * 2 * 3;

fn harness(arguments: &str, file: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bench-harness"));
    command.args(arguments.split_whitespace());
    command.arg("--json").arg(file);
    for (name, _) in std::env::vars().filter(|(n, _)| n.starts_with("HAKMEM_")) {
        command.env_remove(name);
    }
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn scratch(name: &str) -> PathBuf {
    let dir = std::env::temp_dir().join(format!("bench-harness-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn json(file: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap()
}

fn partial(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".partial");
    name.into()
}

/// Everything but the head: a line per finished run.
fn finished(file: &Path) -> usize {
    std::fs::read_to_string(partial(file)).map_or(0, |t| t.lines().count().saturating_sub(1))
}

fn runs(results: &Value) -> usize {
    let cases = results["results"].as_array().unwrap();
    cases
        .iter()
        .map(|c| c["runs"].as_array().unwrap().len())
        .sum()
}

/// Sends the signal once some runs are through, and waits for the end.
fn interrupt(mut child: Child, file: &Path, signal: &str) -> Output {
    let deadline = Instant::now() + Duration::from_secs(1200);
    while finished(file) < 5 {
        assert!(child.try_wait().unwrap().is_none(), "it ended by itself");
        assert!(Instant::now() < deadline, "nothing was measured");
        std::thread::sleep(Duration::from_millis(2));
    }
    let sent = Command::new("kill")
        .args(["-s", signal, &child.id().to_string()])
        .status()
        .unwrap();
    assert!(sent.success());
    child.wait_with_output().unwrap()
}

#[test]
fn an_interrupted_measurement_is_kept_and_resumed() {
    for signal in ["INT", "TERM"] {
        let dir = scratch(&format!("resume-{signal}"));
        let file = dir.join("r.json");
        let output = interrupt(harness(PLAN, &file).spawn().unwrap(), &file, signal);
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(130), "{err}");
        let last = err.lines().last().unwrap();
        assert!(
            last.starts_with("bench-harness: interrupted after ")
                && last.contains("--resume goes on"),
            "{err}"
        );
        assert!(out.contains("ratio to system"), "no table:\n{out}");
        assert!(out.contains("warning: interrupted: "), "{out}");

        let first = json(&file);
        let had = runs(&first);
        assert_eq!(first["complete"], false);
        assert_eq!(first["planned_runs"], PLANNED);
        assert!(
            (5..PLANNED).contains(&had) && had == finished(&file),
            "{had} of {PLANNED}"
        );

        // Without being told, it is not mixed with runs of another time.
        let again = harness(PLAN, &file).output().unwrap();
        assert_eq!(again.status.code(), Some(2));
        assert!(
            text(&again.stderr).contains("add --resume to go on with it"),
            "{}",
            text(&again.stderr)
        );
        let other = harness(&PLAN.replace("--runs 3", "--runs 4"), &file)
            .arg("--resume")
            .output()
            .unwrap();
        assert_eq!(other.status.code(), Some(2));
        let err = text(&other.stderr);
        assert!(
            err.lines().count() == 1 && err.contains("cannot be resumed: another plan"),
            "{err}"
        );

        let resumed = harness(PLAN, &file).arg("--resume").output().unwrap();
        let err = text(&resumed.stderr);
        assert!(resumed.status.success(), "{err}");
        assert!(
            err.contains(&format!(
                "resumed: {had} of {PLANNED} runs are there already"
            )),
            "{err}"
        );
        let last = json(&file);
        assert_eq!(
            (last["complete"].as_bool(), runs(&last)),
            (Some(true), PLANNED)
        );
        assert!(!partial(&file).exists());
        let cases = |v: &Value| v["results"].as_array().unwrap().clone();
        for (before, after) in cases(&first).iter().zip(&cases(&last)) {
            let (before, after) = (
                before["runs"].as_array().unwrap(),
                after["runs"].as_array().unwrap(),
            );
            assert_eq!(after.len(), 3);
            assert_eq!(
                before[..],
                after[..before.len()],
                "a finished run was run again"
            );
        }
        std::fs::remove_dir_all(&dir).unwrap();
    }
}

#[test]
fn a_child_in_mid_run_is_ended_and_not_counted() {
    let dir = scratch("mid-run");
    let file = dir.join("r.json");
    let mut command = harness(
        "pair 48 1000 --runs 1 --series warm --allocators hakmem,system --order-seed 3 --no-host-warm",
        &file,
    );
    let child = command
        .env("HAKMEM_BENCH_FAULT", "hang:hakmem")
        .spawn()
        .unwrap();
    // Whichever comes first, hakmem's run does not end.
    let of_it = format!("/proc/{0}/task/{0}/children", child.id());
    while std::fs::read_to_string(&of_it).unwrap().is_empty() {
        std::thread::sleep(Duration::from_millis(5));
    }
    let sent = Command::new("kill")
        .args(["-s", "INT", &child.id().to_string()])
        .status()
        .unwrap();
    assert!(sent.success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    let v = json(&file);
    for case in v["results"].as_array().unwrap() {
        assert!(case["failures"].is_null(), "{case}");
    }
    assert!(runs(&v) <= 1);
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn what_is_to_come_is_said_and_all_of_it_is_made() {
    let dir = scratch("estimate");
    let file = dir.join("r.json");
    let output = harness(
        &PLAN.replace(
            "--only random-mixed,pair,batch,idle-return",
            "--only pair,batch",
        ),
        &file,
    )
    .args(["--latency", "--drift-bound", "0"])
    .output()
    .unwrap();
    let err = text(&output.stderr);
    assert!(output.status.success(), "{err}");
    // 2 cases of 2 allocators: 3 rounds and one that times single calls.
    assert!(
        err.starts_with("estimate: ")
            && err.contains(" for 16 runs (2 cases of 2 workloads, 2 allocators;"),
        "{err}"
    );
    let v = json(&file);
    assert_eq!((v["planned_runs"].as_u64(), runs(&v)), (Some(12), 12));
    for case in v["results"].as_array().unwrap() {
        assert!(
            case["latency"]["alloc"]["samples"].as_u64().unwrap() > 0,
            "{case}"
        );
    }
    // No machine holds so still that a bound of nothing is kept.
    let warnings = v["warnings"].as_array().unwrap();
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    let table = text(&output.stdout);
    for warning in warnings {
        let line = format!("warning: {}", warning.as_str().unwrap());
        assert!(table.contains(&line), "{line}\n{table}");
    }
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn wrong_wishes_get_one_line_and_code_2() {
    let dir = scratch("wishes");
    let file = dir.join("r.json");
    for (arguments, wanted) in [
        ("all --quick --full", "--full"),
        ("all --only nosuch", "unknown workload \"nosuch\""),
        (
            "all --quick --only cold-start --series warm",
            "nothing is left to measure",
        ),
        ("pair --scale 0", "--scale 0"),
        ("pair --drift-bound -1", "-1"),
    ] {
        let output = harness(arguments, &file).output().unwrap();
        let err = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments}: {err}");
        assert!(
            err.lines()
                .filter(|l| l.starts_with("bench-harness: "))
                .count()
                == 1
                && err.contains(wanted),
            "{arguments}: {err}"
        );
        assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 0, "{arguments}");
    }
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn a_stream_gets_the_results_and_no_file_beside_it() {
    let line = "pair 48 1000 --runs 1 --series warm --no-host-warm";
    let output = harness(line, Path::new("/dev/null")).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(!Path::new("/dev/null.partial").exists());
    let output = harness(line, Path::new("/dev/null"))
        .arg("--resume")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(
        text(&output.stderr).contains("--resume: the results go to a stream"),
        "{}",
        text(&output.stderr)
    );
}

#[test]
fn files_are_written_though_nobody_reads_the_table() {
    let dir = scratch("no-reader");
    let file = dir.join("r.json");
    let mut child = harness("pair 48 20000 --runs 3 --series warm --no-host-warm", &file)
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    drop(child.stderr.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(runs(&json(&file)), 6);

    // A full disk under stdout is another matter.
    let full = std::fs::File::options()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let output = harness("pair 48 1000 --runs 1 --no-host-warm", &file)
        .stdout(full)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(
        text(&output.stderr).starts_with("bench-harness: stdout: not written: "),
        "{}",
        text(&output.stderr)
    );
    assert_eq!(runs(&json(&file)), 4, "the file was not written");
    std::fs::remove_dir_all(&dir).unwrap();
}
