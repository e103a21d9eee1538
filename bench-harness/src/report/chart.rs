//! Charts as inline SVG, readable at any width: places across are percentages and text keeps its size.
//!
//! Every row has two lines: the name and its figures in words, and below them the drawing over the full width, so that a
//! phone needs no column for labels. Colours are classes of the style sheet, which knows light, dark and print.

use maud::{Markup, html};

use super::figures::{Entry, Group, OURS, Verdict};
use super::scale::Log;
use super::text;
use crate::stats::Summary;

/// Height of one row.
const ROW: f64 = 42.0;

/// Where in a row the drawing is centred.
const MIDDLE: f64 = 27.0;

/// A place across; what is no number lies at the start.
pub fn across(per_cent: f64) -> String {
    format!("{:.2}%", within(per_cent))
}

/// Per cent between 0 and 100, whatever comes in.
pub fn within(per_cent: f64) -> f64 {
    if per_cent.is_nan() {
        return 0.0;
    }
    per_cent.clamp(0.0, 100.0)
}

/// A chart with its heading and a line that says how to read it.
pub fn figure(heading: &str, hint: &str, drawing: Markup) -> Markup {
    html! {
        figure {
            figcaption { strong { (heading) } @if !hint.is_empty() { " " span { (hint) } } }
            (drawing)
        }
    }
}

/// The frame of a chart: full width, so high, and what it shows for those who cannot see it.
pub fn frame(height: f64, label: &str, inside: Markup) -> Markup {
    html! {
        svg.chart width="100%" height=(height) role="img" aria-label=(label) { (inside) }
    }
}

/// The two words lines of a row: name on the left, figures on the right.
pub fn words(entry_name: &str, figures: &str, y: f64) -> Markup {
    html! {
        text.name x="0" y=(y + 12.0) { (text::short_name(entry_name)) }
        text.value x="100%" y=(y + 12.0) text-anchor="end" { (figures) }
    }
}

/// The lines of an axis with their labels at the bottom.
pub fn grid(ticks: &[(f64, String)], height: f64) -> Markup {
    html! {
        @for (at, label) in ticks {
            line.grid x1=(across(*at)) x2=(across(*at)) y1="0" y2=(height - 16.0) {}
            text.tick x=(across(*at)) y=(height - 3.0)
                text-anchor=(if *at < 3.0 { "start" } else if *at > 97.0 { "end" } else { "middle" }) { (label) }
        }
    }
}

/// One bar of a chart that starts at 0.
struct Bar<'a> {
    entry: &'a Entry<'a>,
    color: usize,
    middle: f64,
    low: f64,
    high: f64,
    /// The part at the start that is not the allocator's.
    floor: f64,
    /// Single values.
    dots: Vec<f64>,
    /// A second mark.
    mark: Option<f64>,
    words: String,
}

fn bars(label: &str, bars: &[Bar]) -> Markup {
    // One run or one allocator that went astray must not flatten all others: what lies beyond is drawn to the edge,
    // with a cut.
    let middles: Vec<f64> = bars.iter().map(|b| b.middle).collect();
    let tallest = middles.iter().copied().fold(0.0, f64::max);
    let reach = bars.iter().map(|b| b.high).fold(0.0, f64::max);
    let usual = crate::stats::median(&middles).filter(|m| reach > m * 6.0 && *m > 0.0);
    let full = usual.map_or(reach.min(tallest * 1.4), |m| m * 4.0);
    let marks = bars.iter().filter_map(|b| b.mark).fold(0.0, f64::max);
    let full = full.max(marks).max(f64::MIN_POSITIVE);
    let at = |v: f64| v / full * 100.0;
    let described: Vec<String> = bars
        .iter()
        .map(|b| format!("{}: {}", b.entry.name(), b.words))
        .collect();
    frame(
        ROW * bars.len() as f64,
        &format!("{label}. {}", described.join("; ")),
        html! {
            @for (i, b) in bars.iter().enumerate() {
                @let y = ROW * i as f64;
                (words(b.entry.name(), &b.words, y))
                rect.track x="0" y=(y + MIDDLE - 6.0) width="100%" height="12" rx="2" {}
                rect class={ "bar c" (b.color) } x="0" y=(y + MIDDLE - 6.0) width=(across(at(b.middle))) height="12" rx="2" {}
                @if b.floor > 0.0 {
                    rect.floor x="0" y=(y + MIDDLE - 6.0) width=(across(at(b.floor.min(b.middle)))) height="12" rx="2" {}
                }
                @if b.high > b.low {
                    line.whisker x1=(across(at(b.low))) x2=(across(at(b.high))) y1=(y + MIDDLE) y2=(y + MIDDLE) {}
                    @for end in [b.low, b.high] {
                        @if end <= full {
                            line.whisker x1=(across(at(end))) x2=(across(at(end))) y1=(y + MIDDLE - 4.0) y2=(y + MIDDLE + 4.0) {}
                        }
                    }
                }
                @for &dot in b.dots.iter().filter(|d| **d <= full) {
                    circle.dot cx=(across(at(dot))) cy=(y + MIDDLE) r="2.2" {}
                }
                @if b.middle > full {
                    line.cut x1="93%" x2="94.5%" y1=(y + MIDDLE + 8.0) y2=(y + MIDDLE - 8.0) {}
                }
                @if let Some(mark) = b.mark {
                    line.mark x1=(across(at(mark))) x2=(across(at(mark))) y1=(y + MIDDLE - 9.0) y2=(y + MIDDLE + 9.0) {}
                }
            }
        },
    )
}

