//! The command line: what can be asked, and who answers it.
//!
//! The commands of the workloads are made from their table, so that no parameter is said twice.

use std::time::Instant;

use bench_kernel::doctor::PROBLEM;
use bench_subject::record::Spec;
use clap::{ArgMatches, Args, Command, CommandFactory, FromArgMatches, Parser, Subcommand};
use itertools::Itertools;

use crate::exact::TOOLS;
use crate::fail::Fail;
use crate::options::RunOptions;
use crate::plan::Entry;
use crate::results::FLOOR;
use crate::subjects::{BuildCommand, PROGRAMS, RIVALS, WORKLOADS as SUBJECTS};
use crate::suite::Extent;
use crate::workloads::{self, WORKLOADS, Workload};
use crate::{host_warm, output, session, subjects, suite};

/// Measures memory allocators against each other.
///
/// Every run is a process of its own, runs of all allocators are interleaved, and what is printed are medians with their
/// spread. Without a command: random-mixed in the report's case and in the reference program's default.
#[derive(Debug, Parser)]
#[command(name = "bench-harness", version, args_conflicts_with_subcommands = true, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Option<Ask>,
    #[command(flatten)]
    options: RunOptions,
}

#[derive(Debug, Subcommand)]
enum Ask {
    /// Every workload: at its default size, in at most 90 seconds (--quick), or thoroughly (--full)
    All(AllOptions),
    /// A question about the kernel and the OS layer, answered by a table
    Experiment(Experiment),
    /// What this machine gives, and why huge pages or prefault were not had
    Doctor,
    /// Instructions of every path of our allocator, exact: print, compare with a table, or write one
    Paths(crate::paths::Paths),
    /// Rival allocators: build what measures them
    #[command(subcommand)]
    Peers(BuildCommand),
    /// Every workload once on every allocator, as small as it goes: whether each can do each
    Smoke(crate::smoke::Smoke),
    /// Real programs, each with every allocator as its global one: build them
    #[command(subcommand)]
    Programs(BuildCommand),
    /// Any program under several preloaded allocators: bench-harness preload -- program args…
    Preload(crate::preload::Options),
    /// One self-contained HTML page of a results file, with charts
    Report(crate::report::Report),
    /// What README and docs/ show of the kept results, and the chart: writes what differs
    Pages(crate::pages::Pages),
    /// Compare two results files; exit code 1 where the new one is slower beyond the bound or counts more
    Compare(crate::compare::Compare),
    /// One run of a program, given as JSON; started by `preload` itself
    #[command(hide = true)]
    PreloadChild { order: String },
}

#[derive(Debug, Args)]
struct AllOptions {
    /// At most 90 seconds in all, on any machine: sizes and rounds are cut to fit
    #[arg(long, conflicts_with = "full")]
    quick: bool,
    /// An hour or more with every peer: the sizes of docs/performance.md, 5 rounds and exact figures
    #[arg(long)]
    full: bool,
    /// Only these workloads, separated by commas
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    only: Vec<String>,
    #[command(flatten)]
    options: RunOptions,
}

#[derive(Debug, Args)]
struct Experiment {
    /// alignment, tlb, populate-order, prefault or async-prefault
    #[arg(value_parser = experiments().map(|e| e.name).collect::<Vec<_>>())]
    name: String,
    /// Also writes the rows as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<std::path::PathBuf>,
    /// A size for trying out: seconds instead of minutes
    #[arg(long)]
    quick: bool,
    /// Does not touch the host's memory beforehand
    #[arg(long)]
    no_host_warm: bool,
}

const DEFAULT_ALLOCATORS: [&str; 2] = ["system", "hakmem"];

/// What a bare `bench-harness` runs: the report's case and the reference program's default.
const REPORT_CASES: [&str; 2] = ["random-mixed 1000000 256 42", "random-mixed 10000000 8192 1234567"];

pub fn main() -> ! {
    let asked = command().try_get_matches();
    if let Some(shown) = asked.as_ref().err().filter(|e| !e.use_stderr()) {
        // --help and --version; a closed stdout is nobody's problem.
        let _ = shown.print();
        std::process::exit(0)
    }
    let ended = asked.map_err(refused).and_then(dispatch);
    if let Err(fail) = &ended {
        output::say(&format!("bench-harness: {fail}\n"));
    }
    std::process::exit(ended.map_or_else(|fail| fail.code, |()| 0))
}

/// clap's message without tips and usage.
fn refused(e: clap::Error) -> Fail {
    let text = e.render().to_string();
    let message = text.split("\n\n").next().unwrap_or(&text).trim_start_matches("error:");
    Fail::usage(format!("{} (--help shows what is expected)", message.trim()))
}

/// The command line: what is declared above, and a command for every workload.
fn command() -> Command {
    WORKLOADS.iter().fold(Cli::command(), |cli, row| cli.subcommand(workload(row)))
}

fn workload(row: &'static Workload) -> Command {
    let command = RunOptions::augment_args(Command::new(&row.name)).about(&row.about).long_about(None);
    command.max_term_width(100).args(row.arguments())
}

