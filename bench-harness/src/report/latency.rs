//! How long single calls take: the median, the tail and the worst of each allocator on one logarithmic axis.

use maud::{Markup, html};

use super::chart::{AXIS, Color, MIDDLE, ROW, across, axis, beside, figure, frame, name};
use super::scale::Log;
use crate::figures::{Entry, Group};
use crate::text;
use bench_subject::latency::{Latency, Percentiles};

/// The charts of allocations and of frees; nothing where no latency was sampled.
pub fn charts(group: &Group, color: Color) -> Vec<Markup> {
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

fn chart(what: &str, drawn: &[(&Entry, Percentiles)], color: Color) -> Option<Markup> {
    // Below one nanosecond the clock sees nothing; a logarithmic axis has no zero.
    let marks = |p: &Percentiles| [p.p50_ns, p.p99_ns, p.p999_ns, p.worst_ns].map(|ns| ns.max(1) as f64);
    let log = Log::over(drawn.iter().flat_map(|(_, p)| marks(p)))?;
    let height = ROW * drawn.len() as f64 + AXIS;
    let ticks: Vec<_> = log.ticks().iter().map(|t| (log.place(*t), tick(*t))).collect();
    let says = |p: &Percentiles| marks(p).map(text::nanoseconds).join(" · ");
    let described: Vec<String> = drawn.iter().map(|(e, p)| format!("{}: {}", e.name(), says(p))).collect();
    let drawing = frame(
        height,
        &format!("Latency of one {what}, median, 99 %, 99.9 %, worst. {}", described.join("; ")),
        html! {
            (axis(&ticks, "time of one call (logarithmic): p50, p99, p99.9, worst", height))
            @for (i, (entry, p)) in drawn.iter().enumerate() {
                @let y = ROW * i as f64;
                @let at = marks(p).map(|ns| log.place(ns));
                (name(entry.name(), y))
                (beside(at[0], at[3], &says(p), y))
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
