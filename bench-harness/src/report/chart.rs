//! Charts as inline SVG, readable at any width: places across are percentages and text keeps its size.
//!
//! Every row has two lines: the name, and below it the drawing over the full width with its figures beside it, so that a
//! phone needs no column for labels. Colours are classes of the style sheet, which knows light, dark and print.

use bench_subject::latency::{Latency, Percentiles};
use maud::{Markup, html};

use super::scale::{self, Log};
use crate::figures::{Entry, Group, Verdict};
use crate::results::OURS;
use crate::standings::Standing;
use crate::stats::{Ratio, Summary};
use crate::text;

pub const ROW: f64 = 42.0;

/// Where in a row the drawing is centred.
pub const MIDDLE: f64 = 27.0;

/// Height of the axis with its ticks and its name.
pub const AXIS: f64 = 36.0;

pub type Color<'a> = &'a dyn Fn(&str) -> usize;

/// A place across; what is no number lies at the start.
pub fn across(per_cent: f64) -> String {
    format!("{:.2}%", within(per_cent))
}

/// Per cent between 0 and 100, whatever comes in.
pub fn within(per_cent: f64) -> f64 {
    if per_cent.is_nan() { 0.0 } else { per_cent.clamp(0.0, 100.0) }
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
    html! { svg.chart width="100%" height=(height) role="img" aria-label=(label) { (inside) } }
}

pub fn name(of: &str, y: f64) -> Markup {
    html! { text.name x="0" y=(y + 12.0) { (text::short_name(of)) } }
}

/// Figures beside what is drawn from `low` to `high` per cent: on its right where there is room, else on its left, else on the
/// line of the name.
pub fn beside(low: f64, high: f64, figures: &str, y: f64) -> Markup {
    let (low, high) = (within(low), within(high));
    // On the narrowest chart a character takes about 2.1 per cent.
    let room = figures.chars().count() as f64 * 2.1 + 4.0;
    html! {
        @if high + room < 100.0 {
            text.value x=(across(high)) dx="9" y=(y + MIDDLE + 4.5) { (figures) }
        } @else if low > room {
            text.value x=(across(low)) dx="-9" y=(y + MIDDLE + 4.5) text-anchor="end" { (figures) }
        } @else {
            text.value x="100%" y=(y + 12.0) text-anchor="end" { (figures) }
        }
    }
}

/// Figures right above a mark among many dots, clear of the row's name.
fn above(at: f64, figures: &str, y: f64) -> Markup {
    let (x, anchor) = match within(at) {
        at if at < 55.0 => (at.max(30.0), "start"),
        at => (at, "end"),
    };
    html! { text.value x=(across(x)) y=(y + 12.0) text-anchor=(anchor) { (figures) } }
}

/// The lines of an axis with their labels at the bottom, and below them what the axis is.
pub fn axis(ticks: &[(f64, String)], name: &str, height: f64) -> Markup {
    html! {
        @for (at, label) in ticks {
            line.grid x1=(across(*at)) x2=(across(*at)) y1="0" y2=(height - AXIS + 3.0) {}
            text.tick x=(across(*at)) y=(height - 20.0)
                text-anchor=(if *at < 3.0 { "start" } else if *at > 97.0 { "end" } else { "middle" }) { (label) }
        }
        text.axis x="50%" y=(height - 4.0) text-anchor="middle" { (name) }
    }
}

/// One bar of a chart that starts at 0.
#[derive(Default)]
struct Bar {
    spread: Summary,
    /// The part at the start that is not the allocator's.
    floor: f64,
    dots: Vec<f64>,
    mark: Option<f64>,
    words: String,
}

