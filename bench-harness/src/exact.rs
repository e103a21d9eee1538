//! What is counted instead of timed: instructions by valgrind's callgrind, system calls by strace.
//!
//! Only the timed part's instructions are collected (see `timed_section`); system calls are those of the whole process. The
//! same run of `null` is counted too and subtracted: what is left is the allocator's own, and the same on a busy machine.

use std::process::Command;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use bench_subject::record::Order;

use crate::results::{CaseResult, Exact, FLOOR};
use crate::runner::{child, run_limited};
use crate::{interrupt, output, workloads};

/// The most operations whose instructions are counted: valgrind is some fifty times slower than the processor.
const MOST_OPS: u64 = 200_000;

pub const TOOLS: [(&str, &str); 2] = [("valgrind", "valgrind"), ("strace", "strace")];

/// Fills in the exact figures of every case, as many measurements at a time as there are processors: what else runs changes no
/// count but that of calls with which threads wait for each other, and of what follows the clock. A count that fails is said
/// on stderr and leaves its case without it.
pub fn count(results: &mut [CaseResult], limit: Duration) {
    let groups: Vec<&mut [CaseResult]> =
        results.chunk_by_mut(|a, b| a.spec == b.spec && a.series == b.series).collect();
    let (all, left) = (groups.len(), Mutex::new(groups.into_iter()));
    // No count panics with the lock.
    let next = || left.lock().ok().and_then(|mut groups| Some((groups.next()?, groups.len())));
    let work = || {
        while let Some((group, left)) = next().filter(|_| !interrupt::asked()) {
            if left % 10 == 0 && all > 10 {
                output::say(&format!("counting instructions and system calls: {left} of {all} measurements left\n"));
            }
            count_group(group, limit);
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
}

/// Counts the allocators of one measurement, each above the floor where the floor can do it. A program's own instructions are
/// far more than its allocator's: a count would say nothing.
fn count_group(group: &mut [CaseResult], limit: Duration) {
    let Some(ops) = group.iter().find_map(|c| Some(c.runs.first()?.ops)).filter(|_| group[0].spec.program().is_none())
    else {
        return;
    };
    let mut order = Order { spec: group[0].spec.clone(), series: group[0].series };
    workloads::scale(&mut order.spec, (MOST_OPS as f64 / ops.max(1) as f64).min(1.0));
    let floor = match workloads::takes(&order.spec, FLOOR, order.series) {
        true => counted(FLOOR, &order, limit),
        false => Exact { instructions_per_op: Some(0.0), syscalls: Some(0), syscall_ops: None },
    };
    for case in group.iter_mut().filter(|c| !c.runs.is_empty()) {
        case.exact = floor;
        if case.allocator != FLOOR {
            let own = counted(&case.allocator, &order, limit);
            let instructions_per_op = own.instructions_per_op.zip(floor.instructions_per_op).map(|(o, f)| o - f);
            let syscalls = own.syscalls.zip(floor.syscalls).map(|(o, f)| o - f);
            case.exact = Exact { instructions_per_op, syscalls, syscall_ops: own.syscall_ops };
        }
    }
}

fn counted(allocator: &str, order: &Order, limit: Duration) -> Exact {
    let say =
        |e: String| output::say(&format!("exact: {} {} on {allocator}: {e}\n", order.spec.workload, order.series));
    let mut exact = Exact::default();
    match child(allocator, order).and_then(|command| instructions(command, limit)) {
        Ok((count, ops)) => exact.instructions_per_op = Some(count as f64 / ops.max(1) as f64),
        Err(e) => say(e),
    }
    match child(allocator, order).and_then(|command| syscalls(command, limit)) {
        Ok((count, ops)) => (exact.syscalls, exact.syscall_ops) = (Some(count), Some(ops)),
        Err(e) => say(e),
    }
    exact
}

/// The same command under a tool with these arguments. Of the caller's environment it has the allocators' settings alone: a
/// start reads all of it, and what is counted is to be the same wherever it is counted.
fn under(tool: &str, arguments: &[&str], command: &Command) -> Command {
    let mut outer = Command::new(tool);
    outer.args(arguments).arg(command.get_program()).args(command.get_args());
    let settings = std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("HAKMEM_"));
    outer.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin").envs(settings);
    for (name, value) in command.get_envs().filter_map(|(n, v)| Some((n, v?))) {
        outer.env(name, value);
    }
    outer
}

/// Instructions of the collected section of a child, and the operations it answers.
pub fn instructions(command: Command, limit: Duration) -> Result<(u64, u64), String> {
    let arguments = [
        "--tool=callgrind",
        "--collect-atstart=no",
        "--toggle-collect=*timed_section*",
        "--callgrind-out-file=/dev/null",
        "--",
    ];
    let finished = run_limited(under("valgrind", &arguments, &command), limit.max(Duration::from_secs(600)))?;
    let found = finished.stderr.lines().find_map(|l| l.split_once("Collected : ")?.1.trim().parse().ok());
    match found {
        Some(0) => Err("valgrind counted nothing: the timed part was not found".to_owned()),
        Some(count) => Ok((count, finished.run.ops)),
        None => Err("valgrind printed no count".to_owned()),
    }
}

/// System calls of a child from its start to its end, and the operations it answers.
fn syscalls(command: Command, limit: Duration) -> Result<(i64, u64), String> {
    let file = tempfile::NamedTempFile::new().map_err(|e| e.to_string())?;
    let path = file.path().to_string_lossy().into_owned();
    let command = under("strace", &["-f", "-qq", "-c", "-U", "calls,name", "-o", &path, "--"], &command);
    let finished = run_limited(command, limit.max(Duration::from_secs(120)))?;
    let text = std::fs::read_to_string(file.path()).map_err(|e| e.to_string())?;
    let total = text.lines().find_map(|l| l.trim().strip_suffix("total")?.trim().parse().ok());
    Ok((total.ok_or("strace printed no total")?, finished.run.ops))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_keeps_its_environment_under_a_tool() {
        let mut inner = Command::new("/bin/true");
        inner.arg("x").env("LD_PRELOAD", "/lib/y.so");
        let outer = under("strace", &["-c"], &inner);
        assert_eq!(outer.get_args().collect::<Vec<_>>(), ["-c", "/bin/true", "x"]);
        let kept = |name: &str| outer.get_envs().any(|(known, value)| known == name && value.is_some());
        assert!(kept("LD_PRELOAD") && kept("PATH") && !kept("HOME"));
    }
}
