//! Why MAP_POPULATE "does not work": the order decides.
//!
//! Populating before asking for huge pages fills OS pages that a later wish does not change; over-mapping and trimming
//! afterwards has populated the excess; memory that cannot be written is populated with nothing a write could use; and
//! misaligned memory has no huge page at its ends. The right order is: map, align, advise, populate.

use bench_subject::memory::{ANONYMOUS, Mapping, RW};
use serde_json::json;

use crate::Row;
use crate::maps::{COLLAPSE, POPULATE_WRITE, huge_bytes, measured, placed, resident, touch};

/// How a mapping is made: bytes off alignment, protection and flags at first; it is made writable; then what it is advised.
struct Order(&'static str, usize, i32, i32, &'static [i32]);

const WISH: i32 = libc::MADV_HUGEPAGE;
const EARLY: i32 = ANONYMOUS | libc::MAP_POPULATE;

/// What a person might write, and what it should have been.
const ORDERS: [Order; 9] = [
    Order("nothing populated, no huge pages", 0, RW, ANONYMOUS, &[libc::MADV_NOHUGEPAGE]),
    Order("MAP_POPULATE, then MADV_HUGEPAGE", 0, RW, EARLY, &[WISH]),
    Order(TRIMMED, 0, RW, EARLY, &[WISH]),
    Order("PROT_NONE with MAP_POPULATE, then mprotect", 0, libc::PROT_NONE, EARLY, &[WISH]),
    Order("read-only with MAP_POPULATE, then mprotect", 0, libc::PROT_READ, EARLY, &[WISH]),
    Order("64 KiB off, MADV_HUGEPAGE, MADV_POPULATE_WRITE", 64 << 10, RW, ANONYMOUS, &[WISH, POPULATE_WRITE]),
    Order("MAP_POPULATE, then MADV_COLLAPSE (the repair)", 0, RW, EARLY, &[COLLAPSE]),
    Order("aligned, MADV_HUGEPAGE, touched", 0, RW, ANONYMOUS, &[WISH]),
    Order("aligned, MADV_HUGEPAGE, MADV_POPULATE_WRITE (the right order)", 0, RW, ANONYMOUS, &[WISH, POPULATE_WRITE]),
];

const TRIMMED: &str = "over-map with MAP_POPULATE, then trim, then MADV_HUGEPAGE";

fn make(Order(name, off, prot, flags, advices): &Order, len: usize) -> Result<Mapping, String> {
    let said = |e: std::io::Error| e.to_string();
    let map = match *name {
        TRIMMED => Mapping::aligned(len, libc::MAP_POPULATE)?,
        _ => placed(len, *off, *prot, *flags, -1).map_err(said)?,
    };
    // SAFETY: the mapping just made.
    if *prot != RW && unsafe { libc::mprotect(map.addr as *mut _, map.len, RW) } != 0 {
        return Err(said(std::io::Error::last_os_error()));
    }
    advices.iter().try_for_each(|advice| map.advise(*advice)).map_err(said)?;
    Ok(map)
}

pub(crate) fn rows(bytes: usize, say: &dyn Fn(&str)) -> Result<Vec<Row>, String> {
    let mut rows = Vec::new();
    for entry in &ORDERS {
        let order = entry.0;
        let (made, secs, before) = measured(|| make(entry, bytes));
        let map = match made {
            Ok(map) => map,
            Err(e) => {
                say(&format!("{order}: not possible here: {e}"));
                continue;
            }
        };
        let (resident, huge) = (resident(&map), huge_bytes(map.addr, map.len));
        let ((), touch_secs, at_touch) = measured(|| touch(&map));
        rows.push(json!({
            "order": order, "bytes": bytes, "faults_before": before, "resident_before": resident,
            "huge_before": huge, "cpu_secs_before": secs, "faults_at_touch": at_touch,
            "cpu_secs_at_touch": touch_secs, "huge_after": huge_bytes(map.addr, map.len),
        }));
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_right_order_leaves_nothing_to_the_first_touch() {
        let bytes = 32 << 20;
        let rows = rows(bytes, &|_| ()).unwrap();
        let of = |start: &str, key: &str| {
            let row = rows.iter().find(|r| r["order"].as_str().unwrap().starts_with(start)).unwrap();
            row[key].as_u64().unwrap()
        };
        assert_eq!(of("nothing populated", "faults_at_touch"), bytes as u64 / 4096);
        assert_eq!(of("nothing populated", "resident_before"), 0);
        let right = "aligned, MADV_HUGEPAGE, MADV_POPULATE_WRITE";
        assert_eq!(of(right, "resident_before"), bytes as u64);
        assert_eq!(of(right, "faults_at_touch"), 0);
        assert_eq!(of("PROT_NONE", "resident_before"), 0);
        assert!(of("read-only", "faults_at_touch") >= bytes as u64 >> 21);
    }
}
