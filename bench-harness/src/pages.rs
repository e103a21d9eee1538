//! `bench-harness pages`: what the README and docs/ show of the kept results, made anew.
//!
//! In those files the text between `<!-- figures: NAME -->` and `<!-- end of figures -->` is made here, from the files in
//! bench-harness/results, and so are the chart and the report. A test compares what is committed with what would be made. What
//! the harness does not measure by itself is kept there as a table (`kept: FILE`), which says where it is from.

use std::path::{Path, PathBuf};

use bench_subject::record::Series;
use clap::Args;
use itertools::Itertools;
use serde_json::Value;

use crate::fail::Fail;
use crate::figures::{self, Entry, Group, Verdict, count};
use crate::finding::Finding;
use crate::machine::Machine;
use crate::output::{self, Target, read};
use crate::results::{BASE, OURS, Results};
use crate::stats::geometric_mean;
use crate::{markdown, report, table, text, workloads};

/// Where the kept results lie, from the repository's root on.
const RESULTS: &str = "bench-harness/results";

/// The chart, from there on.
const CHART: &str = "docs/speed.svg";

/// What stands in front of the name of figures in a page.
const MARK: &str = "<!-- figures: ";

const PAGES: [&str; 6] = [
    "README.md",
    "docs/performance.md",
    "docs/memory-from-the-kernel.md",
    "docs/guide.md",
    "docs/design.md",
    "docs/hardening.md",
];

#[derive(Debug, Args)]
pub struct Pages {
    /// The root of the repository
    #[arg(long, value_name = "DIR", default_value = ".")]
    root: PathBuf,
    /// Write nothing; exit code 1 where a file differs
    #[arg(long)]
    check: bool,
}

/// Writes the files that differ, or only names them.
pub fn run(pages: &Pages) -> Result<(), Fail> {
    let mut differ = 0;
    for (path, text) in made(&pages.root)? {
        if std::fs::read_to_string(&path).ok().as_ref() != Some(&text) {
            differ += 1;
            output::show(&format!("{}\n", path.display()))?;
            if !pages.check {
                Target::new(&path)?.write(&text)?;
            }
        }
    }
    if pages.check && differ > 0 {
        let line = "pages: these files differ from the kept results; `bench-harness pages` writes them anew";
        return Err(Fail::run(line));
    }
    Ok(())
}

/// The files as they should be.
fn made(root: &Path) -> Result<Vec<(PathBuf, String)>, Fail> {
    let kept = root.join(RESULTS);
    let results = Results::read(&kept.join("full.json"))?;
    let groups = figures::groups(&results);
    let finding = Finding::of(&groups);
    let mut files = vec![
        (root.join(CHART), report::picture(&groups, &finding, &results.machine.words())),
        (kept.join("full.html"), report::page(&results)),
    ];
    for page in PAGES {
        let path = root.join(page);
        let text = read(&path)?;
        if !text.contains(MARK) {
            return Err(Fail::usage(format!("{}: shows no figures; expected \"{MARK}NAME -->\"", path.display())));
        }
        let filled = fill(&text, |name| match name.split_once(": ").unwrap_or((name, "")) {
            ("claim", _) => Ok(claim(&finding)),
            ("speed", _) => Ok(speed(&results, &groups, &finding)?),
            ("losses", _) => Ok(losses(&groups)),
            ("series", _) => Ok(by_series(&groups)),
            ("everything", _) => Ok(markdown::matrix(&groups, &finding)),
            ("behind", _) => Ok(behind(&groups)),
            ("peaks", _) => Ok(peaks(&groups)),
            ("preload", programs) => preloaded(&kept, programs),
            ("kept", file) if file.ends_with(".txt") => Ok(format!("```text\n{}```\n", read(&kept.join(file))?)),
            ("kept", file) => read(&kept.join(file)),
            (experiment, columns) => of_experiment(&kept, experiment, columns),
        })
        .map_err(|fail| Fail::usage(format!("{}: {}", path.display(), fail.line)))?;
        files.push((path, filled));
    }
    Ok(files)
}

