//! README and docs/: what they show of results is what the kept results say, and what they link to is there.

mod common;

use std::path::{Path, PathBuf};

use common::{harness, text};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// README and the pages in docs/, with their text.
fn pages() -> Vec<(PathBuf, String)> {
    let docs = std::fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let own =
        ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "preload/README.md"].map(|f| root().join(f));
    let pages = docs.chain(own).filter(|path| path.extension().is_some_and(|e| e == "md"));
    pages.map(|path| (path.clone(), std::fs::read_to_string(path).unwrap())).collect()
}

#[test]
fn figures_are_those_of_the_kept_results() {
    let output = harness("pages").arg("--check").arg("--root").arg(root()).output().unwrap();
    let (said, line) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success() && said.is_empty(), "{said}{line}");
}

/// Where the links of a page lead that stay in the repository, without what follows a `#`.
fn links(text: &str) -> impl Iterator<Item = &str> {
    let ends = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let images = text.split("src=\"").skip(1).filter_map(|rest| rest.split('"').next());
    let targets = ends.chain(images).filter(|to| !to.contains("://") && !to.starts_with('#'));
    targets.map(|to| to.split('#').next().unwrap_or_default())
}

/// Whether cargo packs the file: it leaves out what the manifest names, and whatever is a package of its own.
fn is_packed(file: &str) -> bool {
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let excluded = manifest.lines().find(|l| l.starts_with("exclude = [\".ci\"")).expect("what the package leaves out");
    let folder = file.split('/').next().unwrap_or_default();
    let own = Path::new(file).ancestors().filter(|a| !a.as_os_str().is_empty());
    !excluded.contains(&format!("\"{folder}\"")) && own.skip(1).all(|a| !root().join(a).join("Cargo.toml").exists())
}

#[test]
fn links_lead_somewhere_and_those_of_the_readme_into_the_package() {
    let mut seen = 0;
    for (path, text) in pages() {
        for to in links(&text) {
            seen += 1;
            let found = path.parent().unwrap().join(to);
            assert!(found.exists(), "{}: {to} is not there", path.display());
            assert!(path != root().join("README.md") || is_packed(to), "README.md: {to} is not in the package");
        }
    }
    assert!(seen > 20, "only {seen} links were found");
    assert!(is_packed("docs/guide.md") && !is_packed("preload/README.md") && !is_packed("bench-harness/Cargo.toml"));
}

#[test]
fn instructions_named_in_prose_are_those_of_the_table() {
    let table = std::fs::read_to_string(root().join("bench-harness/results/paths.txt")).unwrap();
    let hit = table.lines().find(|l| l.trim_start().starts_with("hit 48 ")).expect("a row for a block at hand");
    let count: f64 = hit.split_whitespace().rev().nth(1).unwrap().parse().unwrap();
    for page in ["README.md", "docs/design.md"] {
        let text = std::fs::read_to_string(root().join(page)).unwrap();
        assert!(text.contains(&format!("{count:.0} instructions")), "{page}: {count} instructions by the table");
    }
}

/// The sentences of a page, without headings, code, tables and figures that are made.
fn sentences(text: &str) -> Vec<String> {
    let mut prose = String::new();
    let (mut code, mut made) = (false, false);
    for line in text.lines().map(|l| l.trim_start_matches("//!").trim()) {
        code ^= line.starts_with("```");
        made = (made || line.starts_with("<!-- figures")) && !line.starts_with("<!-- end of figures");
        match line {
            _ if code || made || line.is_empty() || line.starts_with(['|', '#', '`']) => prose += "\n",
            _ => prose = prose + &line.replace("- ", "\n") + " ",
        }
    }
    let parts = prose.lines().flat_map(|paragraph| paragraph.split(". "));
    parts.map(|s| s.trim().trim_end_matches('.').to_owned()).filter(|s| s.len() > 60).collect()
}

#[test]
fn no_sentence_stands_in_two_places() {
    let front = std::fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let front: String = front.lines().filter(|l| l.starts_with("//!")).map(|l| format!("{l}\n")).collect();
    let knobs = std::fs::read_to_string(root().join("env-knobs.md")).unwrap();
    let more = [(root().join("src/lib.rs"), front), (root().join("env-knobs.md"), knobs)];
    let mut seen = std::collections::HashMap::new();
    for (path, text) in pages().into_iter().chain(more) {
        for sentence in sentences(&text) {
            if let Some(other) = seen.insert(sentence.clone(), path.clone()) {
                panic!("{} and {}: {sentence}", other.display(), path.display());
            }
        }
    }
    assert!(seen.len() > 200, "only {} sentences were found", seen.len());
}
