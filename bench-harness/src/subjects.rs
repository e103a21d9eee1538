//! Where the executables are that measure an allocator, and how they are built.
//!
//! Two workspaces beside the harness have a package per allocator: `peers` the workloads, `programs` the real programs. What
//! needs no C (system malloc, ours, the floor) is built by cargo before every measurement, which takes a moment where nothing
//! changed, so that nothing outdated is ever measured. The others are built when asked for, and refused where the sources of
//! the workloads are newer than they.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use bench_subject::spec::Spec;

use crate::fail::Fail;
use crate::output;
use crate::results::{BASE, FLOOR, OURS};

/// Built without C, by the harness itself.
pub const OWN: [&str; 3] = [BASE, OURS, FLOOR];

/// The rivals, in the order reports show them.
pub const RIVALS: [&str; 5] = ["mimalloc", "mimalloc2", "jemalloc", "snmalloc", "rpmalloc"];

pub struct Workspace {
    folder: &'static str,
    prefix: &'static str,
    /// Stands in for the directory where the executables are looked for; nothing is built then.
    variable: &'static str,
    /// The sources that decide what such an executable does.
    sources: &'static [&'static str],
}

/// The workloads, once per allocator.
pub const WORKLOADS: Workspace =
    Workspace { folder: "peers", prefix: "subject", variable: "HAKMEM_BENCH_PEERS", sources: &["subject/src"] };

/// The real programs, once per allocator.
pub const PROGRAMS: Workspace = Workspace {
    folder: "programs",
    prefix: "program",
    variable: "HAKMEM_BENCH_PROGRAMS",
    sources: &["subject/src", "programs/real/src"],
};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

impl Workspace {
    fn elsewhere(&self) -> Option<PathBuf> {
        std::env::var_os(self.variable).map(PathBuf::from)
    }

    /// The executable with that allocator, whether it is there or not.
    pub fn executable(&self, name: &str) -> PathBuf {
        let built = || root().join(self.folder).join("target/release");
        self.elsewhere().unwrap_or_else(built).join(format!("{}-{name}", self.prefix))
    }

    pub fn is_built(&self, name: &str) -> bool {
        self.executable(name).is_file()
    }

    fn cargo(&self, names: &[&str], quiet: bool) -> Result<bool, Fail> {
        let folder = root().join(self.folder);
        let mut command = Command::new("cargo");
        command.args(["build", "--release", "--locked", "--target-dir"]).arg(folder.join("target"));
        command.args(quiet.then_some("--quiet"));
        for name in names {
            command.arg("--package").arg(format!("{}-{name}", self.prefix));
        }
        // Built incrementally, they would have other instructions.
        command.env_remove("CARGO_INCREMENTAL");
        let status = command.current_dir(&folder).status();
        status.map(|s| s.success()).map_err(|e| Fail::usage(format!("cargo cannot be started: {e}")))
    }

    /// Builds them one after another; fails with the names of those that could not be built.
    pub fn build(&self, names: &[&str]) -> Result<(), Fail> {
        let mut bad = Vec::new();
        for name in names {
            output::say(&format!("building {}/{name}\n", self.folder));
            // One package at a time: built together, features of the two mimallocs would be united.
            if !self.cargo(&[name], false)? {
                bad.push(*name);
            }
        }
        if bad.is_empty() { Ok(()) } else { Err(Fail::run(format!("{} not built: {}", self.folder, bad.join(", ")))) }
    }

    /// Refuses an executable older than the sources that decide what it does.
    fn check_age(&self, name: &str) -> Result<(), Fail> {
        let path = self.executable(name);
        let built = std::fs::metadata(&path).and_then(|m| m.modified());
        let newest = self.sources.iter().filter_map(|s| newest(&root().join(s))).max();
        match (built, newest) {
            (Ok(built), Some(newest)) if built < newest => Err(Fail::usage(format!(
                "{} is older than the workloads it was built from and would measure something else: run bench-harness {} \
                 build {name}",
                path.display(),
                self.folder
            ))),
            _ => Ok(()),
        }
    }
}

