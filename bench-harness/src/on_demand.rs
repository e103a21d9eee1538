//! Children that are not part of the harness's own build: a workspace beside it, one package per allocator, built when
//! asked for.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::fail::Fail;

/// Where such children are.
pub struct Workspace {
    /// Its folder beside the harness's sources, and the command that builds it.
    pub folder: &'static str,
    /// What the name of each package and executable starts with.
    pub prefix: &'static str,
    /// Stands in for the directory where the executables are looked for.
    pub variable: &'static str,
}

impl Workspace {
    fn path(&self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join(self.folder)
    }

    /// The executable with that allocator, whether it is there or not.
    pub fn executable(&self, name: &str) -> PathBuf {
        std::env::var_os(self.variable)
            .map_or_else(|| self.path().join("target/release"), PathBuf::from)
            .join(format!("{}-{name}", self.prefix))
    }

    /// Says which of them are built and where.
    pub fn list(&self, names: &[&str]) {
        for name in names {
            let path = self.executable(name);
            let state = if path.is_file() { "built" } else { "not built" };
            println!("{name:<10} {state:<10} {}", path.display());
        }
    }

    /// Builds them one after another, each said as `what` with its name; fails with `failed` and the names of those that
    /// could not be built.
    pub fn build(&self, names: &[&str], what: &str, failed: &str) -> Result<(), Fail> {
        let mut bad = Vec::new();
        for name in names {
            eprintln!("building {what}{name}");
            // One package at a time: built together, features of the two mimallocs would be united.
            let status = Command::new("cargo")
                .args(["build", "--release", "--locked", "--package"])
                .arg(format!("{}-{name}", self.prefix))
                .current_dir(self.path())
                .status()
                .map_err(|e| {
                    Fail::usage(format!(
                        "{} build: cargo cannot be started: {e}",
                        self.folder
                    ))
                })?;
            if !status.success() {
                bad.push(*name);
            }
        }
        if bad.is_empty() {
            Ok(())
        } else {
            Err(Fail::run(format!("{failed}{}", bad.join(", "))))
        }
    }
}

/// The names asked for, all of `known` where none is; refuses one that is not among them.
pub fn chosen<'a>(
    wanted: &'a [String],
    known: &[&'a str],
    kind: &str,
) -> Result<Vec<&'a str>, Fail> {
    if let Some(unknown) = wanted.iter().find(|n| !known.contains(&n.as_str())) {
        return Err(Fail::usage(format!(
            "unknown {kind} {unknown:?}: expected any of {}",
            known.join(", ")
        )));
    }
    Ok(if wanted.is_empty() {
        known.to_vec()
    } else {
        wanted.iter().map(String::as_str).collect()
    })
}
