//! Rival allocators: built on demand in a workspace of their own, found and started like any other child.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::fail::Fail;

/// Their names, in the order reports show them.
pub const NAMES: [&str; 5] = ["mimalloc", "mimalloc2", "jemalloc", "snmalloc", "rpmalloc"];

/// Stands in for the directory where the executables of the peers are looked for.
pub const DIRECTORY_VARIABLE: &str = "HAKMEM_BENCH_PEERS";

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("peers")
}

/// The executable of a peer, whether it is there or not.
pub fn executable(name: &str) -> PathBuf {
    let directory = std::env::var_os(DIRECTORY_VARIABLE).map(PathBuf::from);
    directory
        .unwrap_or_else(|| workspace().join("target/release"))
        .join(format!("peer-{name}"))
}

/// The peers that have been built.
pub fn built() -> Vec<&'static str> {
    NAMES
        .into_iter()
        .filter(|name| executable(name).is_file())
        .collect()
}

/// What the peers command does.
#[derive(Debug, clap::Subcommand)]
pub enum PeersCommand {
    /// Build the peers named, or all; needs a C and C++ compiler and cmake
    Build {
        /// mimalloc, mimalloc2, jemalloc, snmalloc, rpmalloc
        names: Vec<String>,
    },
    /// Say which peers are built and where
    List,
}

/// Builds or lists.
pub fn dispatch(command: PeersCommand) -> Result<(), Fail> {
    match command {
        PeersCommand::List => {
            for name in NAMES {
                let path = executable(name);
                let state = if path.is_file() { "built" } else { "not built" };
                println!("{name:<10} {state:<10} {}", path.display());
            }
            Ok(())
        }
        PeersCommand::Build { names } => build(names),
    }
}

/// Refuses to build what is written in C where its tools are not installed.
pub fn check_tools(what: &str) -> Result<(), Fail> {
    for (tool, package) in [("cc", "gcc"), ("c++", "g++"), ("cmake", "cmake")] {
        let found = Command::new(tool)
            .arg("--version")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        if !found.is_ok_and(|s| s.success()) {
            return Err(Fail::usage(format!(
                "{what}: {tool} cannot be started; expected it to be installed (apt-get install {package})"
            )));
        }
    }
    Ok(())
}

fn build(names: Vec<String>) -> Result<(), Fail> {
    if let Some(unknown) = names.iter().find(|n| !NAMES.contains(&n.as_str())) {
        return Err(Fail::usage(format!(
            "unknown peer {unknown:?}: expected any of {}",
            NAMES.join(", ")
        )));
    }
    check_tools("peers build")?;
    let names: Vec<&str> = if names.is_empty() {
        NAMES.to_vec()
    } else {
        names.iter().map(String::as_str).collect()
    };
    let mut failed = Vec::new();
    for name in names {
        eprintln!("building {name}");
        // One package at a time: built together, features of the two mimallocs would be united.
        let status = Command::new("cargo")
            .args([
                "build",
                "--release",
                "--locked",
                "--package",
                &format!("peer-{name}"),
            ])
            .current_dir(workspace())
            .status()
            .map_err(|e| Fail::usage(format!("peers build: cargo cannot be started: {e}")))?;
        if !status.success() {
            failed.push(name);
        }
    }
    if failed.is_empty() {
        Ok(())
    } else {
        Err(Fail::run(format!(
            "peers that could not be built: {}",
            failed.join(", ")
        )))
    }
}
