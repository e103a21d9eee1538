//! The table on stdout: one block per measurement, one line per allocator, and the finding at the end.

use bench_subject::record::Run;
use comfy_table::{CellAlignment, Table, presets};
use itertools::Itertools;

use crate::figures::{Entry, Group};
use crate::finding::Finding;
use crate::results::{BASE, Exact, PRELOAD};
use crate::stats::Summary;
use crate::text::{self, short};

/// What the columns are that these measurements have, a line each.
fn legend(groups: &[Group]) -> String {
    let series = "warm: prepared before the clock; cold: the clock starts with the first allocation; aged: warm, fragmented heap";
    let columns = groups.iter().flat_map(columns).map(|c| c.says).filter(|says| !says.is_empty()).unique();
    columns.chain([series]).map(|line| format!("{line}\n")).collect()
}

/// A table without lines: columns two spaces apart, numbers to the right.
pub fn plain(head: &[String], rows: Vec<Vec<String>>, left: usize) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(head).add_rows(rows);
    table.set_content_arrangement(comfy_table::ContentArrangement::Disabled);
    for (i, column) in table.column_iter_mut().enumerate() {
        column.set_padding((if i == 0 { 2 } else { 0 }, 2));
        column.set_cell_alignment(if i < left { CellAlignment::Left } else { CellAlignment::Right });
    }
    table.lines().map(|line| line.trim_end().to_owned() + "\n").collect()
}

/// All measurements as text, and what they come to.
pub fn render(groups: &[Group]) -> String {
    let blocks: String = groups.iter().map(|g| block(g) + "\n").collect();
    blocks + &legend(groups) + "\n" + &Finding::of(groups).sentences().join("\n") + "\n"
}

fn block(group: &Group) -> String {
    let mut text = format!("{}: {}\n", group.words(), group.how());
    if let Some(noise) = &group.noise {
        text += &format!("  noisy, does not count: {noise}\n");
    }
    let (head, rows) = figures(group);
    text += &plain(&head, rows, 1);
    for entry in &group.entries {
        text.extend(notes(entry).into_iter().map(|line| format!("  {:<14} {line}\n", entry.name())));
    }
    text
}

/// The figures of a measurement: the head of a table, and a row for each allocator that has runs.
pub fn figures(group: &Group) -> (Vec<String>, Vec<Vec<String>>) {
    let columns = columns(group);
    let measured = group.entries.iter().filter(|e| !e.case.runs.is_empty());
    let row = |entry: &Entry| columns.iter().map(|c| (c.cell)(entry)).collect();
    (columns.iter().map(|c| c.head.clone()).collect(), measured.map(row).collect())
}

/// A column of the table of a measurement.
struct Column<'a> {
    head: String,
    /// What it is, for the legend, where its head does not say.
    says: &'static str,
    cell: Box<dyn Fn(&Entry) -> String + 'a>,
}

fn column<'a>(head: &str, says: &'static str, cell: impl Fn(&Entry) -> String + 'a) -> Column<'a> {
    Column { head: head.to_owned(), says, cell: Box::new(cell) }
}

/// The median of something over the runs, with so many digits behind the point.
fn middle<'a>(head: &str, says: &'static str, digits: usize, of: fn(&Run) -> f64) -> Column<'a> {
    column(head, says, move |e| format!("{:.digits$}", e.case.middle(of).unwrap_or(0.0)))
}

/// From the slowest to the fastest run; one run has no range.
fn range(s: &Summary) -> String {
    if s.min < s.max { format!("({}–{})", short(s.min), short(s.max)) } else { String::new() }
}

fn or_dash(figure: Option<String>) -> String {
    figure.unwrap_or("–".to_owned())
}

fn columns<'a>(group: &'a Group) -> Vec<Column<'a>> {
    let cases = || group.entries.iter().map(|e| e.case);
    let (unit, shown) = unit_of(group);
    let speeds = move |e: &Entry| {
        Summary::of(&e.case.runs.iter().map(|r| shown(r.ops_per_sec)).collect::<Vec<_>>()).unwrap_or_default()
    };
    let mut all = vec![
        column("allocator", "", |e| e.name().to_owned()),
        column(unit, "ops/s: operations per second, the median run with the slowest and the fastest", move |e| {
            short(speeds(e).median)
        }),
        column("(min–max)", "", move |e| range(&speeds(e))),
        column(
            "ratio to system",
            "ratio: by the time the block names, with its 95 % interval; \"=\" where it is no measurable difference",
            ratio,
        ),
    ];
    if group.floor.is_some() {
        let says = "above floor: time of one operation above that of null, which does nothing";
        all.push(column("above floor", says, |e| or_dash(group.above_floor(e).map(text::duration))));
    }
    let faults = "faults: page faults inside the timed part, and of the whole process";
    let rss = "RSS: the most memory resident at a time, and what is left at the end";
    let left = if cases().any(|c| c.runs.iter().any(|r| r.rss_after_kib.is_some())) { "at rest" } else { "left" };
    all.extend([
        middle("faults", faults, 0, |r| r.faults() as f64),
        middle("(total)", "", 0, |r| r.minor_faults_total as f64 + r.major_faults_total as f64),
        middle("user s", "", 3, |r| r.user_secs),
        middle("sys s", "", 3, |r| r.sys_secs),
        middle("RSS MiB", rss, 1, |r| r.max_rss_kib as f64 / 1024.0),
        // A program that ran to its end left nothing that could be read.
        column(left, "", |e| {
            let left = e.case.middle(|r| r.left_kib() as f64 / 1024.0).filter(|l| *l > 0.0);
            or_dash(left.map(|l| format!("{l:.1}")))
        }),
    ]);
    if cases().any(|c| c.exact != Exact::default()) {
        // The floor's own counts, which are no allocator's, are in parentheses.
        let own = |e: &Entry, count: String| if e.is_floor() { format!("({count})") } else { count };
        let instructions = "instr/op: instructions of one operation above the floor's, whose own are in parentheses";
        let calls = "calls: system calls of a process above the floor's, in a run of so many operations";
        let ops = cases().find_map(|c| c.exact.syscall_ops).map_or(String::new(), |n| format!(" ({n})"));
        all.push(column("instr/op", instructions, move |e| {
            or_dash(e.case.exact.instructions_per_op.map(|n| own(e, format!("{n:.1}"))))
        }));
        all.push(column(&format!("calls{ops}"), calls, move |e| {
            or_dash(e.case.exact.syscalls.map(|n| own(e, n.to_string())))
        }));
    }
    all
}

