//! The example programs and libraries of this package, built with the profile and for the target of the test that asks.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// How the running test was built, read from where cargo put it: `<target>[/<triple>]/<profile>/deps/<test>`.
struct Built {
    target: PathBuf,
    triple: Option<String>,
    /// The profile's folder.
    profile: String,
}

impl Built {
    fn this_test() -> Self {
        let exe = std::env::current_exe().expect("the path of this test binary");
        let profile = exe.ancestors().nth(2).expect("target/<profile>/deps");
        let above = profile.parent().expect("a folder of the profile's");
        let name = |path: &Path| match path.file_name() {
            Some(name) => name.to_string_lossy().into_owned(),
            None => String::new(),
        };
        let triple = Some(name(above))
            .filter(|name| name.starts_with(std::env::consts::ARCH) && name.contains("-linux-"));
        let target = match triple {
            Some(_) => above.parent().expect("target/<triple>"),
            None => above,
        };
        Self {
            target: target.to_owned(),
            profile: name(profile),
            triple,
        }
    }

    /// Runs `cargo build` with `arguments` into `target`; returns the folder of the profile.
    fn build(&self, arguments: &[&str], target: &Path, profile: &str) -> PathBuf {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo
            .args(["build", "--quiet"])
            .args(arguments)
            .arg("--target-dir")
            .arg(target)
            // The profile `dev` alone has a folder of another name.
            .args([
                "--profile",
                if profile == "debug" { "dev" } else { profile },
            ])
            .current_dir(env!("CARGO_MANIFEST_DIR"));
        let mut folder = target.to_owned();
        if let Some(triple) = &self.triple {
            cargo.args(["--target", triple]);
            folder.push(triple);
        }
        let output = cargo.output().expect("cargo starts");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {errors}");
        folder.join(profile)
    }
}

/// The folder that holds the example programs. `cargo test --test name` alone would not have built them.
pub fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let built = Built::this_test();
        // With the features that all of the workspace asks for, as `cargo test --workspace` does: else half of what it built is
        // built again.
        let arguments = ["--workspace", "--examples", "--offline"];
        built
            .build(&arguments, &built.target, &built.profile)
            .join("examples")
    })
}

/// The library of `examples/plugin`, with or without its feature `local_dynamic_tls`. A package of its own: cargo gives
/// all that one command builds of this one the same features.
pub fn plugin(local_dynamic_tls: bool) -> PathBuf {
    let built = Built::this_test();
    let manifest = ["--locked", "--manifest-path", "examples/plugin/Cargo.toml"];
    let (folder, features): (_, &[_]) = if local_dynamic_tls {
        ("plugin", &[])
    } else {
        ("plugin-initial-exec", &["--no-default-features"])
    };
    let profile = if cfg!(debug_assertions) {
        "debug"
    } else {
        "release"
    };
    built
        .build(
            &[&manifest, features].concat(),
            &built.target.join(folder),
            profile,
        )
        .join("libplugin.so")
}
