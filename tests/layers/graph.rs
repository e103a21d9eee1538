//! Which file uses which, by the paths that begin with `crate`, `super` or `self`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::tokens::{Token, tokens};

/// A path that a file names, from the crate's root, and the line it stands in.
#[derive(Debug, PartialEq)]
pub struct Use {
    pub path: Vec<String>,
    pub line: usize,
}

/// Whether the file holds nothing but checks. Those may use whatever they check.
pub fn is_test(file: &Path) -> bool {
    let name = file.file_stem().unwrap_or_default().to_string_lossy();
    let in_tests = file.parent().is_some_and(|dir| dir.ends_with("tests"));
    in_tests || name.ends_with("tests") || name.ends_with("model")
}

/// Every path in `source`, the file of `module`, but for those in modules that only tests have.
pub fn uses(module: &[String], source: &str) -> Vec<Use> {
    let tokens = tokens(source);
    let text = |i: usize| tokens.get(i).map_or("", |t| t.text.as_str());
    let mut found = Vec::new();
    // The inline modules that `super` counts from too, each with the depth of its brace.
    let (mut depth, mut inline) = (0, Vec::new());
    let mut i = 0;
    while i < tokens.len() {
        match text(i) {
            "#" if text(i + 1) == "[" => {
                let end = closing(&tokens, i + 1);
                let of_tests = text(i + 2) == "cfg" && (i..end).any(|j| text(j) == "test");
                let is_module = text(end + 1) == "mod" && text(end + 3) == "{";
                i = if of_tests && is_module {
                    closing(&tokens, end + 3)
                } else {
                    end
                };
            }
            "{" => {
                depth += 1;
                if i >= 2 && text(i - 2) == "mod" {
                    inline.push((depth, text(i - 1).to_string()));
                }
            }
            "}" => {
                if inline.last().is_some_and(|(at, _)| *at == depth) {
                    inline.pop();
                }
                depth -= 1;
            }
            "crate" | "super" | "self"
                if text(i + 1) == "::" && (i == 0 || text(i - 1) != "::") =>
            {
                let mut path = Vec::new();
                if text(i) != "crate" {
                    path.extend_from_slice(module);
                    path.extend(inline.iter().map(|(_, name)| name.clone()));
                }
                let mut start = i;
                while matches!(text(start), "super" | "self" | "crate") && text(start + 1) == "::" {
                    if text(start) == "super" {
                        path.pop();
                    }
                    start += 2;
                }
                i = branches(&tokens, start, &path, &mut found);
                continue;
            }
            _ => {}
        }
        i += 1;
    }
    found
}

/// Where the bracket that opens at `open` closes.
fn closing(tokens: &[Token], open: usize) -> usize {
    let mut depth = 0;
    for (i, token) in tokens.iter().enumerate().skip(open) {
        match token.text.as_str() {
            "[" | "{" | "(" => depth += 1,
            "]" | "}" | ")" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return i;
        }
    }
    tokens.len()
}

/// Adds the paths that go on from `before` at `tokens[i]`; returns where they end.
fn branches(tokens: &[Token], mut i: usize, before: &[String], found: &mut Vec<Use>) -> usize {
    let text = |i: usize| tokens.get(i).map_or("", |t| t.text.as_str());
    let mut path = before.to_vec();
    loop {
        let line = tokens.get(i).map_or(0, |t| t.line);
        match text(i) {
            "{" => {
                i += 1;
                while i < tokens.len() && text(i) != "}" {
                    let after = branches(tokens, i, &path, found);
                    // At least one token on: a new name after `as`, or a comma.
                    i = after.max(i + usize::from(after == i));
                }
                return i + 1;
            }
            "self" | "*" => {}
            name => path.push(name.to_string()),
        }
        i += 1;
        if text(i) != "::" {
            found.push(Use { path, line });
            return i;
        }
        i += 1;
    }
}

/// The files of each circle of more than two, `modules` being the module that each file holds. A folder's `mod.rs` and
/// what lies in the folder are one thing here.
pub fn circles(files: &[(PathBuf, Vec<String>, String)]) -> Vec<Vec<&Path>> {
    let files: Vec<_> = files.iter().filter(|(file, ..)| !is_test(file)).collect();
    let places: BTreeMap<&[String], usize> = files
        .iter()
        .enumerate()
        .map(|(i, (_, module, _))| (module.as_slice(), i))
        .collect();
    let is_head = |head: &Path, of: &Path| {
        let folder = head.parent().unwrap_or(Path::new(""));
        matches!(
            head.file_name().and_then(|n| n.to_str()),
            Some("mod.rs" | "lib.rs")
        ) && of.starts_with(folder)
    };
    let mut reached: Vec<BTreeSet<usize>> = files
        .iter()
        .map(|(file, module, source)| {
            uses(module, source)
                .iter()
                .filter_map(|u| {
                    (0..=u.path.len())
                        .rev()
                        .find_map(|n| places.get(&u.path[..n]))
                })
                .copied()
                .filter(|&to| !is_head(&files[to].0, file) && !is_head(file, &files[to].0))
                .collect()
        })
        .collect();
    loop {
        let further: Vec<BTreeSet<usize>> = reached
            .iter()
            .map(|to| {
                to.iter()
                    .flat_map(|&t| &reached[t])
                    .chain(to)
                    .copied()
                    .collect()
            })
            .collect();
        if further == reached {
            break;
        }
        reached = further;
    }
    let circle = |i: usize| -> BTreeSet<usize> {
        reached[i]
            .iter()
            .copied()
            .filter(|&j| reached[j].contains(&i))
            .collect()
    };
    let found: BTreeSet<BTreeSet<usize>> = (0..files.len())
        .map(circle)
        .filter(|c| c.len() > 2)
        .collect();
    found
        .into_iter()
        .map(|c| c.into_iter().map(|i| files[i].0.as_path()).collect())
        .collect()
}
