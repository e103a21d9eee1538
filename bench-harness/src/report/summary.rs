//! What a person has to understand in ten seconds: one sentence, the standings, and the table of who wins what.

use maud::{Markup, html};

use super::chart::{across, figure, frame, grid, words};
use super::figures::{Entry, FLOOR, Group, OURS, Place, Standing, Verdict, standings};
use super::scale::Log;
use super::text;
use crate::table::BASE;

/// The allocator the first sentence is about: ours where it takes part, else whoever is first most often.
pub fn subject(standings: &[Standing]) -> Option<&Standing> {
    let ours = standings.iter().find(|s| s.name == OURS && s.measured > 0);
    ours.or_else(|| {
        standings
            .iter()
            .filter(|s| s.measured > 0)
            .max_by_key(|s| s.first + s.level)
    })
}

/// The first sentence and the one after it.
pub fn headline(groups: &[Group]) -> Markup {
    let standings = standings(groups);
    let Some(s) = subject(&standings) else {
        return html! { p.headline { "No measurement gave a result." } };
    };
    let (first, of) = (s.first + s.level, groups.len());
    let rivals = standings
        .iter()
        .filter(|r| r.name != s.name && r.measured > 0)
        .count();
    html! {
        p.headline {
            strong { (s.name) } " is first in " strong { (first) " of " (of) } @if of == 1 { " measurement" } @else { " measurements" }
            @if s.level > 0 { ": alone in " (s.first) ", level with others in " (s.level) }
            "."
        }
        p.lead {
            "Compared with " (rivals) @if rivals == 1 { " other allocator. " } @else { " other allocators. " }
            @if let Some(mean) = s.mean() {
                "Against system malloc: " strong { (text::times(mean)) } " its operations per second by geometric mean; faster in "
                (s.faster) ", no difference in " (s.same) ", slower in " (s.slower) " of " (s.ratios.len()) "."
            }
        }
    }
}

/// All ratios of every allocator on one axis, with their geometric mean.
pub fn standings_chart(groups: &[Group], color: &dyn Fn(&str) -> usize) -> Option<Markup> {
    const ROW: f64 = 42.0;
    const MIDDLE: f64 = 27.0;
    let mut drawn: Vec<(Standing, f64)> = standings(groups)
        .into_iter()
        .filter_map(|s| s.mean().map(|m| (s, m)))
        .collect();
    drawn.sort_by(|a, b| b.1.total_cmp(&a.1));
    let axis = Log::over(
        drawn
            .iter()
            .flat_map(|(s, _)| s.ratios.iter().copied())
            .chain([1.0]),
    )?;
    let height = ROW * drawn.len() as f64 + 18.0;
    let ticks: Vec<_> = axis
        .ticks()
        .iter()
        .map(|t| (axis.place(*t), text::tick(*t)))
        .collect();
    let one = across(axis.place(1.0));
    let says =
        |s: &Standing, mean: f64| format!("{} · first in {}", text::times(mean), s.first + s.level);
    let described: Vec<String> = drawn
        .iter()
        .map(|(s, m)| format!("{}: {}", s.name, says(s, *m)))
        .collect();
    if drawn.is_empty() {
        return None;
    }
    let drawing = frame(
        height,
        &format!("Ratios to system malloc. {}", described.join("; ")),
        html! {
            (grid(&ticks, height))
            line.one x1=(one) x2=(one) y1="0" y2=(height - 16.0) {}
            @for (i, (s, mean)) in drawn.iter().enumerate() {
                @let y = ROW * i as f64;
                (words(&s.name, &says(s, *mean), y))
                @for r in &s.ratios {
                    circle class={ "each c" (color(&s.name)) } cx=(across(axis.place(*r))) cy=(y + MIDDLE) r="4" {}
                }
                line class={ "mean c" (color(&s.name)) } x1=(across(axis.place(*mean))) x2=(across(axis.place(*mean)))
                    y1=(y + MIDDLE - 9.0) y2=(y + MIDDLE + 9.0) {}
            }
        },
    );
    let hint = "A dot per measurement, the upright mark is their geometric mean; system malloc = 1, further right is better.";
    Some(figure(
        "Operations per second against system malloc",
        hint,
        drawing,
    ))
}

