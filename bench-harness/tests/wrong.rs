//! What can be asked wrongly, and children that fail: one clear line each, and the others go on.

mod common;

use bench_subject::record::Run;
use common::{built, ended, harness, json, refused, script};

#[test]
fn wrong_requests_get_one_line_and_code_2() {
    for (arguments, wanted) in [
        ("random-mixed 10 10 0", "seed 0"),
        ("random-mixed ten", "cycles ten: expected a number"),
        ("random-mixed 10 10 1 50 40", "min-size 50: expected at most 40, max-size"),
        ("random-mixed 0", "cycles 0"),
        ("random-mixed -1", "cycles -1: expected a number of at least 1"),
        ("--frobnicate -1", "unexpected argument '--frobnicate' found (--help"),
        ("random-mixed 1 2 3 4 5 6", "'6'"),
        ("random-mixed 10 10 99999999999", "99999999999"),
        ("--allocators nosuch", "unknown allocator \"nosuch\""),
        ("--series lukewarm", "expected warm, cold or aged"),
        ("--runs 0", "0"),
        ("nosuch", "nosuch"),
        ("pair 0", "size 0"),
        ("producer-consumer --threads 3", "even"),
        ("hand-over 0", ": threads 0: expected a number from 1 to 4096"),
        ("cold-start --series warm", "expected a series of cold"),
        ("--scale 0", "'0' for '--scale"),
        ("--resume", "--json"),
        ("--json /nonexistent/dir/r.json", "/nonexistent/dir/r.json: cannot be written"),
        ("--csv /tmp", "/tmp: cannot be written: it is a directory"),
        ("--json /dev/null", "/dev/null: cannot be written: it is no file"),
        ("all --only nosuch", "unknown workload \"nosuch\""),
        ("peers build nosuch", "unknown peer \"nosuch\""),
        ("smoke --workloads nosuch", "unknown workload \"nosuch\""),
        ("smoke --allocators nosuch", "unknown allocator \"nosuch\""),
        ("experiment nothing", "'nothing'"),
        ("compare /nonexistent/a /nonexistent/b", "/nonexistent/a: cannot be read"),
        ("paths --check /nonexistent/paths", "/nonexistent/paths: cannot be read"),
    ] {
        refused(&mut harness(arguments), wanted);
    }
    let line = "HAKMEM_BENCH_WARMUP=many: expected a number of at least 0";
    refused(harness("random-mixed 10 10 1").env("HAKMEM_BENCH_WARMUP", "many"), line);
}

/// A directory of subjects: our own as they are built, and one that does what the script says.
fn subjects(name: &str, body: &str) -> tempfile::TempDir {
    let built = built();
    let dir = tempfile::tempdir().unwrap();
    for own in ["system", "hakmem", "null"] {
        script(&dir.path().join(format!("subject-{own}")), &format!("exec {built}/subject-{own} \"$1\""));
    }
    script(&dir.path().join(format!("subject-{name}")), &body.replace("BUILT", built));
    dir
}

#[test]
fn a_failing_child_is_reported_and_the_others_go_on() {
    for (body, wanted) in [
        ("kill -ABRT $$", "crashed: signal 6"),
        ("exec >&- 2>&-; exec sleep 60", "hung: killed after 1 s"),
        ("echo not a result", "answered \"not a result\" instead of a result"),
    ] {
        let subjects = subjects("hakmem", body);
        let file = subjects.path().join("r.json");
        let mut command = harness("pair 48 1000 --runs 2 --series warm --time-limit 1 --no-host-warm --json");
        let (table, err) = ended(command.arg(&file).env("HAKMEM_BENCH_PEERS", subjects.path()), 1);
        assert_eq!(table.matches(&format!("FAILED: {wanted}")).count(), 2, "{body}:\n{table}");
        assert!(table.contains("failed in 1);"), "{table}");
        assert!(err.contains("2 of 4 runs failed"), "{err}");
        let results = json(&file)["results"].as_array().unwrap().clone();
        let count = |i: usize, of: &str| results[i][of].as_array().map_or(0, Vec::len);
        assert_eq!([count(0, "runs"), count(1, "runs"), count(1, "failures")], [2, 0, 2]);
    }
}

