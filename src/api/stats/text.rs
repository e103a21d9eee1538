//! Statistics for people: bytes in units, states that add up on one line. `{:#}` adds a table of the classes.
#![forbid(unsafe_code)]

use core::fmt;

use super::Stats;
use crate::os::sys::Errno;

/// About ten lines; `{:#}` adds a table of the size classes in use. What never happened has no line.
impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_memory(f)?;
        self.write_traffic(f)?;
        self.write_failures(f)?;
        if f.alternate() {
            self.write_classes(f)?;
        }
        Ok(())
    }
}

impl Stats {
    fn write_memory(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            superslabs,
            large,
            bytes,
            process,
            ..
        } = self;
        writeln!(
            f,
            "live        {} in {} blocks",
            Bytes(self.live_bytes()),
            self.live_blocks()
        )?;
        writeln!(
            f,
            "held        {} for blocks, {} at most; {} of it retained, {} for tables",
            Bytes(bytes.held),
            Bytes(bytes.peak),
            Bytes(bytes.retained),
            Bytes(bytes.metadata)
        )?;
        if let (Some(resident), Some(peak), Some(faults)) = (
            process.resident_bytes,
            process.peak_resident_bytes,
            process.page_faults,
        ) {
            writeln!(
                f,
                "process     {} resident, {} at most; {faults} page faults so far",
                Bytes(resident),
                Bytes(peak)
            )?;
        }
        writeln!(
            f,
            "mapped      {}; {} returned so far",
            Bytes(bytes.mapped),
            Bytes(bytes.returned)
        )?;
        writeln!(
            f,
            "superslabs  {} mapped: {} in use, {} retained, {} purged",
            superslabs.mapped, superslabs.in_use, superslabs.retained, superslabs.purged
        )?;
        if large.live_blocks != 0 || large.cached_bytes != 0 {
            writeln!(
                f,
                "large       {} blocks, {}; {} cached",
                large.live_blocks,
                Bytes(large.live_bytes),
                Bytes(large.cached_bytes)
            )?;
        }
        Ok(())
    }

    fn write_traffic(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            heaps,
            batches,
            huge_pages,
            prefault,
            ..
        } = self;
        writeln!(f, "heaps       {} live, {} idle", heaps.live, heaps.idle)?;
        if batches.posted != 0 {
            writeln!(
                f,
                "batches     {} posted, {} drained so far",
                batches.posted, batches.drained
            )?;
        }
        if huge_pages.requested_bytes != 0 || huge_pages.achieved_bytes.is_some_and(|had| had != 0)
        {
            write!(
                f,
                "huge pages  {} asked for, ",
                Bytes(huge_pages.requested_bytes)
            )?;
            match huge_pages.achieved_bytes {
                Some(achieved) => writeln!(f, "{} given", Bytes(achieved))?,
                None => writeln!(f, "not known how much was given")?,
            }
        }
        if prefault.calls != 0 {
            writeln!(
                f,
                "prefault    {} calls, {} so far",
                prefault.calls,
                Bytes(prefault.bytes)
            )?;
        }
        Ok(())
    }

    fn write_failures(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "failures    ";
        for failed in self.known_failed_calls() {
            let (count, call, errno) = (failed.count, failed.call, Errno(failed.errno));
            write!(f, "{separator}{count} × {call}: {errno}")?;
            separator = ", ";
        }
        if separator == ", " {
            f.write_str("\n")?;
        }
        Ok(())
    }

    fn write_classes(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.used_classes().next().is_some() {
            writeln!(
                f,
                "{:>11} {:>9} {:>12} {:>12}",
                "block bytes", "slabs", "live blocks", "live"
            )?;
        }
        for class in self.used_classes() {
            let live = Bytes(class.live_bytes());
            writeln!(
                f,
                "{:>11} {:>9} {:>12} {live:>12}",
                class.block_bytes, class.slabs, class.live_blocks
            )?;
        }
        Ok(())
    }
}

/// Bytes in the largest unit that leaves at least 1, with one decimal, rounded down.
struct Bytes(u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(u32, &str); 4] = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
        let mut text = Short::default();
        match UNITS.into_iter().find(|&(shift, _)| self.0 >> shift != 0) {
            Some((shift, unit)) => {
                let tenths = ((self.0 & ((1 << shift) - 1)) * 10) >> shift;
                fmt::write(
                    &mut text,
                    format_args!("{}.{tenths} {unit}", self.0 >> shift),
                )?;
            }
            None => fmt::write(&mut text, format_args!("{} B", self.0))?,
        }
        f.pad(text.as_str())
    }
}

/// A few characters in a buffer, so that they can be padded together.
#[derive(Default)]
struct Short {
    bytes: [u8; 24],
    len: usize,
}

impl Short {
    fn as_str(&self) -> &str {
        self.bytes
            .get(..self.len)
            .and_then(|bytes| str::from_utf8(bytes).ok())
            .unwrap_or("?")
    }
}

impl fmt::Write for Short {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = self.len + text.len();
        self.bytes
            .get_mut(self.len..end)
            .ok_or(fmt::Error)?
            .copy_from_slice(text.as_bytes());
        self.len = end;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Bytes;
    use std::format;

    #[test]
    fn bytes_are_shown_in_a_unit_that_fits() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1024 * 1024 - 1, "1023.9 KiB"),
            (5 << 19, "2.5 MiB"),
            (3 << 30, "3.0 GiB"),
            (u64::MAX, "16777215.9 TiB"),
        ] {
            assert_eq!(format!("{}", Bytes(bytes)), text);
        }
        assert_eq!(format!("[{:>9}]", Bytes(16)), "[     16 B]");
    }
}
