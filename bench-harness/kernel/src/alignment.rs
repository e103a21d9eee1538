//! What misalignment costs.
//!
//! On anonymous memory the two ends only: the kernel still finds every whole 2 MiB inside. On shared file memory everything:
//! a huge page of a file can be mapped whole only where address and file offset agree modulo 2 MiB, else each 4 KiB of it
//! faults by itself. The `hint` rows show what the kernel makes of an address it was asked for, and what our regions make of
//! the same.

use std::os::fd::AsRawFd;

use bench_subject::memory::{ANONYMOUS, HUGE, Mapping, RW};
use hakmem_alloc::region::Region;
use serde_json::json;

use crate::maps::{collapsed_memfd, huge_bytes, measured, placed, touch};
use crate::{Row, failed};

const PLACEMENTS: [(&str, usize); 3] = [("aligned", 0), ("off_64k", 64 << 10), ("off_4k", 4 << 10)];
const RESERVED: i32 = ANONYMOUS | libc::MAP_NORESERVE;

pub(crate) fn rows(bytes: usize, say: &dyn Fn(&str)) -> Result<Vec<Row>, String> {
    let mut rows = Vec::new();
    for (placement, off) in PLACEMENTS {
        let map = placed(bytes, off, RW, RESERVED, -1).map_err(failed("anonymous mapping"))?;
        // Where the kernel has no huge pages the rows show that by their faults.
        let _ = map.advise(libc::MADV_HUGEPAGE);
        rows.push(touched(placement, "anonymous_thp", &map));
    }
    match collapsed_memfd(bytes) {
        Ok(fd) => {
            for (placement, off) in PLACEMENTS {
                let map = placed(bytes, off, RW, libc::MAP_SHARED, fd.as_raw_fd()).map_err(failed("memfd"))?;
                rows.push(touched(placement, "memfd_collapsed", &map));
            }
        }
        Err(e) => say(&format!("memfd_collapsed: MADV_COLLAPSE (Linux 6.1) did not work here: {e}")),
    }
    for gib in [20usize, 200] {
        rows.push(hint(gib << 30)?);
    }
    Ok(rows)
}

fn touched(placement: &str, backing: &str, map: &Mapping) -> Row {
    let ((), secs, faults) = measured(|| touch(map));
    json!({
        "placement": placement, "backing": backing, "bytes": map.len, "minor_faults": faults,
        "huge_bytes": huge_bytes(map.addr, map.len), "cpu_secs": secs,
    })
}

/// The document's address, and what came of it.
fn hint(bytes: usize) -> Result<Row, String> {
    const HINT: usize = 0x7ff7_0000_0000;
    let got = Mapping::new(HINT, bytes, RW, RESERVED, -1).map_err(failed("mmap at the hint"))?.addr;
    let region = Region::builder().len(bytes).hint(HINT).map().map_err(failed("region at the hint"))?;
    let ours = region.as_ptr() as usize;
    Ok(json!({
        "placement": "hint", "backing": "anonymous", "bytes": bytes, "hint": format!("{HINT:#x}"),
        "kernel": format!("{got:#x}"), "kernel_aligned": got.is_multiple_of(HUGE),
        "ours": format!("{ours:#x}"), "ours_aligned": ours.is_multiple_of(HUGE), "ours_honoured": region.hint_honoured(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misaligned_shared_memory_faults_on_every_page() {
        let rows = rows(32 << 20, &|_| ()).unwrap();
        let faults = |placement: &str| {
            let fits = |r: &&Row| r["placement"] == placement && r["backing"] == "memfd_collapsed";
            rows.iter().find(fits)?["minor_faults"].as_u64()
        };
        // Without MADV_COLLAPSE there are no such rows.
        if let (Some(aligned), Some(off)) = (faults("aligned"), faults("off_64k")) {
            assert!(off >= (32 << 20) / 4096 && aligned * 80 <= off, "{aligned} against {off}");
        }
        let hints: Vec<&Row> = rows.iter().filter(|r| r["placement"] == "hint").collect();
        assert!(hints.len() == 2 && hints.iter().all(|r| r["ours_aligned"] == true));
    }
}
