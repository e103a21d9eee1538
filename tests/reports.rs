//! What follows the first line of a mistake's report: the calls that led to it, wherever they ran, and where it goes.
//!
//! Behaviours imitated:
//! - mistakes in threads with the smallest stack there is, on the stacks of coroutines, in signal handlers with a stack of their
//!   own, and in code that keeps anything in the frame pointer;
//! - several threads that make mistakes at once; a handler of SIGABRT that makes another;
//! - programs without stderr, with a reader that goes away, with a file for reports that is there, cannot be, or is relative.

mod common;

use common::blocks::{alloc, free};
use common::child::{self, Child, Ended};
use hakmem_alloc::Hakmem;
use std::ffi::c_void;
use std::hint::black_box;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::ptr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

#[global_allocator]
static HAKMEM: Hakmem = Hakmem::new();

/// Frees a block twice.
#[inline(never)]
fn inner() {
    let block = alloc(200);
    free(block);
    free(block);
    black_box(());
}

#[inline(never)]
fn middle() {
    inner();
    black_box(());
}

#[inline(never)]
extern "C" fn outer() {
    middle();
    black_box(());
}

extern "C" fn outer_of_thread(_: *mut c_void) -> *mut c_void {
    outer();
    ptr::null_mut()
}

extern "C" fn outer_of_handler(_: i32) {
    outer();
}

#[inline(never)]
fn raise() {
    // SAFETY: a signal whose handler is `outer_of_handler`.
    unsafe { libc::raise(libc::SIGUSR1) };
    black_box(());
}

/// Tells the parent where the functions are.
fn expect() {
    child::report("inner", inner as *const () as usize);
    child::report("middle", middle as *const () as usize);
    child::report("outer", outer as *const () as usize);
    child::report("raise", raise as *const () as usize);
}

/// The addresses of the calls that the report tells, under the heading.
fn calls(text: &str, heading: &str) -> Vec<usize> {
    let lines = text.lines().skip_while(|line| *line != heading).skip(1);
    let frames = lines.map_while(|line| line.strip_prefix("hakmem:   #"));
    let hex = |frame: &str| {
        let digits = frame.split_whitespace().nth(1).expect("an address");
        usize::from_str_radix(digits.trim_start_matches("0x"), 16).expect("a number")
    };
    frames.map(hex).collect()
}

const THIS: &str = "hakmem: this call:";

/// Asserts that the functions called each other, the first named last. A call is of the function that begins next below it.
#[track_caller]
fn assert_chain(ended: &Ended, functions: &[&str]) {
    ended.killed_by(libc::SIGABRT);
    let calls = calls(&said(ended), THIS);
    let starts = ["inner", "middle", "outer", "raise"].map(|name| ended.value::<usize>(name));
    let at = |name: &&str| {
        let start: usize = ended.value(name);
        let is_of = |call: &usize| {
            let nearest = starts.iter().filter(|&start| start <= call).max();
            nearest == Some(&start) && call - start < 400
        };
        let found = calls.iter().position(is_of);
        found.unwrap_or_else(|| panic!("{name} is not among the calls: {ended:?}"))
    };
    let places: Vec<usize> = functions.iter().map(at).collect();
    assert!(places.is_sorted(), "{places:?} {ended:?}");
    let neighbours = places.windows(2).take(2).all(|pair| pair[1] == pair[0] + 1);
    assert!(neighbours, "{places:?} {ended:?}");
    assert_form(&said(ended));
}

/// What the process wrote to stderr, without what an emulator says of its end.
fn said(ended: &Ended) -> String {
    let lines = ended
        .stderr
        .lines()
        .filter(|line| !line.starts_with("qemu: "));
    lines.flat_map(|line| [line, "\n"]).collect()
}

/// Each line begins as it should, and the first says what happened.
#[track_caller]
fn assert_form(text: &str) {
    assert!(text.starts_with("hakmem: double free of 0x"), "{text}");
    assert!(
        text.lines().all(|line| line.starts_with("hakmem: ")),
        "{text}"
    );
    let last = text.lines().last().expect("lines");
    assert!(
        last.starts_with("hakmem: next: ") && text.ends_with('\n'),
        "{text}"
    );
}

