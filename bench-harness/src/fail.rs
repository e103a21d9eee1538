//! How the harness ends when it cannot go on: one line on stderr and an exit code.
//!
//! Code 2 is for what the caller asked wrongly (arguments, names, files), code 1 for measurements that failed.

use std::fmt;

use bench_subject::one_line;

/// One line for the person at the terminal, and the exit code that goes with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fail {
    pub code: i32,
    /// The line, without the program's name and without a line break.
    pub line: String,
}

impl Fail {
    pub fn usage(line: impl Into<String>) -> Self {
        Self { code: 2, line: one_line(&line.into()) }
    }

    pub fn run(line: impl Into<String>) -> Self {
        Self { code: 1, line: one_line(&line.into()) }
    }
}

impl fmt::Display for Fail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.line)
    }
}
