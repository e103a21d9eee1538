//! Going on with an interrupted measurement: its results file says what was to be measured, where, and by which programs.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::fail::Fail;
use crate::output::Target;
use crate::plan::Plan;
use crate::results::Results;
use crate::{machine, subjects};

/// The interrupted measurement that is in the file; an error where it would be overwritten, or is not there to go on with.
pub fn earlier(json: Option<&Target>, resume: bool) -> Result<Option<Results>, Fail> {
    let file = json.and_then(Target::file);
    let Some(path) = file.filter(|p| p.exists()) else {
        return match (resume, file) {
            (true, Some(_)) | (false, _) => Ok(None),
            (true, None) => {
                Err(Fail::usage("--resume: the results go to a stream, which keeps nothing; expected a file"))
            }
        };
    };
    let refuse = |why: &str| Err(Fail::usage(format!("{}: {why}", path.display())));
    match (Results::read(path), resume) {
        (Ok(r), false) if !r.complete && r.plan.is_some() => refuse(
            "it has the runs of an interrupted measurement: add --resume to go on with it, or delete it to start anew",
        ),
        (_, false) => Ok(None),
        (Ok(r), true) if r.complete => {
            refuse("it is complete: there is nothing to go on with; delete it to start anew")
        }
        (Ok(r), true) if r.plan.is_some() => Ok(Some(r)),
        (Ok(_), true) => refuse("it does not say what was to be measured; delete it to start anew"),
        (Err(e), true) => Err(e),
    }
}

/// The earlier results, if they are of this very measurement.
pub fn going_on(earlier: Results, plan: &Plan, programs: &[(String, String)]) -> Result<Results, Fail> {
    let refuse = |why: String| Err(Fail::usage(format!("--resume: {why}; delete the file to start anew")));
    let now = machine::describe();
    if let Some(difference) = now.difference(&earlier.machine) {
        return refuse(difference);
    }
    if now.environment != earlier.machine.environment {
        return refuse("the HAKMEM_ environment is another one".to_owned());
    }
    if earlier.plan.as_ref() != Some(plan) {
        return refuse("another plan (workloads, sizes, allocators, series, runs or order)".to_owned());
    }
    if let Some((name, _)) = programs.iter().find(|p| !earlier.programs.contains(p)) {
        return refuse(format!("the program of {name} was built anew"));
    }
    Ok(earlier)
}

/// What tells each program apart from the same one built anew.
pub fn program_marks(plan: &Plan) -> Vec<(String, String)> {
    let mark = |path: &Path| {
        std::fs::metadata(path)
            .map_or_else(|e| e.to_string(), |m| format!("{} bytes, {}.{:09}", m.size(), m.mtime(), m.mtime_nsec()))
    };
    let mut marks = Vec::new();
    for entry in &plan.entries {
        for allocator in &plan.allocators {
            let mark = (allocator.clone(), mark(&subjects::workspace(&entry.spec).executable(allocator)));
            if !marks.contains(&mark) {
                marks.push(mark);
            }
        }
    }
    marks
}
