//! The library at every moment of a process, under many threads, and its own interface.

mod common;

use common::{GLIBC, OURS, command, compile, run, same_on_both};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

#[test]
fn serves_before_main_and_after_it_in_children_and_under_limits() {
    let program = compile("life.c", &[]);
    // Memory that its own limit refuses is explained, once.
    let line = "hakmem: 3145728 bytes refused, ENOMEM: RLIMIT_AS is 512 MiB, which leaves too little: raise it (ulimit -v)\n";
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
fn a_process_that_made_no_thread_works_as_one() {
    let program = compile("alone.c", &[]);
    let ended = run(&mut command(&program, OURS), Duration::from_secs(120));
    assert_eq!(ended.output(), "alone\n");
}

#[test]
fn the_process_ends_with_its_last_thread_though_main_ended_before() {
    let program = compile("first_ends.c", &[]);
    // If every block is checked, no thread has a heap that its end would give up.
    for one_in in ["256", "1"] {
        // With this delay the maintenance thread would wait for hours.
        let mut command = command(&program, OURS);
        let command = command
            .env("HAKMEM_PURGE_DELAY_MS", "3600000")
            .env("HAKMEM_CHECK_ONE_IN", one_in);
        let ended = run(command, Duration::from_secs(60));
        assert_eq!(
            ended.output(),
            "the last thread ends the process\n",
            "one in {one_in}"
        );
    }
}

#[test]
fn what_ended_threads_left_is_taken_again() {
    let program = compile("left_by_ended.c", &[]);
    for case in ["first", "trimmed"] {
        let ended = run(command(&program, OURS).arg(case), Duration::from_secs(60));
        assert_eq!(ended.output(), "taken again\n", "{case}");
    }
}

#[test]
fn what_lay_idle_when_a_second_thread_began_goes_back() {
    let program = compile("second_thread.c", &[]);
    let ended = run(&mut command(&program, OURS), Duration::from_secs(60));
    assert_eq!(ended.output(), "given back\n");
}

#[test]
fn no_thread_is_started_while_the_c_library_frees_what_ended_ones_had() {
    let program = compile("freed_by_loader.c", &[]);
    // From how much on it is started depends on what else is idle.
    for kib in (3000..4200).step_by(100) {
        let mut command = command(&program, OURS);
        let ended = run(command.arg(kib.to_string()), Duration::from_secs(60));
        assert_eq!(ended.output(), "all joined\n", "{kib} KiB idle");
    }
}

/// What the kernel says of the process by the number of its first thread ends with that.
#[test]
fn huge_pages_follow_evidence_though_main_ended_before() {
    let program = compile("filled_after.c", &[]);
    let mut command = command(&program, OURS);
    let command = command.env("HAKMEM_THP", "auto");
    let ended = run(command, Duration::from_secs(60));
    assert_eq!(ended.output(), "most ask for huge pages\n");
}

#[test]
fn what_last_destructors_held_is_not_lost_by_a_fork() {
    let program = compile("late.c", &[]);
    let mut command = command(&program, OURS);
    let ended = run(command.env("HAKMEM_STATS", "1"), Duration::from_secs(300));
    assert!(ended.status.is_some_and(|s| s.success()), "{ended:?}");
    assert_eq!(ended.stdout, "nothing is lost\n");
    let stats = ended.stderr;
    let heaps = stats.lines().find_map(|line| line.strip_prefix("heaps"));
    let live = heaps.and_then(|line| line.split_whitespace().next()?.parse::<usize>().ok());
    assert!(live.is_some_and(|live| live <= 3), "{stats}");
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

/// KiB that are resident of the library's code and of its file in all, and KiB that the process has written: the medians of five
/// processes, as addresses decide how much the kernel maps around a page, and its count of written pages is a little behind.
fn small(malloc_of: &str, how: &[&str]) -> [u64; 3] {
    // Of two tests that compile it at once, one would find it written while it starts it.
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let program = compile("small.c", &[]);
    let figures: [[u64; 3]; 5] = std::array::from_fn(|_| {
        let mut command = command(&program, malloc_of);
        let ended = run(command.args(how), Duration::from_secs(60));
        let text = ended.output();
        let mut words = text.split_whitespace().map(str::parse::<u64>);
        std::array::from_fn(|_| words.next().expect("three").expect("numbers"))
    });
    std::array::from_fn(|which| {
        let mut of_each = figures.map(|three| three[which]);
        of_each.sort();
        of_each[2]
    })
}

/// A slab for each of many sizes is more than a MiB of slabs, but not of blocks: none is checked yet, as one is where all are.
#[test]
fn many_sizes_are_not_much_memory() {
    let program = compile("sizes.c", &[]);
    for (one_in, checked) in [("2", "0"), ("1", "64")] {
        let mut command = command(&program, OURS);
        command.env("HAKMEM_CHECK_ONE_IN", one_in);
        let ended = run(&mut command, Duration::from_secs(60));
        assert_eq!(ended.output().trim(), checked, "{one_in}");
    }
}

/// What a start runs has a mapping of its own, 60 KiB, and what it reads is in the 24 KiB that the loader reads. In any other order
/// than that of order.ld the whole code is resident, 300 KiB. A program of more than these few blocks faults in 64 KiB more.
#[test]
fn a_small_process_has_little_resident() {
    let [_, none, theirs] = small(GLIBC, &[]);
    let [code, library, ours] = small(OURS, &[]);
    assert_eq!(none, 0);
    assert!((1..=60).contains(&code), "{code} KiB of code");
    assert!(
        library <= code + 24,
        "{library} KiB of the library, {code} of it code"
    );
    // The 180 KiB of a hello-world and, as glibc puts all ten blocks on one OS page, a page for the size of each.
    assert!(
        library + ours <= theirs + 180 + 9 * 4,
        "{library} KiB of the library and {ours} KiB of its own, {theirs} under glibc"
    );
}

/// What runs in the child of a fork is among the code of a start: the rest, 64 KiB at once, is for those that do more. Servers
/// have a child for each client, and most of them wait.
#[test]
fn a_forked_child_runs_no_more_code_than_a_start() {
    let [code, ..] = small(OURS, &["in a child"]);
    assert!((1..=60).contains(&code), "{code} KiB of code");
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

#[test]
fn the_smallest_stack_is_enough_for_every_question() {
    let program = compile("small_stack.c", &[]);
    for stats in ["0", "1", "json"] {
        let mut command = command(&program, OURS);
        let ended = run(command.env("HAKMEM_STATS", stats), Duration::from_secs(60));
        assert!(ended.status.is_some_and(|s| s.success()), "{ended:?}");
        assert_eq!(ended.stdout, "small stacks will do\n");
        let printed = ended
            .stderr
            .matches("hakmem: statistics of process")
            .count();
        assert_eq!(printed, usize::from(stats == "1"), "{ended:?}");
    }
}

/// Programs that check their output close stderr in `exit` before anybody's statistics, as the coreutils do.
#[test]
fn statistics_of_a_program_that_closes_stderr_are_printed_all_the_same() {
    let program = compile("closes.c", &[]);
    for how in ["at exit", "at once", "reused"] {
        let mut command = command(&program, OURS);
        command.arg(how).env("HAKMEM_STATS", "1");
        let ended = run(&mut command, Duration::from_secs(60));
        assert!(ended.status.is_some_and(|s| s.success()), "{ended:?}");
        assert!(
            ended.stderr.starts_with("hakmem: statistics of process"),
            "{how}: {ended:?}"
        );
    }
    // Whoever closes every descriptor has none left, and nothing is written to what took their numbers.
    let mut command = command(&program, OURS);
    command.arg("all").env("HAKMEM_STATS", "1");
    let ended = run(&mut command, Duration::from_secs(60));
    assert!(ended.status.is_some_and(|s| s.success()), "{ended:?}");
    assert_eq!(ended.stderr, "", "{ended:?}");
}

/// A hundred processes write into one pipe at the same time, each its statistics in one piece.
#[test]
fn statistics_of_many_processes_do_not_mix() {
    let program = compile("closes.c", &[]);
    let mut shell = command(std::path::Path::new("/bin/sh"), GLIBC);
    shell
        .arg("-c")
        .arg("for i in $(seq 100); do LD_PRELOAD=\"$LIBRARY\" HAKMEM_STATS=1 \"$PROGRAM\" not & done; wait")
        .env("LIBRARY", common::library())
        .env("PROGRAM", &program);
    let ended = run(&mut shell, Duration::from_secs(120));
    assert!(ended.status.is_some_and(|s| s.success()), "{ended:?}");
    let texts: Vec<&str> = ended
        .stderr
        .split("hakmem: statistics of process ")
        .skip(1)
        .collect();
    assert_eq!(texts.len(), 100, "{}", ended.stderr);
    let lines = |text: &str| text.lines().count();
    for text in &texts {
        assert_eq!(lines(text), lines(texts[0]), "{text}\n---\n{}", texts[0]);
    }
}
