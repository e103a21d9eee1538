//! The libraries that are compared: names on the command line made paths, and the proof that each is there, which is the
//! dynamic loader's own word.

use std::fs;
use std::path::{Path, PathBuf};

use crate::fail::Fail;
use crate::results::{BASE, OURS};

/// The C library's own malloc on the command line; in results it is called as everywhere.
const GLIBC: &str = "glibc";

const FILE: &str = "libhakmem.so";

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Library {
    pub name: String,
    /// The file, or nothing for the C library's own malloc.
    pub path: Option<PathBuf>,
}

pub fn parse(list: &[String], hakmem: Option<&Path>) -> Result<Vec<Library>, Fail> {
    let mut libraries: Vec<Library> = Vec::new();
    for word in list {
        let (name, path) = match word.split_once('=') {
            Some((name, path)) if !name.is_empty() => (name, Some(usable(Path::new(path))?)),
            None if word == GLIBC => (GLIBC, None),
            None if word == OURS => (OURS, Some(ours(hakmem)?)),
            _ => {
                let line = format!("unknown library {word:?}: expected {GLIBC}, {OURS} or NAME=/path.so");
                return Err(Fail::usage(line));
            }
        };
        let name = if name == GLIBC { BASE } else { name };
        if libraries.iter().any(|l| l.name == name) {
            return Err(Fail::usage(format!("{word} is named twice; expected each library once")));
        }
        libraries.push(Library { name: name.to_owned(), path });
    }
    Ok(libraries)
}

/// Where our own library is: the file given, or where it is usually found.
pub fn ours(given: Option<&Path>) -> Result<PathBuf, Fail> {
    if let Some(given) = given {
        return usable(given);
    }
    let own = std::env::current_exe().unwrap_or_default();
    let beside = own.parent().unwrap_or(Path::new("/")).to_owned();
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("../preload/target/release");
    let mut places = vec![beside.clone(), built, beside.join("../lib")];
    places.extend(["/usr/local/lib", "/usr/lib"].map(PathBuf::from));
    let found = places.iter().map(|place| place.join(FILE)).find(|path| path.is_file());
    usable(&found.ok_or_else(|| {
        Fail::usage(format!("{FILE} is not found: build it with make -C preload, or name it with --hakmem PATH"))
    })?)
}

/// The absolute path of a file that LD_PRELOAD can name.
fn usable(path: &Path) -> Result<PathBuf, Fail> {
    let refuse = |why: String| Fail::usage(format!("{}: {why}", path.display()));
    let whole = fs::canonicalize(path).map_err(|e| refuse(format!("cannot be preloaded: {e}")))?;
    match whole.to_str().map(|text| text.contains([' ', ':', '\t', '\n'])) {
        Some(false) => Ok(whole),
        _ => Err(refuse("a path with a space or a colon cannot be preloaded; move the library".to_owned())),
    }
}

impl Library {
    /// Fails if it was not loaded into any process of a run whose loader left its word there.
    pub fn verdict(&self, scratch: &Path, program: &str) -> Result<(), Fail> {
        let Some(path) = &self.path else { return Ok(()) };
        let loaded = format!("calling init: {}", path.display());
        let says = |bytes: &[u8]| String::from_utf8_lossy(bytes).lines().any(|l| l.trim_end().ends_with(&loaded));
        // A directory of our own that has vanished holds nothing, and that is what will be reported.
        let mut files = fs::read_dir(scratch).into_iter().flatten().flatten();
        if files.any(|file| fs::read(file.path()).is_ok_and(|bytes| says(&bytes))) {
            return Ok(());
        }
        Err(Fail::usage(format!(
            "{}: {} was not loaded into {program}; expected a shared object of this machine, and a program into which the loader \
             preloads it: no static one, no setuid one, none that clears its environment",
            self.name,
            path.display()
        )))
    }
}
