//! The parts of the page below the summary: one per workload, and the machine.

use maud::{Markup, html};

use super::chart::{self, Color};
use crate::figures::Group;
use crate::machine::Machine;
use crate::{table, text};

pub fn measurement(group: &Group, color: Color) -> Markup {
    let charts = chart::all(group, color);
    html! {
        article id=(group.id) {
            h3 { (group.title) " " span.series { (group.series) }
                span.dim { (group.how()) } }
            @if let Some(noise) = &group.noise { p.noise { "~ Does not count: " (noise) "." } }
            @for entry in &group.entries {
                @for note in table::notes(entry) { p.failure[!entry.case.failures.is_empty()] { strong { (entry.name()) } " " (note) } }
            }
            @if charts.is_empty() { p { "No run gave a result." } }
            div.charts { @for c in &charts { (c) } }
            details { summary { "All figures" } (figures(group)) }
        }
    }
}

fn figures(group: &Group) -> Markup {
    let (head, rows) = table::figures(group);
    html! {
        div.scroll tabindex="0" role="region" aria-label="All figures" {
            table {
                thead { tr { @for cell in &head { th scope="col" { (cell) } } } }
                tbody { @for row in &rows {
                    tr { th scope="row" { (row[0]) } @for cell in &row[1..] { td { (cell) } } }
                } }
            }
        }
    }
}

pub fn machine(m: &Machine) -> Markup {
    let known = |n: u64, unit: &str| if n > 0 { format!("{} {unit}", text::count(n as f64)) } else { String::new() };
    let time = |ns: Option<f64>| ns.map_or(String::new(), |ns| text::duration(ns / 1e9));
    let rows = [
        ("Processor", m.cpu.clone()),
        ("Processors used", known(m.cpus as u64, "")),
        ("Virtual machine", if m.virtual_machine { "yes" } else { "no" }.to_owned()),
        ("Memory", known(m.memory_mib, "MiB")),
        ("A load that misses all caches", time(m.memory_latency_ns)),
        ("First touch of 4 KiB", time(m.fault_ns)),
        ("First touch of a huge page", time(m.huge_fault_ns)),
        ("Kernel", format!("{} {}", m.kernel, m.arch)),
        ("OS page", known(m.page_size, "bytes")),
        ("Transparent huge pages", format!("{} (defrag {})", m.thp, m.thp_defrag)),
        ("Load when it began", m.load.clone()),
        ("Began", text::utc(m.unix_time).unwrap_or_default()),
        ("Harness", m.version.clone()),
        ("Command", m.command.join(" ")),
        ("Environment", m.environment.join(" ")),
    ];
    html! {
        dl {
            @for (name, value) in rows.iter().filter(|(_, v)| !v.trim().is_empty()) {
                div { dt { (name) } dd { (value) } }
            }
        }
    }
}
