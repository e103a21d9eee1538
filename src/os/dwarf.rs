//! The encodings that DWARF is written in.
#![forbid(unsafe_code)]

/// How many bytes a pointer of this encoding has.
pub(super) fn width(encoding: u8) -> Option<usize> {
    match encoding & 0x0f {
        0x00 | 0x04 | 0x0c => Some(8),
        0x03 | 0x0b => Some(4),
        _ => None,
    }
}

/// Bytes that are read from the front.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    pub(super) bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn byte(&mut self) -> Option<u8> {
        let (&first, rest) = self.bytes.split_first()?;
        self.bytes = rest;
        Some(first)
    }

    pub(super) fn skip(&mut self, count: usize) -> Option<&'a [u8]> {
        let (skipped, rest) = self.bytes.split_at_checked(count)?;
        self.bytes = rest;
        Some(skipped)
    }

    pub(super) fn number(&mut self, width: usize) -> Option<u64> {
        let bytes = self.skip(width)?;
        Some(
            bytes
                .iter()
                .rev()
                .fold(0, |number, &byte| number << 8 | u64::from(byte)),
        )
    }

    /// An address in the encoding that compilers use for code: as it is, or from where it stands.
    pub(super) fn address(&mut self, encoding: u8) -> Option<usize> {
        let here = self.bytes.as_ptr().addr();
        let value = self.number(width(encoding)?)?;
        let value = match encoding & 0x0f {
            0x0b => value as u32 as i32 as usize,
            _ => value as usize,
        };
        match encoding & 0xf0 {
            0x00 => Some(value),
            0x10 => Some(here.wrapping_add(value)),
            _ => None,
        }
    }

    pub(super) fn uleb(&mut self) -> Option<u64> {
        let (mut value, mut shift) = (0, 0);
        loop {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f).checked_shl(shift)?;
            shift += 7;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
    }

    pub(super) fn sleb(&mut self) -> Option<i64> {
        let (mut value, mut shift) = (0_i64, 0);
        loop {
            let byte = self.byte()?;
            value |= i64::from(byte & 0x7f).checked_shl(shift)?;
            shift += 7;
            if byte & 0x80 == 0 {
                let unused = 64_u32.saturating_sub(shift);
                return Some(value << unused >> unused);
            }
        }
    }

    pub(super) fn block(&mut self) -> Option<Reader<'a>> {
        let len = self.uleb()?;
        let bytes = self.skip(usize::try_from(len).ok()?)?;
        Some(Reader { bytes })
    }
}
