//! The table of a comparison: a block per measure, a line per library.

use std::fmt::Write;

use super::results::{Case, Results, base};
use super::run::Measured;
use crate::stats::{Ratio, Summary};
use crate::table::short;

/// Something that is compared.
pub struct Measure {
    /// In files: stable.
    pub name: String,
    /// In tables; times get their unit from their length.
    title: String,
    kind: Of,
}

#[derive(Clone, Copy, PartialEq)]
enum Of {
    Wall,
    User,
    System,
    Processor,
    Rss,
    Faults,
    Metric(usize),
}

impl Measure {
    /// Everything that is compared where these figures are looked for.
    pub fn all(metrics: &[String]) -> Vec<Self> {
        let fixed = [
            ("wall_secs", "wall", Of::Wall),
            ("user_secs", "user", Of::User),
            ("sys_secs", "sys", Of::System),
            ("cpu_secs", "user + sys", Of::Processor),
            ("max_rss_kib", "max RSS, MiB", Of::Rss),
            ("minor_faults", "minor faults", Of::Faults),
        ];
        let fixed = fixed.map(|(name, title, kind)| Self {
            name: name.to_owned(),
            title: title.to_owned(),
            kind,
        });
        let metrics = metrics.iter().enumerate().map(|(i, name)| Self {
            name: name.clone(),
            title: name.clone(),
            kind: Of::Metric(i),
        });
        fixed.into_iter().chain(metrics).collect()
    }

    /// What it is in a run.
    pub fn of(&self, run: &Measured) -> Option<f64> {
        Some(match self.kind {
            Of::Wall => run.wall_secs,
            Of::User => run.user_secs,
            Of::System => run.sys_secs,
            Of::Processor => run.user_secs + run.sys_secs,
            Of::Rss => run.max_rss_kib as f64 / 1024.0,
            Of::Faults => run.minor_faults as f64,
            Of::Metric(i) => *run.metrics.get(i)?,
        })
    }

    fn is_time(&self) -> bool {
        matches!(self.kind, Of::Wall | Of::User | Of::System | Of::Processor)
    }

    /// What a ratio means in words.
    fn verdict(&self, ratio: &Ratio) -> String {
        if !ratio.is_difference() {
            return "no difference".to_owned();
        }
        match (self.is_time(), ratio.value < 1.0) {
            (true, true) => format!("{:.2} times as fast", 1.0 / ratio.value),
            (true, false) => "slower".to_owned(),
            (false, true) => "less".to_owned(),
            (false, false) => "more".to_owned(),
        }
    }
}

impl Results {
    /// The whole table.
    pub fn table(&self) -> String {
        let base = &self.results[base(&self.results)].library;
        let runs = self.results.iter().map(|c| c.runs.len()).max().unwrap_or(0);
        // Writing to a String cannot fail.
        let mut text = String::new();
        let _ = writeln!(
            text,
            "{}, {runs} runs under each library, interleaved",
            shortened(&self.program.join(" "))
        );
        let wide = self
            .results
            .iter()
            .map(|c| c.library.chars().count())
            .max()
            .unwrap_or(0)
            .max(8);
        let _ = writeln!(
            text,
            "  {:<wide$} {:>10} {:>21}  ratio to {base} [95 %]",
            "", "median", "(min–max)"
        );
        // Milliseconds throughout where a run takes less than a tenth of a second.
        let longest = self
            .results
            .iter()
            .flat_map(|c| &c.runs)
            .map(|r| r.wall_secs)
            .fold(0.0, f64::max);
        let (times, unit) = if longest < 0.1 {
            (1e3, "ms")
        } else {
            (1.0, "s")
        };
        for measure in Measure::all(&self.metrics) {
            let (times, unit) = if measure.is_time() {
                (times, format!(", {unit}"))
            } else {
                (1.0, String::new())
            };
            let _ = writeln!(text, "{}{unit}", shortened(&measure.title));
            for case in &self.results {
                let values: Vec<f64> = case.values(&measure).iter().map(|v| v.1 * times).collect();
                let Some(s) = Summary::of(&values) else {
                    continue;
                };
                let found = case.ratios.iter().find(|(name, _)| *name == measure.name);
                let ratio = match found {
                    Some((_, r)) => {
                        format!(
                            "{:.3} [{:.3}–{:.3}] {}",
                            r.value,
                            r.low,
                            r.high,
                            measure.verdict(r)
                        )
                    }
                    None if case.library == *base => "1".to_owned(),
                    None => "–".to_owned(),
                };
                let _ = writeln!(
                    text,
                    "  {:<wide$} {:>10} {:>21}  {ratio}",
                    case.library,
                    short(s.median),
                    format!("({}–{})", short(s.min), short(s.max)),
                );
            }
        }
        for case in &self.results {
            text += &failures(case);
        }
        if self.is_at_the_floor() {
            text += "max RSS: no less can be told than what the process held before it became the program\n";
        }
        text
    }

