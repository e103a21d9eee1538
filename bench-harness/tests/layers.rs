//! No file of the harness is part of a circle: whoever is used does not use back, over however many others.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use regex::Regex;

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// What each module uses of its crate, tests left out. A folder is one module to those outside.
fn uses(root: &Path) -> BTreeMap<String, BTreeSet<String>> {
    let used = Regex::new(r"crate::(?:\{([^}]*)\}|(\w+))").unwrap();
    let mut uses: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let others = ["lib.rs", "main.rs", "tests.rs"];
    let is_module = |p: &PathBuf| p.extension().is_some_and(|e| e == "rs") && !others.iter().any(|o| p.ends_with(o));
    for path in files(root).into_iter().filter(is_module) {
        let first = path.strip_prefix(root).unwrap().iter().next().unwrap().to_string_lossy().into_owned();
        let module = first.trim_end_matches(".rs").to_owned();
        let text = std::fs::read_to_string(&path).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap();
        let code: String = code.lines().filter(|l| !l.trim_start().starts_with("//")).collect();
        let found = uses.entry(module.clone()).or_default();
        for group in used.captures_iter(&code).filter_map(|c| c.get(1).or(c.get(2))) {
            let names = group.as_str().split(',').map(|n| n.trim().split("::").next().unwrap().to_owned());
            found.extend(names.filter(|n| *n != module && !n.is_empty()));
        }
    }
    uses
}

/// The modules of circles and what leads to them: what is left when whoever uses nothing that is left goes, again and again.
fn circles(mut uses: BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    loop {
        let left: BTreeSet<String> = uses.keys().cloned().collect();
        uses.retain(|_, used| !used.is_disjoint(&left));
        if uses.len() == left.len() {
            return left.into_iter().collect();
        }
    }
}

#[test]
fn no_file_is_part_of_a_circle() {
    for (root, least) in [("src", 20), ("subject/src", 12), ("kernel/src", 7)] {
        let uses = uses(&Path::new(env!("CARGO_MANIFEST_DIR")).join(root));
        assert!(uses.len() >= least && uses.values().any(|used| used.len() > 2), "{root}: {uses:?}");
        assert_eq!(circles(uses), [""; 0], "{root}");
    }
    let of =
        |pairs: &[(&str, &str)]| pairs.iter().map(|(a, b)| (a.to_string(), BTreeSet::from([b.to_string()]))).collect();
    assert_eq!(circles(of(&[("a", "b"), ("b", "c"), ("c", "b"), ("d", "e")])), ["a", "b", "c"]);
}