/// The ratio to system malloc, with its interval.
pub fn ratio(entry: &Entry) -> String {
    match &entry.ratio {
        _ if entry.name() == BASE => "1".to_owned(),
        r => or_dash(r.as_ref().map(text::ratio)),
    }
}

/// What does not fit into a row, a line each: single calls, the workload's own figure, refusals, failures.
pub fn notes(entry: &Entry) -> Vec<String> {
    let case = entry.case;
    let mut lines = Vec::new();
    for (what, p) in case.latency.iter().flat_map(|l| [("alloc", l.alloc), ("free", l.free)]) {
        lines.push(format!(
            "one {what}: p50 {} ns, p99 {} ns, p99.9 {} ns, worst {} ns ({} samples)",
            p.p50_ns, p.p99_ns, p.p999_ns, p.worst_ns, p.samples
        ));
    }
    if let Some((s, unit)) = entry.figure() {
        lines.push(format!("{} {unit} {}", short(s.median), range(&s)).trim_end().to_owned());
    }
    let refused = case.runs.iter().fold(0u64, |n, r| n.saturating_add(r.failed_allocs));
    lines.extend((refused > 0).then(|| format!("{refused} allocations were refused")));
    lines.extend(case.failures.iter().map(|f| format!("run {} FAILED: {}", f.round.saturating_add(1), f.error)));
    lines
}

/// Operations per second in millions, or in thousands where a million is never reached; of programs that were started with a
/// preloaded library the time of each, or the figure out of their output.
fn unit_of(group: &Group) -> (&'static str, fn(f64) -> f64) {
    let spec = group.entries.first().map(|e| &e.case.spec).filter(|s| s.workload == PRELOAD);
    if let Some(spec) = spec {
        return if spec.params.contains_key("figure") { ("figure", |f| f) } else { ("ms each", |runs| 1e3 / runs) };
    }
    let best = group.entries.iter().flat_map(|e| &e.case.runs).map(|r| r.ops_per_sec).fold(0.0, f64::max);
    match best {
        b if b >= 1e6 => ("M ops/s", |ops| ops / 1e6),
        b if b >= 1e3 => ("K ops/s", |ops| ops / 1e3),
        _ => (" ops/s", |ops| ops),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures;
    use crate::results::CaseResult;
    use crate::results::tests::{case, results, spec};
    use bench_subject::record::Series::Warm;

    fn shown(cases: Vec<CaseResult>) -> String {
        render(&figures::groups(&results(cases)))
    }

    #[test]
    fn a_table_shows_medians_ratios_and_failures() {
        let mut broken = case(&spec("pair"), "null", Warm, &[]);
        broken.add(2, Err("crashed: signal 11".to_owned()));
        let steady = |v: f64| [v, v * 1.2, v * 1.1, v, v * 1.2];
        let mut ours = case(&spec("pair"), "hakmem", Warm, &steady(20.0));
        ours.exact.instructions_per_op = Some(30.0);
        let text = shown(vec![case(&spec("pair"), "system", Warm, &steady(10.0)), ours, broken]);
        for wanted in [
            "pair 48 B, warm: 5 runs each, by elapsed time\n",
            "  system        11.0  (10.0–12.0)                 1      12",
            "2.00 [2.00–2.00]",
            " 30.0      –\n",
            "  null           run 3 FAILED: crashed: signal 11\n",
            "hakmem does 2.00× the operations per second of system malloc over 1 measurement (95 % interval 2.00 to 2.00",
        ] {
            assert!(text.contains(wanted), "{wanted:?} is missing:\n{text}");
        }
        let lone = shown(vec![case(&spec("pair"), "system", Warm, &[10.0])]);
        assert!(lone.contains(" 10.0 ") && !lone.contains("10.0–"), "one run has no range:\n{lone}");
    }
}
