//! The rules of the family, by C programs: what glibc does as well is run on both.

mod common;

use common::{GLIBC, OURS, command, compile, run, same_on_both, scratch};
use std::time::Duration;

#[test]
fn the_malloc_family_obeys_glibcs_rules() {
    same_on_both("rules.c", &[], "rules hold\n");
}

#[test]
fn newer_rules_hold_too() {
    let program = compile("stricter.c", &[]);
    let ended = run(&mut command(&program, OURS), Duration::from_secs(60));
    assert_eq!(ended.output(), "stricter rules hold\n");
}

#[test]
fn sized_frees_take_what_they_may_be_given() {
    let program = compile("sized.c", &[]);
    let limit = Duration::from_secs(60);
    let ended = run(&mut command(&program, OURS), limit);
    assert_eq!(ended.output(), "sizes agree\n");
    let ended = run(command(&program, OURS).arg("refused"), limit);
    let line = ": the layout's size class is not the block's";
    assert!(
        ended.stderr.contains(line) && ended.stdout.is_empty(),
        "{ended:?}"
    );
}

#[test]
fn operators_new_and_delete_in_every_form() {
    same_on_both("operators.cpp", &["-std=c++17"], "operators hold\n");
}

#[test]
fn replaced_operators_are_called_by_the_others() {
    same_on_both("replaced.cpp", &["-std=c++17"], "replacements are called\n");
}

#[test]
fn sizes_are_not_compared_where_a_form_of_new_was_replaced() {
    for form in 1..=4 {
        let form = format!("-DFORM={form}");
        let program = compile("padded.cpp", &["-std=c++17", &form]);
        for malloc_of in [GLIBC, OURS] {
            let mut command = command(&program, malloc_of);
            command.env("HAKMEM_CHECK_ONE_IN", "1");
            let ended = run(&mut command, Duration::from_secs(30));
            assert_eq!(ended.output(), "padded\n", "{form} on {malloc_of}");
        }
    }
}

#[test]
fn the_loaders_blocks_are_forgotten_and_other_foreign_ones_end_the_process() {
    let program = compile(
        "foreign.c",
        &["-Wno-free-nonheap-object", "-Wno-use-after-free"],
    );
    let limit = Duration::from_secs(30);
    let ended = run(command(&program, OURS).arg("loader"), limit);
    assert_eq!(ended.output(), "forgotten\n");
    for wrong in ["stack", "twice", "middle"] {
        let ended = run(command(&program, OURS).arg(wrong), limit);
        assert_eq!(ended.signal(), Some(6), "{wrong}: {ended:?}");
        assert_eq!(ended.stdout, "", "{wrong}");
        let lines: Vec<_> = ended.stderr.lines().collect();
        assert!(
            matches!(lines[..], [line, ..] if line.starts_with("hakmem: free of 0x")),
            "{wrong}: {ended:?}"
        );
    }
}

#[test]
fn a_plugins_operator_new_throws_in_a_program_without_a_cxx_library() {
    let plugin = compile("plugin.cpp", &["-shared", "-fPIC"]);
    let host = compile("host.c", &[]);
    for malloc_of in [GLIBC, OURS] {
        let ended = run(
            command(&host, malloc_of).arg(&plugin),
            Duration::from_secs(30),
        );
        assert_eq!(ended.output(), "thrown and caught\n", "on {malloc_of}");
    }
}

/// A library opened with RTLD_DEEPBIND uses the same malloc as the program, and is itself the one that asks when it opens
/// another by its own RUNPATH.
#[test]
fn a_library_opened_with_deepbind_exchanges_blocks() {
    let folder = scratch("deepbind");
    std::fs::create_dir_all(folder.join("inner")).expect("a folder of the test's own");
    let host = folder.join("host");
    let (outer, inner) = (folder.join("libouter.so"), folder.join("inner/libinner.so"));
    let rpath = "-Wl,--enable-new-dtags,-rpath,$ORIGIN/inner";
    for (file, flags) in [
        (&host, &[][..]),
        (&outer, &["-DLIBRARY", "-shared", "-fPIC", rpath]),
        (&inner, &["-DLIBRARY", "-shared", "-fPIC"]),
    ] {
        std::fs::rename(compile("deepbind.c", flags), file).expect("on the same file system");
    }
    let on = |malloc_of, keep: &str| {
        let mut command = command(&host, malloc_of);
        command.arg(&outer).env("HAKMEM_DEEPBIND", keep);
        run(&mut command, Duration::from_secs(30))
    };
    for malloc_of in [GLIBC, OURS] {
        assert_eq!(on(malloc_of, "0").output(), "exchanged\n", "on {malloc_of}");
    }
    // The knob keeps the flag, and the program is able to tell.
    let kept = on(OURS, "1");
    assert!(kept.stderr.contains("malloc is of libc.so.6"), "{kept:?}");
}

/// The thread that populates ahead of demand is started while the loader's lock is held by a thread that waits.
#[test]
fn a_constructor_may_wait_for_a_thread_that_grows() {
    let host = compile("constructor.c", &[]);
    let host_moved = host.with_extension("host");
    std::fs::rename(&host, &host_moved).expect("a name of its own, for both are of one source");
    let plugin = compile("constructor.c", &["-DPLUGIN", "-shared", "-fPIC"]);
    for malloc_of in [GLIBC, OURS] {
        let ended = run(
            command(&host_moved, malloc_of)
                .arg(&plugin)
                .env("HAKMEM_SS_PREFAULT", "async"),
            Duration::from_secs(60),
        );
        assert_eq!(ended.output(), "loaded\n", "on {malloc_of}");
    }
}
