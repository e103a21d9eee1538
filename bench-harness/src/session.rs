//! One measurement from the plan to the table and the files, whoever interrupts it.
//!
//! The results file is written anew every few seconds and says that it is incomplete, so that whatever ends the harness
//! leaves what was measured. `--resume` reads it, skips the runs that are in it, and goes on.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use bench_subject::latency::VARIABLE as LATENCY;
use bench_subject::record::{Order, Run};
use itertools::Itertools;

use crate::fail::Fail;
use crate::options::{Files, RunOptions};
use crate::output::{self, Target};
use crate::plan::{self, Entry, Job};
use crate::results::{CaseResult, FLOOR, Results, compare_checksums};
use crate::suite::Extent;
use crate::{exact, figures, host_warm, interrupt, resume, runner, subjects, suite, table, text, workloads};

/// How often the results file is written while it is measured.
const SAVE_EVERY: Duration = Duration::from_secs(10);

/// How often it is said how far the measurement is. Nothing runs in between: a thread that redraws would be measured as well.
const SAY_EVERY: Duration = Duration::from_secs(5);

/// Checks everything, measures, prints the table and writes the files. `all` is the plan that the entries are of, if they are
/// of one: it says beforehand how long it will take, and cuts itself where it is to be quick.
pub fn measure(
    mut entries: Vec<Entry>,
    allocators: &[String],
    all: Option<Extent>,
    options: &RunOptions,
) -> Result<(), Fail> {
    for entry in &mut entries {
        if let Some(share) = options.scale_by {
            entry.scale(share);
        }
        workloads::check(&entry.spec).map_err(Fail::usage)?;
    }
    check_takes(&entries, allocators)?;
    if options.exact {
        subjects::check_tools("--exact", &exact::TOOLS)?;
    }
    let mut session = Session::new(&options.files)?;
    let (estimate, quick) = (all.is_some(), all == Some(Extent::Quick));
    // Exact figures are those above the floor, whether it is asked for or not.
    let floor = options.exact.then(|| FLOOR.to_owned());
    let started: Vec<_> = allocators.iter().cloned().chain(floor).collect();
    subjects::prepare(&plan::cases(&entries, &started))?;
    interrupt::watch();

    // What is built does not count: it is built once.
    let start = Instant::now();
    let factor = if estimate { suite::calibrate() } else { 1.0 };
    if quick {
        suite::cut(&mut entries, allocators, factor);
    }
    let peak = entries.iter().map(|e| workloads::memory(&e.spec)).max().unwrap_or(0);
    let cases = plan::cases(&entries, allocators);
    let program = |c: &CaseResult| (c.allocator.clone(), subjects::workspace(&c.spec).executable(&c.allocator));
    let programs = cases.iter().map(program).collect();
    session.begin(cases, programs, options.files.drift_bound)?;
    session.taken = factor;
    session.deadline = quick.then(|| start + Duration::from_secs_f64(suite::QUICK_LIMIT));
    let left = session.left(options.latency);
    if !options.no_host_warm && !left.is_empty() {
        host_warm::warm(peak.saturating_mul(2), Duration::from_secs(if quick { 8 } else { 120 }));
    }
    if estimate && !left.is_empty() {
        let factor = format!("this machine takes {factor:.1} times as long as the reference");
        output::say(&format!(
            "estimate: {} for {} runs; {factor}\n",
            text::about(session.time_left(&left)),
            left.len()
        ));
    }
    let limit = Duration::from_secs(options.files.time_limit.unwrap_or(120));
    session.run(&left, limit, &|case, latency, limit| {
        let order = Order { spec: case.spec.clone(), series: case.series };
        let variables: &[_] = if latency { &[(LATENCY, "1")] } else { &[] };
        runner::run(&case.allocator, &order, limit, variables)
    });
    compare_checksums(&mut session.results.results);
    if options.exact && !interrupt::asked() {
        exact::count(&mut session.results.results, limit);
    }
    session.finish()
}

/// Refuses combinations of which none can be run.
fn check_takes(entries: &[Entry], allocators: &[String]) -> Result<(), Fail> {
    for entry in entries {
        let (spec, name) = (&entry.spec, &entry.spec.workload);
        let takes = |a: &String| entry.series.iter().any(|&s| workloads::takes(spec, a, s));
        if !allocators.iter().any(takes) {
            let own = workloads::find(name).iter().flat_map(|r| &r.series).join(", ");
            return Err(Fail::usage(format!(
                "{name}: none of {} can be measured in the series asked for; expected a series of {own} and an allocator \
                 that serves",
                allocators.join(", ")
            )));
        }
        subjects::check_program(spec, allocators.iter().filter(|a| takes(a)))?;
    }
    Ok(())
}

pub struct Session {
    /// What was measured so far; before it begins, what an interrupted measurement left.
    pub results: Results,
    resumed: bool,
    deadline: Option<Instant>,
    /// Seconds that the runs so far were expected to take by the table and have taken; a second is there from the start, so
    /// that the first runs do not throw everything over.
    expected: f64,
    pub taken: f64,
    json: Option<Target>,
    csv: Option<Target>,
    saved: Instant,
    said: Instant,
}

/// Runs a case, single calls timed or not, for at most so long.
pub type Start<'a> = &'a dyn Fn(&CaseResult, bool, Duration) -> Result<Run, String>;

