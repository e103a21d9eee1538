//! `bench-harness preload -- program args…`: any program under several preloaded allocators.
//!
//! It is a measurement like any other, whose allocators are libraries and whose only workload is the program: a session runs
//! it, and the table, the files, the report and `compare` are those of all. Every run is a process of its own, started by a
//! small child (`run`) that holds the clock. Before the series the program runs once under each library without being timed:
//! that fills the caches of the system, tells how long it will take, and proves that the library is there (`library`).

mod library;
mod run;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use bench_subject::record::{Run, Series, Spec};
use serde_json::json;

use crate::fail::Fail;
use crate::options::Files;
use crate::results::{CaseResult, PRELOAD};
use crate::runner::run_limited;
use crate::session::Session;
use crate::{interrupt, output, text};
use library::Library;
use run::Order;

pub use library::ours as own_library;
pub use run::child;

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Measuring", args_override_self = true)]
pub struct Options {
    /// Libraries to compare, separated by commas: glibc (nothing preloaded), hakmem (libhakmem.so), or NAME=/path.so
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_values_t = ["glibc".to_owned(), "hakmem".to_owned()])]
    libraries: Vec<String>,
    /// Where libhakmem.so is [default: beside this program, in preload/target/release, or in an installed prefix]
    #[arg(long, value_name = "PATH")]
    hakmem: Option<PathBuf>,
    /// Runs under each library
    #[arg(long, value_name = "N", default_value_t = 9, value_parser = clap::value_parser!(u64).range(1..))]
    runs: u64,
    /// Give the program this file as its standard input; without, it has none
    #[arg(long, value_name = "FILE")]
    stdin: Option<PathBuf>,
    /// Also compare a figure out of the program's output, the more the better: a regular expression whose first group is a
    /// number, 'SET: ([0-9.]+) requests'; where it matches several times the last counts. Can be given repeatedly
    #[arg(long, value_name = "REGEX")]
    metric_from: Vec<String>,
    #[command(flatten)]
    files: Files,
    /// The program and its arguments, after --
    #[arg(last = true, required = true, value_name = "PROGRAM")]
    program: Vec<String>,
}

/// Compares, prints the table and writes the files.
pub fn compare(options: &Options) -> Result<(), Fail> {
    let libraries = library::parse(&options.libraries, options.hakmem.as_deref())?;
    let own = std::env::current_exe().map_err(|e| Fail::run(format!("the path of this program: {e}")))?;
    let starter = Starter { order: order(options)?, own, options };
    let mut session = Session::new(&options.files)?;
    interrupt::watch();
    let program = json!(bench_subject::one_line(&options.program.join(" ")));
    let spec = Spec { workload: PRELOAD.to_owned(), params: BTreeMap::from([("program".to_owned(), program)]) };
    let case = |l: &Library| CaseResult {
        planned: options.runs as usize,
        ..CaseResult::new(spec.clone(), &l.name, Series::Cold)
    };
    let cases = libraries.iter().map(case).collect();
    let path = |l: &Library| {
        (l.name.clone(), l.path.clone().unwrap_or_else(|| which::which(&options.program[0]).unwrap_or_default()))
    };
    session.begin(cases, libraries.iter().map(path).collect(), options.files.drift_bound)?;
    // Figures of an interrupted measurement are worked out anew.
    session.results.results.retain(|case| case.planned > 0);
    let limit = Duration::from_secs(options.files.time_limit.unwrap_or(600));
    starter.check(&libraries, &mut session, limit)?;
    let left = session.left(false);
    output::say(&format!("estimate: {} for {} runs\n", text::about(session.time_left(&left)), left.len()));
    session.run(&left, limit, &|case, _, limit| {
        let library = libraries.iter().find(|l| l.name == case.allocator);
        starter.start(library.and_then(|l| l.path.clone()), None, limit)
    });
    let figures: Vec<_> = options.metric_from.iter().enumerate().map(|(i, m)| of_metric(&session, i, m)).collect();
    session.results.results.extend(figures.into_iter().flatten());
    session.finish()
}

/// What every run is asked; refuses everything that can be known to be wrong beforehand.
fn order(options: &Options) -> Result<Order, Fail> {
    let name = &options.program[0];
    which::which(name).map_err(|_| {
        Fail::usage(format!("{name}: no such program, or not executable; expected one in PATH or a path"))
    })?;
    for expression in &options.metric_from {
        run::expression(expression).map_err(|e| Fail::usage(format!("--metric-from {expression:?}: {e}")))?;
    }
    if let Some(stdin) = &options.stdin {
        let refuse = |e| Fail::usage(format!("--stdin {}: cannot be read: {e}", stdin.display()));
        std::fs::File::open(stdin).map_err(refuse)?;
    }
    if std::env::var_os("LD_PRELOAD").is_some_and(|v| !v.is_empty()) {
        output::say("LD_PRELOAD of the environment is left out of every run\n");
    }
    Ok(Order {
        preload: None,
        stdin: options.stdin.clone(),
        read: !options.metric_from.is_empty(),
        program: options.program.clone(),
    })
}

/// The runs as measurements of a figure that was found in their output.
fn of_metric(session: &Session, index: usize, metric: &str) -> Vec<CaseResult> {
    let of = |case: &CaseResult| {
        let mut case = CaseResult { failures: Vec::new(), planned: 0, ..case.clone() };
        case.spec.params.insert("figure".to_owned(), json!(metric));
        for run in &mut case.runs {
            run.ops_per_sec = run.metrics.get(index).copied().unwrap_or(0.0);
            run.ops = (run.ops_per_sec * run.secs) as u64;
        }
        case
    };
    session.results.results.iter().map(of).collect()
}

struct Starter<'a> {
    order: Order,
    own: PathBuf,
    options: &'a Options,
}

impl Starter<'_> {
    /// One run; where there is a place for it, the loader leaves its word there.
    fn start(&self, preload: Option<PathBuf>, scratch: Option<&Path>, limit: Duration) -> Result<Run, String> {
        let mut command = Command::new(&self.own);
        let order = Order { preload, ..self.order.clone() };
        command.args(["preload-child", &json!(order).to_string()]);
        if let Some(scratch) = scratch {
            command.env("LD_DEBUG", "files").env("LD_DEBUG_OUTPUT", scratch.join("loader"));
        }
        let finished = run_limited(command, limit)?;
        let figures = self.options.metric_from.iter().map(|wanted| run::figure(&finished.stdout, wanted));
        Ok(Run { metrics: figures.collect::<Result<_, _>>()?, ..finished.run })
    }

    /// Runs it once under each library, untimed.
    fn check(&self, libraries: &[Library], session: &mut Session, limit: Duration) -> Result<(), Fail> {
        let name = &self.order.program[0];
        for (i, library) in libraries.iter().enumerate() {
            let scratch = tempfile::Builder::new().prefix("bench-harness-preload-").tempdir();
            let scratch = scratch.map_err(|e| Fail::usage(format!("a directory for temporary files: {e}")))?;
            let start = Instant::now();
            let run = self.start(library.path.clone(), Some(scratch.path()), limit);
            if interrupt::asked() {
                return Ok(());
            }
            session.results.results[i].secs = Some(start.elapsed().as_secs_f64());
            match run {
                Ok(_) => library.verdict(scratch.path(), name)?,
                // The series will fail the same way and be reported then; whether the library was there is not known.
                Err(e) => output::say(&format!("{name} under {}, untimed: {e}\n", library.name)),
            }
        }
        Ok(())
    }
}
