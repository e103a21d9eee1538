//! `hakmem-run [--stats] [--profile NAME] [--] program [args…]`: runs a program on libhakmem.so.
//!
//! Finds the library, puts it in front of `LD_PRELOAD`, sets the knobs and becomes the program. The dynamic loader says
//! nothing of a program it preloads nothing into (static, or with raised privileges), so that is looked at here first.
#![forbid(unsafe_code)]

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

const LIBRARY: &str = "libhakmem.so";
const PROFILES: [&str; 3] = ["speed", "balanced", "lean"];
const USAGE: &str = "\
usage: hakmem-run [--stats] [--profile speed|balanced|lean] [--] program [args...]
Runs the program with its memory from libhakmem.so.
  --stats         print the allocator's statistics on stderr when the program exits
  --profile NAME  set HAKMEM_PROFILE
  --library       print the path of the library and exit
  --help, --version
The library is HAKMEM_RUN_LIBRARY, or lies beside this program, or in ../lib beside it, or where the loader looks.";

/// As a shell answers: the program cannot be run, and it is not found.
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
                "--profile {}: expected speed, balanced or lean",
                value.display()
            ),
        )),
    }
}

fn start(run: Run) -> Result<(), Failure> {
    let library = library()?;
    let path = find_program(&run.program)?;
    check_program(&path)?;
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

/// As `execvp` finds it: by path if there is a slash, else in `PATH`.
fn find_program(name: &OsStr) -> Result<PathBuf, Failure> {
    let runnable = |path: &Path| {
        fs::metadata(path)
            .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
    };
    if name.as_bytes().contains(&b'/') {
        let path = PathBuf::from(name);
        return match fs::metadata(&path) {
            Ok(_) if runnable(&path) => Ok(path),
            Ok(_) => Err(Failure::new(
                CANNOT_RUN,
                format!("{}: not an executable file", path.display()),
            )),
            Err(error) => Err(Failure::new(
                NOT_FOUND,
                format!("{}: {error}", path.display()),
            )),
        };
    }
    let places = env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into());
    env::split_paths(&places)
        .map(|dir| {
            if dir.as_os_str().is_empty() {
                Path::new(".").join(name)
            } else {
                dir.join(name)
            }
        })
        .find(|path| runnable(path))
        .ok_or_else(|| Failure::new(NOT_FOUND, format!("{}: not found in PATH", name.display())))
}

/// Refuses what the loader would silently run without the library.
fn check_program(path: &Path) -> Result<(), Failure> {
    let refuse = |why: &str| {
        Err(Failure::new(
            CANNOT_RUN,
            format!("{}: {why}", path.display()),
        ))
    };
    let cannot_read = |error: io::Error| {
        Failure::new(
            CANNOT_RUN,
            format!("{}: cannot be read: {error}", path.display()),
        )
    };
    let meta = fs::metadata(path).map_err(cannot_read)?;
    if meta.mode() & 0o6000 != 0 {
        return refuse(
            "a setuid or setgid program ignores LD_PRELOAD; it would run without the library",
        );
    }
    let file = match File::open(path) {
        Ok(file) => file,
        // Runnable and not readable: nothing can be said of it, so nothing is refused.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(()),
        Err(error) => return Err(cannot_read(error)),
    };
    match kind(&file) {
        Kind::Dynamic | Kind::Unknown => Ok(()),
        Kind::Static => refuse("a static program; nothing can be preloaded into it"),
        Kind::Foreign => refuse("not a 64-bit x86 program; the library cannot be loaded into it"),
        Kind::Script(interpreter) => {
            let path = PathBuf::from(&interpreter);
            match File::open(&path).map(|file| kind(&file)) {
                Ok(Kind::Static) => {
                    refuse(&format!("its interpreter {} is static", path.display()))
                }
                Ok(Kind::Foreign) => refuse(&format!(
                    "its interpreter {} is no 64-bit x86 program",
                    path.display()
                )),
                _ => Ok(()),
            }
        }
    }
}

#[derive(Debug, PartialEq)]
enum Kind {
    Dynamic,
    Static,
    Foreign,
    Script(OsString),
    Unknown,
}

const X86_64: u16 = 62;
const PT_INTERP: u32 = 3;

/// What the head of a program file says: of an ELF file, whether it names a dynamic loader.
fn kind(file: &File) -> Kind {
    let mut head = Vec::new();
    if file.take(256).read_to_end(&mut head).is_err() {
        return Kind::Unknown;
    }
    if let Some(line) = head.strip_prefix(b"#!") {
        let line = line.split(|&b| b == b'\n').next().unwrap_or_default();
        let word = line
            .trim_ascii()
            .split(|b| b" \t".contains(b))
            .next()
            .unwrap_or_default();
        return Kind::Script(OsString::from_vec(word.to_vec()));
    }
    let half = |bytes: &[u8], at: usize| {
        bytes
            .get(at..at + 2)
            .map(|b| u16::from_le_bytes([b[0], b[1]]))
    };
    if !head.starts_with(b"\x7fELF") {
        return Kind::Unknown;
    }
    if head.get(4) != Some(&2) || half(&head, 18) != Some(X86_64) {
        return Kind::Foreign;
    }
    let table = head
        .get(32..40)
        .map(|b| u64::from_le_bytes(b.try_into().unwrap_or_default()));
    let (Some(table), Some(size), Some(count)) = (table, half(&head, 54), half(&head, 56)) else {
        return Kind::Unknown;
    };
    for i in 0..u64::from(count) {
        let mut entry = [0; 4];
        let at = table.saturating_add(i * u64::from(size));
        if file.read_exact_at(&mut entry, at).is_err() {
            return Kind::Unknown;
        }
        if u32::from_le_bytes(entry) == PT_INTERP {
            return Kind::Dynamic;
        }
    }
    Kind::Static
}
