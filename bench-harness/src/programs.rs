//! Real programs: built on demand in a workspace of their own, once per allocator, which each sets as its
//! `#[global_allocator]`.
//!
//! The harness finds and starts `program-ALLOCATOR` as the child of every `program-…` workload. Such a child calls
//! [`child_main`] with the function that prepares a program by name; what it prepares and does allocates like any Rust
//! program, through the global allocator. Every run answers a checksum of its result, and a run whose checksum is not
//! that of the others failed.

use std::alloc::Layout;
use std::path::PathBuf;
use std::sync::OnceLock;

use crate::fail::Fail;
use crate::on_demand::{self, Workspace};
use crate::peers;
use crate::raw::RawAllocator;
use crate::record::{CaseResult, Failure, Series};
use crate::workloads::Spec;

/// Stands in for the directory where the executables are looked for.
pub const DIRECTORY_VARIABLE: &str = "HAKMEM_BENCH_PROGRAMS";

/// Allocators the programs are built with besides the peers.
const OWN: [&str; 2] = ["system", "hakmem"];

/// What a program has to show for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// Units of work; what one is, each program says.
    pub units: u64,
    /// The same for the same work, whichever allocator served it.
    pub checksum: u64,
}

/// The timed part of a program; an error when its result is not what it has to be.
pub type Work = Box<dyn FnOnce() -> Result<Outcome, String>>;

/// Prepares the program of that name at that scale (1 is the usual size), outside the clock.
pub type Prepare = fn(&str, f64) -> Result<Work, String>;

static PREPARE: OnceLock<Prepare> = OnceLock::new();

/// The function given to [`child_main`], in a child that has programs.
pub fn prepare() -> Option<Prepare> {
    PREPARE.get().copied()
}

/// The whole life of a child that sets `allocator` as its global one.
pub fn child_main(allocator: &'static str, prepare: Prepare) -> ! {
    PREPARE.get_or_init(|| prepare);
    let table = RawAllocator::from_functions(allocator, |_| Ok(()), alloc, dealloc, realloc);
    crate::child::child_main(Box::leak(Box::new(table)))
}

unsafe fn alloc(size: usize, align: usize, _slot: usize) -> *mut u8 {
    // SAFETY: the caller passes a power of two and a size from 1 to isize::MAX.
    unsafe { std::alloc::alloc(Layout::from_size_align_unchecked(size, align)) }
}

unsafe fn dealloc(ptr: *mut u8, size: usize, align: usize) {
    // SAFETY: the caller passes a live block and the layout it was allocated with.
    unsafe { std::alloc::dealloc(ptr, Layout::from_size_align_unchecked(size, align)) }
}

unsafe fn realloc(ptr: *mut u8, size: usize, align: usize, new: usize) -> *mut u8 {
    // SAFETY: the caller passes a live block, its layout, and a new size from 1 to isize::MAX.
    unsafe { std::alloc::realloc(ptr, Layout::from_size_align_unchecked(size, align), new) }
}

const WORKSPACE: Workspace = Workspace {
    folder: "programs",
    prefix: "program",
    variable: DIRECTORY_VARIABLE,
};

fn names() -> impl Iterator<Item = &'static str> {
    OWN.into_iter().chain(peers::NAMES)
}

/// The executable with that global allocator, whether it is there or not.
pub fn executable(allocator: &str) -> PathBuf {
    WORKSPACE.executable(allocator)
}

/// Whether the programs can be run with that allocator.
pub fn is_built(allocator: &str) -> bool {
    executable(allocator).is_file()
}

/// The allocators a program can be asked for. `null` is among them for the sake of commands that name several.
pub fn known() -> Vec<String> {
    names().chain(["null"]).map(String::from).collect()
}

/// Refuses programs that cannot be run as asked.
pub fn check(specs: &[Spec], allocators: &[String], series: &[Series]) -> Result<(), Fail> {
    for spec in specs.iter().filter(|s| s.is_program()) {
        let name = spec.name();
        let allocators = || allocators.iter().filter(|a| *a != "null");
        if allocators().next().is_none() {
            return Err(Fail::usage(format!(
                "{name}: null cannot serve a program; expected another allocator"
            )));
        }
        if !series.contains(&Series::Warm) {
            return Err(Fail::usage(format!(
                "{name} has no cold series: what it works on is made before the clock starts; expected --series warm"
            )));
        }
        if let Some(missing) = allocators().find(|a| !is_built(a)) {
            return Err(Fail::usage(format!(
                "{name} is not built with {missing} yet: run bench-harness programs build {missing}"
            )));
        }
    }
    Ok(())
}

/// For a command that runs everything: leaves out programs that are not built with every allocator asked for, and says
/// so on stderr.
pub fn keep_built(specs: Vec<Spec>, allocators: &[String]) -> Vec<Spec> {
    let missing: Vec<&str> = allocators
        .iter()
        .map(String::as_str)
        .filter(|a| *a != "null" && !is_built(a))
        .collect();
    if missing.is_empty() {
        return specs;
    }
    let (programs, others): (Vec<_>, Vec<_>) = specs.into_iter().partition(Spec::is_program);
    if !programs.is_empty() {
        eprintln!(
            "bench-harness: {} left out: not built with {} (needs bench-harness programs build)",
            programs
                .iter()
                .map(Spec::name)
                .collect::<Vec<_>>()
                .join(", "),
            missing.join(", ")
        );
    }
    others
}