/// The text with what stands between each pair of marks replaced.
fn fill(text: &str, of: impl Fn(&str) -> Result<String, Fail>) -> Result<String, Fail> {
    const END: &str = "<!-- end of figures -->";
    let mut parts = text.split(MARK);
    let mut filled = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (name, rest) = part.split_once(" -->").unwrap_or((part, ""));
        let (_, rest) = rest
            .split_once(END)
            .ok_or_else(|| Fail::usage(format!("figures {name}: expected \"{END}\" behind them")))?;
        filled += &format!("{MARK}{name} -->\n{}\n{END}{rest}", of(name)?.trim_end());
    }
    Ok(filled)
}

/// How fast each allocator is in one figure, the fastest first.
fn claim(finding: &Finding) -> String {
    let means = finding.standings.iter().filter_map(|s| Some((s, s.mean.as_ref()?.value)));
    let means = means.sorted_by(|a, b| b.1.total_cmp(&a.1)).collect_vec();
    let told = means.iter().map(|(s, mean)| format!("**{}** {}", s.name, text::times(*mean))).join(", ");
    let (counting, all) = means.first().map_or((0, 0), |(s, _)| (s.ratios.len(), s.places.len()));
    format!(
        "Operations per second against system malloc, geometric mean of the {counting} of {all} measurements that are not too noisy: {told}."
    )
}

/// A row of the README's table: what it is called there, the workload, what its title has in it, and whether an aged heap is
/// preferred.
const ROWS: [(&str, &str, &str, bool); 6] = [
    ("16–1,039 B, 8,192 live, allocated and freed at random", "random-mixed", "8192 slots, 20 M", true),
    ("one block of 48 B, allocated and freed", "pair", "48 B", false),
    ("1 million live blocks, one replaced at a time", "replace", "1 M live", true),
    ("50,000 blocks of 64 B, freed in random order", "batch", "random", false),
    ("allocated by one thread, freed by another", "producer-consumer", "16–415 B", false),
    ("8 threads, each hands its live blocks to the next", "hand-over", "8 threads", false),
];

/// What is claimed first of all: a table of at most eight rows.
fn speed(results: &Results, groups: &[Group], finding: &Finding) -> Result<String, Fail> {
    let names: Vec<String> = figures::ranked(groups).into_iter().filter(|n| n != BASE).collect();
    let row = |words: String, of: &dyn Fn(&String) -> String| [vec![words], names.iter().map(of).collect()].concat();
    let mut rows = Vec::new();
    for (words, name, part, aged) in ROWS {
        let fits = |g: &&Group| g.name == name && g.title.contains(part) && g.series != Series::Cold;
        let wanted = if aged { Series::Aged } else { Series::Warm };
        let group = groups.iter().rev().filter(fits).max_by_key(|g| g.series == wanted);
        let group = group.ok_or_else(|| Fail::usage(format!("{RESULTS}: no {name} with \"{part}\" in its title")))?;
        let heap = if group.series == Series::Aged { ", aged heap" } else { "" };
        rows.push(row(group.marked(&format!("{words}{heap}")), &|n| markdown::place(group.entry(n), bare)));
    }
    let mean = |values: Vec<f64>| geometric_mean(&values).map_or("–".to_owned(), text::bare_ratio);
    let programs = || groups.iter().filter(|g| g.name.starts_with("program-") && g.noise.is_none());
    let speed = |n: &String| mean(programs().filter_map(|g| Some(g.entry(n)?.ratio.as_ref()?.value)).collect());
    rows.push(row("six real programs: JSON, regex, index, images, server, store".to_owned(), &speed));
    let peak = |group: &Group, name: &str| group.entry(name)?.peak_kib;
    let peak = |n: &String| mean(groups.iter().filter_map(|g| Some(peak(g, n)? / peak(g, BASE)?)).collect());
    rows.push(row(format!("**peak memory**, all {} measurements (less is better)", groups.len()), &peak));
    let head = row("times as fast as system malloc".to_owned(), &String::clone);
    Ok(format!(
        "{}\nBold: measurably faster than every other. =: no measurable difference to system malloc. ~: the machine was not \
         quiet. The last two rows are geometric means. mimalloc is version 3, mimalloc2 version 2.\n\n{}.\nMeasured on {}.\n",
        markdown::table(&head, true, rows.into_iter()),
        finding.title,
        results.machine.words()
    ))
}