/// Measurement × allocator: ratio to system malloc, its interval, the winner.
pub fn matrix(groups: &[Group], allocators: &[String]) -> Markup {
    let ranked: Vec<&String> = allocators.iter().filter(|n| *n != FLOOR).collect();
    html! {
        div.scroll tabindex="0" role="region" aria-label="Who wins what" {
            table.matrix {
                thead { tr {
                    th scope="col" { "measurement" }
                    @for name in &ranked { th scope="col" { (name) } }
                } }
                tbody { @for group in groups { tr {
                    (row_head(group))
                    @for name in &ranked { (cell(group.entry(name))) }
                } } }
            }
        }
        p.key {
            span.badge { "★ 1.50×" } " first alone  "
            span.badge.level { "☆ 1.50×" } " level with the first: nobody is measurably faster  "
            span.badge.plain { "= 1.02×" } " no difference to system malloc: the interval includes 1"
        }
    }
}

/// The first cell of a row, a link to the measurement's own part.
pub fn row_head(group: &Group) -> Markup {
    html! {
        th scope="row" {
            a href={ "#" (group.id) } { (group.name) }
            " " span.series { (group.series) }
            span.params { (group.title) }
        }
    }
}

fn cell(entry: Option<&Entry>) -> Markup {
    let Some(entry) = entry else {
        return html! { td.none { "–" } };
    };
    if entry.time.is_none() {
        return html! { td.failed { "failed" } };
    }
    let place = match entry.place {
        Place::First => ("first", "★ "),
        Place::Level => ("level", "☆ "),
        _ => ("", ""),
    };
    let tint = entry.verdict.map_or(String::new(), |v| {
        tint(v, entry.ratio.map_or(1.0, |r| r.value))
    });
    html! {
        td class={ (tint) " " (place.0) } {
            @match entry.ratio {
                _ if entry.name() == BASE => { (place.1) "1" }
                Some(r) => {
                    (place.1) @if entry.verdict == Some(Verdict::Same) { "= " }
                    (text::times(r.value))
                    @if entry.verdict == Some(Verdict::Unsure) { span.sure { "few runs" } }
                    @else { span.sure { (text::bare_ratio(r.low)) "–" (text::bare_ratio(r.high)) } }
                }
                None => { (place.1) (text::duration(entry.time.map_or(0.0, |t| t.median))) }
            }
        }
    }
}

/// How far from system malloc, in three steps each way; what is no difference has no colour.
fn tint(verdict: Verdict, ratio: f64) -> String {
    let steps = [1.1, 1.5]
        .iter()
        .filter(|s| ratio.max(1.0 / ratio) >= **s)
        .count()
        + 1;
    match verdict {
        Verdict::Faster => format!("better{steps}"),
        Verdict::Slower => format!("worse{steps}"),
        Verdict::Same | Verdict::Unsure => String::new(),
    }
}

/// Peak memory of every allocator in every measurement, against the median of the others.
pub fn memory_matrix(groups: &[Group], allocators: &[String]) -> Markup {
    let ranked: Vec<&String> = allocators.iter().filter(|n| *n != FLOOR).collect();
    let least = |g: &Group| {
        let ranked = g.entries.iter().filter(|e| !e.is_floor());
        ranked
            .filter_map(|e| Some(e.peak_kib?.median))
            .fold(f64::INFINITY, f64::min)
    };
    html! {
        div.scroll tabindex="0" role="region" aria-label="Peak memory" {
            table.matrix {
                thead { tr {
                    th scope="col" { "peak MiB" }
                    @for name in &ranked { th scope="col" { (name) } }
                } }
                tbody { @for group in groups { tr {
                    (row_head(group))
                    @for name in &ranked {
                        @match group.entry(name).and_then(|e| e.peak_kib) {
                            Some(peak) => {
                                @let others = group.peak_to_others(name);
                                td class={ (memory_tint(others)) @if peak.median <= least(group) { " first" } } {
                                    (text::bare_mib(peak.median))
                                    @if let Some(r) = others { span.sure { (text::times(r)) } }
                                }
                            }
                            None => td.none { "–" },
                        }
                    }
                } } }
            }
        }
    }
}

/// One sentence about the subject's memory.
pub fn memory_sentence(groups: &[Group]) -> Option<String> {
    const BOUND: f64 = 1.3;
    let standings = standings(groups);
    let name = &subject(&standings)?.name;
    let all: Vec<f64> = groups
        .iter()
        .filter_map(|g| g.peak_to_others(name))
        .collect();
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

fn memory_tint(ratio: Option<f64>) -> &'static str {
    match ratio {
        Some(r) if r > 2.0 => "worse3",
        Some(r) if r > 1.3 => "worse2",
        Some(r) if r < 0.5 => "better3",
        Some(r) if r < 1.0 / 1.3 => "better2",
        _ => "",
    }
}
