//! json: a document of 50 MB is parsed and printed twice with serde_json, once as a tree of values, once as typed records.
//!
//! Imitates services and tools that take whole documents into memory (imports, exports, API gateways): millions of
//! small strings, maps and vectors of differing lifetimes, freed in the order of a tree walk, beside one growing buffer
//! of 50 MB. One operation is one byte parsed or printed.

use std::collections::HashMap;

use bench_subject::program::{Outcome, Work};
use bench_subject::rng::XorShift64;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Checksum, Hasher, expect};

const CITIES: [&str; 8] = ["Aarhus", "Bogotá", "Cork", "Dakar", "Erfurt", "Fes", "Genève", "Hanoi"];

/// A record as the document has it. Names are in alphabetical order, so that a map that sorts prints them alike.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    active: bool,
    address: Address,
    balance: f64,
    email: String,
    id: u64,
    name: String,
    note: Option<String>,
    tags: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Address {
    city: String,
    street: String,
    zip: u32,
}

pub fn prepare(scale: f64) -> Result<Work, String> {
    let text = document((50e6 * scale) as usize);
    Ok(Box::new(move || work(&text)))
}

fn document(bytes: usize) -> String {
    let mut random = XorShift64::new(42, 0);
    let mut text = String::with_capacity(bytes + 1024);
    text.push('[');
    let mut id = 0u64;
    while id == 0 || text.len() < bytes {
        let quarters = random.between(0, 4_000_000) as u64;
        let mut tag = |n| format!("tag-{}-{n}", random.between(0, 9999));
        let tags: Vec<_> = (0..id % 6).map(&mut tag).collect();
        let record = Record {
            active: id.is_multiple_of(3),
            address: Address {
                city: CITIES[id as usize % CITIES.len()].to_owned(),
                street: format!("{} {}", "Long Road ".repeat(random.between(1, 4)), id % 300),
                zip: random.between(10_000, 99_999) as u32,
            },
            balance: quarters as f64 / 4.0,
            email: format!("user.{id}@mail-{}.example", random.between(1, 500)),
            id,
            name: format!("N{} \"of\" {id}", "a".repeat(random.between(2, 20))),
            note: id.is_multiple_of(4).then(|| "first line\nsecond\t".repeat(random.between(1, 12))),
            tags,
        };
        if id > 0 {
            text.push(',');
        }
        // Records of plain types always print.
        text += &serde_json::to_string(&record).unwrap_or_default();
        id += 1;
    }
    text.push(']');
    text
}

fn work(text: &str) -> Result<Outcome, String> {
    let mut checksum = Checksum::new();
    let printed = as_values(text)?;
    expect("the document of values", printed == text, true)?;
    drop(printed);
    let (printed, cities) = as_records(text)?;
    expect("the document of records", printed == text, true)?;
    for (city, quarters) in cities {
        checksum.write(city.as_bytes());
        checksum.write_u64(quarters);
    }
    Ok(Outcome { units: 4 * text.len() as u64, checksum: checksum.finish() })
}

fn as_values(text: &str) -> Result<String, String> {
    let tree: Value = serde_json::from_str(text).map_err(|e| e.to_string())?;
    serde_json::to_string(&tree).map_err(|e| e.to_string())
}

fn as_records(text: &str) -> Result<(String, Vec<(String, u64)>), String> {
    let records: Vec<Record> = serde_json::from_str(text).map_err(|e| e.to_string())?;
    let mut groups: HashMap<String, Vec<&Record>> = HashMap::new();
    for record in &records {
        let city = record.address.city.to_uppercase();
        groups.entry(city).or_default().push(record);
    }
    let sum = |group: &[&Record]| group.iter().map(|r| (r.balance * 4.0) as u64).sum::<u64>();
    let mut cities: Vec<(String, u64)> = groups.iter().map(|(city, group)| (city.clone(), sum(group))).collect();
    cities.sort();
    let printed = serde_json::to_string(&records).map_err(|e| e.to_string())?;
    Ok((printed, cities))
}
