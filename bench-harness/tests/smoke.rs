//! `bench-harness smoke` as CI runs it: it has to name what gave no result, and not only count what did.

use std::process::{Command, Output};

fn smoke(arguments: &str, fault: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_bench-harness"))
        .arg("smoke")
        .args(arguments.split_whitespace())
        .env("HAKMEM_BENCH_FAULT", fault)
        .env("HAKMEM_BENCH_PEERS", "/nonexistent/peers")
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn every_pair_is_counted() {
    let output = smoke(
        "--allocators system,hakmem,null --workloads pair,cold-start",
        "",
    );
    assert!(output.status.success(), "{}", text(&output.stderr));
    let said = text(&output.stdout);
    assert!(
        said.starts_with("smoke: 12 of 12 runs gave a result: 2 workloads on system, hakmem, null"),
        "{said}"
    );
}

#[test]
fn whoever_fails_is_named_and_the_others_go_on() {
    for (fault, wanted) in [
        ("crash:hakmem", "hakmem on pair (warm): crashed: signal 6"),
        ("hang:null", "null on pair (cold): hung: killed after 5 s"),
        ("garbage:system", "system on pair (warm): answered"),
    ] {
        let line = "--allocators system,hakmem,null --workloads pair --time-limit 5";
        let output = smoke(line, fault);
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(1), "{fault}: {err}");
        assert!(out.starts_with("smoke: 4 of 6 runs"), "{fault}: {out}");
        assert!(err.contains(wanted), "{fault}: {err}");
        assert_eq!(err.lines().count(), 1, "{fault}: {err}");
    }
}

#[test]
fn a_peer_that_is_not_there_is_refused_and_not_left_out() {
    for (arguments, wanted) in [
        ("", "mimalloc is a peer that is not built yet"),
        ("--allocators nosuch", "unknown allocator \"nosuch\""),
        ("--workloads nosuch", "is a peer that is not built yet"),
        (
            "--allocators null --workloads nosuch",
            "unknown workload \"nosuch\"",
        ),
    ] {
        let output = smoke(arguments, "");
        let err = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments}: {err}");
        assert!(
            err.contains(wanted) && err.lines().count() == 1,
            "{arguments}: {err}"
        );
    }
}

/// Build scripts of allocators take any debug information for a debug build: snmalloc is then built without optimisation,
/// mimalloc without NDEBUG, and both are measured for what they are not.
#[test]
fn rivals_are_built_as_releases() {
    for workspace in ["peers", "programs"] {
        let path = format!("{}/{workspace}/Cargo.toml", env!("CARGO_MANIFEST_DIR"));
        let manifest = std::fs::read_to_string(&path).unwrap();
        let release = manifest.split("[profile.release]").nth(1);
        let release = release.unwrap_or_else(|| panic!("{path} has no release profile"));
        let lines = release.lines().take_while(|l| !l.starts_with('['));
        let debug: Vec<&str> = lines.filter(|l| l.starts_with("debug")).collect();
        assert_eq!(debug, ["debug = false"], "{path}");
    }
}
