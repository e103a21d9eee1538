//! Where the executables are that measure an allocator, and how they are built.
//!
//! Two workspaces beside the harness have a package per allocator: `peers` the workloads, `programs` the real programs. cargo
//! looks at all that take part before every measurement, which takes a moment where nothing changed, so that nothing outdated
//! is ever measured. What needs no C (system malloc, ours, the floor) is built when it is needed, the others when asked for.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use bench_subject::record::Spec;

use crate::fail::Fail;
use crate::output;
use crate::results::{BASE, CaseResult, FLOOR, OURS};

/// Built without C, by the harness itself.
pub const OWN: [&str; 3] = [BASE, OURS, FLOOR];

/// The rivals, in the order reports show them.
pub const RIVALS: [&str; 5] = ["mimalloc", "mimalloc2", "jemalloc", "snmalloc", "rpmalloc"];

/// Ours as another checkout has it.
pub const BEFORE: &str = "before";

/// Where that one is built, and a sentence that says which it is.
static BEFORE_TREE: OnceLock<(PathBuf, String)> = OnceLock::new();

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

    /// The folder where cargo runs for that allocator, where it builds, and the package's name.
    fn package(&self, name: &str) -> (PathBuf, PathBuf, String) {
        let tree = BEFORE_TREE.get().filter(|_| name == BEFORE).map(|(tree, _)| tree);
        let folder = tree.map_or(root().to_owned(), |t| t.join("bench-harness")).join(self.folder);
        let target = tree.map_or(folder.join("target"), |t| t.join("target").join(self.folder));
        (folder, target, format!("{}-{}", self.prefix, if tree.is_some() { OURS } else { name }))
    }

    /// The executable with that allocator, whether it is there or not.
    pub fn executable(&self, name: &str) -> PathBuf {
        let (_, target, package) = self.package(name);
        match self.elsewhere() {
            Some(folder) => folder.join(format!("{}-{name}", self.prefix)),
            None => target.join("release").join(package),
        }
    }

    /// Whether it can be started; what is built from another checkout always can, before it is needed.
    pub fn is_built(&self, name: &str) -> bool {
        name == BEFORE && self.elsewhere().is_none() || self.executable(name).is_file()
    }

    /// Builds one package: built together, features of the two mimallocs would be united. False where cargo failed.
    fn cargo(&self, name: &str, quiet: bool) -> Result<bool, Fail> {
        let (folder, target, package) = self.package(name);
        let mut command = Command::new("cargo");
        // By the manifest: the other checkout's folder is reached by a link, which a current directory would resolve.
        command.args(["build", "--release", "--locked", "--manifest-path"]).arg(folder.join("Cargo.toml"));
        command.arg("--target-dir").arg(target).args(quiet.then_some("--quiet")).args(["--package", &package]);
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

/// Has [`BEFORE`] built from the allocator of that checkout and the workloads of this one, so that both run the same: in a
/// tree of links to the checkout, in which `bench-harness` is this one.
pub fn measure_before(checkout: &Path) -> Result<(), Fail> {
    let refuse = |e: &dyn std::fmt::Display| Fail::usage(format!("--before {}: {e}", checkout.display()));
    let checkout = checkout.canonicalize().map_err(|e| refuse(&e))?;
    if !checkout.join("src/lib.rs").is_file() {
        return Err(refuse(&"it has no src/lib.rs; expected a checkout of this repository"));
    }
    let elsewhere = WORKLOADS.elsewhere().map(|_| WORKLOADS.executable(BEFORE));
    if let Some(missing) = elsewhere.as_ref().filter(|file| !file.is_file()) {
        return Err(refuse(&format!("{} is set and {} is not there", WORKLOADS.variable, missing.display())));
    }
    // A tree for each checkout, whatever their names: cargo tells files apart by their age, and would take one tree's for the
    // other's. Without %, of which lld makes something else.
    let name = checkout.to_str().ok_or_else(|| refuse(&"its path is not UTF-8"))?;
    let tree = root().join("peers/target/before").join(name.replace('_', "__").replace('/', "_-"));
    link(&checkout, &tree).map_err(|e| refuse(&e))?;
    let which = match elsewhere {
        Some(file) => format!("{BEFORE} is {}", file.display()),
        None => format!("{BEFORE} is the allocator of {name}, {}", head(&checkout)),
    };
    output::say(&format!("{which}\n"));
    BEFORE_TREE.get_or_init(|| (tree, which));
    Ok(())
}

/// A sentence about [`BEFORE`], where it is measured.
pub fn which_before() -> Option<String> {
    BEFORE_TREE.get().map(|(_, which)| which.clone())
}

/// Makes the tree have links to what is in the checkout, but for its harness, and no others.
fn link(checkout: &Path, tree: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(tree)?;
    let inside = |folder: &Path| -> std::io::Result<Vec<PathBuf>> {
        std::fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect()
    };
    let mut wanted = inside(checkout)?;
    wanted.retain(|p| !p.ends_with("target") && !p.ends_with("bench-harness"));
    wanted.push(root().to_owned());
    for old in inside(tree)?.into_iter().filter(|p| p.is_symlink()) {
        match wanted.iter().position(|path| std::fs::read_link(&old).is_ok_and(|to| to == *path)) {
            Some(there) => drop(wanted.swap_remove(there)),
            None => std::fs::remove_file(old)?,
        }
    }
    wanted.iter().try_for_each(|path| symlink(path, tree.join(path.file_name().unwrap_or_default())))
}

/// The commit that is checked out there, in words.
fn head(checkout: &Path) -> String {
    let mut git = Command::new("git");
    git.arg("-C").arg(checkout).args(["rev-parse", "--short", "HEAD"]).env_remove("GIT_DIR");
    // Not that of a repository around it.
    let answer = git.output().ok().filter(|o| o.status.success() && checkout.join(".git").exists());
    let commit = answer.map(|o| String::from_utf8_lossy(&o.stdout).trim().to_owned());
    commit.map_or("not a git checkout".to_owned(), |commit| format!("HEAD {commit}"))
}

/// The workspace that has the executable for a workload.
pub fn workspace(spec: &Spec) -> &'static Workspace {
    if spec.program().is_some() { &PROGRAMS } else { &WORKLOADS }
}

