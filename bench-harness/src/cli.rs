//! The command line: what can be asked, and the way from a request to a table and files.

use std::io::IsTerminal;
use std::time::Duration;

use clap::{Parser, Subcommand};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::fail::{Fail, one_line};
use crate::options::RunOptions;
use crate::output::{self, Pending};
use crate::plan::{Job, interleave};
use crate::record::{CaseResult, Failure, Order, Results, SCHEMA};
use crate::runner::Launcher;
use crate::workloads::{Spec, WorkloadCommand};
use crate::{callgrind, child, doctor, experiment, host_warm, machine, subjects, table};

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
    /// Every workload at its default size
    All(RunOptions),
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
    /// Markdown tables of a results file, for a README
    Markdown { results: std::path::PathBuf },
    /// Compare two results files; exit code 1 where the new one is slower beyond the bound
    Compare(crate::compare::Compare),
    /// One run of one allocator, given as JSON; started by the harness itself
    #[command(hide = true)]
    Child { allocator: String, order: String },
    /// The growing workload of `experiment prefault`; started by the harness itself
    #[command(hide = true)]
    GrowthChild { order: String },
    /// Touches that many bytes and ends; started by the harness itself
    #[command(hide = true)]
    HostWarm { bytes: u64 },
}

/// The whole program.
pub fn main() -> ! {
    let code = match Cli::try_parse() {
        Ok(cli) => match dispatch(cli) {
            Ok(()) => 0,
            Err(fail) => {
                eprintln!("bench-harness: {fail}");
                fail.code
            }
        },
        Err(e) if !e.use_stderr() => {
            // --help and --version; a closed stdout is nobody's problem.
            let _ = e.print();
            0
        }
        Err(e) => {
            eprintln!("bench-harness: {}", usage_line(&e.render().to_string()));
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
        Some(Command::All(options)) => {
            let specs = crate::programs::keep_built(Spec::all_cases(), &options.allocators);
            measure(specs, options)
        }
        Some(Command::Programs { command }) => crate::programs::dispatch(command),
        Some(Command::Peers { command }) => crate::peers::dispatch(command),
        Some(Command::Smoke(smoke)) => crate::smoke::run(&smoke),
        Some(Command::Markdown { results }) => {
            print!(
                "{}",
                crate::compare::markdown(&output::read(&results)?.results)
            );
            Ok(())
        }
        Some(Command::Compare(compare)) => crate::compare::run(&compare),
        Some(Command::Child { allocator, order }) => match subjects::find(&allocator) {
            Some(alloc) => child::child_with(alloc, &order),
            None => Err(Fail::usage(format!("unknown allocator {allocator:?}"))),
        },
        Some(Command::Experiment(which)) => experiment::run(which),
        Some(Command::Doctor(options)) => doctor::run(options),
        Some(Command::GrowthChild { order }) => experiment::growth_child(&order),
        Some(Command::HostWarm { bytes }) => host_warm::child(bytes),
    }
}

/// Checks everything, measures, prints the table and writes the files.
fn measure(mut specs: Vec<Spec>, mut options: RunOptions) -> Result<(), Fail> {
    let launcher = Launcher::new()?;
    options.check(&launcher.known())?;
    specs.iter_mut().try_for_each(Spec::check)?;
    crate::programs::check(&specs, &options.allocators, &options.series)?;
    let settle_ms = options.settle_ms()?;
    if options.callgrind {
        callgrind::check()?;
    }
    let json = options.json.as_deref().map(Pending::new).transpose()?;
    let csv = options.csv.as_deref().map(Pending::new).transpose()?;
    let machine = machine::describe();

    if !options.no_host_warm {
        host_warm::warm(
            specs
                .iter()
                .map(Spec::peak_bytes)
                .max()
                .unwrap_or(0)
                .saturating_mul(2),
        )?;
    }
    let mut results = empty_cases(&specs, &options);
    let jobs = interleave(
        &specs,
        &options.allocators,
        &options.series,
        options.runs,
        options.order_seed,
    );
    let limit = Duration::from_secs(options.time_limit);
    let bar = progress_bar(jobs.len() as u64);
    for job in &jobs {
        bar.set_message(format!(
            "{} {} {}",
            specs[job.spec].name(),
            job.series,
            job.allocator
        ));
        let order = Order {
            spec: specs[job.spec].clone(),
            series: job.series,
            settle_ms,
        };
        let outcome = launcher.run(&job.allocator, &order, limit);
        if !outcome.messages.trim().is_empty() && outcome.run.is_ok() {
            bar.suspend(|| eprint!("{}", outcome.messages));
        }
        if let Some(case) = find_case(&mut results, &specs, job) {
            match outcome.run {
                Ok(run) => {
                    case.runs.push(run);
                    case.rounds.push(job.round);
                }
                Err(error) => case.failures.push(Failure {
                    round: job.round,
                    error,
                }),
            }
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    crate::programs::compare_checksums(&mut results);
    if options.latency {
        sample_latency(&mut results, &launcher, limit);
    }
    if options.callgrind {
        callgrind::count(&mut results, &launcher, limit);
    }

    print!("{}", table::render(&results));
    if let Some(csv) = csv {
        csv.write(&output::csv(&results))?;
    }
    let failures: usize = results.iter().map(|c| c.failures.len()).sum();
    if let Some(json) = json {
        json.write(&output::json(&Results {
            schema: SCHEMA,
            complete: true,
            planned_runs: jobs.len(),
            warnings: Vec::new(),
            machine,
            results,
        })?)?;
    }
    if failures > 0 {
        return Err(Fail::run(format!(
            "{failures} of {} runs failed; the table says how",
            jobs.len()
        )));
    }
    Ok(())
}

/// One sampling run per case; a run that fails is said on stderr and leaves its case without times.
fn sample_latency(results: &mut [CaseResult], launcher: &Launcher, limit: Duration) {
    // A program calls its allocator itself: there is no boundary at which single calls could be timed.
    for case in results.iter_mut().filter(|c| !c.spec.is_program()) {
        let order = Order {
            spec: case.spec.clone(),
            series: case.series,
            settle_ms: None,
        };
        match launcher
            .run_with(
                &case.allocator,
                &order,
                limit,
                &[(crate::latency::VARIABLE, "1")],
            )
            .run
        {
            Ok(run) => case.latency = run.latency,
            Err(e) => eprintln!(
                "latency: {} {} on {}: {e}",
                case.spec.name(),
                case.series,
                case.allocator
            ),
        }
    }
}

/// A case for every combination, in the order in which tables show them.
fn empty_cases(specs: &[Spec], options: &RunOptions) -> Vec<CaseResult> {
    let mut cases = Vec::new();
    for spec in specs {
        for &series in &options.series {
            for allocator in &options.allocators {
                if !spec.takes(allocator, series) {
                    continue;
                }
                cases.push(CaseResult {
                    spec: spec.clone(),
                    allocator: allocator.clone(),
                    series,
                    runs: Vec::new(),
                    rounds: Vec::new(),
                    failures: Vec::new(),
                    instructions_per_op: None,
                    latency: None,
                });
            }
        }
    }
    cases
}

fn find_case<'a>(
    results: &'a mut [CaseResult],
    specs: &[Spec],
    job: &Job,
) -> Option<&'a mut CaseResult> {
    results.iter_mut().find(|c| {
        c.spec == specs[job.spec] && c.allocator == job.allocator && c.series == job.series
    })
}

/// A bar on a terminal, nothing elsewhere. It ticks only between runs: a thread redrawing it would be measured as well.
fn progress_bar(length: u64) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::stderr());
    if let Ok(style) =
        ProgressStyle::with_template("{bar:30} {pos}/{len} runs, about {eta} left  {msg}")
    {
        bar.set_style(style);
    }
    bar
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
