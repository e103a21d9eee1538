//! Files that appear whole or not at all, and what is said on the way.

use std::fs::Permissions;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde::Serialize;
use tempfile::NamedTempFile;

use crate::fail::Fail;

#[derive(Debug, Clone)]
pub struct Target {
    pub path: PathBuf,
}

impl Target {
    /// Refuses at once a place that cannot be written; leaves nothing behind. A pipe or a device would be replaced by the file.
    pub fn new(path: &Path) -> Result<Self, Fail> {
        let refuse = |e: &dyn std::fmt::Display| Fail::usage(format!("{}: cannot be written: {e}", path.display()));
        if path.exists() && (!path.is_file() || path.starts_with("/dev") || path.starts_with("/proc")) {
            return Err(refuse(if path.is_dir() { &"it is a directory" } else { &"it is no file" }));
        }
        // A link stays one; what it leads to is replaced.
        let target = Self { path: path.canonicalize().unwrap_or_else(|_| path.to_owned()) };
        target.temporary().map_err(|e| refuse(&e))?;
        Ok(target)
    }

    fn temporary(&self) -> std::io::Result<NamedTempFile> {
        let directory = self.path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        // As any file is made: the umask takes its part.
        tempfile::Builder::new()
            .prefix(".bench-harness-")
            .permissions(Permissions::from_mode(0o666))
            .tempfile_in(directory)
    }

    /// Writes the whole text and puts it in its place.
    pub fn write(&self, text: &str) -> Result<(), Fail> {
        let written = self.temporary().and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.as_file().sync_all()?;
            file.persist(&self.path).map(|_| ()).map_err(|e| e.error)
        });
        written.map_err(|e| Fail::usage(format!("{}: not written: {e}", self.path.display())))
    }
}

pub fn read(path: &Path) -> Result<String, Fail> {
    std::fs::read_to_string(path).map_err(|e| Fail::usage(format!("{}: cannot be read: {e}", path.display())))
}

pub fn json(value: &impl Serialize) -> Result<String, Fail> {
    let text = serde_json::to_string_pretty(value).map_err(|e| Fail::run(format!("results as JSON: {e}")))?;
    Ok(text + "\n")
}

/// Writes to stdout what was asked for. A reader that has gone away, as `head` does, has had what it wanted.
pub fn show(text: &str) -> Result<(), Fail> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => Err(Fail::usage(format!("stdout: not written: {e}"))),
        _ => Ok(()),
    }
}

/// Tells the person at the terminal; whether anyone listens changes nothing.
pub fn say(text: &str) {
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_file_appears_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("r.json");
        let target = Target::new(&path).unwrap();
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 0);
        target.write("whole").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "whole");
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 1);
        let plain = dir.path().join("plain");
        fs::write(&plain, "").unwrap();
        let mode = |p: &Path| fs::metadata(p).unwrap().permissions().mode();
        assert_eq!(mode(&path), mode(&plain), "others may read it as any file");
    }

    #[test]
    fn devices_are_refused_and_links_stay_links() {
        let error = Target::new(Path::new("/dev/null")).unwrap_err();
        assert_eq!(error.line, "/dev/null: cannot be written: it is no file");
        let dir = tempfile::tempdir().unwrap();
        let (file, link) = (dir.path().join("file"), dir.path().join("link"));
        fs::write(&file, "old").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        Target::new(&link).and_then(|t| t.write("new")).unwrap();
        assert!(fs::read_to_string(&file).unwrap() == "new" && link.is_symlink());
    }
}
