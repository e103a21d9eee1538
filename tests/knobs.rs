//! The knobs as a program meets them. This test binary, built with the allocator, starts itself with another environment and
//! reads what the allocator writes to stderr. The child only lists its tests, which allocates.

mod common;

use common::child;
use std::alloc::{GlobalAlloc, Layout};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use hakmem_alloc::{Config, Hakmem, ThpPolicy};

/// With a setting made in code, so that precedence shows from outside.
#[global_allocator]
static GLOBAL: Hakmem = Hakmem::with_config(Config::new().thp(ThpPolicy::Never).purge_delay_ms(77));

/// Another static with other settings, which come too late.
static OTHER: Hakmem = Hakmem::with_config(Config::new().thp(ThpPolicy::Always));

/// Runs `program` with only these knobs, and returns the lines that the allocator wrote.
fn lines_of(program: &Path, knobs: &[(&str, &str)]) -> Vec<String> {
    let Output {
        status,
        stdout,
        stderr,
    } = command(program, knobs)
        .output()
        .expect("the test binary starts");
    let stderr = String::from_utf8(stderr).expect("UTF-8 on stderr");
    assert!(status.success(), "{status}: {stderr}");
    let stdout = String::from_utf8(stdout).expect("UTF-8 on stdout");
    assert!(
        stdout.contains("a_bad_value_gets_one_line: test"),
        "the child did not do its work: {stdout}"
    );
    stderr.lines().map(String::from).collect()
}

fn command(program: &Path, knobs: &[(&str, &str)]) -> Command {
    let mut command = child::command(program);
    clean(command.arg("--list"), knobs);
    command
}

/// Removes the knobs of this process and sets these.
fn clean<'a>(command: &'a mut Command, knobs: &[(&str, &str)]) -> &'a mut Command {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("HAKMEM_") {
            command.env_remove(name);
        }
    }
    command.envs(knobs.iter().copied())
}

fn me() -> PathBuf {
    std::env::current_exe().expect("a path to this binary")
}

/// The line of `name` in the print-out of `HAKMEM_VERBOSE=1`.
fn setting(name: &str, knobs: &[(&str, &str)]) -> String {
    let knobs: Vec<_> = knobs
        .iter()
        .copied()
        .chain([("HAKMEM_VERBOSE", "1")])
        .collect();
    let lines = lines_of(&me(), &knobs);
    let start = format!("hakmem: {name}=");
    let of_name: Vec<_> = lines
        .iter()
        .filter(|line| line.starts_with(&start))
        .collect();
    assert_eq!(of_name.len(), 1, "{name} in {lines:?}");
    of_name[0].trim_start_matches(&start).to_string()
}

#[test]
fn a_program_that_sets_nothing_outside_is_silent() {
    assert_eq!(lines_of(&me(), &[]), [""; 0]);
    assert_eq!(
        lines_of(
            &me(),
            &[("HAKMEM_THP", "auto"), ("HAKMEM_SS_PREFAULT", "touch")]
        ),
        [""; 0]
    );
}

#[test]
fn a_bad_value_gets_one_line() {
    for (name, value, line) in [
        // The code says never, so never is what holds.
        (
            "HAKMEM_THP",
            "yes",
            "HAKMEM_THP=yes: expected auto, always or never; using never",
        ),
        (
            "HAKMEM_PROFILE",
            "fast",
            "HAKMEM_PROFILE=fast: expected speed, balanced, lean or hardened; using balanced",
        ),
        (
            "HAKMEM_SS_PREWARM",
            "many",
            "HAKMEM_SS_PREWARM=many: expected a number from 0 to 1000000; using 0",
        ),
        (
            "HAKMEM_SS_PREWARM",
            "1000001",
            "HAKMEM_SS_PREWARM=1000001: expected a number from 0 to 1000000; using 0",
        ),
        (
            "HAKMEM_PURGE_DELAY_MS",
            "-1",
            "HAKMEM_PURGE_DELAY_MS=-1: expected a number from 0 to 3600000; using 77",
        ),
        (
            "HAKMEM_BACKGROUND",
            "",
            "HAKMEM_BACKGROUND=: expected a number from 0 to 2; using 1",
        ),
        (
            "HAKMEM_VERBOSE",
            "yes",
            "HAKMEM_VERBOSE=yes: expected 0 or 1; using 0",
        ),
        (
            "HAKMEM_STATS",
            "text",
            "HAKMEM_STATS=text: expected 0, 1, full or json; using 0",
        ),
        (
            "HAKMEM_STATS_FILE",
            "",
            "HAKMEM_STATS_FILE=: expected a path of 1 to 511 bytes; using stderr",
        ),
        (
            "HAKMEM_THB",
            "never",
            "HAKMEM_THB: no such knob, ignored; env-knobs.md lists them all",
        ),
    ] {
        assert_eq!(
            lines_of(&me(), &[(name, value)]),
            [format!("hakmem: {line}")]
        );
    }
}

#[test]
fn variables_of_the_harness_are_none_of_the_allocators_business() {
    assert_eq!(
        lines_of(
            &me(),
            &[("HAKMEM_BENCH_WARMUP", "5"), ("HAKMEM_BENCH_WHATEVER", "")]
        ),
        [""; 0]
    );
}

