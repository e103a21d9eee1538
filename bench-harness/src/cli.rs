//! The command line: what can be asked, and who answers it.

use clap::{Args, Parser, Subcommand};

use crate::fail::{Fail, one_line};
use crate::options::RunOptions;
use crate::plan::Entry;
use crate::record::Series;
use crate::runner::Launcher;
use crate::workloads::{Spec, WorkloadCommand};
use crate::{child, doctor, experiment, host_warm, session, subjects, suite};

/// Measures memory allocators against each other.
///
/// Every run is a process of its own, runs of all allocators are interleaved, and what is printed are medians with their
/// spread. Without a command: random-mixed in the report's case and in the reference program's default.
#[derive(Debug, Parser)]
#[command(
    name = "bench-harness",
    version,
    args_conflicts_with_subcommands = true,
    max_term_width = 100
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    options: RunOptions,
}

#[derive(Debug, Subcommand)]
enum Command {
    #[command(flatten)]
    Workload(WorkloadCommand),
    /// Every workload: at its default size, in about a minute (--quick), or thoroughly (--full)
    All(AllOptions),
    /// A question about the kernel and the OS layer, answered by a table
    #[command(subcommand)]
    Experiment(experiment::Experiment),
    /// What this machine gives, and why huge pages or prefault were not had
    Doctor(doctor::Options),
    /// Rival allocators: build or list them
    Peers {
        #[command(subcommand)]
        command: crate::peers::PeersCommand,
    },
    /// Every workload once on every allocator, as small as it goes: whether each can do each
    Smoke(crate::smoke::Smoke),
    /// Real programs, each with every allocator as its global one: build or list them
    Programs {
        #[command(subcommand)]
        command: crate::programs::ProgramsCommand,
    },
    /// Any program under several preloaded allocators: bench-harness preload -- program args…
    Preload(crate::preload::Options),
    /// One self-contained HTML page of a results file, with charts
    Report(crate::report::Report),
    /// Markdown tables of a results file, for a README
    Markdown(crate::report::markdown::Markdown),
    /// Compare two results files; exit code 1 where the new one is slower beyond the bound
    Compare(crate::compare::Compare),
    /// One run of one allocator, given as JSON; started by the harness itself
    #[command(hide = true)]
    Child {
        allocator: String,
        #[arg(allow_hyphen_values = true)]
        order: String,
    },
    /// One run of a program, given as JSON; started by `preload` itself
    #[command(hide = true)]
    PreloadChild { order: String },
    /// The growing workload of `experiment prefault`; started by the harness itself
    #[command(hide = true)]
    GrowthChild { order: String },
    /// Touches that many bytes and ends; started by the harness itself
    #[command(hide = true)]
    HostWarm { bytes: u64 },
}

/// What `all` is asked.
#[derive(Debug, Args)]
struct AllOptions {
    /// About a minute in all: small sizes, as many rounds as fit
    #[arg(long, conflicts_with = "full")]
    quick: bool,
    /// Twenty to thirty minutes with every peer: the sizes of the README, 7 rounds and the times of single calls
    #[arg(long)]
    full: bool,
    /// Only these workloads, separated by commas
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    only: Vec<String>,
    #[command(flatten)]
    options: RunOptions,
}

/// What is compared unless something else is asked for.
const DEFAULT_ALLOCATORS: [&str; 2] = ["system", "hakmem"];

/// The whole program.
pub fn main() -> ! {
    let code = match Cli::try_parse() {
        Ok(cli) => match dispatch(cli) {
            Ok(()) => 0,
            Err(fail) => {
                crate::output::say(&format!("bench-harness: {fail}\n"));
                fail.code
            }
        },
        Err(e) if !e.use_stderr() => {
            // --help and --version; a closed stdout is nobody's problem.
            let _ = e.print();
            0
        }
        Err(e) => {
            crate::output::say(&format!(
                "bench-harness: {}\n",
                usage_line(&e.render().to_string())
            ));
            2
        }
    };
    std::process::exit(code)
}

/// clap's message without its usage block, in one line.
fn usage_line(text: &str) -> String {
    let text = text.split("\n\nUsage:").next().unwrap_or(text);
    let text = text
        .split("\n\nFor more information")
        .next()
        .unwrap_or(text);
    format!(
        "{} (--help shows what is expected)",
        one_line(text.trim_start_matches("error:"))
    )
}

