//! The example programs print the same with our allocator as with the system's.
//!
//! Each program is built twice, once per allocator; its output depends on the content of everything it allocated.

mod common;

use common::child::command;
use common::programs::folder;
use common::scale;

fn run(name: &str, arguments: &[String]) -> String {
    let output = command(folder().join(name)).args(arguments).output();
    let output = output.unwrap_or_else(|e| panic!("{name} does not start: {e}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{name}: {}: {errors}",
        output.status
    );
    assert!(errors.is_empty(), "{name} wrote to stderr: {errors}");
    String::from_utf8(output.stdout).expect("the programs print text")
}

fn same(program: &str, arguments: &[usize], lines: usize) {
    let arguments: Vec<String> = arguments.iter().map(usize::to_string).collect();
    let ours = run(program, &arguments);
    assert!(
        ours.lines().count() >= lines,
        "{program} printed too little: {ours}"
    );
    assert_eq!(
        ours,
        run(&format!("{program}_system"), &arguments),
        "{program} printed something else"
    );
}

#[test]
fn wordcount() {
    same("wordcount", &[scale(100, 8), 4], 26);
    same("wordcount", &[2, 32], 26);
}

#[test]
fn json() {
    same("json", &[scale(40_000, 5_000)], 10);
}

#[test]
fn churn() {
    same("churn", &[scale(1_000_000, 100_000)], 2);
}

#[test]
fn wrong_arguments_are_one_line_and_exit_code_2() {
    for program in ["wordcount", "json", "churn"] {
        let output = command(folder().join(program))
            .arg("many")
            .output()
            .expect("it starts");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(
            (output.status.code(), errors.lines().count()),
            (Some(2), 1),
            "{program}: {errors}"
        );
        assert!(errors.contains("many"), "{program}: {errors}");
    }
}
