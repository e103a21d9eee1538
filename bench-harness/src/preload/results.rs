//! What a comparison of programs found: what is compared of the runs, the table, and the files it is kept in.

use serde::{Deserialize, Serialize};

use super::library::{GLIBC, Library};
use super::run::Measured;

use crate::fail::Fail;
use crate::machine::Machine;
use crate::output;
use crate::results::Failure;
use crate::stats::{LEAST_PAIRS, Ratio, Summary, ratio};
use crate::table::plain;
use crate::text::{self, counted, short};

/// What is compared: its name in files, which is stable, its title, whether it is a time, and what it is in a run.
type Measure = (&'static str, &'static str, bool, fn(&Measured) -> f64);

const MEASURES: [Measure; 6] = [
    ("wall_secs", "wall", true, |r| r.wall_secs),
    ("user_secs", "user", true, |r| r.user_secs),
    ("sys_secs", "sys", true, |r| r.sys_secs),
    ("cpu_secs", "user + sys", true, |r| r.user_secs + r.sys_secs),
    ("max_rss_kib", "max RSS, MiB", false, |r| r.max_rss_kib as f64 / 1024.0),
    ("minor_faults", "minor faults", false, |r| r.minor_faults as f64),
];

/// All runs under one library.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Case {
    pub library: String,
    pub path: Option<String>,
    pub runs: Vec<Measured>,
    /// The round of each.
    pub rounds: Vec<usize>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<Failure>,
    /// Bytes our library says it mapped in the untimed run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub served_bytes: Option<u64>,
    /// Ratios to the base's, by the name of the measure.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ratios: Vec<(String, Ratio)>,
}

impl Case {
    pub fn new(library: &Library) -> Self {
        Self {
            library: library.name.clone(),
            path: library.path.as_ref().map(|p| p.display().to_string()),
            runs: Vec::new(),
            rounds: Vec::new(),
            failures: Vec::new(),
            served_bytes: None,
            ratios: Vec::new(),
        }
    }

    pub fn add(&mut self, round: usize, outcome: Result<Measured, String>) {
        match outcome {
            Ok(run) => {
                self.runs.push(run);
                self.rounds.push(round);
            }
            Err(error) => self.failures.push(Failure { round, error }),
        }
    }

    /// What `of` says of each run, with its round.
    fn values(&self, of: impl Fn(&Measured) -> Option<f64>) -> Vec<(usize, f64)> {
        self.rounds.iter().zip(&self.runs).filter_map(|(&round, run)| Some((round, of(run)?))).collect()
    }

    /// A line for every way in which runs failed.
    fn failed(&self) -> String {
        let mut ways: Vec<(&str, Vec<String>)> = Vec::new();
        for failure in &self.failures {
            let round = (failure.round + 1).to_string();
            match ways.iter_mut().find(|w| w.0 == failure.error) {
                Some(way) => way.1.push(round),
                None => ways.push((&failure.error, vec![round])),
            }
        }
        let many = |rounds: &[String]| if rounds.len() == 1 { "run" } else { "runs" };
        let line = |(error, rounds): &(&str, Vec<String>)| {
            format!("{} {} {} FAILED: {error}\n", self.library, many(rounds), rounds.join(", "))
        };
        ways.iter().map(line).collect()
    }
}

/// The library ratios refer to: glibc where it is among them, else the first.
pub fn base(cases: &[Case]) -> usize {
    cases.iter().position(|c| c.library == GLIBC).unwrap_or(0)
}

/// A results file of a comparison.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Results {
    pub schema: u32,
    /// Always "preload": programs under preloaded libraries.
    pub kind: String,
    pub complete: bool,
    pub planned_runs: usize,
    /// What a reader has to know before believing a figure.
    pub warnings: Vec<String>,
    pub machine: Machine,
    /// The program and its arguments.
    pub program: Vec<String>,
    /// The expressions that find figures in its output.
    pub metrics: Vec<String>,
    pub results: Vec<Case>,
}

impl Results {
    /// Everything that is compared: name, title, whether it is a time, and the values of a case.
    fn each(&self, mut with: impl FnMut(&str, &str, bool, &dyn Fn(&Case) -> Vec<(usize, f64)>)) {
        for (name, title, time, of) in MEASURES {
            with(name, title, time, &|c| c.values(|r| Some(of(r))));
        }
        for (i, metric) in self.metrics.iter().enumerate() {
            with(metric, metric, false, &|c| c.values(|r| r.metrics.get(i).copied()));
        }
    }

    /// Works the ratios out.
    pub fn compare(mut self) -> Self {
        let base = base(&self.results);
        let mut ratios: Vec<Vec<(String, Ratio)>> = vec![Vec::new(); self.results.len()];
        self.each(|name, _, _, values| {
            for (i, case) in self.results.iter().enumerate().filter(|(i, _)| *i != base) {
                // Times of nothing at all cannot be compared.
                let found = ratio(&values(case), &values(&self.results[base]));
                ratios[i].extend(found.map(|r| (name.to_owned(), r)));
            }
        });
        self.results.iter_mut().zip(ratios).for_each(|(case, ratios)| case.ratios = ratios);
        self
    }

