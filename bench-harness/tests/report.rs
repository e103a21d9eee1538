//! `bench-harness report` as a user meets it: a page from a real measurement, and one clear line where there can be none.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn harness(arguments: &[&str]) -> Output {
    let program = env!("CARGO_BIN_EXE_bench-harness");
    Command::new(program).args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A directory of its own, gone at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let dir = format!("bench-harness-report-{name}-{}", std::process::id());
        let dir = std::env::temp_dir().join(dir);
        std::fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }

    fn count(&self) -> usize {
        std::fs::read_dir(&self.0).unwrap().count()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // A directory that stays is no reason to fail a test that passed.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn measured(target: &str) {
    let line =
        "pair 48 2000 --runs 2 --no-host-warm --latency --allocators system,hakmem,null --json";
    let mut arguments: Vec<&str> = line.split(' ').collect();
    arguments.push(target);
    let output = harness(&arguments);
    assert!(output.status.success(), "{}", text(&output.stderr));
}

fn refused(arguments: &[&str], wanted: &str) {
    let output = harness(arguments);
    let err = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {err}");
    assert_eq!(err.lines().count(), 1, "{arguments:?}: {err}");
    assert!(
        err.starts_with("bench-harness: ") && err.contains(wanted),
        "{arguments:?}: {err}"
    );
    assert!(output.stdout.is_empty(), "{arguments:?}");
}

#[test]
fn a_measurement_becomes_a_page() {
    let dir = Scratch::new("page");
    let (json, html) = (dir.path("r.json"), dir.path("page.html"));
    measured(&json);
    let output = harness(&["report", &json, "-o", &html]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), format!("{html}\n"));
    let page = std::fs::read_to_string(&html).unwrap();
    assert!(page.starts_with("<!DOCTYPE html>") && page.ends_with("</html>"));
    assert!(page.contains("hakmem</strong> is first in ") || page.contains("is first in <strong>"));
    assert!(page.contains("pair 48 2000 --allocators system,hakmem,null --series warm --runs 2 --latency --no-host-warm"));
    assert!(!page.contains("://") && !page.contains("<script"));
    // Without -o beside the results; a page that is there is replaced.
    for _ in 0..2 {
        assert!(harness(&["report", &json]).status.success());
    }
    assert!(Path::new(&dir.path("r.html")).is_file());
    assert_eq!(dir.count(), 3, "something was left beside the pages");
}

#[test]
fn what_is_no_results_file_is_refused_in_one_line() {
    let dir = Scratch::new("refused");
    let file = |name: &str, content: &str| {
        let path = dir.path(name);
        std::fs::write(&path, content).unwrap();
        path
    };
    let machine = "\"machine\": {}";
    let cases = [
        (dir.path("missing.json"), "missing.json: cannot be read"),
        (dir.path(""), "cannot be read"),
        (file("text.json", "not\njson"), "text.json: cannot be read"),
        (
            file("binary.json", "\u{0}\u{1}"),
            "binary.json: cannot be read",
        ),
        (file("list.json", "[]"), "its schema is null; expected 1"),
        (
            file("other.json", "{\"schema\": 2}"),
            "its schema is 2; expected 1",
        ),
        (
            file("torn.json", "{\"schema\": 1, \"machine\""),
            "cannot be read",
        ),
        (file("bare.json", "{\"schema\": 1}"), "missing field"),
        (
            file(
                "empty.json",
                &format!("{{\"schema\": 1, {machine}, \"results\": []}}"),
            ),
            "it has no measurement; expected at least one",
        ),
        (
            file(
                "strange.json",
                &format!(
                    "{{\"schema\": 1, {machine}, \"results\": [{{\"workload\": \"nosuch\", \"params\": {{}}, \
                     \"allocator\": \"a\", \"series\": \"warm\", \"runs\": []}}]}}"
                ),
            ),
            "unknown variant `nosuch`",
        ),
    ];
    let before = dir.count();
    for (path, wanted) in &cases {
        let html = dir.path("never.html");
        refused(&["report", path, "-o", &html], wanted);
        assert_eq!(dir.count(), before, "{path} left something behind");
    }
}

#[test]
fn places_that_cannot_be_written_are_refused_in_one_line() {
    let dir = Scratch::new("target");
    let json = dir.path("r.json");
    measured(&json);
    let before = std::fs::read_to_string(&json).unwrap();
    refused(
        &["report", &json, "-o", "/nonexistent/dir/r.html"],
        "/nonexistent/dir/r.html: cannot be written",
    );
    refused(&["report", &json, "-o", &dir.path("")], "it is a directory");
    refused(
        &["report", &json, "-o", &json],
        "it is the results file itself",
    );
    refused(&["report"], "required arguments were not provided");
    assert_eq!(std::fs::read_to_string(&json).unwrap(), before);
    assert_eq!(dir.count(), 1);
}

