//! One measurement from the plan to the table and the files, whoever interrupts it.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::fail::Fail;
use crate::journal::{self, Head, Journal, Line};
use crate::options::RunOptions;
use crate::output::{self, Pending};
use crate::plan::{Entry, Job, Plan};
use crate::progress::{Pace, Progress};
use crate::record::{CaseResult, Failure, Order, Results, Run, SCHEMA, Series};
use crate::runner::Launcher;
use crate::{
    callgrind, drift, host_warm, interrupt, latency, machine, peers, programs, sources, suite,
    table,
};

/// What a run takes where no table says it, in seconds.
const UNKNOWN_SECS: f64 = 0.5;

/// What starting a child takes.
const START_SECS: f64 = 0.004;

/// Checks everything, measures, prints the table and writes the files.
pub fn measure(
    launcher: &Launcher,
    mut entries: Vec<Entry>,
    allocators: Vec<String>,
    options: &RunOptions,
    estimate: bool,
) -> Result<(), Fail> {
    for entry in &mut entries {
        if let Some(share) = options.scale_by {
            entry.spec.scale(share);
            entry.secs = entry.secs.map(|s| s * share + START_SECS);
        }
        entry.spec.check()?;
    }
    let plan = Plan {
        entries,
        allocators,
        latency: options.latency,
        settle_ms: options.settle_ms()?,
        order_seed: options.order_seed,
    };
    for entry in &plan.entries {
        programs::check(
            std::slice::from_ref(&entry.spec),
            &plan.allocators,
            &entry.series,
        )?;
    }
    check_sources(launcher, &plan)?;
    if options.callgrind {
        callgrind::check()?;
    }
    let json = options.json.as_deref().map(Pending::new).transpose()?;
    let csv = options.csv.as_deref().map(Pending::new).transpose()?;
    let head = Head {
        journal: 1,
        programs: program_marks(launcher, &plan),
        plan,
        machine: machine::describe(),
    };
    let (journal, finished) = match json.as_ref().and_then(Pending::place) {
        Some(place) => {
            let (journal, finished) = Journal::open(place, &head, options.resume)?;
            (Some(journal), finished)
        }
        None if options.resume => {
            return Err(Fail::usage(
                "--resume: the results go to a stream, which keeps nothing; expected --json FILE",
            ));
        }
        None => (None, journal::Finished::new()),
    };
    let Head { plan, machine, .. } = head;
    let machine = journal.as_ref().map_or(machine, |j| j.machine.clone());

    let mut session = Session {
        launcher,
        limit: Duration::from_secs(options.time_limit),
        results: empty_cases(&plan),
        pace: Pace::new(1.0),
        plan,
        journal,
    };
    let left = session.replay(finished);
    if !options.no_host_warm && !left.is_empty() {
        let peak = session
            .plan
            .entries
            .iter()
            .map(|e| e.spec.peak_bytes())
            .max();
        host_warm::warm(peak.unwrap_or(0).saturating_mul(2))?;
    }
    if estimate && !left.is_empty() {
        let factor = suite::calibrate(launcher);
        session.pace = Pace::new(factor);
        let expected = session.time_left(&left);
        let line = suite::estimate(&session.plan, left.len(), expected, factor);
        output::say(&(line + "\n"));
    }
    interrupt::watch();
    session.run(&left);
    programs::compare_checksums(&mut session.results);
    if options.callgrind && !interrupt::asked() {
        callgrind::count(&mut session.results, launcher, session.limit);
    }
    let Session {
        plan,
        results,
        journal,
        ..
    } = session;

    let complete = !interrupt::asked();
    let (runs, failures) = results.iter().fold((0, 0), |(runs, failures), case| {
        (runs + case.runs.len(), failures + case.failures.len())
    });
    let mut warnings = drift::warnings(&results, options.drift_bound);
    if !complete {
        warnings.insert(
            0,
            format!(
                "interrupted: {} of {} planned runs were made",
                runs + failures,
                plan.runs()
            ),
        );
    }
    let shown = table::render(&results) + &table::warnings(&warnings);
    // Files first: whoever reads the table may be gone. A file that cannot be written does not take the table with it.
    let mut written = csv.map_or(Ok(()), |csv| csv.write(&output::csv(&results)));
    if let Some(json) = json {
        let text = output::json(&Results {
            schema: SCHEMA,
            complete,
            planned_runs: plan.runs(),
            warnings,
            machine,
            results,
        })?;
        written = json.write(&text).and(written);
    }
    output::show(&shown).and(written)?;
    if !complete {
        let resume = match (&options.json, &journal) {
            (Some(path), Some(_)) => format!(
                "{} has what was measured; the same command with --resume goes on",
                path.display()
            ),
            (Some(path), None) => format!("{} has what was measured", path.display()),
            (None, _) => {
                "nothing was kept on disk: with --json FILE it could be resumed".to_owned()
            }
        };
        return Err(Fail {
            code: 130,
            line: format!(
                "interrupted after {} of {} runs; {resume}",
                runs + failures,
                plan.runs()
            ),
        });
    }
    if let Some(journal) = journal {
        journal.finish();
    }
    if failures > 0 {
        return Err(Fail::run(format!(
            "{failures} of {} runs failed; the table says how",
            plan.runs()
        )));
    }
    Ok(())
}

struct Session<'a> {
    launcher: &'a Launcher,
    limit: Duration,
    plan: Plan,
    results: Vec<CaseResult>,
    pace: Pace<(usize, Series, String)>,
    journal: Option<Journal>,
}

