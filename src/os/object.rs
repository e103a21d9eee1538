//! The object (program or shared library) that contains this code, read from its own headers. The dynamic loader is not asked,
//! because another thread may hold its lock while it waits for this one. Other objects are found by a function of glibc's that
//! takes no lock.

use core::cell::UnsafeCell;
use core::ops::Range;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use core::sync::atomic::{AtomicBool, AtomicUsize};

use super::modules::{Maps, Module};
use super::{readable, symbols, sys};

unsafe extern "C" {
    /// The linker's symbol for the ELF header of the object.
    static __ehdr_start: Header;
}

/// `Elf64_Ehdr`.
#[repr(C)]
pub(super) struct Header {
    pub(super) ident: [u8; 16],
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
pub(super) struct ProgramHeader {
    pub(super) kind: u32,
    _flags: u32,
    offset: u64,
    pub(super) address: u64,
    _physical: u64,
    _file_size: u64,
    pub(super) size: u64,
    _alignment: u64,
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

pub(super) const LOAD: u32 = 1;
const DYNAMIC: u32 = 2;
const FLAGS_1: i64 = 0x6fff_fffb;
/// `DF_1_NODELETE`: linked to stay (`-z nodelete`).
const NODELETE: u64 = 8;

pub(super) const STRINGS: i64 = 5;
const SONAME: i64 = 14;
/// `PT_GNU_EH_FRAME`.
const UNWIND: u32 = 0x6474_e550;

/// The program headers, and how far addresses in memory are from those in the file.
///
/// # Safety
/// None: these are the headers of a loaded object, laid out as the ELF specification says, and nobody writes to them.
fn headers() -> Option<(&'static [ProgramHeader], usize)> {
    // SAFETY: the header of this object.
    unsafe { headers_at(&raw const __ehdr_start) }
}

/// # Safety
/// The header of a loaded object, which stays.
pub(super) unsafe fn headers_at(
    header: *const Header,
) -> Option<(&'static [ProgramHeader], usize)> {
    // SAFETY: as above.
    let headers = unsafe {
        let count = usize::from((*header).program_header_count);
        let offset = (*header).program_headers as usize;
        let first = header.cast::<u8>().add(offset).cast::<ProgramHeader>();
        core::slice::from_raw_parts(first, count)
    };
    let first = headers.iter().find(|h| h.kind == LOAD && h.offset == 0)?;
    Some((headers, header.addr().wrapping_sub(first.address as usize)))
}

/// Whether the object is the program itself. The kernel says where the headers of the program are.
fn is_program() -> bool {
    let header = &raw const __ehdr_start;
    // SAFETY: the header of this object.
    let offset = unsafe { (*header).program_headers as usize };
    header.addr() + offset == sys::getauxval(libc::AT_PHDR as usize)
}

/// The value of the dynamic section's entry with this tag.
fn dynamic(tag: i64) -> Option<u64> {
    dynamic_of(headers()?, tag)
}

pub(super) fn dynamic_of((headers, bias): (&[ProgramHeader], usize), tag: i64) -> Option<u64> {
    let dynamic = headers.iter().find(|h| h.kind == DYNAMIC)?;
    let at = bias.wrapping_add(dynamic.address as usize);
    let mut entry = core::ptr::with_exposed_provenance::<Entry>(at);
    // SAFETY: the dynamic section, which ends with an entry of tag 0.
    unsafe {
        while (*entry).tag != 0 {
            if (*entry).tag == tag {
                return Some((*entry).value);
            }
            entry = entry.add(1);
        }
    }
    None
}

/// Whether the object stays as long as the process: it is the program itself, or a library linked to stay.
pub(crate) fn stays() -> bool {
    is_program() || dynamic(FLAGS_1).is_some_and(|flags| flags & NODELETE != 0)
}

/// What is asked for often, once it was found out.
struct Facts {
    known: AtomicBool,
    start: AtomicUsize,
    end: AtomicUsize,
    unwind: AtomicUsize,
    library: AtomicBool,
    find: AtomicUsize,
}

impl Facts {
    /// The addresses of the object that contains this code.
    fn range(&self) -> Range<usize> {
        self.start.load(Relaxed)..self.end.load(Relaxed)
    }
}

static FACTS: Facts = Facts {
    known: AtomicBool::new(false),
    start: AtomicUsize::new(0),
    end: AtomicUsize::new(0),
    unwind: AtomicUsize::new(0),
    library: AtomicBool::new(false),
    find: AtomicUsize::new(0),
};

fn facts() -> &'static Facts {
    // Acquire pairs with the Release below. Two threads may find the same facts at once.
    if !FACTS.known.load(Acquire) {
        if let Some((headers, bias)) = headers() {
            let loads = headers.iter().filter(|h| h.kind == LOAD);
            let end = loads.map(|h| h.address + h.size).max().unwrap_or(0);
            let unwind = headers.iter().find(|h| h.kind == UNWIND);
            FACTS.start.store((&raw const __ehdr_start).addr(), Relaxed);
            FACTS.end.store(bias.wrapping_add(end as usize), Relaxed);
            let unwind = unwind.map_or(0, |h| bias.wrapping_add(h.address as usize));
            FACTS.unwind.store(unwind, Relaxed);
            FACTS
                .library
                .store(!is_program() && is_named(bias, b"libhakmem.so\0"), Relaxed);
        }
        // Until this thread is done, others do without it.
        if !SCRATCH.busy.swap(true, Acquire) {
            // SAFETY: the flag says that nobody else uses it, and stays set: once is enough.
            let Scratch { maps, module } = unsafe { &mut *SCRATCH.room.get() };
            FACTS
                .find
                .store(of_libc(FIND, maps, module).unwrap_or(0), Relaxed);
            FACTS.known.store(true, Release);
        }
    }
    &FACTS
}

/// Whether other objects can be asked for their tables, if that is possible at all: another thread may be finding out.
pub(super) fn is_known() -> bool {
    // Acquire pairs with the Release in `facts`.
    FACTS.known.load(Acquire)
}

/// Whether the object has this name in its dynamic section.
fn is_named(bias: usize, name: &[u8]) -> bool {
    let (Some(strings), Some(offset)) = (dynamic(STRINGS), dynamic(SONAME)) else {
        return false;
    };
    // SAFETY: the name of the object, which ends with a zero.
    unsafe { equals(moved(strings, bias) + offset as usize, name) }
}

/// The address of a table. glibc adds the bias to it, musl does not.
pub(super) fn moved(table: u64, bias: usize) -> usize {
    match table as usize {
        unmoved if unmoved < bias => unmoved + bias,
        moved => moved,
    }
}

/// # Safety
/// There is a string at `at`. Both end with a zero, and so ends the comparison.
pub(super) unsafe fn equals(at: usize, name: &[u8]) -> bool {
    let at = core::ptr::with_exposed_provenance::<u8>(at);
    // SAFETY: as above.
    (0..)
        .zip(name)
        .all(|(i, &byte)| unsafe { *at.add(i) } == byte)
}

/// What the search for the C library needs, which is too much for a small stack of a signal handler.
struct Scratch {
    maps: Maps,
    module: Module,
}

struct OneScratch {
    busy: AtomicBool,
    room: UnsafeCell<Scratch>,
}

// SAFETY: one thread uses the room, which has set the flag.
unsafe impl Sync for OneScratch {}

static SCRATCH: OneScratch = OneScratch {
    busy: AtomicBool::new(false),
    room: UnsafeCell::new(Scratch {
        maps: Maps::new(),
        module: Module::new(),
    }),
};

const FIND: &[u8] = b"_dl_find_object\0";

/// The address of a function of the C library, found in the library's own table of symbols. A reference by name would make
/// this object refuse to load with a C library that is older than the function, since not every linker marks such a need as weak.
fn of_libc(name: &[u8], maps: &mut Maps, library: &mut Module) -> Option<usize> {
    if !library.find(libc::getauxval as *const () as usize, maps) {
        return None;
    }
    // SAFETY: the C library stays.
    Some(unsafe { symbols::function_in(library.start(), name)? }.start)
}

/// The addresses of the object if it is libhakmem.so, which contains nothing but the allocator.
pub(crate) fn library() -> Option<Range<usize>> {
    let facts = facts();
    facts.library.load(Relaxed).then(|| facts.range())
}

/// `struct dl_find_object`.
#[repr(C)]
struct Found {
    _flags: u64,
    start: usize,
    _end: usize,
    _link_map: usize,
    unwind: usize,
    _reserved: [u64; 7],
}

/// The address of the `.eh_frame_hdr` of the object that contains code at `pc`. `None` if it has none or is not known: glibc
/// before 2.35 and other C libraries know no object but this one.
pub(crate) fn unwind_table(pc: usize) -> Option<usize> {
    find(pc).filter(|&at| at != 0)
}

/// Whether a call may return to `pc`: in front of it there is an instruction that calls. `None` if [`unwind_table`] knows no object
/// there. May change `errno`. An object that another thread unloads between the question to the kernel and the read may be gone.
pub(super) fn follows_call(pc: usize) -> Option<bool> {
    let mut before = [0; CALL];
    find(pc.wrapping_sub(1))?;
    Some(readable::copy(pc.wrapping_sub(CALL), &mut before) == CALL && is_call(before))
}

/// Bytes of the longest instruction that calls.
const CALL: usize = 7;

/// Whether an instruction that calls ends these bytes.
#[cfg(target_arch = "x86_64")]
fn is_call(before: [u8; CALL]) -> bool {
    // To what is so many bytes away; or to the address in a register or in memory, in any encoding of that.
    before[2] == 0xe8
        || before
            .windows(2)
            .any(|pair| matches!(*pair, [0xff, operand] if operand >> 3 & 7 == 2))
}

/// The stack is searched on that architecture alone.
#[cfg(not(target_arch = "x86_64"))]
fn is_call(_: [u8; CALL]) -> bool {
    false
}

/// Whether the object that contains this code contains `pc` as well.
pub(super) fn is_own(pc: usize) -> bool {
    facts().range().contains(&pc)
}

/// Whether other objects than this one can be asked for.
pub(super) fn knows_others() -> bool {
    facts().find.load(Relaxed) != 0
}

/// The address of the `.eh_frame_hdr`, or 0, of the object that contains code at `pc`.
fn find(pc: usize) -> Option<usize> {
    let facts = facts();
    if facts.range().contains(&pc) {
        return Some(facts.unwind.load(Relaxed));
    }
    Some(found(pc)?.unwind)
}

/// Where the object begins that contains code at `pc`. `None` as for [`unwind_table`], and for this one.
pub(super) fn start_of(pc: usize) -> Option<usize> {
    Some(found(pc)?.start)
}

fn found(pc: usize) -> Option<Found> {
    let find = match facts().find.load(Relaxed) {
        0 => return None,
        find => core::ptr::with_exposed_provenance::<()>(find),
    };
    type Find = unsafe extern "C" fn(usize, *mut Found) -> i32;
    let mut found = core::mem::MaybeUninit::<Found>::zeroed();
    // SAFETY: glibc's function, which may be called in signal handlers, and fills what it finds.
    unsafe {
        let find = core::mem::transmute::<*const (), Find>(find);
        let outcome = find(pc, found.as_mut_ptr());
        let found = found.assume_init();
        (outcome == 0).then_some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn instructions_that_call_are_told_from_others() {
        // call rel32; call rax; call [rip + 4 bytes]; call [rsp + 8].
        for call in [
            [1, 2, 0xe8, 4, 5, 6, 7],
            [1, 2, 3, 4, 5, 0xff, 0xd0],
            [1, 0xff, 0x15, 4, 5, 6, 7],
            [1, 2, 3, 0xff, 0x54, 0x24, 8],
        ] {
            assert!(is_call(call), "{call:x?}");
        }
        // A return, its padding, a jump through a register.
        for other in [
            [0xc3, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90],
            [0; 7],
            [1, 2, 3, 4, 5, 0xff, 0xe0],
        ] {
            assert!(!is_call(other), "{other:x?}");
        }
        assert_eq!((follows_call(0), follows_call(4096)), (None, None));
    }

    #[test]
    fn a_program_stays() {
        assert!(stays());
        let header = &raw const __ehdr_start;
        // SAFETY: the header of this very program.
        let ident = unsafe { (&raw const (*header).ident).read() };
        assert_eq!(ident[..4], *b"\x7fELF");
    }
}
