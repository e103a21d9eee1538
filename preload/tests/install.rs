//! `make install`, as a packager runs it, and a program built against what it installed.

mod common;

use common::{crate_dir, make, run, scratch};
use std::fs;
use std::os::unix::fs::PermissionsExt;
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
        ("bin/hakmem-run", 0o755),
        ("include/hakmem.h", 0o644),
        ("lib/pkgconfig/hakmem.pc", 0o644),
        ("share/man/man1/hakmem-run.1", 0o644),
        ("share/man/man3/hakmem.3", 0o644),
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

    // A program finds header and library by them, in C and in C++.
    for (compiler, name) in [("gcc", "uses.c"), ("g++", "uses.cpp")] {
        let source = dest.join(name);
        fs::write(
            &source,
            "#include <hakmem.h>\n#include <stdio.h>\nint main(void) { puts(hakmem_version()); return 0; }\n",
        )
        .expect("writable");
        let program = dest.join("uses");
        let done = Command::new(compiler)
            .args(["-Wall", "-Wextra", "-Werror", "-pedantic"])
            .arg(&source)
            .arg("-o")
            .arg(&program)
            .arg(format!("-I{}", prefix.join("include").display()))
            .arg(format!("-L{}", prefix.join("lib").display()))
            .arg("-lhakmem")
            .output()
            .expect(compiler);
        assert!(done.status.success(), "{done:?}");
        let ended = run(
            Command::new(&program).env("LD_LIBRARY_PATH", prefix.join("lib")),
            Duration::from_secs(30),
        );
        assert_eq!(ended.output(), format!("{version}\n"));
    }
    // The launcher finds the library in ../lib.
    let said = run(
        Command::new(prefix.join("bin/hakmem-run")).arg("--library"),
        Duration::from_secs(30),
    );
    assert!(said.output().ends_with("/opt/hakmem/lib/libhakmem.so\n"));

    make(&all("uninstall"));
    assert!(!prefix.join("lib/libhakmem.so").exists());
    assert!(!prefix.join("bin/hakmem-run").exists());
}
