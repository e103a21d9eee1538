//! `bench-harness preload` as a user meets it: programs under libraries made for the purpose, and everything that can be
//! asked wrongly. The libraries are compiled here; what stands for libhakmem.so leaves the statistics the real one would.

mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use common::text;
use serde_json::Value;

fn harness() -> Command {
    common::harness("preload")
}

struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("bench-harness-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        std::fs::write(self.path(name), text).unwrap();
        self.path(name)
    }

    fn compiled(&self, name: &str, source: &str, flags: &[&str]) -> PathBuf {
        let source = self.write(&format!("{name}.c"), source);
        let status = Command::new("cc").args(flags).arg("-o").arg(self.path(name)).arg(source).status().unwrap();
        assert!(status.success());
        self.path(name)
    }

    /// A library that does nothing.
    fn idle(&self) -> PathBuf {
        self.compiled("idle.so", "int nothing;\n", &["-shared", "-fPIC"])
    }

    /// A library that says it mapped 4096 bytes and returned 4.
    fn ours(&self) -> PathBuf {
        let source = r#"
            #include <stdio.h>
            #include <stdlib.h>
            #include <string.h>
            #include <unistd.h>
            __attribute__((destructor)) static void at_exit(void) {
                const char *wish = getenv("HAKMEM_STATS_FILE"), *place = wish ? strstr(wish, "%p") : 0;
                if (!place) return;
                char name[4096];
                snprintf(name, sizeof name, "%.*s%d%s", (int)(place - wish), wish, (int)getpid(), place + 2);
                FILE *file = fopen(name, "w");
                fputs("{\"schema\":1,\"bytes\":{\"mapped\":4096,\"returned\":4}}", file);
                fclose(file);
            }
        "#;
        self.compiled("libhakmem.so", source, &["-shared", "-fPIC"])
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn run(command: &mut Command) -> (Output, String, String) {
    let output = command.output().unwrap();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    (output, out, err)
}

fn case<'a>(results: &'a Value, library: &str) -> &'a Value {
    let cases = results["results"].as_array().unwrap();
    cases.iter().find(|c| c["library"] == library).unwrap()
}

#[test]
fn programs_are_compared_and_served() {
    let scratch = Scratch::new("preload");
    let lines: String = (0..20_000).map(|i| format!("{}\n", i * 7919 % 20_011)).collect();
    let input = scratch.write("lines", &lines);
    let (json, csv) = (scratch.path("r.json"), scratch.path("r.csv"));
    let idle = format!("idle={}", scratch.idle().display());
    let mut programs = vec![vec!["/bin/true"], vec!["sort", "-n"]];
    if Path::new("/usr/bin/python3").exists() {
        programs.push(vec!["/usr/bin/python3", "-c", "print(sum(map(int, open(0))))"]);
    }
    for program in programs {
        let (output, out, err) = run(harness()
            .args(["--libraries", &format!("glibc,hakmem,{idle}"), "--runs", "3"])
            .arg("--hakmem")
            .arg(scratch.ours())
            .arg("--stdin")
            .arg(&input)
            .arg("--json")
            .arg(&json)
            .arg("--csv")
            .arg(&csv)
            .arg("--")
            .args(&program));
        assert!(output.status.success(), "{program:?}: {err}");
        assert!(err.contains("estimate: ") && err.contains(" for 9 runs"), "{err}");
        for wanted in [program[0], "3 runs under each library", "ratio to glibc", "max RSS", "minor faults"] {
            assert!(out.contains(wanted), "{wanted:?} is missing:\n{out}");
        }
        let results: Value = serde_json::from_str(&std::fs::read_to_string(&json).unwrap()).unwrap();
        assert_eq!((&results["schema"], &results["kind"]), (&1.into(), &"preload".into()));
        assert_eq!((&results["complete"], &results["planned_runs"]), (&true.into(), &9.into()));
        assert_eq!(case(&results, "hakmem")["served_bytes"], 4100);
        assert!(case(&results, "glibc")["path"].is_null());
        for library in ["glibc", "hakmem", "idle"] {
            let runs = case(&results, library)["runs"].as_array().unwrap();
            assert_eq!(runs.len(), 3);
            for run in runs {
                assert!(run["wall_secs"].as_f64().unwrap() > 0.0, "{run}");
                assert!(run["minor_faults"].as_u64().unwrap() > 10, "{run}");
                assert!(run["max_rss_kib"].as_u64().unwrap() > 500, "{run}");
            }
        }
        let ratio = &case(&results, "idle")["ratios"][0];
        assert_eq!(ratio[0], "wall_secs");
        let (value, ends) = (ratio[1]["value"].as_f64().unwrap(), ratio[1]["interval"].as_array().unwrap());
        assert!(ends[0].as_f64().unwrap() <= value && value <= ends[1].as_f64().unwrap());
        assert_eq!(std::fs::read_to_string(&csv).unwrap().lines().count(), 10);
    }
}

