//! No file of the harness is part of a circle: whoever is used does not use back, over however many others.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// What each module uses of its crate, tests left out. A folder is one module to those outside.
fn uses(root: &Path) -> BTreeMap<String, BTreeSet<String>> {
    let mut uses: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut folders = vec![(root.to_owned(), String::new())];
    while let Some((folder, inside)) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let name = entry.file_name().to_string_lossy().into_owned();
            if entry.path().is_dir() {
                folders.push((entry.path(), if inside.is_empty() { name } else { inside.clone() }));
                continue;
            }
            let stem = name.trim_end_matches(".rs").to_owned();
            if !name.ends_with(".rs") || ["lib", "main", "tests"].contains(&stem.as_str()) {
                continue;
            }
            let module = if inside.is_empty() { stem } else { inside.clone() };
            let text = std::fs::read_to_string(entry.path()).unwrap();
            let code = text.split("#[cfg(test)]").next().unwrap();
            let found = uses.entry(module.clone()).or_default();
            for part in
                code.lines().filter(|l| !l.trim_start().starts_with("//")).flat_map(|l| l.split("crate::").skip(1))
            {
                let names = part.strip_prefix('{').map_or(part, |group| group.split('}').next().unwrap());
                let list = if part.starts_with('{') { names.split(',').collect() } else { vec![names] };
                let word =
                    |n: &str| n.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
                found.extend(list.into_iter().map(word).filter(|n| *n != module && !n.is_empty()));
            }
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
        assert!(uses.len() >= least, "{root}: {:?}", uses.keys());
        assert_eq!(circles(uses), [""; 0], "{root}");
    }
    let of =
        |pairs: &[(&str, &str)]| pairs.iter().map(|(a, b)| (a.to_string(), BTreeSet::from([b.to_string()]))).collect();
    assert_eq!(circles(of(&[("a", "b"), ("b", "c"), ("c", "b"), ("d", "e")])), ["a", "b", "c"]);
}