impl Session {
    /// Refuses files that cannot be written or must not be overwritten.
    pub fn new(files: &Files) -> Result<Session, Fail> {
        let json = files.json.as_deref().map(Target::new).transpose()?;
        let csv = files.csv.as_deref().map(Target::new).transpose()?;
        let earlier = resume::earlier(files.json.as_deref(), files.resume)?;
        let (resumed, results, now) = (earlier.is_some(), earlier.unwrap_or_default(), Instant::now());
        Ok(Session { results, resumed, deadline: None, expected: 1.0, taken: 1.0, json, csv, saved: now, said: now })
    }

    /// Begins with these cases, or goes on with those of an interrupted measurement; `programs` are what it starts, for each
    /// allocator.
    pub fn begin(
        &mut self,
        cases: Vec<CaseResult>,
        programs: Vec<(String, PathBuf)>,
        noise_bound: f64,
    ) -> Result<(), Fail> {
        let marks = resume::marks(programs);
        match self.resumed {
            true => resume::check(&self.results, &marks)?,
            false => self.results = Results::new(cases, marks, noise_bound),
        }
        (self.saved, self.said) = (Instant::now(), Instant::now());
        Ok(())
    }

    /// The jobs whose runs are not there yet.
    pub fn left(&self, latency: bool) -> Vec<Job> {
        let cases = &self.results.results;
        let there: usize = cases.iter().map(CaseResult::tried).sum();
        if there > 0 {
            output::say(&format!("resumed: {there} of {} runs are there already\n", self.results.planned_runs));
        }
        plan::jobs(cases, latency)
    }

    /// Runs them until they are through, its time is up, or someone interrupts.
    pub fn run(&mut self, jobs: &[Job], limit: Duration, start: Start) {
        for (i, job) in jobs.iter().enumerate() {
            let left = self.time_left(&jobs[i..]);
            let rest = self.deadline.map(|d| d.saturating_duration_since(Instant::now()));
            if interrupt::asked() || rest.is_some_and(|r| r < self.time_left(&jobs[i..=i])) {
                return;
            }
            let case = &self.results.results[job.case];
            let what = format!("{} {} {}", case.spec.workload, case.series, case.allocator);
            if self.said.elapsed() >= SAY_EVERY {
                self.said = Instant::now();
                output::say(&format!("{i} of {} runs, {} left: {what}\n", jobs.len(), text::about(left)));
            }
            let began = Instant::now();
            let run = start(case, job.latency, limit.min(rest.unwrap_or(limit)));
            // What was being ended measured nothing, nor was a run hung whose time was up.
            if interrupt::asked() || run.is_err() && rest.is_some_and(|r| began.elapsed() >= r) {
                return;
            }
            self.expected += suite::secs(case.secs, case.series);
            self.taken += began.elapsed().as_secs_f64();
            let case = &mut self.results.results[job.case];
            match run {
                run if !job.latency => case.add(job.round, run),
                Ok(run) => case.latency = run.latency,
                // Its case is left without times.
                Err(e) => output::say(&format!("latency: {what}: {e}\n")),
            }
            if self.saved.elapsed() > SAVE_EVERY {
                self.saved = Instant::now();
                if let Err(e) = self.save() {
                    output::say(&format!("bench-harness: {e}; measuring on\n"));
                }
            }
        }
    }

    pub fn time_left(&self, jobs: &[Job]) -> Duration {
        let case = |job: &Job| &self.results.results[job.case];
        let secs: f64 = jobs.iter().map(case).map(|c| suite::secs(c.secs, c.series)).sum();
        Duration::from_secs_f64(secs * self.taken / self.expected)
    }

    fn save(&self) -> Result<(), Fail> {
        self.json.as_ref().map_or(Ok(()), |json| json.write(&output::json(&self.results)?))
    }

    /// Works out what the runs mean, writes the files and prints the table.
    pub fn finish(mut self) -> Result<(), Fail> {
        let own = || self.results.results.iter().filter(|c| c.planned > 0);
        let failures: usize = own().map(|c| c.failures.len()).sum();
        let done: usize = own().map(CaseResult::tried).sum();
        let planned = self.results.planned_runs;
        let interrupted = interrupt::asked();
        let cut = (done < planned).then(|| {
            let why = if interrupted { "interrupted" } else { "its time was up" };
            format!("{why}: {done} of {planned} planned runs were made")
        });
        let groups = figures::groups(&self.results);
        let warnings: Vec<String> =
            cut.into_iter().chain(subjects::which_given()).chain(self.results.notes()).collect();
        let measured = if groups.is_empty() { String::new() } else { table::render(&groups) };
        let shown = warnings.iter().map(|w| format!("warning: {w}\n")).collect::<String>() + &measured;
        self.results.warnings = warnings;
        self.results.complete = !interrupted;
        if !interrupted {
            // Only an interrupted measurement can be gone on with.
            self.results.programs = Vec::new();
            self.results.results.iter_mut().for_each(|case| (case.planned, case.secs) = (0, None));
        }
        // Files first: whoever reads the table may be gone. A file that cannot be written does not take the table with it.
        let csv = self.csv.as_ref().map_or(Ok(()), |csv| {
            csv.write(&self.results.csv().map_err(|e| Fail::run(format!("results as CSV: {e}")))?)
        });
        let written = self.save().and(csv);
        output::show(&shown).and(written)?;
        if interrupted {
            let kept = match &self.json {
                Some(json) => {
                    format!("{} has what was measured; the same command with --resume goes on", json.path.display())
                }
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
