//! What can be known about a program or a library before it is started: where it is, and whether the dynamic loader will have
//! a say in it. The loader itself is silent about programs it preloads nothing into.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use object::Endianness;
use object::elf::{EM_AARCH64, EM_X86_64, FileHeader64, Machine, PT_INTERP};
use object::read::ReadCache;
use object::read::elf::{FileHeader, ProgramHeader};

use crate::fail::Fail;

#[derive(Debug, PartialEq, Eq)]
pub enum Kind {
    Dynamic,
    /// A shared object, or a program that needs no loader.
    WithoutLoader,
    Foreign,
    Script(PathBuf),
    /// None of these.
    Unknown,
}

const MACHINE: Machine = if cfg!(target_arch = "x86_64") { EM_X86_64 } else { EM_AARCH64 };

pub fn kind(file: &File) -> Kind {
    let cache = ReadCache::new(file);
    let data = &cache;
    let mut start = [0; 256];
    let read = std::os::unix::fs::FileExt::read_at(file, &mut start, 0).unwrap_or(0);
    let head = &start[..read];
    if let Some(line) = head.strip_prefix(b"#!") {
        let line = String::from_utf8_lossy(line.split(|&b| b == b'\n').next().unwrap_or_default());
        return Kind::Script(line.split_whitespace().next().unwrap_or_default().into());
    }
    if !head.starts_with(b"\x7fELF") {
        return Kind::Unknown;
    }
    let Ok(header) = FileHeader64::<Endianness>::parse(data) else { return Kind::Foreign };
    let Ok(endian) = header.endian() else { return Kind::Foreign };
    if header.e_machine(endian) != MACHINE {
        return Kind::Foreign;
    }
    match header.program_headers(endian, data) {
        Ok(all) if all.iter().any(|p| p.p_type(endian) == PT_INTERP) => Kind::Dynamic,
        Ok(_) => Kind::WithoutLoader,
        Err(_) => Kind::Unknown,
    }
}

pub fn find(name: &str) -> Result<PathBuf, Fail> {
    which::which(name).map_err(|_| match fs::metadata(name) {
        _ if !name.contains('/') => Fail::usage(format!("{name:?}: no such program in PATH")),
        Ok(_) => Fail::usage(format!("{name}: not an executable file")),
        Err(e) => Fail::usage(format!("{name}: {e}")),
    })
}

/// Refuses programs the loader preloads nothing into.
pub fn check_program(path: &Path) -> Result<(), Fail> {
    let refuse = |why: &str| Err(Fail::usage(format!("{}: {why}", path.display())));
    if fs::metadata(path).is_ok_and(|m| m.mode() & 0o6000 != 0) {
        return refuse("a setuid or setgid program ignores LD_PRELOAD; nothing can be compared");
    }
    // Runnable and not readable: nothing can be said of it, so nothing is refused.
    let Ok(file) = File::open(path) else { return Ok(()) };
    match kind(&file) {
        Kind::WithoutLoader => refuse("a static program; nothing can be preloaded into it"),
        Kind::Foreign => refuse("not a 64-bit program of this machine; nothing can be preloaded into it"),
        Kind::Script(interpreter) => match File::open(&interpreter).map(|file| kind(&file)) {
            Ok(Kind::WithoutLoader) => refuse(&format!(
                "its interpreter {} is static; nothing can be preloaded into it",
                interpreter.display()
            )),
            _ => Ok(()),
        },
        Kind::Dynamic | Kind::Unknown => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_told_apart() {
        let of = |path: &Path| kind(&File::open(path).unwrap());
        assert_eq!(of(&std::env::current_exe().unwrap()), Kind::Dynamic);
        assert_eq!(of(Path::new("/proc/self/maps")), Kind::Unknown);
        let file = tempfile::NamedTempFile::new().unwrap();
        let with = |bytes: &[u8]| {
            fs::write(file.path(), bytes).unwrap();
            of(file.path())
        };
        assert_eq!(with(b"#! /bin/sh -e\nexit 0\n"), Kind::Script("/bin/sh".into()));
        assert_eq!([with(b""), with(b"x")], [Kind::Unknown, Kind::Unknown]);
        // The head of a 64-bit program of this machine with no program headers: nothing names a loader.
        let mut head = vec![0u8; 64];
        head[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
        head[18..20].copy_from_slice(&MACHINE.0.to_le_bytes());
        assert_eq!(with(&head), Kind::WithoutLoader);
        head[4] = 1;
        assert_eq!(with(&head), Kind::Foreign);
    }

    #[test]
    fn programs_are_found_as_a_shell_finds_them() {
        assert!(find("sh").unwrap().is_absolute());
        let wrong = |name: &str| find(name).unwrap_err().line;
        assert!(wrong("no-such-program").contains("no such program in PATH"));
        assert!(wrong("/etc/passwd").contains("not an executable file"));
        assert!(wrong("/nonexistent/x").contains("No such file"));
    }
}