/// Time per operation with its spread, and the floor's part of it.
pub fn time(group: &Group, color: &dyn Fn(&str) -> usize) -> Option<Markup> {
    let bar = |entry| {
        let entry: &Entry = entry;
        let time = entry.time?;
        let mut words = text::duration(time.median);
        if entry.times.len() > 1 {
            words += &format!(" ({})", text::range(time.min, time.max));
        }
        Some(Bar {
            entry,
            color: color(entry.name()),
            middle: time.median,
            low: time.min,
            high: time.max,
            floor: if entry.is_floor() {
                0.0
            } else {
                group.floor.unwrap_or(0.0)
            },
            dots: entry.times.clone(),
            mark: None,
            words,
        })
    };
    let drawn: Vec<Bar> = group.entries.iter().filter_map(bar).collect();
    let hint = if group.floor.is_some() {
        "Median and (fastest–slowest) run; shorter is better. Hatched: the floor, what the harness costs with null."
    } else {
        "Median and (fastest–slowest) run; shorter is better."
    };
    (!drawn.is_empty()).then(|| {
        figure(
            "Time per operation",
            hint,
            bars("Time per operation", &drawn),
        )
    })
}

/// The most memory resident, and what was left after everything was freed.
pub fn peak(group: &Group, color: &dyn Fn(&str) -> usize) -> Option<Markup> {
    let bar = |entry| {
        let entry: &Entry = entry;
        let peak = entry.peak_kib?;
        let rest = entry.middle(|r| r.rss_after_kib.unwrap_or(r.rss_end_kib) as f64)?;
        Some(Bar {
            entry,
            color: color(entry.name()),
            middle: peak.median,
            low: peak.min,
            high: peak.max,
            floor: 0.0,
            dots: Vec::new(),
            mark: Some(rest),
            words: format!("{} · {} left", text::mib(peak.median), text::bare_mib(rest)),
        })
    };
    let drawn: Vec<Bar> = group.entries.iter().filter_map(bar).collect();
    let hint =
        "The most resident at a time; the upright mark is what was left once everything was freed.";
    (!drawn.is_empty()).then(|| figure("Peak memory", hint, bars("Peak resident memory", &drawn)))
}

/// What a workload holds against its bound, where it has one.
pub fn bound(group: &Group, color: &dyn Fn(&str) -> usize) -> Option<Markup> {
    let bound = group.entries.first()?.case.spec.bound()?;
    let bar = |entry| {
        let entry: &Entry = entry;
        let values: Vec<f64> = entry.case.runs.iter().filter_map(|r| r.figure).collect();
        let found = Summary::of(&values).filter(|s| s.max.is_finite() && s.min >= 0.0)?;
        let verdict = match entry.name() {
            OURS if bound.holds(found.median) => ", kept",
            OURS => ", missed",
            _ => "",
        };
        Some(Bar {
            entry,
            color: color(entry.name()),
            middle: found.median,
            low: found.min,
            high: found.max,
            floor: 0.0,
            dots: values,
            mark: Some(bound.value),
            words: format!(
                "{} ({}–{}){verdict}",
                text::digits(found.median),
                text::digits(found.min),
                text::digits(found.max)
            ),
        })
    };
    let drawn: Vec<Bar> = group.entries.iter().filter_map(bar).collect();
    let hint = format!("{} asked of {OURS}: the upright mark.", bound);
    let heading = format!("In {}", bound.unit);
    (!drawn.is_empty()).then(|| figure(&heading, &hint, bars(&heading, &drawn)))
}

