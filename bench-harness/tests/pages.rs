//! README and docs/: what they show of results is what the kept results say, and what they link to is there.

mod common;

use std::path::{Path, PathBuf};

use common::{ended, harness};
use regex::Regex;

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
    let (said, _) = ended(harness("pages --check --root").arg(root()), 0);
    assert!(said.is_empty(), "{said}");
}

/// Where the links of a page lead that stay in the repository: the file, and what stands behind a `#`.
fn links(text: &str) -> impl Iterator<Item = (&str, Option<&str>)> {
    let ends = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let images = text.split("src=\"").skip(1).filter_map(|rest| rest.split('"').next());
    let targets = ends.chain(images).filter(|to| !to.contains("://"));
    targets.map(|to| to.split_once('#').map_or((to, None), |(file, anchor)| (file, Some(anchor))))
}

/// Whether a page has a heading, or a name, that such a link leads to.
fn has_anchor(text: &str, anchor: &str) -> bool {
    let of_heading = |line: &str| {
        let kept = line.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
        kept.chars().filter(|c| c.is_alphanumeric() || "-_".contains(*c)).collect::<String>()
    };
    let mut headings = text.lines().filter(|l| l.starts_with('#'));
    headings.any(|l| of_heading(l) == anchor) || text.contains(&format!("name=\"{anchor}\""))
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
fn links_lead_somewhere_and_those_of_the_package_into_it() {
    let mut seen = 0;
    let from_root = |path: &Path| path.strip_prefix(root().canonicalize().unwrap()).unwrap().to_owned();
    for (path, text) in pages() {
        for (to, anchor) in links(&text) {
            seen += 1;
            let found = if to.is_empty() { path.clone() } else { path.parent().unwrap().join(to) };
            let found = found.canonicalize().unwrap_or_else(|e| panic!("{}: {to}: {e}", path.display()));
            let packed = |file: &Path| is_packed(&from_root(file).to_string_lossy());
            assert!(!packed(&path.canonicalize().unwrap()) || packed(&found), "{}: {to} is not packed", path.display());
            let text = || std::fs::read_to_string(&found).unwrap();
            assert!(anchor.is_none_or(|a| has_anchor(&text(), a)), "{}: {to} has no {anchor:?}", path.display());
        }
    }
    assert!(seen > 40, "only {seen} links were found");
    assert!(is_packed("docs/guide.md") && !is_packed("preload/README.md") && !is_packed("bench-harness/Cargo.toml"));
    assert!(has_anchor("## A `b`, c\n", "a-b-c") && !has_anchor("## A b\n", "a"));
}

#[test]
fn instructions_named_in_prose_are_those_of_the_table() {
    let table = std::fs::read_to_string(root().join("bench-harness/results/paths.txt")).unwrap();
    let hit = table.lines().find(|l| l.trim_start().starts_with("hit 48 ")).expect("a row for a block at hand");
    let count: f64 = hit.split_whitespace().rev().nth(1).unwrap().parse().unwrap();
    for page in ["README.md", "docs/design.md", "docs/hardening.md"] {
        let text = std::fs::read_to_string(root().join(page)).unwrap();
        assert!(text.contains(&format!("{count:.0} instructions")), "{page}: {count} instructions by the table");
    }
}

/// The paragraphs of a page, each cell of a table and each point of a list one, without code, headings and figures that are made.
fn paragraphs(text: &str) -> Vec<String> {
    let mut prose = String::new();
    let (mut code, mut made) = (false, false);
    for line in text.lines().map(|l| l.trim_start_matches("//!").trim_start_matches("///").trim()) {
        code ^= line.starts_with("```");
        made = (made || line.starts_with("<!-- figures")) && !line.starts_with("<!-- end of figures");
        match line {
            _ if code || made || line.is_empty() || line.starts_with(['#', '`', '<']) => prose += "\n",
            // A manual page's commands.
            _ if line.starts_with('.') => prose += "\n",
            _ if line.starts_with("- ") => prose = prose + "\n" + &line[2..] + " ",
            _ if line.starts_with('|') => prose = prose + "\n" + &line.replace('|', "\n") + "\n",
            _ => prose = prose + line + " ",
        }
    }
    prose.lines().map(|p| p.trim().to_owned()).filter(|p| !p.is_empty()).collect()
}

#[test]
fn no_sentence_stands_in_two_places() {
    let public = ["src/lib.rs", "src/api/mod.rs", "src/api/global.rs", "src/api/raw.rs", "src/api/snapshot.rs"];
    let more =
        ["src/api/stats/mod.rs", "src/knobs/config.rs", "src/knobs/types.rs", "env-knobs.md", "preload/hakmem.h"];
    let regions = ["mod", "builder", "prefault", "ticket", "wish", "work"].map(|name| format!("src/region/{name}.rs"));
    let manuals = ["preload/hakmem.3", "preload/hakmem-run.1"];
    let files = public.into_iter().chain(more).chain(manuals).map(String::from).chain(regions);
    let of_file = |file: String| {
        let text = std::fs::read_to_string(root().join(&file)).unwrap();
        let doc =
            |l: &&str| !file.ends_with(".rs") || l.trim_start().starts_with("//!") || l.trim_start().starts_with("///");
        // Between two items a line is left empty, so that their sentences stay apart.
        let text = text.lines().map(|l| if doc(&l) { l } else { "" }).collect::<Vec<_>>().join("\n");
        (root().join(file), text)
    };
    let (mut seen, mut twice) = (std::collections::HashMap::new(), Vec::new());
    for (path, text) in pages().into_iter().chain(files.map(of_file)) {
        let all = paragraphs(&text);
        let parts = all.iter().flat_map(|p| p.split(". ")).map(|s| s.trim().trim_end_matches('.'));
        for sentence in parts.filter(|s| s.len() > 45 && !s.starts_with(['`', '.', '"'])) {
            if let Some(other) = seen.insert(sentence.replace('`', ""), path.clone()) {
                twice.push(format!("{} and {}: {sentence}", other.display(), path.display()));
            }
        }
    }
    assert!(twice.is_empty(), "{}", twice.join("\n"));
    assert!(seen.len() > 1000, "only {} sentences were found", seen.len());
}

/// What is measured stands in the made figures, which come from kept results. In prose are bounds and parameters, what another
/// test holds to a table, and what the documents that the project began from say.
#[test]
fn no_measured_figure_stands_in_prose() {
    let measured = Regex::new(
        r"\d[\d.,–]*\s?(×|%|ns\b|µs|per cent|times (as|slower|faster)|instructions|faults|million)|(twice|half) as (fast|long)",
    );
    let measured = measured.unwrap();
    let allowed = [
        // Of statistics and of bounds that tests have.
        "the 95 % interval",
        "spread or drift by more than `--drift-bound` (25 %)",
        "kernel's within 3 %",
        "but within 1 % for paths",
        "timer late by (99 %)",
        "30 instructions",
        // The documents'.
        "1,324,482 page faults",
        "132,507 page faults",
        "4.01 million",
        "132,831 faults",
        "3.71 million",
        "twice as fast to read",
    ];
    let (mut prose, mut wrong) = (0, Vec::new());
    for (path, text) in pages().into_iter().filter(|(path, _)| !path.ends_with("CHANGELOG.md")) {
        for paragraph in paragraphs(&text) {
            let left = allowed.iter().fold(paragraph.clone(), |text, known| text.replace(known, ""));
            wrong.extend(measured.find(&left).map(|m| format!("{}: {:?} in: {paragraph}", path.display(), m.as_str())));
            prose += 1;
        }
    }
    assert!(wrong.is_empty(), "no kept result says this:\n{}", wrong.join("\n"));
    assert!(prose > 300, "only {prose} paragraphs were read");
}