#[test]
fn figures_come_out_of_the_output() {
    let scratch = Scratch::new("preload-metric");
    let json = scratch.path("r.json");
    let idle = format!("idle={}", scratch.idle().display());
    // Under a library this program says that it is three times as fast.
    let script =
        "n=1000; test -z \"$LD_PRELOAD\" || n=3000; printf 'SET: 1 requests\\rSET: %s requests\\nGET: 7.5\\n' $n";
    let (output, out, err) = run(harness()
        .args(["--libraries", &format!("glibc,{idle}"), "--runs", "5", "--show-output"])
        .args(["--metric-from", "SET: ([0-9.]+) requests", "--metric-from", "GET: ([0-9.]+)"])
        .arg("--json")
        .arg(&json)
        .args(["--", "sh", "-c", script]));
    assert!(output.status.success(), "{err}");
    assert!(err.contains("GET: 7.5"), "the output was not shown: {err}");
    assert!(out.contains("3.00 [3.00–3.00] more") && out.contains("= 1.00 [1.00–1.00] no difference"), "{out}");
    let results: Value = serde_json::from_str(&std::fs::read_to_string(&json).unwrap()).unwrap();
    assert_eq!(case(&results, "idle")["runs"][0]["metrics"], serde_json::json!([3000.0, 7.5]));

    let (output, out, _) =
        run(harness().args(["--libraries", "glibc", "--runs", "2", "--metric-from", "none: ([0-9]+)", "--", "true"]));
    assert_eq!(output.status.code(), Some(1));
    assert!(out.contains("glibc runs 1, 2 FAILED: its output has no \"none: ([0-9]+)\""), "{out}");
}

#[test]
fn a_failing_program_is_named_and_the_others_go_on() {
    let scratch = Scratch::new("preload-fail");
    let idle = format!("idle={}", scratch.idle().display());
    for (script, wanted) in [
        ("test -z \"$LD_PRELOAD\" || { echo no memory >&2; exit 7; }", "exit code 7: no memory"),
        ("test -z \"$LD_PRELOAD\" || kill -SEGV $$", "crashed: signal 11"),
        ("test -z \"$LD_PRELOAD\" || sleep 3600", "hung: killed after 5 s"),
    ] {
        let (output, out, err) = run(harness()
            .args(["--libraries", &format!("glibc,{idle}"), "--runs", "2", "--time-limit", "5"])
            .args(["--", "sh", "-c", script]));
        assert_eq!(output.status.code(), Some(1), "{err}");
        assert!(out.contains(&format!("idle runs 1, 2 FAILED: {wanted}")), "{out}");
        assert!(out.contains("sh -c") && !out.contains("glibc run"), "{out}");
        assert!(err.ends_with("bench-harness: 2 of 4 runs failed; the table says how\n"), "{err}");
    }
}

