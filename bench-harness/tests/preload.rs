//! `bench-harness preload` as a user meets it: programs under libraries made for the purpose, and everything that can be
//! asked wrongly. The libraries are compiled here.

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::{ended, harness, json, refused};
use serde_json::Value;

fn compiled(dir: &Path, name: &str, source: &str, flags: &[&str]) -> PathBuf {
    let file = dir.join(format!("{name}.c"));
    std::fs::write(&file, source).unwrap();
    let status = Command::new("cc").args(flags).arg("-o").arg(dir.join(name)).arg(file).status().unwrap();
    assert!(status.success());
    dir.join(name)
}

fn idle(dir: &Path) -> String {
    format!("idle={}", compiled(dir, "idle.so", "int nothing;\n", &["-shared", "-fPIC"]).display())
}

fn of<'a>(results: &'a Value, library: &str) -> &'a Value {
    results["results"].as_array().unwrap().iter().find(|c| c["allocator"] == library).unwrap()
}

#[test]
fn programs_are_compared_and_served() {
    let dir = tempfile::tempdir().unwrap();
    let (file, csv) = (dir.path().join("r.json"), dir.path().join("r.csv"));
    let input = dir.path().join("lines");
    std::fs::write(&input, (0..20_000).map(|i| format!("{}\n", i * 7919 % 20_011)).collect::<String>()).unwrap();
    let ours = compiled(dir.path(), "libhakmem.so", "int nothing;\n", &["-shared", "-fPIC"]);
    for program in [vec!["/bin/true"], vec!["sort", "-n"]] {
        let mut command = harness("preload --runs 3 --libraries");
        command.arg(format!("glibc,hakmem,{}", idle(dir.path()))).arg("--hakmem").arg(&ours);
        command.arg("--stdin").arg(&input).arg("--json").arg(&file).arg("--csv").arg(&csv).arg("--").args(&program);
        let (out, err) = ended(&mut command, 0);
        assert!(err.contains(" for 9 runs"), "{program:?}: {err}");
        for wanted in [program[0], "3 runs each", "ms each", "ratio to system", "RSS MiB", "\n  hakmem "] {
            assert!(out.contains(wanted), "{wanted:?} is missing:\n{out}");
        }
        let results = json(&file);
        for library in ["system", "hakmem", "idle"] {
            let runs = of(&results, library)["runs"].as_array().unwrap();
            let number = |field: &str| runs[0][field].as_f64().unwrap();
            assert!(runs.len() == 3 && number("minor_faults_timed") > 10.0 && number("max_rss_kib") > 500.0);
        }
        assert_eq!(std::fs::read_to_string(&csv).unwrap().lines().count(), 10);
        let same = harness("compare").args([&file, &file]).output().unwrap();
        assert!(String::from_utf8_lossy(&same.stdout).contains("1 measurement: "), "{same:?}");
    }
}

#[test]
fn figures_come_out_of_the_output() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("r.json");
    // Under a library this program says that it is three times as fast.
    let script =
        "n=1000; test -z \"$LD_PRELOAD\" || n=3000; printf 'SET: 1 requests\\rSET: %s requests\\nGET: 7.5\\n' $n";
    let mut command = harness("preload --runs 5 --drift-bound 1000000 --libraries");
    command.arg(format!("glibc,{}", idle(dir.path()))).arg("--json").arg(&file);
    command.args(["--metric-from", "SET: ([0-9.]+) requests", "--metric-from", "GET: ([0-9.]+)"]);
    command.args(["--", "sh", "-c", script]);
    let (out, _) = ended(&mut command, 0);
    assert!(
        out.contains("figure ") && out.contains(" 3.00 [3.00–3.00]") && out.contains("= 1.00 [1.00–1.00]"),
        "{out}"
    );
    assert_eq!(of(&json(&file), "idle")["runs"][0]["metrics"], serde_json::json!([3000.0, 7.5]));
}

#[test]
fn a_failing_program_is_named_and_the_others_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let script = "test -z \"$LD_PRELOAD\" || { echo no memory >&2; exit 7; }";
    let mut command = harness("preload --runs 2 --libraries");
    let (out, err) = ended(command.arg(format!("glibc,{}", idle(dir.path()))).args(["--", "sh", "-c", script]), 1);
    assert_eq!(out.matches("FAILED: exit code 7: no memory").count(), 2, "{out}");
    assert!(err.ends_with("bench-harness: 2 of 4 runs failed; the table says how\n"), "{err}");
}

#[test]
fn wrong_requests_get_one_line_and_code_2() {
    let dir = tempfile::tempdir().unwrap();
    let flags = ["-static", "-nostdlib", "-fno-pie", "-no-pie"];
    let exits = "void _start(void) { __asm__(\"mov $60, %eax; xor %edi, %edi; syscall\"); }\n";
    let bare = if cfg!(target_arch = "x86_64") { compiled(dir.path(), "static", exits, &flags) } else { "true".into() };
    let idle = idle(dir.path());
    // Neither a library, nor one the loader takes: it says so on stderr and goes on without it.
    let text_file = dir.path().join("text.so");
    std::fs::write(&text_file, "no library\n").unwrap();
    let text_file = text_file.display();
    for (arguments, wanted) in [
        ("--libraries glibc -- no-such-program-at-all", "no such program"),
        ("--libraries glibc -- /etc/passwd", "not executable"),
        (&format!("--libraries {idle} -- {}", bare.display()), "no static one"),
        ("--libraries glibc,x=/nonexistent.so -- true", "/nonexistent.so: cannot be preloaded"),
        (&format!("--libraries x={text_file} -- true"), "text.so was not loaded into true"),
        ("--libraries tcmalloc -- true", "unknown library \"tcmalloc\""),
        ("--libraries =/x.so -- true", "unknown library"),
        ("--libraries glibc,glibc -- true", "named twice"),
        ("--hakmem /nonexistent/libhakmem.so -- true", "/nonexistent/libhakmem.so: cannot be preloaded"),
        ("--libraries glibc --metric-from (a)(b) -- true", "2 groups"),
        ("--libraries glibc --metric-from ( -- true", "unclosed group"),
        ("--libraries glibc --stdin /nonexistent -- true", "--stdin /nonexistent"),
        ("--libraries glibc --json /nonexistent/r.json -- true", "/nonexistent/r.json: cannot be written"),
        ("--libraries glibc", "<PROGRAM>"),
    ] {
        refused(&mut harness(&format!("preload {arguments}")), wanted);
    }
}
