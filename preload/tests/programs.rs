//! Real programs, with the library and without: the same output, and the library's own statistics prove that it served.
//! What is needed comes from Debian's packages: python3, libpython3.11-testsuite (or of whatever version python3 is),
//! sqlite3, php-cli, redis-server, redis-tools, gcc, git, rustc.

mod common;

use common::{PATIENCE, crate_dir, library, run, scratch};
use std::fmt::Write as _;
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(60);

/// A directory in which nothing is left from before.
fn empty(name: &str) -> PathBuf {
    let dir = scratch("real").join(name);
    // Usually there is nothing there.
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir).expect("a directory below target/");
    dir
}

fn program(path: &str, package: &str) -> Command {
    assert!(
        Path::new(path).exists(),
        "{path} is missing: install Debian's package {package}"
    );
    let mut command = Command::new(path);
    command.env_remove("LD_PRELOAD").env("LC_ALL", "C");
    // A shell's background job ignores SIGINT, and what it starts inherits that; Python's own tests send themselves one.
    // SAFETY: signal(2) may be called between fork and exec.
    unsafe {
        command.pre_exec(|| {
            libc::signal(libc::SIGINT, libc::SIG_DFL);
            Ok(())
        });
    }
    command
}

/// Puts the library in front, with statistics of every process into `dir`.
fn on_ours<'a>(command: &'a mut Command, dir: &Path) -> &'a mut Command {
    command
        .env("LD_PRELOAD", library())
        .env("HAKMEM_STATS", "json")
        .env("HAKMEM_STATS_FILE", dir.join("%p.json"))
}

/// Fails unless some process below `dir` was served with at least `bytes`.
#[track_caller]
fn served(dir: &Path, bytes: u64) {
    let mut most = None;
    for entry in fs::read_dir(dir).expect("made by the test") {
        let text = fs::read_to_string(entry.expect("an entry").path()).expect("plain text");
        let (_, rest) = text.split_once("\"bytes\":{\"mapped\":").expect("our JSON");
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        let mapped: u64 = digits.parse().expect("a number");
        let (_, rest) = rest.split_once("\"returned\":").expect("our JSON");
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        most = most.max(Some(mapped + digits.parse::<u64>().expect("a number")));
    }
    let most = most.expect("no process printed statistics: the library was not there");
    assert!(
        most >= bytes,
        "the largest process got {most} bytes of the library, expected {bytes}"
    );
}

/// Runs what `make` makes on glibc's malloc and on ours; both outputs must be the same. Answers it.
#[track_caller]
fn same(name: &str, bytes: u64, make: impl Fn(&Path) -> Command) -> String {
    let stats = empty(&format!("{name}-stats"));
    let mut outputs = Vec::new();
    for ours in [false, true] {
        let dir = empty(&format!("{name}-{}", if ours { "ours" } else { "glibc" }));
        let mut command = make(&dir);
        command.current_dir(&dir);
        if ours {
            on_ours(&mut command, &stats);
        }
        outputs.push(run(&mut command, LIMIT).output());
    }
    assert_eq!(
        outputs[0], outputs[1],
        "{name}: glibc on the left, the library on the right"
    );
    served(&stats, bytes);
    outputs.swap_remove(1)
}

/// `file` as both runs of `name` left it.
#[track_caller]
fn same_file(name: &str, file: &str) {
    let [glibc, ours] = ["glibc", "ours"].map(|which| {
        let path = scratch("real").join(format!("{name}-{which}")).join(file);
        fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    });
    assert!(!glibc.is_empty() && glibc == ours, "{name}: {file} differs");
}

#[test]
fn python_with_json_threads_forks_and_ctypes() {
    let said = same("python", 4 << 20, |_| {
        let mut python = program("/usr/bin/python3", "python3");
        python
            .arg(crate_dir().join("tests/programs/work.py"))
            .env("PYTHONMALLOC", "malloc")
            .env("PYTHONHASHSEED", "0");
        python
    });
    assert_eq!(said.lines().count(), 4, "{said}");
}

#[test]
fn pythons_own_tests() {
    let stats = empty("python-tests-stats");
    let mut python = program("/usr/bin/python3", "python3");
    python
        .args([
            "-m",
            "test",
            "-q",
            "-W",
            "test_json",
            "test_threading",
            "test_list",
            "test_dict",
            "test_set",
        ])
        .current_dir(empty("python-tests"))
        .env("PYTHONMALLOC", "malloc");
    let ended = run(on_ours(&mut python, &stats), LIMIT);
    assert_eq!(ended.code(), Some(0), "{ended:?}");
    assert!(ended.stdout.contains("SUCCESS"), "{ended:?}");
    served(&stats, 8 << 20);
}

