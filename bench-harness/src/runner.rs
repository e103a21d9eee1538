//! Starting children, one at a time, and making of each a run or a failure.

use std::fs::File;
use std::io::{Read, Seek};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bench_subject::bench::SPAWNED_VARIABLE;
use bench_subject::measure::now_ns;
use bench_subject::one_line;
use bench_subject::record::{Order, Run};
use wait_timeout::ChildExt;

use crate::{interrupt, output, subjects};

/// The command of the child that does this order on this allocator.
pub fn child(allocator: &str, order: &Order) -> Result<Command, String> {
    let mut command = Command::new(subjects::workspace(&order.spec).executable(allocator));
    command.arg(serde_json::to_string(order).map_err(|e| e.to_string())?);
    Ok(command)
}

/// Runs one order and waits for it, at most `limit`; `variables` are set in its environment. What a child that ended well
/// wrote to stderr is for the person at the terminal.
pub fn run(allocator: &str, order: &Order, limit: Duration, variables: &[(&str, &str)]) -> Result<Run, String> {
    let mut command = child(allocator, order)?;
    command.envs(variables.iter().copied()).env(SPAWNED_VARIABLE, now_ns().to_string());
    let finished = run_limited(command, limit)?;
    if !finished.stderr.trim().is_empty() {
        output::say(&finished.stderr);
    }
    Ok(finished.run)
}

/// A child's run, and all that it wrote.
#[derive(Debug)]
pub struct Finished {
    pub run: Run,
    pub stdout: String,
    pub stderr: String,
}

/// How long an interruption of the harness may go unnoticed while a child runs.
const LOOK: Duration = Duration::from_millis(200);

/// Runs a command without stdin, which answers in the last line of its output, and kills it at the time limit, or when the
/// harness itself is interrupted. Its output goes to files in memory: nobody has to read while it is being timed.
pub fn run_limited(mut command: Command, limit: Duration) -> Result<Finished, String> {
    let file = || bench_subject::memory::file().map_err(|e| format!("a file in memory: {e}"));
    let handed = |file: &File| file.try_clone().map(Stdio::from).map_err(|e| e.to_string());
    let (mut stdout, mut stderr) = (file()?, file()?);
    command.stdin(Stdio::null()).stdout(handed(&stdout)?).stderr(handed(&stderr)?);
    let group = interrupt::watched();
    if group {
        command.process_group(0);
    }
    let mut child = command.spawn().map_err(|e| format!("{:?} cannot be started: {e}", command.get_program()))?;
    let deadline = Instant::now() + limit;
    let status = loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match child.wait_timeout(left.min(LOOK)) {
            Ok(None) if !left.is_zero() && !interrupt::asked() => {}
            ended => break ended.ok().flatten(),
        }
    };
    if status.is_none() {
        if group {
            // What it started itself ends with it.
            // SAFETY: kill only sends a signal; the child has not been waited for, so the number is still its own.
            unsafe { libc::kill(-(child.id() as libc::pid_t), libc::SIGKILL) };
        }
        // Both can only fail when it ended by itself meanwhile.
        let _ = child.kill();
        let _ = child.wait();
    }
    let (stdout, stderr) = (whole(&mut stdout)?, whole(&mut stderr)?);
    let failure = match status {
        Some(status) if status.success() => None,
        Some(status) => Some(match status.signal() {
            Some(signal) => format!("crashed: signal {signal}"),
            None => format!("exit code {}", status.code().unwrap_or(-1)),
        }),
        None => Some(format!("hung: killed after {} s", limit.as_secs())),
    };
    if let Some(failure) = failure {
        return Err(failure + &last_said(&stderr));
    }
    let line = stdout.lines().rev().find(|l| !l.trim().is_empty()).unwrap_or("");
    let run = serde_json::from_str(line).map_err(|_| {
        let shown: String = line.chars().take(60).collect();
        format!("answered {shown:?} instead of a result")
    })?;
    Ok(Finished { run, stdout, stderr })
}

/// What was written to it.
fn whole(file: &mut File) -> Result<String, String> {
    let mut bytes = Vec::new();
    file.rewind().and_then(|()| file.read_to_end(&mut bytes)).map_err(|e| format!("its output: {e}"))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The last line of what a process wrote to stderr, as the end of a sentence.
fn last_said(stderr: &str) -> String {
    let said = stderr.lines().rev().find(|l| !l.trim().is_empty());
    said.map_or(String::new(), |l| format!(": {}", one_line(l).chars().take(200).collect::<String>()))
}
