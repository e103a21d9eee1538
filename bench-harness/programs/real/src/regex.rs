//! regex: a web server's log of 40 MB is searched, taken apart and rewritten with the crate regex.
//!
//! Imitates log processors and text tools: a hundred patterns are compiled (automata: many blocks of many sizes that
//! grow and live on), then every line gives a handful of short-lived strings and vectors while a map of totals grows
//! slowly. One operation is one byte of the log.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

use bench_subject::program::{Outcome, Work};
use bench_subject::rng::XorShift64;
use regex::{Regex, RegexSet};

use crate::{Checksum, Hasher, expect};

const METHODS: [&str; 4] = ["GET", "POST", "PUT", "DELETE"];
const STATUS: [u16; 6] = [200, 200, 200, 304, 404, 500];

const LINE: &str = r#"(?m)^(?<ip>\d+\.\d+\.\d+\.\d+) - (?<user>\S+) \[(?<time>[^\]]+)\] "(?<method>[A-Z]+) (?<path>\S+) HTTP/1\.1" (?<status>\d{3}) (?<size>\d+) "(?<agent>[^"]*)"$"#;

pub fn prepare(scale: f64) -> Result<Work, String> {
    let text = log((40e6 * scale) as usize);
    Ok(Box::new(move || work(&text)))
}

fn log(bytes: usize) -> String {
    let mut random = XorShift64::new(7, 0);
    let mut text = String::with_capacity(bytes + 1024);
    while text.len() < bytes.max(10_000) {
        let mut octet = || random.between(1, 254);
        let ip = format!("{}.{}.{}.{}", octet(), octet(), octet(), octet());
        let shop = random.between(0, SHOPS - 1);
        let status = STATUS[random.between(0, STATUS.len() - 1)];
        let size = random.between(0, 99_999) as u64;
        text += &format!(
            "{ip} - user{} [21/Nov/2026:{:02}:{:02}:{:02} +0000] \"{} /shop{shop}/item/{}?q={} HTTP/1.1\" {status} {size} \"agent/{}.{}\"\n",
            random.between(1, 5000),
            random.between(0, 23),
            random.between(0, 59),
            random.between(0, 59),
            METHODS[random.between(0, 3)],
            random.between(1, 2000),
            "word+".repeat(random.between(0, 6)),
            random.between(1, 20),
            random.between(0, 99),
        );
    }
    text
}

/// Shops, each with a pattern of its own.
const SHOPS: usize = 100;

fn work(text: &str) -> Result<Outcome, String> {
    let compile = |pattern: &str| Regex::new(pattern).map_err(|e| e.to_string());
    let line = compile(LINE)?;
    let address = compile(r"\b(\d{1,3})\.(\d{1,3})\.\d{1,3}\.\d{1,3}\b")?;
    let words = compile(r"[\s/?&=+]+")?;
    let shops: Vec<String> = (0..SHOPS).map(|n| format!("/shop{n}/")).collect();
    let rules = RegexSet::new(&shops).map_err(|e| e.to_string())?;
    let singles = shops.iter().map(|p| compile(p)).collect::<Result<Vec<_>, _>>()?;

    let mut by_status: BTreeMap<u16, (u64, u64)> = BTreeMap::new();
    let mut by_path: HashMap<String, Vec<u32>> = HashMap::new();
    let mut by_shop: BTreeMap<usize, u64> = BTreeMap::new();
    let mut lines = 0;
    for (number, found) in line.captures_iter(text).enumerate() {
        let field = |name: &str| found.name(name).map_or("", |m| m.as_str());
        let status: u16 = field("status").parse().map_err(|_| "a status is no number")?;
        let size: u64 = field("size").parse().map_err(|_| "a size is no number")?;
        let entry = by_status.entry(status).or_default();
        *entry = (entry.0 + 1, entry.1 + size);
        let path = field("path");
        for shop in rules.matches(path) {
            if singles[shop].is_match(path) {
                *by_shop.entry(shop).or_default() += 1;
            }
        }
        let parts: Vec<String> = words.split(path).filter(|w| !w.is_empty()).map(str::to_lowercase).collect();
        by_path.entry(parts.join(" ")).or_default().push(number as u32);
        lines += 1;
    }
    let mut checksum = Checksum::new();
    by_status.iter().for_each(|(status, found)| (status, found).hash(&mut checksum));
    by_shop.iter().for_each(|found| found.hash(&mut checksum));

    // Every address made anonymous, line by line, as a stream processor would.
    let mut rewritten = 0;
    for line in text.lines() {
        let clean = address.replace_all(line, "$1.$2.x.x").into_owned();
        rewritten += u64::from(clean.contains(".x.x - "));
        checksum.write_u64(clean.len() as u64);
    }
    expect("the number of rewritten lines", rewritten, lines)?;
    let mut paths: Vec<_> = by_path.iter().collect();
    paths.sort();
    for (path, numbers) in paths {
        checksum.write(path.as_bytes());
        checksum.write_u64(numbers.iter().map(|&n| u64::from(n)).sum());
    }
    Ok(Outcome { units: text.len() as u64, checksum: checksum.finish() })
}