/// Makes a failure of every run whose checksum is not that of the workload's other runs.
///
/// What is right is what most runs found; where as many found something else, what came first in the results, which
/// lists system malloc first unless it was asked otherwise.
pub fn compare_checksums(results: &mut [CaseResult]) {
    let specs: Vec<Spec> = results
        .iter()
        .filter(|c| c.spec.is_program())
        .map(|c| c.spec.clone())
        .collect();
    for spec in specs {
        let of_spec = || results.iter().filter(|c| c.spec == spec);
        let found: Vec<u64> = of_spec()
            .flat_map(|c| c.runs.iter().filter_map(|r| r.checksum))
            .collect();
        let votes = |sum: u64| found.iter().filter(|&&f| f == sum).count();
        // `rev`, because of equals `max_by_key` takes the last.
        let Some(&right) = found.iter().rev().max_by_key(|&&sum| votes(sum)) else {
            continue;
        };
        for case in results.iter_mut().filter(|c| c.spec == spec) {
            let wrong = case.runs.iter().position(|r| r.checksum != Some(right));
            let mut next = wrong;
            while let Some(at) = next {
                let run = case.runs.remove(at);
                let round = if at < case.rounds.len() {
                    case.rounds.remove(at)
                } else {
                    at
                };
                case.failures.push(Failure {
                    round,
                    error: format!(
                        "its result has the checksum {}, the other runs have {right:#x}",
                        run.checksum
                            .map_or("none".to_owned(), |c| format!("{c:#x}"))
                    ),
                });
                next = case.runs.iter().position(|r| r.checksum != Some(right));
            }
        }
    }
}

/// What the programs command does.
#[derive(Debug, clap::Subcommand)]
pub enum ProgramsCommand {
    /// Build the real programs with the allocators named, or with all; with a peer this needs a C and C++ compiler and
    /// cmake
    Build {
        /// system, hakmem, mimalloc, mimalloc2, jemalloc, snmalloc, rpmalloc
        names: Vec<String>,
    },
    /// Say with which allocators they are built and where
    List,
}

/// Builds or lists.
pub fn dispatch(command: ProgramsCommand) -> Result<(), Fail> {
    match command {
        ProgramsCommand::List => {
            WORKSPACE.list(&names().collect::<Vec<_>>());
            Ok(())
        }
        ProgramsCommand::Build { names } => build(names),
    }
}

fn build(wanted: Vec<String>) -> Result<(), Fail> {
    let known: Vec<_> = names().collect();
    let wanted = on_demand::chosen(&wanted, &known, "allocator")?;
    if wanted.iter().any(|name| peers::NAMES.contains(name)) {
        peers::check_tools("programs build")?;
    }
    WORKSPACE.build(
        &wanted,
        "the programs with ",
        "the programs could not be built with ",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Run;
    use std::path::Path;

    fn case(allocator: &str, checksums: &[u64]) -> CaseResult {
        let run = |&c: &u64| Run {
            checksum: Some(c),
            ..Run::default()
        };
        let spec = Spec::parse(&["program-json"]).unwrap();
        CaseResult::made(
            spec,
            allocator,
            Series::Warm,
            checksums.iter().map(run).collect(),
        )
    }

    #[test]
    fn a_run_with_another_result_failed() {
        let mut results = [
            case("system", &[7, 7]),
            case("hakmem", &[8, 7, 9]),
            case("mimalloc", &[7]),
        ];
        compare_checksums(&mut results);
        assert_eq!(results.each_ref().map(|c| c.runs.len()), [2, 1, 1]);
        assert_eq!(results[1].rounds, [1]);
        let failures = &results[1].failures;
        assert_eq!(failures.iter().map(|f| f.round).collect::<Vec<_>>(), [0, 2]);
        assert_eq!(
            failures[1].error,
            "its result has the checksum 0x9, the other runs have 0x7"
        );
    }

    #[test]
    fn of_equals_the_first_allocator_is_right() {
        let mut results = [case("system", &[1]), case("hakmem", &[2])];
        compare_checksums(&mut results);
        assert_eq!(results.each_ref().map(|c| c.failures.len()), [0, 1]);
    }

    #[test]
    fn programs_and_peers_measure_the_same_allocators() {
        let versions = |lock: &str| -> Vec<String> {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(lock);
            let text = std::fs::read_to_string(&path).unwrap();
            let mut found: Vec<String> = text
                .split("[[package]]")
                .filter(|p| p.contains("malloc") && p.contains("source ="))
                .map(|p| p.lines().skip(1).take(2).collect::<Vec<_>>().join(" "))
                .collect();
            found.sort();
            found
        };
        let peers = versions("peers/Cargo.lock");
        assert!(peers.len() >= 8, "{peers:?}");
        assert_eq!(versions("programs/Cargo.lock"), peers);
    }
}