#[test]
fn sqlite_builds_and_checks_a_database_of_200_mb() {
    let said = same("sqlite", 2 << 20, |_| {
        let mut sqlite = program("/usr/bin/sqlite3", "sqlite3");
        let script = crate_dir().join("tests/programs/database.sql");
        sqlite
            .arg("a.db")
            .arg(format!(".read {}", script.display()));
        sqlite
    });
    assert!(said.ends_with("1\nok\n"), "{said}");
    same_file("sqlite", "a.db");
    for which in ["glibc", "ours"] {
        let _ = fs::remove_dir_all(scratch("real").join(format!("sqlite-{which}")));
    }
}

/// Debian's PHP opens its modules with RTLD_DEEPBIND.
#[test]
fn php_with_all_its_modules() {
    let modules = same("php-modules", 1 << 20, |_| {
        let mut php = program("/usr/bin/php", "php-cli");
        php.arg("-m");
        php
    });
    for module in ["PDO", "Phar", "tokenizer"] {
        assert!(modules.lines().any(|line| line == module), "{modules}");
    }
    let said = same("php", 2 << 20, |_| {
        let mut php = program("/usr/bin/php", "php-cli");
        // Phar archives are written only if this setting allows it.
        php.args(["-d", "phar.readonly=0"])
            .arg(crate_dir().join("tests/programs/modules.php"));
        php
    });
    assert_eq!(said.lines().count(), 4, "{said}");
}

#[test]
fn gcc_compiles_a_large_file() {
    let source = empty("gcc-source").join("large.c");
    let mut text = String::from("#include <stdio.h>\n");
    for i in 0..1500 {
        write!(
            text,
            "struct s{i} {{ int a; double b; char *c; }};\nstatic int f{i}(struct s{i} *p, int n) {{ int t = 0; \
             for (int i = 0; i < n; i++) {{ t += p->a * {i} + (int)p->b; if (t & {}) t ^= n; }} return t; }}\n",
            i % 64
        )
        .expect("a string takes everything");
    }
    text.push_str("int main(void) { int r = 0;\n");
    for i in 0..1500 {
        writeln!(
            text,
            "{{ struct s{i} x = {{ {i}, 1.5, 0 }}; r += f{i}(&x, {}); }}",
            i % 7
        )
        .expect("as above");
    }
    text.push_str("printf(\"%d\\n\", r); return 0; }\n");
    fs::write(&source, text).expect("writable");
    same("gcc", 20 << 20, |_| {
        let mut gcc = program("/usr/bin/gcc", "gcc");
        gcc.args(["-O1", "-c", "-o", "large.o"]).arg(&source);
        gcc
    });
    same_file("gcc", "large.o");
}

#[test]
fn git_over_a_repository() {
    const SCRIPT: &str = "set -e; git init -q -b main .; git config gc.auto 0
for i in $(seq 40); do mkdir -p d$((i % 7)); seq $((i * 50)) | sed s/^/$i:/ > d$((i % 7))/f$i; seq $i 900 > common;
git add -A; git commit -q -m \"change $i\"; done
git log --stat --format=%H%s; git repack -adfq --threads=2; git fsck --no-progress; git grep -c 77 | sort
git diff --stat HEAD~20; git blame common | cut -c1-8 | sort | uniq -c | wc -l";
    let said = same("git", 2 << 20, |_| {
        let mut shell = program("/bin/sh", "dash");
        shell
            .args(["-c", SCRIPT])
            .env("HOME", "/nonexistent")
            .env("GIT_CONFIG_NOSYSTEM", "1");
        for who in ["AUTHOR", "COMMITTER"] {
            shell
                .env(format!("GIT_{who}_NAME"), "name")
                .env(format!("GIT_{who}_EMAIL"), "name@localhost")
                .env(format!("GIT_{who}_DATE"), "2026-01-01T00:00:00Z");
        }
        shell
    });
    assert!(said.contains("change 40"), "{said}");
}

#[test]
fn rustc_compiles_a_crate() {
    let source = empty("rustc-source").join("lib.rs");
    let mut text = String::from("use std::collections::HashMap;\nuse std::fmt::Debug;\n");
    for i in 0..400 {
        writeln!(
            text,
            "#[derive(Clone, Debug, PartialEq, Default)] pub struct S{i} {{ pub a: Vec<u{0}>, pub b: HashMap<String, i32> }}\n\
             impl S{i} {{ pub fn f<T: Debug + Ord + Clone>(&self, x: &[T]) -> Vec<(usize, T)> {{ let mut v: Vec<_> = \
             x.iter().cloned().enumerate().collect(); v.sort_by(|l, r| r.1.cmp(&l.1)); v.truncate(self.a.len()); v }}\n\
             pub fn g(&self) -> String {{ format!(\"{{:?}} {{:?}}\", self, self.f(&[\"a\", \"b\"])) }} }}",
            [8, 16, 32, 64][i % 4]
        )
        .expect("a string takes everything");
    }
    fs::write(&source, text).expect("writable");
    same("rustc", 30 << 20, |dir| {
        // Debian's: rustup's own brings its malloc along.
        let mut rustc = program("/usr/bin/rustc", "rustc");
        rustc
            .args([
                "--edition",
                "2021",
                "--crate-type",
                "rlib",
                "-C",
                "codegen-units=4",
            ])
            .args(["--emit", "metadata=lib.rmeta,link=lib.rlib"])
            // The working directory is in what it writes.
            .arg(format!("--remap-path-prefix={}=.", dir.display()))
            .arg(&source);
        rustc
    });
    same_file("rustc", "lib.rmeta");
    same_file("rustc", "lib.rlib");
}

