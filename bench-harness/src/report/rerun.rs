//! The commands that measure again: the recorded one, and one for each measurement.

use shell_words::quote;

use crate::figures::Group;
use crate::machine::Machine;
use crate::plan::PRELOAD;

const CARGO: &str = "cargo run --release -p bench-harness --";

/// The command the whole file came from, as a shell takes it; nothing where the file does not say.
pub fn whole(machine: &Machine) -> Option<String> {
    let (program, arguments) = machine.command.split_first()?;
    let program = if program.ends_with("bench-harness") { CARGO.to_owned() } else { quote(program).into_owned() };
    Some(join(machine, &program, arguments))
}

pub fn measurement(group: &Group, machine: &Machine) -> String {
    let cases = || group.entries.iter().map(|e| e.case);
    let Some(first) = cases().next() else { return String::new() };
    if first.spec.workload == PRELOAD {
        return whole(machine).unwrap_or_default();
    }
    let mut words = first.spec.command();
    let names: Vec<&str> = group.entries.iter().map(|e| e.name()).collect();
    let runs = cases().map(|c| c.runs.len() + c.failures.len()).max().unwrap_or(1).max(1);
    words.extend(["--allocators".to_owned(), names.join(","), "--series".to_owned(), group.series.to_string()]);
    words.extend(["--runs".to_owned(), runs.to_string()]);
    if let Some(at) = machine.command.iter().position(|a| a == "--order-seed") {
        words.extend(machine.command[at..].iter().take(2).cloned());
    }
    let flags = [
        ("--latency", cases().any(|c| c.latency.is_some())),
        ("--exact", cases().any(|c| c.exact.instructions_per_op.is_some())),
        ("--no-host-warm", machine.command.iter().any(|a| a == "--no-host-warm")),
    ];
    words.extend(flags.iter().filter(|f| f.1).map(|f| f.0.to_owned()));
    join(machine, CARGO, &words)
}

/// With the variables that change what is measured. The allocator's own count as well: they change what it does.
fn join(machine: &Machine, program: &str, arguments: &[String]) -> String {
    let variable = |line: &String| match line.split_once('=') {
        Some((name, value)) => format!("{name}={}", quote(value)),
        None => quote(line).into_owned(),
    };
    let words = machine.environment.iter().map(variable).chain([program.to_owned()]);
    words.chain(arguments.iter().map(|a| quote(a).into_owned())).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_recorded_command_is_safe_for_a_shell() {
        let command = ["/x/bench-harness", "all", "--json", "a b;rm.json"].map(String::from).to_vec();
        let machine = Machine { command, environment: vec!["HAKMEM_X=$(evil)".to_owned()], ..Machine::default() };
        let wanted = "HAKMEM_X='$(evil)' cargo run --release -p bench-harness -- all --json 'a b;rm.json'";
        assert_eq!((whole(&machine).as_deref(), whole(&Machine::default())), (Some(wanted), None));
    }
}
