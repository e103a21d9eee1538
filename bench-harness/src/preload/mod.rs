//! `bench-harness preload -- program args…`: any program under several preloaded allocators, compared as pairs.
//!
//! Every run is a process of its own, started by a small child (`run`) that holds the clock; a round holds one run under
//! each library in an order shuffled anew, so that whatever the machine does meanwhile hits all alike. Before the series
//! the program runs once under each library without being timed: that fills the caches of the system, tells how long it
//! will take, and proves that the library is there (`check`).

mod check;
mod elf;
mod library;
mod results;
mod run;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

use crate::fail::Fail;
use crate::output::{self, Target};
use crate::progress::{Pace, Progress, in_words};
use crate::results::SCHEMA;
use crate::runner::run_limited;
use crate::{interrupt, machine, noise};
use library::Library;
use results::{Case, Results, shortened};
use run::{Measured, Order};

pub use run::child;

/// Where our own library is: the file given, or where it is usually found.
pub fn own_library(given: Option<&std::path::Path>) -> Result<PathBuf, Fail> {
    library::usable(&library::ours(given)?)
}

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
    /// Show what the program writes instead of discarding it
    #[arg(long)]
    show_output: bool,
    /// Leave out the untimed run that proves that each library is there
    #[arg(long)]
    no_check: bool,
    /// Write all results to this file as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write one line per run to this file as CSV
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// Seconds after which a run counts as hung
    #[arg(long, value_name = "SECS", default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..))]
    time_limit: u64,
    /// Seed of the order in which runs are interleaved
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    order_seed: u64,
    /// Per cent by which the runs of the first library may spread or drift before the report warns
    #[arg(long, value_name = "PERCENT", default_value_t = noise::bound())]
    drift_bound: f64,
    /// The program and its arguments, after --
    #[arg(last = true, required = true, value_name = "PROGRAM")]
    program: Vec<OsString>,
}

/// Compares, prints the table and writes the files.
pub fn compare(options: &Options) -> Result<(), Fail> {
    let comparison = Comparison::new(options)?;
    let json = options.json.as_deref().map(Target::new).transpose()?;
    let csv = options.csv.as_deref().map(Target::new).transpose()?;
    interrupt::watch();
    let machine = machine::describe().probed();
    let mut cases: Vec<Case> = comparison.libraries.iter().map(Case::new).collect();
    let mut pace = Pace::new(1.0);
    if !options.no_check {
        comparison.check(&mut cases, &mut pace)?;
    }
    comparison.measure(&mut cases, &mut pace);

    let planned = options.runs as usize * cases.len();
    let (made, failed) = cases
        .iter()
        .fold((0, 0), |(made, failed), c| (made + c.runs.len() + c.failures.len(), failed + c.failures.len()));
    let complete = !interrupt::asked();
    let mut warnings = Vec::new();
    if !complete {
        warnings.push(format!("interrupted: {made} of {planned} planned runs were made"));
    }
    let base = results::base(&cases);
    let speeds: Vec<f64> = cases[base].runs.iter().map(|r| 1.0 / r.wall_secs).collect();
    let what = cases[base].library.clone();
    let noisy = noise::describe(&what, &speeds, options.drift_bound);
    warnings.extend(noisy.map(|n| format!("{}: {n}: the machine was not quiet", comparison.title())));
    let results = Results {
        schema: SCHEMA,
        kind: "preload".to_owned(),
        complete,
        planned_runs: planned,
        warnings,
        machine,
        program: comparison.order_words(),
        metrics: options.metric_from.clone(),
        results: cases,
    }
    .compare();
    // Files first: whoever reads the table may be gone. A file that cannot be written does not take the table with it.
    let mut written = csv.map_or(Ok(()), |csv| csv.write(&results.csv()?));
    if let Some(json) = json {
        written = json.write(&output::json(&results)?).and(written);
    }
    let shown = results.table() + &crate::table::warnings(&results.warnings);
    output::show(&shown).and(written)?;
    if !complete {
        return Err(Fail {
            code: 130,
            line: format!("interrupted after {made} of {planned} runs; a comparison cannot be resumed"),
        });
    }
    if failed > 0 {
        return Err(Fail::run(format!("{failed} of {planned} runs failed; the table says how")));
    }
    Ok(())
}

struct Comparison<'a> {
    options: &'a Options,
    order: Order,
    libraries: Vec<Library>,
    own: PathBuf,
}

