//! Going on with an interrupted measurement: its results file says what was to be measured, where, and by which programs.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use itertools::Itertools;

use crate::fail::Fail;
use crate::machine::{self, Machine};
use crate::results::Results;

/// The interrupted measurement that is in the file; an error where it would be overwritten, or is not there to go on with.
pub fn earlier(json: Option<&Path>, resume: bool) -> Result<Option<Results>, Fail> {
    let Some(path) = json.filter(|p| p.exists()) else { return Ok(None) };
    let refuse = |why: &str| Err(Fail::usage(format!("{}: {why}", path.display())));
    match (Results::read(path), resume) {
        (Ok(r), false) if !r.complete => refuse(
            "it has the runs of an interrupted measurement: add --resume to go on with it, or delete it to start anew",
        ),
        (_, false) => Ok(None),
        (Ok(r), true) if r.complete => {
            refuse("it is complete: there is nothing to go on with; delete it to start anew")
        }
        (earlier, true) => earlier.map(Some),
    }
}

/// Refuses results that are not of this very command with these programs on this machine.
pub fn check(earlier: &Results, marks: &[(String, String)]) -> Result<(), Fail> {
    let refuse = |why: String| Err(Fail::usage(format!("--resume: {why}; delete the file to start anew")));
    let now = machine::describe();
    let asked = |m: &Machine| m.command.iter().skip(1).filter(|w| *w != "--resume").cloned().collect::<Vec<_>>();
    if let Some(difference) = now.difference(&earlier.machine) {
        return refuse(difference);
    }
    if now.environment != earlier.machine.environment {
        return refuse("the HAKMEM_ environment is another one".to_owned());
    }
    if asked(&now) != asked(&earlier.machine) {
        return refuse(format!("the file is of another command: {}", asked(&earlier.machine).join(" ")));
    }
    match marks.iter().find(|m| !earlier.programs.contains(m)) {
        Some((name, _)) => refuse(format!("the program of {name} was built anew")),
        None => Ok(()),
    }
}

/// What tells each program apart from the same one built anew.
pub fn marks(programs: Vec<(String, PathBuf)>) -> Vec<(String, String)> {
    let mark = |m: std::fs::Metadata| format!("{} bytes, {}.{:09}", m.size(), m.mtime(), m.mtime_nsec());
    let marked = |(name, path): (String, PathBuf)| (name, std::fs::metadata(path).map_or_else(|e| e.to_string(), mark));
    programs.into_iter().map(marked).sorted().dedup().collect()
}