#[test]
fn the_environment_beats_the_code_and_the_code_the_profile() {
    assert_eq!(setting("HAKMEM_THP", &[]), "never (set in code)");
    assert_eq!(
        setting("HAKMEM_THP", &[("HAKMEM_PROFILE", "speed")]),
        "never (set in code)"
    );
    assert_eq!(
        setting("HAKMEM_THP", &[("HAKMEM_THP", "always")]),
        "always (environment)"
    );
    assert_eq!(
        setting("HAKMEM_PURGE_DELAY_MS", &[("HAKMEM_PROFILE", "lean")]),
        "77 (set in code)"
    );
    assert_eq!(
        setting("HAKMEM_LARGE_CACHE_MB", &[("HAKMEM_PROFILE", "lean")]),
        "8 (profile lean)"
    );
    assert_eq!(
        setting("HAKMEM_SS_RETAIN_MB", &[]),
        "auto (profile balanced)"
    );
    assert_eq!(
        setting("HAKMEM_CHECK_ONE_IN", &[("HAKMEM_PROFILE", "hardened")]),
        "1 (profile hardened)"
    );
    assert_eq!(setting("HAKMEM_STATS_FILE", &[]), "stderr (default)");
}

#[test]
fn a_second_static_serves_from_the_same_memory() {
    let layout = Layout::from_size_align(100, 8).expect("a layout");
    // SAFETY: the layout has a size; the block is written within it and freed once.
    unsafe {
        let block = OTHER.alloc(layout);
        assert!(!block.is_null());
        block.write_bytes(1, layout.size());
        GLOBAL.dealloc(block, layout);
    }
}

#[test]
fn a_second_static_with_other_wishes_is_mentioned_once() {
    let child = |knobs: &[(&str, &str)]| {
        let mut command = child::command(me());
        command.args(["--exact", "a_second_static_serves_from_the_same_memory"]);
        let output = clean(&mut command, knobs)
            .output()
            .expect("the test binary starts");
        assert!(output.status.success());
        String::from_utf8(output.stderr)
            .expect("UTF-8")
            .matches("another allocator static")
            .count()
    };
    assert_eq!(child(&[("HAKMEM_VERBOSE", "1")]), 1);
    assert_eq!(child(&[]), 0);
}

#[test]
fn touching_is_turned_off_by_name() {
    let knobs = [
        ("HAKMEM_SS_PREFAULT", "memset"),
        ("HAKMEM_NO_EXPLICIT_PREFAULT", "1"),
    ];
    let line = setting("HAKMEM_SS_PREFAULT", &knobs);
    assert_eq!(
        line,
        "memset (environment, made off by HAKMEM_NO_EXPLICIT_PREFAULT)"
    );
    let knobs = [
        ("HAKMEM_SS_PREFAULT", "populate"),
        ("HAKMEM_NO_EXPLICIT_PREFAULT", "1"),
    ];
    assert_eq!(
        setting("HAKMEM_SS_PREFAULT", &knobs),
        "populate (environment)"
    );
}

#[test]
fn every_row_of_env_knobs_md_is_printed() {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("env-knobs.md"))
        .expect("env-knobs.md");
    let rows = text
        .lines()
        .filter_map(|line| line.strip_prefix("### `HAKMEM_")?.split_once('`'))
        .map(|(name, _)| name);
    let mut names: Vec<String> = rows.map(|name| format!("HAKMEM_{name}")).collect();
    names.sort();
    names.dedup();
    assert!(names.len() >= 11, "{names:?}");
    for name in names {
        setting(&name, &[]);
    }
}

/// A copy of this binary under another owner, removed when dropped.
struct Copy(PathBuf);

impl Drop for Copy {
    fn drop(&mut self) {
        // What cannot be removed stays in the target directory.
        let _ = fs::remove_file(&self.0);
    }
}

/// Needs root, and a file system that honours the set-user-id bit. Elsewhere there is no such program, and the control below
/// says so.
#[test]
fn a_privileged_program_ignores_the_environment() {
    use std::os::unix::fs::{PermissionsExt, chown};
    let copy = Copy(me().with_extension("setuid"));
    // By another process: a child that another test starts meanwhile would inherit a descriptor open for writing,
    // and the kernel runs no file that is being written.
    let copied = Command::new("cp").arg(me()).arg(&copy.0).status();
    assert!(copied.expect("cp").success());
    let knobs = [("HAKMEM_VERBOSE", "1"), ("HAKMEM_THP", "yes")];

    fs::set_permissions(&copy.0, fs::Permissions::from_mode(0o755)).expect("chmod");
    assert!(
        lines_of(&copy.0, &knobs).len() > 10,
        "an ordinary copy speaks"
    );

    if chown(&copy.0, Some(65534), Some(65534)).is_err() {
        eprintln!("not root: no program of another user can be made");
        return;
    }
    fs::set_permissions(&copy.0, fs::Permissions::from_mode(0o4755)).expect("chmod");
    if !is_privileged(&copy.0) {
        eprintln!("the set-user-id bit has no effect here");
        return;
    }
    assert_eq!(lines_of(&copy.0, &knobs), [""; 0]);
}

/// Whether the kernel starts `program` as somebody else. A privileged process cannot be read by name in /proc,
/// so the dynamic loader is asked: it ignores `LD_SHOW_AUXV`, too.
fn is_privileged(program: &Path) -> bool {
    let output = command(program, &[])
        .env("LD_SHOW_AUXV", "1")
        .output()
        .expect("the copy starts");
    !String::from_utf8_lossy(&output.stdout)
        .lines()
        .any(|line| line.starts_with("AT_SECURE") && line.ends_with('0'))
}
