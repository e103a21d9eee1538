//! What can be known about a program or a library before it is started: where it is, and whether the dynamic loader will
//! have a say in it. The loader itself is silent about programs it preloads nothing into.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::fail::Fail;

/// What the head of a file says.
#[derive(Debug, PartialEq, Eq)]
pub enum Kind {
    /// A program that names a dynamic loader.
    Dynamic,
    /// A shared object, or a program that needs no loader.
    WithoutLoader,
    /// A program for another machine.
    Foreign,
    /// A script, with its interpreter.
    Script(PathBuf),
    /// None of these.
    Unknown,
}

const PT_INTERP: u32 = 3;

/// The machine this program was built for, as ELF numbers them.
const MACHINE: u16 = if cfg!(target_arch = "x86_64") {
    62
} else if cfg!(target_arch = "aarch64") {
    183
} else {
    0
};

/// Reads the head of a file.
pub fn kind(file: &File) -> Kind {
    let mut head = Vec::new();
    if file.take(256).read_to_end(&mut head).is_err() {
        return Kind::Unknown;
    }
    if let Some(line) = head.strip_prefix(b"#!") {
        let line = String::from_utf8_lossy(line.split(|&b| b == b'\n').next().unwrap_or_default())
            .into_owned();
        return Kind::Script(line.split_whitespace().next().unwrap_or_default().into());
    }
    if !head.starts_with(b"\x7fELF") {
        return Kind::Unknown;
    }
    let half = |at: usize| Some(u16::from_le_bytes(head.get(at..at + 2)?.try_into().ok()?));
    if head.get(4) != Some(&2) || (MACHINE != 0 && half(18) != Some(MACHINE)) {
        return Kind::Foreign;
    }
    let table = head
        .get(32..40)
        .and_then(|b| Some(u64::from_le_bytes(b.try_into().ok()?)));
    let (Some(table), Some(size), Some(count)) = (table, half(54), half(56)) else {
        return Kind::Unknown;
    };
    for i in 0..u64::from(count) {
        let mut kind = [0; 4];
        let at = table.saturating_add(i * u64::from(size));
        if file.read_exact_at(&mut kind, at).is_err() {
            return Kind::Unknown;
        }
        if u32::from_le_bytes(kind) == PT_INTERP {
            return Kind::Dynamic;
        }
    }
    Kind::WithoutLoader
}

/// The program a shell would run.
pub fn find(name: &str) -> Result<PathBuf, Fail> {
    let runnable = |path: &Path| {
        fs::metadata(path).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
    };
    if name.contains('/') {
        let path = PathBuf::from(name);
        return match fs::metadata(&path) {
            Ok(_) if runnable(&path) => Ok(path),
            Ok(_) => Err(Fail::usage(format!("{name}: not an executable file"))),
            Err(e) => Err(Fail::usage(format!("{name}: {e}"))),
        };
    }
    let places = std::env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into());
    std::env::split_paths(&places)
        .map(|place| place.join(name))
        .find(|path| runnable(path))
        .ok_or_else(|| Fail::usage(format!("{name:?}: no such program in PATH")))
}

/// Refuses programs the loader preloads nothing into.
pub fn check_program(path: &Path) -> Result<(), Fail> {
    let refuse = |why: &str| Err(Fail::usage(format!("{}: {why}", path.display())));
    if fs::metadata(path).is_ok_and(|m| m.mode() & 0o6000 != 0) {
        return refuse("a setuid or setgid program ignores LD_PRELOAD; nothing can be compared");
    }
    // Runnable and not readable: nothing can be said of it, so nothing is refused.
    let Ok(file) = File::open(path) else {
        return Ok(());
    };
    match kind(&file) {
        Kind::WithoutLoader => refuse("a static program; nothing can be preloaded into it"),
        Kind::Foreign => {
            refuse("not a 64-bit program of this machine; nothing can be preloaded into it")
        }
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
        let script =
            std::env::temp_dir().join(format!("bench-harness-kind-{}", std::process::id()));
        fs::write(&script, "#! /bin/sh -e\nexit 0\n").unwrap();
        assert_eq!(of(&script), Kind::Script("/bin/sh".into()));
        // The head of a 64-bit program of this machine with no program headers: nothing names a loader.
        let mut head = vec![0u8; 64];
        head[..5].copy_from_slice(b"\x7fELF\x02");
        head[18..20].copy_from_slice(&MACHINE.to_le_bytes());
        fs::write(&script, &head).unwrap();
        assert_eq!(of(&script), Kind::WithoutLoader);
        head[4] = 1;
        fs::write(&script, &head).unwrap();
        assert_eq!(of(&script), Kind::Foreign);
        fs::remove_file(&script).unwrap();
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