const FUNCTIONS: [&str; 3] = ["inner", "middle", "outer"];

#[test]
fn the_calls_that_led_to_it_are_told() {
    const TEST: &str = "the_calls_that_led_to_it_are_told";
    if child::case().is_some() {
        expect();
        return outer();
    }
    let ended = Child::of(TEST, "plain").run();
    assert_chain(&ended, &FUNCTIONS);
    // The command names the functions, if it is there.
    let text = said(&ended);
    let command = text.lines().find_map(|line| {
        line.strip_prefix("hakmem:   ")
            .filter(|line| line.starts_with("addr2line "))
    });
    let command = command.unwrap_or_else(|| panic!("no command: {ended:?}"));
    let exe = std::env::current_exe().expect("the path of this program");
    assert!(command.contains(exe.to_str().expect("UTF-8")), "{command}");
    let done = child::command("sh").arg("-c").arg(command).output();
    match done {
        Ok(done) if done.status.success() => {
            let text = String::from_utf8_lossy(&done.stdout).into_owned();
            for name in FUNCTIONS {
                assert!(
                    text.contains(&format!("reports::{name} at ")),
                    "{name}: {text}"
                );
            }
        }
        _ => println!("no addr2line here: {done:?}"),
    }
}

/// Memory for a stack, which stays for good, with memory that nobody may touch on both sides.
fn room(bytes: usize) -> *mut u8 {
    const BESIDE: usize = 64 << 10;
    // SAFETY: a mapping of its own.
    unsafe {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let all = bytes + 2 * BESIDE;
        let at = libc::mmap(ptr::null_mut(), all, libc::PROT_NONE, flags, -1, 0);
        assert_ne!(at, libc::MAP_FAILED);
        let at = at.byte_add(BESIDE);
        assert_eq!(
            libc::mprotect(at, bytes, libc::PROT_READ | libc::PROT_WRITE),
            0
        );
        at.cast()
    }
}

#[test]
fn the_stack_may_be_small_or_somewhere_else() {
    const TEST: &str = "the_stack_may_be_small_or_somewhere_else";
    let bytes = 128 << 10;
    match child::case().as_deref() {
        // SAFETY: plain calls of the C library on locals and on mappings that stay.
        Some("thread") => unsafe {
            expect();
            let mut attr = std::mem::zeroed();
            libc::pthread_attr_init(&mut attr);
            let least = libc::sysconf(libc::_SC_THREAD_STACK_MIN) as usize;
            // What is not optimised takes more.
            let least = least * if cfg!(debug_assertions) { 4 } else { 1 };
            assert_eq!(libc::pthread_attr_setstacksize(&mut attr, least), 0);
            let mut thread = std::mem::zeroed();
            assert_eq!(
                libc::pthread_create(&mut thread, &attr, outer_of_thread, ptr::null_mut()),
                0
            );
            libc::pthread_join(thread, ptr::null_mut());
            return;
        },
        // SAFETY: as above.
        Some("handler") => unsafe {
            expect();
            let stack = libc::stack_t {
                ss_sp: room(bytes).cast(),
                ss_flags: 0,
                ss_size: bytes,
            };
            assert_eq!(libc::sigaltstack(&stack, ptr::null_mut()), 0);
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = outer_of_handler as *const () as usize;
            action.sa_flags = libc::SA_ONSTACK;
            assert_eq!(libc::sigaction(libc::SIGUSR1, &action, ptr::null_mut()), 0);
            return raise();
        },
        // SAFETY: as above.
        #[cfg(all(target_env = "gnu", target_arch = "x86_64"))]
        Some("coroutine") => unsafe {
            expect();
            let mut context: libc::ucontext_t = std::mem::zeroed();
            let mut back = context;
            assert_eq!(libc::getcontext(&mut context), 0);
            context.uc_stack = libc::stack_t {
                ss_sp: room(bytes).cast(),
                ss_flags: 0,
                ss_size: bytes,
            };
            context.uc_link = &mut back;
            libc::makecontext(&mut context, outer, 0);
            libc::swapcontext(&mut back, &context);
            return;
        },
        Some(other) => panic!("unknown case {other}"),
        None => {}
    }
    assert_chain(&Child::of(TEST, "thread").run(), &FUNCTIONS);
    let ended = Child::of(TEST, "handler").run();
    // Only there the table for the C library's end of a handler can be relied on.
    if cfg!(all(target_env = "gnu", target_arch = "x86_64")) {
        assert_chain(&ended, &["inner", "middle", "outer", "raise"]);
        assert_chain(&Child::of(TEST, "coroutine").run(), &FUNCTIONS);
    } else {
        assert_chain(&ended, &FUNCTIONS);
    }
}