/// A bar for each allocator of which `of` says something; nothing where there is none.
fn bars(
    group: &Group,
    [heading, hint, unit]: [&str; 3],
    color: Color,
    of: impl Fn(&Entry) -> Option<Bar>,
) -> Option<Markup> {
    let bars: Vec<(&str, Bar)> = group.entries.iter().filter_map(|e| Some((e.name(), of(e)?))).collect();
    // One run or one allocator that went astray must not flatten all others: what lies beyond is drawn to the edge, with a
    // cut.
    let middles: Vec<f64> = bars.iter().map(|(_, b)| b.spread.median).collect();
    let tallest = middles.iter().copied().fold(0.0, f64::max);
    let reach = bars.iter().map(|(_, b)| b.spread.max).fold(0.0, f64::max);
    let usual = crate::stats::median(&middles).filter(|m| reach > m * 6.0 && *m > 0.0);
    let marks = bars.iter().filter_map(|(_, b)| b.mark).fold(0.0, f64::max);
    let most = usual.map_or(reach.min(tallest * 1.4), |m| m * 4.0).max(marks).max(f64::MIN_POSITIVE);
    let (full, step) = scale::linear(most);
    let at = |v: f64| v / full * 100.0;
    let steps = (full / step).round().clamp(1.0, 10.0) as usize;
    let ticks: Vec<_> = (0..=steps).map(|i| (at(i as f64 * step), text::digits(i as f64 * step))).collect();
    let height = ROW * bars.len() as f64 + AXIS;
    let described: Vec<String> = bars.iter().map(|(name, b)| format!("{name}: {}", b.words)).collect();
    let drawing = frame(
        height,
        &format!("{heading}. {}", described.join("; ")),
        html! {
            (axis(&ticks, unit, height))
            @for (i, (allocator, b)) in bars.iter().enumerate() {
                @let y = ROW * i as f64;
                @let s = b.spread;
                (name(allocator, y))
                rect class={ "bar c" (color(allocator)) } x="0" y=(y + MIDDLE - 6.0) width=(across(at(s.median))) height="12" rx="2" {}
                @if b.floor > 0.0 {
                    rect.floor x="0" y=(y + MIDDLE - 6.0) width=(across(at(b.floor.min(s.median)))) height="12" rx="2" {}
                }
                @if s.max > s.min {
                    line.whisker x1=(across(at(s.min))) x2=(across(at(s.max))) y1=(y + MIDDLE) y2=(y + MIDDLE) {}
                    @for end in [s.min, s.max].into_iter().filter(|e| *e <= full) {
                        line.whisker x1=(across(at(end))) x2=(across(at(end))) y1=(y + MIDDLE - 4.0) y2=(y + MIDDLE + 4.0) {}
                    }
                }
                @for &dot in b.dots.iter().filter(|d| **d <= full) {
                    circle.dot cx=(across(at(dot))) cy=(y + MIDDLE) r="2.2" {}
                }
                @if s.median > full {
                    line.cut x1="93%" x2="94.5%" y1=(y + MIDDLE + 8.0) y2=(y + MIDDLE - 8.0) {}
                }
                @if let Some(mark) = b.mark {
                    line.mark x1=(across(at(mark))) x2=(across(at(mark))) y1=(y + MIDDLE - 9.0) y2=(y + MIDDLE + 9.0) {}
                }
                (beside(100.0, at(s.median.max(s.max).max(b.mark.unwrap_or(0.0)).min(full * 2.0)), &b.words, y))
            }
        },
    );
    (!bars.is_empty()).then(|| figure(heading, hint, drawing))
}

/// Time per operation with its spread, and the floor's part of it.
pub fn time(group: &Group, color: Color) -> Option<Markup> {
    let longest = group.entries.iter().filter_map(|e| Some(e.time?.median)).fold(0.0, f64::max);
    let (unit, times) = text::time_unit(longest);
    let floor = "Hatched: the floor, what the harness costs with null.";
    let hint = format!("Median, with every run as a dot; shorter is better. {}", group.floor.map_or("", |_| floor));
    let unit = format!("{unit} per operation, elapsed");
    bars(group, ["Time per operation", hint.trim_end(), &unit], color, |entry| {
        let t = entry.time?;
        Some(Bar {
            spread: t.times(times),
            floor: if entry.is_floor() { 0.0 } else { group.floor.unwrap_or(0.0) * times },
            dots: entry.times.iter().map(|t| t * times).collect(),
            mark: None,
            words: text::duration(t.median),
        })
    })
}

