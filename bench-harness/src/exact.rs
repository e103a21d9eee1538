//! What is counted instead of timed: instructions by valgrind's callgrind, system calls by strace.
//!
//! Only the timed part's instructions are collected (see `timed_section`); system calls are those of the whole process. The
//! same run of `null` is counted too and subtracted: what is left is the allocator's own, and the same on a busy machine.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use bench_subject::record::{Order, Run};

use crate::results::{CaseResult, Exact, FLOOR};
use crate::runner::{answered, child, run_limited};
use crate::{interrupt, output};

/// The most operations whose instructions are counted: valgrind is some fifty times slower than the processor.
const MOST_OPS: u64 = 200_000;

/// The tools of the exact figures.
pub const TOOLS: [(&str, &str); 2] = [("valgrind", "valgrind"), ("strace", "strace")];

/// Fills in the exact figures of every case, as many at a time as there are processors: what else runs changes no count but that of
/// calls with which threads wait for each other, and of what follows the clock. A count that fails is said on stderr and leaves its
/// case without it.
pub fn count(results: &mut [CaseResult], limit: Duration) {
    let orders: Vec<Option<(String, Order)>> = results.iter().map(|case| named(order(case)?)).collect();
    // What each allocator is to do, by its name and the order's text.
    let mut wanted: BTreeMap<(String, &str), &Order> = BTreeMap::new();
    for (case, order) in results.iter().zip(&orders) {
        let Some((text, order)) = order else { continue };
        wanted.insert((case.allocator.clone(), text), order);
        if order.spec.takes(FLOOR, order.series) {
            wanted.insert((FLOOR.to_owned(), text), order);
        }
    }
    let all: Vec<_> = wanted.into_iter().collect();
    let counts = at_once(&all, |((allocator, _), order)| counted(allocator, order, limit));
    let found: BTreeMap<_, Exact> = all.into_iter().map(|(key, _)| key).zip(counts).collect();
    for (case, order) in results.iter_mut().zip(&orders) {
        let Some((text, _)) = order else { continue };
        let of = |name: &str| found.get(&(name.to_owned(), text.as_str())).copied();
        let own = of(&case.allocator).unwrap_or_default();
        case.exact = match of(FLOOR).filter(|_| case.allocator != FLOOR) {
            None => own,
            Some(floor) => Exact {
                instructions_per_op: own.instructions_per_op.zip(floor.instructions_per_op).map(|(o, f)| o - f),
                syscalls: own.syscalls.zip(floor.syscalls).map(|(o, f)| o - f),
                syscall_ops: own.syscall_ops,
            },
        };
    }
}

/// What is counted of a case. A program's own instructions are far more than its allocator's: a count would say nothing.
fn order(case: &CaseResult) -> Option<Order> {
    let run = case.runs.first().filter(|_| !case.spec.is_program())?;
    let mut spec = case.spec.clone();
    spec.scale((MOST_OPS as f64 / run.ops.max(1) as f64).min(1.0));
    Some(Order { spec, series: case.series })
}

/// An order with the text that tells it apart from others.
fn named(order: Order) -> Option<(String, Order)> {
    Some((serde_json::to_string(&order).ok()?, order))
}

/// `count` of each, in this order. When the harness is interrupted, of those that were begun; the others count nothing.
fn at_once<T: Sync>(all: &[T], count: impl Fn(&T) -> Exact + Sync) -> Vec<Exact> {
    let next = AtomicUsize::new(0);
    let found = Mutex::new(vec![Exact::default(); all.len()]);
    let work = || {
        while !interrupt::asked() {
            let at = next.fetch_add(1, Relaxed);
            let Some(one) = all.get(at) else { return };
            if at.is_multiple_of(20) && all.len() > 20 {
                output::say(&format!("counting instructions and system calls: {at} of {}\n", all.len()));
            }
            let exact = count(one);
            found.lock().expect("no count panics with the lock")[at] = exact;
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    found.into_inner().expect("no count panics with the lock")
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
    let run: Run = answered(&finished, limit)?;
    let found = finished.stderr.lines().find_map(|l| l.split_once("Collected : ")?.1.trim().parse().ok());
    match found {
        Some(0) => Err("valgrind counted nothing: the timed part was not found".to_owned()),
        Some(count) => Ok((count, run.ops)),
        None => Err("valgrind printed no count".to_owned()),
    }
}

/// System calls of a child from its start to its end, and the operations it answers.
fn syscalls(command: Command, limit: Duration) -> Result<(i64, u64), String> {
    let file = tempfile::NamedTempFile::new().map_err(|e| e.to_string())?;
    let path = file.path().to_string_lossy().into_owned();
    let command = under("strace", &["-f", "-qq", "-c", "-U", "calls,name", "-o", &path, "--"], &command);
    let run: Run = answered(&run_limited(command, limit.max(Duration::from_secs(120)))?, limit)?;
    let text = std::fs::read_to_string(file.path()).map_err(|e| e.to_string())?;
    Ok((total(&text).ok_or("strace printed no total")?, run.ops))
}

/// The number in strace's line `  567 total`.
fn total(text: &str) -> Option<i64> {
    text.lines().find_map(|l| l.trim().strip_suffix("total")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_count_comes_to_its_place() {
        let exact = |&n: &i64| Exact { syscalls: Some(n), ..Exact::default() };
        let all: Vec<i64> = (0..20).collect();
        let found = at_once(&all, |n| {
            // The first ends last.
            thread::sleep(Duration::from_millis(if *n == 0 { 50 } else { 0 }));
            exact(n)
        });
        assert_eq!(found, all.iter().map(exact).collect::<Vec<_>>());
    }

    #[test]
    fn the_total_is_found() {
        let text = "  calls syscall\n------- -------\n     12 mmap\n      3 brk\n------- -------\n     15 total\n";
        assert_eq!(total(text), Some(15));
        assert_eq!(total("strace: nothing"), None);
    }

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
