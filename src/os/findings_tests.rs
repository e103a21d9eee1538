//! Tests of [`super`].

use super::*;
use crate::os::fake::{self, Call};
use std::format;

#[test]
fn the_first_cause_that_explains_is_named() {
    let of = of_huge_pages;
    assert_eq!(of(true, Some("never"), None), Cause::ThpDisabledForProcess);
    assert_eq!(of(false, None, Some("never")), Cause::NoThpInKernel);
    assert_eq!(of(false, Some("never"), Some("never")), Cause::ThpNever);
    assert_eq!(
        of(false, Some("madvise"), Some("never")),
        Cause::DefragNever
    );
    assert_eq!(
        of(false, Some("always"), Some("defer")),
        Cause::NoFreeHugePage
    );
    assert_eq!(chosen(b"always defer [madvise] never\n"), Some("madvise"));
    assert_eq!(chosen(b""), None);
}

#[test]
fn every_text_is_one_line_and_says_its_number() {
    for (cause, part) in [
        (Cause::GroupLimit { left: 7 << 20 }, "leaves 7 MiB"),
        (Cause::MachineMemory { available: 8 << 20 }, "8 MiB"),
        (
            Cause::AddressSpaceLimit { limit: 9 << 20 },
            "RLIMIT_AS is 9 MiB",
        ),
        (Cause::DataLimit { limit: 5 << 20 }, "RLIMIT_DATA is 5 MiB"),
        (
            Cause::LockLimit { limit: 64 << 10 },
            "RLIMIT_MEMLOCK is 64 KiB",
        ),
        (
            Cause::EmptyPool {
                page: 1 << 30,
                free: 3,
            },
            "3 pages of 1024 MiB are free: as root, echo N > /sys/kernel/mm/hugepages/hugepages-1048576kB/",
        ),
        (Cause::ThpNever, "enabled is never: as root"),
        (Cause::DefragNever, "transparent_hugepage/defrag"),
        (Cause::NoFreeHugePage, "fragmented"),
        (Cause::ThpDisabledForProcess, "PR_SET_THP_DISABLE"),
        (Cause::NoThpInKernel, "no transparent huge pages"),
        (Cause::SharedMemory, "shmem_enabled"),
        (Cause::NoPopulate, "5.14"),
        (Cause::Overcommit, "vm.overcommit_memory"),
        (Cause::MapCount, "vm.max_map_count"),
        (Cause::Addresses { mapped: 99 << 40 }, "99 TiB"),
        (Cause::NoBackground, "HAKMEM_BACKGROUND=0"),
    ] {
        let text = format!("{cause}");
        assert!(
            text.contains(part) && !text.contains('\n') && text.len() < 300,
            "{text}"
        );
    }
}

#[test]
fn a_machine_without_limits_is_not_blamed() {
    // This process has no limit on address space in the tests, and far fewer mappings than allowed.
    let strict = std::fs::read_to_string("/proc/sys/vm/overcommit_memory");
    if strict.is_ok_and(|mode| mode.trim() != "2") && sys::rlimit_as().is_none() {
        assert_eq!(of_mapping(HUGE_PAGE), Cause::Unknown);
    }
    assert!(mappings().is_some_and(|n| n > 10));
    fake::fail_kind_from(Call::Open, 1, Errno::ENOENT);
    assert_eq!(mappings(), None);
    fake::clear();
    assert!(matches!(
        of_short_populate(),
        Cause::GroupLimit { .. } | Cause::MachineMemory { .. }
    ));
}