/// A variable of the environment; one that is empty is not set.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn dispatch(matches: ArgMatches) -> Result<(), Fail> {
    if let Some((name, matches)) = matches.subcommand()
        && let Some(row) = workloads::find(name)
    {
        let spec = row.asked(matches, variable).map_err(Fail::usage)?;
        return measure(vec![spec], RunOptions::from_arg_matches(matches).map_err(refused)?);
    }
    let cli = Cli::from_arg_matches(&matches).map_err(refused)?;
    match cli.command {
        None => {
            let case = |line: &str| workloads::parse(line, variable).map_err(Fail::usage);
            measure(REPORT_CASES.map(case).into_iter().collect::<Result<_, _>>()?, cli.options)
        }
        Some(Ask::All(options)) => measure_all(options),
        Some(Ask::Programs(command)) => subjects::dispatch(&PROGRAMS, command),
        Some(Ask::Peers(command)) => subjects::dispatch(&SUBJECTS, command),
        Some(Ask::Report(report)) => crate::report::run(&report),
        Some(Ask::Smoke(smoke)) => crate::smoke::run(&smoke),
        Some(Ask::Pages(pages)) => crate::pages::run(&pages),
        Some(Ask::Compare(compare)) => crate::compare::run(&compare),
        Some(Ask::Paths(paths)) => crate::paths::run(&paths),
        Some(Ask::Experiment(experiment)) => run_experiment(&experiment),
        Some(Ask::Preload(options)) => crate::preload::compare(&options),
        Some(Ask::PreloadChild { order }) => crate::preload::child(&order),
        Some(Ask::Doctor) => doctor(),
    }
}

fn measure(specs: Vec<Spec>, options: RunOptions) -> Result<(), Fail> {
    let programs_alone = specs.iter().all(|s| s.program().is_some());
    let allocators = options.allocators(&DEFAULT_ALLOCATORS.map(String::from), programs_alone)?;
    let asked = options.series();
    let entry = |spec: Spec| {
        let series =
            asked.clone().unwrap_or_else(|| workloads::find(&spec.workload).map_or(Vec::new(), |r| r.series.clone()));
        Entry { spec, series, runs: options.runs.unwrap_or(5) as usize, secs: None }
    };
    let entries = specs.into_iter().map(entry).collect();
    session::measure(entries, &allocators, None, &options)
}

fn measure_all(all: AllOptions) -> Result<(), Fail> {
    let mut options = all.options;
    let (extent, known) = match (all.quick, all.full) {
        (true, _) => (Extent::Quick, subjects::known()),
        (_, true) => (Extent::Full, subjects::known()),
        _ => (Extent::Default, DEFAULT_ALLOCATORS.map(String::from).to_vec()),
    };
    if all.full {
        // What takes an hour can spare the counts, where their tools are there.
        let missing = subjects::check_tools("--exact", &TOOLS).err().filter(|_| !options.exact);
        options.exact = missing.is_none();
        missing.into_iter().for_each(|e| output::say(&format!("without exact figures: {e}\n")));
    }
    let allocators = options.allocators(&known, false)?;
    let missing: Vec<_> = RIVALS.into_iter().filter(|n| !known.iter().any(|k| k == n)).collect();
    if extent != Extent::Default && options.allocators.is_none() && !missing.is_empty() {
        output::say(&format!("without {}: not built (bench-harness peers build builds them)\n", missing.join(", ")));
    }
    let mut entries = suite::entries(extent, &all.only, options.series().as_deref(), options.runs.map(|n| n as usize))?;
    let unbuilt = |e: &Entry| subjects::check_program(&e.spec, allocators.iter().filter(|a| *a != FLOOR)).is_err();
    if entries.iter().any(unbuilt) {
        let why = "not built with every allocator asked for (bench-harness programs build)";
        output::say(&format!("without the real programs: {why}\n"));
        entries.retain(|e| !unbuilt(e));
    }
    session::measure(entries, &allocators, Some(extent), &options)
}

fn experiments() -> impl Iterator<Item = bench_kernel::Experiment> {
    bench_kernel::EXPERIMENTS.into_iter().chain([crate::prefault::PREFAULT])
}

fn run_experiment(asked: &Experiment) -> Result<(), Fail> {
    let file = asked.json.as_deref().map(output::Target::new).transpose()?;
    let experiment = experiments().find(|e| e.name == asked.name);
    let experiment = experiment.ok_or_else(|| Fail::usage(format!("unknown experiment {:?}", asked.name)))?;
    let machine = crate::machine::describe().probed();
    let start = Instant::now();
    let bytes = if asked.quick { experiment.quick_bytes } else { experiment.bytes };
    if !asked.no_host_warm {
        host_warm::warm(2 * bytes as u64, std::time::Duration::from_secs(60));
    }
    let say = |text: &str| output::say(&format!("{}: {text}\n", experiment.name));
    let rows = (experiment.rows)(bytes, &say).map_err(Fail::run)?;
    let columns = rows.iter().filter_map(|r| r.as_object()).flat_map(|r| r.keys()).unique().cloned().collect_vec();
    let lines = rows.iter().map(|r| columns.iter().map(|c| crate::text::cell(r.get(c))).collect()).collect();
    output::show(&(crate::table::plain(&columns, lines, columns.len()) + experiment.explained + "\n"))?;
    output::say(&format!("{:.0} s\n", start.elapsed().as_secs_f64()));
    match file {
        Some(file) => file.write(&output::json(&serde_json::json!({
            "schema": 1, "experiment": experiment.name, "machine": machine, "rows": rows
        }))?),
        None => Ok(()),
    }
}

/// Prints one line per finding; exit code 1 where something was not had.
fn doctor() -> Result<(), Fail> {
    let findings = bench_kernel::doctor::diagnose_here();
    let lines: String = findings.iter().map(|f| format!("{:<8} {:<16} {}\n", f.level, f.check, f.text)).collect();
    output::show(&lines)?;
    match findings.iter().filter(|f| f.level == PROBLEM).count() {
        0 => Ok(()),
        n => Err(Fail::run(format!("{n} of what was tried is not to be had, see above"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
    }
}
