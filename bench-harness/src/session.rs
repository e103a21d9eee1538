//! One measurement from the plan to the table and the files, whoever interrupts it.
//!
//! The results file is written anew every few seconds and says that it is incomplete, so that whatever ends the harness
//! leaves what was measured. `--resume` reads it, skips the runs that are in it, and goes on.

use std::time::{Duration, Instant};

use bench_subject::latency::VARIABLE as LATENCY;
use bench_subject::record::{Order, Run, Series};

use crate::fail::Fail;
use crate::options::RunOptions;
use crate::output::{self, Target};
use crate::plan::{Entry, Job, Plan};
use crate::progress::{Pace, Progress};
use crate::results::{CaseResult, Results, SCHEMA, compare_checksums};
use crate::resume::{earlier, going_on, program_marks};
use crate::{exact, figures, host_warm, interrupt, machine, runner, subjects, suite, table};

/// What a run takes where no table says it, in seconds.
const UNKNOWN_SECS: f64 = 0.5;

/// How often the results file is written while it is measured.
const SAVE_EVERY: Duration = Duration::from_secs(10);

/// What is to be measured, and for how long.
#[derive(Debug)]
pub struct Request {
    pub entries: Vec<Entry>,
    pub allocators: Vec<String>,
    /// Whether the time it will take is said beforehand.
    pub estimate: bool,
    /// Whether rounds and sizes are cut so that it ends within [`suite::QUICK_LIMIT`] seconds.
    pub quick: bool,
}

/// Checks everything, measures, prints the table and writes the files.
pub fn measure(mut request: Request, options: &RunOptions) -> Result<(), Fail> {
    for entry in &mut request.entries {
        if let Some(share) = options.scale_by {
            entry.spec.scale(share);
            entry.secs = entry.secs.map(|s| s * share);
        }
        entry.spec.check().map_err(Fail::usage)?;
    }
    check_takes(&request)?;
    if options.exact {
        exact::check_tools()?;
    }
    let json = options.json.as_deref().map(Target::new).transpose()?;
    let csv = options.csv.as_deref().map(Target::new).transpose()?;
    let earlier = earlier(json.as_ref(), options.resume)?;
    let specs: Vec<_> = request.entries.iter().map(|e| e.spec.clone()).collect();
    subjects::prepare(&specs, &request.allocators)?;
    interrupt::watch();

    // What is built does not count: it is built once.
    let start = Instant::now();
    let deadline = request.quick.then(|| start + Duration::from_secs_f64(suite::QUICK_LIMIT));
    let Request { mut entries, allocators, estimate, quick } = request;
    let factor = if estimate { suite::calibrate() } else { 1.0 };
    if quick && earlier.is_none() {
        suite::cut(&mut entries, &allocators, factor);
    }
    let plan = Plan {
        entries,
        allocators,
        latency: options.latency,
        settle_ms: options.settle_ms()?,
        order_seed: options.order_seed,
    };
    let programs = program_marks(&plan);
    let results = match earlier {
        Some(earlier) => going_on(earlier, &plan, &programs)?,
        None => fresh(&plan, programs, options.drift_bound),
    };
    let rest = plan.settle_ms.unwrap_or(0) as f64 / 1e3;
    let expected = plan.cases().iter().map(|c| plan.entries[c.0].secs.unwrap_or(UNKNOWN_SECS) + rest).collect();
    let mut session = Session {
        plan,
        expected,
        limit: Duration::from_secs(options.time_limit),
        deadline,
        pace: Pace::new(factor),
        json,
        saved: Instant::now(),
        results,
    };
    let left = session.left();
    if !options.no_host_warm && !left.is_empty() {
        let peak = session.plan.entries.iter().map(|e| e.spec.peak_bytes()).max().unwrap_or(0);
        let limit = if quick { Duration::from_secs(8) } else { Duration::from_secs(120) };
        host_warm::warm(peak.saturating_mul(2), limit)?;
    }
    if estimate && !left.is_empty() {
        output::say(&suite::estimate(&session.plan, left.len(), session.time_left(&left), factor));
    }
    session.run(&left);
    session.finish(options.exact, csv)
}

