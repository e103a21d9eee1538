//! Builds the library as it is installed, compiles the C programs of `tests/c`, and runs programs with and without it.
#![allow(dead_code, reason = "every test file uses its own part")]

use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

pub const OURS: &str = "libhakmem.so";
pub const GLIBC: &str = "libc.so.6";

pub fn crate_dir() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A directory of this test binary's own.
pub fn scratch(name: &str) -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::create_dir_all(&dir).expect("a directory below target/");
    dir
}

/// `make` in the crate's directory, with `args`. One at a time: each strips the library it has just built.
#[track_caller]
pub fn make(args: &[&OsStr]) {
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let done = Command::new("make")
        .arg("-C")
        .arg(crate_dir())
        .args(args)
        // What cargo set for this test is not meant for another cargo.
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_TARGET_DIR")
        .output()
        .expect("make is installed");
    assert!(done.status.success(), "make {args:?}: {done:?}");
}

/// The path of libhakmem.so, built once.
pub fn library() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        make(&["build".as_ref()]);
        crate_dir().join("target/release").join(OURS)
    })
}

/// The launcher, built with the library.
pub fn launcher() -> PathBuf {
    library().with_file_name("hakmem-run")
}

/// Compiles `tests/c/<source>` by gcc or g++.
#[track_caller]
pub fn compile(source: &str, flags: &[&str]) -> PathBuf {
    let compiler = if source.ends_with(".cpp") {
        "g++"
    } else {
        "gcc"
    };
    let out = scratch("programs").join(format!(
        "{}-{}",
        source.replace('.', "-"),
        std::process::id()
    ));
    let done = Command::new(compiler)
        .args(["-O1", "-g", "-Wall", "-Wextra", "-Werror", "-pthread"])
        .arg("-Wno-alloc-size-larger-than")
        .arg(crate_dir().join("tests/c").join(source))
        .arg("-o")
        .arg(&out)
        .args(flags)
        .output()
        .unwrap_or_else(|error| panic!("{compiler}: {error}"));
    assert!(done.status.success(), "{compiler} {source}: {done:?}");
    out
}

#[derive(Debug)]
pub struct Ended {
    pub stdout: String,
    pub stderr: String,
    /// `None` when the time limit ended it.
    pub status: Option<ExitStatus>,
}

impl Ended {
    /// The standard output of a program that ended well and said nothing on stderr.
    #[track_caller]
    pub fn output(self) -> String {
        assert!(self.status.is_some_and(|s| s.success()), "{self:?}");
        assert_eq!(self.stderr, "", "{self:?}");
        self.stdout
    }

    pub fn signal(&self) -> Option<i32> {
        self.status.and_then(|status| status.signal())
    }

    pub fn code(&self) -> Option<i32> {
        self.status.and_then(|status| status.code())
    }
}

/// How many times as long as on an idle machine a program may run before it is taken to hang.
pub const PATIENCE: u32 = 20;

/// Runs to the end, which comes within `limit` on an idle machine; what it started and left behind is ended as well.
pub fn run(command: &mut Command, limit: Duration) -> Ended {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let drain = |mut pipe: Box<dyn Read + Send>| {
        thread::spawn(move || {
            let mut bytes = Vec::new();
            // A pipe that breaks leaves what was read; the assertions see that.
            let _ = pipe.read_to_end(&mut bytes);
            String::from_utf8_lossy(&bytes).into_owned()
        })
    };
    let stdout = drain(Box::new(child.stdout.take().expect("a pipe")));
    let stderr = drain(Box::new(child.stderr.take().expect("a pipe")));
    let group = format!("-{}", child.id());
    let deadline = Instant::now() + limit * PATIENCE;
    let status = loop {
        if let Some(status) = child.try_wait().expect("a child of ours") {
            break Some(status);
        }
        if Instant::now() >= deadline {
            break None;
        }
        thread::sleep(Duration::from_millis(3));
    };
    if status.is_none() {
        // The group was made for this child alone.
        let _ = Command::new("kill").args(["-KILL", "--", &group]).status();
        child.wait().expect("reaping a killed child");
    }
    Ended {
        stdout: stdout.join().expect("reader"),
        stderr: stderr.join().expect("reader"),
        status,
    }
}

/// `program` on glibc's malloc or on ours.
pub fn command(program: &Path, malloc_of: &str) -> Command {
    let mut command = Command::new(program);
    command
        .env_remove("LD_PRELOAD")
        .env("EXPECT_LIBRARY", malloc_of);
    if malloc_of == OURS {
        command.env("LD_PRELOAD", library());
    }
    command
}

/// Compiles `source` and runs it on glibc's malloc and on ours: both must end well with the same output, `says`.
#[track_caller]
pub fn same_on_both(source: &str, flags: &[&str], says: &str) {
    let program = compile(source, flags);
    for malloc_of in [GLIBC, OURS] {
        let ended = run(&mut command(&program, malloc_of), Duration::from_secs(60));
        assert_eq!(ended.output(), says, "{source} on {malloc_of}");
    }
}
