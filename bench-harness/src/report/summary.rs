//! What a person has to understand in ten seconds: the finding, the standings, and the tables of who wins what.

use bench_subject::record::Series;
use maud::{Markup, html};

use crate::figures::{Entry, Group, Verdict};
use crate::finding;
use crate::results::{BASE, FLOOR};
use crate::standings::Standing;
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

impl Matrix<'_> {
    /// The table; `cell` answers a whole `td` with this class among its own.
    pub fn draw(&self, groups: &[&Group], cell: &dyn Fn(&Group, &str, &str) -> Markup) -> Markup {
        let class = |i: usize| format!("k{i}");
        html! {
            div.picked {
                fieldset.picker { legend { "Columns" }
                    @for (i, name) in self.allocators.iter().enumerate() {
                        label { input class={ "p" (i) } type="checkbox" checked[self.chosen.contains(&name.as_str())]; " " (name) }
                    }
                }
                div.scroll tabindex="0" role="region" aria-label=(self.label) {
                    table.matrix {
                        thead { tr {
                            th scope="col" { (self.corner) }
                            @for (i, name) in self.allocators.iter().enumerate() { th scope="col" class=(class(i)) { (name) } }
                        } }
                        tbody { @for group in groups { tr class=[group.noise.is_some().then_some("noisy")] {
                            (row_head(group))
                            @for (i, name) in self.allocators.iter().enumerate() { (cell(group, name, &class(i))) }
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
            span.params { (group.title) }
        }
    }
}

/// Ratio to system malloc, its interval, and who is first.
pub fn ratio_cell(group: &Group, allocator: &str, class: &str) -> Markup {
    let Some(entry) = group.entry(allocator) else { return html! { td class={ "none " (class) } { "–" } } };
    if entry.time.is_none() {
        return html! { td class={ "failed " (class) } { "failed" } };
    }
    let (place, star) = match entry.place {
        Some(Verdict::Faster) => ("first", "★ "),
        _ => ("", ""),
    };
    html! {
        td class={ (tint(entry)) " " (place) " " (class) } {
            (star)
            @match &entry.ratio {
                _ if entry.name() == BASE => { "1" }
                Some(r) => {
                    @if entry.verdict == Some(Verdict::Level) { "= " }
                    (text::times(r.value)) span.sure { (interval(r)) }
                }
                None => { (text::duration(entry.time.map_or(0.0, |t| t.median))) }
            }
        }
    }
}

fn interval(r: &Ratio) -> String {
    r.interval
        .map_or("one run".to_owned(), |(low, high)| format!("{}–{}", text::bare_ratio(low), text::bare_ratio(high)))
}

/// How far from system malloc, in three steps each way; what is no difference has no colour.
fn tint(entry: &Entry) -> String {
    let far = entry.ratio.as_ref().map_or(1.0, |r| r.value.max(1.0 / r.value));
    let steps = [1.1, 1.5].iter().filter(|s| far >= **s).count() + 1;
    match entry.verdict {
        Some(Verdict::Faster) => format!("better{steps}"),
        Some(Verdict::Slower) => format!("worse{steps}"),
        _ => String::new(),
    }
}

/// Peak memory, against the median of the others, and what was left at the end.
pub fn memory_cell(group: &Group, allocator: &str, class: &str) -> Markup {
    let entry = group.entry(allocator);
    let Some((entry, peak)) = entry.and_then(|e| Some((e, e.peak_kib?.median))) else {
        return html! { td class={ "none " (class) } { "–" } };
    };
    let ranked = group.entries.iter().filter(|e| !e.is_floor());
    let least = ranked.filter_map(|e| Some(e.peak_kib?.median)).fold(f64::INFINITY, f64::min);
    let left = entry.middle(|r| r.left_kib() as f64).unwrap_or(0.0);
    html! {
        td class={ (memory_tint(group.peak_to_others(allocator))) @if peak <= least { " first" } " " (class) } {
            (text::bare_mib(peak)) span.sure { (text::bare_mib(left)) " left" }
        }
    }
}

fn memory_tint(ratio: Option<f64>) -> &'static str {
    match ratio {
        Some(r) if r > 2.0 => "worse3",
        Some(r) if r > 1.3 => "worse2",
        Some(r) if r < 0.5 => "better3",
        Some(r) if r < 1.0 / 1.3 => "better2",
        _ => "",
    }
}

/// The warm measurement that an aged one stands beside.
pub fn warm_of<'a, 'b>(aged: &Group, groups: &'b [Group<'a>]) -> Option<&'b Group<'a>> {
    let spec = |g: &Group| g.entries.first().map(|e| e.case.spec.clone());
    let fresh = |series: Series| groups.iter().find(|g| g.series == series && spec(g) == spec(aged));
    fresh(Series::Warm).or_else(|| fresh(Series::Cold))
}

/// How fast an allocator is on the aged heap, relative to itself on a clean one.
pub fn aged_ratio(aged: &Group, groups: &[Group], allocator: &str) -> Option<Ratio> {
    let warm = warm_of(aged, groups)?;
    let measure = aged.measure;
    let speeds = |g: &Group| Some(measure.speeds(g.entry(allocator)?.case));
    ratio(&speeds(aged)?, &speeds(warm)?)
}

/// Speed on the aged heap relative to the clean one, with the peaks of both.
pub fn aged_cell(aged: &Group, groups: &[Group], allocator: &str, class: &str) -> Markup {
    let Some(r) = aged_ratio(aged, groups, allocator) else { return html! { td class={ "none " (class) } { "–" } } };
    let tint = match (r.is_difference() && aged.noise.is_none(), r.value) {
        (true, v) if v < 1.0 / 1.5 => "worse3",
        (true, v) if v < 1.0 / 1.1 => "worse2",
        (true, v) if v > 1.1 => "better2",
        _ => "",
    };
    let mark = if r.is_difference() || r.interval.is_none() { "" } else { "= " };
    html! { td class={ (tint) " " (class) } { (mark) (text::times(r.value)) span.sure { (interval(&r)) } } }
}

/// One sentence about what ageing does to each allocator's speed.
pub fn aged_sentence(groups: &[Group], allocators: &[String]) -> Option<String> {
    let aged = || groups.iter().filter(|g| g.series == Series::Aged && g.noise.is_none());
    let of = |name: &String| {
        let all: Vec<f64> = aged().filter_map(|g| Some(aged_ratio(g, groups, name)?.value)).collect();
        Some(format!("{name} {}", text::times(geometric_mean(&all)?)))
    };
    let parts: Vec<String> = allocators.iter().filter(|n| *n != FLOOR).filter_map(of).collect();
    (!parts.is_empty())
        .then(|| format!("Speed on the aged heap against the clean one, geometric means: {}.", parts.join(", ")))
}

pub fn memory_sentence(groups: &[Group], standings: &[Standing]) -> Option<String> {
    const BOUND: f64 = 1.3;
    let name = &finding::subject(standings)?.name;
    let all: Vec<f64> = groups.iter().filter_map(|g| g.peak_to_others(name)).collect();
    let worst = all.iter().copied().fold(0.0, f64::max);
    let within = all.iter().filter(|r| **r <= BOUND).count();
    (!all.is_empty()).then(|| {
        format!(
            "{name} holds at most {BOUND} times the median of the others in {within} of {} measurements; at worst {}.",
            all.len(),
            text::times(worst)
        )
    })
}