/// An allocator's ratio without its interval.
fn bare(entry: &Entry) -> String {
    let mark = if entry.verdict == Some(Verdict::Level) { "= " } else { "" };
    entry.ratio.as_ref().map_or("–".to_owned(), |r| mark.to_owned() + &text::bare_ratio(r.value))
}

/// Ours, and who is fastest, where somebody is measurably faster than ours.
fn ahead<'a>(group: &'a Group) -> Option<[&'a Entry<'a>; 2]> {
    let ours = group.entry(OURS).filter(|e| e.place == Some(Verdict::Slower))?;
    let ranked = group.entries.iter().filter(|e| !e.is_floor() && e.time.is_some());
    Some([ours, ranked.max_by(|a, b| speed_of(a).total_cmp(&speed_of(b)))?])
}

/// Relative to system malloc, which has no ratio to itself.
fn speed_of(entry: &Entry) -> f64 {
    entry.ratio.as_ref().map_or(1.0, |r| r.value)
}

/// The measurements in which somebody is measurably faster than ours, and who is fastest there.
fn behind(groups: &[Group]) -> String {
    let row = |group: &Group| {
        let [ours, first] = ahead(group)?;
        Some(vec![
            group.marked(&group.words()),
            table::ratio(ours),
            format!("{} {}", first.name(), table::ratio(first)),
        ])
    };
    let head = ["measurement", OURS, "the fastest"].map(str::to_owned);
    markdown::table(&head, false, groups.iter().filter_map(row))
}

/// The five workloads in which ours is furthest behind.
fn losses(groups: &[Group]) -> String {
    let behind = groups.iter().filter_map(|g| Some((g, ahead(g)?)));
    let behind = behind.map(|(g, [ours, first])| (g, first.name(), speed_of(first) / speed_of(ours)));
    let worst = behind.sorted_by(|a, b| b.2.total_cmp(&a.2)).unique_by(|b| b.0.name).take(5);
    let line = |(group, name, times): (&Group, &str, f64)| {
        let (about, times) = (workloads::find(group.name).map_or("", |w| &w.about), text::bare_ratio(times));
        let name = if name == BASE { "system malloc" } else { name };
        format!(
            "- {about}. {name} does {times} times as many operations (`{}` {}, {}).\n",
            group.name, group.title, group.series
        )
    };
    worst.map(line).collect()
}

/// How ours stands in each series, and in the workloads that were added because others do well there.
fn by_series(groups: &[Group]) -> String {
    let of = |what: &str, is: &dyn Fn(&Group) -> bool| {
        let own: Vec<_> = groups.iter().filter(|g| is(g)).filter_map(|g| g.entry(OURS)?.place).collect();
        let (first, behind) = (count(&own, Verdict::Faster), count(&own, Verdict::Slower));
        format!("of {} {what} it is first in {first} and behind in {behind}", own.len())
    };
    let series = Series::ALL.map(|series| of(&format!("{series} measurements"), &|g| g.series == series));
    let is_program = |g: &Group| g.name.starts_with("program-");
    let is_added = |g: &Group| g.name.starts_with("memory-") || ["medium", "histogram", "keepers"].contains(&g.name);
    let kinds = [
        of("measurements of `medium`, `histogram`, `keepers` and `memory-…`", &is_added),
        of("of real programs", &is_program),
        of("of the other workloads", &|g| !is_added(g) && !is_program(g)),
    ];
    format!("{OURS} by series: {}. By workload: {}.", series.join("; "), kinds.join("; "))
}

