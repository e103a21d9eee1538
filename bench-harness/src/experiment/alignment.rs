//! What misalignment costs.
//!
//! On anonymous memory the two ends only: the kernel still finds every whole 2 MiB inside. On shared file memory
//! everything: a huge page of a file can be mapped whole only where address and file offset agree modulo 2 MiB, else
//! each 4 KiB of it faults by itself. The `hint` rows show what the kernel makes of an address it was asked for, and
//! what our regions make of the same.

use std::ffi::CString;
use std::fs::File;
use std::os::fd::AsRawFd;

use hakmem_alloc::region::Region;
use serde_json::json;

use super::maps::{HUGE, RW, Raw, collapsed_memfd, failed, measured};
use super::{Row, row};
use crate::fail::Fail;

const PLACEMENTS: [(&str, usize); 3] = [("aligned", 0), ("off_64k", 64 << 10), ("off_4k", 4 << 10)];

/// What the table says, for whoever reads it alone.
pub(super) const EXPLAINED: &str = "\
anonymous memory off alignment: only the two ends, less than 2 MiB each, stay on OS pages, so that the faults grow by at
most 512, half as many again on 2 GiB. Shared file memory: the huge page belongs to the file, and can be mapped whole only
where address and offset agree modulo 2 MiB; off by anything less, each of its OS pages faults by itself.";

/// The size asked for, in bytes.
pub(super) fn checked_bytes(gib: Option<f64>, quick: bool) -> Result<usize, Fail> {
    let gib = gib.unwrap_or(if quick { 0.0625 } else { 2.0 });
    if !(0.0078125..=1024.0).contains(&gib) {
        return Err(Fail::usage(format!(
            "alignment {gib}: expected GiB from 0.0078125 to 1024"
        )));
    }
    Ok(((gib * (1u64 << 30) as f64) as usize).next_multiple_of(HUGE))
}

/// All rows.
pub(super) fn rows(bytes: usize) -> Result<Vec<Row>, Fail> {
    let mut rows = Vec::new();
    for (placement, off) in PLACEMENTS {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        let map = Raw::placed(bytes, off, RW, flags, -1).map_err(failed("anonymous mapping"))?;
        // Where the kernel has no huge pages the rows show that by their faults.
        let _ = map.advise(libc::MADV_HUGEPAGE);
        rows.push(touched(placement, "anonymous_thp", &map));
    }
    match collapsed_memfd(bytes) {
        Ok(fd) => shared(&mut rows, "memfd_collapsed", bytes, fd.as_raw_fd())?,
        Err(e) => eprintln!("memfd_collapsed: MADV_COLLAPSE (Linux 6.1) did not work here: {e}"),
    }
    match huge_tmpfs(bytes) {
        Ok(file) => shared(&mut rows, "tmpfs_huge", bytes, file.as_raw_fd())?,
        Err(e) => eprintln!("tmpfs_huge: a tmpfs with huge=always cannot be mounted here: {e}"),
    }
    for gib in [20usize, 200] {
        rows.push(hint(gib << 30)?);
    }
    Ok(rows)
}

fn touched(placement: &str, backing: &str, map: &Raw) -> Row {
    let ((), secs, faults) = measured(|| map.touch());
    row(json!({
        "placement": placement, "backing": backing, "bytes": map.len, "minor_faults": faults,
        "huge_bytes": map.huge_bytes(), "secs": secs,
    }))
}

fn shared(rows: &mut Vec<Row>, backing: &str, bytes: usize, fd: i32) -> Result<(), Fail> {
    for (placement, off) in PLACEMENTS {
        let map = Raw::placed(bytes, off, RW, libc::MAP_SHARED, fd).map_err(failed(backing))?;
        rows.push(touched(placement, backing, &map));
    }
    Ok(())
}

/// A file of huge pages on a tmpfs of its own, which is gone with the file.
fn huge_tmpfs(bytes: usize) -> std::io::Result<File> {
    let dir = std::env::temp_dir().join(format!("hakmem-tmpfs-{}", std::process::id()));
    std::fs::create_dir(&dir)?;
    let made = (|| {
        let target = CString::new(dir.as_os_str().as_encoded_bytes())?;
        let options = CString::new(format!("huge=always,size={}", bytes + 4 * HUGE))?;
        // SAFETY: C strings that outlive the call.
        let r = unsafe {
            let kind = c"tmpfs".as_ptr();
            libc::mount(kind, target.as_ptr(), kind, 0, options.as_ptr().cast())
        };
        if r != 0 {
            return Err(std::io::Error::last_os_error());
        }
        let file = File::options()
            .create_new(true)
            .read(true)
            .write(true)
            .open(dir.join("file"));
        // The mount stays for as long as the file is open. SAFETY: a C string.
        unsafe { libc::umount2(target.as_ptr(), libc::MNT_DETACH) };
        let file = file?;
        file.set_len(bytes as u64)?;
        let map = Raw::placed(bytes, 0, RW, libc::MAP_SHARED, file.as_raw_fd())?;
        map.touch();
        Ok(file)
    })();
    std::fs::remove_dir(&dir)?;
    made
}

/// The document's address, and what came of it.
fn hint(bytes: usize) -> Result<Row, Fail> {
    const HINT: usize = 0x7ff7_0000_0000;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    let (got, kernel_aligned) = {
        let map = Raw::map(HINT, bytes, RW, flags, -1).map_err(failed("mmap at the hint"))?;
        (map.addr, map.addr.is_multiple_of(HUGE))
    };
    let region = Region::builder()
        .len(bytes)
        .hint(HINT)
        .map()
        .map_err(failed("region at the hint"))?;
    let ours = region.as_ptr() as usize;
    Ok(row(json!({
        "placement": "hint", "backing": "anonymous", "bytes": bytes, "hint": format!("{HINT:#x}"),
        "kernel": format!("{got:#x}"), "kernel_aligned": kernel_aligned,
        "ours": format!("{ours:#x}"), "ours_aligned": ours.is_multiple_of(HUGE),
        "ours_honoured": region.hint_honoured(),
    })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_checked() {
        assert_eq!(checked_bytes(None, false).unwrap(), 2 << 30);
        assert_eq!(checked_bytes(Some(0.0078125), false).unwrap(), 8 << 20);
        for bad in [0.0, -1.0, f64::NAN, 1e9] {
            assert_eq!(checked_bytes(Some(bad), false).unwrap_err().code, 2);
        }
    }

    #[test]
    fn misaligned_shared_memory_faults_on_every_page() {
        let bytes = 32 << 20;
        let rows = rows(bytes).unwrap();
        let faults = |placement: &str, backing: &str| {
            let row = rows
                .iter()
                .find(|r| r["placement"] == placement && r["backing"] == backing)?;
            row["minor_faults"].as_u64()
        };
        if let Some(aligned) = faults("aligned", "memfd_collapsed") {
            let off = faults("off_64k", "memfd_collapsed").unwrap();
            assert!(off >= bytes as u64 / 4096, "{off}");
            assert!(aligned * 80 <= off, "{aligned} against {off}");
        }
        for row in rows.iter().filter(|r| r["placement"] == "hint") {
            assert_eq!(row["ours_aligned"], true);
        }
        assert_eq!(rows.iter().filter(|r| r["placement"] == "hint").count(), 2);
    }
}
