//! The commands of real programs as a user meets them. The executables of these tests are shell scripts that answer what
//! a program would, for the real ones take minutes to build.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output};

struct Programs(PathBuf);

impl Programs {
    /// A directory with an executable for each allocator, which answers that checksum.
    fn answering(name: &str, checksums: &[(&str, u64)]) -> Self {
        let directory = std::env::temp_dir().join(format!(
            "bench-harness-programs-{name}-{}",
            std::process::id()
        ));
        std::fs::create_dir_all(&directory).unwrap();
        for (allocator, checksum) in checksums {
            let script = format!(
                "#!/bin/sh\ncase $1 in *program-json*'\"scale\":0.5'*) ;; *) exit 9 ;; esac\n\
                 echo '{{\"ops_per_sec\":2e6,\"secs\":1.0,\"ops\":2000000,\"minor_faults_timed\":0,\
                 \"major_faults_timed\":0,\"minor_faults_total\":9,\"major_faults_total\":0,\"max_rss_kib\":7,\
                 \"user_secs\":1.0,\"sys_secs\":0.0,\"rss_start_kib\":1,\"rss_end_kib\":1,\"checksum\":{checksum}}}'\n"
            );
            let path = directory.join(format!("program-{allocator}"));
            std::fs::write(&path, script).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        Self(directory)
    }

    fn run(&self, arguments: &str) -> Output {
        Command::new(env!("CARGO_BIN_EXE_bench-harness"))
            .args(arguments.split_whitespace())
            .env("HAKMEM_BENCH_PROGRAMS", &self.0)
            // A program needs no peer's own child.
            .env("HAKMEM_BENCH_PEERS", "/nonexistent")
            .output()
            .unwrap()
    }
}

impl Drop for Programs {
    fn drop(&mut self) {
        // A leftover in the temporary directory harms nobody.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn programs_run_in_their_own_executables_warm_only() {
    let programs = Programs::answering("good", &[("system", 77), ("hakmem", 77), ("mimalloc", 77)]);
    let json = programs.0.join("results.json");
    let output = programs.run(&format!(
        "program-json 0.5 --runs 2 --allocators system,hakmem,mimalloc,null --no-host-warm --json {}",
        json.display()
    ));
    let table = text(&output.stdout);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(
        table.contains("program-json × 0.5, warm, 2 runs each"),
        "{table}"
    );
    assert!(
        !table.contains("cold,") && !table.contains("null  "),
        "{table}"
    );
    let results: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(json).unwrap()).unwrap();
    let cases = results["results"].as_array().unwrap();
    assert_eq!(cases.len(), 3);
    for case in cases {
        assert_eq!(case["workload"], "program-json");
        assert_eq!(case["runs"][1]["checksum"], 77);
    }
}

#[test]
fn another_checksum_is_a_failure() {
    let programs = Programs::answering("wrong", &[("system", 77), ("hakmem", 78)]);
    let output = programs.run("program-json 0.5 --runs 1 --no-host-warm");
    assert_eq!(output.status.code(), Some(1));
    let table = text(&output.stdout);
    assert!(
        table.contains("run 1 FAILED: its result has the checksum 0x4e, the other runs have 0x4d"),
        "{table}"
    );
}

#[test]
fn what_cannot_be_run_is_refused_in_one_line() {
    let programs = Programs::answering("refused", &[("system", 1)]);
    for (line, wanted) in [
        (
            "program-json",
            "program-json is not built with hakmem yet: run bench-harness programs build hakmem",
        ),
        (
            "program-json --allocators system,snmalloc",
            "program-json is not built with snmalloc yet",
        ),
        (
            "program-json --allocators null",
            "null cannot serve a program",
        ),
        (
            "program-json --allocators system --series cold",
            "has no cold series",
        ),
        (
            "program-json 0 --allocators system",
            "expected a scale of 0.001 to 1000",
        ),
        (
            "programs build nosuch",
            "unknown allocator \"nosuch\": expected any of system, hakmem, mimalloc",
        ),
        (
            "smoke --allocators system,hakmem --workloads program-json",
            "is not built with hakmem yet",
        ),
    ] {
        let output = programs.run(line);
        let err = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{line}: {err}");
        assert!(
            err.contains(wanted) && err.lines().count() == 1,
            "{line}: {err}"
        );
    }
}

#[test]
fn a_child_of_the_harness_itself_has_no_programs() {
    let order = r#"{"workload":"program-json","params":{"scale":1.0},"series":"warm"}"#;
    let output = Command::new(env!("CARGO_BIN_EXE_bench-harness"))
        .args(["child", "system", order])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert!(text(&output.stderr).contains("needs bench-harness programs build"));
}
