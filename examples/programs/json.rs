//! Builds a JSON document, prints it, parses what it printed, changes it, and prints it again.
//! Argument: number of records (default 40,000). Prints sizes, a checksum and one record.

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

fn record(rng: &mut SmallRng, id: usize) -> Value {
    let name: String = (0..rng.random_range(3..20))
        .map(|_| rng.random_range('a'..='z'))
        .collect();
    let tags: Vec<String> = (0..rng.random_range(0..8))
        .map(|_| format!("tag-{}", rng.random_range(0..500)))
        .collect();
    json!({
        "id": id,
        "name": name,
        "tags": tags,
        "score": f64::from(rng.random_range(0..1_000_000u32)) / 1024.0,
        "note": "a \"quoted\" line\nand another ".repeat(rng.random_range(0..6)),
        "place": { "x": rng.random_range(-180..180), "y": rng.random_range(-90..90), "known": rng.random_bool(0.5) },
        "history": (0..rng.random_range(0..12)).map(|_| rng.random_range(0..1_000_000u32)).collect::<Vec<_>>(),
    })
}

fn checksum(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |sum, byte| {
        (sum ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    })
}

pub fn main() {
    let argument = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "40000".to_owned());
    let Some(count) = argument.parse::<usize>().ok().filter(|&n| n > 0) else {
        eprintln!(
            "argument is {argument}: expected a number of records above 0, as in: json 40000"
        );
        std::process::exit(2)
    };
    let mut rng = SmallRng::seed_from_u64(2);
    let document = Value::Array((0..count).map(|id| record(&mut rng, id)).collect());
    let text = serde_json::to_string(&document).expect("a value prints");
    println!("{} bytes, checksum {:016x}", text.len(), checksum(&text));

    let mut parsed: Value = serde_json::from_str(&text).expect("what was printed parses");
    assert!(
        parsed == document,
        "the parsed document differs from the printed one"
    );
    let records = parsed.as_array_mut().expect("an array was printed");
    records.retain(|record| record["place"]["known"] == json!(true));
    for record in records.iter_mut() {
        let sum: u64 = record["history"]
            .as_array()
            .expect("a list")
            .iter()
            .filter_map(Value::as_u64)
            .sum();
        record["sum"] = json!(sum);
        record["note"].take();
    }
    let pretty = serde_json::to_string_pretty(&parsed).expect("a value prints");
    println!(
        "{} bytes, checksum {:016x}",
        pretty.len(),
        checksum(&pretty)
    );
    println!("{:#}", parsed[count / 4]);
}
