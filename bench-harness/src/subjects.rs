//! Where the executables are that measure an allocator, and how they are built.
//!
//! Two workspaces beside the harness have a package per allocator: `peers` the workloads, `programs` the real programs. cargo
//! looks at all that take part before every measurement, which takes a moment where nothing changed, so that nothing outdated
//! is ever measured. What needs no C (system malloc, ours, the floor) is built when it is needed, the others when asked for.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use bench_subject::record::Spec;
use itertools::Itertools;

use crate::fail::Fail;
use crate::output;
use crate::results::{BASE, CaseResult, FLOOR, OURS};

/// Built without C, by the harness itself.
pub const OWN: [&str; 3] = [BASE, OURS, FLOOR];

/// The rivals, in the order reports show them.
pub const RIVALS: [&str; 5] = ["mimalloc", "mimalloc2", "jemalloc", "snmalloc", "rpmalloc"];

/// All of them, built or not.
pub fn all() -> impl Iterator<Item = &'static str> {
    OWN.into_iter().chain(RIVALS)
}

/// What ours is called as another commit has it, where the command line gives an executable of that one.
pub const BEFORE: &str = "before";

/// Executables that the command line gives, by the names it gives them.
static GIVEN: OnceLock<Vec<(String, PathBuf)>> = OnceLock::new();

fn given(name: &str) -> Option<&'static Path> {
    GIVEN.get()?.iter().find(|(known, _)| known == name).map(|(_, path)| path.as_path())
}

pub struct Workspace {
    folder: &'static str,
    prefix: &'static str,
    /// Stands in for the directory where the executables are looked for; nothing is built then.
    variable: &'static str,
}

pub const WORKLOADS: Workspace = Workspace { folder: "peers", prefix: "subject", variable: "HAKMEM_BENCH_PEERS" };

pub const PROGRAMS: Workspace = Workspace { folder: "programs", prefix: "program", variable: "HAKMEM_BENCH_PROGRAMS" };

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

impl Workspace {
    fn elsewhere(&self) -> Option<PathBuf> {
        std::env::var_os(self.variable).map(PathBuf::from)
    }

    /// The executable with that allocator, whether it is there or not.
    pub fn executable(&self, name: &str) -> PathBuf {
        match (given(name), self.elsewhere()) {
            (Some(path), _) => path.to_owned(),
            (_, Some(folder)) => folder.join(format!("{}-{name}", self.prefix)),
            _ => root().join(self.folder).join("target/release").join(format!("{}-{name}", self.prefix)),
        }
    }

    /// Whether it can be started.
    pub fn is_built(&self, name: &str) -> bool {
        let own = |path: &Path| path.file_name().is_some_and(|n| n.to_string_lossy().starts_with(self.prefix));
        given(name).map_or_else(|| self.executable(name).is_file(), own)
    }

    /// Builds one package: built together, features of the two mimallocs would be united. False where cargo failed.
    fn cargo(&self, name: &str, quiet: bool) -> Result<bool, Fail> {
        let mut command = Command::new("cargo");
        command.args(["build", "--release", "--locked"]).args(quiet.then_some("--quiet"));
        command.args(["--package", &format!("{}-{name}", self.prefix)]);
        command.arg("--target-dir").arg(root().join(self.folder).join("target"));
        // Built incrementally, they would have other instructions.
        command.env_remove("CARGO_INCREMENTAL");
        let status = command.current_dir(root().join(self.folder)).status();
        status.map(|s| s.success()).map_err(|e| Fail::usage(format!("cargo cannot be started: {e}")))
    }

    /// Builds them one after another; fails with the names of those that could not be built.
    fn build(&self, names: &[&str], quiet: bool) -> Result<(), Fail> {
        let mut bad = Vec::new();
        for name in names {
            if !quiet || !self.executable(name).is_file() {
                output::say(&format!("building {}/{name}\n", self.folder));
            }
            if !self.cargo(name, quiet)? {
                bad.push(*name);
            }
        }
        if bad.is_empty() { Ok(()) } else { Err(Fail::run(format!("{} not built: {}", self.folder, bad.join(", ")))) }
    }
}

/// The allocators whose workloads can be run: our own and the rivals that have been built.
pub fn known() -> Vec<String> {
    let rivals = RIVALS.into_iter().filter(|name| WORKLOADS.is_built(name));
    OWN.into_iter().chain(rivals).map(String::from).collect()
}