#[test]
fn wrong_requests_get_one_line_and_code_2() {
    let scratch = Scratch::new("preload-wrong");
    let bare = scratch.compiled(
        "static",
        "void _start(void) { __builtin_trap(); }\n",
        &["-static", "-nostdlib", "-fno-pie", "-no-pie"],
    );
    let text_file = scratch.write("text.so", "no library\n");
    let bare = bare.display();
    for (arguments, wanted) in [
        ("--libraries glibc -- no-such-program-at-all", "no such program in PATH"),
        ("--libraries glibc -- /etc/passwd", "not an executable file"),
        (&format!("--libraries glibc -- {bare}"), "a static program; nothing can be preloaded into it"),
        ("--libraries glibc,x=/nonexistent.so -- true", "/nonexistent.so: cannot be preloaded"),
        (&format!("--libraries x={} -- true", text_file.display()), "no shared object of this machine"),
        ("--libraries tcmalloc -- true", "unknown library \"tcmalloc\""),
        ("--hakmem /nonexistent/libhakmem.so -- true", "/nonexistent/libhakmem.so: cannot be preloaded"),
        ("--libraries glibc --runs 0 -- true", "--runs <N>"),
        ("--libraries glibc --metric-from (a)(b) -- true", "2 groups"),
        ("--libraries glibc --stdin /nonexistent -- true", "--stdin /nonexistent"),
        ("--libraries glibc --json /nonexistent/r.json -- true", "/nonexistent/r.json: cannot be written"),
        ("--libraries glibc", "<PROGRAM>"),
    ] {
        let (output, out, err) = run(harness().args(arguments.split_whitespace()));
        assert_eq!(output.status.code(), Some(2), "{arguments}: {err}");
        assert!(err.starts_with("bench-harness: ") && err.lines().count() == 1, "{arguments}: {err}");
        assert!(err.contains(wanted), "{arguments}: {err}");
        assert!(out.is_empty(), "{arguments}: {out}");
    }
}

#[test]
fn a_library_the_loader_passes_over_is_noticed() {
    let scratch = Scratch::new("preload-absent");
    // A shared object without anything to load: the loader says so on stderr and goes on without it.
    let mut head = std::fs::read(scratch.idle()).unwrap();
    head.truncate(64);
    head[56] = 0;
    let empty = scratch.path("empty.so");
    std::fs::write(&empty, head).unwrap();
    let (output, out, err) =
        run(harness().args(["--libraries", &format!("glibc,empty={}", empty.display()), "--runs", "1", "--", "true"]));
    assert_eq!(output.status.code(), Some(2), "{err}");
    assert!(err.contains("empty.so was not loaded into true") && err.lines().count() == 1, "{err}");
    assert!(out.is_empty(), "{out}");
}

#[test]
fn ctrl_c_keeps_what_was_measured() {
    let scratch = Scratch::new("preload-interrupt");
    let json = scratch.path("r.json");
    let begun = scratch.path("begun");
    let program = format!("echo >>{begun}; sleep 0.1", begun = std::path::Path::new(&begun).display());
    let child = harness()
        .args(["--libraries", "glibc", "--runs", "1000", "--json"])
        .arg(&json)
        .args(["--", "sh", "-c", &program])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // The third run is under way.
    while std::fs::read_to_string(&begun).map_or(0, |t| t.lines().count()) < 3 {
        std::thread::sleep(Duration::from_millis(5));
    }
    let sent = Command::new("kill").args(["-s", "INT", &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
    let start = Instant::now();
    let output = child.wait_with_output().unwrap();
    assert!(start.elapsed() < Duration::from_secs(10));
    assert_eq!(output.status.code(), Some(130), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("warning: interrupted: "));
    let results: Value = serde_json::from_str(&std::fs::read_to_string(&json).unwrap()).unwrap();
    assert_eq!(results["complete"], false);
    let runs = case(&results, "glibc")["runs"].as_array().unwrap().len();
    assert!((1..1000).contains(&runs), "{runs}");
}
