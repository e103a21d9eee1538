//! The report: one HTML page made of a results file, complete in itself.
//!
//! Charts are inline SVG drawn here (`chart`, `latency`, `memory`), so that the page needs no scripts and loads nothing;
//! its own policy forbids both. What it says is worked out first (`figures`) and only then put into words and drawings
//! (`summary`, `sections`). Text goes into the page through maud, which escapes all of it.

pub mod chart;
pub mod figures;
pub mod latency;
pub mod markdown;
pub mod memory;
pub mod rerun;
pub mod scale;
pub mod sections;
pub mod summary;
pub mod text;

#[cfg(test)]
mod tests;

use std::path::PathBuf;

use clap::Args;
use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::fail::Fail;
use crate::output::{self, Pending};
use crate::record::Results;
use figures::{Group, Verdict};

/// The style sheet, part of the page.
const STYLE: &str = include_str!("style.css");

/// Nothing may be loaded and no script run, even if something got past the escaping.
const POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'";

/// Colours there are; the style sheet has a class for each.
const COLORS: usize = 8;

/// What report is asked.
#[derive(Debug, Args)]
pub struct Report {
    /// The results file
    pub results: PathBuf,
    /// Where the page goes [default: beside the results, ending in .html]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// Reads the results and writes the page.
pub fn run(report: &Report) -> Result<(), Fail> {
    let results = output::read(&report.results)?;
    if results.results.is_empty() {
        return Err(Fail::usage(format!(
            "{}: it has no measurement; expected at least one",
            report.results.display()
        )));
    }
    let target = report
        .output
        .clone()
        .unwrap_or_else(|| report.results.with_extension("html"));
    let same = |a: &PathBuf, b: &PathBuf| {
        a.canonicalize()
            .is_ok_and(|a| b.canonicalize().is_ok_and(|b| a == b))
    };
    if same(&target, &report.results) {
        return Err(Fail::usage(format!(
            "{}: cannot be written: it is the results file itself",
            target.display()
        )));
    }
    Pending::new(&target)?.write(&page(&results))?;
    println!("{}", target.display());
    Ok(())
}

/// The whole page.
pub fn page(results: &Results) -> String {
    let groups = figures::groups(results);
    let allocators = figures::allocators(&groups);
    let color = |name: &str| color_of(name, &allocators);
    let machine = &results.machine;
    let notes = notes(results, &groups);
    let names = groups.iter().fold(Vec::new(), |mut names, g| {
        if !names.contains(&g.name) {
            names.push(g.name);
        }
        names
    });
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                title { "Memory allocators, measured" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                (patterns())
                header {
                    h1 { "Memory allocators, measured" }
                    p.dim { (subtitle(results)) }
                    (summary::headline(&groups))
                }
                main {
                    @if !notes.is_empty() {
                        section.notes aria-label="Warnings" { h2 { "Read this first" } ul { @for note in &notes { li { (note) } } } }
                    }
                    @if let Some(chart) = summary::standings_chart(&groups, &color) { section.card { (chart) } }
                    section { h2 { "Who wins what" } (summary::matrix(&groups, &allocators)) }
                    section {
                        h2 { "Peak memory" }
                        @if let Some(sentence) = summary::memory_sentence(&groups) { p { (sentence) } }
                        (summary::memory_matrix(&groups, &allocators))
                        p.key { "MiB resident at most; small: against the median of the other allocators. Bold: the least." }
                    }
                    @for name in &names {
                        section.workload {
                            h2 { (name) }
                            p.dim { (rerun::about(name)) }
                            @for group in groups.iter().filter(|g| g.name == *name) {
                                (sections::measurement(group, machine, &color))
                            }
                        }
                    }
                    section { h2 { "The machine" } (sections::machine(machine)) }
                    section { h2 { "Measure it again" } (sections::commands(results)) }
                    section { h2 { "How to read this" } (sections::reading()) }
                }
            }
        }
    };
    page.into_string()
}

/// The hatching of the floor, used by all charts.
fn patterns() -> Markup {
    html! {
        svg.definitions width="0" height="0" aria-hidden="true" {
            defs {
                pattern id="hatch" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)" {
                    rect.hatch-ground width="6" height="6" {}
                    line.hatch-line x1="0" y1="0" x2="0" y2="6" {}
                }
            }
        }
    }
}

/// Known allocators keep their colour from report to report; others take what is left, in order.
fn color_of(name: &str, allocators: &[String]) -> usize {
    const KNOWN: [&str; COLORS] = [
        crate::table::BASE,
        figures::OURS,
        "mimalloc",
        "mimalloc2",
        "jemalloc",
        "snmalloc",
        "rpmalloc",
        figures::FLOOR,
    ];
    let known = |n: &str| KNOWN.iter().position(|k| *k == n);
    known(name).unwrap_or_else(|| {
        let strangers = allocators.iter().filter(|n| known(n).is_none());
        2 + strangers.take_while(|n| *n != name).count() % (COLORS - 3)
    })
}

fn subtitle(results: &Results) -> String {
    let m = &results.machine;
    let parts = [
        m.cpu.clone(),
        if m.cpus > 0 {
            format!("{} processors", m.cpus)
        } else {
            String::new()
        },
        if m.virtual_machine {
            "a virtual machine".to_owned()
        } else {
            String::new()
        },
        if m.kernel.is_empty() {
            String::new()
        } else {
            format!("Linux {}", m.kernel)
        },
        text::utc(m.unix_time).unwrap_or_default(),
    ];
    parts
        .into_iter()
        .filter(|p| !p.is_empty())
        .collect::<Vec<_>>()
        .join(" · ")
}

/// What a reader has to know before believing a figure: what the file says, and what is seen from here.
fn notes(results: &Results, groups: &[Group]) -> Vec<String> {
    let mut notes = results.warnings.clone();
    let failed: usize = results.results.iter().map(|c| c.failures.len()).sum();
    let done: usize = results.results.iter().map(|c| c.runs.len()).sum::<usize>() + failed;
    if !results.complete {
        let planned = results.planned_runs.max(done);
        notes.push(format!(
            "The measurement was interrupted: {done} of {planned} runs were made."
        ));
    }
    if failed > 0 {
        notes.push(format!(
            "{failed} of {done} runs failed; each is named with its measurement below."
        ));
    }
    let entries = || groups.iter().flat_map(|g| &g.entries);
    if entries().any(|e| e.verdict == Some(Verdict::Unsure)) {
        notes.push("Where there are fewer than three runs no difference is claimed.".to_owned());
    } else if entries().any(|e| !e.is_floor() && (1..5).contains(&e.case.runs.len())) {
        notes.push(
            "Some measurements rest on fewer than five runs: their intervals are rough.".to_owned(),
        );
    }
    if !entries().any(|e| e.name() == crate::table::BASE && e.time.is_some()) {
        notes.push(
            "System malloc was not measured, so there is nothing to give ratios to.".to_owned(),
        );
    }
    notes
}
