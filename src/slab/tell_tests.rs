use super::*;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::string::String;

/// Runs the unit test of this name again, which reports `case` there and ends. Returns what it wrote and the signal.
fn reported(name: &str, case: &str) -> (String, Option<i32>) {
    let exe = std::env::current_exe().expect("the path of this program");
    // If cargo was told of an emulator for this machine, the process runs in it.
    let arch = std::env::consts::ARCH.to_uppercase();
    let runner = std::env::var(std::format!("CARGO_TARGET_{arch}_UNKNOWN_LINUX_GNU_RUNNER"));
    let runner = runner.unwrap_or_default();
    let mut words = runner.split_whitespace();
    let mut command = match words.next() {
        Some(first) => {
            let mut command = Command::new(first);
            command.args(words).arg(exe);
            command
        }
        None => Command::new(exe),
    };
    command.args(["--exact", name, "--nocapture", "--test-threads=1"]);
    command
        .env("REPORT_OF_UNIT_TEST", case)
        .stdout(Stdio::null());
    let done = command.output().expect("starts");
    let text = String::from_utf8_lossy(&done.stderr);
    // An emulator says that its program ended.
    let lines = text.lines().filter(|line| !line.starts_with("qemu: "));
    let text = lines.flat_map(|line| [line, "\n"]).collect();
    (text, done.status.signal())
}

fn case() -> Option<String> {
    std::env::var("REPORT_OF_UNIT_TEST").ok()
}

#[test]
fn the_stacks_that_are_known_are_told() {
    const NAME: &str = "slab::tell::tests::the_stacks_that_are_known_are_told";
    let here = the_stacks_that_are_known_are_told as *const () as usize;
    if case().is_some() {
        Report {
            what: format_args!("a mistake at {here:#x}"),
            freed: Some(&[here + 8]),
            allocated: Some(&[here + 16, 0x5001, 0, 0x6001]),
            advice: "nothing",
        }
        .end();
    }
    let (text, signal) = reported(NAME, "all");
    assert_eq!(signal, Some(libc::SIGABRT), "{text}");
    let lines: std::vec::Vec<&str> = text.lines().collect();
    let base: usize = {
        let digits = lines[0]
            .strip_prefix("hakmem: a mistake at 0x")
            .expect("the first line");
        usize::from_str_radix(digits, 16).expect("a number")
    };
    let after = |heading: &str| {
        let at = lines.iter().position(|line| *line == heading);
        &lines[at.unwrap_or_else(|| panic!("{heading}: {text}")) + 1..]
    };
    assert!(
        after("hakmem: this call:")[0].starts_with("hakmem:   #0 0x"),
        "{text}"
    );
    let freed = after("hakmem: the free before:");
    assert!(
        freed[0].starts_with(&std::format!("hakmem:   #0 {:#x} /", base + 7)),
        "{text}"
    );
    let of = freed[0]
        .split_whitespace()
        .nth(3)
        .expect("a file and an address");
    let (file, at) = of.split_once('+').expect("both");
    assert_eq!(
        freed[1],
        std::format!("hakmem:   addr2line -Cfpe {file} {at}")
    );
    let allocated = after("hakmem: the allocation:");
    assert!(
        allocated[0].contains(file) && allocated[1] == "hakmem:   #1 0x5000",
        "{text}"
    );
    assert!(
        allocated[2].contains(&std::format!("addr2line -Cfpe {file} ")),
        "0 ends a stack: {text}"
    );
    assert_eq!(lines.last(), Some(&"hakmem: next: nothing"));
}

/// The report reads what may be damaged: here the list of calls is not there.
#[test]
fn a_fault_in_the_report_ends_it_and_the_process_as_ever() {
    const NAME: &str = "slab::tell::tests::a_fault_in_the_report_ends_it_and_the_process_as_ever";
    extern "C" fn must_not_run(_: i32) {
        // SAFETY: the end of a test's process.
        unsafe { libc::_exit(3) }
    }
    if let Some(case) = case() {
        // SAFETY: none for the slice, which is what is tested; the rest are plain calls.
        let wild = unsafe {
            libc::signal(libc::SIGSEGV, must_not_run as *const () as usize);
            if case == "blocked" {
                let mut set = core::mem::zeroed();
                libc::sigfillset(&mut set);
                libc::sigdelset(&mut set, libc::SIGABRT);
                libc::pthread_sigmask(libc::SIG_SETMASK, &set, core::ptr::null_mut());
            }
            core::slice::from_raw_parts(64 as *const usize, 2)
        };
        Report {
            what: format_args!("a mistake"),
            freed: Some(wild),
            allocated: None,
            advice: "nothing",
        }
        .end();
    }
    for how in ["plain", "blocked"] {
        let (text, signal) = reported(NAME, how);
        assert_eq!(signal, Some(libc::SIGABRT), "{how}: {text}");
        assert_eq!(
            text.lines().next(),
            Some("hakmem: a mistake"),
            "{how}: {text}"
        );
        assert!(text.contains("\nhakmem: this call:\n"), "{how}: {text}");
        assert!(!text.contains("hakmem: next:"), "{how}: {text}");
    }
}