/// The most memory resident, and what was left at the end.
pub fn peak(group: &Group, color: Color) -> Option<Markup> {
    let hint = "The most resident at a time; the upright mark is what was left at the end.";
    bars(group, ["Peak memory", hint, "MiB resident"], color, |entry| {
        let peak = entry.peak_kib?;
        let left = entry.middle(|r| r.left_kib() as f64 / 1024.0)?;
        let words = format!("{}, {} left", text::mib(peak.median), text::digits(left));
        Some(Bar { spread: peak.times(1.0 / 1024.0), mark: Some(left), words, ..Bar::default() })
    })
}

/// What a workload holds against its bound, where it has one.
pub fn bound(group: &Group, color: Color) -> Option<Markup> {
    let bound = group.entries.first()?.case.spec.row()?.bound?;
    let hint = format!("At most {} asked of {OURS}: the upright mark.", bound.most);
    bars(group, ["What is asked of it", &hint, bound.unit], color, |entry| {
        let (dots, spread, bound, verdict) = entry.bounded()?;
        let words = format!("{}{verdict}", text::digits(spread.median));
        Some(Bar { spread, floor: 0.0, dots, mark: Some(bound.most), words })
    })
}

/// Page faults inside the clock.
pub fn faults(group: &Group, color: Color) -> Option<Markup> {
    let hint = "Inside the clock, of those of the whole process.";
    let runs = || group.entries.iter().flat_map(|e| &e.case.runs);
    if runs().next().is_some() && runs().all(|r| r.faults() == 0) {
        return Some(figure("Page faults", hint, html! { p { "None inside the clock, with any allocator." } }));
    }
    bars(group, ["Page faults", hint, "page faults inside the clock"], color, |entry| {
        let all: Vec<f64> = entry.case.runs.iter().map(|r| r.faults() as f64).collect();
        let spread = Summary::of(&all)?;
        let total = entry.middle(|r| r.minor_faults_total.saturating_add(r.major_faults_total) as f64)?;
        let words = format!("{} of {}", text::count(spread.median), text::count(total));
        Some(Bar { spread, words, ..Bar::default() })
    })
}

/// One row of a chart on a logarithmic axis: the name, its figures, its dots, the mark of its middle and its interval.
struct Row<'a> {
    name: &'a str,
    words: String,
    dots: Vec<f64>,
    middle: f64,
    interval: Option<(f64, f64)>,
    /// Whether the words stand above the middle, as its dots leave no room beside them.
    above: bool,
}

/// Such a chart; a line marks `one` where that is given, and `tick` says what a line of the axis is called.
fn rows(
    [heading, described, hint, unit]: [&str; 4],
    rows: &[Row],
    one: Option<f64>,
    tick: fn(f64) -> String,
    color: Color,
) -> Option<Markup> {
    let ends = |r: &Row| [vec![r.middle], r.dots.to_vec(), r.interval.map_or(vec![], |(l, h)| vec![l, h])].concat();
    if rows.is_empty() {
        return None;
    }
    let log = Log::over(rows.iter().flat_map(ends).chain(one))?;
    let height = ROW * rows.len() as f64 + AXIS;
    let ticks: Vec<_> = log.ticks().iter().map(|t| (log.place(*t), tick(*t))).collect();
    let says: Vec<String> = rows.iter().map(|r| format!("{}: {}", r.name, r.words)).collect();
    let drawing = frame(
        height,
        &format!("{described}. {}", says.join("; ")),
        html! {
            (axis(&ticks, unit, height))
            @if let Some(one) = one.map(|o| across(log.place(o))) { line.one x1=(one) x2=(one) y1="0" y2=(height - AXIS + 3.0) {} }
            @for (i, r) in rows.iter().enumerate() {
                @let y = ROW * i as f64;
                @let (low, high) = (ends(r).into_iter().fold(f64::MAX, f64::min), ends(r).into_iter().fold(0.0, f64::max));
                @let class = color(r.name);
                (name(r.name, y))
                @for dot in &r.dots {
                    circle class={ "each c" (class) } cx=(across(log.place(*dot))) cy=(y + MIDDLE) r="4" {}
                }
                @if let Some((l, h)) = r.interval {
                    line class={ "interval c" (class) } x1=(across(log.place(l))) x2=(across(log.place(h))) y1=(y + MIDDLE) y2=(y + MIDDLE) {}
                    @for end in [l, h] {
                        line class={ "interval end c" (class) } x1=(across(log.place(end))) x2=(across(log.place(end)))
                            y1=(y + MIDDLE - 5.0) y2=(y + MIDDLE + 5.0) {}
                    }
                }
                circle class={ "point c" (class) } cx=(across(log.place(r.middle))) cy=(y + MIDDLE) r="5.5" {}
                (if r.above { above(log.place(r.middle), &r.words, y) } else { beside(log.place(low), log.place(high), &r.words, y) })
            }
        },
    );
    Some(figure(heading, hint, drawing))
}

