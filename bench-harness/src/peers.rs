//! Rival allocators: built on demand in a workspace of their own, found and started like any other child.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::fail::Fail;
use crate::on_demand::{self, Workspace};

/// Their names, in the order reports show them.
pub const NAMES: [&str; 5] = ["mimalloc", "mimalloc2", "jemalloc", "snmalloc", "rpmalloc"];

/// Stands in for the directory where the executables of the peers are looked for.
pub const DIRECTORY_VARIABLE: &str = "HAKMEM_BENCH_PEERS";

const WORKSPACE: Workspace = Workspace {
    folder: "peers",
    prefix: "peer",
    variable: DIRECTORY_VARIABLE,
};

/// The executable of a peer, whether it is there or not.
pub fn executable(name: &str) -> PathBuf {
    WORKSPACE.executable(name)
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
            WORKSPACE.list(&NAMES);
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
    let names = on_demand::chosen(&names, &NAMES, "peer")?;
    check_tools("peers build")?;
    WORKSPACE.build(&names, "", "peers that could not be built: ")
}
