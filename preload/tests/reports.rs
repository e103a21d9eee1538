//! The calls that a report tells of programs that were not built for it: with tables for unwinding, with frame pointers alone,
//! with neither.

mod common;

use common::{Ended, OURS, command, compile, run};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

const FRAME_POINTERS: [&str; 2] = ["-fno-asynchronous-unwind-tables", "-fno-omit-frame-pointer"];
const NEITHER: [&str; 2] = ["-fno-asynchronous-unwind-tables", "-fomit-frame-pointer"];

/// The program under a name of its own, as most are of one source.
fn program(name: &str, flags: &[&str]) -> PathBuf {
    program_of("reports.c", name, flags)
}

fn program_of(source: &str, name: &str, flags: &[&str]) -> PathBuf {
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let compiled = compile(source, flags);
    let program = compiled.with_file_name(format!("{name} {}", std::process::id()));
    std::fs::rename(compiled, &program).expect("in the same folder");
    program
}

/// What a program with a double free says, checked for its form.
#[track_caller]
fn report(program: &Path, args: &[&str]) -> Ended {
    let ended = run(command(program, OURS).args(args), Duration::from_secs(30));
    assert_eq!(ended.signal(), Some(6), "{ended:?}");
    assert!(
        ended.stderr.starts_with("hakmem: double free of 0x"),
        "{ended:?}"
    );
    assert!(
        ended
            .stderr
            .lines()
            .all(|line| line.starts_with("hakmem: ")),
        "{ended:?}"
    );
    ended
}

/// How the functions are called that the report tells, newest first; another file's call is `elsewhere`.
fn names(program: &Path, ended: &Ended) -> Vec<&'static str> {
    let printed = ended.stdout.split_whitespace();
    let hex =
        |text: &str| usize::from_str_radix(text.trim_start_matches("0x"), 16).expect("a number");
    let starts: Vec<usize> = printed.map(hex).collect();
    let frames = ended
        .stderr
        .lines()
        .filter_map(|line| line.strip_prefix("hakmem:   #"));
    let file = format!(" {}+0x", program.display());
    frames
        .map(|frame| {
            let call = hex(frame.split_whitespace().nth(1).expect("an address"));
            let ours = frame.contains(&file);
            let below = |start: &usize| (*start..*start + 200).contains(&call);
            let nearest = (0..4)
                .filter(|&i| below(&starts[i]))
                .max_by_key(|&i| starts[i]);
            match nearest {
                Some(i) if ours => ["inner", "middle", "outer", "main"][i],
                _ if ours => "of the program",
                _ => "elsewhere",
            }
        })
        .collect()
}

#[test]
fn tables_lead_from_the_first_call_to_the_mistake() {
    let program = program(
        "tables",
        &["-fasynchronous-unwind-tables", "-fomit-frame-pointer"],
    );
    let ended = report(&program, &[]);
    let calls = names(&program, &ended);
    assert_eq!(
        calls[..4],
        ["inner", "middle", "outer", "main"],
        "{ended:?}"
    );
    // What called main, in the C library and in the program's own start.
    assert!(
        calls.len() > 4 && !ended.stderr.contains("older calls"),
        "{ended:?}"
    );
    assert!(!ended.stderr.contains("frame pointer"), "{ended:?}");
    assert!(ended.stderr.contains(" (build id "), "{ended:?}");
    let through = report(&program, &["through"]);
    let calls = names(&program, &through);
    let outer = calls
        .iter()
        .position(|&name| name == "outer")
        .expect("outer");
    assert!(
        outer > 3 && calls[3..outer].iter().all(|&name| name == "elsewhere"),
        "{through:?}"
    );
}

/// What is kept of a call in case a report needs it costs little memory: tables are not read for it.
#[test]
fn a_call_that_is_kept_was_found_in_the_stack() {
    let program = program_of(
        "kept.c",
        "kept",
        &["-fasynchronous-unwind-tables", "-fomit-frame-pointer"],
    );
    let mut command = command(&program, OURS);
    let kept = run(
        command.env("HAKMEM_GUARD_EVERY", "2"),
        Duration::from_secs(30),
    );
    assert_eq!(kept.signal(), Some(6), "{kept:?}");
    let (_, before) = kept
        .stderr
        .split_once("the free before:")
        .expect("two stacks");
    let (before, _) = before.split_once("the allocation:").expect("three");
    assert!(
        before.contains("not by unwind tables alone: calls that have returned"),
        "{kept:?}"
    );
    let before = Ended {
        stderr: before.to_string(),
        ..kept
    };
    let calls = names(&program, &before);
    let at = |name| calls.iter().position(|&call| call == name);
    let order = ["inner", "middle", "outer", "main"].map(at);
    assert!(
        order.is_sorted() && order[0].is_some(),
        "{calls:?} {before:?}"
    );

    let exact = run(
        command.env("HAKMEM_GUARD_EVERY", "1"),
        Duration::from_secs(30),
    );
    assert!(exact.stderr.contains("the free before:"), "{exact:?}");
    assert!(
        !exact.stderr.contains("not by unwind tables alone"),
        "{exact:?}"
    );
}

#[test]
fn frame_pointers_lead_on_where_there_are_no_tables() {
    let program = program("pointers", &FRAME_POINTERS);
    let ended = report(&program, &[]);
    assert_eq!(
        names(&program, &ended)[..4],
        ["inner", "middle", "outer", "main"],
        "{ended:?}"
    );
    assert!(
        ended
            .stderr
            .contains("hakmem:   (from #1 on by frame pointers"),
        "{ended:?}"
    );
    // The C library has tables, and keeps the register for its caller.
    let through = report(&program, &["through"]);
    let calls = names(&program, &through);
    assert!(
        calls.contains(&"elsewhere") && calls.contains(&"outer") && calls.contains(&"main"),
        "{through:?}"
    );
}

#[test]
fn the_caller_alone_is_known_where_there_is_neither() {
    let program = program("neither", &NEITHER);
    let ended = report(&program, &[]);
    assert_eq!(names(&program, &ended), ["inner"], "{ended:?}");
    assert!(
        ended
            .stderr
            .contains("hakmem:   (older calls are not known"),
        "{ended:?}"
    );
}

/// Though a shell would take the path apart.
#[test]
fn the_command_can_be_pasted() {
    let program = program("it's a $(program)", &["-g"]);
    let ended = report(&program, &[]);
    let command = ended
        .stderr
        .lines()
        .find_map(|line| line.strip_prefix("hakmem:   addr2line"));
    let command = format!(
        "addr2line{}",
        command.unwrap_or_else(|| panic!("{ended:?}"))
    );
    let done = std::process::Command::new("sh")
        .arg("-c")
        .arg(&command)
        .output();
    match done {
        Ok(done) if done.status.code() != Some(127) => {
            let text = String::from_utf8_lossy(&done.stdout).into_owned();
            for name in ["inner at ", "middle at ", "outer at ", "main at "] {
                assert!(text.contains(name), "{command}: {text}");
            }
        }
        _ => println!("no addr2line here: {done:?}"),
    }
}
