//! `bench-harness paths`: instructions of every path of our allocator above an empty call, one table, exact.
//!
//! The Rust interface is counted in the executable that measures ours, the C functions in the one that measures system malloc
//! with our library preloaded. The table is kept in the repository and compared by CI: a path that became longer by an
//! instruction is seen there, whatever the machine's speed. Counts depend on the compiler and on the C library, which the
//! table names; under others they are compared within two per cent.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use bench_subject::workloads::paths::{PATHS, PathOrder};
use clap::Args;

use crate::fail::Fail;
use crate::output::{self, Target};
use crate::results::{BASE, FLOOR, OURS};
use crate::subjects::{self, WORKLOADS};
use crate::{exact, machine, preload, table};

#[derive(Debug, Args)]
pub struct Paths {
    /// Compare with this table; exit code 1 where a path differs
    #[arg(long, value_name = "FILE", conflicts_with = "write")]
    check: Option<PathBuf>,
    /// Write the table to this file
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
    /// Where libhakmem.so is [default: as `preload` looks for it]
    #[arg(long, value_name = "PATH")]
    hakmem: Option<PathBuf>,
    /// Leave out the C functions, which need libhakmem.so
    #[arg(long)]
    rust_only: bool,
}

/// One count: the path, whether it is the C functions', and instructions per call.
#[derive(Debug, Clone, PartialEq)]
struct Row {
    path: String,
    c: bool,
    instructions: f64,
}

pub fn run(paths: &Paths) -> Result<(), Fail> {
    subjects::check_tools("paths", &exact::TOOLS[..1])?;
    let kept = paths.check.as_deref().map(read).transpose()?;
    let target = paths.write.as_deref().map(Target::new).transpose()?;
    subjects::prepare(
        &[bench_subject::spec::Spec::new(bench_subject::table::WORKLOADS[0])],
        &subjects::OWN.map(String::from),
    )?;
    let library = if paths.rust_only { None } else { Some(preload::own_library(paths.hakmem.as_deref())?) };
    let mut rows = Vec::new();
    for c in [false, true] {
        if c && library.is_none() {
            continue;
        }
        for path in &PATHS {
            let count = |allocator: &str| {
                let preloaded = library.as_deref().filter(|_| c && allocator != FLOOR);
                counted(if c && allocator != FLOOR { BASE } else { allocator }, path.name, c, preloaded)
                    .map_err(|e| Fail::run(format!("paths: {}: {e}", path.name)))
            };
            let instructions = ((count(OURS)? - count(FLOOR)?) * 10.0).round() / 10.0;
            rows.push(Row { path: path.name.to_owned(), c, instructions });
        }
    }
    let text = written(&rows);
    output::show(&text)?;
    if let Some(target) = target {
        target.write(&text)?;
    }
    match kept {
        Some((head, kept)) => judge(&rows, &kept, head == self::head()),
        None => Ok(()),
    }
}

fn counted(allocator: &str, path: &str, c: bool, library: Option<&Path>) -> Result<f64, String> {
    let order = PathOrder { path: path.to_owned(), c };
    let mut command = Command::new(WORKLOADS.executable(allocator));
    command.arg(format!("paths {}", serde_json::to_string(&order).map_err(|e| e.to_string())?));
    // No path is to meet the clock: what time asks for would be counted with some calls and not with others. Nor is the
    // processor to choose: with these left out, any of this architecture gets the same memset and memcpy from the C library.
    command.env("HAKMEM_PURGE_DELAY_MS", "3600000").env("HAKMEM_BACKGROUND", "0");
    command.env("GLIBC_TUNABLES", "glibc.cpu.hwcaps=-AVX512F,-AVX512VL,-AVX512BW,-AVX2,-AVX,-ERMS,-FSRM,-RTM");
    if let Some(library) = library {
        command.env("LD_PRELOAD", library);
    }
    let (count, calls) = exact::instructions(command, Duration::from_secs(120))?;
    Ok(count as f64 / calls.max(1) as f64)
}

/// What the counts depend on besides our own code.
fn head() -> String {
    let rustc =
        Command::new("rustc").arg("--version").output().map(|o| String::from_utf8_lossy(&o.stdout).trim().to_owned());
    // SAFETY: a constant string of the C library.
    let libc = unsafe { std::ffi::CStr::from_ptr(libc::gnu_get_libc_version()) };
    let rustc = rustc.unwrap_or_default();
    format!(
        "# {}, glibc {}, {}",
        rustc.split(" (").next().unwrap_or(""),
        libc.to_string_lossy(),
        machine::describe().arch
    )
}