/// Code that compilers have no tables for, and whose frame pointer is anything.
#[cfg(target_arch = "x86_64")]
mod wild {
    use super::*;

    std::arch::global_asm!(
        ".pushsection .text",
        "call_with_frame_pointer:",
        "push rbp",
        "mov rbp, rdi",
        "call rsi",
        "pop rbp",
        "ret",
        ".popsection",
    );

    unsafe extern "C" {
        fn call_with_frame_pointer(value: usize, function: extern "C" fn());
    }

    static END: AtomicUsize = AtomicUsize::new(0);
    static CASE: Mutex<String> = Mutex::new(String::new());

    extern "C" fn body(_: *mut c_void) -> *mut c_void {
        let end = END.load(Ordering::Relaxed);
        let mut local = [0usize; 2];
        local[0] = local.as_ptr().addr();
        local[1] = 0x1000;
        let value = match CASE.lock().expect("not poisoned").as_str() {
            "above" => end,
            "far above" => end + (16 << 10),
            "last word" => end - 8,
            "odd" => end - 4095,
            "null" => 0,
            "small" => 24,
            "below" => end - SIZE + 64,
            "kernel" => 0xffff_8000_0000_0000,
            "not canonical" => 0x8000_0000_0000_0000,
            "itself" => local.as_ptr().addr(),
            other => panic!("unknown case {other}"),
        };
        // SAFETY: the function restores the register. What it calls does not return.
        unsafe { call_with_frame_pointer(value, outer) };
        black_box(&local);
        ptr::null_mut()
    }

    const SIZE: usize = 256 << 10;

    #[test]
    fn a_frame_pointer_that_is_none_ends_the_stack_and_faults_nowhere() {
        const TEST: &str = "wild::a_frame_pointer_that_is_none_ends_the_stack_and_faults_nowhere";
        if let Some(case) = child::case() {
            expect();
            *CASE.lock().expect("not poisoned") = case;
            let stack = room(SIZE);
            END.store(stack.addr() + SIZE, Ordering::Relaxed);
            // SAFETY: plain calls of the C library on locals, and a stack that stays.
            unsafe {
                let mut attr = std::mem::zeroed();
                libc::pthread_attr_init(&mut attr);
                assert_eq!(
                    libc::pthread_attr_setstack(&mut attr, stack.cast(), SIZE),
                    0
                );
                let mut thread = std::mem::zeroed();
                assert_eq!(
                    libc::pthread_create(&mut thread, &attr, body, ptr::null_mut()),
                    0
                );
                libc::pthread_join(thread, ptr::null_mut());
            }
            return;
        }
        for case in [
            "above",
            "far above",
            "last word",
            "odd",
            "null",
            "small",
            "below",
            "kernel",
            "not canonical",
            "itself",
        ] {
            let ended = Child::of(TEST, case).run();
            assert_chain(&ended, &FUNCTIONS);
            assert!(
                ended
                    .stderr
                    .contains("hakmem:   (older calls are not known"),
                "{case}: {ended:?}"
            );
        }
    }
}

