//! `hakmem-run [--stats] [--profile NAME] [--] program [args…]`: runs a program on libhakmem.so.
//!
//! Finds the library, puts it first in `LD_PRELOAD`, sets the knobs and executes the program. The dynamic loader does not
//! report a program that it cannot preload into (static, or with raised privileges), so [`program`] checks first.
#![deny(unsafe_code)]

mod env_args;
mod privileges;
mod program;

use std::env;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

const LIBRARY: &str = "libhakmem.so";
const PROFILES: [&str; 4] = ["speed", "balanced", "lean", "hardened"];
const USAGE: &str = "\
usage: hakmem-run [--stats] [--profile speed|balanced|lean|hardened] [--] program [args...]
Runs the program with its memory from libhakmem.so.
  --stats         print the allocator's statistics on stderr when the program exits
  --profile NAME  set HAKMEM_PROFILE
  --library       print the path of the library and exit
  --help, --version
The library is HAKMEM_RUN_LIBRARY, or lies beside this program, or in ../lib beside it, or in a system directory.";

/// Exit codes as a shell's: the program cannot be run, or is not found.
const CANNOT_RUN: u8 = 126;
const NOT_FOUND: u8 = 127;
const WRONG_USE: u8 = 2;

struct Failure {
    code: u8,
    line: String,
}

impl Failure {
    fn new(code: u8, line: impl Into<String>) -> Failure {
        let line = line.into();
        Failure { code, line }
    }
}

enum Request {
    Say(&'static str),
    Library,
    Run(Run),
}

#[derive(Default)]
struct Run {
    stats: bool,
    profile: Option<String>,
    program: OsString,
    args: Vec<OsString>,
}

fn main() -> ExitCode {
    let outcome = parse(env::args_os().skip(1)).and_then(|request| match request {
        Request::Say(text) => {
            println!("{text}");
            Ok(())
        }
        Request::Library => library().map(|path| println!("{}", path.display())),
        Request::Run(run) => start(run),
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("hakmem-run: {}", failure.line);
            ExitCode::from(failure.code)
        }
    }
}

fn parse(args: impl Iterator<Item = OsString>) -> Result<Request, Failure> {
    let mut run = Run::default();
    let mut args = args;
    while let Some(arg) = args.next() {
        match arg.to_str() {
            Some("--help" | "-h") => return Ok(Request::Say(USAGE)),
            Some("--version" | "-V") => {
                return Ok(Request::Say(concat!(
                    "hakmem-run ",
                    env!("CARGO_PKG_VERSION")
                )));
            }
            Some("--library") => return Ok(Request::Library),
            Some("--stats") => run.stats = true,
            Some("--profile") => run.profile = Some(profile(args.next())?),
            Some(text) if text.starts_with("--profile=") => {
                run.profile = Some(profile(text.split_once('=').map(|(_, v)| v.into()))?);
            }
            Some("--") => {
                run.program = args.next().unwrap_or_default();
                break;
            }
            Some(text) if text.starts_with('-') && text.len() > 1 => {
                return Err(Failure::new(
                    WRONG_USE,
                    format!(
                        "{text}: no such option; expected --stats, --profile or a program (see --help)"
                    ),
                ));
            }
            _ => {
                run.program = arg;
                break;
            }
        }
    }
    if run.program.is_empty() {
        return Err(Failure::new(
            WRONG_USE,
            format!("no program named\n{USAGE}"),
        ));
    }
    run.args = args.collect();
    Ok(Request::Run(run))
}

fn profile(value: Option<OsString>) -> Result<String, Failure> {
    let value = value.unwrap_or_default();
    match value.to_str() {
        Some(name) if PROFILES.contains(&name) => Ok(name.to_owned()),
        _ => Err(Failure::new(
            WRONG_USE,
            format!(
                "--profile {}: expected speed, balanced, lean or hardened",
                value.display()
            ),
        )),
    }
}

fn start(run: Run) -> Result<(), Failure> {
    let library = library()?;
    let path = program::find(&run.program)?;
    program::check(&path, &run.args)?;
    let mut preload = library.clone().into_os_string();
    if let Some(others) = env::var_os("LD_PRELOAD").filter(|others| !others.is_empty()) {
        preload.push(":");
        preload.push(others);
    }
    let mut command = Command::new(&path);
    command
        .arg0(&run.program)
        .args(&run.args)
        .env("LD_PRELOAD", preload);
    if run.stats {
        command.env("HAKMEM_STATS", "1");
    }
    if let Some(profile) = run.profile {
        command.env("HAKMEM_PROFILE", profile);
    }
    let error = command.exec();
    Err(Failure::new(
        CANNOT_RUN,
        format!("{}: cannot be run: {error}", path.display()),
    ))
}

/// The library's absolute path.
fn library() -> Result<PathBuf, Failure> {
    let separators = |path: &Path| {
        // The loader splits LD_PRELOAD at these and knows no quoting.
        path.as_os_str()
            .as_bytes()
            .iter()
            .any(|b| b" :\t\n".contains(b))
    };
    let usable = |path: PathBuf| {
        if separators(&path) {
            return Err(Failure::new(
                CANNOT_RUN,
                format!(
                    "{}: a path with a space or a colon cannot be preloaded; move the library",
                    path.display()
                ),
            ));
        }
        Ok(path)
    };
    if let Some(named) = env::var_os("HAKMEM_RUN_LIBRARY") {
        let path = fs::canonicalize(&named).map_err(|error| {
            Failure::new(
                CANNOT_RUN,
                format!(
                    "HAKMEM_RUN_LIBRARY={}: {error}; expected the path of {LIBRARY}",
                    named.display()
                ),
            )
        })?;
        return usable(path);
    }
    let own = env::current_exe().and_then(fs::canonicalize);
    if let Some(dir) = own.as_ref().ok().and_then(|exe| exe.parent()) {
        for place in [dir.join(LIBRARY), dir.join("../lib").join(LIBRARY)] {
            if let Ok(path) = fs::canonicalize(&place) {
                return usable(path);
            }
        }
    }
    for dir in [
        "/usr/local/lib",
        "/usr/lib",
        "/lib",
        "/usr/lib/x86_64-linux-gnu",
        "/usr/lib64",
    ] {
        if let Ok(path) = fs::canonicalize(Path::new(dir).join(LIBRARY)) {
            return usable(path);
        }
    }
    Err(Failure::new(
        CANNOT_RUN,
        format!(
            "{LIBRARY} is neither beside this program, nor in ../lib, nor in the system's library directories; \
             set HAKMEM_RUN_LIBRARY to its path"
        ),
    ))
}
