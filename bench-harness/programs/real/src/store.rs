//! store: the embedded store redb, in memory: filled in transactions, read at random, scanned, and thinned out.
//!
//! Imitates programs with a database inside (browsers, message stores, block chains): pages of 4 KiB and more taken and
//! given up by the thousand as trees are copied on write, one large buffer that grows by realloc, and keys and values
//! copied in and out. No disk is involved, which would hide the allocator. One operation is one record written, read or
//! removed.

use bench_subject::program::{Outcome, Work};
use bench_subject::rng::XorShift64;
use redb::backends::InMemoryBackend;
use redb::{Database, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition};

use crate::{Checksum, Hasher, expect, scaled};

const TABLE: TableDefinition<u64, &[u8]> = TableDefinition::new("records");
const NAMES: TableDefinition<&str, u64> = TableDefinition::new("names");

const BATCH: usize = 2_000;

pub fn prepare(scale: f64) -> Result<Work, String> {
    let records = scaled(120_000, scale, 1_000);
    // Every number once, in an order without order.
    let mut keys: Vec<u64> = (0..records as u64).collect();
    let mut random = XorShift64::new(5, 0);
    for i in (1..keys.len()).rev() {
        keys.swap(i, random.between(0, i));
    }
    Ok(Box::new(move || work(&keys).map_err(|e| e.to_string())?))
}

/// The value of a key: its length and bytes follow from it.
fn value(key: u64) -> Vec<u8> {
    let length = 20 + (key.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 55) as usize;
    vec![key as u8; length]
}

fn name(key: u64) -> String {
    format!("record/{:x}/{key}", key % 17)
}

/// An error of the store is one result, a wrong record the other.
fn work(keys: &[u64]) -> Result<Result<Outcome, String>, redb::Error> {
    let store = Database::builder().set_cache_size(64 << 20).create_with_backend(InMemoryBackend::new())?;
    let mut units = 0u64;
    for batch in keys.chunks(BATCH) {
        let write = store.begin_write()?;
        {
            let mut table = write.open_table(TABLE)?;
            let mut names = write.open_table(NAMES)?;
            for &key in batch {
                table.insert(key, value(key).as_slice())?;
                names.insert(name(key).as_str(), key)?;
            }
        }
        write.commit()?;
        units += 2 * batch.len() as u64;
    }

    // By name and number, in the order in which they were not written.
    let mut wrong = 0;
    let mut checksum = Checksum::new();
    let read = store.begin_read()?;
    let (table, names) = (read.open_table(TABLE)?, read.open_table(NAMES)?);
    for &key in keys.iter().rev() {
        let number = names.get(name(key).as_str())?.map(|found| found.value());
        let found = table.get(key)?.map(|found| found.value().to_vec());
        wrong += usize::from(number != Some(key) || found != Some(value(key)));
        units += 2;
    }
    drop((table, names, read));
    if let Err(wrong) = expect("the number of records read wrong", wrong, 0) {
        return Ok(Err(wrong));
    }

    // Two of three go, then a scan of what is left.
    for batch in keys.chunks(BATCH) {
        let write = store.begin_write()?;
        {
            let mut table = write.open_table(TABLE)?;
            let mut names = write.open_table(NAMES)?;
            for &key in batch.iter().filter(|&key| key % 3 != 0) {
                table.remove(key)?;
                names.remove(name(key).as_str())?;
                units += 2;
            }
        }
        write.commit()?;
    }
    let read = store.begin_read()?;
    let table = read.open_table(TABLE)?;
    let mut next = 0;
    for entry in table.iter()? {
        let (key, found) = entry?;
        wrong += usize::from(key.value() != next || found.value() != value(next));
        checksum.write_u64(key.value());
        checksum.write(found.value());
        next += 3;
        units += 1;
    }
    let left = (table.len()?, read.open_table(NAMES)?.len()?);
    let right = (keys.len() as u64).div_ceil(3);
    let verdict = expect("the number of records scanned wrong", wrong, 0)
        .and_then(|()| expect("the number of records left", left, (right, right)));
    Ok(verdict.map(|()| Outcome { units, checksum: checksum.finish() }))
}
