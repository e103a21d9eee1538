//! Why MAP_POPULATE "does not work": the order decides.
//!
//! Populating before asking for huge pages fills OS pages that a later wish does not change; over-mapping and trimming
//! afterwards has populated the excess; memory that cannot be written is populated with nothing a write could use;
//! misaligned memory has no huge page at its ends; and MAP_POPULATE reports success where there is nothing to be had.
//! The right order is: map, align, advise, populate.

use std::io;

use serde_json::json;

use crate::maps::{COLLAPSE, HUGE, POPULATE_WRITE, RW, Raw, measured};
use crate::{Row, failed, row};

const ANONYMOUS: i32 = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;

pub(crate) fn bytes(quick: bool) -> usize {
    if quick { 32 << 20 } else { 512 << 20 }
}

/// How a mapping is made: bytes off alignment, protection and flags at first, then what is asked of it in turn.
struct Order(&'static str, usize, i32, i32, &'static [Step]);

enum Step {
    Advise(i32),
    Protect,
}

const WISH: Step = Step::Advise(libc::MADV_HUGEPAGE);
const POPULATE: Step = Step::Advise(POPULATE_WRITE);
const EARLY: i32 = ANONYMOUS | libc::MAP_POPULATE;

/// What a person might write, and what it should have been.
const ORDERS: [Order; 9] = [
    Order("nothing populated, no huge pages", 0, RW, ANONYMOUS, &[Step::Advise(libc::MADV_NOHUGEPAGE)]),
    Order("MAP_POPULATE, then MADV_HUGEPAGE", 0, RW, EARLY, &[WISH]),
    Order(TRIMMED, 0, RW, EARLY, &[WISH]),
    Order("PROT_NONE with MAP_POPULATE, then mprotect", 0, libc::PROT_NONE, EARLY, &[Step::Protect, WISH]),
    Order("read-only with MAP_POPULATE, then mprotect", 0, libc::PROT_READ, EARLY, &[Step::Protect, WISH]),
    Order("64 KiB off, MADV_HUGEPAGE, MADV_POPULATE_WRITE", 64 << 10, RW, ANONYMOUS, &[WISH, POPULATE]),
    Order("MAP_POPULATE, then MADV_COLLAPSE (the repair)", 0, RW, EARLY, &[Step::Advise(COLLAPSE)]),
    Order("aligned, MADV_HUGEPAGE, touched", 0, RW, ANONYMOUS, &[WISH]),
    Order("aligned, MADV_HUGEPAGE, MADV_POPULATE_WRITE (the right order)", 0, RW, ANONYMOUS, &[WISH, POPULATE]),
];

const TRIMMED: &str = "over-map with MAP_POPULATE, then trim, then MADV_HUGEPAGE";

fn make(Order(name, off, prot, flags, steps): &Order, len: usize) -> io::Result<Raw> {
    let map = if *name == TRIMMED { trimmed(len, *flags)? } else { Raw::placed(len, *off, *prot, *flags, -1)? };
    for step in *steps {
        match step {
            Step::Advise(advice) => map.advise(*advice)?,
            Step::Protect => map.protect(RW)?,
        }
    }
    Ok(map)
}

fn trimmed(len: usize, flags: i32) -> io::Result<Raw> {
    let mut whole = Raw::map(0, len + HUGE, RW, flags, -1)?;
    let start = whole.addr.next_multiple_of(HUGE);
    let tail = Raw { addr: start + len, len: whole.addr + HUGE - start };
    whole.len = start - whole.addr;
    drop((whole, tail));
    Ok(Raw { addr: start, len })
}

pub(crate) fn rows(quick: bool, say: &dyn Fn(&str)) -> Result<Vec<Row>, String> {
    let bytes = bytes(quick);
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
        let (resident, huge) = (map.resident(), map.huge_bytes());
        let ((), touch_secs, at_touch) = measured(|| map.touch());
        rows.push(row(json!({
            "order": order, "bytes": bytes, "faults_before": before, "resident_before": resident,
            "huge_before": huge, "cpu_secs_before": secs, "faults_at_touch": at_touch,
            "cpu_secs_at_touch": touch_secs, "huge_after": map.huge_bytes(),
        })));
    }
    rows.push(hidden_failure(bytes).map_err(failed("an empty pool"))?);
    Ok(rows)
}

/// MAP_POPULATE over a pool that is too small: says yes, and the first touch would be a SIGBUS. It is not touched.
fn hidden_failure(bytes: usize) -> io::Result<Row> {
    let free = |text: &str| -> Option<usize> {
        let line = text.lines().find_map(|l| l.strip_prefix("HugePages_Free:"))?;
        line.trim().parse().ok()
    };
    let had = free(&std::fs::read_to_string("/proc/meminfo")?).unwrap_or(0);
    // More than the pool has, whatever it has.
    let len = bytes.max((had + 1) * HUGE);
    let flags = ANONYMOUS | libc::MAP_HUGETLB | libc::MAP_NORESERVE | libc::MAP_POPULATE;
    let made = Raw::map(0, len, RW, flags, -1);
    let said = match &made {
        Ok(_) => "MAP_HUGETLB|NORESERVE|POPULATE over too small a pool: success",
        Err(_) => "MAP_HUGETLB|NORESERVE|POPULATE over too small a pool: refused",
    };
    let (resident, reported) = match &made {
        Ok(map) => (map.huge_bytes(), map.advise(POPULATE_WRITE).err().map(|e| e.to_string())),
        Err(e) => (0, Some(e.to_string())),
    };
    Ok(row(json!({
        "order": said, "bytes": len, "resident_before": resident, "populate_write_says": reported,
    })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_right_order_leaves_nothing_to_the_first_touch() {
        let (bytes, rows) = (bytes(true), rows(true, &|_| ()).unwrap());
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
        assert!(of("read-only", "faults_at_touch") >= bytes as u64 / HUGE as u64);
    }
}