fn written(rows: &[Row]) -> String {
    let about = |name: &str| PATHS.iter().find(|p| p.name == name).map_or("", |p| p.about).to_owned();
    let of = |path: &str, c: bool| {
        let found = rows.iter().find(|r| r.path == path && r.c == c);
        found.map_or("–".to_owned(), |r| format!("{:.1}", r.instructions))
    };
    let names = PATHS.iter().filter(|p| rows.iter().any(|r| r.path == p.name));
    let lines = names.map(|p| vec![p.name.to_owned(), about(p.name), of(p.name, false), of(p.name, true)]).collect();
    let columns = ["path", "what is one call", "rust", "preloaded"].map(str::to_owned);
    format!("{}\n# Instructions above an empty call, by callgrind.\n{}", head(), table::plain(&columns, lines, 2))
}

/// A table that was written: its head, and its rows.
fn read(path: &Path) -> Result<(String, Vec<Row>), Fail> {
    let text =
        std::fs::read_to_string(path).map_err(|e| Fail::usage(format!("{}: cannot be read: {e}", path.display())))?;
    Ok((text.lines().next().unwrap_or("").to_owned(), rows_of(&text)))
}

fn rows_of(text: &str) -> Vec<Row> {
    let mut rows = Vec::new();
    for line in text.lines() {
        let mut words = line.split_whitespace().rev();
        let (preloaded, rust) = (words.next(), words.next());
        // Names are prefixes of one another: the longest that fits.
        let fits = PATHS.iter().filter(|p| line.trim_start().starts_with(&format!("{}  ", p.name)));
        let Some(path) = fits.max_by_key(|p| p.name.len()) else { continue };
        for (c, word) in [(false, rust), (true, preloaded)] {
            if let Some(instructions) = word.and_then(|w| w.parse().ok()) {
                rows.push(Row { path: path.name.to_owned(), c, instructions });
            }
        }
    }
    rows
}

/// Fails where a path differs from the table kept.
fn judge(rows: &[Row], kept: &[Row], same_tools: bool) -> Result<(), Fail> {
    let allowed = |then: f64| if same_tools { 0.05 } else { then.abs() * 0.02 + 1.0 };
    let mut differing = Vec::new();
    for row in rows {
        let name = format!("{}{}", row.path, if row.c { " (preloaded)" } else { "" });
        match kept.iter().find(|k| k.path == row.path && k.c == row.c) {
            Some(k) if (k.instructions - row.instructions).abs() <= allowed(k.instructions) => {}
            Some(k) => differing.push(format!("{name} {:.1} → {:.1}", k.instructions, row.instructions)),
            None => differing.push(format!("{name} is new")),
        }
    }
    if !same_tools {
        output::say("paths: the table was made with other tools; compared within two per cent\n");
    }
    match differing.is_empty() {
        true => Ok(()),
        false => Err(Fail::run(format!(
            "paths: {}; where that is meant, --write makes the table anew",
            differing.join(", ")
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(path: &str, c: bool, instructions: f64) -> Row {
        Row { path: path.to_owned(), c, instructions }
    }

    #[test]
    fn a_written_table_is_read_back() {
        let rows = [
            row("hit 48", false, 30.0),
            row("hit 48", true, 35.5),
            row("refill", false, 14.2),
            row("refill 1024", false, 20.0),
        ];
        assert_eq!(rows_of(&written(&rows)), rows);
        assert!(written(&rows).starts_with("# rustc "));
    }

    #[test]
    fn an_instruction_more_is_seen() {
        let kept = [row("hit 48", false, 30.0), row("large", false, 900.0)];
        assert!(judge(&kept, &kept, true).is_ok());
        let error = judge(&[row("hit 48", false, 31.0), row("large", false, 905.0)], &kept, true).unwrap_err();
        assert!(error.line.contains("hit 48 30.0 → 31.0, large 900.0 → 905.0"), "{error}");
        assert!(
            judge(&[row("large", false, 905.0)], &kept, false).is_ok(),
            "another compiler may count a little otherwise"
        );
        assert!(judge(&[row("large", false, 1000.0)], &kept, false).is_err());
        assert!(judge(&[row("medium", false, 1.0)], &kept, true).unwrap_err().line.contains("medium is new"));
    }
}
