//! Runs a test of the current binary a second time, as a child process with its own environment, limits and end.
//!
//! A test that needs a process of its own calls [`case`] first. In the child it returns the part to play; in the parent it
//! returns `None`, and the test starts the child with [`Child::of`]. The child prints figures with [`report`], and the parent
//! reads them from [`Ended`]. A child that does not end within its limit is a failure with a backtrace of each of its threads
//! (if gdb is installed), never a test that hangs.

use super::PATIENCE;
use std::ffi::OsStr;
use std::fmt::{Debug, Display};
use std::io::Read;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus, Stdio};
use std::str::FromStr;
use std::thread;
use std::time::{Duration, Instant};

/// Not named `HAKMEM_*`: the allocator reports names of that kind which it does not know.
const CASE: &str = "ALLOC_TEST_CASE";

/// The part this process plays, if it is a child.
pub fn case() -> Option<String> {
    let name = std::env::var(CASE).ok()?;
    report("case", &name);
    Some(name)
}

/// A command that runs `program`, which was built for the target of this test: through the program that cargo was told
/// to run this test with (`CARGO_TARGET_<TRIPLE>_RUNNER`), such as an emulator, if there is one.
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let env = if cfg!(target_env = "musl") {
        "MUSL"
    } else {
        "GNU"
    };
    let arch = std::env::consts::ARCH.to_uppercase();
    let runner = std::env::var(format!("CARGO_TARGET_{arch}_UNKNOWN_LINUX_{env}_RUNNER"));
    let runner = runner.unwrap_or_default();
    let mut words = runner.split_whitespace();
    match words.next() {
        Some(first) => {
            let mut command = Command::new(first);
            command.args(words).arg(program);
            command
        }
        None => Command::new(program),
    }
}

/// Hands a figure or a word to the parent.
pub fn report(key: &str, value: impl Display) {
    // The newline in front ends libtest's own "test name ... ", which has none.
    println!("\nreport {key}={value}");
}

pub struct Child {
    command: Command,
    test: &'static str,
    case: String,
    /// What it takes at most on an idle machine.
    limit: Duration,
}

pub struct Ended {
    pub what: String,
    pub stdout: String,
    pub stderr: String,
    /// `None` when the time limit ended it.
    pub status: Option<ExitStatus>,
}

impl Child {
    /// `test` is the path of the calling test function as libtest prints it, `case` the part the child plays.
    pub fn of(test: &'static str, case: &str) -> Self {
        let exe = std::env::current_exe().expect("the path of this test binary");
        let mut command = command(exe);
        command
            .args(["--exact", test, "--nocapture", "--test-threads=1"])
            .env(CASE, case)
            .env("RUST_BACKTRACE", "0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        Self {
            command,
            test,
            case: case.to_owned(),
            limit: Duration::from_secs(60),
        }
    }

    pub fn env(mut self, key: &str, value: &str) -> Self {
        self.command.env(key, value);
        self
    }

    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Limits the child's address space before it starts.
    pub fn address_space(mut self, bytes: u64) -> Self {
        // SAFETY: setrlimit is async-signal-safe and the closure touches nothing else.
        unsafe {
            self.command.pre_exec(move || {
                let limit = libc::rlimit {
                    rlim_cur: bytes,
                    rlim_max: bytes,
                };
                match libc::setrlimit(libc::RLIMIT_AS, &limit) {
                    0 => Ok(()),
                    _ => Err(std::io::Error::last_os_error()),
                }
            })
        };
        self
    }

    /// Has the kernel hand out the child's addresses from the bottom up (`setarch -L`).
    pub fn legacy_layout(mut self) -> Self {
        // SAFETY: personality is a plain system call and the closure touches nothing else.
        unsafe {
            self.command.pre_exec(|| {
                match libc::personality(libc::ADDR_COMPAT_LAYOUT as libc::c_ulong) {
                    -1 => Err(std::io::Error::last_os_error()),
                    _ => Ok(()),
                }
            })
        };
        self
    }

