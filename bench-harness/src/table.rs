//! The table on stdout: one block per measurement, one line per allocator, and the finding at the end.

use comfy_table::{CellAlignment, Table, presets};

use crate::figures::{Entry, Group};
use crate::finding::Finding;
use crate::results::{BASE, CaseResult, Exact, FLOOR, PRELOAD};
use crate::stats::Summary;
use crate::text::{self, short};

/// What the columns are that these measurements have.
fn legend(groups: &[Group]) -> String {
    let cases = || groups.iter().flat_map(|g| &g.entries).map(|e| e.case);
    let counted = cases().any(|c| c.exact != Exact::default());
    let lines = [
        (true, "ops/s: operations per second, the median run with the slowest and the fastest"),
        (
            true,
            "ratio: by the time the block names, with its 95 % interval; \"=\" where it is no measurable difference",
        ),
        (
            groups.iter().any(|g| g.floor.is_some()),
            "above floor: time of one operation above that of null, which does nothing",
        ),
        (true, "faults: page faults inside the timed part, and of the whole process"),
        (true, "RSS: the most memory resident at a time, and what is left at the end"),
        (counted, "instr/op: instructions of one operation above the floor's, whose own are in parentheses"),
        (counted, "calls: system calls of a process above the floor's, in a run of so many operations"),
        (
            true,
            "warm: prepared before the clock; cold: the clock starts with the first allocation; aged: warm, fragmented heap",
        ),
    ];
    lines.iter().filter(|line| line.0).map(|line| format!("{}\n", line.1)).collect()
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

/// What a reader has to know before believing a figure, a line each.
pub fn warnings(warnings: &[String]) -> String {
    warnings.iter().map(|w| format!("warning: {w}\n")).collect()
}

fn block(group: &Group) -> String {
    let runs = group.entries.iter().map(|e| e.case.runs.len()).max().unwrap_or(0);
    let each = text::counted(runs, "run");
    let mut text = format!("{}: {each} each, by {}\n", group.words(), group.measure.words());
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
    let cases = || group.entries.iter().map(|e| e.case);
    let rests = cases().any(|c| c.runs.iter().any(|r| r.rss_after_kib.is_some()));
    let counted = cases().any(|c| c.exact.instructions_per_op.is_some() || c.exact.syscalls.is_some());
    let (unit, shown) = unit_of(group);
    let mut head = vec!["allocator".to_owned(), unit.to_owned()];
    head.extend(["(min–max)", "ratio to system"].map(str::to_owned));
    head.extend(group.floor.map(|_| "above floor".to_owned()));
    head.extend(["faults", "(total)", "user s", "sys s", "RSS MiB"].map(str::to_owned));
    head.push(if rests { "at rest" } else { "left" }.to_owned());
    if counted {
        let ops = cases().find_map(|c| c.exact.syscall_ops).map_or(String::new(), |n| format!(" ({n})"));
        head.extend(["instr/op".to_owned(), format!("calls{ops}")]);
    }
    let row = |entry: &Entry| {
        let mut cells = row(group, entry, shown)?;
        cells.extend(counted.then(|| exact(entry.case)).into_iter().flatten());
        Some(cells)
    };
    (head, group.entries.iter().filter_map(row).collect())
}

fn row(group: &Group, entry: &Entry, shown: fn(f64) -> f64) -> Option<Vec<String>> {
    let speed = Summary::of(&entry.case.runs.iter().map(|r| shown(r.ops_per_sec)).collect::<Vec<_>>())?;
    let middle = |of: fn(&bench_subject::record::Run) -> f64| entry.case.middle(of).unwrap_or(0.0);
    let mut cells = vec![
        entry.name().to_owned(),
        short(speed.median),
        format!("({}–{})", short(speed.min), short(speed.max)),
        ratio(entry),
    ];
    cells.extend(group.floor.map(|_| group.above_floor(entry).map_or("–".to_owned(), text::duration)));
    cells.extend([
        format!("{:.0}", middle(|r| r.faults() as f64)),
        format!("{:.0}", middle(|r| r.minor_faults_total as f64 + r.major_faults_total as f64)),
        format!("{:.3}", middle(|r| r.user_secs)),
        format!("{:.3}", middle(|r| r.sys_secs)),
        format!("{:.1}", middle(|r| r.max_rss_kib as f64 / 1024.0)),
        // A program that ran to its end left nothing that could be read.
        Some(middle(|r| r.left_kib() as f64 / 1024.0))
            .filter(|l| *l > 0.0)
            .map_or("–".to_owned(), |l| format!("{l:.1}")),
    ]);
    Some(cells)
}

/// The ratio to system malloc, with its interval.
pub fn ratio(entry: &Entry) -> String {
    match &entry.ratio {
        _ if entry.name() == BASE => "1".to_owned(),
        r => r.as_ref().map_or("–".to_owned(), text::ratio),
    }
}

/// The exact figures of a case, as cells; the floor's own in parentheses.
fn exact(case: &CaseResult) -> [String; 2] {
    let cell = |text: Option<String>| match text {
        Some(text) if case.allocator == FLOOR => format!("({text})"),
        text => text.unwrap_or("–".to_owned()),
    };
    [cell(case.exact.instructions_per_op.map(|n| format!("{n:.1}"))), cell(case.exact.syscalls.map(|n| n.to_string()))]
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
        lines.push(format!("{} {unit} ({}–{})", short(s.median), short(s.min), short(s.max)));
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
    }
}
