//! What the tests of the binary share: starting it without the settings of whoever runs the tests.

use std::path::PathBuf;
use std::process::{Command, Output};

/// The binary with these arguments.
pub fn harness(arguments: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bench-harness"));
    command.args(arguments.split_whitespace());
    for (name, _) in std::env::vars().filter(|(n, _)| n.starts_with("HAKMEM_")) {
        command.env_remove(name);
    }
    command
}

/// Its whole run.
pub fn run(arguments: &str) -> Output {
    harness(arguments).output().unwrap()
}

/// What it wrote.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A directory of this test's own.
pub fn scratch(name: &str) -> PathBuf {
    let dir = std::env::temp_dir().join(format!("bench-harness-e2e-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    dir
}
