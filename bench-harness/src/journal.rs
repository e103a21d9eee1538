//! What a measurement has so far, on disk: FILE.partial beside the results file it will become.
//!
//! The first line says what is being measured, where, and by which programs; every further line is one finished child.
//! A line is written by one call and ends in a line break, so that whatever ends the harness leaves at most the last
//! line torn, which is then dropped. The file goes away when the results are complete.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::fail::Fail;
use crate::machine::Machine;
use crate::plan::{Job, Plan};
use crate::record::Run;

/// What a journal belongs to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Head {
    /// Always 1.
    pub journal: u32,
    /// What is to be measured.
    pub plan: Plan,
    /// Where, as it was when the measurement began.
    pub machine: Machine,
    /// Size and time of change of each program that is started.
    pub programs: Vec<(String, String)>,
}

impl Head {
    /// What keeps the measurement of `earlier` from being continued as this one.
    fn difference(&self, earlier: &Head) -> Option<String> {
        let fields = |m: &Machine| {
            [
                ("processor", m.cpu.clone()),
                ("number of processors", m.cpus.to_string()),
                ("memory", m.memory_mib.to_string()),
                ("kernel", m.kernel.clone()),
                ("transparent huge pages", m.thp.clone()),
                ("HAKMEM_ environment", m.environment.join(" ")),
            ]
        };
        for ((what, now), (_, then)) in fields(&self.machine)
            .iter()
            .zip(fields(&earlier.machine).iter())
        {
            if now != then {
                return Some(format!("the {what} is {now:?}, was {then:?}"));
            }
        }
        if self.plan != earlier.plan {
            return Some(
                "another plan (workloads, sizes, allocators, series, runs or order)".to_owned(),
            );
        }
        let changed = self
            .programs
            .iter()
            .find(|p| !earlier.programs.contains(p))?;
        Some(format!("the program of {} was built anew", changed.0))
    }
}

/// What tells a program apart from the same one built anew.
pub fn program_mark(path: &Path) -> String {
    fs::metadata(path).map_or_else(
        |e| e.to_string(),
        |m| format!("{} bytes, {}.{:09}", m.size(), m.mtime(), m.mtime_nsec()),
    )
}

/// One finished child.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// Which.
    #[serde(flatten)]
    pub job: Job,
    /// What it measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<Run>,
    /// Or why it did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl Line {
    /// The outcome of a job.
    pub fn new(job: Job, outcome: Result<Run, String>) -> Self {
        let (run, error) = match outcome {
            Ok(run) => (Some(run), None),
            Err(error) => (None, Some(error)),
        };
        Self { job, run, error }
    }

    /// The run, or why there is none.
    pub fn outcome(self) -> Result<Run, String> {
        self.run
            .ok_or_else(|| self.error.unwrap_or_else(|| "no result".to_owned()))
    }
}

/// The open file. Locked, so that two measurements cannot share it; removed when dropped without a single line.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    /// The machine as it was when the measurement began.
    pub machine: Machine,
    has_lines: bool,
}

/// What earlier sessions have finished.
pub type Finished = HashMap<Job, Result<Run, String>>;

impl Journal {
    /// Where the journal of a results file lies.
    pub fn path(results: &Path) -> PathBuf {
        let mut name = results.as_os_str().to_owned();
        name.push(".partial");
        name.into()
    }

