//! The commands that measure again: the recorded one, and one for each measurement.
//!
//! A measurement's command is made from its parameters and from what clap knows of the workload's arguments, so that no
//! workload has to say it twice; a test turns every command back into the parameters it came from.

use clap::{Arg, Command, Subcommand};
use serde_json::{Map, Value};

use super::figures::Group;
use super::text::shell_word;
use crate::machine::Machine;
use crate::workloads::{Spec, WorkloadCommand};

const CARGO: &str = "cargo run --release -p bench-harness --";

/// The command the whole file came from, as a shell takes it; nothing where the file does not say.
pub fn whole(machine: &Machine) -> Option<String> {
    let (program, arguments) = machine.command.split_first()?;
    let program = if program.ends_with("bench-harness") {
        CARGO.to_owned()
    } else {
        shell_word(program)
    };
    Some(join(environment(machine), &program, arguments))
}

/// The command of one measurement.
pub fn measurement(group: &Group, machine: &Machine) -> String {
    let mut words = arguments(&group.entries[0].case.spec);
    let names: Vec<&str> = group.entries.iter().map(|e| e.name()).collect();
    let cases = || group.entries.iter().map(|e| e.case);
    let runs = cases().map(|c| c.runs.len() + c.failures.len()).max();
    words.extend(["--allocators".to_owned(), names.join(",")]);
    words.extend(["--series".to_owned(), group.series.to_owned()]);
    words.extend(["--runs".to_owned(), runs.unwrap_or(1).max(1).to_string()]);
    let asked = |name: &str| machine.command.iter().any(|a| a == name);
    if let Some(at) = machine.command.iter().position(|a| a == "--order-seed") {
        words.extend(machine.command[at..].iter().take(2).cloned());
    }
    let flags = [
        ("--latency", cases().any(|c| c.latency.is_some())),
        (
            "--callgrind",
            cases().any(|c| c.instructions_per_op.is_some()),
        ),
        (
            "--settle",
            cases().any(|c| c.runs.iter().any(|r| r.rss_after_kib.is_some())),
        ),
        ("--no-host-warm", asked("--no-host-warm")),
    ];
    words.extend(flags.iter().filter(|f| f.1).map(|f| f.0.to_owned()));
    join(environment(machine), CARGO, &words)
}

/// What a workload is, in its own words of `--help`.
pub fn about(workload: &str) -> String {
    let command = WorkloadCommand::augment_subcommands(Command::new("bench-harness"));
    let about = command
        .find_subcommand(workload)
        .and_then(|c| c.get_about());
    about.map(|text| text.to_string()).unwrap_or_default()
}

/// Variables that change what is measured. The allocator's own count as well: they change what it does.
fn environment(machine: &Machine) -> impl Iterator<Item = String> {
    machine
        .environment
        .iter()
        .map(|line| match line.split_once('=') {
            Some((name, value)) => format!("{name}={}", shell_word(value)),
            None => shell_word(line),
        })
}

fn join(environment: impl Iterator<Item = String>, program: &str, arguments: &[String]) -> String {
    let arguments = arguments.iter().map(|a| shell_word(a));
    let words: Vec<String> = environment
        .chain([program.to_owned()])
        .chain(arguments)
        .collect();
    words.join(" ")
}

/// A workload's name and arguments; defaults are left out where they can be.
fn arguments(spec: &Spec) -> Vec<String> {
    let value = serde_json::to_value(spec).unwrap_or_default();
    let empty = Map::new();
    let params = value["params"].as_object().unwrap_or(&empty);
    let command = WorkloadCommand::augment_subcommands(Command::new("bench-harness"));
    let mut words = vec![spec.name().to_owned()];
    let Some(workload) = command.find_subcommand(spec.name()) else {
        return words;
    };
    let given = |arg: &Arg| {
        Some((
            value_text(params.get(arg.get_id().as_str())?)?,
            default_of(arg),
        ))
    };
    // A place can only be left empty at the end.
    let places: Vec<_> = workload.get_positionals().map_while(given).collect();
    let last = places
        .iter()
        .rposition(|(v, default)| Some(v) != default.as_ref());
    words.extend(
        places
            .into_iter()
            .take(last.map_or(0, |i| i + 1))
            .map(|p| p.0),
    );
    for arg in workload.get_opts() {
        if let (Some(long), Some((value, default))) = (arg.get_long(), given(arg))
            && default.as_ref() != Some(&value)
        {
            words.extend([format!("--{long}"), value]);
        }
    }
    words
}

fn default_of(arg: &Arg) -> Option<String> {
    Some(
        arg.get_default_values()
            .first()?
            .to_string_lossy()
            .into_owned(),
    )
}

fn value_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(n) => Some(n.to_string()),
        Value::Bool(b) => Some(b.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_gives_back_its_parameters() {
        let lines = [
            "batch 500 64 4 --order lifo",
            "batch 500 16 4 --order random --max-size 400 --threads 2",
            "hand-over 3 100 500 4 --mode ring",
            "false-sharing active 100 --threads 3",
            "random-mixed 20 256 42 32 64",
            "producer-consumer --min-size 64 --max-size 64",
            "pair 48 7 --threads 2",
            "idle-return 4 1 --seed 9",
        ];
        let told = lines.map(|l| Spec::parse(&l.split(' ').collect::<Vec<_>>()).expect(l));
        for mut spec in Spec::all_cases().into_iter().chain(told) {
            spec.check().unwrap();
            let words = arguments(&spec);
            let mut again = Spec::parse(&words.iter().map(String::as_str).collect::<Vec<_>>())
                .unwrap_or_else(|| panic!("{words:?} is no command"));
            again.check().unwrap();
            assert_eq!(again, spec, "{words:?}");
        }
    }

    #[test]
    fn every_workload_says_what_it_is() {
        for name in WorkloadCommand::names() {
            assert!(!about(&name).is_empty(), "{name}");
        }
        assert_eq!(about("nosuch"), "");
    }

    #[test]
    fn defaults_are_left_out() {
        let spec = |line: &str| Spec::parse(&line.split(' ').collect::<Vec<_>>()).unwrap();
        assert_eq!(arguments(&spec("pair 48 20000000")), ["pair"]);
        assert_eq!(arguments(&spec("pair 48 5")), ["pair", "48", "5"]);
        assert_eq!(
            arguments(&spec("replace --seed 3")),
            ["replace", "--seed", "3"]
        );
    }

    #[test]
    fn the_recorded_command_is_safe_for_a_shell() {
        let machine = Machine {
            command: ["/x/bench-harness", "all", "--json", "a b;rm.json"]
                .map(String::from)
                .to_vec(),
            environment: vec!["HAKMEM_X=$(evil)".to_owned()],
            ..Machine::default()
        };
        assert_eq!(
            whole(&machine).unwrap(),
            "HAKMEM_X='$(evil)' cargo run --release -p bench-harness -- all --json 'a b;rm.json'"
        );
        assert_eq!(whole(&Machine::default()), None);
    }
}
