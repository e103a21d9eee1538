//! The table of a comparison: a block per measure, a line per library.

use super::measures::Measure;
use super::results::{Case, Results, base};
use crate::stats::Summary;
use crate::table::plain;
use crate::text::{self, short};

impl Results {
    pub fn table(&self) -> String {
        let base = &self.results[base(&self.results)].library;
        let runs = self.results.iter().map(|c| c.runs.len()).max().unwrap_or(0);
        // Milliseconds throughout where a run takes less than a tenth of a second.
        let longest = self.results.iter().flat_map(|c| &c.runs).map(|r| r.wall_secs).fold(0.0, f64::max);
        let (times, unit) = if longest < 0.1 { (1e3, "ms") } else { (1.0, "s") };
        let mut rows = Vec::new();
        for measure in Measure::all(&self.metrics) {
            let (times, unit) = if measure.is_time() { (times, format!(", {unit}")) } else { (1.0, String::new()) };
            let mut title = format!("{}{unit}", shortened(&measure.title));
            for case in &self.results {
                let values: Vec<f64> = case.values(&measure).iter().map(|v| v.1 * times).collect();
                let Some(s) = Summary::of(&values) else { continue };
                let found = case.ratios.iter().find(|(name, _)| *name == measure.name);
                let ratio = match found {
                    Some((_, r)) => format!("{} {}", text::ratio(r), measure.verdict(r)),
                    None if case.library == *base => "1".to_owned(),
                    None => "–".to_owned(),
                };
                let range = format!("({}–{})", short(s.min), short(s.max));
                rows.push(vec![std::mem::take(&mut title), case.library.clone(), short(s.median), range, ratio]);
            }
        }
        let head = ["", "library", "median", "(min–max)", &format!("ratio to {base} [95 %]")].map(str::to_owned);
        let mut text = format!(
            "{}, {} under each library, interleaved\n",
            shortened(&self.program.join(" ")),
            text::counted(runs, "run")
        );
        text += &plain(&head, rows, 2);
        text.extend(self.results.iter().map(failures));
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
            format!("{} {many} {} FAILED: {error}\n", case.library, rounds.join(", "))
        })
        .collect()
}

pub fn shortened(text: &str) -> String {
    const MOST: usize = 100;
    let text = bench_subject::one_line(text);
    if text.chars().count() <= MOST {
        return text;
    }
    text.chars().take(MOST - 1).chain(std::iter::once('…')).collect()
}

#[cfg(test)]
mod tests {
    use super::super::library::Library;
    use super::super::run::Measured;
    use super::*;
    use crate::machine::Machine;

    fn case(library: &str, walls: &[f64]) -> Case {
        let mut case = Case::new(&Library { name: library.to_owned(), path: None });
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
            case("hakmem", &[1.0, 1.1, 0.9, 1.0, 1.0]),
            case("glibc", &[2.0, 2.2, 1.8, 2.0, 2.0]),
            broken,
        ]);
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