/// Makes sure that what these cases start is there and up to date.
pub fn prepare(cases: &[CaseResult]) -> Result<(), Fail> {
    for workspace in [&WORKLOADS, &PROGRAMS].into_iter().filter(|w| w.elsewhere().is_none()) {
        let own = cases.iter().filter(|c| self::workspace(&c.spec).folder == workspace.folder);
        let names: std::collections::BTreeSet<&str> = own.map(|c| c.allocator.as_str()).collect();
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
    workspace.build(&chosen, false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_of_another_checkout_follows_it() {
        let dir = tempfile::tempdir().unwrap();
        let [checkout, tree] = ["checkout", "tree"].map(|name| dir.path().join(name));
        let file = |name: &str| std::fs::write(checkout.join(name), "").unwrap();
        let leads = |name: &str| std::fs::read_link(tree.join(name)).ok();
        std::fs::create_dir_all(checkout.join("bench-harness")).unwrap();
        std::fs::create_dir_all(tree.join("target")).unwrap();
        ["kept", "gone"].into_iter().for_each(file);
        symlink("/elsewhere", tree.join("kept")).unwrap();
        link(&checkout, &tree).unwrap();
        assert_eq!((leads("kept"), leads("gone")), (Some(checkout.join("kept")), Some(checkout.join("gone"))));
        std::fs::remove_file(checkout.join("gone")).unwrap();
        file("new");
        link(&checkout, &tree).unwrap();
        assert_eq!((leads("kept"), leads("gone")), (Some(checkout.join("kept")), None));
        assert_eq!((leads("new"), leads("bench-harness")), (Some(checkout.join("new")), Some(root().to_owned())));
        assert!(tree.join("target").is_dir());
        assert_eq!(head(&checkout), "not a git checkout");
    }

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