/// The most memory resident: measurement × allocator, in MiB.
fn peaks(groups: &[Group]) -> String {
    let names = figures::ranked(groups);
    let mib = |g: &Group, n: &String| g.entry(n).and_then(|e| e.peak_kib).map_or("–".to_owned(), text::bare_mib);
    let row = |g: &Group| [vec![g.words()], names.iter().map(|n| mib(g, n)).collect()].concat();
    markdown::table(&[vec!["MiB at the peak".to_owned()], names.clone()].concat(), true, groups.iter().map(row))
}

/// `NAME as WORDS, …`: programs that nobody rebuilds, each under every library it was measured with.
fn preloaded(kept: &Path, programs: &str) -> Result<String, Fail> {
    let measured = |program: &str| {
        let (name, words) = program.split_once(" as ").unwrap_or((program, program));
        Ok((words.to_owned(), Results::read(&kept.join(format!("preload-{name}.json")))?))
    };
    let files = programs.split(", ").map(measured).collect::<Result<Vec<_>, Fail>>()?;
    let groups = files.iter().flat_map(|(words, file)| Some((words, figures::groups(file).into_iter().next()?)));
    let groups = groups.collect_vec();
    let libraries = groups.iter().flat_map(|(_, g)| &g.entries).map(|e| e.name()).filter(|n| *n != BASE);
    let libraries = libraries.unique().collect_vec();
    let row = |(words, group): &(&String, Group)| {
        let peak = |name| group.entry(name)?.peak_kib;
        let peak = peak(OURS).zip(peak(BASE)).map_or("–".to_owned(), |(own, base)| text::bare_ratio(own / base));
        let speeds = libraries.iter().map(|n| markdown::place(group.entry(n), table::ratio)).collect();
        [vec![group.marked(words)], speeds, vec![peak]].concat()
    };
    let head =
        [vec!["program"], libraries.clone(), vec!["peak memory of hakmem"]].concat().into_iter().map(str::to_owned);
    let table = markdown::table(&head.collect_vec(), false, groups.iter().map(row));
    Ok(format!("{table}\nMeasured on {}.\n", files.first().map_or(String::new(), |(_, file)| file.machine.words())))
}

/// `column as head, …`: these columns of an experiment's rows, where they have all of them. `column = value` shows only rows
/// with that value, and not the column.
fn of_experiment(kept: &Path, name: &str, columns: &str) -> Result<String, Fail> {
    let path = kept.join(format!("kernel-{name}.json"));
    let file: Value = serde_json::from_str(&read(&path)?)
        .map_err(|e| Fail::usage(format!("{}: expected the JSON of an experiment: {e}", path.display())))?;
    let (filters, columns): (Vec<&str>, Vec<&str>) = columns.split(", ").partition(|c| c.contains(" = "));
    let columns: Vec<(&str, &str)> = columns.iter().map(|c| c.split_once(" as ").unwrap_or((c, c))).collect();
    let rows = file["rows"].as_array().map_or(&[][..], Vec::as_slice);
    let wanted = |row: &&Value| {
        let meant = |f: &&str| f.split_once(" = ").is_some_and(|(c, value)| row[c] == value);
        columns.iter().all(|(c, _)| !row[*c].is_null()) && filters.iter().all(meant)
    };
    let head: Vec<String> = columns.iter().map(|(_, head)| (*head).to_owned()).collect();
    let cells = |row: &Value| columns.iter().map(|(c, _)| text::cell(row.get(*c)).replace('|', "\\|")).collect();
    let text = markdown::table(&head, false, rows.iter().filter(wanted).map(cells));
    let machine: Machine = serde_json::from_value(file["machine"].clone()).unwrap_or_default();
    Ok(text + &format!("\n{}, transparent huge pages on `{}`.\n", machine.words(), machine.thp))
}
