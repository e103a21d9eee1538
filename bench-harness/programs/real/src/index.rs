//! index: a full-text index is built in a HashMap, sorted into a BTreeMap, and queried, documents coming and going.
//!
//! Imitates search engines, caches and compilers' symbol tables: many small strings that live long, vectors that double
//! as they grow, tables that are rehashed, tree nodes split and merged, and short-lived answers between them. One
//! operation is one word indexed, looked up or removed.

use std::collections::{BTreeMap, HashMap};

use bench_subject::program::{Outcome, Work};
use bench_subject::rng::XorShift64;

use crate::{Checksum, Hasher, expect, scaled};

/// Words of a document, and how many different ones there are.
const WORDS: usize = 60;
const VOCABULARY: usize = 60_000;
/// Every document has one word that says to which of so many groups it belongs.
const GROUPS: usize = 100;

pub fn prepare(scale: f64) -> Result<Work, String> {
    let documents = scaled(50_000, scale, GROUPS);
    let texts = texts(documents);
    Ok(Box::new(move || work(&texts)))
}

fn texts(count: usize) -> Vec<String> {
    let mut random = XorShift64::new(11, 0);
    let mut word = || {
        // Few words are frequent, as in any language.
        let most = random.between(1, VOCABULARY);
        let n = random.between(0, most - 1).min(random.between(0, most - 1));
        format!("W{:x}{}", n * 7919, "ly".repeat(n % 5))
    };
    let text = |i: usize| {
        let words: Vec<String> = (0..WORDS).map(|_| word()).collect();
        format!("{} Group{}", words.join(" "), i % GROUPS)
    };
    (0..count).map(text).collect()
}

fn work(texts: &[String]) -> Result<Outcome, String> {
    let mut units = 0;
    // Build.
    let mut postings: HashMap<String, Vec<u32>> = HashMap::new();
    for (document, text) in texts.iter().enumerate() {
        for word in text.split(' ') {
            let list = postings.entry(word.to_lowercase()).or_default();
            if list.last() != Some(&(document as u32)) {
                list.push(document as u32);
            }
            units += 1;
        }
    }
    let mut index: BTreeMap<String, Vec<u32>> = postings.into_iter().collect();

    // Query: what documents of a group say, and which words begin alike.
    let mut checksum = Checksum::new();
    let mut answers: HashMap<(usize, String), Vec<u32>> = HashMap::new();
    for group in 0..GROUPS {
        let name = format!("group{group}");
        let members = index.get(&name).cloned().unwrap_or_default();
        let prefix = format!("w{:x}", group * 151);
        for (word, list) in index.range(prefix.clone()..).take(300) {
            let both = intersection(&members, list);
            checksum.write_u64(both.len() as u64);
            answers.insert((group, word.clone()), both);
            units += 1;
        }
    }
    let mut sorted: Vec<_> = answers.iter().collect();
    sorted.sort();
    for ((_, word), list) in sorted {
        checksum.write(word.as_bytes());
        checksum.write_u64(list.iter().map(|&d| u64::from(d)).sum());
    }

    // Remove every other document; words nobody uses any more go.
    for (document, text) in texts.iter().enumerate().step_by(2) {
        for word in text.split(' ') {
            let word = word.to_lowercase();
            if let Some(list) = index.get_mut(&word) {
                if let Ok(at) = list.binary_search(&(document as u32)) {
                    list.remove(at);
                }
                if list.is_empty() {
                    index.remove(&word);
                }
            }
            units += 1;
        }
    }
    let of_groups = index.iter().filter(|(word, _)| word.starts_with("group")).map(|(_, list)| list.len());
    expect("the number of documents left", of_groups.sum(), texts.len() / 2)?;
    for (word, list) in &index {
        checksum.write(word.as_bytes());
        checksum.write_u64(list.len() as u64);
    }
    Ok(Outcome { units, checksum: checksum.finish() })
}

fn intersection(a: &[u32], b: &[u32]) -> Vec<u32> {
    let (few, many) = if a.len() <= b.len() { (a, b) } else { (b, a) };
    few.iter().copied().filter(|n| many.binary_search(n).is_ok()).collect()
}
