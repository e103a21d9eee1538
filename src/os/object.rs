//! The object (program or shared library) that contains this code, read from its own headers. The dynamic loader is not asked,
//! because another thread may hold its lock while it waits for this one.

use super::sys;

unsafe extern "C" {
    /// The linker's symbol for the ELF header of the object.
    static __ehdr_start: Header;
}

/// `Elf64_Ehdr`.
#[repr(C)]
struct Header {
    _ident: [u8; 16],
    _kind: [u16; 2],
    _version: u32,
    _entry: u64,
    program_headers: u64,
    _section_headers: u64,
    _flags: u32,
    _size: u16,
    _program_header_size: u16,
    program_header_count: u16,
    _rest: [u16; 3],
}

/// `Elf64_Phdr`.
#[repr(C)]
struct ProgramHeader {
    kind: u32,
    _flags: u32,
    offset: u64,
    address: u64,
    _rest: [u64; 4],
}

/// `Elf64_Dyn`.
#[repr(C)]
struct Entry {
    tag: i64,
    value: u64,
}

const _: () = assert!(
    size_of::<Header>() == 64 && size_of::<ProgramHeader>() == 56,
    "as the ELF specification has them"
);

const LOAD: u32 = 1;
const DYNAMIC: u32 = 2;
const FLAGS_1: i64 = 0x6fff_fffb;
/// `DF_1_NODELETE`: linked to stay (`-z nodelete`).
const NODELETE: u64 = 8;

/// Whether the object stays as long as the process: it is the program itself, or a library linked to stay.
pub(crate) fn stays() -> bool {
    let header = &raw const __ehdr_start;
    let base = header.addr();
    // The kernel says where the headers of the program are.
    let program = sys::getauxval(libc::AT_PHDR as usize);
    // SAFETY: these are the headers of a loaded object, laid out as the ELF specification says; nobody writes to them. The
    // dynamic section ends with an entry of tag 0.
    unsafe {
        let count = usize::from((*header).program_header_count);
        let offset = (*header).program_headers as usize;
        if base + offset == program {
            return true;
        }
        let headers = header.cast::<u8>().add(offset).cast::<ProgramHeader>();
        let headers = core::slice::from_raw_parts(headers, count);
        let first = headers.iter().find(|h| h.kind == LOAD && h.offset == 0);
        let dynamic = headers.iter().find(|h| h.kind == DYNAMIC);
        let (Some(first), Some(dynamic)) = (first, dynamic) else {
            return false;
        };
        let at = base - first.address as usize + dynamic.address as usize;
        let mut entry = core::ptr::with_exposed_provenance::<Entry>(at);
        while (*entry).tag != 0 {
            if (*entry).tag == FLAGS_1 {
                return (*entry).value & NODELETE != 0;
            }
            entry = entry.add(1);
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_stays() {
        assert!(stays());
        let header = &raw const __ehdr_start;
        // SAFETY: the header of this very program.
        let ident = unsafe { (&raw const (*header)._ident).read() };
        assert_eq!(ident[..4], *b"\x7fELF");
    }
}
