//! The parts of the page below the summary: one per workload, the machine, the commands, how to read it all.

use maud::{Markup, html};

use super::figures::{Entry, Group};
use super::{chart, latency, memory, rerun, text};
use crate::machine::Machine;
use crate::record::Results;
use crate::table::BASE;

/// One measurement: its charts, its figures, its failures and its command.
pub fn measurement(group: &Group, machine: &Machine, color: &dyn Fn(&str) -> usize) -> Markup {
    let mut charts = Vec::new();
    charts.extend(chart::time(group, color));
    charts.extend(chart::ratios(group, color));
    charts.extend(chart::bound(group, color));
    charts.extend(latency::charts(group, color));
    charts.extend(memory::chart(group, color));
    charts.extend(chart::peak(group, color));
    charts.extend(chart::faults(group, color));
    let failures = group
        .entries
        .iter()
        .flat_map(|e| e.case.failures.iter().map(move |f| (e.name(), f)));
    let runs = group
        .entries
        .iter()
        .map(|e| e.case.runs.len())
        .max()
        .unwrap_or(0);
    html! {
        article id=(group.id) {
            h3 { (group.title) " " span.series { (group.series) } span.dim { (runs) @if runs == 1 { " run each" } @else { " runs each" } } }
            @for (name, failure) in failures {
                p.failure { strong { (name) } ", run " (failure.round.saturating_add(1)) " failed: " (failure.error) }
            }
            @if charts.is_empty() { p { "No run gave a result." } }
            div.charts { @for c in &charts { (c) } }
            details {
                summary { "All figures, and the command" }
                (figures(group))
                pre { code { (rerun::measurement(group, machine)) } }
            }
        }
    }
}

fn figures(group: &Group) -> Markup {
    let counted = group
        .entries
        .iter()
        .any(|e| e.case.instructions_per_op.is_some());
    html! {
        div.scroll tabindex="0" role="region" aria-label="All figures" {
            table {
                thead { tr {
                    th scope="col" { "allocator" }
                    th scope="col" { "time per op" } th scope="col" { "fastest–slowest" }
                    th scope="col" { "M ops/s" } th scope="col" { "above the floor" } th scope="col" { "… of system's" }
                    th scope="col" { "user s" } th scope="col" { "sys s" }
                    th scope="col" { "faults" } th scope="col" { "peak MiB" } th scope="col" { "left MiB" }
                    @if counted { th scope="col" { "instr/op" } }
                } }
                tbody { @for entry in &group.entries { tr {
                    th scope="row" { (entry.name()) }
                    (row(group, entry))
                    @if counted { td { (entry.case.instructions_per_op.map_or("–".to_owned(), text::digits)) } }
                } } }
            }
        }
        @for entry in &group.entries {
            @let refused = entry.case.runs.iter().fold(0u64, |n, r| n.saturating_add(r.failed_allocs));
            @if refused > 0 { p.failure { strong { (entry.name()) } ": " (text::count(refused as f64)) " allocations were refused" } }
        }
    }
}

fn row(group: &Group, entry: &Entry) -> Markup {
    let or_dash = |v: Option<String>| v.unwrap_or_else(|| "–".to_owned());
    let middle = |of: fn(&crate::record::Run) -> f64| entry.middle(of);
    let above = group.above_floor(entry).filter(|_| !entry.is_floor());
    let share = group
        .above_floor_ratio(entry)
        .filter(|_| !entry.is_floor() && entry.name() != BASE);
    let faults = middle(|r| (r.minor_faults_timed + r.major_faults_timed) as f64);
    let left = middle(|r| r.rss_after_kib.unwrap_or(r.rss_end_kib) as f64);
    let cells = [
        entry.time.map(|t| text::duration(t.median)),
        entry.time.map(|t| text::range(t.min, t.max)),
        entry.time.map(|t| crate::table::short(1e-6 / t.median)),
        above.map(text::duration),
        share.map(text::times),
        middle(|r| r.user_secs).map(text::digits),
        middle(|r| r.sys_secs).map(text::digits),
        faults.map(text::count),
        entry.peak_kib.map(|p| text::bare_mib(p.median)),
        left.map(text::bare_mib),
    ];
    html! { @for cell in cells { td { (or_dash(cell)) } } }
}

/// The machine and its settings.
pub fn machine(m: &Machine) -> Markup {
    let known = |n: u64, unit: &str| {
        if n > 0 {
            format!("{} {unit}", text::count(n as f64))
        } else {
            String::new()
        }
    };
    let rows = [
        ("Processor", m.cpu.clone()),
        ("Processors used", known(m.cpus as u64, "")),
        (
            "Virtual machine",
            if m.virtual_machine {
                "yes".to_owned()
            } else {
                "no".to_owned()
            },
        ),
        ("Memory", known(m.memory_mib, "MiB")),
        ("Kernel", format!("{} {}", m.kernel, m.arch)),
        ("OS page", known(m.page_size, "bytes")),
        ("Transparent huge pages", m.thp.clone()),
        ("Load when it began", m.load.clone()),
        ("Began", text::utc(m.unix_time).unwrap_or_default()),
        ("Harness", m.version.clone()),
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

/// The commands that measure all of it again.
pub fn commands(results: &Results) -> Markup {
    let whole = rerun::whole(&results.machine);
    html! {
        @if let Some(whole) = whole {
            pre { code { (whole) } }
        } @else {
            p { "The file does not say which command it came from." }
        }
        @if results.machine.command.iter().any(|w| crate::peers::NAMES.iter().any(|n| w.contains(n))) {
            p { "The rival allocators are built first:" }
            pre { code { "cargo run --release -p bench-harness -- peers build" } }
        }
        p { "Each measurement has the command that repeats it alone, under its figures." }
    }
}

/// How to read the page.
pub fn reading() -> Markup {
    html! {
        ul {
            li { "Every run is a process of its own; the allocators take turns in shuffled order, so that whatever the machine does
                  meanwhile hits all alike." }
            li { "Figures are medians. The interval of a ratio is a bootstrap over rounds, 95 %. Where it includes 1, there is no
                  difference to speak of, whatever the median says." }
            li { strong { "warm" } ": prepared before the clock starts; " strong { "cold" } ": the clock starts with the very first
                  allocation." }
            li { strong { "null" } " hands out fixed blocks and does nothing: what it takes is the harness's own cost, the floor under
                  everybody. What an allocator costs above it is in the tables." }
            li { "With several threads, time per operation is elapsed time over the operations of all threads." }
            li { "Latency comes from a run of its own, in which every 61st call is timed and the clock's cost subtracted." }
        }
    }
}