#[test]
fn of_several_threads_one_reports() {
    const TEST: &str = "of_several_threads_one_reports";
    if child::case().is_some() {
        static WAITING: AtomicUsize = AtomicUsize::new(0);
        let threads: Vec<_> = (0..6)
            .map(|_| {
                std::thread::spawn(|| {
                    WAITING.fetch_add(1, Ordering::Relaxed);
                    while WAITING.load(Ordering::Relaxed) < 6 {
                        std::thread::yield_now();
                    }
                    outer();
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| drop(thread.join()));
        return;
    }
    for _ in 0..5 {
        let ended = Child::of(TEST, "six").run();
        ended.killed_by(libc::SIGABRT);
        assert_form(&said(&ended));
        for once in ["hakmem: double free", THIS, "hakmem: next:"] {
            assert_eq!(said(&ended).matches(once).count(), 1, "{once}: {ended:?}");
        }
    }
}

#[test]
fn a_handler_of_sigabrt_that_makes_a_mistake_gets_a_line() {
    const TEST: &str = "a_handler_of_sigabrt_that_makes_a_mistake_gets_a_line";
    if child::case().is_some() {
        // SAFETY: the handler's mistake is what is tested.
        unsafe { libc::signal(libc::SIGABRT, outer_of_handler as *const () as usize) };
        return outer();
    }
    let ended = Child::of(TEST, "again").run();
    ended.killed_by(libc::SIGABRT);
    assert_eq!(
        said(&ended).matches("hakmem: double free").count(),
        2,
        "{ended:?}"
    );
    assert_eq!(said(&ended).matches(THIS).count(), 1, "{ended:?}");
}

/// A folder of one test's own.
fn folder(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join(format!("reports-{name}-{}", std::process::id()));
    // Usually there is nothing there.
    let _ = std::fs::remove_dir_all(&path);
    std::fs::create_dir_all(&path).expect("a folder below target/");
    path
}

#[test]
fn a_file_gets_the_report_too() {
    const TEST: &str = "a_file_gets_the_report_too";
    const KNOB: &str = "HAKMEM_REPORT_FILE";
    match child::case().as_deref() {
        // SAFETY: nothing else uses the descriptor.
        Some("closed") => unsafe {
            libc::close(2);
            return outer();
        },
        Some("moved") => {
            std::env::set_current_dir(std::env::var_os("FOLDER").expect("set")).expect("there");
            return outer();
        }
        Some(_) => return outer(),
        None => {}
    }
    let folder = folder("file");
    let file = folder.join("report");
    let in_folder = |path: &Path| path.to_str().expect("UTF-8").to_owned();
    let read = |file: &Path| std::fs::read_to_string(file).expect("written");

    std::fs::write(&file, "before\n").expect("writable");
    let ended = Child::of(TEST, "appended")
        .env(KNOB, &in_folder(&file))
        .run();
    ended.killed_by(libc::SIGABRT);
    assert_form(&said(&ended));
    assert_eq!(read(&file), format!("before\n{}", said(&ended)));

    // A program that closed its stderr tells the file alone.
    let ended = Child::of(TEST, "closed")
        .env(KNOB, &in_folder(&folder.join("%p")))
        .run();
    ended.killed_by(libc::SIGABRT);
    assert_eq!(said(&ended), "", "{ended:?}");
    let named = std::fs::read_dir(&folder).expect("there").flatten();
    let named: Vec<_> = named
        .map(|entry| entry.path())
        .filter(|path| *path != file)
        .collect();
    assert_eq!(named.len(), 1, "{named:?}");
    let text = read(&named[0]);
    assert_form(&text);
    let pid = named[0]
        .file_name()
        .and_then(|name| name.to_str())
        .expect("a number");
    assert!(
        text.contains(&format!("\nhakmem: process {pid}, thread ")),
        "{text}"
    );

    // A relative path is one from the folder at the time of the report.
    let ended = Child::of(TEST, "moved")
        .env(KNOB, "relative")
        .env("FOLDER", &in_folder(&folder));
    let ended = ended.run();
    ended.killed_by(libc::SIGABRT);
    assert_eq!(read(&folder.join("relative")), said(&ended));

    // What cannot be written to is named, and the report goes on.
    let below = in_folder(&file.join("below"));
    for (path, error) in [(in_folder(&folder), "errno 21"), (below, "errno 20")] {
        let ended = Child::of(TEST, "unwritable").env(KNOB, &path).run();
        ended.killed_by(libc::SIGABRT);
        assert_form(&said(&ended));
        let line = format!("hakmem: {KNOB}={path}: {error}; the report is on stderr only");
        assert_eq!(said(&ended).lines().nth(1), Some(&*line), "{ended:?}");
    }
    std::fs::remove_dir_all(&folder).expect("removable");
}

/// Starts `test` again, in a child process whose stderr is the caller's to read.
fn start(test: &str, stderr: Stdio) -> std::process::Child {
    let exe = std::env::current_exe().expect("the path of this program");
    child::command(exe)
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env("ALLOC_TEST_CASE", "reader")
        .stdout(Stdio::null())
        .stderr(stderr)
        .spawn()
        .expect("this program starts")
}

/// A reader that goes away after the first line does not change how the process ends.
#[test]
fn a_reader_may_go_away() {
    const TEST: &str = "a_reader_may_go_away";
    if child::case().is_some() {
        // SAFETY: as the default of a program that is not Rust's.
        unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
        return outer();
    }
    use std::io::{BufRead, BufReader};
    for _ in 0..5 {
        let mut child = start(TEST, Stdio::piped());
        let mut first = String::new();
        let mut reader = BufReader::with_capacity(64, child.stderr.take().expect("a pipe"));
        reader.read_line(&mut first).expect("readable");
        drop(reader);
        let status = child.wait().expect("ends");
        assert!(first.starts_with("hakmem: double free of 0x"), "{first}");
        assert_eq!(status.signal(), Some(libc::SIGABRT), "{status}");
    }
}

/// [`outer`], `more` calls deeper.
#[inline(never)]
fn deep(more: usize) {
    if more == 0 {
        outer();
    } else {
        deep(more - 1);
    }
    black_box(());
}

/// A parent that waits for its child before it reads does not keep it from its end.
#[test]
fn a_reader_may_wait() {
    const TEST: &str = "a_reader_may_wait";
    if child::case().is_some() {
        return deep(60);
    }
    use std::io::Read;
    use std::os::fd::AsRawFd;
    let (mut reader, writer) = std::io::pipe().expect("a pipe");
    // SAFETY: a call on a descriptor of ours.
    let room = unsafe { libc::fcntl(writer.as_raw_fd(), libc::F_SETPIPE_SZ, 4096) };
    let mut child = start(TEST, writer.into());
    let status = (0..300_000).find_map(|_| {
        std::thread::sleep(std::time::Duration::from_millis(1));
        child.try_wait().expect("a child of ours")
    });
    let _ = child.kill();
    let signal = status.and_then(|status| status.signal());
    assert_eq!(signal, Some(libc::SIGABRT), "{status:?}");
    let mut text = String::new();
    reader.read_to_string(&mut text).expect("text");
    assert!(text.starts_with("hakmem: double free of 0x"), "{text}");
    // Else there was room for all of it, and the child did not meet a full pipe.
    let is_small = usize::try_from(room).is_ok_and(|room| room <= 4096);
    assert!(!is_small || !text.contains("hakmem: next: "), "{text}");
}

/// A file that is not to grow does not change what ends the process.
#[test]
fn a_limit_on_files_keeps_the_signal() {
    const TEST: &str = "a_limit_on_files_keeps_the_signal";
    if child::case().is_some() {
        let none = libc::rlimit {
            rlim_cur: 0,
            rlim_max: 0,
        };
        // SAFETY: a plain call.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_FSIZE, &none) }, 0);
        return outer();
    }
    let folder = folder("limit");
    let file = folder.join("report");
    let ended = Child::of(TEST, "limited")
        .env("HAKMEM_REPORT_FILE", file.to_str().expect("UTF-8"))
        .run();
    ended.killed_by(libc::SIGABRT);
    assert_form(&said(&ended));
    std::fs::remove_dir_all(&folder).expect("removable");
}
