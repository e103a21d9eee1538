//! A results file as Markdown: a table per measurement, or who wins what in one table for a README.

use clap::Args;

use bench_subject::one_line;

use crate::fail::Fail;
use crate::figures::{self, Entry, Group, Verdict};
use crate::results::{BASE, FLOOR, Results};
use crate::stats::Summary;
use crate::table::exact;
use crate::text::{self, short};
use crate::{finding, output};

/// What markdown is asked.
#[derive(Debug, Args)]
pub struct Markdown {
    /// The results file
    pub results: std::path::PathBuf,
    /// One table of all measurements: the ratio of each allocator to system malloc, and who is first
    #[arg(long)]
    pub summary: bool,
}

/// Prints the tables.
pub fn run(markdown: &Markdown) -> Result<(), Fail> {
    let results = Results::read(&markdown.results)?;
    let groups = figures::groups(&results);
    let text = if markdown.summary { matrix(&groups) } else { tables(&groups) };
    let notes: String = results.warnings.iter().map(|w| format!("> {}\n", cell(w))).collect();
    output::show(&(notes + &text))
}

fn line(cells: &[String]) -> String {
    format!("| {} |\n", cells.join(" | "))
}

/// One table per measurement.
pub fn tables(groups: &[Group]) -> String {
    let mut text = String::new();
    for group in groups {
        text +=
            &format!("\n**{}** {}, {}, by {}\n\n", group.name, cell(&group.title), group.series, group.measure.words());
        if let Some(noise) = &group.noise {
            text += &format!("Noisy, does not count: {}.\n\n", cell(noise));
        }
        text += "| allocator | M ops/s (min–max) | ratio to system [95 %] | above the floor | instructions | system calls | \
                 page faults | RSS MiB (left) |\n|---|---|---|---|---|---|---|---|\n";
        text.extend(group.entries.iter().map(|e| line(&row(group, e))));
    }
    text
}

fn row(group: &Group, entry: &Entry) -> Vec<String> {
    let speeds: Vec<f64> = entry.case.runs.iter().map(|r| r.ops_per_sec / 1e6).collect();
    let failures = &entry.case.failures;
    let mut cells = vec![cell(entry.name())];
    let Some(speed) = Summary::of(&speeds) else {
        cells.push(format!("failed: {}", cell(failures.first().map_or("no run", |f| &f.error))));
        cells.resize(8, String::new());
        return cells;
    };
    let lost = match failures.len() {
        0 => String::new(),
        n => format!(", {n} of {} runs failed", n + speeds.len()),
    };
    let mib = |of: fn(&bench_subject::record::Run) -> u64| {
        entry.middle(|r| of(r) as f64 / 1024.0).map_or("–".to_owned(), |m| format!("{m:.1}"))
    };
    cells.push(format!("{} ({}–{}){lost}", short(speed.median), short(speed.min), short(speed.max)));
    cells.push(ratio(entry));
    cells.push(group.above_floor(entry).map_or("–".to_owned(), text::duration));
    cells.extend(exact(entry.case));
    cells.push(entry.middle(|r| r.faults() as f64).map_or("–".to_owned(), |n| format!("{n:.0}")));
    cells.push(format!("{} ({})", mib(|r| r.max_rss_kib), mib(|r| r.left_kib())));
    cells
}

fn ratio(entry: &Entry) -> String {
    match &entry.ratio {
        _ if entry.name() == BASE => "1".to_owned(),
        Some(r) => text::ratio(r),
        None => "–".to_owned(),
    }
}

/// Measurement × allocator; bold where it is measurably faster than every other.
pub fn matrix(groups: &[Group]) -> String {
    let mut names = figures::allocators(groups);
    names.retain(|n| n != FLOOR);
    let mut text = finding::sentences(groups).iter().map(|s| cell(s) + "\n").collect::<String>() + "\n";
    text += &line(&[vec!["measurement".to_owned()], names.iter().map(|n| cell(n)).collect()].concat());
    text += &line(&vec!["---".to_owned(); names.len() + 1]);
    for group in groups {
        let mark = if group.noise.is_some() { "~ " } else { "" };
        let title = format!("{mark}{} {}, {}", group.name, cell(&group.title), group.series);
        let places = names.iter().map(|n| place(group.entry(n)));
        text += &line(&[vec![title], places.collect()].concat());
    }
    text + "\nRatios to system malloc, 95 % interval in brackets; \"=\": no measurable difference. Bold: first, measurably faster \
            than every other. ~: the machine was not quiet, and the row does not count.\n"
}

fn place(entry: Option<&Entry>) -> String {
    match entry {
        None => "–".to_owned(),
        Some(e) if e.time.is_none() => "failed".to_owned(),
        Some(e) if e.place == Some(Verdict::Faster) => format!("**{}**", ratio(e)),
        Some(e) => ratio(e),
    }
}

/// Text that stays within one cell of a table.
fn cell(text: &str) -> String {
    one_line(text).replace('\\', "\\\\").replace('|', "\\|").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::tests::{case, results, spec};
    use bench_subject::record::Series::Warm;

    #[test]
    fn a_table_has_a_row_per_allocator_and_names_failures() {
        let steady = |v: f64| [v, v * 1.2, v * 1.1, v * 1.1, v * 1.1];
        let mut broken = case(&spec("pair"), "broken", Warm, &[]);
        broken.add(0, Err("a | b\nc <i>".to_owned()));
        let mut ours = case(&spec("pair"), "hakmem", Warm, &steady(20.0));
        ours.exact.instructions_per_op = Some(30.0);
        let file = results(vec![
            case(&spec("pair"), "system", Warm, &steady(10.0)),
            ours,
            broken,
            case(&spec("pair"), "null", Warm, &[100.0; 5]),
        ]);
        let text = tables(&figures::groups(&file));
        for wanted in [
            "| hakmem | 22.0 (20.0–24.0) | 2.00 [2.00–2.00] | 35.5 ns | 30.0 | – | 12 | 8.8 (2.9) |",
            "| system | 11.0 (10.0–12.0) | 1 | 80.9 ns |",
            "| broken | failed: a \\| b c &lt;i> |  |  |  |  |  |  |",
        ] {
            assert!(text.contains(wanted), "{wanted}: {text}");
        }
    }

    #[test]
    fn the_summary_marks_who_is_first() {
        let steady = |v: f64| [v, v * 1.01, v * 0.99, v, v];
        let file = results(vec![
            case(&spec("pair"), "system", Warm, &steady(10.0)),
            case(&spec("pair"), "hakmem", Warm, &steady(20.0)),
            case(&spec("pair"), "jemalloc", Warm, &[10.0, 10.2, 9.8, 10.0, 10.0]),
        ]);
        let text = matrix(&figures::groups(&file));
        assert!(text.starts_with("hakmem is measurably first in 1 of 1 measurement"), "{text}");
        assert!(text.contains("| 1 | **2.00 [2.00–2.00]** | = 1.00 ["), "{text}");
    }
}
