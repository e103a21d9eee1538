//! The library at every moment of a process, under many threads, and its own interface.

mod common;

use common::{GLIBC, OURS, command, compile, run, same_on_both};
use std::time::Duration;

#[test]
fn serves_before_main_and_after_it_in_children_and_under_limits() {
    let program = compile("life.c", &[]);
    // Memory that its own limit refuses is explained, once.
    let line = "hakmem: 3145744 bytes refused, ENOMEM: RLIMIT_AS is 512 MiB and used up: raise it (ulimit -v)\n";
    for (malloc_of, stderr) in [(GLIBC, ""), (OURS, line)] {
        let ended = run(&mut command(&program, malloc_of), Duration::from_secs(300));
        assert!(ended.status.is_some_and(|s| s.success()), "{ended:?}");
        assert_eq!(ended.stdout, "atexit\ndestructor\nlife goes on\n");
        assert_eq!(ended.stderr, stderr, "on {malloc_of}");
    }
}

#[test]
fn interrupted_threads_hand_blocks_on() {
    same_on_both("stress.c", &[], "no block was lost\n");
}

#[test]
fn ten_thousand_forks_out_of_a_threaded_process() {
    let program = compile("storm.c", &[]);
    let ended = run(&mut command(&program, OURS), Duration::from_secs(60));
    assert_eq!(ended.output(), "the storm is over\n");
}

#[test]
fn loaded_and_unloaded_while_its_threads_live_on() {
    let program = compile("loads.c", &[]);
    let ended = run(
        command(&program, GLIBC).arg(common::library()),
        Duration::from_secs(60),
    );
    assert_eq!(ended.output(), "loaded and gone\n");
}

#[test]
fn the_interface_of_the_header() {
    let library = common::library();
    let dir = library.parent().expect("a file has a directory").display();
    let program = compile(
        "api.c",
        &[
            "-Wno-deprecated-declarations",
            &format!("-L{dir}"),
            "-lhakmem",
            &format!("-Wl,-rpath,{dir}"),
        ],
    );
    // Linked with it, nothing has to be preloaded.
    let ended = run(
        command(&program, OURS).env_remove("LD_PRELOAD"),
        Duration::from_secs(60),
    );
    assert!(ended.status.is_some_and(|s| s.success()), "{ended:?}");
    assert_eq!(ended.stdout, "interface holds\n");
    assert!(
        ended.stderr.starts_with("live ") && ended.stderr.contains("superslabs"),
        "malloc_stats writes to stderr: {ended:?}"
    );
}