/// Page faults inside the clock.
pub fn faults(group: &Group, color: &dyn Fn(&str) -> usize) -> Option<Markup> {
    let bar = |entry| {
        let entry: &Entry = entry;
        let of = |r: &crate::record::Run| (r.minor_faults_timed + r.major_faults_timed) as f64;
        let timed = entry.middle(of)?;
        let total = entry.middle(|r| (r.minor_faults_total + r.major_faults_total) as f64)?;
        let all: Vec<f64> = entry.case.runs.iter().map(of).collect();
        Some(Bar {
            entry,
            color: color(entry.name()),
            middle: timed,
            low: all.iter().copied().fold(f64::INFINITY, f64::min),
            high: all.iter().copied().fold(0.0, f64::max),
            floor: 0.0,
            dots: Vec::new(),
            mark: None,
            words: format!("{} of {}", text::count(timed), text::count(total)),
        })
    };
    let drawn: Vec<Bar> = group.entries.iter().filter_map(bar).collect();
    if drawn.is_empty() {
        return None;
    }
    let drawing = if drawn.iter().all(|b| b.high == 0.0) {
        html! { p { "None inside the clock, with any allocator." } }
    } else {
        bars("Page faults", &drawn)
    };
    let hint = "Inside the clock, of those of the whole process.";
    Some(figure("Page faults", hint, drawing))
}

/// Throughput relative to system malloc, each with its interval.
pub fn ratios(group: &Group, color: &dyn Fn(&str) -> usize) -> Option<Markup> {
    let drawn: Vec<(&Entry, crate::stats::Ratio)> = group
        .entries
        .iter()
        .filter_map(|e| Some((e, e.ratio?)))
        .collect();
    if drawn.is_empty() {
        return None;
    }
    let ends = drawn.iter().flat_map(|(_, r)| [r.low, r.high, r.value]);
    let axis = Log::over(ends.chain([1.0]))?;
    let height = ROW * drawn.len() as f64 + 18.0;
    let ticks: Vec<_> = axis
        .ticks()
        .iter()
        .map(|t| (axis.place(*t), text::tick(*t)))
        .collect();
    let one = across(axis.place(1.0));
    let says = |e: &Entry, r: &crate::stats::Ratio| {
        let base = text::times(r.value);
        match e.verdict {
            Some(Verdict::Unsure) => format!("{base} (few runs)"),
            Some(Verdict::Same) => format!(
                "= {base} [{}–{}]",
                text::bare_ratio(r.low),
                text::bare_ratio(r.high)
            ),
            _ => format!(
                "{base} [{}–{}]",
                text::bare_ratio(r.low),
                text::bare_ratio(r.high)
            ),
        }
    };
    let described: Vec<String> = drawn
        .iter()
        .map(|(e, r)| format!("{}: {}", e.name(), says(e, r)))
        .collect();
    let drawing = frame(
        height,
        &format!("Ratio to system malloc. {}", described.join("; ")),
        html! {
            (grid(&ticks, height))
            line.one x1=(one) x2=(one) y1="0" y2=(height - 16.0) {}
            @for (i, (entry, r)) in drawn.iter().enumerate() {
                @let y = ROW * i as f64;
                (words(entry.name(), &says(entry, r), y))
                line class={ "interval c" (color(entry.name())) } x1=(across(axis.place(r.low))) x2=(across(axis.place(r.high)))
                    y1=(y + MIDDLE) y2=(y + MIDDLE) {}
                @for end in [r.low, r.high] {
                    line class={ "interval end c" (color(entry.name())) } x1=(across(axis.place(end))) x2=(across(axis.place(end)))
                        y1=(y + MIDDLE - 5.0) y2=(y + MIDDLE + 5.0) {}
                }
                circle class={ "point c" (color(entry.name())) } cx=(across(axis.place(r.value))) cy=(y + MIDDLE) r="5" {}
            }
        },
    );
    let hint = "Operations per second, system malloc = 1, with the 95 % interval; further right is better; = no difference.";
    Some(figure("Ratio to system malloc", hint, drawing))
}