    fn is_at_the_floor(&self) -> bool {
        let runs = || self.results.iter().flat_map(|c| &c.runs);
        runs().any(|r| r.max_rss_kib <= r.rss_floor_kib + r.rss_floor_kib / 20)
    }
}

/// A line for every way in which runs failed.
fn failures(case: &Case) -> String {
    let mut ways: Vec<(&str, Vec<String>)> = Vec::new();
    for failure in &case.failures {
        let round = (failure.round + 1).to_string();
        match ways.iter_mut().find(|w| w.0 == failure.error) {
            Some(way) => way.1.push(round),
            None => ways.push((&failure.error, vec![round])),
        }
    }
    ways.iter()
        .map(|(error, rounds)| {
            let many = if rounds.len() == 1 { "run" } else { "runs" };
            format!(
                "{} {many} {} FAILED: {error}\n",
                case.library,
                rounds.join(", ")
            )
        })
        .collect()
}

/// What fits into a line.
pub fn shortened(text: &str) -> String {
    const MOST: usize = 100;
    let text = crate::fail::one_line(text);
    if text.chars().count() <= MOST {
        return text;
    }
    text.chars()
        .take(MOST - 1)
        .chain(std::iter::once('…'))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::library::Library;
    use super::*;
    use crate::machine::Machine;

    fn case(library: &str, walls: &[f64]) -> Case {
        let mut case = Case::new(&Library {
            name: library.to_owned(),
            path: None,
        });
        for (round, &wall_secs) in walls.iter().enumerate() {
            let run = Measured {
                wall_secs,
                max_rss_kib: 20480,
                rss_floor_kib: 3000,
                metrics: vec![1000.0 / wall_secs],
                ..Measured::default()
            };
            case.add(round, Ok(run));
        }
        case
    }

    fn results(cases: Vec<Case>) -> Results {
        Results::new(
            true,
            6,
            Vec::new(),
            Machine::default(),
            &["sort".to_owned(), "x".to_owned()],
            &["SET: ([0-9]+)".to_owned()],
            cases,
        )
    }

    #[test]
    fn ratios_are_to_glibc_and_said_in_words() {
        let mut broken = case("other", &[]);
        for (round, error) in [(0, "x"), (1, "exit code 3: no"), (2, "x")] {
            broken.add(round, Err(error.to_owned()));
        }
        let results = results(vec![
            case("hakmem", &[1.0, 1.1, 0.9]),
            case("glibc", &[2.0, 2.2, 1.8]),
            broken,
        ]);
        let table = results.table();
        for wanted in [
            "sort x, 3 runs under each library, interleaved",
            "ratio to glibc",
            "  hakmem         1.00          (0.900–1.10)  0.500 [0.500–0.500] 2.00 times as fast",
            "  glibc          2.00           (1.80–2.20)  1\n",
            "0.500 [0.500–0.500] 2.00 times as fast",
            "2.000 [2.000–2.000] more",
            "20.0           (20.0–20.0)  1.000 [1.000–1.000] no difference",
            "\nother runs 1, 3 FAILED: x\nother run 2 FAILED: exit code 3: no\n",
            "\nwall, s\n",
        ] {
            assert!(table.contains(wanted), "{wanted:?} is missing:\n{table}");
        }
        assert!(!table.contains("no less can be told"), "{table}");
        // No user time was measured: there is nothing to compare.
        assert!(
            results.results[0]
                .ratios
                .iter()
                .all(|(name, _)| name != "user_secs")
        );
        let csv = results.csv();
        assert_eq!(csv.lines().count(), 7);
        assert!(csv.lines().all(|l| l.split(',').count() == 9), "{csv}");
    }
}
