//! Memory over time: what each allocator had resident at the moments a workload noted, beside what was alive.

use maud::{Markup, html};

use bench_subject::record::MemoryPoint;

use super::chart::{Color, across, figure, within};
use super::scale;
use crate::figures::{Entry, Group};
use crate::stats::median;
use crate::text;

/// Height of the drawing, and of the axis below it.
const HEIGHT: f64 = 190.0;
const AXIS: f64 = 34.0;

/// An allocator and the moments of its runs.
type Line<'a> = (&'a str, Vec<MemoryPoint>);

/// The chart; nothing where the workload does not follow memory.
pub fn chart(group: &Group, color: Color) -> Option<Markup> {
    let entries = group.entries.iter().filter(|e| !e.is_floor());
    let lines: Vec<Line> = entries.filter_map(|e| Some((e.name(), middle_points(e)?))).collect();
    let longest = lines.iter().max_by_key(|l| l.1.len()).filter(|l| l.1.len() > 1)?;
    // Moments of a workload that keeps blocks come at the same step but not at the same second for each allocator;
    // a workload that holds nothing only waits, and then seconds are what matters.
    let waits = lines.iter().all(|l| l.1.iter().all(|p| p.live_kib == 0));
    let since_first = |p: &MemoryPoint, l: &Line| (p.secs - l.1[0].secs).max(0.0);
    let span = lines.iter().filter_map(|l| Some(since_first(l.1.last()?, l))).fold(0.0, f64::max);
    let x = |i: usize, p: &MemoryPoint, l: &Line| match waits {
        true if span > 0.0 => since_first(p, l) / span * 100.0,
        _ => i as f64 / (longest.1.len() - 1) as f64 * 100.0,
    };
    let most = lines.iter().flat_map(|l| &l.1).map(|p| p.rss_kib.max(p.live_kib)).max()?;
    let (top, step) = scale::linear(most as f64 / 1024.0);
    let y = |kib: u64| (1.0 - kib as f64 / 1024.0 / top) * 100.0;
    let way = |l: &Line, of: fn(&MemoryPoint) -> u64| {
        let place = |(i, p)| format!("{:.2},{:.2}", within(x(i, p, l)), within(y(of(p))));
        l.1.iter().enumerate().map(place).collect::<Vec<_>>().join(" ")
    };
    let levels: Vec<f64> = (0..=(top / step).round() as usize).map(|i| i as f64 * step).collect();
    let described: Vec<String> = lines.iter().map(|l| format!("{} ends at {}", l.0, ends_at(l))).collect();
    let drawing = html! {
        svg.chart.memory width="100%" height=(HEIGHT + AXIS) role="img"
            aria-label={ "Memory over time. " (described.join("; ")) } {
            svg x="0" y="0" width="100%" height=(HEIGHT) {
                @for level in &levels {
                    @let at = across((1.0 - level / top) * 100.0);
                    line.grid x1="0" x2="100%" y1=(at) y2=(at) {}
                }
                svg x="0" y="0" width="100%" height="100%" viewBox="0 0 100 100" preserveAspectRatio="none" {
                    @if !waits {
                        polyline.live points=(way(longest, |p| p.live_kib)) vector-effect="non-scaling-stroke" {}
                    }
                    @for l in &lines {
                        polyline class={ "way c" (color(l.0)) } points=(way(l, |p| p.rss_kib))
                            vector-effect="non-scaling-stroke" {}
                    }
                }
                @for level in levels.iter().skip(1) {
                    text.tick x="3" y=(across((1.0 - level / top) * 100.0)) dy="12" { ((level * 1e6).round() / 1e6) " MiB" }
                }
            }
            @let (first, last) = if waits { ("freed".to_owned(), format!("{} s later", text::digits(span))) }
                else { ("step 1".to_owned(), format!("step {}", longest.1.len())) };
            text.axis x="50%" y=(HEIGHT + 30.0) text-anchor="middle" { (if waits { "seconds at rest; upwards: MiB resident beyond the start" } else { "moments the workload noted; upwards: MiB resident beyond the start" }) }
            text.tick x="0" y=(HEIGHT + 14.0) { (first) }
            text.tick x="100%" y=(HEIGHT + 14.0) text-anchor="end" { (last) }
        }
        ul.legend {
            @if !waits { li { span.swatch.live {} "asked for" } }
            @for l in &lines {
                li { span class={ "swatch c" (color(l.0)) } {} (l.0) " " span.dim { (ends_at(l)) } }
            }
        }
    };
    let hint = if waits {
        "Resident beyond the start, from the moment everything was freed; legend: at the end."
    } else {
        "Resident beyond the start at each step of growing and thinning; legend: at the end."
    };
    Some(figure("Memory over time", hint, drawing))
}

fn ends_at(line: &Line) -> String {
    line.1.last().map_or(String::new(), |p| text::mib(p.rss_kib as f64))
}

/// The median of each moment over the runs; as many moments as every run has.
fn middle_points(entry: &Entry) -> Option<Vec<MemoryPoint>> {
    let runs: Vec<&Vec<MemoryPoint>> = entry.case.runs.iter().map(|r| &r.memory).filter(|m| !m.is_empty()).collect();
    let common = runs.iter().map(|m| m.len()).min()?;
    let middle = |i: usize, of: fn(&MemoryPoint) -> f64| {
        median(&runs.iter().map(|m| of(&m[i])).collect::<Vec<_>>()).unwrap_or(0.0)
    };
    let point = |i| MemoryPoint {
        secs: middle(i, |p| p.secs),
        live_kib: middle(i, |p| p.live_kib as f64) as u64,
        rss_kib: middle(i, |p| p.rss_kib as f64) as u64,
    };
    Some((0..common).map(point).collect())
}
