//! Every public item has an example, which `cargo test --doc` compiles and runs. Enumerations of values, fields and items
//! hidden from the documentation need none.

use std::fs;
use std::path::{Path, PathBuf};

/// The files with public items. What `api/c` exports is C's, and C's own pages document it.
const PLACES: [&str; 4] = ["src/api", "src/api/stats", "src/region", "src/knobs"];

fn sources() -> impl Iterator<Item = PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = PLACES
        .iter()
        .flat_map(|place| fs::read_dir(root.join(place)).expect("a directory"));
    let paths = files.map(|entry| entry.expect("an entry").path());
    paths.filter(|path| path.extension().is_some_and(|e| e == "rs"))
}

/// Whether a line begins an item that other crates can name: `pub` without a restriction.
fn is_public(line: &str) -> bool {
    let Some(rest) = line.trim_start().strip_prefix("pub ") else {
        return false;
    };
    let rest = rest
        .trim_start_matches("const ")
        .trim_start_matches("unsafe ");
    ["fn ", "struct ", "enum ", "trait "]
        .iter()
        .any(|kind| rest.starts_with(kind))
}

#[test]
fn every_public_item_has_an_example() {
    let (mut seen, mut missing) = (0, Vec::new());
    for path in sources() {
        let text = fs::read_to_string(&path).expect("readable");
        let mut above = Vec::new();
        for line in text.lines() {
            let trimmed = line.trim();
            if trimmed.starts_with("///") || trimmed.starts_with("#[") {
                above.push(trimmed);
                continue;
            }
            if is_public(line) && !above.contains(&"#[doc(hidden)]") {
                seen += 1;
                if !above.contains(&"/// ```") {
                    missing.push(format!("{}: {trimmed}", path.display()));
                }
            }
            above.clear();
        }
    }
    assert!(seen > 80, "only {seen} public items were found");
    assert!(
        missing.is_empty(),
        "without an example:\n{}",
        missing.join("\n")
    );
}
