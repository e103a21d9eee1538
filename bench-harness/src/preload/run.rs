//! One run: a child of the harness starts the program, waits for it with the clock in its hand, and prints one line of JSON
//! after what the program printed. It is a process of its own so that the program starts as the copy of something small, as the
//! most that was ever resident counts from before the program was loaded, and so that a hang or a crash stays away from the
//! harness. It ends as the program did where that did not end well.

use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};

use regex::Regex;
use serde::{Deserialize, Serialize};

use bench_subject::measure::{Usage, now_ns, peak_rss_kib};
use bench_subject::one_line;
use bench_subject::record::Run;

use crate::fail::Fail;

/// What a child is told: its environment is the program's as well.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Order {
    /// The library, or nothing.
    pub preload: Option<PathBuf>,
    pub stdin: Option<PathBuf>,
    /// Whether somebody reads what the program prints.
    pub read: bool,
    pub program: Vec<String>,
}

/// The expression, if its first group can be a number.
pub fn expression(text: &str) -> Result<Regex, String> {
    let regex = Regex::new(text).map_err(|e| one_line(&e.to_string()))?;
    match regex.captures_len() {
        2 => Ok(regex),
        n => Err(format!("it has {} groups in parentheses; expected one, around the number", n - 1)),
    }
}

/// The number that an expression finds last in what a program printed.
pub fn figure(text: &str, wanted: &str) -> Result<f64, String> {
    let found = expression(wanted)?
        .captures_iter(text)
        .last()
        .and_then(|c| Some(c.get(1)?.as_str().replace([',', '_'], "")))
        .ok_or_else(|| format!("its output has no {wanted:?}"))?;
    found.parse().map_err(|_| format!("{wanted:?} found {found:?}; expected a number"))
}

pub fn child(order: &str) -> Result<(), Fail> {
    // SAFETY: prctl with these arguments only sets a number.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    let order = serde_json::from_str(order).map_err(|e| Fail::usage(format!("{order}: {e}")))?;
    let (status, run) = measure(&order).map_err(Fail::run)?;
    if let Some(signal) = status.signal() {
        // SAFETY: sends this process a signal, for which nothing is set up here.
        unsafe { libc::raise(signal) };
    }
    if !status.success() {
        std::process::exit(status.code().unwrap_or(1));
    }
    println!("\n{}", serde_json::to_string(&run).map_err(|e| Fail::run(e.to_string()))?);
    Ok(())
}

fn measure(order: &Order) -> Result<(ExitStatus, Run), String> {
    let mut command = Command::new(&order.program[0]);
    command.args(&order.program[1..]).env_remove("LD_PRELOAD").envs(order.preload.iter().map(|p| ("LD_PRELOAD", p)));
    if let Some(path) = &order.stdin {
        command.stdin(File::open(path).map_err(|e| format!("{}: {e}", path.display()))?);
    }
    if !order.read {
        command.stdout(Stdio::null());
    }
    let rss_start_kib = peak_rss_kib();
    let start = now_ns();
    let child = command.spawn().map_err(|e| format!("{} cannot be started: {e}", order.program[0]))?;
    let (status, usage) = wait(child.id())?;
    let secs = (now_ns() - start).max(1) as f64 / 1e9;
    let used = Usage::from(&usage);
    let run = Run {
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
        ..Run::default()
    };
    Ok((status, run))
}

/// Waits for the process and learns what it and all it waited for have used.
fn wait(id: u32) -> Result<(ExitStatus, libc::rusage), String> {
    let mut status = 0;
    // SAFETY: all-zero is a valid rusage; both places are ours and valid to write to.
    let (found, usage) = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        (libc::wait4(id as libc::pid_t, &mut status, 0, &mut usage), usage)
    };
    match found > 0 {
        true => Ok((ExitStatus::from_raw(status), usage)),
        false => Err(format!("waiting for the program: {}", std::io::Error::last_os_error())),
    }
}