/// When the newest file below a folder was changed.
fn newest(folder: &Path) -> Option<SystemTime> {
    let entries = std::fs::read_dir(folder).ok()?.filter_map(Result::ok);
    let changed = |entry: std::fs::DirEntry| match entry.path() {
        path if path.is_dir() => newest(&path),
        path => std::fs::metadata(path).and_then(|m| m.modified()).ok(),
    };
    entries.filter_map(changed).max()
}

/// The allocators whose workloads can be run: our own and the rivals that have been built.
pub fn known() -> Vec<String> {
    let rivals = RIVALS.into_iter().filter(|name| WORKLOADS.is_built(name));
    OWN.into_iter().chain(rivals).map(String::from).collect()
}

/// The workspace that has the executable for a workload.
pub fn workspace(spec: &Spec) -> &'static Workspace {
    if spec.is_program() { &PROGRAMS } else { &WORKLOADS }
}

/// Makes sure that everything is there and up to date: builds what is our own, and refuses rivals and programs that were
/// built from older sources.
pub fn prepare(specs: &[Spec], allocators: &[String]) -> Result<(), Fail> {
    let wanted = |own: &[&'static str]| -> Vec<&'static str> {
        own.iter().copied().filter(|o| allocators.iter().any(|a| a == o)).collect()
    };
    if specs.iter().any(|s| !s.is_program()) && WORKLOADS.elsewhere().is_none() {
        let own = wanted(&OWN);
        let missing = own.iter().any(|n| !WORKLOADS.is_built(n));
        if missing {
            output::say(&format!("building what measures {} (the first time it takes a minute)\n", own.join(", ")));
        }
        if !own.is_empty() && !WORKLOADS.cargo(&own, true)? {
            return Err(Fail::run("the executables that measure our own allocators could not be built, see above"));
        }
    }
    for name in allocators {
        for program in [false, true] {
            let workspace = if program { &PROGRAMS } else { &WORKLOADS };
            let asked = specs
                .iter()
                .any(|s| s.is_program() == program && (s.row().is_some_and(|r| r.has_floor) || name != FLOOR));
            let fresh = !program && OWN.contains(&name.as_str()) && workspace.elsewhere().is_none();
            if asked && !fresh && workspace.is_built(name) {
                workspace.check_age(name)?;
            }
        }
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
    match allocators.find(|a| spec.is_program() && !PROGRAMS.is_built(a)) {
        Some(missing) => {
            let name = &spec.workload;
            let line = format!("{name} is not built with {missing} yet: run bench-harness programs build {missing}");
            Err(Fail::usage(line))
        }
        None => Ok(()),
    }
}

/// Refuses names that are not known, or not built yet.
pub fn check_names(names: &[String], known: &[String]) -> Result<(), Fail> {
    match names.iter().find(|n| !known.contains(n)) {
        Some(name) if RIVALS.contains(&name.as_str()) => {
            Err(Fail::usage(format!("{name} is a peer that is not built yet: run bench-harness peers build {name}")))
        }
        Some(name) => Err(Fail::usage(format!("unknown allocator {name:?}: expected any of {}", known.join(", ")))),
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
    let all: Vec<&str> = OWN.into_iter().filter(|n| floor || *n != FLOOR).chain(RIVALS).collect();
    if let Some(unknown) = names.iter().find(|n| !all.contains(&n.as_str())) {
        return Err(Fail::usage(format!("unknown peer {unknown:?}: expected any of {}", all.join(", "))));
    }
    let chosen: Vec<&str> = if names.is_empty() { all } else { names.iter().map(String::as_str).collect() };
    if chosen.iter().any(|n| RIVALS.contains(n)) {
        let what = format!("{} build", workspace.folder);
        check_tools(&what, &[("cc", "gcc"), ("c++", "g++"), ("cmake", "cmake")])?;
    }
    workspace.build(&chosen)
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