/// Devices that are always full, as the target of every command that writes; and they stay devices.
#[test]
fn a_full_disk_is_one_line() {
    use std::os::unix::fs::FileTypeExt;
    let dir = Scratch::new("full");
    let json = dir.path("r.json");
    measured(&json);
    let run = "pair 48 2000 --runs 1 --no-host-warm --allocators null";
    for (line, flag) in [
        (run, "--json"),
        (run, "--csv"),
        (&format!("report {json}"), "-o"),
    ] {
        let mut arguments: Vec<&str> = line.split(' ').collect();
        arguments.extend([flag, "/dev/full"]);
        let output = harness(&arguments);
        let err = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {err}");
        let wanted = "bench-harness: /dev/full: not written: No space left on device";
        assert!(
            err.starts_with(wanted) && err.lines().count() == 1,
            "{arguments:?}: {err}"
        );
    }
    let kind = std::fs::metadata("/dev/full").unwrap().file_type();
    assert!(
        kind.is_char_device(),
        "a file stands in the place of /dev/full"
    );
}

/// A file system of a few pages, where this may be had: nothing half written is left, and what was there stays.
#[test]
fn a_file_system_that_fills_up_keeps_the_old_file() {
    let dir = Scratch::new("tmpfs");
    let json = dir.path("r.json");
    measured(&json);
    let script = "mount -t tmpfs -o size=16k none \"$1\" || exit 99
        echo old > \"$1/page.html\"
        \"$2\" report \"$3\" -o \"$1/page.html\"
        echo \"code $?\"
        cat \"$1/page.html\"
        ls -A \"$1\"";
    let place = dir.path("small");
    std::fs::create_dir(&place).unwrap();
    let output = Command::new("unshare")
        .args([
            "-rm",
            "sh",
            "-c",
            script,
            "sh",
            &place,
            env!("CARGO_BIN_EXE_bench-harness"),
            &json,
        ])
        .output();
    let output = match output {
        Ok(output) if output.status.code() != Some(99) && output.status.success() => output,
        other => {
            let why = other.map_or_else(|e| e.to_string(), |o| text(&o.stderr));
            let line = format!(
                "report: no file system could be mounted ({}): only /dev/full is tried\n",
                why.trim()
            );
            return std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes()).unwrap();
        }
    };
    assert_eq!(text(&output.stdout), "code 2\nold\npage.html\n");
    let err = text(&output.stderr);
    let wanted = format!(
        "bench-harness: {place}/page.html: not written: No space left on device (os error 28)\n"
    );
    assert_eq!(err, wanted);
}

/// What crashed and what hung stands in every output, and the others go on.
#[test]
fn failures_are_in_the_page_the_table_and_the_comparison() {
    for (fault, wanted) in [
        ("crash:hakmem", "crashed: signal 6"),
        ("hang:hakmem", "hung: killed after 5 s"),
    ] {
        let dir = Scratch::new("failures");
        let (good, bad) = (dir.path("good.json"), dir.path("bad.json"));
        let line =
            "pair 48 2000 --runs 2 --series warm --no-host-warm --time-limit 5 --latency --json";
        let measure = |target: &str, fault: &str| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_bench-harness"));
            command
                .args(line.split(' '))
                .arg(target)
                .env("HAKMEM_BENCH_FAULT", fault);
            command.output().unwrap()
        };
        assert!(measure(&good, "").status.success());
        assert_eq!(measure(&bad, fault).status.code(), Some(1), "{fault}");

        let html = dir.path("bad.html");
        assert!(harness(&["report", &bad, "-o", &html]).status.success());
        let page = std::fs::read_to_string(&html).unwrap();
        assert!(
            page.contains("2 of 4 runs failed; each is named"),
            "{fault}"
        );
        for run in [1, 2] {
            let named = format!("<strong>hakmem</strong>, run {run} failed: {wanted}");
            assert!(page.contains(&named), "{fault}");
        }
        let markdown = text(&harness(&["markdown", &bad]).stdout);
        assert!(
            markdown.contains(&format!("| hakmem | failed: {wanted} |")),
            "{markdown}"
        );
        assert!(markdown.contains("| system | "), "{markdown}");
        let compared = harness(&["compare", &good, &bad]);
        assert_eq!(compared.status.code(), Some(1), "{fault}");
        assert!(
            text(&compared.stdout).contains("FAILED in every run of the new file"),
            "{fault}"
        );
        assert_eq!(text(&compared.stderr).lines().count(), 1, "{fault}");
    }
}
