//! The tables of measurements by allocators: who wins what, what ageing does, and memory.

use bench_subject::record::Series;
use maud::{Markup, html};

use crate::figures::{Group, Measure, Verdict};
use crate::finding::{self, Standing};
use crate::results::BASE;
use crate::stats::{Ratio, geometric_mean, ratio};
use crate::text;

/// A table of measurements by allocators. On a phone the reader chooses the columns; ours and the one that is best without it
/// are there at first.
pub struct Matrix<'a> {
    /// What it is, for those who cannot see it.
    pub label: &'a str,
    pub corner: &'a str,
    /// The allocators, without the floor.
    pub allocators: &'a [String],
    pub chosen: &'a [&'a str],
}

/// What stands in a cell: the figure, a smaller line below it, and classes of the style sheet.
pub struct Cell {
    text: String,
    below: String,
    class: String,
}

impl Matrix<'_> {
    /// The table; `cell` says what an allocator has in a measurement.
    pub fn draw(&self, groups: &[&Group], cell: &dyn Fn(&Group, &str) -> Option<Cell>) -> Markup {
        let columns = || self.allocators.iter().enumerate();
        html! {
            div.picked {
                fieldset.picker { legend { "Columns" }
                    @for (i, name) in columns() {
                        label { input class={ "p" (i) } type="checkbox" checked[self.chosen.contains(&name.as_str())]; " " (name) }
                    }
                }
                div.scroll tabindex="0" role="region" aria-label=(self.label) {
                    table.matrix {
                        thead { tr {
                            th scope="col" { (self.corner) }
                            @for (i, name) in columns() { th scope="col" class={ "k" (i) } { (name) } }
                        } }
                        tbody { @for group in groups { tr class=[group.noise.is_some().then_some("noisy")] {
                            (row_head(group))
                            @for (i, name) in columns() {
                                @match cell(group, name) {
                                    Some(c) => { td class={ (c.class) " k" (i) } { (c.text) span.sure { (c.below) } } }
                                    None => { td class={ "none k" (i) } { "–" } }
                                }
                            }
                        } } }
                    }
                }
            }
        }
    }
}

/// The first cell of a row, a link to the measurement's own part.
fn row_head(group: &Group) -> Markup {
    html! {
        th scope="row" {
            a href={ "#" (group.id) } { (group.name) }
            " " span.series { (group.series) }
            @if group.noise.is_some() { " " span.noise { "~ noisy" } }
            span.params { (group.title) @if group.measure == Measure::Processor { " (processor time)" } }
        }
    }
}

/// How far from even, where more is better, in three steps each way; what is no difference has no colour.
fn tint(times: f64, is_difference: bool, steps: [f64; 2]) -> String {
    let far = times.max(1.0 / times);
    match (is_difference, times > 1.0) {
        (false, _) => String::new(),
        (_, better) => {
            let word = if better { "better" } else { "worse" };
            format!("{word}{}", 1 + steps.iter().filter(|s| far >= **s).count())
        }
    }
}

fn of_ratio(r: &Ratio, mark: &str, counts: bool) -> Cell {
    let below = r.interval.map(|(low, high)| format!("{}–{}", text::bare_ratio(low), text::bare_ratio(high)));
    Cell {
        text: format!("{mark}{}×", text::bare_ratio(r.value)),
        below: below.unwrap_or("one run".to_owned()),
        class: tint(r.value, counts && r.is_difference(), [1.1, 1.5]),
    }
}

/// Ratio to system malloc, its interval, and who is first.
pub fn speed(group: &Group, allocator: &str) -> Option<Cell> {
    let entry = group.entry(allocator)?;
    let plain = |text: String, class: &str| Cell { text, below: String::new(), class: class.to_owned() };
    let Some(time) = entry.time else { return Some(plain("failed".to_owned(), "failed")) };
    let (first, mark) = match (entry.place, entry.verdict) {
        (Some(Verdict::Faster), _) => (" first", "★ "),
        (_, Some(Verdict::Level)) => ("", "= "),
        _ => ("", ""),
    };
    let mut cell = match &entry.ratio {
        _ if allocator == BASE => plain(format!("{mark}1"), ""),
        Some(r) => of_ratio(r, mark, group.noise.is_none()),
        None => plain(text::duration(time), ""),
    };
    cell.class += first;
    Some(cell)
}

/// Peak memory, against the median of the others, and what was left at the end.
pub fn memory(group: &Group, allocator: &str) -> Option<Cell> {
    const STEPS: [f64; 2] = [1.3, 2.0];
    let entry = group.entry(allocator)?;
    let peak = entry.peak_kib?;
    let ranked = group.entries.iter().filter(|e| !e.is_floor());
    let least = ranked.filter_map(|e| e.peak_kib).fold(f64::INFINITY, f64::min);
    let less = 1.0 / group.peak_to_others(allocator).unwrap_or(1.0);
    Some(Cell {
        text: text::bare_mib(peak),
        below: format!("{} left", text::bare_mib(entry.case.middle(|r| r.left_kib() as f64)?)),
        class: tint(less, less.max(1.0 / less) > STEPS[0], STEPS) + if peak <= least { " first" } else { "" },
    })
}

/// The warm measurement that an aged one stands beside.
pub fn warm_of<'a, 'b>(aged: &Group, groups: &'b [Group<'a>]) -> Option<&'b Group<'a>> {
    let spec = |g: &Group| g.entries.first().map(|e| e.case.spec.clone());
    let fresh = |series: Series| groups.iter().find(|g| g.series == series && spec(g) == spec(aged));
    fresh(Series::Warm).or_else(|| fresh(Series::Cold))
}

/// How fast an allocator is on the aged heap, relative to itself on a clean one.
fn aged_ratio(aged: &Group, groups: &[Group], allocator: &str) -> Option<Ratio> {
    let speeds = |g: &Group| Some(aged.measure.speeds(g.entry(allocator)?.case));
    ratio(&speeds(aged)?, &speeds(warm_of(aged, groups)?)?)
}

/// Speed on the aged heap relative to the clean one.
pub fn aged(group: &Group, groups: &[Group], allocator: &str) -> Option<Cell> {
    let r = aged_ratio(group, groups, allocator)?;
    let mark = if r.is_difference() || r.interval.is_none() { "" } else { "= " };
    Some(of_ratio(&r, mark, group.noise.is_none()))
}

pub fn aged_sentence(groups: &[Group], allocators: &[String]) -> Option<String> {
    let aged = || groups.iter().filter(|g| g.series == Series::Aged && g.noise.is_none());
    let of = |name: &String| {
        let all: Vec<f64> = aged().filter_map(|g| Some(aged_ratio(g, groups, name)?.value)).collect();
        Some(format!("{name} {}×", text::bare_ratio(geometric_mean(&all)?)))
    };
    let parts: Vec<String> = allocators.iter().filter_map(of).collect();
    (!parts.is_empty())
        .then(|| format!("Speed on the aged heap against the clean one, geometric means: {}.", parts.join(", ")))
}

pub fn memory_sentence(groups: &[Group], standings: &[Standing]) -> Option<String> {
    const BOUND: f64 = 1.3;
    let name = &finding::subject(standings)?.name;
    let all: Vec<f64> = groups.iter().filter_map(|g| g.peak_to_others(name)).collect();
    let worst = text::bare_ratio(all.iter().copied().reduce(f64::max)?);
    let within = all.iter().filter(|r| **r <= BOUND).count();
    Some(format!(
        "{name} holds at most {BOUND} times the median of the others in {within} of {} measurements; at worst {worst}×.",
        all.len(),
    ))
}