    /// Opens the journal of `results`. With `resume`, goes on with what is there, if it is of the same measurement;
    /// without, nothing may be there.
    pub fn open(results: &Path, head: &Head, resume: bool) -> Result<(Self, Finished), Fail> {
        let path = Self::path(results);
        let refuse = |e: &dyn std::fmt::Display| Fail::usage(format!("{}: {e}", path.display()));
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|e| refuse(&format!("cannot be written: {e}")))?;
        file.try_lock().map_err(|_| {
            refuse(&"another measurement is writing it; expected a file of its own")
        })?;
        let mut text = String::new();
        file.read_to_string(&mut text)
            .map_err(|e| refuse(&format!("cannot be read: {e}")))?;
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        let mut lines = text[..whole].lines();
        let mut journal = Self {
            path: path.clone(),
            file,
            machine: head.machine.clone(),
            has_lines: false,
        };
        let mut finished = Finished::new();
        if let Some(first) = lines.next() {
            journal.has_lines = true;
            let earlier: Head = serde_json::from_str(first).map_err(|_| {
                refuse(
                    &"it is no journal of this version of bench-harness; delete it to start anew",
                )
            })?;
            for (i, line) in lines.enumerate() {
                let line: Line = serde_json::from_str(line).map_err(|e| {
                    refuse(&format!(
                        "line {} is broken ({e}); delete it to start anew",
                        i + 2
                    ))
                })?;
                finished.insert(line.job.clone(), line.outcome());
            }
            if !resume {
                return Err(refuse(&format!(
                    "{} finished runs of a measurement that was interrupted: add --resume to go on with it, or delete the \
                     file to start anew",
                    finished.len()
                )));
            }
            if let Some(difference) = head.difference(&earlier) {
                return Err(refuse(&format!(
                    "cannot be resumed: {difference}; delete the file to start anew"
                )));
            }
            journal.machine = earlier.machine;
        }
        journal
            .file
            .set_len(whole as u64)
            .and_then(|()| journal.file.seek(SeekFrom::End(0)))
            .map_err(|e| refuse(&format!("cannot be written: {e}")))?;
        if !journal.has_lines {
            journal.append(head)?;
            // A head alone is nothing to go on with.
            journal.has_lines = false;
        }
        Ok((journal, finished))
    }

    /// Keeps one finished child.
    pub fn add(&mut self, line: &Line) -> Result<(), Fail> {
        self.append(line)
    }

    fn append(&mut self, value: &impl Serialize) -> Result<(), Fail> {
        let not_kept = |e: &dyn std::fmt::Display| {
            Fail::usage(format!("{}: not written: {e}", self.path.display()))
        };
        let text = serde_json::to_string(value).map_err(|e| not_kept(&e))? + "\n";
        self.file
            .write_all(text.as_bytes())
            .map_err(|e| not_kept(&e))?;
        self.has_lines = true;
        Ok(())
    }

    /// The measurement is complete.
    pub fn finish(mut self) {
        self.has_lines = false;
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        if !self.has_lines {
            // If it cannot be removed, the next measurement will say that it is there.
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Entry;
    use crate::record::Series;
    use crate::workloads::Spec;

    fn head() -> Head {
        Head {
            journal: 1,
            plan: Plan {
                entries: vec![Entry {
                    spec: Spec::report_cases().remove(0),
                    series: vec![Series::Warm],
                    runs: 2,
                    secs: None,
                }],
                allocators: vec!["system".to_owned()],
                latency: false,
                settle_ms: None,
                order_seed: 1,
            },
            machine: Machine::default(),
            programs: vec![("system".to_owned(), "1 byte".to_owned())],
        }
    }

    fn scratch(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("bench-harness-{name}-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        dir.join("r.json")
    }

    fn with_one_run(results: &Path) -> Line {
        let line = Line::new(
            head().plan.jobs().remove(0),
            Ok(Run {
                ops: 7,
                ..Run::default()
            }),
        );
        let (mut journal, finished) = Journal::open(results, &head(), false).unwrap();
        assert!(finished.is_empty());
        journal.add(&line).unwrap();
        line
    }

    #[test]
    fn what_was_finished_is_found_again_without_a_torn_line() {
        let results = scratch("journal");
        let line = with_one_run(&results);
        let path = Journal::path(&results);
        let text = fs::read_to_string(&path).unwrap() + "{\"entry\":0,\"alloc";
        fs::write(&path, text).unwrap();
        let (journal, finished) = Journal::open(&results, &head(), true).unwrap();
        assert_eq!(finished.len(), 1);
        assert_eq!(finished[&line.job].as_ref().unwrap().ops, 7);
        assert!(fs::read_to_string(&path).unwrap().ends_with("}\n"));
        journal.finish();
        assert!(!path.exists());
        fs::remove_dir_all(results.parent().unwrap()).unwrap();
    }

    #[test]
    fn another_measurement_is_refused() {
        let results = scratch("refused-journal");
        with_one_run(&results);
        let refused = |head: Head, resume: bool| {
            let error = Journal::open(&results, &head, resume).unwrap_err();
            assert_eq!(error.code, 2);
            error.line
        };
        assert!(refused(head(), false).contains("1 finished runs"));
        let mut other = head();
        other.plan.entries[0].runs = 3;
        assert!(refused(other, true).contains("another plan"));
        let mut other = head();
        other.machine.kernel = "7.0".to_owned();
        assert!(refused(other, true).contains("the kernel is \"7.0\", was \"\""));
        let mut other = head();
        other.programs[0].1 = "2 bytes".to_owned();
        assert!(refused(other, true).contains("the program of system was built anew"));
        let kept = Journal::open(&results, &head(), true).unwrap();
        assert!(refused(head(), true).contains("another measurement is writing it"));
        drop(kept);
        fs::write(Journal::path(&results), "something else\n").unwrap();
        assert!(refused(head(), true).contains("no journal of this version"));
        fs::remove_dir_all(results.parent().unwrap()).unwrap();
    }

    #[test]
    fn a_full_disk_is_one_line() {
        // Writes to /dev/full fail with ENOSPC.
        let mut journal = Journal {
            path: std::env::temp_dir().join("bench-harness-never.partial"),
            file: File::options().write(true).open("/dev/full").unwrap(),
            machine: Machine::default(),
            has_lines: true,
        };
        let job = head().plan.jobs().remove(0);
        let error = journal
            .add(&Line::new(job, Err("x".to_owned())))
            .unwrap_err();
        assert!(
            error
                .line
                .contains("bench-harness-never.partial: not written"),
            "{error}"
        );
    }

    #[test]
    fn nothing_measured_leaves_nothing() {
        let results = scratch("empty-journal");
        drop(Journal::open(&results, &head(), false).unwrap());
        assert!(!Journal::path(&results).exists());
        fs::remove_dir_all(results.parent().unwrap()).unwrap();
    }
}
