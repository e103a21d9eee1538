//! `bench-harness paths`: instructions of every path of our allocator above an empty call, one table, exact.
//!
//! The Rust interface is counted in the executable that measures ours, the C functions in the one that measures system malloc
//! with our library preloaded. The table is kept in the repository and compared by CI: a path that became longer by an
//! instruction is seen there, whatever the machine's speed. Counts depend on the compiler and on the C library, which the
//! table names; under others they are compared within two per cent.

use std::path::{Path as FilePath, PathBuf};
use std::process::Command;
use std::time::Duration;

use bench_subject::record::Series;
use bench_subject::workloads::paths::{PATHS, Path, PathOrder};
use clap::Args;

use crate::fail::Fail;
use crate::output::{self, Target};
use crate::results::{BASE, CaseResult, FLOOR, OURS};
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
}

/// A path, named and described as the table does, with instructions per call: of the Rust interface, and of the C functions.
#[derive(Debug, Clone, PartialEq)]
struct Row {
    path: String,
    counts: [f64; 2],
}

pub fn run(paths: &Paths) -> Result<(), Fail> {
    subjects::check_tools("paths", &exact::TOOLS[..1])?;
    let read = |path: &PathBuf| {
        let refuse = |e| Fail::usage(format!("{}: cannot be read: {e}", path.display()));
        std::fs::read_to_string(path).map_err(refuse)
    };
    let kept = paths.check.as_ref().map(read).transpose()?;
    let target = paths.write.as_deref().map(Target::new).transpose()?;
    let spec = bench_subject::spec::Spec::new(bench_subject::table::WORKLOADS[0]);
    let own = subjects::OWN.map(|name| CaseResult::new(spec.clone(), name, Series::Warm));
    subjects::prepare(&own)?;
    let library = preload::own_library(paths.hakmem.as_deref())?;
    let mut rows = Vec::new();
    for &Path { name: path, about, .. } in &PATHS {
        let above_floor = |own: &str, library: Option<&FilePath>| -> Result<f64, Fail> {
            let c = library.is_some();
            let count = |name: &str, library: Option<&FilePath>| {
                counted(name, path, c, library).map_err(|e| Fail::run(format!("paths: {path}: {e}")))
            };
            Ok(((count(own, library)? - count(FLOOR, None)?) * 10.0).round() / 10.0)
        };
        rows.push(Row {
            path: named(path, about),
            counts: [above_floor(OURS, None)?, above_floor(BASE, Some(&library))?],
        });
    }
    let text = written(&rows);
    output::show(&text)?;
    if let Some(target) = target {
        target.write(&text)?;
    }
    match kept {
        Some(kept) => judge(&rows, &rows_of(&kept), kept.lines().next() == Some(&head())),
        None => Ok(()),
    }
}

fn counted(allocator: &str, path: &str, c: bool, library: Option<&FilePath>) -> Result<f64, String> {
    let order = PathOrder { path: path.to_owned(), c };
    let mut command = Command::new(WORKLOADS.executable(allocator));
    command.arg(format!("paths {}", serde_json::to_string(&order).map_err(|e| e.to_string())?));
    // No path is to meet the clock: what time asks for would be counted with some calls and not with others. Nor is the
    // processor to choose: with these left out, any of this architecture gets the same memset and memcpy from the C library.
    command.env("HAKMEM_PURGE_DELAY_MS", "3600000").env("HAKMEM_BACKGROUND", "0");
    // Nor chance: which calls get a checked or a guarded block, and what their stacks cost, goes by how the code lies.
    command.env("HAKMEM_CHECK_ONE_IN", "0").env("HAKMEM_GUARD_EVERY", "0");
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

fn named(path: &str, about: &str) -> String {
    format!("{path:<18}{about}")
}

fn written(rows: &[Row]) -> String {
    let columns = [named("path", "what is one call"), "rust".to_owned(), "preloaded".to_owned()];
    let line = |r: &Row| [vec![r.path.clone()], r.counts.map(|n| format!("{n:.1}")).to_vec()].concat();
    let table = table::plain(&columns, rows.iter().map(line).collect(), 1);
    format!("{}\n# Instructions above an empty call, by callgrind.\n{table}", head())
}

/// The rows of a table that was written.
fn rows_of(text: &str) -> Vec<Row> {
    let row = |line: &str| {
        let (rest, preloaded) = line.trim().rsplit_once(' ')?;
        let (path, rust) = rest.trim_end().rsplit_once(' ')?;
        Some(Row { path: path.trim_end().to_owned(), counts: [rust.parse().ok()?, preloaded.parse().ok()?] })
    };
    text.lines().filter_map(row).collect()
}

/// Instructions from which on a path is one that calls the kernel.
const KERNEL_FROM: f64 = 500.0;

/// Fails where a path differs from the table kept.
fn judge(rows: &[Row], kept: &[Row], same_tools: bool) -> Result<(), Fail> {
    let allowed = |then: f64| match same_tools {
        // Such a path calls the kernel and looks addresses up: where mappings lie decides over a few instructions.
        true if then > KERNEL_FROM => then * 0.01,
        // A checked block among many, at a random place, is half an instruction of each.
        true => 0.5,
        false => then.abs() * 0.02 + 1.0,
    };
    let mut differing = Vec::new();
    for row in rows {
        let name = row.path.split("  ").next().unwrap_or(&row.path);
        let Some(then) = kept.iter().find(|k| k.path == row.path) else {
            differing.push(format!("{name} is new"));
            continue;
        };
        for (i, (then, now)) in then.counts.into_iter().zip(row.counts).enumerate() {
            if (then - now).abs() > allowed(then) {
                differing.push(format!("{name}{} {then:.1} → {now:.1}", ["", " (preloaded)"][i]));
            }
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

    fn row(path: &str, rust: f64, preloaded: f64) -> Row {
        Row { path: named(path, "what it does"), counts: [rust, preloaded] }
    }

    #[test]
    fn an_instruction_more_is_seen() {
        let kept = [row("hit 48", 30.0, 9.0), row("large", 900.0, 900.0)];
        assert_eq!(rows_of(&written(&kept)), kept, "a written table is read back");
        assert!(judge(&kept, &kept, true).is_ok());
        let error = judge(&[row("hit 48", 31.0, 8.0), row("large", 910.0, 900.0)], &kept, true).unwrap_err();
        let wanted = "hit 48 30.0 → 31.0, hit 48 (preloaded) 9.0 → 8.0, large 900.0 → 910.0";
        assert!(error.line.contains(wanted), "{error}");
        assert!(judge(&[row("hit 48", 30.0, 9.0), row("large", 905.0, 900.0)], &kept, true).is_ok());
        let large = |n| judge(&[row("large", n, 900.0)], &kept, false);
        assert!(large(905.0).is_ok(), "another compiler may count a little otherwise");
        assert!(large(1000.0).is_err());
        assert!(judge(&[row("medium", 1.0, 1.0)], &kept, true).unwrap_err().line.contains("medium is new"));
    }
}
