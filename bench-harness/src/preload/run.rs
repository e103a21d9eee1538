//! One run: a child of the harness starts the program, waits for it with the clock in its hand, and prints one line of
//! JSON. It is a process of its own so that the program starts as the copy of something small, as the most that was ever
//! resident counts from before the program was loaded, and so that a hang or a crash stays away from the harness.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::FromRawFd;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use regex::Regex;
use serde::{Deserialize, Serialize};

use bench_subject::measure::{now_ns, peak_rss_kib};
use bench_subject::one_line;

use crate::fail::Fail;
use crate::runner::{Finished, success};

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Order {
    pub name: String,
    pub program: PathBuf,
    pub arguments: Vec<String>,
    /// The library, or nothing.
    pub preload: Option<PathBuf>,
    pub stdin: Option<PathBuf>,
    pub metrics: Vec<String>,
    pub show_output: bool,
    pub variables: Vec<(String, String)>,
}

/// One run of the program and everything it waited for.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// From the start of the program to its end.
    pub wall_secs: f64,
    pub user_secs: f64,
    pub sys_secs: f64,
    /// The most any one of its processes had resident.
    pub max_rss_kib: u64,
    pub minor_faults: u64,
    pub major_faults: u64,
    /// What was resident in the process that became the program: less than this cannot be told.
    pub rss_floor_kib: u64,
    /// The figures found in its output, in the order of the expressions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub metrics: Vec<f64>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Answer {
    Measured(Measured),
    Failed(String),
}

pub fn judge(finished: &Finished, limit: Duration) -> Result<Measured, String> {
    match finished.status {
        None => return Err(format!("hung: killed after {} s", limit.as_secs())),
        Some(status) if !status.success() => {
            return Err(format!("the child of the harness itself failed: {status}"));
        }
        Some(_) => {}
    }
    match serde_json::from_str(finished.stdout.trim()) {
        Ok(Answer::Measured(run)) => Ok(run),
        Ok(Answer::Failed(error)) => Err(error),
        Err(e) => Err(format!("the child of the harness answered nonsense: {e}")),
    }
}

/// The expression, if its first group or it itself can be a number.
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

pub fn child(order: &str) -> Result<(), Fail> {
    // SAFETY: prctl with these arguments only sets a number.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    let order: Order = serde_json::from_str(order)
        .map_err(|e| Fail::usage(format!("the order is not what this version understands: {e}")))?;
    let answer = match measure(&order) {
        Ok(run) => Answer::Measured(run),
        Err(error) => Answer::Failed(one_line(&error)),
    };
    let line = serde_json::to_string(&answer).map_err(|e| Fail::run(e.to_string()))?;
    println!("{line}");
    Ok(())
}

fn measure(order: &Order) -> Result<Measured, String> {
    let wants_stdout = order.show_output || !order.metrics.is_empty();
    let mut stdout = wants_stdout.then(|| memory_file(c"stdout")).transpose()?;
    let mut stderr = memory_file(c"stderr")?;
    let handed = |file: &File| file.try_clone().map(Stdio::from).map_err(|e| e.to_string());
    let mut command = Command::new(&order.program);
    command
        .args(&order.arguments)
        .env_remove("LD_PRELOAD")
        .envs(order.variables.iter().cloned())
        .stdin(match &order.stdin {
            Some(path) => Stdio::from(File::open(path).map_err(|e| format!("{}: {e}", path.display()))?),
            None => Stdio::null(),
        })
        .stdout(stdout.as_ref().map_or(Ok(Stdio::null()), handed)?)
        .stderr(handed(&stderr)?);
    if let Some(library) = &order.preload {
        command.env("LD_PRELOAD", library);
    }
    std::os::unix::process::CommandExt::arg0(&mut command, &order.name);
    let rss_floor_kib = peak_rss_kib();
    let start = now_ns();
    let child = command.spawn().map_err(|e| format!("{} cannot be started: {e}", order.program.display()))?;
    let (status, usage) = wait(child.id())?;
    let wall_secs = (now_ns() - start) as f64 / 1e9;

    let (output, errors) = (stdout.as_mut().map(whole).transpose()?.unwrap_or_default(), whole(&mut stderr)?);
    if order.show_output {
        // The harness passes our stderr on; if it is closed, nobody wants to see it.
        let _ = std::io::stderr().write_all(&output);
        let _ = std::io::stderr().write_all(&errors);
    }
    success(status, &String::from_utf8_lossy(&errors))?;
    let text = String::from_utf8_lossy(&output);
    let metrics: Result<Vec<f64>, String> = order.metrics.iter().map(|m| figure(&text, m)).collect();
    let secs = |t: libc::timeval| t.tv_sec as f64 + t.tv_usec as f64 / 1e6;
    Ok(Measured {
        wall_secs,
        user_secs: secs(usage.ru_utime),
        sys_secs: secs(usage.ru_stime),
        max_rss_kib: usage.ru_maxrss.max(0) as u64,
        minor_faults: usage.ru_minflt.max(0) as u64,
        major_faults: usage.ru_majflt.max(0) as u64,
        rss_floor_kib,
        metrics: metrics?,
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

/// A file in memory: writing to it costs the program no disk and never waits for a reader.
fn memory_file(name: &std::ffi::CStr) -> Result<File, String> {
    // SAFETY: the name is a valid string; the descriptor, if there is one, is nobody else's.
    unsafe {
        match libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC) {
            -1 => Err(format!("a file in memory: {}", std::io::Error::last_os_error())),
            fd => Ok(File::from_raw_fd(fd)),
        }
    }
}

fn whole(file: &mut File) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0)).and_then(|_| file.read_to_end(&mut bytes)).map_err(|e| format!("its output: {e}"))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, metrics: &[&str]) -> Result<Measured, String> {
        measure(&Order {
            name: "sh".to_owned(),
            program: "/bin/sh".into(),
            arguments: vec!["-c".to_owned(), script.to_owned()],
            preload: None,
            stdin: None,
            metrics: metrics.iter().map(|&m| m.to_owned()).collect(),
            show_output: false,
            variables: vec![("GREETING".to_owned(), "5".to_owned())],
        })
    }

    #[test]
    fn a_run_is_timed_and_its_figures_are_found() {
        let run = shell(
            "sleep 0.05; echo SET: 1 requests; echo SET: $GREETING,000.5 requests",
            &["SET: ([0-9.,]+) requests"],
        )
        .unwrap();
        assert!(run.wall_secs >= 0.05 && run.minor_faults > 0 && run.max_rss_kib > 100, "{run:?}");
        assert_eq!(run.metrics, [5000.5]);
    }

    #[test]
    fn what_went_wrong_is_named() {
        let wrong = |script: &str| shell(script, &["n=([a-z0-9]+)"]).unwrap_err();
        assert_eq!(wrong("echo broken >&2; exit 3"), "exit code 3: broken");
        assert_eq!(wrong("kill -SEGV $$"), "crashed: signal 11");
        assert_eq!(wrong("true"), "its output has no \"n=([a-z0-9]+)\"");
        assert_eq!(wrong("echo n=many"), "\"n=([a-z0-9]+)\" found \"many\"; expected a number");
        assert!(expression("a(b)(c)").unwrap_err().contains("2 groups"));
        assert!(expression("(").unwrap_err().contains("unclosed group"));
    }
}
