//! The report: one HTML page made of a results file, complete in itself.
//!
//! Charts are inline SVG drawn here (`chart`), all of one kind, so that the page needs no scripts and loads nothing; its own
//! policy forbids both. What it says is worked out first (`figures`, `finding`) and only then put into words and drawings
//! (`summary`, `sections`). Text goes into the page through maud, which escapes all of it.

mod chart;
mod scale;
mod sections;
mod summary;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use bench_subject::record::Series;
use clap::Args;
use itertools::Itertools;
use maud::{DOCTYPE, PreEscaped, html};

use crate::fail::Fail;
use crate::figures::{self, Group, Verdict};
use crate::finding::{Finding, Standing};
use crate::output::Target;
use crate::results::{BASE, FLOOR, OURS, Results};
use crate::workloads;
use summary::Matrix;

const STYLE: &str = include_str!("style.css");
const READING: &str = include_str!("reading.html");

/// Nothing may be loaded and no script run, even if something got past the escaping.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'";

/// Allocators keep their colour from report to report; the style sheet has a class for each.
const COLORS: [&str; 8] = [BASE, OURS, "mimalloc", "mimalloc2", "jemalloc", "snmalloc", "rpmalloc", FLOOR];

#[derive(Debug, Args)]
pub struct Report {
    /// The results file
    pub results: PathBuf,
    /// Where the page goes [default: beside the results, ending in .html]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

pub fn run(report: &Report) -> Result<(), Fail> {
    let results = Results::read(&report.results)?;
    if figures::groups(&results).is_empty() {
        let path = report.results.display();
        return Err(Fail::usage(format!("{path}: it has no measurement; expected at least one")));
    }
    let path = report.output.clone().unwrap_or_else(|| report.results.with_extension("html"));
    if path.canonicalize().is_ok_and(|p| report.results.canonicalize().is_ok_and(|r| p == r)) {
        return Err(Fail::usage(format!("{}: cannot be written: it is the results file itself", path.display())));
    }
    Target::new(&path)?.write(&page(&results))?;
    println!("{}", path.display());
    Ok(())
}

pub fn page(results: &Results) -> String {
    let groups = figures::groups(results);
    let finding = Finding::of(&groups);
    let standings = &finding.standings;
    let allocators = figures::allocators(&groups);
    let ranked = figures::ranked(&groups);
    let color = |name: &str| color_of(name, &allocators);
    let (title, sentences) = (&finding.title, finding.sentences());
    let notes = notes(results, &groups);
    let chosen = chosen(standings);
    let matrix = |label, corner| Matrix { label, corner, allocators: &ranked, chosen: &chosen };
    let all: Vec<&Group> = groups.iter().collect();
    let aged: Vec<&Group> =
        groups.iter().filter(|g| g.series == Series::Aged && summary::warm_of(g, &groups).is_some()).collect();
    let names = groups.iter().map(|g| g.name).dedup();
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                header {
                    h1 { (title) }
                    @for sentence in sentences.iter().skip(1) { p.lead { (sentence) } }
                    p.dim { (results.machine.words()) }
                    @for note in &notes { p.note { (note) } }
                }
                main {
                    @if let Some(chart) = chart::standings(standings, &color) { section.card { (chart) } }
                    section {
                        h2 { "Who wins what" }
                        (matrix("Who wins what", "measurement").draw(&all, &summary::speed))
                        p.key {
                            span.badge { "★ 1.50×" } " first: measurably faster than every other  "
                            span.badge.plain { "= 1.02×" } " no measurable difference to system malloc  "
                            span.noise { "~ noisy" } " the machine was not quiet, the row does not count"
                        }
                    }
                    @if !aged.is_empty() {
                        section {
                            h2 { "Aged heaps beside clean ones" }
                            @if let Some(sentence) = summary::aged_sentence(&groups, &ranked) { p { (sentence) } }
                            (matrix("Aged heaps beside clean ones", "speed, aged to clean")
                                .draw(&aged, &|g, name| summary::aged(g, &groups, name)))
                            p.key { "Each allocator's own speed on the aged heap against its speed on a clean one." }
                        }
                    }
                    section {
                        h2 { "Memory" }
                        @if let Some(sentence) = summary::memory_sentence(&groups, standings) { p { (sentence) } }
                        (matrix("Peak memory", "MiB at the peak").draw(&all, &summary::memory))
                        p.key { "MiB resident at most, and what was left at the end (at rest, where it says so). Coloured against the
                                 median of the others; bold: the least." }
                    }
                    @for name in names {
                        section.workload {
                            h2 { (name) }
                            p.dim { (workloads::find(name).map_or("", |w| &w.about)) }
                            @for group in groups.iter().filter(|g| g.name == name) {
                                (sections::measurement(group, &color))
                            }
                        }
                    }
                    section { h2 { "The machine" } (sections::machine(&results.machine)) }
                    section { h2 { "How to read this" } (PreEscaped(READING)) }
                }
            }
        }
    };
    page.into_string()
}

