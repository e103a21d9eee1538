//! What can be asked wrongly, and children that fail: one clear line each, and the others go on.

mod common;

use common::{harness, run, scratch, text};
use serde_json::Value;

#[test]
fn wrong_requests_get_one_line_and_code_2() {
    for (arguments, wanted) in [
        ("random-mixed 10 10 0", "seed 0"),
        ("random-mixed ten", "'ten'"),
        ("random-mixed 10 10 1 50 40", "sizes 50 to 40"),
        ("random-mixed 0", "cycles 0"),
        ("random-mixed 1 2 3 4 5 6", "'6'"),
        ("random-mixed 10 10 99999999999", "99999999999"),
        ("--allocators nosuch", "unknown allocator \"nosuch\""),
        ("--series lukewarm", "lukewarm"),
        ("--runs 0", "--runs 0"),
        ("nosuch", "nosuch"),
        ("pair 0", "sizes 0 to 0"),
        ("producer-consumer --threads 3", "even"),
        ("hand-over 0", "--threads 0"),
        (
            "--json /nonexistent/dir/r.json",
            "/nonexistent/dir/r.json: cannot be written",
        ),
        ("--csv /tmp", "/tmp: cannot be written"),
    ] {
        let output = run(arguments);
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(2), "{arguments}: {err}");
        assert_eq!(err.lines().count(), 1, "{arguments}: {err}");
        assert!(
            err.starts_with("bench-harness: ") && err.contains(wanted),
            "{arguments}: {err}"
        );
        assert!(out.is_empty(), "{arguments}: {out}");
    }
}

#[test]
fn wrong_environment_gets_one_line() {
    let output = harness("random-mixed 10 10 1")
        .env("HAKMEM_BENCH_WARMUP", "many")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let err = text(&output.stderr);
    assert_eq!(
        err,
        "bench-harness: HAKMEM_BENCH_WARMUP=many: expected a number of at least 0\n"
    );
}

#[test]
fn a_failing_child_is_reported_and_the_others_go_on() {
    for (fault, wanted) in [
        ("crash:hakmem", "crashed: signal 6"),
        ("hang:hakmem", "hung: killed after 5 s"),
        (
            "garbage:hakmem",
            "answered \"not a result\" instead of a result",
        ),
    ] {
        let dir = scratch("faults");
        let file = dir.join("r.json");
        let output =
            harness("pair 48 1000 --runs 2 --series warm --time-limit 5 --no-host-warm --json")
                .arg(&file)
                .env("HAKMEM_BENCH_FAULT", fault)
                .output()
                .unwrap();
        assert_eq!(output.status.code(), Some(1), "{fault}");
        let table = text(&output.stdout);
        assert_eq!(
            table.matches(&format!("FAILED: {wanted}")).count(),
            2,
            "{fault}:\n{table}"
        );
        assert!(text(&output.stderr).contains("2 of 4 runs failed"));
        let v: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
        let of = |name: &str| {
            v["results"]
                .as_array()
                .unwrap()
                .iter()
                .find(|c| c["allocator"] == name)
                .unwrap()
                .clone()
        };
        assert_eq!(of("system")["runs"].as_array().unwrap().len(), 2);
        assert_eq!(of("hakmem")["failures"].as_array().unwrap().len(), 2);
        std::fs::remove_dir_all(&dir).unwrap();
    }
}

#[test]
fn peers_are_found_started_and_missed() {
    let dir = scratch("peers");
    // A peer that answers as any child does: this very harness, with null in its place.
    let peer = dir.join("peer-mimalloc");
    let script = format!(
        "#!/bin/sh\nexec {} child null \"$1\"\n",
        env!("CARGO_BIN_EXE_bench-harness")
    );
    std::fs::write(&peer, script).unwrap();
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(&peer, std::fs::Permissions::from_mode(0o755)).unwrap();

    let line = "pair 48 1000 --runs 1 --series warm --no-host-warm --allocators";
    let with = |name: &str| {
        harness(line)
            .arg(name)
            .env("HAKMEM_BENCH_PEERS", &dir)
            .output()
            .unwrap()
    };
    let there = with("system,mimalloc");
    assert!(there.status.success(), "{}", text(&there.stderr));
    assert!(
        text(&there.stdout).contains("\n  mimalloc "),
        "{}",
        text(&there.stdout)
    );
    let missing = with("jemalloc");
    assert_eq!(missing.status.code(), Some(2));
    let wanted = "jemalloc is a peer that is not built yet: run bench-harness peers build jemalloc";
    assert!(
        text(&missing.stderr).contains(wanted),
        "{}",
        text(&missing.stderr)
    );
    let unknown = run("peers build nosuch");
    assert_eq!(unknown.status.code(), Some(2));
    assert!(text(&unknown.stderr).contains("unknown peer \"nosuch\""));
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn an_outdated_peer_is_refused_before_anything_is_measured() {
    use std::os::unix::fs::PermissionsExt;
    let dir = scratch("outdated");
    let peer = dir.join("peer-rpmalloc");
    std::fs::write(&peer, "#!/bin/sh\necho sources 0123456789abcdef\n").unwrap();
    std::fs::set_permissions(&peer, std::fs::Permissions::from_mode(0o755)).unwrap();
    let output = harness("pair 48 1000 --runs 1 --no-host-warm --allocators system,rpmalloc")
        .env("HAKMEM_BENCH_PEERS", &dir)
        .output()
        .unwrap();
    let err = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{err}");
    assert!(
        err.lines().count() == 1
            && err.contains("built from other sources")
            && err.contains("run bench-harness peers build rpmalloc"),
        "{err}"
    );
    let own = run("child system --sources");
    assert!(
        text(&own.stdout).starts_with("sources "),
        "{}",
        text(&own.stderr)
    );
    std::fs::remove_dir_all(&dir).unwrap();
}
