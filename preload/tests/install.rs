//! `make install`, as a packager runs it, and a program built against what it installed.

mod common;

use common::{crate_dir, make, run, scratch};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

#[test]
fn installs_below_destdir_for_prefix_and_takes_it_away_again() {
    let dest = scratch("install").join("dest");
    let _ = fs::remove_dir_all(&dest);
    let destdir = format!("DESTDIR={}", dest.display());
    // Inside this build a network is neither needed nor wanted.
    let args = [
        "CARGOFLAGS=--locked --offline",
        "PREFIX=/opt/hakmem",
        &destdir,
    ];
    let all = |target: &'static str| {
        let mut all: Vec<&std::ffi::OsStr> = vec![target.as_ref()];
        all.extend(args.iter().map(|arg| std::ffi::OsStr::new(*arg)));
        all
    };
    make(&all("install"));
    let prefix = dest.join("opt/hakmem");
    for (file, mode) in [
        ("lib/libhakmem.so", 0o755),
        ("lib/libhakmem.a", 0o644),
        ("bin/hakmem-run", 0o755),
        ("include/hakmem.h", 0o644),
        ("lib/pkgconfig/hakmem.pc", 0o644),
        ("share/man/man1/hakmem-run.1", 0o644),
        ("share/man/man3/hakmem.3", 0o644),
        ("share/doc/hakmem/env-knobs.md", 0o644),
    ] {
        let meta = fs::metadata(prefix.join(file)).unwrap_or_else(|e| panic!("{file}: {e}"));
        assert_eq!(meta.permissions().mode() & 0o777, mode, "{file}");
        assert!(meta.len() > 100, "{file} is empty");
    }
    let entries = fs::read_dir(&dest).expect("installed").count();
    assert_eq!(entries, 1, "nothing beside the prefix");

    let pc = fs::read_to_string(prefix.join("lib/pkgconfig/hakmem.pc")).expect("installed");
    assert!(
        pc.contains("prefix=/opt/hakmem\nlibdir=/opt/hakmem/lib\n"),
        "{pc}"
    );
    assert!(!pc.contains('@'), "{pc}");
    let manifest = fs::read_to_string(crate_dir().join("Cargo.toml")).expect("there");
    let version = pc
        .lines()
        .find_map(|l| l.strip_prefix("Version: "))
        .expect("a version");
    assert!(manifest.contains(&format!("version = \"{version}\"")));
    let header = fs::read_to_string(prefix.join("include/hakmem.h")).expect("installed");
    assert!(header.contains(&format!("#define HAKMEM_VERSION \"{version}\"")));

    let page = fs::read_to_string(prefix.join("share/man/man3/hakmem.3")).expect("installed");
    assert!(
        page.contains("/opt/hakmem/share/doc/hakmem/env-knobs.md") && !page.contains("@DOCDIR@")
    );
    // The launcher finds the library in ../lib.
    let said = run(
        Command::new(prefix.join("bin/hakmem-run")).arg("--library"),
        Duration::from_secs(30),
    );
    assert!(said.output().ends_with("/opt/hakmem/lib/libhakmem.so\n"));

    make(&all("uninstall"));
    let left = Command::new("find")
        .arg(&dest)
        .args(["-type", "f"])
        .output()
        .expect("find");
    assert_eq!(String::from_utf8_lossy(&left.stdout), "", "nothing stays");
}

/// What pkg-config says of the library installed at `prefix`.
fn pkg_config(prefix: &Path, args: &[&str]) -> Vec<String> {
    let done = Command::new("pkg-config")
        .args(args)
        .arg("hakmem")
        .env("PKG_CONFIG_PATH", prefix.join("lib/pkgconfig"))
        .output()
        .expect("pkg-config is installed");
    assert!(done.status.success(), "{done:?}");
    let flags = String::from_utf8(done.stdout).expect("flags");
    flags.split_whitespace().map(String::from).collect()
}

/// Programs in C and C++ are built by what pkg-config says and started with nothing set: linked with the shared library in a
/// directory of its own, and statically. Their blocks are the allocator's, as its statistics say.
#[test]
fn programs_link_by_pkg_config_and_start_from_a_private_prefix() {
    let prefix = scratch("private").join("prefix");
    let at = format!("PREFIX={}", prefix.display());
    make(&[
        "install".as_ref(),
        "CARGOFLAGS=--locked --offline".as_ref(),
        at.as_ref(),
    ]);
    for source in ["linked.c", "linked.cpp"] {
        for linkage in [&[][..], &["-static"]] {
            let mut args = vec!["--cflags", "--libs"];
            args.extend(linkage.iter().map(|_| "--static"));
            let flags = pkg_config(&prefix, &args);
            let mut with_linkage: Vec<&str> = linkage.to_vec();
            with_linkage.extend(flags.iter().map(String::as_str));
            let program = common::compile(source, &with_linkage);
            let ended = run(
                Command::new(program)
                    .env_remove("LD_PRELOAD")
                    .env_remove("LD_LIBRARY_PATH"),
                Duration::from_secs(30),
            );
            assert_eq!(
                ended.output(),
                "1000 blocks, 4 threads\n",
                "{source} {flags:?}"
            );
        }
    }
    let found = |libdir: &str| {
        let dest = scratch("system").join("dest");
        let _ = fs::remove_dir_all(&dest);
        let args = [
            format!("DESTDIR={}", dest.display()),
            format!("LIBDIR={libdir}"),
        ];
        make(
            &[
                "install",
                "CARGOFLAGS=--locked --offline",
                "PREFIX=/usr",
                &args[0],
                &args[1],
            ]
            .map(AsRef::as_ref),
        );
        let file = dest.join(&libdir[1..]).join("pkgconfig/hakmem.pc");
        fs::read_to_string(file).expect("installed")
    };
    assert!(!found("/usr/lib/x86_64-linux-gnu").contains("rpath"));
}
