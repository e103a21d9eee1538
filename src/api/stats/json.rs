//! Statistics as one JSON object on one line, for programs. Fields may be added; none is renamed or removed
//! while `schema` is 1. Bytes are numbers of bytes; classes without slabs and live blocks are left out.
#![forbid(unsafe_code)]

use core::fmt;

use super::Stats;
use crate::os::sys::Errno;

impl Stats {
    /// Writes the snapshot as one JSON object, without a line end.
    ///
    /// # Errors
    /// Those of `out`.
    ///
    /// ```
    /// let mut json = String::new();
    /// hakmem_alloc::stats_quick().write_json(&mut json)?;
    /// assert!(json.starts_with(r#"{"schema":1,"allocator":"hakmem""#));
    /// # Ok::<(), std::fmt::Error>(())
    /// ```
    pub fn write_json(&self, out: &mut impl fmt::Write) -> fmt::Result {
        self.json(out)
    }

    /// The same, once for all kinds of `out`: it is long.
    #[inline(never)]
    fn json(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        let Self {
            superslabs,
            large,
            heaps,
            batches,
            bytes,
            huge_pages,
            process,
            prefault,
            ..
        } = self;
        write!(
            out,
            r#"{{"schema":1,"allocator":"hakmem","version":"{}","live_blocks":{},"live_bytes":{},"slabs":{}"#,
            env!("CARGO_PKG_VERSION"),
            self.live_blocks(),
            self.live_bytes(),
            self.slabs()
        )?;
        object(
            out,
            "superslabs",
            &[
                ("mapped", superslabs.mapped),
                ("in_use", superslabs.in_use),
                ("retained", superslabs.retained),
                ("purged", superslabs.purged),
                ("pools", superslabs.pools),
            ],
        )?;
        object(
            out,
            "large",
            &[
                ("live_blocks", large.live_blocks),
                ("live_bytes", large.live_bytes),
                ("cached_bytes", large.cached_bytes),
            ],
        )?;
        object(out, "heaps", &[("live", heaps.live), ("idle", heaps.idle)])?;
        object(
            out,
            "batches",
            &[("posted", batches.posted), ("drained", batches.drained)],
        )?;
        object(
            out,
            "bytes",
            &[
                ("mapped", bytes.mapped),
                ("retained", bytes.retained),
                ("metadata", bytes.metadata),
                ("returned", bytes.returned),
                ("held", bytes.held),
                ("peak", bytes.peak),
            ],
        )?;
        write!(
            out,
            r#","huge_pages":{{"requested_bytes":{},"achieved_bytes":"#,
            huge_pages.requested_bytes
        )?;
        or_null(out, huge_pages.achieved_bytes)?;
        out.write_str(r#"},"process":{"resident_bytes":"#)?;
        or_null(out, process.resident_bytes)?;
        out.write_str(r#","peak_resident_bytes":"#)?;
        or_null(out, process.peak_resident_bytes)?;
        out.write_str(r#","page_faults":"#)?;
        or_null(out, process.page_faults)?;
        out.write_str("}")?;
        object(
            out,
            "prefault",
            &[("calls", prefault.calls), ("bytes", prefault.bytes)],
        )?;
        out.write_str(r#","failures":{"#)?;
        for (i, failure) in self.known_failures().enumerate() {
            write!(
                out,
                r#"{}"{}":{}"#,
                comma(i),
                Errno(failure.errno),
                failure.count
            )?;
        }
        out.write_str(r#"},"failed_calls":["#)?;
        for (i, failed) in self.known_failed_calls().enumerate() {
            write!(
                out,
                r#"{}{{"call":"{}","errno":"{}","count":{}}}"#,
                comma(i),
                failed.call,
                Errno(failed.errno),
                failed.count
            )?;
        }
        out.write_str(r#"],"classes":["#)?;
        for (i, class) in self.used_classes().enumerate() {
            write!(
                out,
                r#"{}{{"block_bytes":{},"slabs":{},"live_blocks":{},"live_bytes":{}}}"#,
                comma(i),
                class.block_bytes,
                class.slabs,
                class.live_blocks,
                class.live_bytes()
            )?;
        }
        out.write_str("]}")
    }
}

/// `,"name":{"field":number,…}`.
#[inline(never)]
fn object(out: &mut dyn fmt::Write, name: &str, fields: &[(&str, u64)]) -> fmt::Result {
    write!(out, r#","{name}":{{"#)?;
    for (i, (field, value)) in fields.iter().enumerate() {
        write!(out, r#"{}"{field}":{value}"#, comma(i))?;
    }
    out.write_str("}")
}

#[inline(never)]
fn or_null(out: &mut dyn fmt::Write, number: Option<u64>) -> fmt::Result {
    match number {
        Some(number) => write!(out, "{number}"),
        None => out.write_str("null"),
    }
}

fn comma(i: usize) -> &'static str {
    if i == 0 { "" } else { "," }
}