    pub fn run(mut self) -> Ended {
        let what = format!("{} [{}]", self.test, self.case);
        let mut child = self
            .command
            .spawn()
            .unwrap_or_else(|e| panic!("{what}: cannot start: {e}"));
        let group = child.id();
        let stdout = drain(child.stdout.take().expect("stdout is a pipe"));
        let stderr = drain(child.stderr.take().expect("stderr is a pipe"));
        let deadline = Instant::now() + self.limit * PATIENCE;
        let mut backtraces = String::new();
        let status = loop {
            if let Some(status) = child.try_wait().expect("waiting for a child of ours") {
                break Some(status);
            }
            if Instant::now() >= deadline {
                backtraces = backtraces_of(group);
                break None;
            }
            thread::sleep(Duration::from_millis(2));
        };
        // Grandchildren that outlive it would keep the pipes open.
        // SAFETY: the group was made for this child alone.
        unsafe { libc::kill(-(group as i32), libc::SIGKILL) };
        if status.is_none() {
            child.wait().expect("reaping a killed child");
        }
        let stdout = stdout.join().expect("reader of stdout");
        let stderr = stderr.join().expect("reader of stderr") + &backtraces;
        Ended {
            what,
            stdout,
            stderr,
            status,
        }
    }
}

impl Ended {
    /// Fails the test unless the child really played its part and ended well.
    #[track_caller]
    pub fn success(&self) -> &Self {
        assert!(
            self.status.is_some_and(|s| s.success()),
            "did not succeed: {self:?}"
        );
        self.played();
        self
    }

    /// Fails the test unless the child played its part and was ended by `signal`.
    #[track_caller]
    pub fn killed_by(&self, signal: i32) -> &Self {
        self.played();
        let got = self.status.and_then(|s| s.signal());
        assert_eq!(
            got,
            Some(signal),
            "expected to be ended by signal {signal}: {self:?}"
        );
        self
    }

    /// A misspelt test name makes libtest run nothing and succeed.
    #[track_caller]
    fn played(&self) {
        assert!(
            self.stdout.contains("report case="),
            "the case did not run at all: {self:?}"
        );
    }

    /// The last value reported under `key`.
    #[track_caller]
    pub fn value<T: FromStr<Err: Debug>>(&self, key: &str) -> T {
        let prefix = format!("report {key}=");
        let text = self
            .stdout
            .lines()
            .rev()
            .find_map(|line| line.strip_prefix(&prefix))
            .unwrap_or_else(|| panic!("no report of {key}: {self:?}"));
        text.parse()
            .unwrap_or_else(|e| panic!("{key}={text} does not parse: {e:?}"))
    }
}

impl Debug for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let how = match self.status {
            Some(status) => status.to_string(),
            None => "time limit reached, killed".to_owned(),
        };
        let (out, err) = (self.stdout.trim(), self.stderr.trim());
        write!(
            f,
            "child {}: {how}\n--- stdout\n{out}\n--- stderr\n{err}\n---",
            self.what
        )
    }
}

fn drain(mut pipe: impl Read + Send + 'static) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        // A pipe that breaks has given all it had.
        let _ = pipe.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// Every process of the group, as a deadlock after fork sits in a grandchild.
fn backtraces_of(group: u32) -> String {
    let mut text = String::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else {
            continue;
        };
        // SAFETY: getpgid takes any number.
        if unsafe { libc::getpgid(pid) } != group as i32 {
            continue;
        }
        let gdb = Command::new("timeout")
            .args([
                "20",
                "gdb",
                "-q",
                "-batch",
                "-ex",
                "thread apply all bt 12",
                "-p",
                &pid.to_string(),
            ])
            .stdin(Stdio::null())
            .output();
        if let Ok(output) = gdb {
            let dump = String::from_utf8_lossy(&output.stdout);
            let frames = dump
                .lines()
                .filter(|l| l.starts_with('#') || l.starts_with("Thread"));
            text += &format!(
                "\nprocess {pid}:\n{}\n",
                frames.collect::<Vec<_>>().join("\n")
            );
        }
    }
    text
}

/// Fails if any of so many cases went wrong, and tells of each.
#[track_caller]
pub fn assert_none(wrong: &[String], of: usize) {
    assert!(
        wrong.is_empty(),
        "{} of {of}:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}