    /// A line per run.
    pub fn csv(&self) -> Result<String, Fail> {
        let head =
            ["library", "round", "wall_secs", "user_secs", "sys_secs", "max_rss_kib", "minor_faults", "major_faults"];
        output::csv(head.into_iter().chain(self.metrics.iter().map(String::as_str)), |lines| {
            for case in &self.results {
                for (round, r) in case.rounds.iter().zip(&case.runs) {
                    let times = (r.wall_secs, r.user_secs, r.sys_secs, r.max_rss_kib, r.minor_faults, r.major_faults);
                    lines.serialize((&case.library, round, times, &r.metrics))?;
                }
            }
            Ok(())
        })
    }

    /// A block per measure, a line per library.
    pub fn table(&self) -> String {
        let base = &self.results[base(&self.results)].library;
        let all = || self.results.iter().flat_map(|c| &c.runs);
        // Milliseconds throughout where a run takes less than a tenth of a second.
        let (times, unit) = if all().all(|r| r.wall_secs < 0.1) { (1e3, "ms") } else { (1.0, "s") };
        let mut rows = Vec::new();
        self.each(|name, title, time, values| {
            let times = if time { times } else { 1.0 };
            let mut title = if time { format!("{title}, {unit}") } else { shortened(title) };
            for case in &self.results {
                let Some(s) = Summary::of(&values(case).iter().map(|v| v.1 * times).collect::<Vec<_>>()) else {
                    continue;
                };
                let ratio = match case.ratios.iter().find(|(n, _)| n == name) {
                    Some((_, r)) => format!("{} {}", text::ratio(r), verdict(r, time)),
                    None if case.library == *base => "1".to_owned(),
                    None => "–".to_owned(),
                };
                let range = format!("({}–{})", short(s.min), short(s.max));
                rows.push(vec![std::mem::take(&mut title), case.library.clone(), short(s.median), range, ratio]);
            }
        });
        let head = ["", "library", "median", "(min–max)", &format!("ratio to {base} [95 %]")].map(str::to_owned);
        let runs = counted(self.results.iter().map(|c| c.runs.len()).max().unwrap_or(0), "run");
        let mut text = format!("{}, {runs} under each library, interleaved\n", shortened(&self.program.join(" ")));
        text += &plain(&head, rows, 2);
        text.extend(self.results.iter().map(Case::failed));
        if all().any(|r| r.max_rss_kib <= r.rss_floor_kib + r.rss_floor_kib / 20) {
            text += "max RSS: no less can be told than what the process held before it became the program\n";
        }
        text
    }
}

/// What a ratio means in words.
fn verdict(ratio: &Ratio, time: bool) -> String {
    match (time, ratio.value < 1.0) {
        _ if ratio.pairs < LEAST_PAIRS => "too few runs to tell".to_owned(),
        _ if !ratio.is_difference() => "no difference".to_owned(),
        (true, true) => format!("{:.2} times as fast", 1.0 / ratio.value),
        (true, false) => "slower".to_owned(),
        (false, true) => "less".to_owned(),
        (false, false) => "more".to_owned(),
    }
}

/// What fits into a line.
pub fn shortened(text: &str) -> String {
    const MOST: usize = 100;
    let text = bench_subject::one_line(text);
    if text.chars().count() <= MOST {
        return text;
    }
    text.chars().take(MOST - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case(library: &str, walls: &[f64]) -> Case {
        let mut case = Case::new(&Library { name: library.to_owned(), path: None });
        for (round, &wall_secs) in walls.iter().enumerate() {
            let metrics = vec![1000.0 / wall_secs];
            let run = Measured { wall_secs, max_rss_kib: 20480, rss_floor_kib: 3000, metrics, ..Measured::default() };
            case.add(round, Ok(run));
        }
        case
    }

    #[test]
    fn ratios_are_to_glibc_and_said_in_words() {
        let mut broken = case("other", &[]);
        for (round, error) in [(0, "x"), (1, "exit code 3: no"), (2, "x")] {
            broken.add(round, Err(error.to_owned()));
        }
        let ours = case("hakmem", &[1.0, 1.1, 0.9, 1.0, 1.0]);
        let results = Results {
            schema: 1,
            kind: "preload".to_owned(),
            complete: true,
            planned_runs: 6,
            warnings: Vec::new(),
            machine: Machine::default(),
            program: ["sort", "x"].map(str::to_owned).to_vec(),
            metrics: vec!["SET: ([0-9]+)".to_owned()],
            results: vec![ours, case("glibc", &[2.0, 2.2, 1.8, 2.0, 2.0]), broken],
        }
        .compare();
        let table = results.table();
        for wanted in [
            "sort x, 5 runs under each library, interleaved",
            "ratio to glibc",
            "wall, s        hakmem  1.00  (0.900–1.10)",
            "0.50 [0.50–0.50] 2.00 times as fast",
            "2.00 [2.00–2.00] more",
            "= 1.00 [1.00–1.00] no difference",
            "\nother runs 1, 3 FAILED: x\nother run 2 FAILED: exit code 3: no\n",
        ] {
            let words = |text: &str| text.split(' ').filter(|w| !w.is_empty()).collect::<Vec<_>>().join(" ");
            assert!(words(&table).contains(&words(wanted)), "{wanted:?} is missing:\n{table}");
        }
        assert!(!table.contains("no less can be told"), "{table}");
        // No user time was measured: there is nothing to compare.
        assert!(results.results[0].ratios.iter().all(|(name, _)| name != "user_secs"));
        let csv = results.csv().unwrap();
        assert_eq!(csv.lines().count(), 11);
        assert!(csv.lines().all(|l| l.split(',').count() == 9), "{csv}");
    }
}
