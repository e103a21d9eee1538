//! The shared object as a file: what it exports, needs and weighs.

mod common;

use std::collections::BTreeSet;
use std::process::Command;

fn tool(name: &str, args: &[&str]) -> String {
    let done = Command::new(name)
        .args(args)
        .arg(common::library())
        .output()
        .unwrap_or_else(|error| panic!("{name} (binutils): {error}"));
    assert!(done.status.success(), "{name}: {done:?}");
    String::from_utf8(done.stdout).expect("plain text")
}

const FAMILY: &str = "\
malloc free calloc realloc reallocarray posix_memalign aligned_alloc memalign valloc pvalloc malloc_usable_size
malloc_trim mallopt mallinfo mallinfo2 malloc_stats malloc_info free_sized free_aligned_sized cfree
__libc_malloc __libc_free __libc_calloc __libc_realloc __libc_reallocarray __libc_memalign __libc_valloc __libc_pvalloc
__posix_memalign
dlopen dlmopen unshare setns fork
_Znwm _Znam _ZnwmRKSt9nothrow_t _ZnamRKSt9nothrow_t _ZnwmSt11align_val_t _ZnamSt11align_val_t
_ZnwmSt11align_val_tRKSt9nothrow_t _ZnamSt11align_val_tRKSt9nothrow_t
_ZdlPv _ZdaPv _ZdlPvm _ZdaPvm _ZdlPvRKSt9nothrow_t _ZdaPvRKSt9nothrow_t
_ZdlPvSt11align_val_t _ZdaPvSt11align_val_t _ZdlPvmSt11align_val_t _ZdaPvmSt11align_val_t
_ZdlPvSt11align_val_tRKSt9nothrow_t _ZdaPvSt11align_val_tRKSt9nothrow_t";

#[test]
fn exports_the_malloc_family_and_its_own_names_and_nothing_else() {
    let table = tool("nm", &["-D", "--defined-only", "--format=posix"]);
    let exported: BTreeSet<&str> = table
        .lines()
        .filter_map(|line| line.split(' ').next())
        .collect();
    let family: BTreeSet<&str> = FAMILY.split_whitespace().collect();
    let missing: Vec<_> = family.difference(&exported).collect();
    assert!(missing.is_empty(), "not exported: {missing:?}");
    let strange: Vec<_> = exported
        .difference(&family)
        .filter(|name| !name.starts_with("hakmem_"))
        .collect();
    assert!(
        strange.is_empty(),
        "exported beside the family: {strange:?}"
    );
}

#[test]
fn needs_libc_alone_and_has_its_name_and_stays_loaded() {
    let dynamic = tool("readelf", &["-dW"]);
    let needed: Vec<_> = dynamic.lines().filter(|l| l.contains("(NEEDED)")).collect();
    assert!(
        needed.len() == 1 && needed[0].contains("[libc.so.6]"),
        "{needed:?}"
    );
    assert!(
        dynamic.contains("Library soname: [libhakmem.so]"),
        "{dynamic}"
    );
    assert!(dynamic.contains("NODELETE"), "{dynamic}");
    assert!(!dynamic.contains("TEXTREL"), "{dynamic}");
}

/// The loader writes to each OS page of what it relocates, in every process: texts that few processes read have no address there.
#[test]
fn a_start_relocates_two_os_pages() {
    let segments = tool("readelf", &["-lW"]);
    let relro = segments
        .lines()
        .find(|line| line.trim_start().starts_with("GNU_RELRO"))
        .expect("what is relocated is read-only afterwards");
    let size = relro.split_whitespace().nth(5).expect("its size in memory");
    let size = u64::from_str_radix(size.trim_start_matches("0x"), 16).expect("hexadecimal");
    assert!(size <= 8192, "{size} bytes: {relro}");
}

/// Initial-exec, so that no access is a call which might allocate, and little enough for a late dlopen.
#[test]
fn thread_local_storage_is_initial_exec_and_small() {
    let relocations = tool("readelf", &["-rW"]);
    assert!(relocations.contains("R_X86_64_TPOFF64"), "{relocations}");
    assert!(
        !relocations.contains("DTPMOD") && !relocations.contains("TLSDESC"),
        "{relocations}"
    );
    assert!(!tool("nm", &["-D", "--undefined-only"]).contains("__tls_get_addr"));
    let segments = tool("readelf", &["-lW"]);
    let tls = segments
        .lines()
        .find(|line| line.trim_start().starts_with("TLS"))
        .expect("the heap's pointer is thread-local");
    let bytes = tls.split_whitespace().nth(5).expect("its size in memory");
    let bytes = u64::from_str_radix(bytes.trim_start_matches("0x"), 16).expect("hexadecimal");
    assert!(bytes <= 64, "{bytes} bytes of static TLS");
}

#[test]
fn is_small_and_stripped() {
    let bytes = std::fs::metadata(common::library()).expect("built").len();
    assert!(bytes <= 444 << 10, "{bytes} bytes");
    assert!(!tool("readelf", &["-SW"]).contains(".symtab"));
}
