//! One run: a child of the harness starts the program, waits for it with the clock in its hand, and prints one line of
//! JSON. It is a process of its own so that the program starts as the copy of something small, as the most that was ever
//! resident counts from before the program was loaded, and so that a hang or a crash stays away from the harness.

use std::fs::File;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};

use regex::Regex;
use serde::{Deserialize, Serialize};

use bench_subject::measure::{Usage, now_ns, peak_rss_kib};
use bench_subject::one_line;
use bench_subject::record::Run;

use crate::fail::Fail;
use crate::runner::{handed, memory_file, success, whole};

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Order {
    pub name: String,
    pub program: PathBuf,
    pub arguments: Vec<String>,
    /// The library, or nothing.
    pub preload: Option<PathBuf>,
    pub stdin: Option<PathBuf>,
    pub metrics: Vec<String>,
    pub variables: Vec<(String, String)>,
}

/// The expression, if its first group can be a number.
pub fn expression(text: &str) -> Result<Regex, String> {
    let regex = Regex::new(text).map_err(|e| one_line(&e.to_string()))?;
    match regex.captures_len() {
        2 => Ok(regex),
        n => Err(format!("it has {} groups in parentheses; expected one, around the number", n - 1)),
    }
}

fn figure(text: &str, wanted: &str) -> Result<f64, String> {
    let found = expression(wanted)?
        .captures_iter(text)
        .last()
        .and_then(|c| Some(c.get(1)?.as_str().replace([',', '_'], "")))
        .ok_or_else(|| format!("its output has no {wanted:?}"))?;
    found.parse().map_err(|_| format!("{wanted:?} found {found:?}; expected a number"))
}

/// Prints the run, or why there is none.
pub fn child(order: &str) -> Result<(), Fail> {
    // SAFETY: prctl with these arguments only sets a number.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    let order: Order = serde_json::from_str(order)
        .map_err(|e| Fail::usage(format!("the order is not what this version understands: {e}")))?;
    let answer = measure(&order).map_err(|e| one_line(&e));
    println!("{}", serde_json::to_string(&answer).map_err(|e| Fail::run(e.to_string()))?);
    Ok(())
}

fn measure(order: &Order) -> Result<Run, String> {
    let mut stdout = (!order.metrics.is_empty()).then(memory_file).transpose()?;
    let mut stderr = memory_file()?;
    let mut command = Command::new(&order.program);
    command.arg0(&order.name).args(&order.arguments).env_remove("LD_PRELOAD").envs(order.variables.iter().cloned());
    command.envs(order.preload.as_ref().map(|library| ("LD_PRELOAD", library)));
    command.stdin(match &order.stdin {
        Some(path) => Stdio::from(File::open(path).map_err(|e| format!("{}: {e}", path.display()))?),
        None => Stdio::null(),
    });
    command.stdout(stdout.as_ref().map_or(Ok(Stdio::null()), handed)?).stderr(handed(&stderr)?);
    let rss_start_kib = peak_rss_kib();
    let start = now_ns();
    let child = command.spawn().map_err(|e| format!("{} cannot be started: {e}", order.program.display()))?;
    let (status, usage) = wait(child.id())?;
    let secs = (now_ns() - start).max(1) as f64 / 1e9;

    let (output, errors) = (stdout.as_mut().map(whole).transpose()?.unwrap_or_default(), whole(&mut stderr)?);
    success(status, &String::from_utf8_lossy(&errors))?;
    let text = String::from_utf8_lossy(&output);
    let metrics: Result<Vec<f64>, String> = order.metrics.iter().map(|m| figure(&text, m)).collect();
    let used = Usage::from(&usage);
    Ok(Run {
        ops: 1,
        secs,
        ops_per_sec: 1.0 / secs,
        user_secs: used.user_secs,
        sys_secs: used.sys_secs,
        max_rss_kib: usage.ru_maxrss.max(0) as u64,
        minor_faults_timed: used.minor,
        major_faults_timed: used.major,
        minor_faults_total: used.minor,
        major_faults_total: used.major,
        rss_start_kib,
        metrics: metrics?,
        ..Run::default()
    })
}

/// Waits for the process and learns what it and all it waited for have used.
fn wait(id: u32) -> Result<(ExitStatus, libc::rusage), String> {
    let mut status = 0;
    loop {
        // SAFETY: all-zero is a valid rusage; both places are ours and valid to write to.
        let (found, usage) = unsafe {
            let mut usage: libc::rusage = std::mem::zeroed();
            (libc::wait4(id as libc::pid_t, &mut status, 0, &mut usage), usage)
        };
        if found > 0 {
            return Ok((ExitStatus::from_raw(status), usage));
        }
        let error = std::io::Error::last_os_error();
        if error.kind() != std::io::ErrorKind::Interrupted {
            return Err(format!("waiting for the program: {error}"));
        }
    }
}
