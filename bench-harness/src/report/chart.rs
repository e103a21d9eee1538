//! The one kind of chart: a row for each allocator on a logarithmic axis, as inline SVG, readable at any width: places across
//! are percentages and text keeps its size.
//!
//! Every row has two lines: the name, and below it the drawing over the full width with its figures beside it, so that a
//! phone needs no column for labels. Colours are classes of the style sheet, which knows light, dark and print.

use itertools::Itertools;
use maud::{Markup, PreEscaped, html};

use super::scale::Log;
use crate::figures::{Entry, Group, Verdict, count};
use crate::finding::Standing;
use crate::stats::Ratio;
use crate::text;

const ROW: f64 = 42.0;

/// Where in a row the drawing is centred.
const MIDDLE: f64 = 27.0;

/// Height of the axis with its ticks and its name.
const AXIS: f64 = 36.0;

pub type Color<'a> = &'a dyn Fn(&str) -> usize;

struct Chart<'a> {
    heading: &'a str,
    /// How to read it.
    hint: &'a str,
    /// The name of its axis.
    unit: &'a str,
    /// Where a dashed line is drawn through all rows.
    line: Option<f64>,
    /// What a tick of the axis is called.
    tick: fn(f64) -> String,
}

/// What a chart shows of an allocator: its figures, pale dots, the strong mark of the middle and an interval.
#[derive(Default)]
struct Row {
    name: String,
    words: String,
    dots: Vec<f64>,
    middle: f64,
    interval: Option<(f64, f64)>,
    /// Whether the words stand behind the name, as the dots leave no room beside them.
    headed: bool,
}

impl Row {
    fn all(&self) -> impl Iterator<Item = f64> {
        let ends = self.interval.into_iter().flat_map(|(low, high)| [low, high]);
        self.dots.iter().copied().chain([self.middle]).chain(ends)
    }
}

fn across(per_cent: f64) -> String {
    format!("{per_cent:.2}%")
}