#[test]
fn peers_are_found_started_and_missed() {
    let dir = subjects("mimalloc", "exec BUILT/subject-null \"$1\"");
    let with = |names: &str| {
        let mut command = harness("pair 48 1000 --runs 1 --series warm --no-host-warm --allocators");
        command.arg(names).env("HAKMEM_BENCH_PEERS", dir.path());
        command
    };
    let (table, _) = ended(&mut with("system,mimalloc"), 0);
    assert!(table.contains("\n  mimalloc "), "{table}");
    let wanted = "jemalloc is a peer that is not built yet: run bench-harness peers build jemalloc";
    refused(&mut with("jemalloc"), wanted);
    refused(harness("smoke").env("HAKMEM_BENCH_PEERS", dir.path()), "mimalloc2 is a peer that is not built yet");
}

#[test]
fn smoke_names_who_fails() {
    let subjects = subjects("hakmem", "kill -ABRT $$");
    let mut command = harness("smoke --allocators system,hakmem,null --workloads pair,cold-start");
    let (out, err) = ended(command.env("HAKMEM_BENCH_PEERS", subjects.path()), 1);
    assert!(out.starts_with("smoke: 8 of 12 runs"), "{out}");
    assert!(err.contains("smoke: hakmem on pair (warm): crashed: signal 6\n") && err.lines().count() == 5, "{err}");
    assert!(err.ends_with("hakmem on pair (aged); hakmem on cold-start (cold)\n"), "{err}");
}

/// A directory with a program for each allocator, which answers that checksum.
fn programs(checksums: &[(&str, u64)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (allocator, checksum) in checksums {
        let (ops, checksum) = (2_000_000, Some(*checksum));
        let run = Run { ops, ops_per_sec: 2e6, secs: 1.0, user_secs: 1.0, checksum, ..Run::default() };
        let answer = serde_json::to_string(&run).unwrap();
        let body = format!("case $1 in *program-json*'\"scale\":0.5'*) ;; *) exit 9 ;; esac\necho '{answer}'");
        script(&dir.path().join(format!("program-{allocator}")), &body);
    }
    dir
}

#[test]
fn programs_run_in_their_own_executables_and_their_results_are_compared() {
    let dir = programs(&[("system", 77), ("hakmem", 78), ("mimalloc", 77)]);
    let run = |line: &str, code| ended(harness(line).env("HAKMEM_BENCH_PROGRAMS", dir.path()), code).0;
    let table = run("program-json 0.5 --runs 2 --series warm --allocators system,mimalloc,null --no-host-warm", 0);
    assert!(
        table.contains("program-json 0.5 times the usual size, warm: 2 runs each") && !table.contains("null"),
        "{table}"
    );
    let table = run("program-json 0.5 --runs 1 --no-host-warm", 1);
    assert!(table.contains("run 1 FAILED: its result has the checksum 0x4e, the first run has 0x4d"), "{table}");
    for (line, wanted) in [
        (
            "program-json --allocators snmalloc",
            "program-json is not built with snmalloc yet: run bench-harness programs build",
        ),
        ("program-json --allocators null", "an allocator that serves"),
        ("program-json --allocators system --series cold", "expected a series of warm, aged"),
        ("program-json 0 --allocators system", "scale 0: expected a number from 0.001 to 1000"),
        ("programs build null", "unknown peer \"null\""),
    ] {
        refused(harness(line).env("HAKMEM_BENCH_PROGRAMS", dir.path()), wanted);
    }
}

/// Build scripts of allocators take any debug information for a debug build: snmalloc is then built without optimisation,
/// mimalloc without NDEBUG, and both are measured for what they are not.
#[test]
fn rivals_are_built_as_releases() {
    for workspace in ["peers", "programs"] {
        let path = format!("{}/{workspace}/Cargo.toml", env!("CARGO_MANIFEST_DIR"));
        let manifest = std::fs::read_to_string(&path).unwrap();
        let release = manifest.split("[profile.release]").nth(1).unwrap_or_default();
        let lines = release.lines().take_while(|l| !l.starts_with('['));
        assert_eq!(lines.filter(|l| l.starts_with("debug")).collect::<Vec<_>>(), ["debug = false"], "{path}");
    }
}