impl<'a> Comparison<'a> {
    /// Refuses everything that can be known to be wrong beforehand.
    fn new(options: &'a Options) -> Result<Self, Fail> {
        let own = std::env::current_exe().map_err(|e| Fail::run(format!("the path of this program: {e}")))?;
        let mut words = Vec::new();
        for word in &options.program {
            let text =
                word.to_str().ok_or_else(|| Fail::usage(format!("{}: expected arguments in UTF-8", word.display())))?;
            words.push(text.to_owned());
        }
        let arguments = words.split_off(1);
        let path = elf::find(&words[0])?;
        elf::check_program(&path)?;
        for expression in &options.metric_from {
            run::expression(expression).map_err(|e| Fail::usage(format!("--metric-from {expression:?}: {e}")))?;
        }
        if let Some(stdin) = &options.stdin {
            std::fs::File::open(stdin)
                .map_err(|e| Fail::usage(format!("--stdin {}: cannot be read: {e}", stdin.display())))?;
        }
        if std::env::var_os("LD_PRELOAD").is_some_and(|v| !v.is_empty()) {
            output::say("LD_PRELOAD of the environment is left out of every run\n");
        }
        Ok(Self {
            options,
            libraries: library::parse(&options.libraries, options.hakmem.as_deref())?,
            order: Order {
                name: words.remove(0),
                program: path,
                arguments,
                preload: None,
                stdin: options.stdin.clone(),
                metrics: options.metric_from.clone(),
                show_output: options.show_output,
                variables: Vec::new(),
            },
            own,
        })
    }

    fn order_words(&self) -> Vec<String> {
        let name = std::iter::once(self.order.name.clone());
        name.chain(self.order.arguments.iter().cloned()).collect()
    }

    fn title(&self) -> String {
        shortened(&self.order_words().join(" "))
    }

    fn start(&self, library: &Library, variables: Vec<(String, String)>) -> Result<Measured, String> {
        let order = Order { preload: library.path.clone(), variables, ..self.order.clone() };
        let text = serde_json::to_string(&order).map_err(|e| e.to_string())?;
        let mut command = Command::new(&self.own);
        command.args(["preload-child", &text]);
        let limit = Duration::from_secs(self.options.time_limit);
        let finished = run_limited(command, limit)?;
        if self.options.show_output {
            output::say(&finished.stderr);
        }
        run::judge(&finished, limit)
    }

    fn check(&self, cases: &mut [Case], pace: &mut Pace<usize>) -> Result<(), Fail> {
        let mut expected = 0.0;
        for (i, library) in self.libraries.iter().enumerate() {
            let scratch = check::Scratch::new()?;
            let start = Instant::now();
            let outcome = self.start(library, scratch.variables(library));
            if interrupt::asked() {
                return Ok(());
            }
            let taken = start.elapsed().as_secs_f64();
            pace.saw(i, taken, taken);
            expected += taken;
            match outcome {
                Ok(_) => cases[i].served_bytes = scratch.verdict(library, &self.order.name)?,
                // The series will fail the same way and be reported then; whether the library was there is not known.
                Err(e) => output::say(&format!("{} under {}, untimed: {e}\n", self.order.name, library.name)),
            }
            if cases[i].served_bytes == Some(0) {
                output::say(&format!("{} was loaded, but {} asked it for no memory\n", library.name, self.order.name));
            }
        }
        output::say(&format!(
            "estimate: {} for {} runs\n",
            in_words(Duration::from_secs_f64(expected * self.options.runs as f64)),
            self.options.runs as usize * self.libraries.len()
        ));
        Ok(())
    }

    fn measure(&self, cases: &mut [Case], pace: &mut Pace<usize>) {
        let mut random = StdRng::seed_from_u64(self.options.order_seed);
        let mut jobs = Vec::new();
        for round in 0..self.options.runs as usize {
            let first = jobs.len();
            jobs.extend((0..cases.len()).map(|library| (round, library)));
            jobs[first..].shuffle(&mut random);
        }
        let mut progress = Progress::new(jobs.len());
        for (i, &(round, library)) in jobs.iter().enumerate() {
            if interrupt::asked() {
                return;
            }
            let left: f64 = jobs[i..].iter().map(|j| pace.guess(&j.1, 1.0)).sum();
            progress.starts(
                &format!("{} under {}", self.order.name, cases[library].library),
                Duration::from_secs_f64(left),
            );
            let start = Instant::now();
            let outcome = self.start(&self.libraries[library], Vec::new());
            if interrupt::asked() {
                return;
            }
            pace.saw(library, 1.0, start.elapsed().as_secs_f64());
            cases[library].add(round, outcome);
            progress.done(1);
        }
    }
}