impl Session<'_> {
    /// Takes over what earlier sessions have finished, and answers the jobs that are left.
    fn replay(&mut self, mut finished: journal::Finished) -> Vec<Job> {
        let jobs = self.plan.jobs();
        let all = jobs.len();
        let mut left = Vec::new();
        for job in jobs {
            match finished.remove(&job) {
                Some(outcome) => self.note(&job, outcome),
                None => left.push(job),
            }
        }
        if left.len() < all {
            output::say(&format!(
                "resumed: {} of {all} runs are there already
",
                all - left.len()
            ));
        }
        left
    }

    fn run(&mut self, jobs: &[Job]) {
        let mut progress = Progress::new(self.plan.jobs().len());
        progress.done(self.plan.jobs().len() - jobs.len());
        for (i, job) in jobs.iter().enumerate() {
            let what = format!(
                "{} {} {}",
                self.plan.entries[job.entry].spec.name(),
                job.series,
                job.allocator
            );
            progress.starts(&what, self.time_left(&jobs[i..]));
            let start = Instant::now();
            let outcome = self.start(job);
            if interrupt::asked() {
                // Whatever this run measured, it was measured while being ended.
                return;
            }
            let expected = self.expected(job);
            self.pace
                .saw(kind(job), expected, start.elapsed().as_secs_f64());
            if !outcome.messages.trim().is_empty() && outcome.run.is_ok() {
                progress.say(&outcome.messages);
            }
            self.keep(job, &outcome.run, &progress);
            if let (true, Err(e)) = (job.latency, &outcome.run) {
                progress.say(&format!("latency: {what}: {e}\n"));
            }
            self.note(job, outcome.run);
            progress.done(1);
        }
    }

    /// Where the disk takes no more, the measurement goes on and can no longer be resumed.
    fn keep(&mut self, job: &Job, run: &Result<Run, String>, progress: &Progress) {
        let Some(journal) = &mut self.journal else {
            return;
        };
        if let Err(e) = journal.add(&Line::new(job.clone(), run.clone())) {
            progress.say(&format!(
                "bench-harness: {e}; measuring on, with nothing to resume from after this\n"
            ));
            self.journal = None;
        }
    }

    fn start(&self, job: &Job) -> crate::runner::Outcome {
        let order = Order {
            spec: self.plan.entries[job.entry].spec.clone(),
            series: job.series,
            settle_ms: self.plan.settle_ms.filter(|_| !job.latency),
        };
        let variables: &[_] = if job.latency {
            &[(latency::VARIABLE, "1")]
        } else {
            &[]
        };
        self.launcher
            .run_with(&job.allocator, &order, self.limit, variables)
    }

    /// Enters an outcome where it belongs. A sampling run that failed leaves its case without times.
    fn note(&mut self, job: &Job, outcome: Result<Run, String>) {
        let spec = &self.plan.entries[job.entry].spec;
        let case = self
            .results
            .iter_mut()
            .find(|c| c.spec == *spec && c.allocator == job.allocator && c.series == job.series);
        let Some(case) = case else { return };
        match outcome {
            Ok(run) if job.latency => case.latency = run.latency,
            Err(_) if job.latency => {}
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

    fn expected(&self, job: &Job) -> f64 {
        let rest = self.plan.settle_ms.unwrap_or(0) as f64 / 1e3;
        self.plan.entries[job.entry].secs.unwrap_or(UNKNOWN_SECS) + rest
    }

    fn time_left(&self, jobs: &[Job]) -> Duration {
        let mut counts = HashMap::new();
        for job in jobs {
            counts.entry(kind(job)).or_insert((0, self.expected(job))).0 += 1;
        }
        let secs = counts
            .iter()
            .map(|(kind, &(count, expected))| f64::from(count) * self.pace.guess(kind, expected))
            .sum::<f64>();
        Duration::from_secs_f64(secs)
    }
}

fn kind(job: &Job) -> (usize, Series, String) {
    (job.entry, job.series, job.allocator.clone())
}

/// The programs whose change would make an earlier session's runs another measurement's.
fn program_marks(launcher: &Launcher, plan: &Plan) -> Vec<(String, String)> {
    let mut marks = Vec::new();
    for entry in &plan.entries {
        for allocator in &plan.allocators {
            let path = launcher.child(allocator, &entry.spec).0;
            let mark = (allocator.clone(), journal::program_mark(&path));
            if !marks.contains(&mark) {
                marks.push(mark);
            }
        }
    }
    marks
}

/// Refuses executables of rivals and programs that were built from other sources.
fn check_sources(launcher: &Launcher, plan: &Plan) -> Result<(), Fail> {
    let mut asked = Vec::new();
    for entry in &plan.entries {
        for allocator in &plan.allocators {
            let path = launcher.child(allocator, &entry.spec).0;
            let kind = match entry.spec.is_program() {
                true => "programs",
                false if peers::NAMES.contains(&allocator.as_str()) => "peers",
                false => continue,
            };
            if path.is_file() && !asked.contains(&path) {
                sources::check(&path, &format!("bench-harness {kind} build {allocator}"))?;
                asked.push(path);
            }
        }
    }
    Ok(())
}

/// A case for every combination, in the order in which tables show them.
fn empty_cases(plan: &Plan) -> Vec<CaseResult> {
    let mut cases = Vec::new();
    for entry in &plan.entries {
        for &series in &entry.series {
            for allocator in &plan.allocators {
                if !entry.takes(allocator, series, false) {
                    continue;
                }
                cases.push(CaseResult {
                    spec: entry.spec.clone(),
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