/// Refuses combinations of which none can be run.
fn check_takes(request: &Request) -> Result<(), Fail> {
    for entry in &request.entries {
        let (spec, name) = (&entry.spec, &entry.spec.workload);
        let takes = |a: &String| entry.series.iter().any(|&s| spec.takes(a, s));
        if !request.allocators.iter().any(takes) {
            let own = spec.row().map_or(&[][..], |r| r.series);
            let own: Vec<&str> = own.iter().map(|s| s.name()).collect();
            return Err(Fail::usage(format!(
                "{name}: none of {} can be measured in the series asked for; expected a series of {} and an allocator that \
                 serves",
                request.allocators.join(", "),
                own.join(", ")
            )));
        }
        let workspace = subjects::workspace(spec);
        let missing = |a: &&String| takes(a) && spec.is_program() && !workspace.is_built(a);
        if let Some(missing) = request.allocators.iter().find(missing) {
            return Err(Fail::usage(format!(
                "{name} is not built with {missing} yet: run bench-harness programs build {missing}"
            )));
        }
    }
    Ok(())
}

fn fresh(plan: &Plan, programs: Vec<(String, String)>, noise_bound: f64) -> Results {
    let case = |(entry, series, allocator): (usize, Series, &str)| {
        CaseResult::new(plan.entries[entry].spec.clone(), allocator, series)
    };
    Results {
        schema: SCHEMA,
        complete: false,
        planned_runs: plan.runs(),
        noise_bound,
        warnings: Vec::new(),
        machine: machine::describe().probed(),
        plan: Some(plan.clone()),
        programs,
        results: plan.cases().into_iter().map(case).collect(),
    }
}

struct Session {
    /// Its cases are those of the results, in the same order.
    plan: Plan,
    /// Seconds that a run of each case takes on the machine the estimates were made on.
    expected: Vec<f64>,
    limit: Duration,
    deadline: Option<Instant>,
    pace: Pace<usize>,
    json: Option<Target>,
    saved: Instant,
    results: Results,
}

impl Session {
    /// The jobs whose runs are not there yet.
    fn left(&self) -> Vec<Job> {
        let mut jobs = self.plan.jobs();
        let all = jobs.len();
        jobs.retain(|job| match (job.latency, &self.results.results[job.case]) {
            (true, case) => case.latency.is_none(),
            (false, case) => !case.rounds.contains(&job.round) && !case.failures.iter().any(|f| f.round == job.round),
        });
        if jobs.len() < all {
            output::say(&format!("resumed: {} of {all} runs are there already\n", all - jobs.len()));
        }
        jobs
    }

    fn run(&mut self, jobs: &[Job]) {
        let mut progress = Progress::new(jobs.len());
        for (i, job) in jobs.iter().enumerate() {
            let expected = self.pace.guess(&job.case, self.expected[job.case]);
            let rest = self.deadline.map(|d| d.saturating_duration_since(Instant::now()));
            if interrupt::asked() || rest.is_some_and(|r| r.as_secs_f64() < expected) {
                return;
            }
            let case = &self.results.results[job.case];
            let what = format!("{} {} {}", case.spec.workload, case.series, case.allocator);
            progress.starts(&what, self.time_left(&jobs[i..]));
            let start = Instant::now();
            let outcome = self.start(job, rest);
            if interrupt::asked() {
                // Whatever this run measured, it was measured while being ended.
                return;
            }
            if outcome.run.is_err() && rest.is_some_and(|r| start.elapsed() >= r) {
                // It was not hung: its time was up.
                return;
            }
            self.pace.saw(job.case, self.expected[job.case], start.elapsed().as_secs_f64());
            if !outcome.messages.trim().is_empty() && outcome.run.is_ok() {
                progress.say(&outcome.messages);
            }
            if let (true, Err(e)) = (job.latency, &outcome.run) {
                progress.say(&format!("latency: {what}: {e}\n"));
            }
            self.note(job, outcome.run);
            progress.done(1);
            if self.saved.elapsed() > SAVE_EVERY {
                self.saved = Instant::now();
                if let Err(e) = self.save() {
                    progress.say(&format!("bench-harness: {e}; measuring on\n"));
                }
            }
        }
    }

