//! How long single calls take: the median, the tail and the worst of each allocator on one logarithmic axis.

use maud::{Markup, html};

use super::chart::{across, figure, frame, grid, words};
use super::figures::{Entry, Group};
use super::scale::Log;
use super::text;
use crate::latency::{Latency, Percentiles};

const ROW: f64 = 42.0;
const MIDDLE: f64 = 27.0;

/// The charts of allocations and of frees; nothing where no latency was sampled.
pub fn charts(group: &Group, color: &dyn Fn(&str) -> usize) -> Vec<Markup> {
    let of = |what: &str, pick: fn(&Latency) -> Percentiles| {
        let drawn: Vec<(&Entry, Percentiles)> = group
            .entries
            .iter()
            .filter_map(|e| Some((e, pick(e.case.latency.as_ref()?))))
            .filter(|(_, p)| p.samples > 0)
            .collect();
        chart(what, &drawn, color)
    };
    let both = [of("allocation", |l| l.alloc), of("free", |l| l.free)];
    both.into_iter().flatten().collect()
}

fn chart(
    what: &str,
    drawn: &[(&Entry, Percentiles)],
    color: &dyn Fn(&str) -> usize,
) -> Option<Markup> {
    // Below one nanosecond the clock sees nothing; a logarithmic axis has no zero.
    let marks =
        |p: &Percentiles| [p.p50_ns, p.p99_ns, p.p999_ns, p.worst_ns].map(|ns| ns.max(1) as f64);
    let axis = Log::over(drawn.iter().flat_map(|(_, p)| marks(p)))?;
    let height = ROW * drawn.len() as f64 + 18.0;
    let ticks: Vec<_> = axis
        .ticks()
        .iter()
        .map(|t| (axis.place(*t), tick(*t)))
        .collect();
    let says = |p: &Percentiles| marks(p).map(text::nanoseconds).join(" · ");
    let described: Vec<String> = drawn
        .iter()
        .map(|(e, p)| format!("{}: {}", e.name(), says(p)))
        .collect();
    let drawing = frame(
        height,
        &format!(
            "Latency of one {what}, median, 99 %, 99.9 %, worst. {}",
            described.join("; ")
        ),
        html! {
            (grid(&ticks, height))
            @for (i, (entry, p)) in drawn.iter().enumerate() {
                @let y = ROW * i as f64;
                @let at = marks(p).map(|ns| axis.place(ns));
                (words(entry.name(), &says(p), y))
                line class={ "interval c" (color(entry.name())) } x1=(across(at[0])) x2=(across(at[3])) y1=(y + MIDDLE) y2=(y + MIDDLE) {}
                @for (x, radius) in at.iter().zip(["5", "4", "3"]) {
                    circle class={ "point c" (color(entry.name())) } cx=(across(*x)) cy=(y + MIDDLE) r=(radius) {}
                }
                line class={ "interval end c" (color(entry.name())) } x1=(across(at[3])) x2=(across(at[3]))
                    y1=(y + MIDDLE - 6.0) y2=(y + MIDDLE + 6.0) {}
            }
        },
    );
    let hint = "p50 · p99 · p99.9 · worst; drawn as dots in that order and the bar at the end.";
    Some(figure(&format!("Latency of one {what}"), hint, drawing))
}

fn tick(ns: f64) -> String {
    let label = text::duration(ns / 1e9);
    label.replace(".00 ", " ").replace(".0 ", " ")
}
