//! The program to run: where it is, and whether the library would reach it.

use crate::env_args::{self, Target};
use crate::privileges::raised;
use crate::{CANNOT_RUN, Failure, NOT_FOUND};
use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// How far a chain of scripts and `env` is followed.
const DEEPEST: usize = 8;

/// Finds a program as `execvp` does: by path if there is a slash, else in `PATH`.
pub(crate) fn find(name: &OsStr) -> Result<PathBuf, Failure> {
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

/// Refuses what the loader would silently run without the library: `path`, or the program that it leads to, as a script and
/// `env` do.
pub(crate) fn check(path: &Path, args: &[OsString]) -> Result<(), Failure> {
    check_chain(path, args, DEEPEST)
}

fn check_chain(path: &Path, args: &[OsString], left: usize) -> Result<(), Failure> {
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
    if let Some(why) = raised(path).map_err(cannot_read)? {
        return refuse(why);
    }
    let file = match File::open(path) {
        Ok(file) => file,
        // Runnable but not readable: its kind is unknown, so it is not refused.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(()),
        Err(error) => return Err(cannot_read(error)),
    };
    match kind(&file) {
        Kind::Static => refuse("a static program; nothing can be preloaded into it"),
        Kind::Foreign => refuse("not a 64-bit x86 program; the library cannot be loaded into it"),
        Kind::Script(interpreter, argument) if left > 0 => {
            let interpreter = PathBuf::from(interpreter);
            if !interpreter.exists() {
                // The kernel reports it better.
                return Ok(());
            }
            let mut all: Vec<OsString> = argument.into_iter().collect();
            all.push(path.into());
            all.extend_from_slice(args);
            check_chain(&interpreter, &all, left - 1).map_err(|failure| {
                let line = format!("{}: its interpreter: {}", path.display(), failure.line);
                Failure::new(CANNOT_RUN, line)
            })
        }
        Kind::Dynamic if left > 0 && path.file_name() == Some(OsStr::new("env")) => {
            match env_args::target(args) {
                Target::None => Ok(()),
                Target::Without(why) => refuse(why),
                Target::Program(name, args) => match find(&name) {
                    Ok(program) => check_chain(&program, &args, left - 1),
                    // `env` reports it itself.
                    Err(_) => Ok(()),
                },
            }
        }
        _ => Ok(()),
    }
}

#[derive(Debug, PartialEq)]
enum Kind {
    Dynamic,
    Static,
    Foreign,
    /// A file that begins with `#!`: the interpreter, and the rest of the line.
    Script(OsString, Option<OsString>),
    Unknown,
}

const X86_64: u16 = 62;
const PT_INTERP: u32 = 3;

/// The kind of a program file by its head; for an ELF file, whether it names a dynamic loader.
fn kind(file: &File) -> Kind {
    let mut head = Vec::new();
    if file.take(256).read_to_end(&mut head).is_err() {
        return Kind::Unknown;
    }
    if let Some(line) = head.strip_prefix(b"#!") {
        let line = line.split(|&b| b == b'\n').next().unwrap_or_default();
        let line = line.trim_ascii();
        let end = line.iter().position(|b| b" \t".contains(b));
        let (word, rest) = line.split_at(end.unwrap_or(line.len()));
        // The kernel passes the rest as one argument.
        let rest = Some(rest.trim_ascii()).filter(|rest| !rest.is_empty());
        let owned = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
        return Kind::Script(owned(word), rest.map(owned));
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