fn dispatch(cli: Cli) -> Result<(), Fail> {
    match cli.command {
        None => measure(Spec::report_cases(), cli.options),
        Some(Command::Workload(command)) => {
            let (spec, options) = command.split();
            measure(vec![spec], options)
        }
        Some(Command::All(options)) => measure_all(options),
        Some(Command::Programs { command }) => crate::programs::dispatch(command),
        Some(Command::Peers { command }) => crate::peers::dispatch(command),
        Some(Command::Report(report)) => crate::report::run(&report),
        Some(Command::Smoke(smoke)) => crate::smoke::run(&smoke),
        Some(Command::Markdown(markdown)) => crate::report::markdown::run(&markdown),
        Some(Command::Compare(compare)) => crate::compare::run(&compare),
        Some(Command::Child { allocator, order }) => match subjects::find(&allocator) {
            Some(alloc) => child::child_with(alloc, &order),
            None => Err(Fail::usage(format!("unknown allocator {allocator:?}"))),
        },
        Some(Command::Experiment(which)) => experiment::run(which),
        Some(Command::Preload(options)) => crate::preload::compare(&options),
        Some(Command::PreloadChild { order }) => crate::preload::child(&order),
        Some(Command::Doctor(options)) => doctor::run(options),
        Some(Command::GrowthChild { order }) => experiment::growth_child(&order),
        Some(Command::HostWarm { bytes }) => host_warm::child(bytes),
    }
}

/// Workloads named on the command line.
fn measure(specs: Vec<Spec>, options: RunOptions) -> Result<(), Fail> {
    options.check()?;
    let launcher = Launcher::new()?;
    let known = if specs.iter().all(Spec::is_program) {
        crate::programs::known()
    } else {
        launcher.known()
    };
    let allocators = options.allocators(&known, &DEFAULT_ALLOCATORS.map(String::from))?;
    let series = options
        .series()
        .unwrap_or_else(|| vec![Series::Warm, Series::Cold]);
    let entry = |spec| Entry {
        spec,
        series: series.clone(),
        runs: options.runs.unwrap_or(5),
        secs: None,
    };
    let entries = specs.into_iter().map(entry).collect();
    session::measure(&launcher, entries, allocators, &options, false)
}

/// Every workload.
fn measure_all(all: AllOptions) -> Result<(), Fail> {
    let options = RunOptions {
        // What takes minutes can spare one more run for the times of single calls.
        latency: all.options.latency || all.full,
        ..all.options
    };
    options.check()?;
    let extent = match (all.quick, all.full) {
        (true, _) => suite::Extent::Quick,
        (_, true) => suite::Extent::Full,
        _ => suite::Extent::Default,
    };
    let launcher = Launcher::new()?;
    let known = launcher.known();
    let default = match extent {
        suite::Extent::Default => DEFAULT_ALLOCATORS.map(String::from).to_vec(),
        _ => known.clone(),
    };
    let allocators = options.allocators(&known, &default)?;
    if extent != suite::Extent::Default && options.allocators.is_none() {
        let missing: Vec<_> = crate::peers::NAMES
            .into_iter()
            .filter(|n| !known.iter().any(|k| k == n))
            .collect();
        if !missing.is_empty() {
            eprintln!(
                "without {}: not built (bench-harness peers build builds them)",
                missing.join(", ")
            );
        }
    }
    let mut entries = suite::entries(
        extent,
        allocators.len(),
        options.series().as_deref(),
        options.runs,
        &all.only,
    )?;
    let specs = entries.iter().map(|e| e.spec.clone()).collect();
    let kept = crate::programs::keep_built(specs, &allocators);
    entries.retain(|e| kept.contains(&e.spec));
    if entries.is_empty() {
        return Err(Fail::usage("nothing is left to measure"));
    }
    session::measure(&launcher, entries, allocators, &options, true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn messages_are_one_line() {
        let e = Cli::try_parse_from(["bench-harness", "random-mixed", "ten"]).unwrap_err();
        let line = usage_line(&e.render().to_string());
        assert!(
            line.starts_with("invalid value 'ten' for '[CYCLES]'"),
            "{line}"
        );
        assert!(!line.contains('\n') && !line.contains("Usage"), "{line}");
    }
}
