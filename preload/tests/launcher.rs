//! hakmem-run: what it sets, and what it refuses in one line.

mod common;

use common::{Ended, compile, launcher, run, scratch};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
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
        "--profile fast: expected speed, balanced, lean or hardened",
    );
    refused(
        &launch(&["--profile"]),
        2,
        "expected speed, balanced, lean or hardened",
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
    let script = dir.join("script");
    let mut number = 0;
    let mut run_script = |line: &str| {
        number += 1;
        let script = script.with_extension(number.to_string());
        fs::write(&script, format!("#!{line}\n")).expect("writable");
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("our own file");
        (launch(&[text(&script)]), script)
    };
    let (ended, script) = run_script(&format!("{} x", fixed.display()));
    refused(&ended, 126, "its interpreter: ");
    // A script is run by a script, and found in PATH by `env`.
    let (ended, _) = run_script(text(&script));
    refused(&ended, 126, "a static program");
    let (ended, _) = run_script(&format!("/usr/bin/env -S {} sh", fixed.display()));
    refused(&ended, 126, "a static program");
    let (ended, _) = run_script("/usr/bin/env -i sh");
    refused(&ended, 126, "-i clears LD_PRELOAD");
    let (ended, _) = run_script("/usr/bin/env sh");
    assert_eq!(ended.output(), "");
    let (ended, _) = run_script("/no/such/interpreter");
    refused(&ended, 126, "cannot be run: No such file");

    for args in [
        &["env", "-S", "A=1 storm sh"][..],
        &["env", "A=1", "storm", "sh"],
        &["env", "env", "storm"],
    ] {
        let named = |arg: &str| arg.replace("storm", text(&fixed));
        let args: Vec<String> = args.iter().map(|arg| named(arg)).collect();
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        refused(&launch(&args), 126, "a static program");
    }
    assert_eq!(
        launch(&["env", "A=1", "sh", "-c", "echo $A"]).output(),
        "1\n"
    );
}

/// What the kernel would run with raised privileges is refused, and nothing else: that depends on who runs it.
#[test]
fn raised_privileges_are_refused_only_where_they_are_raised() {
    // SAFETY: a plain query.
    if unsafe { libc::getuid() } != 0 {
        // The system's own setuid program is what is left to try.
        refused(&launch(&["passwd", "--help"]), 126, "setuid");
        eprintln!("not root: only one setuid program of the system was tried");
        return;
    }
    const NOBODY: u32 = 65534;
    // Where everybody may look.
    let dir = std::env::temp_dir().join(format!("hakmem-launcher-{}", std::process::id()));
    fs::create_dir_all(&dir).expect("a directory");
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).expect("our own");
    for file in ["hakmem-run", "libhakmem.so"] {
        let from = common::library().with_file_name(file);
        fs::copy(from, dir.join(file)).expect("a copy of what was built");
    }
    let program = dir.join("program");
    fs::copy("/bin/echo", &program).expect("a copy of a small program");
    let runs_as = |user: u32| {
        let mut command = Command::new(dir.join("hakmem-run"));
        command.arg(&program).arg("ran").uid(user).gid(user);
        run(&mut command, Duration::from_secs(60))
    };
    let mode = |bits: u32| {
        fs::set_permissions(&program, fs::Permissions::from_mode(bits)).expect("our own file");
    };
    mode(0o4755);
    assert_eq!(
        runs_as(0).output(),
        "ran\n",
        "root gains nothing by root's setuid"
    );
    refused(&runs_as(NOBODY), 126, "setuid");
    mode(0o2755);
    assert_eq!(runs_as(0).output(), "ran\n");
    refused(&runs_as(NOBODY), 126, "setgid");
    // Without the right to run it for the group, the bit means something else.
    mode(0o2705);
    assert_eq!(runs_as(NOBODY).output(), "ran\n");

    mode(0o755);
    // struct vfs_cap_data, version 2 with the effective bit: CAP_NET_BIND_SERVICE.
    let data: [u32; 5] = [0x0200_0001, 1 << 10, 0, 0, 0];
    let path = std::ffi::CString::new(text(&program)).expect("no NUL");
    // SAFETY: C strings, and as many bytes as are named.
    let set = unsafe {
        libc::setxattr(
            path.as_ptr(),
            c"security.capability".as_ptr(),
            data.as_ptr().cast(),
            size_of_val(&data),
            0,
        )
    };
    if set == 0 {
        refused(&runs_as(NOBODY), 126, "file capabilities");
        assert_eq!(runs_as(0).output(), "ran\n");
    } else {
        eprintln!("no file capabilities on this file system: left out");
    }
    fs::remove_dir_all(&dir).expect("our own");
}

/// The launcher's own variable is no knob that somebody misspelt.
#[test]
fn the_launchers_variable_draws_no_line() {
    let mut command = Command::new(launcher());
    command
        .args(["echo", "ran"])
        .env("HAKMEM_RUN_LIBRARY", common::library());
    assert_eq!(run(&mut command, Duration::from_secs(60)).output(), "ran\n");
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
