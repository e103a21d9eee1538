//! Counts the words of a generated text on several threads, each with a `HashMap<String, u64>` of its own.
//! Arguments: megabytes of text (default 100), threads (default 4). Prints the most frequent words.

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use std::collections::HashMap;
use std::thread;

fn argument(n: usize, default: usize) -> usize {
    let Some(text) = std::env::args().nth(n) else {
        return default;
    };
    text.parse().ok().filter(|&n| n > 0).unwrap_or_else(|| {
        eprintln!("argument {n} is {text}: expected a number above 0, as in: wordcount 100 4");
        std::process::exit(2)
    })
}

/// Words whose frequencies fall off as in real text: the word's number is the square of a uniform draw.
fn text(bytes: usize) -> String {
    let mut rng = SmallRng::seed_from_u64(1);
    let syllables = [
        "ka", "lo", "mi", "ten", "u", "ras", "por", "e", "ning", "dal", "shu", "o",
    ];
    let vocabulary: Vec<String> = (0..60_000)
        .map(|_| {
            (0..rng.random_range(1..6))
                .map(|_| syllables[rng.random_range(0..syllables.len())])
                .collect()
        })
        .collect();
    let mut text = String::new();
    while text.len() < bytes {
        let draw: f64 = rng.random();
        text.push_str(&vocabulary[(draw * draw * vocabulary.len() as f64) as usize]);
        text.push(if rng.random_ratio(1, 12) { '\n' } else { ' ' });
    }
    text
}

fn count(part: &str) -> HashMap<String, u64> {
    let mut counts = HashMap::new();
    for word in part.split_whitespace() {
        *counts.entry(word.to_owned()).or_insert(0) += 1;
    }
    counts
}

/// Cuts the text at spaces into about equal parts.
fn parts(text: &str, count: usize) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut rest = text;
    for left in (1..=count).rev() {
        let wanted = rest.len() / left;
        let end = rest[wanted..]
            .find(char::is_whitespace)
            .map_or(rest.len(), |i| wanted + i);
        let (part, tail) = rest.split_at(end);
        parts.push(part);
        rest = tail;
    }
    parts
}

pub fn main() {
    let text = text(argument(1, 100) * 1_000_000);
    let parts = parts(&text, argument(2, 4));
    let mut total: HashMap<String, u64> = HashMap::new();
    thread::scope(|scope| {
        let workers: Vec<_> = parts
            .into_iter()
            .map(|part| scope.spawn(move || count(part)))
            .collect();
        for worker in workers {
            for (word, n) in worker.join().expect("a counting thread") {
                *total.entry(word).or_insert(0) += n;
            }
        }
    });
    let mut words: Vec<(String, u64)> = total.into_iter().collect();
    words.sort_by(|(a, n), (b, m)| m.cmp(n).then_with(|| a.cmp(b)));
    println!(
        "{} words, {} different",
        words.iter().map(|(_, n)| n).sum::<u64>(),
        words.len()
    );
    for (word, n) in words.iter().take(20).chain(words.iter().rev().take(5)) {
        println!("{n:>9} {word}");
    }
}
