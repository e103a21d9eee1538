//! Experiments about the kernel and our OS layer: one table each, and the same rows as JSON.
//!
//! Unlike the workloads these compare placements, orders and policies, not allocators; each file says what question it
//! answers. `--quick` is the size the tests use: it shows the shape of the answer, not its figures.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use crate::fail::Fail;
use crate::output::Pending;
use crate::{host_warm, machine};

mod alignment;
mod async_prefault;
mod growth;
mod maps;
mod populate_order;
mod prefault;
mod tlb;
mod waits;

/// Which question.
#[derive(Debug, Subcommand)]
pub enum Experiment {
    /// What misalignment costs in page faults, and what the kernel makes of a hint
    Alignment {
        /// GiB to map (default 2)
        gib: Option<f64>,
        /// Output and size
        #[command(flatten)]
        options: Options,
    },
    /// What huge pages gain a random gather of doubles
    Tlb {
        /// MB of doubles (default: 400 and 3200)
        mb: Option<usize>,
        /// Output and size
        #[command(flatten)]
        options: Options,
    },
    /// What each prefault policy costs and gains
    Prefault {
        /// Three runs of the growing workload under every policy, instead of one where nothing is compared with it
        #[arg(long, conflicts_with = "quick")]
        full: bool,
        /// Output and size
        #[command(flatten)]
        options: Options,
    },
    /// Why MAP_POPULATE does not work: every order of mapping, advising and populating
    PopulateOrder {
        /// Output and size
        #[command(flatten)]
        options: Options,
    },
    /// How long an event loop and other threads' mmap wait while memory comes in
    AsyncPrefault {
        /// Output and size
        #[command(flatten)]
        options: Options,
    },
}

/// What every experiment takes.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// Also writes the rows as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// A size for trying out: seconds instead of minutes
    #[arg(long)]
    pub quick: bool,
    /// Does not touch the host's memory beforehand
    #[arg(long)]
    pub no_host_warm: bool,
}

pub use growth::child as growth_child;

/// One line of the table and one object of the JSON.
pub(crate) type Row = Map<String, Value>;

/// An object literal as a row.
pub(crate) fn row(value: Value) -> Row {
    match value {
        Value::Object(map) => map,
        other => Map::from_iter([("value".to_owned(), other)]),
    }
}

/// Runs one, prints its table, writes its file.
pub fn run(experiment: Experiment) -> Result<(), Fail> {
    let (name, options) = match &experiment {
        Experiment::Alignment { options, .. } => ("alignment", options.clone()),
        Experiment::Tlb { options, .. } => ("tlb", options.clone()),
        Experiment::Prefault { options, .. } => ("prefault", options.clone()),
        Experiment::PopulateOrder { options } => ("populate-order", options.clone()),
        Experiment::AsyncPrefault { options } => ("async-prefault", options.clone()),
    };
    let file = options.json.as_deref().map(Pending::new).transpose()?;
    let machine = machine::describe();
    let quick = options.quick;
    let warm = |bytes: usize| match options.no_host_warm {
        true => Ok(()),
        false => host_warm::warm(bytes as u64),
    };
    let rows = match experiment {
        Experiment::Alignment { gib, .. } => {
            let bytes = alignment::checked_bytes(gib, quick)?;
            warm(2 * bytes)?;
            alignment::rows(bytes)?
        }
        Experiment::Tlb { mb, .. } => {
            let sizes = tlb::checked_sizes(mb, quick)?;
            warm(2 * sizes.iter().max().copied().unwrap_or(0))?;
            tlb::rows(&sizes, quick)?
        }
        Experiment::Prefault { full, .. } => prefault::rows(prefault::Extent {
            quick,
            full,
            host_warm: !options.no_host_warm,
        })?,
        Experiment::PopulateOrder { .. } => {
            let bytes = populate_order::bytes(quick);
            warm(2 * bytes)?;
            populate_order::rows(bytes)?
        }
        Experiment::AsyncPrefault { .. } => {
            let bytes = async_prefault::bytes(quick);
            async_prefault::rows(bytes, !options.no_host_warm)?
        }
    };
    print!("{}", table(&rows));
    if name == "alignment" {
        println!("{}", alignment::EXPLAINED);
    }
    if let Some(file) = file {
        let value = json!({"schema": 1, "experiment": name, "machine": machine, "rows": rows});
        let text = serde_json::to_string_pretty(&value).map_err(|e| Fail::run(e.to_string()))?;
        file.write(&(text + "\n"))?;
    }
    Ok(())
}

/// Rows under the columns of all of them, in order of appearance; a blank where a row has no such column.
fn table(rows: &[Row]) -> String {
    let mut columns: Vec<&str> = Vec::new();
    for key in rows.iter().flat_map(|r| r.keys()) {
        if !columns.contains(&key.as_str()) {
            columns.push(key);
        }
    }
    let mut lines = vec![columns.iter().map(|c| (*c).to_owned()).collect::<Vec<_>>()];
    lines.extend(
        rows.iter()
            .map(|r| columns.iter().map(|c| cell(r.get(*c))).collect()),
    );
    let width = |i: usize| {
        lines
            .iter()
            .map(|l| l[i].chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    let mut text = String::new();
    for line in &lines {
        let cells = line
            .iter()
            .zip(&widths)
            .map(|(cell, w)| format!("{cell:<w$}"));
        text += cells.collect::<Vec<_>>().join("  ").trim_end();
        text.push('\n');
    }
    text
}

fn cell(value: Option<&Value>) -> String {
    match value {
        None => String::new(),
        Some(Value::Null) => "not available".to_owned(),
        Some(Value::String(s)) => s.clone(),
        Some(Value::Number(n)) if n.is_f64() => format!("{:.3}", n.as_f64().unwrap_or(0.0)),
        Some(other) => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_every_column_once() {
        let rows = [
            row(json!({"a": 1, "b": "x"})),
            row(json!({"b": "yy", "c": null, "d": 0.5})),
        ];
        assert_eq!(
            table(&rows),
            "a  b   c              d\n1  x\n   yy  not available  0.500\n"
        );
    }
}