/// A redis-server of this test's own, ended with it.
struct Redis {
    server: Child,
    socket: PathBuf,
}

impl Redis {
    fn start(dir: &Path, stats: Option<&Path>) -> Redis {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        // A socket's path is short, and nobody else's.
        let socket = std::env::temp_dir().join(format!(
            "hakmem-{}-{}.sock",
            std::process::id(),
            NUMBER.fetch_add(1, Ordering::Relaxed)
        ));
        let mut command = program("/usr/bin/redis-server", "redis-server");
        command
            .args([
                "--port",
                "0",
                "--save",
                "",
                "--enable-debug-command",
                "yes",
                "--daemonize",
                "no",
                "--unixsocket",
            ])
            .arg(&socket)
            .arg("--dir")
            .arg(dir)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        if let Some(stats) = stats {
            on_ours(&mut command, stats);
        }
        let redis = Redis {
            server: command.spawn().expect("it is executable"),
            socket,
        };
        redis.until("PONG", &["ping"]);
        redis
    }

    fn ask(&self, args: &[&str]) -> String {
        let mut cli = program("/usr/bin/redis-cli", "redis-tools");
        run(cli.arg("-s").arg(&self.socket).args(args), LIMIT).stdout
    }

    #[track_caller]
    fn until(&self, expected: &str, args: &[&str]) {
        let deadline = Instant::now() + Duration::from_secs(60) * PATIENCE;
        let mut said = String::new();
        while Instant::now() < deadline {
            said = self.ask(args);
            if said.contains(expected) {
                return;
            }
            thread::sleep(Duration::from_millis(50));
        }
        panic!("redis-cli {args:?} says {said:?}, expected {expected:?}");
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        // After an orderly end there is nothing to kill.
        let _ = self.server.kill();
        let _ = self.server.wait();
        let _ = fs::remove_file(&self.socket);
    }
}

#[test]
fn redis_serves_and_saves_in_the_background() {
    let stats = empty("redis-stats");
    let mut digests = Vec::new();
    for ours in [false, true] {
        let dir = empty(&format!("redis-{ours}"));
        let mut redis = Redis::start(&dir, ours.then_some(stats.as_path()));
        let fill = "for i = 1, 60000 do redis.call('SET', 'key' .. i, string.rep('v', i % 500)) \
                    redis.call('HSET', 'hash' .. i % 100, i, i * 7) redis.call('LPUSH', 'list' .. i % 10, i) end return 'filled'";
        assert_eq!(redis.ask(&["eval", fill, "0"]), "filled\n");
        let mut bench = program("/usr/bin/redis-benchmark", "redis-tools");
        let ended = run(
            bench.arg("-s").arg(&redis.socket).args([
                "-n",
                "20000",
                "-r",
                "20000",
                "-d",
                "64",
                "-t",
                "get,lpop,sadd,spop",
                "-q",
            ]),
            LIMIT,
        );
        assert_eq!(ended.code(), Some(0), "{ended:?}");
        // The benchmark's keys are random.
        redis.ask(&["del", "mylist", "myset"]);
        assert!(redis.ask(&["bgsave"]).contains("started"));
        redis.until("rdb_bgsave_in_progress:0", &["info", "persistence"]);
        assert!(
            redis
                .ask(&["info", "persistence"])
                .contains("rdb_last_bgsave_status:ok")
        );
        digests.push(
            redis.ask(&["debug", "digest"])
                + &redis.ask(&["dbsize"])
                + &redis.ask(&["get", "key499"]),
        );
        assert_eq!(redis.ask(&["debug", "digest"]).trim().len(), 40, "a digest");
        redis.ask(&["shutdown", "nosave"]);
        assert!(redis.server.wait().expect("a child of ours").success());
        assert!(fs::metadata(dir.join("dump.rdb")).expect("saved").len() > 1 << 20);
    }
    assert_eq!(
        digests[0], digests[1],
        "glibc on the left, the library on the right"
    );
    assert!(digests[0].contains("60110"), "{digests:?}");
    served(&stats, 16 << 20);
}