/// Figures beside what is drawn from `low` to `high` per cent: on its right where there is room, else on its left, else on the
/// line of the name.
fn beside(low: f64, high: f64, figures: &str, y: f64) -> Markup {
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

/// The chart with its heading and a line that says how to read it; nothing without rows or without a positive value.
fn draw(chart: &Chart, rows: &[Row], color: Color) -> Option<Markup> {
    let drawing = drawing(chart, rows, color)?;
    Some(html! { figure { figcaption { strong { (chart.heading) } " " span { (chart.hint) } } (drawing) } })
}

fn height(rows: &[Row]) -> f64 {
    ROW * rows.len() as f64 + AXIS
}

fn drawing(chart: &Chart, rows: &[Row], color: Color) -> Option<Markup> {
    let log = Log::over(rows.iter().flat_map(Row::all).chain(chart.line))?;
    let at = |value: f64| across(log.place(value));
    let height = height(rows);
    let says: Vec<String> = rows.iter().map(|r| format!("{}: {}", r.name, r.words)).collect();
    let row = |(i, r): (usize, &Row)| {
        let (y, class) = (ROW * i as f64, color(&r.name));
        let places = r.all().map(|v| log.place(v));
        let (low, high) = places.fold((100.0, 0.0), |(l, h), p| (p.min(l), p.max(h)));
        html! {
            text.name x="0" y=(y + 12.0) {
                (text::short_name(&r.name))
                @if r.headed { tspan.value dx="8" { (r.words) } }
            }
            @for dot in &r.dots { circle class={ "each c" (class) } cx=(at(*dot)) cy=(y + MIDDLE) r="4" {} }
            @if let Some((l, h)) = r.interval {
                line class={ "interval c" (class) } x1=(at(l)) x2=(at(h)) y1=(y + MIDDLE) y2=(y + MIDDLE) {}
                @for end in [l, h] {
                    line class={ "interval end c" (class) } x1=(at(end)) x2=(at(end)) y1=(y + MIDDLE - 5.0) y2=(y + MIDDLE + 5.0) {}
                }
            }
            circle class={ "point c" (class) } cx=(at(r.middle)) cy=(y + MIDDLE) r="5.5" {}
            @if !r.headed { (beside(low, high, &r.words, y)) }
        }
    };
    Some(html! {
            svg.chart width="100%" height=(height) role="img" aria-label={ (chart.heading) ". " (says.join("; ")) } {
                @for (place, tick) in log.ticks().iter().map(|t| (log.place(*t), t)) {
                    line.grid x1=(across(place)) x2=(across(place)) y1="0" y2=(height - AXIS + 3.0) {}
                    text.tick x=(across(place)) y=(height - 20.0)
                        text-anchor=(if place < 3.0 { "start" } else if place > 97.0 { "end" } else { "middle" }) {
                        ((chart.tick)(*tick))
                    }
                }
                text.axis x="50%" y=(height - 4.0) text-anchor="middle" { (chart.unit) " (logarithmic)" }
                @if let Some(one) = chart.line.map(at) { line.one x1=(one) x2=(one) y1="0" y2=(height - AXIS + 3.0) {} }
                @for drawn in rows.iter().enumerate().map(row) { (drawn) }
            }
    })
}

/// A chart of the allocators of which `of` says something.
fn of_group(group: &Group, color: Color, chart: &Chart, of: impl Fn(&Entry) -> Option<Row>) -> Option<Markup> {
    let row = |e: &Entry| Some(Row { name: e.name().to_owned(), ..of(e)? });
    draw(chart, &group.entries.iter().filter_map(row).collect::<Vec<_>>(), color)
}

/// The charts of a measurement: of what spreads from run to run. What is one number is in the tables.
pub fn all(group: &Group, color: Color) -> Vec<Markup> {
    [time(group, color), ratios(group, color)].into_iter().flatten().collect()
}

fn time(group: &Group, color: Color) -> Option<Markup> {
    let floor = if group.floor.is_some() { " Dashed: the floor, what the harness costs with null." } else { "" };
    let hint = format!("The median, and a pale dot for every run; further left is better.{floor}");
    let (heading, unit) = ("Time per operation", "elapsed time of one operation");
    let chart = Chart { heading, hint: &hint, unit, line: group.floor, tick: text::tick_duration };
    of_group(group, color, &chart, |e| {
        let middle = e.time?;
        Some(Row { words: text::duration(middle), dots: e.times.clone(), middle, ..Row::default() })
    })
}

fn ratios(group: &Group, color: Color) -> Option<Markup> {
    let hint = "With the 95 % interval; further right is better; = no measurable difference.";
    let unit = format!("times system malloc, by {}", group.measure.words());
    let chart = Chart { heading: "Ratio to system malloc", hint, unit: &unit, line: Some(1.0), tick: text::tick };
    of_group(group, color, &chart, |e| {
        let r = e.ratio.as_ref()?;
        Some(Row { words: text::ratio(r), middle: r.value, interval: r.interval, ..Row::default() })
    })
}

/// All ratios of every allocator, with their geometric mean; the fastest first.
fn rated(standings: &[Standing]) -> Vec<Row> {
    let rated = standings.iter().filter_map(|s| Some((s, s.mean.as_ref()?)));
    let row = |(s, mean): (&Standing, &Ratio)| Row {
        name: s.name.clone(),
        words: format!("{}, fastest in {}", text::times(mean.value), count(&s.places, Verdict::Faster)),
        dots: s.ratios.clone(),
        middle: mean.value,
        interval: mean.interval,
        headed: !s.ratios.is_empty(),
    };
    rated.map(row).sorted_by(|a, b| b.middle.total_cmp(&a.middle)).collect()
}

const STANDINGS: Chart = Chart {
    heading: "Speed against system malloc",
    hint: "Pale: each measurement that counts. Strong: their geometric mean with its 95 % interval. Right of the dashed line: faster.",
    unit: "times system malloc's operations per second",
    line: Some(1.0),
    tick: text::tick,
};

pub fn standings(standings: &[Standing], color: Color) -> Option<Markup> {
    draw(&STANDINGS, &rated(standings), color)
}

/// The same as a picture by itself, which brings its own ground and follows the reader's choice of light or dark.
pub fn picture(standings: &[Standing], color: Color, style: &str, under: &str) -> String {
    const WIDTH: f64 = 760.0;
    const TOP: f64 = 70.0;
    let rows = rated(standings);
    let height = TOP + height(&rows) + 40.0;
    let svg = html! {
        svg xmlns="http://www.w3.org/2000/svg" viewBox=(format!("0 0 {WIDTH} {height}")) width=(WIDTH) height=(height)
            font-family="system-ui, -apple-system, 'Segoe UI', Roboto, Arial, sans-serif" {
            style { (PreEscaped(style)) }
            rect x="0.5" y="0.5" width=(WIDTH - 1.0) height=(height - 1.0) rx="10" fill="var(--card)" stroke="var(--line)" {}
            text.name x="20" y="30" font-size="17" { (STANDINGS.heading) }
            text.tick x="20" y="50" { (STANDINGS.hint) }
            svg x="20" y=(TOP) width=(WIDTH - 40.0) height=(height) { (drawing(&STANDINGS, &rows, color).unwrap_or_default()) }
            text.tick x=(WIDTH - 20.0) y=(height - 14.0) text-anchor="end" { (under) }
        }
    };
    // A line for each element, so that a change shows what changed.
    svg.into_string().replace("><", ">\n<") + "\n"
}