    fn start(&self, job: &Job, rest: Option<Duration>) -> runner::Outcome {
        let case = &self.results.results[job.case];
        let settle_ms = self.plan.settle_ms.filter(|_| !job.latency);
        let order = Order { spec: case.spec.clone(), series: case.series, settle_ms };
        let variables: &[_] = if job.latency { &[(LATENCY, "1")] } else { &[] };
        runner::run(&case.allocator, &order, self.limit.min(rest.unwrap_or(self.limit)), variables)
    }

    /// Enters an outcome where it belongs. A sampling run that failed leaves its case without times.
    fn note(&mut self, job: &Job, outcome: Result<Run, String>) {
        let case = &mut self.results.results[job.case];
        match outcome {
            Ok(run) if job.latency => case.latency = run.latency,
            Err(_) if job.latency => {}
            outcome => case.add(job.round, outcome),
        }
    }

    fn time_left(&self, jobs: &[Job]) -> Duration {
        let left = |job: &Job| self.pace.guess(&job.case, self.expected[job.case]);
        Duration::from_secs_f64(jobs.iter().map(left).sum())
    }

    fn save(&self) -> Result<(), Fail> {
        match self.json.as_ref().filter(|t| t.file().is_some()) {
            Some(json) => json.write(&self.results.json()?),
            None => Ok(()),
        }
    }

    /// Works out what the runs mean, writes the files and prints the table.
    fn finish(mut self, exact: bool, csv: Option<Target>) -> Result<(), Fail> {
        compare_checksums(&mut self.results.results);
        if exact && !interrupt::asked() {
            exact::count(&mut self.results.results, self.limit);
        }
        let made = |c: &CaseResult| c.runs.len() + c.failures.len();
        let done: usize = self.results.results.iter().map(made).sum();
        let failures: usize = self.results.results.iter().map(|c| c.failures.len()).sum();
        let planned = self.results.planned_runs;
        let interrupted = interrupt::asked();
        self.results.complete = !interrupted;
        self.results.warnings = Vec::new();
        if done < planned {
            let why = if interrupted { "interrupted" } else { "its time was up" };
            self.results.warnings.push(format!("{why}: {done} of {planned} planned runs were made"));
        }
        let groups = figures::groups(&self.results);
        let noisy =
            groups.iter().filter_map(|g| Some(format!("{}: {}: it does not count", g.words(), g.noise.as_ref()?)));
        let noisy: Vec<String> = noisy.collect();
        let shown = if groups.is_empty() { String::new() } else { table::render(&groups) };
        self.results.warnings.extend(noisy);
        if !interrupted {
            // Only an interrupted measurement can be gone on with.
            (self.results.plan, self.results.programs) = (None, Vec::new());
        }
        let shown = table::warnings(&self.results.warnings) + &shown;
        // Files first: whoever reads the table may be gone. A file that cannot be written does not take the table with it.
        let mut written = csv.map_or(Ok(()), |csv| csv.write(&self.results.csv()?));
        if let Some(json) = &self.json {
            written = json.write(&self.results.json()?).and(written);
        }
        output::show(&shown).and(written)?;
        if interrupted {
            let kept = match self.json.as_ref().map(|t| t.file()) {
                Some(Some(path)) => {
                    format!("{} has what was measured; the same command with --resume goes on", path.display())
                }
                Some(None) => "what was measured was written".to_owned(),
                None => "nothing was kept on disk: with --json FILE it could be resumed".to_owned(),
            };
            return Err(Fail { code: 130, line: format!("interrupted after {done} of {planned} runs; {kept}") });
        }
        match failures {
            0 => Ok(()),
            n => Err(Fail::run(format!("{n} of {planned} runs failed; the table says how"))),
        }
    }
}
