//! What a loaded object exports.

use super::object::{Header, STRINGS, dynamic_of, equals, headers_at, moved};
use core::ops::Range;
use core::ptr;

const SYMBOLS: i64 = 6;
const HASHES: i64 = 0x6fff_fef5;

/// Where a function lies that the object exports whose ELF header lies at `start`. The name ends with a zero.
///
/// # Safety
/// An object is mapped there, and stays.
pub(super) unsafe fn function_in(start: usize, name: &[u8]) -> Option<Range<usize>> {
    // SAFETY: reads words of a loaded object's tables, at places that these tables name.
    unsafe {
        let header: *const Header = ptr::with_exposed_provenance(start);
        if !(*header).ident.starts_with(b"\x7fELF") {
            return None;
        }
        let object = headers_at(header)?;
        let table = |tag| Some(moved(dynamic_of(object, tag)?, object.1));
        let (hashes, symbols, strings) = (table(HASHES)?, table(SYMBOLS)?, table(STRINGS)?);
        let number = |at: usize| *ptr::with_exposed_provenance::<u32>(at);
        let [buckets, first, bloom] = [0, 4, 8].map(|at| number(hashes + at) as usize);
        let name_hash = name.split_last()?.1.iter().fold(5381_u32, |hash, &byte| {
            hash.wrapping_mul(33).wrapping_add(u32::from(byte))
        });
        let bucket = hashes + 16 + 8 * bloom;
        let chain = bucket + 4 * buckets;
        let mut i = number(bucket + 4 * (name_hash as usize).checked_rem(buckets)?) as usize;
        while i >= first {
            let hash = number(chain + 4 * (i - first));
            // `Elf64_Sym`: the name in the first four bytes, the value in the second eight, then the size.
            let symbol = symbols + 24 * i;
            if hash | 1 == name_hash | 1 && equals(strings + number(symbol) as usize, name) {
                let [value, size] = *ptr::with_exposed_provenance::<[usize; 2]>(symbol + 8);
                let at = object.1.wrapping_add(value);
                return Some(at..at.wrapping_add(size));
            }
            if hash & 1 != 0 {
                break;
            }
            i += 1;
        }
        None
    }
}
