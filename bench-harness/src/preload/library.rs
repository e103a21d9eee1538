//! The libraries that are compared: names on the command line made paths that can be preloaded.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use super::elf::{self, Kind};
use crate::fail::Fail;

pub const GLIBC: &str = "glibc";

pub const HAKMEM: &str = "hakmem";

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
            None if word == HAKMEM => (HAKMEM, Some(usable(&ours(hakmem)?)?)),
            _ => {
                return Err(Fail::usage(format!(
                    "unknown library {word:?}: expected {GLIBC}, {HAKMEM} or NAME=/path.so"
                )));
            }
        };
        if libraries.iter().any(|l| l.name == name) {
            return Err(Fail::usage(format!("{name} is named twice; expected each library once")));
        }
        libraries.push(Library { name: name.to_owned(), path });
    }
    Ok(libraries)
}

pub fn ours(given: Option<&Path>) -> Result<PathBuf, Fail> {
    if let Some(given) = given {
        return Ok(given.to_owned());
    }
    let own = std::env::current_exe().unwrap_or_default();
    let beside = own.parent().unwrap_or(Path::new("/")).to_owned();
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("../preload/target/release");
    let mut places = vec![beside.clone(), built, beside.join("../lib")];
    places.extend(std::env::var_os("PREFIX").map(|p| Path::new(&p).join("lib")));
    places.extend(["/usr/local/lib", "/usr/lib"].map(PathBuf::from));
    places.iter().map(|place| place.join(FILE)).find(|path| path.is_file()).ok_or_else(|| {
        Fail::usage(format!("{FILE} is not found: build it with make -C preload, or name it with --hakmem PATH"))
    })
}

/// The absolute path of something the loader will take.
pub fn usable(path: &Path) -> Result<PathBuf, Fail> {
    let refuse = |why: String| Fail::usage(format!("{}: {why}", path.display()));
    let whole = fs::canonicalize(path).map_err(|e| refuse(format!("cannot be preloaded: {e}")))?;
    let text = whole.to_str().ok_or_else(|| refuse("expected a path in UTF-8".to_owned()))?;
    if text.contains([' ', ':', '\t', '\n']) {
        return Err(refuse("a path with a space or a colon cannot be preloaded; move the library".to_owned()));
    }
    let file = File::open(&whole).map_err(|e| refuse(format!("cannot be read: {e}")))?;
    match elf::kind(&file) {
        Kind::WithoutLoader | Kind::Dynamic => Ok(whole),
        _ => Err(refuse("no shared object of this machine; it cannot be preloaded".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(words: &[&str]) -> Result<Vec<Library>, Fail> {
        let words: Vec<String> = words.iter().map(|&w| w.to_owned()).collect();
        parse(&words, Some(Path::new("/nonexistent/libhakmem.so")))
    }

    #[test]
    fn names_become_paths() {
        let own = std::env::current_exe().unwrap();
        let found = list(&["glibc", &format!("other={}", own.display())]).unwrap();
        assert_eq!(found[0].path, None);
        assert_eq!((found[1].name.as_str(), found[1].path.as_ref()), ("other", Some(&own)));
    }

    #[test]
    fn what_cannot_be_preloaded_is_refused() {
        let wrong = |words: &[&str]| list(words).unwrap_err().line;
        assert!(wrong(&["tcmalloc"]).contains("unknown library \"tcmalloc\""));
        assert!(wrong(&["=/x.so"]).contains("unknown library"));
        assert!(wrong(&["a=/nonexistent/x.so"]).starts_with("/nonexistent/x.so: cannot be preloaded"));
        assert!(wrong(&["a=/etc/passwd"]).contains("no shared object of this machine"));
        assert!(wrong(&["hakmem"]).starts_with("/nonexistent/libhakmem.so"));
        assert!(wrong(&["glibc", "glibc"]).contains("named twice"));
    }
}
