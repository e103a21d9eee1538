//! Results files: written beside their place first, then renamed, so that nobody ever sees half of one.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::fail::Fail;
use crate::record::{CaseResult, Results};

/// A file that will exist when the work is done. Made before the work, so that an unwritable place is known at once;
/// dropped without [`Pending::write`] it leaves nothing behind.
#[derive(Debug)]
pub struct Pending {
    target: PathBuf,
    /// None where the target is a pipe, a device or a stream: it is written to and must not be replaced by a file.
    temporary: Option<PathBuf>,
    file: File,
}

impl Pending {
    /// Prepares to write `target`.
    pub fn new(target: &Path) -> Result<Self, Fail> {
        let refuse = |e: &dyn std::fmt::Display| {
            Fail::usage(format!("{}: cannot be written: {e}", target.display()))
        };
        if target.is_dir() {
            return Err(refuse(&"it is a directory"));
        }
        let named = ["/dev/stdout", "/dev/stderr", "/dev/fd", "/proc"];
        let is_stream = named.iter().any(|n| target.starts_with(n));
        if target.exists() && (!target.is_file() || is_stream) {
            let file = File::options().append(true).open(target);
            return Ok(Self {
                target: target.to_owned(),
                temporary: None,
                file: file.map_err(|e| refuse(&e))?,
            });
        }
        // A link stays one; what it leads to is replaced.
        let target = target.canonicalize().unwrap_or_else(|_| target.to_owned());
        let name = target
            .file_name()
            .ok_or_else(|| refuse(&"it has no file name"))?;
        let temporary = target.with_file_name(format!(
            ".{}.{}.tmp",
            name.to_string_lossy(),
            std::process::id()
        ));
        let file = File::create(&temporary).map_err(|e| refuse(&e))?;
        Ok(Self {
            target,
            temporary: Some(temporary),
            file,
        })
    }

    /// The file that will be made or replaced; nothing where a stream is written to.
    pub fn place(&self) -> Option<&Path> {
        self.temporary.as_ref().map(|_| self.target.as_path())
    }

    /// Writes the whole file and puts it in its place.
    pub fn write(mut self, text: &str) -> Result<(), Fail> {
        let written = self.file.write_all(text.as_bytes());
        let placed = match &self.temporary {
            Some(temporary) => written
                .and_then(|()| self.file.sync_all())
                .and_then(|()| fs::rename(temporary, &self.target)),
            None => written,
        };
        placed.map_err(|e| Fail::usage(format!("{}: not written: {e}", self.target.display())))
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if let Some(temporary) = &self.temporary {
            // After a rename there is nothing to remove, and that is as it should be.
            let _ = fs::remove_file(temporary);
        }
    }
}

/// Writes to stdout what was asked for. A reader that has gone away, as `head` does, has had what it wanted.
pub fn show(text: &str) -> Result<(), Fail> {
    let mut stdout = std::io::stdout().lock();
    match stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
    {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Fail::usage(format!("stdout: not written: {e}")))
        }
        _ => Ok(()),
    }
}

/// Tells the person at the terminal; whether anyone listens changes nothing.
pub fn say(text: &str) {
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}

/// Writes a whole file at once, or nothing.
pub fn write_atomically(target: &Path, text: &str) -> Result<(), Fail> {
    Pending::new(target)?.write(text)
}

/// Reads a results file.
pub fn read(path: &Path) -> Result<Results, Fail> {
    let refuse =
        |e: &dyn std::fmt::Display| Fail::usage(format!("{}: cannot be read: {e}", path.display()));
    let text = fs::read_to_string(path).map_err(|e| refuse(&e))?;
    let value: serde_json::Value = serde_json::from_str(&text).map_err(|e| refuse(&e))?;
    let schema = &value["schema"];
    if *schema != crate::record::SCHEMA {
        return Err(refuse(&format!(
            "its schema is {schema}; expected {}",
            crate::record::SCHEMA
        )));
    }
    serde_json::from_value(value).map_err(|e| refuse(&e))
}

/// A results file as JSON.
pub fn json(results: &Results) -> Result<String, Fail> {
    let text = serde_json::to_string_pretty(results)
        .map_err(|e| Fail::run(format!("results as JSON: {e}")))?;
    Ok(text + "\n")
}

/// One line per run, with a heading.
pub fn csv(results: &[CaseResult]) -> String {
    let mut text = String::from(
        "workload,params,allocator,series,round,ops_per_sec,secs,ops,minor_faults_timed,major_faults_timed,\
         minor_faults_total,max_rss_kib,user_secs,sys_secs,rss_start_kib,rss_end_kib,rss_after_kib\n",
    );
    for case in results {
        for (i, run) in case.runs.iter().enumerate() {
            let after = run.rss_after_kib.map(|n| n.to_string()).unwrap_or_default();
            let round = case.rounds.get(i).copied().unwrap_or(i);
            let numbers = [
                run.ops,
                run.minor_faults_timed,
                run.major_faults_timed,
                run.minor_faults_total,
                run.max_rss_kib,
            ]
            .map(|n| n.to_string())
            .join(",");
            text += &format!(
                "{},\"{}\",{},{},{round},{},{},{numbers},{},{},{},{},{after}\n",
                case.spec.name(),
                case.spec.title(),
                case.allocator,
                case.series,
                run.ops_per_sec,
                run.secs,
                run.user_secs,
                run.sys_secs,
                run.rss_start_kib,
                run.rss_end_kib,
            );
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("bench-harness-{name}-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        dir
    }

    #[test]
    fn a_file_appears_whole_or_not_at_all() {
        let dir = scratch("output");
        let target = dir.join("r.json");
        drop(Pending::new(&target).unwrap());
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 0);
        let pending = Pending::new(&target).unwrap();
        assert!(!target.exists());
        pending.write("whole").unwrap();
        assert_eq!(fs::read_to_string(&target).unwrap(), "whole");
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 1);
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn places_that_cannot_be_written_are_refused_at_once() {
        let dir = scratch("refused");
        assert!(
            Pending::new(&dir)
                .unwrap_err()
                .line
                .ends_with("it is a directory")
        );
        let missing = Pending::new(&dir.join("no/such/r.json")).unwrap_err();
        assert_eq!(missing.code, 2);
        assert!(missing.line.contains("cannot be written"), "{missing}");
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn devices_and_links_stay_what_they_are() {
        use std::os::unix::fs::FileTypeExt;
        let dir = scratch("links");
        let error = write_atomically(Path::new("/dev/full"), "text").unwrap_err();
        assert!(error.line.starts_with("/dev/full: not written:"), "{error}");
        write_atomically(Path::new("/dev/null"), "text").unwrap();
        for device in ["/dev/full", "/dev/null"] {
            let kind = fs::metadata(device).unwrap().file_type();
            assert!(kind.is_char_device(), "{device}");
        }
        let (file, link) = (dir.join("file"), dir.join("link"));
        fs::write(&file, "old").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        write_atomically(&link, "new").unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "new");
        assert!(link.is_symlink());
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_full_disk_is_one_line() {
        // Writes to /dev/full fail with ENOSPC; the rename is never reached.
        let pending = Pending {
            target: "/tmp/never".into(),
            temporary: Some(std::env::temp_dir().join("bench-harness-no-such-temporary")),
            file: File::options().write(true).open("/dev/full").unwrap(),
        };
        let error = pending.write("text").unwrap_err();
        assert!(
            error.line.starts_with("/tmp/never: not written:"),
            "{error}"
        );
    }
}
