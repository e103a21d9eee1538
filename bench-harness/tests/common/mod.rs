//! What the tests of the binary share: starting it without the settings of whoever runs the tests.
#![allow(dead_code)] // Not every test needs all of it.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::OnceLock;

use serde_json::Value;

/// Where the executables are that measure our own allocators: built once and not asked for again.
pub fn built() -> &'static str {
    static BUILT: OnceLock<String> = OnceLock::new();
    BUILT.get_or_init(|| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bench-harness"));
        let line = "pair 48 10 --runs 1 --series warm --no-host-warm --allocators system,hakmem,null";
        ended(command.args(line.split(' ')).env_remove("HAKMEM_BENCH_PEERS"), 0);
        format!("{}/peers/target/release", env!("CARGO_MANIFEST_DIR"))
    })
}

/// The binary with these arguments.
pub fn harness(arguments: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bench-harness"));
    command.args(arguments.split_whitespace());
    for (name, _) in std::env::vars().filter(|(n, _)| n.starts_with("HAKMEM_") || n == "LD_PRELOAD") {
        command.env_remove(name);
    }
    command.env("HAKMEM_BENCH_PEERS", built());
    command
}

/// Runs it; what it wrote to stdout and to stderr. Fails unless it ends with that code.
pub fn ended(command: &mut Command, code: i32) -> (String, String) {
    written(&command.output().unwrap(), code)
}

/// The same of a run that is over.
pub fn written(output: &Output, code: i32) -> (String, String) {
    let [out, err] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    assert_eq!(output.status.code(), Some(code), "{out}{err}");
    (out, err)
}

pub fn json(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// Measures and answers the JSON.
pub fn measured(arguments: &str) -> Value {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("results.json");
    ended(&mut harness(&format!("{arguments} --no-host-warm --json {}", file.display())), 0);
    assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 1, "something was left beside the results");
    json(&file)
}

/// Fails unless the command is refused by one line that has `wanted`, and code 2.
pub fn refused(command: &mut Command, wanted: &str) {
    let (out, err) = ended(command, 2);
    assert!(err.lines().count() == 1 && err.starts_with("bench-harness: ") && err.contains(wanted), "{wanted}: {err}");
    assert!(out.is_empty(), "{command:?}: {out}");
}

pub fn script(path: &Path, body: &str) {
    std::fs::write(path, format!("#!/bin/sh\n{body}\n")).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}
