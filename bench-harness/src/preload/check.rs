//! The proof that a library is there: the dynamic loader's own word for any of them, and what ours has counted.

use std::path::Path;

use tempfile::TempDir;

use super::library::{HAKMEM, Library};
use crate::fail::Fail;

/// Where the loader and the library leave their files during one run; removed when dropped.
#[derive(Debug)]
pub struct Scratch(TempDir);

impl Scratch {
    pub fn new() -> Result<Self, Fail> {
        let made = tempfile::Builder::new().prefix("bench-harness-preload-").tempdir();
        made.map(Self).map_err(|e| Fail::usage(format!("a directory for temporary files: {e}")))
    }

    pub fn variables(&self, library: &Library) -> Vec<(String, String)> {
        if library.path.is_none() {
            return Vec::new();
        }
        let path = |name: &str| self.0.path().join(name).display().to_string();
        let mut variables =
            vec![("LD_DEBUG".to_owned(), "files".to_owned()), ("LD_DEBUG_OUTPUT".to_owned(), path("loader"))];
        if library.name == HAKMEM {
            variables.push(("HAKMEM_STATS".to_owned(), "json".to_owned()));
            variables.push(("HAKMEM_STATS_FILE".to_owned(), path("stats-%p.json")));
        }
        variables
    }

    /// Fails if the library was not loaded into any process of the run. Answers the bytes ours mapped for all of them;
    /// nothing of other libraries, which are not asked.
    pub fn verdict(&self, library: &Library, program: &str) -> Result<Option<u64>, Fail> {
        let Some(path) = &library.path else {
            return Ok(None);
        };
        let files = self.files();
        if !files.iter().any(|f| is_loaded(&f.1, path)) {
            return Err(Fail::usage(format!(
                "{}: {} was not loaded into {program}; expected the loader to preload it (a program that clears its \
                 environment takes nothing)",
                library.name,
                path.display()
            )));
        }
        let stats = files.iter().filter(|f| f.0.starts_with("stats-"));
        Ok((library.name == HAKMEM).then(|| stats.map(|f| mapped(&f.1)).sum()))
    }

    fn files(&self) -> Vec<(String, String)> {
        // A directory of our own that has vanished holds nothing, and that is what will be reported.
        let entries = std::fs::read_dir(&self.0).into_iter().flatten();
        entries
            .filter_map(|entry| {
                let entry = entry.ok()?;
                let bytes = std::fs::read(entry.path()).ok()?;
                let name = entry.file_name().to_string_lossy().into_owned();
                Some((name, String::from_utf8_lossy(&bytes).into_owned()))
            })
            .collect()
    }
}

/// Whether the loader says that it ran the library's initialisers.
fn is_loaded(debug: &str, path: &Path) -> bool {
    let wanted = path.display().to_string();
    debug.lines().any(|line| line.split_once("calling init: ").is_some_and(|(_, file)| file.trim() == wanted))
}

/// Bytes mapped and returned of one process's statistics.
fn mapped(stats: &str) -> u64 {
    let Ok(stats) = serde_json::from_str::<serde_json::Value>(stats) else {
        return 0;
    };
    let of = |name: &str| stats["bytes"][name].as_u64().unwrap_or(0);
    of("mapped") + of("returned")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loaders_word_is_read() {
        let text =
            "    77:\tfile=/lib/libx.so [0];  needed by sh [0]\n    77:\tcalling init: /lib/libx.so\n    77:\t\n";
        assert!(is_loaded(text, Path::new("/lib/libx.so")));
        assert!(!is_loaded(text, Path::new("/lib/lib")));
    }

    #[test]
    fn statistics_are_added_up_and_absence_is_an_error() {
        let scratch = Scratch::new().unwrap();
        let library = Library { name: HAKMEM.to_owned(), path: Some("/lib/libhakmem.so".into()) };
        let error = scratch.verdict(&library, "sort").unwrap_err();
        assert!(error.line.contains("/lib/libhakmem.so was not loaded into sort"), "{error}");
        std::fs::write(scratch.0.path().join("loader.7"), "7: calling init: /lib/libhakmem.so\n").unwrap();
        assert_eq!(scratch.verdict(&library, "sort").unwrap(), Some(0));
        for name in ["stats-7.json", "stats-8.json"] {
            let text = "{\"bytes\":{\"mapped\":4096,\"returned\":1}}";
            std::fs::write(scratch.0.path().join(name), text).unwrap();
        }
        assert_eq!(scratch.verdict(&library, "sort").unwrap(), Some(2 * 4097));
    }
}
