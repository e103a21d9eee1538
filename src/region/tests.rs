//! Tests of [`super`] that need the fake kernel; the others are in tests/region.rs.

use super::*;
use crate::os::fake::{self, Call};
use std::fs::File;
use std::io::ErrorKind;
use std::string::ToString;

fn file_of(len: u64) -> File {
    let path = std::env::temp_dir().join(std::format!(
        "hakmem-region-{}-{:?}",
        std::process::id(),
        std::thread::current().id()
    ));
    let file = File::options()
        .create(true)
        .truncate(true)
        .read(true)
        .write(true)
        .open(&path);
    let file = file.expect("created");
    std::fs::remove_file(&path).expect("unlinked");
    file.set_len(len).expect("sized");
    file
}

type Make = fn() -> RegionBuilder;

const BACKINGS: [(&str, Make); 4] = [
    ("anonymous", || Region::builder().len(3 << 20)),
    ("memfd", || {
        Region::builder().len(3 << 20).backing(Backing::Memfd)
    }),
    ("read-only", || {
        Region::builder().backing(Backing::FileReadOnly(file_of(3 << 20)))
    }),
    ("shared", || {
        Region::builder().backing(Backing::FileShared(file_of(3 << 20)))
    }),
];

/// The n-th call fails, for every n. The result is an error or a region, never a panic, and after an error no descriptor or
/// mapping stays behind.
#[test]
fn every_single_failure_of_map_is_an_error_or_a_region() {
    for (name, make) in BACKINGS {
        let mut failures = 0;
        for n in 1.. {
            let builder = make().huge(HugeWish::Want);
            fake::clear();
            fake::fail_nth(n, Errno::EPERM);
            let outcome = builder.map();
            let calls = fake::calls();
            fake::clear();
            match outcome {
                Ok(region) => assert_eq!(region.len(), 3 << 20, "{name}"),
                Err(e) => {
                    failures += 1;
                    assert!(e.to_string().starts_with("region: "), "{name}: {e}");
                    let cause = e.get_ref().and_then(|e| e.source());
                    let cause = cause.and_then(|e| e.downcast_ref::<io::Error>());
                    let errno = cause.and_then(io::Error::raw_os_error);
                    assert_eq!(errno, Some(libc::EPERM), "{name}");
                }
            }
            if calls.total() < n {
                break;
            }
        }
        assert!(failures >= 1, "{name}");
    }
}

#[test]
fn every_single_failure_of_prefault_is_an_error_or_nothing() {
    for (name, make) in BACKINGS {
        let region = make().map().expect("maps");
        assert!(crate::os::prefault::populate_supported());
        for n in 1.. {
            fake::clear();
            fake::fail_nth(n, Errno::ENOMEM);
            let outcome = region.prefault();
            let calls = fake::calls().total();
            fake::clear();
            match outcome {
                Ok(done) => assert_eq!(done.bytes, 3 << 20, "{name}"),
                Err(e) => assert_eq!(e.kind(), ErrorKind::OutOfMemory, "{name}"),
            }
            if calls < n {
                break;
            }
        }
    }
}

#[test]
fn no_descriptor_is_an_error_of_prefault_async() {
    let region = Region::builder().len(1 << 20).map().expect("maps");
    fake::fail_kind(Call::Eventfd, 1, Errno::EMFILE);
    let e = region.prefault_async().expect_err("no eventfd");
    assert_eq!(e.raw_os_error(), Some(libc::EMFILE));
    fake::clear();
}

#[test]
fn a_place_that_was_taken_is_looked_for_again() {
    let file = file_of(1 << 20);
    fake::clear();
    // The anonymous mapping that finds the place is the first, the file's the second.
    fake::fail_kind(Call::Mmap, 2, Errno::EEXIST);
    let region = Region::builder()
        .backing(Backing::FileReadOnly(file))
        .map()
        .expect("again");
    assert_eq!(fake::calls().of(Call::Mmap), 4);
    fake::clear();
    assert_eq!(region.len(), 1 << 20);
}

#[test]
fn a_region_that_cannot_be_unmapped_is_counted() {
    let region = Region::builder().len(4 << 20).map().expect("maps");
    let before = crate::os::mapping::stranded_bytes();
    fake::fail_kind(Call::Munmap, 1, Errno::ENOMEM);
    drop(region);
    fake::clear();
    assert!(crate::os::mapping::stranded_bytes() - before >= 4 << 20);
}
