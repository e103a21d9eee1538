//! Measurements as Markdown: tables for README and the pages of docs/.

use bench_subject::one_line;

use crate::figures::{self, Entry, Group, Verdict};
use crate::finding::Finding;

/// A table; numbers to the right, or all to the left.
pub fn table(head: &[String], numbers: bool, rows: impl Iterator<Item = Vec<String>>) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let rule = |i| if numbers && i > 0 { "---:" } else { "---" }.to_owned();
    let text = line(head) + &line(&(0..head.len()).map(rule).collect::<Vec<_>>());
    rows.fold(text, |text, row| text + &line(&row))
}

/// Measurement × allocator, bold where it is measurably faster than every other; above it the finding without its title, which
/// stands in the README.
pub fn matrix(groups: &[Group], finding: &Finding) -> String {
    let names = figures::ranked(groups);
    let head = [vec!["measurement".to_owned()], names.iter().map(|n| cell(n)).collect()].concat();
    let place = |group: &Group, name: &String| place(group.entry(name), crate::table::ratio);
    let row = |g: &Group| [vec![g.marked(&cell(&g.words()))], names.iter().map(|n| place(g, n)).collect()].concat();
    let text = finding.sentences().iter().skip(1).map(|s| cell(s) + "\n").collect::<String>() + "\n";
    text + &table(&head, false, groups.iter().map(row))
        + "\nRatios to system malloc, 95 % interval in brackets; \"=\": no measurable difference. Bold: first, measurably faster \
           than every other. ~: the machine was not quiet, and the row does not count.\n"
}

/// What stands in a cell, of which `ratio` says the ratio.
pub fn place(entry: Option<&Entry>, ratio: fn(&Entry) -> String) -> String {
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