/// The names of a list, each once. `NAME=EXECUTABLE` is an allocator whose executable is given. Refuses what is not known, not
/// there, or not built yet, which real programs alone do not need.
pub fn named(list: &[String], programs_alone: bool) -> Result<Vec<String>, Fail> {
    let (mut names, mut executables) = (Vec::new(), Vec::new());
    for word in list {
        let (name, path) = word.split_once('=').map_or((word.as_str(), None), |(name, path)| (name, Some(path)));
        let own = all().any(|known| known == name);
        let missing = RIVALS.contains(&name) && !programs_alone && !WORKLOADS.is_built(name);
        let wrong = match path.map(|path| Path::new(path).canonicalize()) {
            Some(_) if own || name.is_empty() => format!("{word}: expected a name of its own"),
            Some(Ok(path)) if !path.is_file() => format!("{word}: it is no executable"),
            Some(Err(e)) => format!("{word}: {e}"),
            None if missing => {
                format!("{name} is a peer that is not built yet: run bench-harness peers build {name}")
            }
            None if !own => format!("unknown allocator {name:?}: expected any of {}", known().join(", ")),
            found => {
                names.push(name.to_owned());
                executables.extend(found.and_then(Result::ok).map(|path| (name.to_owned(), path)));
                continue;
            }
        };
        return Err(Fail::usage(wrong));
    }
    GIVEN.get_or_init(|| executables);
    Ok(names.into_iter().unique().collect())
}

/// A sentence about each executable that was given.
pub fn which_given() -> impl Iterator<Item = String> {
    GIVEN.get().into_iter().flatten().map(|(name, path)| format!("{name} is {}", path.display()))
}

/// The workspace that has the executable for a workload.
pub fn workspace(spec: &Spec) -> &'static Workspace {
    if spec.program().is_some() { &PROGRAMS } else { &WORKLOADS }
}

/// Makes sure that what these cases start is there and up to date.
pub fn prepare(cases: &[CaseResult]) -> Result<(), Fail> {
    for workspace in [&WORKLOADS, &PROGRAMS].into_iter().filter(|w| w.elsewhere().is_none()) {
        let own = cases.iter().filter(|c| self::workspace(&c.spec).folder == workspace.folder);
        let names: std::collections::BTreeSet<&str> =
            own.map(|c| c.allocator.as_str()).filter(|name| given(name).is_none()).collect();
        workspace.build(&names.into_iter().collect::<Vec<_>>(), true)?;
    }
    Ok(())
}

/// Refuses where one of these tools is missing, each with its package.
pub fn check_tools(what: &str, tools: &[(&str, &str)]) -> Result<(), Fail> {
    match tools.iter().find(|(tool, _)| which::which(tool).is_err()) {
        Some((tool, package)) => Err(Fail::usage(format!(
            "{what}: {tool} is not found; expected it to be installed (apt-get install {package})"
        ))),
        None => Ok(()),
    }
}

/// Refuses a real program that is not built with one of these allocators.
pub fn check_program<'a>(spec: &Spec, mut allocators: impl Iterator<Item = &'a String>) -> Result<(), Fail> {
    match allocators.find(|a| spec.program().is_some() && !PROGRAMS.is_built(a)) {
        Some(missing) => {
            let name = &spec.workload;
            let line = format!("{name} is not built with {missing} yet: run bench-harness programs build {missing}");
            Err(Fail::usage(line))
        }
        None => Ok(()),
    }
}

#[derive(Debug, clap::Subcommand)]
pub enum BuildCommand {
    /// Build for the allocators named, or for all; the rivals need a C and C++ compiler and cmake
    Build {
        /// system, hakmem, null, mimalloc, mimalloc2, jemalloc, snmalloc, rpmalloc
        names: Vec<String>,
    },
}

pub fn dispatch(workspace: &Workspace, BuildCommand::Build { names }: BuildCommand) -> Result<(), Fail> {
    let floor = workspace.folder == WORKLOADS.folder;
    let all: Vec<&str> = all().filter(|n| floor || *n != FLOOR).collect();
    if let Some(unknown) = names.iter().find(|n| !all.contains(&n.as_str())) {
        return Err(Fail::usage(format!("unknown peer {unknown:?}: expected any of {}", all.join(", "))));
    }
    let chosen: Vec<&str> = if names.is_empty() { all } else { names.iter().map(String::as_str).collect() };
    if chosen.iter().any(|n| RIVALS.contains(n)) {
        let what = format!("{} build", workspace.folder);
        check_tools(&what, &[("cc", "gcc"), ("c++", "g++"), ("cmake", "cmake")])?;
    }
    workspace.build(&chosen, false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_and_peers_measure_the_same_allocators() {
        let versions = |lock: &str| -> Vec<String> {
            let text = std::fs::read_to_string(root().join(lock)).unwrap();
            let rivals = text.split("[[package]]").filter(|p| p.contains("malloc") && p.contains("source ="));
            let mut found: Vec<String> =
                rivals.map(|p| p.lines().skip(1).take(2).collect::<Vec<_>>().join(" ")).collect();
            found.sort();
            found
        };
        let peers = versions("peers/Cargo.lock");
        assert!(peers.len() >= 8, "{peers:?}");
        assert_eq!(versions("programs/Cargo.lock"), peers);
    }
}