/// Speed relative to system malloc, each with its interval.
pub fn ratios(group: &Group, color: Color) -> Option<Markup> {
    let words = |e: &Entry, r: &Ratio| match (r.interval, e.verdict) {
        (None, _) => format!("{} (one run)", text::times(r.value)),
        (Some((low, high)), verdict) => {
            let mark = if verdict == Some(Verdict::Level) { "= " } else { "" };
            format!("{mark}{} [{}–{}]", text::times(r.value), text::bare_ratio(low), text::bare_ratio(high))
        }
    };
    let rated = group.entries.iter().filter_map(|e| Some((e, e.ratio.as_ref()?)));
    let all: Vec<Row> = rated
        .map(|(e, r)| Row {
            name: e.name(),
            words: words(e, r),
            dots: Vec::new(),
            middle: r.value,
            interval: r.interval,
            above: false,
        })
        .collect();
    let hint = "With the 95 % interval; further right is better; = no measurable difference.";
    let unit = format!("times system malloc's operations per second of {} (logarithmic)", group.measure.words());
    let heading = "Ratio to system malloc";
    rows([heading, heading, hint, &unit], &all, Some(1.0), text::tick, color)
}

/// All ratios of every allocator on one axis, with their geometric mean.
pub fn standings(standings: &[Standing], color: Color) -> Option<Markup> {
    let mut all: Vec<Row> = Vec::new();
    for (s, mean) in standings.iter().filter_map(|s| Some((s, s.mean.as_ref()?))) {
        let words = format!("{}, first in {}", text::times(mean.value), s.places.of(Verdict::Faster));
        let (middle, interval) = (mean.value, mean.interval);
        all.push(Row { name: &s.name, words, dots: s.ratios.clone(), middle, interval, above: !s.ratios.is_empty() });
    }
    all.sort_by(|a, b| b.middle.total_cmp(&a.middle));
    let hint = "A pale dot per measurement that counts; the strong one is their geometric mean with its 95 % interval. Further \
                right is better.";
    let unit = "times system malloc's operations per second (logarithmic)";
    let heading = "Against system malloc";
    rows([heading, heading, hint, unit], &all, Some(1.0), text::tick, color)
}

/// How long single calls take: the median, the tail and the worst; nothing where no latency was sampled.
pub fn latencies(group: &Group, color: Color) -> impl Iterator<Item = Markup> {
    let of = |what: &str, pick: fn(&Latency) -> Percentiles| {
        let sampled = group.entries.iter().filter_map(|e| Some((e, pick(e.case.latency.as_ref()?))));
        let mut all: Vec<Row> = Vec::new();
        for (e, p) in sampled.filter(|(_, p)| p.samples > 0) {
            // Below one nanosecond the clock sees nothing; a logarithmic axis has no zero.
            let marks = [p.p50_ns, p.p99_ns, p.p999_ns, p.worst_ns].map(|ns| ns.max(1) as f64);
            let (words, dots) = (marks.map(text::nanoseconds).join(" · "), marks[1..3].to_vec());
            let interval = Some((marks[0], marks[3]));
            all.push(Row { name: e.name(), words, dots, middle: marks[0], interval, above: false });
        }
        let heading = format!("Latency of one {what}");
        let described = format!("{heading}, median, 99 %, 99.9 %, worst");
        let hint = "p50 · p99 · p99.9 · worst; drawn as dots in that order and the bar at the end.";
        let unit = "time of one call (logarithmic): p50, p99, p99.9, worst";
        let tick = |ns: f64| text::duration(ns / 1e9).replace(".00 ", " ").replace(".0 ", " ");
        rows([&heading, &described, hint, unit], &all, None, tick, color)
    };
    [of("allocation", |l| l.alloc), of("free", |l| l.free)].into_iter().flatten()
}