/// The chart of the standings as a picture by itself, for the README.
pub fn picture(groups: &[Group], finding: &Finding, under: &str) -> String {
    let allocators = figures::allocators(groups);
    chart::picture(&finding.standings, &|name| color_of(name, &allocators), STYLE, under)
}

/// What a phone shows at first: ours, and whoever is best without it.
fn chosen(standings: &[Standing]) -> Vec<&str> {
    let best = standings.iter().filter(|s| s.name != OURS);
    let mean = |s: &&Standing| s.mean.map_or(0.0, |m| m.value);
    let best = best.max_by(|a, b| mean(a).total_cmp(&mean(b)));
    standings.iter().filter(|s| s.name == OURS).chain(best).map(|s| s.name.as_str()).collect()
}

/// Known allocators keep their colour; others take what is left, in order.
fn color_of(name: &str, allocators: &[String]) -> usize {
    let known = |n: &str| COLORS.iter().position(|k| *k == n);
    known(name).unwrap_or_else(|| {
        let strangers = allocators.iter().filter(|n| known(n).is_none());
        2 + strangers.take_while(|n| *n != name).count() % (COLORS.len() - 3)
    })
}

/// What a reader has to know before believing a figure, a line each: one for all rows that are noisy, which carry a mark.
fn notes(results: &Results, groups: &[Group]) -> Vec<String> {
    let noisy = groups.iter().filter(|g| g.noise.is_some()).count();
    // What the file says of single rows stands at the rows.
    let is_row = |w: &String| w.contains("'s own runs");
    let mut notes: Vec<String> = results.warnings.iter().filter(|w| !is_row(w)).cloned().collect();
    let failed: usize = results.results.iter().map(|c| c.failures.len()).sum();
    let done: usize = results.results.iter().map(|c| c.runs.len()).sum::<usize>() + failed;
    if !results.complete {
        let planned = results.planned_runs;
        let made = match done < planned {
            true => format!("{done} of {planned} runs were made"),
            false => "all runs were made, but not all instructions were counted".to_owned(),
        };
        notes.push(format!("The measurement was interrupted: {made}."));
    }
    if noisy > 0 {
        let of = groups.len();
        notes.push(format!(
            "The machine was not quiet in {noisy} of {of} measurements: they are marked ~ and do not count."
        ));
    }
    if failed > 0 {
        notes.push(format!("{failed} of {done} runs failed; each is named with its measurement below."));
    }
    let entries = || groups.iter().flat_map(|g| g.entries.iter().map(move |e| (g, e)));
    let few = entries().filter(|(g, e)| e.verdict == Some(Verdict::Noisy) && g.noise.is_none()).count();
    if few > 0 {
        notes.push("Where there are fewer than five rounds no difference is claimed.".to_owned());
    }
    if !entries().any(|(_, e)| e.name() == BASE && e.time.is_some()) {
        notes.push("System malloc was not measured, so there is nothing to give ratios to.".to_owned());
    }
    notes
}
