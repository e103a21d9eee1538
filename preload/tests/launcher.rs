//! hakmem-run: what it sets, and what it refuses in one line.

mod common;

use common::{Ended, compile, launcher, run, scratch};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

fn launch(args: &[&str]) -> Ended {
    let mut command = Command::new(launcher());
    command
        .args(args)
        .env_remove("LD_PRELOAD")
        .env("EXPECT_LIBRARY", "libhakmem.so");
    run(&mut command, Duration::from_secs(60))
}

#[track_caller]
fn refused(ended: &Ended, code: i32, says: &str) {
    assert_eq!(ended.code(), Some(code), "{ended:?}");
    assert!(ended.stderr.starts_with("hakmem-run: "), "{ended:?}");
    assert!(ended.stderr.contains(says), "expected {says:?}: {ended:?}");
    assert_eq!(ended.stdout, "", "{ended:?}");
}

fn text(path: &Path) -> &str {
    path.to_str().expect("plain characters")
}

#[test]
fn runs_a_program_on_the_library_with_its_arguments_and_its_exit_code() {
    let program = compile("replaced.cpp", &["-std=c++17"]);
    assert_eq!(
        launch(&[text(&program)]).output(),
        "replacements are called\n"
    );
    let ended = launch(&["--", "sh", "-c", "echo $0 $1; exit 7", "--stats", "b c"]);
    assert_eq!(ended.code(), Some(7));
    assert_eq!(ended.stdout, "--stats b c\n");
}

#[test]
fn options_become_knobs() {
    // Statistics are printed by exit(), which a shell avoids.
    let program = compile("replaced.cpp", &["-std=c++17"]);
    let ended = launch(&["--stats", text(&program)]);
    assert_eq!(ended.stdout, "replacements are called\n", "{ended:?}");
    assert!(
        ended.stderr.starts_with("hakmem: statistics of process"),
        "{ended:?}"
    );
    let say = "echo $HAKMEM_STATS $HAKMEM_PROFILE";
    let ended = launch(&["--stats", "--profile", "lean", "sh", "-c", say]);
    assert_eq!(ended.output(), "1 lean\n");
    let ended = launch(&["--profile=speed", "sh", "-c", say]);
    assert_eq!(ended.output(), "speed\n");
}

#[test]
fn what_was_preloaded_stays_behind_it() {
    let mut command = Command::new(launcher());
    command
        .args(["sh", "-c", "echo $LD_PRELOAD"])
        .env("LD_PRELOAD", "libm.so.6");
    let said = run(&mut command, Duration::from_secs(60)).output();
    assert!(
        said.starts_with('/') && said.ends_with("/libhakmem.so:libm.so.6\n"),
        "{said}"
    );
}

#[test]
fn wrong_use_is_one_clear_line() {
    refused(&launch(&[]), 2, "no program named");
    refused(&launch(&["--frob", "ls"]), 2, "--frob: no such option");
    refused(
        &launch(&["--profile", "fast", "ls"]),
        2,
        "--profile fast: expected speed, balanced or lean",
    );
    refused(
        &launch(&["--profile"]),
        2,
        "expected speed, balanced or lean",
    );
}

#[test]
fn programs_that_it_would_not_reach_are_refused() {
    refused(&launch(&["no-such-program-here"]), 127, "not found in PATH");
    refused(&launch(&["/no/such/program"]), 127, "No such file");
    refused(&launch(&["/etc/passwd"]), 126, "not an executable file");
    refused(&launch(&["/tmp"]), 126, "not an executable file");

    let fixed = compile("storm.c", &["-static", "-Wno-error"]);
    refused(&launch(&[text(&fixed)]), 126, "a static program");

    let dir = scratch("launcher");
    let setuid = dir.join("setuid");
    fs::copy("/bin/true", &setuid).expect("a copy of a small program");
    fs::set_permissions(&setuid, fs::Permissions::from_mode(0o4755)).expect("our own file");
    refused(&launch(&[text(&setuid)]), 126, "setuid");

    let script = dir.join("script");
    fs::write(&script, format!("#!{} x\n", fixed.display())).expect("writable");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("our own file");
    refused(&launch(&[text(&script)]), 126, "its interpreter");
}

#[test]
fn a_library_that_is_not_there_is_named() {
    let mut command = Command::new(launcher());
    command
        .arg("true")
        .env("HAKMEM_RUN_LIBRARY", "/no/such/libhakmem.so");
    refused(
        &run(&mut command, Duration::from_secs(60)),
        126,
        "HAKMEM_RUN_LIBRARY=/no/such/libhakmem.so: No such file",
    );
}
