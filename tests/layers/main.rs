//! Checks the layers of `docs/design.md` and the sub-layers of `src/heap/mod.rs`: a module uses what lies below it and never
//! what lies above. Every `crate::…` path and every chain of `super::` in `src/` is read, with comments and literals removed.
//! No more than two files use each other in a circle, and no file grows beyond what can be read in one sitting.

mod graph;
mod tokens;

use std::collections::HashMap;
use std::fs;
use std::path::{Component, Path, PathBuf};

use tokens::{Token, tokens};

/// From the bottom up. Layers in one row are neighbours and may use each other.
const LAYERS: [&[&str]; 10] = [
    &["base"],
    &["os"],
    &["knobs"],
    &["slab"],
    &["pool"],
    &["large"],
    &["checked", "guarded"],
    // The model checks of heaps stand beside them: the heaps themselves cannot be built for the model checker.
    &["heap", "heap_model"],
    &["api", "region"],
    &[ROOT],
];
/// Of `heap`, from the bottom up. Each file lies in one, and names what it uses of another by that one's name.
const HEAP: [&str; 9] = [
    "data", "slabs", "home", "cache", "upkeep", "thread", "slow", "entry", "tests",
];
/// `src/lib.rs` and the files beside it, and names that only the crate's root knows.
const ROOT: &str = "the crate root";
const LONGEST: usize = 400;

fn rank(layer: &str) -> Option<usize> {
    LAYERS.iter().position(|row| row.contains(&layer))
}

/// The names right under the crate's root that a path beginning at `tokens[i]` leads to: one, or one for every
/// branch of `{…}`.
fn heads(tokens: &[Token], i: usize) -> Vec<&Token> {
    let text = |j: usize| tokens.get(j).map_or("", |t| t.text.as_str());
    if text(i) != "{" {
        return tokens.get(i).into_iter().collect();
    }
    let mut found = Vec::new();
    let mut depth = 0;
    let mut before = "";
    for token in tokens.iter().skip(i) {
        match token.text.as_str() {
            "{" => depth += 1,
            "}" => depth -= 1,
            _ if depth == 1 && matches!(before, "{" | ",") => found.push(token),
            _ => {}
        }
        if depth == 0 {
            break;
        }
        before = &token.text;
    }
    found
}

/// The module that `file` (below `src/`) holds, as its path from the root, going by its place.
fn module(file: &Path) -> Vec<String> {
    let name = |c: Component<'_>| c.as_os_str().to_string_lossy().into_owned();
    let mut path: Vec<String> = file.with_extension("").components().map(name).collect();
    if matches!(path.last().map(String::as_str), Some("mod" | "lib")) {
        path.pop();
    }
    path
}

/// The files that `source` puts elsewhere by `#[path = "…"]`, and the modules they hold.
fn placed(file: &Path, source: &str) -> Vec<(PathBuf, Vec<String>)> {
    let lines: Vec<&str> = source.lines().map(str::trim).collect();
    let mut found = Vec::new();
    for (i, line) in lines.iter().enumerate() {
        let Some(path) = line
            .strip_prefix("#[path = \"")
            .and_then(|l| l.split('"').next())
        else {
            continue;
        };
        let name = lines[i + 1..]
            .iter()
            .find_map(|l| l.strip_suffix(';')?.rsplit_once("mod "))
            .map(|(_, name)| name);
        let mut module = module(file);
        module.push(name.expect("a module follows its path").to_string());
        found.push((file.with_file_name(path), module));
    }
    found
}

/// Every upward use in one file, as a sentence.
fn upward_uses(file: &Path, source: &str) -> Vec<String> {
    upward_uses_of(&module(file), file, source)
}

fn upward_uses_of(module: &[String], file: &Path, source: &str) -> Vec<String> {
    let in_directory =
        file.components().count() > 1 || rank(module.first().map_or("", |m| m)).is_some();
    let layer = if in_directory {
        module[0].clone()
    } else {
        ROOT.to_string()
    };
    let Some(own) = rank(&layer) else {
        return vec![format!(
            "src/{}: {layer} is not in the list of layers",
            file.display()
        )];
    };
    let tokens = tokens(source);
    let text = |j: usize| tokens.get(j).map_or("", |t| t.text.as_str());
    let mut wrong = Vec::new();
    // Inline modules add to the depth that `super` counts from; each is remembered by its brace.
    let (mut braces, mut inline) = (0, Vec::new());
    for i in 0..tokens.len() {
        match text(i) {
            "{" => {
                braces += 1;
                if i >= 2 && text(i - 2) == "mod" {
                    inline.push(braces);
                }
            }
            "}" => {
                if inline.last() == Some(&braces) {
                    inline.pop();
                }
                braces -= 1;
            }
            _ => {}
        }
        let start = match text(i) {
            "crate" if text(i + 1) == "::" => i + 2,
            "super" if text(i + 1) == "::" && (i < 2 || text(i - 2) != "super") => {
                let mut end = i;
                while text(end) == "super" && text(end + 1) == "::" {
                    end += 2;
                }
                if (end - i) / 2 != module.len() + inline.len() {
                    continue;
                }
                end
            }
            _ => continue,
        };
        for head in heads(&tokens, start) {
            let target = if rank(&head.text).is_some() {
                head.text.as_str()
            } else {
                ROOT
            };
            if rank(target) > Some(own) {
                wrong.push(format!(
                    "src/{}:{}: {layer} uses {} of {target}, which lies above it",
                    file.display(),
                    head.line,
                    head.text
                ));
            }
        }
    }
    wrong
}

fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("a readable source directory") {
        let path = entry.expect("a readable entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

fn all_sources() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    files.sort();
    assert!(
        files.iter().any(|f| f.ends_with("lib.rs")),
        "src/lib.rs was not found"
    );
    files
        .into_iter()
        .map(|file| {
            let text = fs::read_to_string(&file).expect("readable source");
            (
                file.strip_prefix(&root).expect("below src").to_path_buf(),
                text,
            )
        })
        .collect()
}

#[test]
fn uses_point_down() {
    let mut wrong = Vec::new();
    for (file, module, text) in &all_modules() {
        wrong.extend(upward_uses_of(module, file, text));
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// Every upward use between the sub-layers of `heap` in one file, as a sentence.
fn upward_in_heap(module: &[String], file: &Path, source: &str) -> Vec<String> {
    let rank = |name: &String| HEAP.iter().position(|layer| layer == name);
    let Some(own) = module.get(1).and_then(rank) else {
        return vec![format!(
            "src/{}: it lies in no sub-layer of heap",
            file.display()
        )];
    };
    let is_wrong = |used: &graph::Use| {
        let [first, second, ..] = &used.path[..] else {
            return false;
        };
        // What `heap` gives to the layers above is found by no name of a sub-layer.
        first == "heap" && rank(second).is_none_or(|rank| rank > own)
    };
    graph::uses(module, source)
        .into_iter()
        .filter(is_wrong)
        .map(|used| {
            format!(
                "src/{}:{}: {} uses {}, which lies above it",
                file.display(),
                used.line,
                module[1],
                used.path.join("::")
            )
        })
        .collect()
}

/// Every file, the module it holds, and its text.
fn all_modules() -> Vec<(PathBuf, Vec<String>, String)> {
    let files = all_sources();
    let placed: HashMap<_, _> = files
        .iter()
        .flat_map(|(file, text)| placed(file, text))
        .collect();
    files
        .into_iter()
        .map(|(file, text)| {
            let module = placed.get(&file).cloned().unwrap_or_else(|| module(&file));
            (file, module, text)
        })
        .collect()
}

#[test]
fn uses_within_heap_point_down() {
    let mut seen = 0;
    let mut wrong = Vec::new();
    for (file, module, text) in all_modules() {
        let inside = file.starts_with("heap") && file != Path::new("heap/mod.rs");
        if inside && !graph::is_test(&file) {
            seen += 1;
            wrong.extend(upward_in_heap(&module, &file, &text));
        }
    }
    assert!(seen > 30, "{seen} files were found in heap");
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn no_more_than_two_files_use_each_other_in_a_circle() {
    let files = all_modules();
    let circles = graph::circles(&files);
    assert!(circles.is_empty(), "\n{circles:#?}");
}

#[test]
fn files_can_be_read_in_one_sitting() {
    let long: Vec<String> = all_sources()
        .iter()
        .map(|(file, text)| (file, text.lines().count()))
        .filter(|&(_, lines)| lines > LONGEST)
        .map(|(file, lines)| {
            format!(
                "src/{}: {lines} lines, at most {LONGEST} allowed",
                file.display()
            )
        })
        .collect();
    assert!(long.is_empty(), "\n{}", long.join("\n"));
}

/// The lines that the checker objects to in `source`, as `src/{file}`.
fn objections(file: &str, source: &str) -> Vec<usize> {
    upward_uses(Path::new(file), source)
        .iter()
        .map(|o| {
            o.split(':')
                .nth(1)
                .and_then(|n| n.parse().ok())
                .unwrap_or_else(|| panic!("no line in {o}"))
        })
        .collect()
}

#[test]
fn the_checker_finds_every_form_of_an_upward_use() {
    for source in [
        "use crate::heap::Heap;",
        "use crate::{base::units, heap::Heap};",
        "use crate::{base::{units, sync}, pool};",
        "fn f() { crate::heap::refill() }",
        "pub(in crate::heap) fn f() {}",
        "use crate :: heap;",
        "macro_rules! m { () => { $crate::heap::f!() } }",
        "use super::super::heap;",
        "use super::super::{os, pool};",
        "mod tests { use super::super::super::heap; }",
        "use crate::Hakmem;",
        "use super::super::Hakmem;",
        "use crate::{self as root};",
        "let c = 'c'; let d: &'static str = \"\\\"\"; use crate::heap;",
    ] {
        assert_eq!(objections("slab/directory.rs", source), [1], "{source}");
    }
    assert_eq!(
        objections(
            "slab/mod.rs",
            "/* a\n b */\nuse super::heap;\nuse crate::os;\nuse crate::api;"
        ),
        [3, 5]
    );
    assert_eq!(objections("knobs.rs", "use crate::slab;"), [1]);
    assert_eq!(
        upward_uses(Path::new("attic/mod.rs"), "").len(),
        1,
        "a layer that is not listed"
    );
}

#[test]
fn the_checker_leaves_the_rest_alone() {
    for source in [
        "use crate::os::sys; use crate::{base::units, os, slab::x};",
        "// use crate::heap;",
        "/// see [`crate::heap`]\nfn f() {}",
        "/* /* nested */ use crate::heap; */",
        "const S: &str = \"crate::heap\"; const T: &str = r#\"use crate::heap; \"# ;",
        "use super::heap; mod tests { use super::super::pool; }",
        "mod tests { use super::*; } use super::other;",
        "const Q: char = '\"'; const R: char = '\\''; // crate::heap",
    ] {
        assert_eq!(
            objections("slab/directory.rs", source),
            [0usize; 0],
            "{source}"
        );
    }
    for (file, source) in [
        ("lib.rs", "pub use crate::api::Hakmem;"),
        ("api/stats.rs", "use crate::region::Region;"),
    ] {
        assert_eq!(objections(file, source), [0usize; 0], "{file}");
    }
}

#[test]
fn a_file_placed_by_path_counts_from_where_it_was_declared() {
    let parent = "#[cfg(test)]\n#[path = \"mapping_tests.rs\"]\nmod tests;\n#[path = \"remap.rs\"]\npub(crate) mod remap;";
    let found = placed(Path::new("os/mapping.rs"), parent);
    let module = |name: &str| ["os", "mapping", name].map(String::from).to_vec();
    let file = |name: &str| Path::new("os").join(name);
    assert_eq!(
        found,
        [
            (file("mapping_tests.rs"), module("tests")),
            (file("remap.rs"), module("remap"))
        ]
    );
    let uses = |source: &str| upward_uses_of(&found[1].1, &found[1].0, source).len();
    assert_eq!(uses("use super::super::sys;"), 0);
    assert_eq!(uses("use super::super::super::heap;"), 1);
}

#[test]
fn an_upward_use_within_heap_is_found() {
    let module = ["heap", "home", "open"].map(String::from);
    let wrong =
        |source: &str| upward_in_heap(&module, Path::new("heap/home/open.rs"), source).len();
    for source in [
        "use crate::heap::cache::stack;",
        "use crate::heap::{data::heap, cache::{budget as b, stack}};",
        "use super::super::entry::hot;",
        "fn f() { crate::heap::slow::refill::refill() }",
        "use crate::heap::hot;",
        "mod inner { use super::super::super::upkeep; }",
        "#[cfg(not(loom))] mod inner { use crate::heap::thread; }",
    ] {
        assert!(wrong(source) >= 1, "{source}");
    }
    for source in [
        "use crate::heap::data::heap::{self, Heap}; use super::sorter; use crate::pool;",
        "use crate::heap::slabs::slabs; use super::super::data;",
        "#[cfg(test)] mod tests { use crate::heap::entry::hot; fn f() {} }",
        "// use crate::heap::cache;",
    ] {
        assert_eq!(wrong(source), 0, "{source}");
    }
    let nowhere = ["heap", "attic"].map(String::from);
    assert_eq!(
        upward_in_heap(&nowhere, Path::new("heap/attic.rs"), "").len(),
        1
    );
}

#[test]
fn a_circle_of_three_is_found_and_one_of_two_is_not() {
    let circles = |sources: &[(&str, &str)]| {
        let files: Vec<_> = sources
            .iter()
            .map(|(file, source)| {
                let file = PathBuf::from(file);
                let module = module(&file);
                (file, module, source.to_string())
            })
            .collect();
        let found = graph::circles(&files);
        found.iter().map(Vec::len).collect::<Vec<_>>()
    };
    let (a, b) = (
        ("os/a.rs", "use super::b::B;"),
        ("os/b.rs", "use crate::os::{c::C, d};"),
    );
    let head = (
        "os/mod.rs",
        "mod a; pub use self::a::A; use crate::os::d::D;",
    );
    let (d, of_d) = (("os/d.rs", ""), ("os/d.rs", "use super::a;"));
    assert_eq!(
        circles(&[head, a, b, ("os/c.rs", "fn f() { super::a::g() }"), d]),
        [3]
    );
    assert_eq!(
        circles(&[head, a, b, ("os/c.rs", "use crate::os::b;"), d]),
        [0usize; 0]
    );
    assert_eq!(
        circles(&[head, a, b, ("os/c.rs", "use super::a::*;"), of_d]),
        [4]
    );
    assert_eq!(
        circles(&[
            head,
            a,
            b,
            ("os/c.rs", "#[cfg(test)] mod tests { use super::super::a; }"),
            d
        ]),
        [0usize; 0]
    );
    assert_eq!(
        circles(&[
            head,
            a,
            b,
            ("os/c_tests.rs", "use super::a;"),
            ("os/c.rs", "use super::Head;"),
            d
        ]),
        [0usize; 0]
    );
}
