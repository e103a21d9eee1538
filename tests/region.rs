//! The region API as a program meets it: every backing, tickets, event loops, fork, files that shrink. Tests that need a
//! failing kernel are unit tests of src/region.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

use hakmem_alloc::prefault::{self, Ticket};
use hakmem_alloc::region::{Backing, HugeWish, HugetlbSize, Region};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

const MIB: usize = 1 << 20;

/// A file of `len` bytes that counts up, unlinked.
fn counting_file(len: usize) -> File {
    let path = std::env::temp_dir().join(format!(
        "hakmem-region-{}-{:?}-{len}",
        std::process::id(),
        std::thread::current().id()
    ));
    let mut file = File::options()
        .create(true)
        .truncate(true)
        .read(true)
        .write(true)
        .open(&path)
        .unwrap();
    std::fs::remove_file(&path).unwrap();
    let bytes: Vec<u8> = (0..len).map(|i| (i / 4096) as u8).collect();
    file.write_all(&bytes).unwrap();
    file
}

/// Milliseconds after which an event counts as missed, on a slow machine too.
const PATIENCE_MS: i32 = 600_000;
/// How often a test starts work again that may end before the test reaches its point.
const TRIES: u32 = 100;

fn poll_readable(ticket: &Ticket, timeout_ms: i32) -> bool {
    let mut p = libc::pollfd {
        fd: ticket.as_fd().as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: one pollfd.
    unsafe { libc::poll(&mut p, 1, timeout_ms) == 1 && p.revents & libc::POLLIN != 0 }
}

#[test]
fn anonymous_memory_is_zero_writable_aligned_and_brought_in() {
    let region = Region::builder()
        .len(5 * MIB + 1)
        .huge(HugeWish::Want)
        .map()
        .unwrap();
    assert_eq!(region.len(), 5 * MIB + 1);
    assert_eq!(region.as_ptr() as usize % (2 * MIB), 0);
    let done = region.prefault().unwrap();
    assert_eq!(done.bytes, 5 * MIB + 1);
    assert!(done.huge_bytes <= 4 * MIB && done.nanos > 0);
    assert_eq!(done.huge_bytes, region.huge_bytes().unwrap());
    assert!(region.iter().all(|b| *b == 0));
    // SAFETY: the last byte of the region, and no slice of it is alive.
    unsafe {
        region.as_mut_ptr().add(5 * MIB).write(7);
    }
    assert_eq!(region[5 * MIB], 7);
}

#[test]
fn bad_wishes_say_what_was_expected() {
    let text = |r: io::Result<Region>| {
        let e = r.unwrap_err();
        assert_eq!(e.kind(), ErrorKind::InvalidInput);
        e.to_string()
    };
    assert_eq!(
        text(Region::builder().map()),
        "region: no length was given: expected len(bytes)"
    );
    assert_eq!(
        text(Region::builder().len(0).map()),
        "region: the length is 0: expected at least one byte"
    );
    assert_eq!(
        text(Region::builder().len(1).align(3).map()),
        "region: align is 3: expected a power of two"
    );
    assert!(text(Region::builder().len(1).offset(7).map()).contains("expected a multiple of"));
    assert!(text(Region::builder().len(1).offset(65536).map()).contains("only a file has one"));
    let file = counting_file(8192);
    let long = Region::builder()
        .len(8193)
        .backing(Backing::FileReadOnly(file))
        .map();
    assert_eq!(
        text(long),
        "region: len is 8193: expected at most 8192, which the file has from offset 0 on"
    );
    let empty = Region::builder()
        .backing(Backing::FileReadOnly(counting_file(0)))
        .map();
    assert!(text(empty).contains("the length is 0"));
    let anonymous = Region::builder().len(1).map().unwrap();
    assert!(
        anonymous
            .sync_async()
            .unwrap_err()
            .to_string()
            .contains("FileShared")
    );
    let e = Region::builder()
        .len(isize::MAX as usize)
        .map()
        .unwrap_err();
    assert_eq!(e.kind(), ErrorKind::OutOfMemory);
}

/// A refusal of the kernel is one line: what was requested, the reason, and what to do.
#[test]
fn refusals_say_what_to_do() {
    let text = |backing: Backing| {
        let mapped = Region::builder().len(1 << 45).backing(backing).map();
        mapped.map_or_else(|e| e.to_string(), |_| String::from("a region"))
    };
    let directory = File::open(std::env::temp_dir()).unwrap();
    let of_directory = Region::builder()
        .len(1)
        .backing(Backing::FileReadOnly(directory))
        .map();
    assert_eq!(
        of_directory.unwrap_err().to_string(),
        "region: mapping the file: ENODEV: expected a regular file, not a directory or a device that cannot be mapped"
    );
    let path = std::env::temp_dir().join(format!("hakmem-region-readable-{}", std::process::id()));
    std::fs::write(&path, "x").unwrap();
    let readable = File::open(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let shared = Region::builder()
        .backing(Backing::FileShared(readable))
        .map();
    assert_eq!(
        shared.unwrap_err().to_string(),
        "region: mapping the file: EACCES: expected a file opened for reading, and for writing too under \
         Backing::FileShared"
    );
    for (size, name) in [
        (HugetlbSize::TwoMiB, "2 MiB"),
        (HugetlbSize::OneGiB, "1024 MiB"),
    ] {
        let said = text(Backing::Hugetlb(size));
        assert!(
            said.starts_with("region: ")
                && said.contains(&format!("from the pool of {name} pages: E")),
            "{said}"
        );
        assert!(said.contains("hugepages"), "{said}");
    }
    let pool = Region::builder().len(1).align(4 * MIB);
    let aligned = pool.backing(Backing::Hugetlb(HugetlbSize::TwoMiB)).map();
    assert_eq!(
        aligned.unwrap_err().to_string(),
        "region: align is 4194304: expected at most 2097152, the size of a page of the pool"
    );
}

#[test]
fn a_region_is_written_through_a_slice_unless_it_is_a_read_only_file() {
    let file = || counting_file(3 * 4096);
    for (backing, writable) in [
        (Backing::Anonymous, true),
        (Backing::Memfd, true),
        (Backing::FileShared(file()), true),
        (Backing::FileReadOnly(file()), false),
    ] {
        let builder = Region::builder().len(3 * 4096).backing(backing);
        let mut region = builder.map().unwrap();
        let ticket = region.prefault_async().unwrap();
        match region.as_mut_slice() {
            Ok(bytes) => {
                assert!(writable);
                bytes.fill(0xA5);
                assert_eq!(bytes.len(), 3 * 4096);
            }
            Err(e) => {
                assert!(!writable);
                assert_eq!(
                    e.to_string(),
                    "region: as_mut_slice: a read-only file cannot be written; expected Backing::FileShared"
                );
            }
        }
        ticket.wait().unwrap();
        assert_eq!(region.iter().all(|&b| b == 0xA5), writable);
    }
}

#[test]
fn a_hint_is_honoured_or_reported_and_the_alignment_is_kept() {
    let plain = Region::builder().len(MIB).map().unwrap();
    assert_eq!(plain.hint_honoured(), None);
    for gib in [20usize, 200] {
        let hint = 0x7ff7_0000_0000usize;
        let region = Region::builder().len(gib << 30).hint(hint).map().unwrap();
        let had = region.as_ptr() as usize;
        assert_eq!(region.hint_honoured(), Some(had == hint));
        assert_eq!(had % (2 * MIB), 0);
        // 200 GiB from there run past the end of the user address space.
        assert!(gib == 20 || had != hint);
    }
    let e = Region::builder()
        .len(MIB)
        .backing(Backing::Memfd)
        .hint(1 << 40)
        .map()
        .unwrap_err();
    assert_eq!(
        e.to_string(),
        "region: a hint was given: only anonymous memory takes one"
    );
}

#[test]
fn a_ticket_becomes_readable_and_stays_so() {
    let region = Region::builder()
        .len(64 * MIB)
        .huge(HugeWish::Refuse)
        .map()
        .unwrap();
    let ticket = region.prefault_async().unwrap();
    assert!(poll_readable(&ticket, PATIENCE_MS));
    let polled = ticket.try_done().expect("done once readable").unwrap();
    assert_eq!((polled.bytes, polled.huge_bytes), (64 * MIB, 0));
    assert_eq!(ticket.wait().unwrap(), polled);
    assert!(poll_readable(&ticket, 0));
}

#[test]
fn many_tickets_make_progress_together() {
    let regions: Vec<Region> = (0..8)
        .map(|_| Region::builder().len(8 * MIB).map().unwrap())
        .collect();
    let tickets: Vec<Ticket> = regions
        .iter()
        .map(|r| r.prefault_async().unwrap())
        .collect();
    for ticket in &tickets {
        assert_eq!(ticket.wait().unwrap().bytes, 8 * MIB);
    }
}

#[test]
fn dropping_ticket_or_region_ends_the_work() {
    let huge = 1024 * MIB;
    let region = || {
        let builder = Region::builder().len(huge).huge(HugeWish::Refuse);
        builder.map().unwrap()
    };
    let ended = (0..TRIES).any(|_| {
        let region = region();
        drop(region.prefault_async().unwrap());
        resident_bytes(&region) < huge
    });
    assert!(ended, "the drop waits for the work");
    let cancelled = (0..TRIES).any(|_| {
        let region = region();
        let ticket = region.prefault_async().unwrap();
        drop(region);
        ticket
            .wait()
            .is_err_and(|e| e.raw_os_error() == Some(libc::ECANCELED))
    });
    assert!(cancelled, "the work outlives its region");
}

#[test]
fn file_regions_show_the_file_and_keep_huge_congruence() {
    for offset in [0usize, 4096, 3 * MIB] {
        let file = counting_file(6 * MIB);
        let region = Region::builder()
            .offset(offset as u64)
            .backing(Backing::FileReadOnly(file))
            .map();
        let region = region.unwrap();
        assert_eq!(region.len(), 6 * MIB - offset);
        assert_eq!(region.as_ptr() as usize % (2 * MIB), offset % (2 * MIB));
        assert_eq!(region.prefault().unwrap().bytes, region.len());
        assert!(
            region
                .iter()
                .step_by(4096)
                .enumerate()
                .all(|(i, b)| *b == (offset / 4096 + i) as u8)
        );
    }
}

#[test]
fn a_truncated_file_is_an_error_and_not_a_signal() {
    for background in [false, true] {
        let file = counting_file(4 * MIB);
        let other = file.try_clone().unwrap();
        let region = Region::builder()
            .backing(Backing::FileReadOnly(file))
            .map()
            .unwrap();
        other.set_len(MIB as u64).unwrap();
        let outcome = if background {
            region.prefault_async().unwrap().wait()
        } else {
            region.prefault()
        };
        let e = outcome.unwrap_err();
        assert_eq!(e.kind(), ErrorKind::UnexpectedEof, "{e}");
        // SAFETY: the region's own memory.
        let ranged = unsafe { prefault::range(region.as_ptr(), region.len()) };
        assert_eq!(ranged.unwrap_err().kind(), ErrorKind::UnexpectedEof);
    }
}

#[test]
fn a_shared_file_is_written_back() {
    use std::os::unix::fs::FileExt;
    let file = counting_file(2 * MIB);
    let other = file.try_clone().unwrap();
    let region = Region::builder()
        .backing(Backing::FileShared(file))
        .map()
        .unwrap();
    assert_eq!(
        region.prefault_async().unwrap().wait().unwrap().bytes,
        2 * MIB
    );
    // SAFETY: inside the region; no slice of it is alive.
    unsafe { region.as_mut_ptr().add(MIB).write(0xEE) };
    let ticket = region.sync_async().unwrap();
    assert!(poll_readable(&ticket, PATIENCE_MS));
    assert_eq!(ticket.wait().unwrap().bytes, 2 * MIB);
    let mut byte = [0];
    other.read_exact_at(&mut byte, MIB as u64).unwrap();
    assert_eq!(byte, [0xEE]);
}

#[test]
fn a_memfd_is_the_same_memory_for_whoever_maps_it() {
    let region = Region::builder()
        .len(4 * MIB)
        .backing(Backing::Memfd)
        .huge(HugeWish::Want)
        .map()
        .unwrap();
    let done = region.prefault().unwrap();
    assert_eq!(done.bytes, 4 * MIB);
    assert!(done.huge_bytes <= 4 * MIB);
    // SAFETY: inside the region; no slice of it is alive.
    unsafe { region.as_mut_ptr().add(5).write(42) };
    let fd = region
        .memfd()
        .expect("a memfd")
        .try_clone_to_owned()
        .unwrap();
    let view = Region::builder()
        .backing(Backing::FileReadOnly(File::from(fd)))
        .map()
        .unwrap();
    assert_eq!(view[5], 42);
}

#[test]
fn the_caller_s_own_memory_is_brought_in_and_keeps_its_contents() {
    let mut memory = vec![3u8; 10_000_000];
    // Off every boundary on purpose. SAFETY: the vector outlives the calls.
    let done = unsafe { prefault::range(memory.as_ptr().add(1), 9_999_000).unwrap() };
    assert_eq!(done.bytes, 9_999_000);
    // SAFETY: as above, until the ticket is done.
    let ticket = unsafe { prefault::range_async(memory.as_ptr(), memory.len()).unwrap() };
    memory[77] = 4;
    assert_eq!(ticket.wait().unwrap().bytes, memory.len());
    assert!(
        memory
            .iter()
            .enumerate()
            .all(|(i, b)| *b == if i == 77 { 4 } else { 3 })
    );
    // SAFETY: nothing is there, and nothing is asked for.
    assert_eq!(
        unsafe { prefault::range(memory.as_ptr(), 0).unwrap().bytes },
        0
    );
    // SAFETY: the zero page is never mapped; the kernel says so.
    let e = unsafe { prefault::range(std::ptr::without_provenance(4096), 4096) }.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::OutOfMemory);
}

#[test]
fn dropping_the_ticket_of_own_memory_waits_until_it_is_let_go() {
    let early = (0..TRIES).any(|_| dropped_at_work(1024 * MIB));
    assert!(early, "the drop waits for all of the work");
}

/// Drops a ticket of the caller's own memory whose work has begun, checks that it goes no further, and returns whether some was
/// left to do.
fn dropped_at_work(len: usize) -> bool {
    let builder = Region::builder().len(len).huge(HugeWish::Refuse);
    let region = builder.map().unwrap();
    // SAFETY: the region outlives the ticket.
    let ticket = unsafe { prefault::range_async(region.as_ptr(), region.len()).unwrap() };
    while resident_bytes(&region) == 0 {
        std::thread::yield_now();
    }
    drop(ticket);
    let resident = resident_bytes(&region);
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(
        resident_bytes(&region),
        resident,
        "nobody goes on after the drop"
    );
    resident < len
}

fn resident_bytes(region: &Region) -> usize {
    let mut pages = vec![0u8; region.len().div_ceil(4096)];
    // SAFETY: one byte per OS page.
    let r = unsafe { libc::mincore(region.as_mut_ptr().cast(), region.len(), pages.as_mut_ptr()) };
    assert_eq!(r, 0);
    pages.iter().filter(|p| **p & 1 != 0).count() * 4096
}

#[test]
fn a_lock_is_kept_or_refused_with_the_reason() {
    let region = Region::builder().len(2 * MIB).lock(true).map().unwrap();
    match region.prefault_async().unwrap().wait() {
        Ok(done) => {
            assert_eq!(done.bytes, 2 * MIB);
            let status = std::fs::read_to_string("/proc/self/status").unwrap();
            let locked = status
                .lines()
                .find_map(|l| l.strip_prefix("VmLck:"))
                .unwrap();
            let kib: usize = locked.trim().trim_end_matches(" kB").parse().unwrap();
            assert!(kib >= 2048, "{kib}");
        }
        Err(e) => assert!(
            matches!(
                e.kind(),
                ErrorKind::OutOfMemory | ErrorKind::PermissionDenied
            ),
            "{e}"
        ),
    }
}

/// Runs `f` in a forked child and returns its exit code, or 128 + n if signal n ended it.
fn in_child(f: impl FnOnce() -> i32) -> i32 {
    // SAFETY: the child leaves by _exit. It uses the allocator, which is safe after fork.
    unsafe {
        match libc::fork() {
            0 => libc::_exit(f()),
            child => {
                let mut status = 0;
                assert_eq!(libc::waitpid(child, &mut status, 0), child);
                if libc::WIFEXITED(status) {
                    libc::WEXITSTATUS(status)
                } else {
                    128 + libc::WTERMSIG(status)
                }
            }
        }
    }
}

#[test]
fn a_forked_child_has_a_helper_of_its_own_and_no_claim_on_old_tickets() {
    let region = Region::builder()
        .len(1024 * MIB)
        .huge(HugeWish::Refuse)
        .map()
        .unwrap();
    let ticket = region.prefault_async().unwrap();
    let code = in_child(|| {
        let old = ticket
            .wait()
            .is_err_and(|e| e.raw_os_error() == Some(libc::ECANCELED));
        let fresh = Region::builder().len(4 * MIB).map().unwrap();
        let new = fresh
            .prefault_async()
            .unwrap()
            .wait()
            .is_ok_and(|d| d.bytes == 4 * MIB);
        if old && new { 0 } else { 1 }
    });
    assert_eq!(code, 0);
    assert_eq!(ticket.wait().unwrap().bytes, 1024 * MIB);
}

/// As root, makes a pool of `n` huge pages for the duration and puts it back.
struct Pool(Option<String>);

const POOL: &str = "/proc/sys/vm/nr_hugepages";

impl Pool {
    fn of(n: usize) -> Pool {
        let before = std::fs::read_to_string(POOL).ok();
        let made = before.is_some() && std::fs::write(POOL, n.to_string()).is_ok();
        Pool(before.filter(|_| made))
    }

    fn pages(&self) -> usize {
        let now = std::fs::read_to_string(POOL).unwrap_or_default();
        if self.0.is_some() {
            now.trim().parse().unwrap_or(0)
        } else {
            0
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            std::fs::write(POOL, before).expect("the pool is put back");
        }
    }
}

#[test]
fn hugetlb_is_had_or_refused_and_a_fork_does_not_kill() {
    let pool = Pool::of(4);
    let make = |n: usize| {
        Region::builder()
            .len(n * 2 * MIB)
            .backing(Backing::Hugetlb(HugetlbSize::TwoMiB))
            .map()
    };
    if pool.pages() < 4 {
        assert_eq!(make(1 << 20).unwrap_err().kind(), ErrorKind::OutOfMemory);
        return;
    }
    let region = make(4).unwrap();
    let done = region.prefault().unwrap();
    assert_eq!((done.bytes, done.huge_bytes), (8 * MIB, 8 * MIB));
    // The pool is empty now: the next is refused when it is mapped, not when it is touched.
    assert_eq!(make(1).unwrap_err().kind(), ErrorKind::OutOfMemory);
    // SAFETY: inside the region; no slice of it is alive.
    unsafe { region.as_mut_ptr().write(9) };
    // The child neither inherits it nor unmaps what may lie there, nor hurts the parent's.
    let code = in_child(|| {
        let mut byte = [0u8];
        // SAFETY: mincore writes one byte.
        let r = unsafe { libc::mincore(region.as_mut_ptr().cast(), 4096, byte.as_mut_ptr()) };
        i32::from(r == 0)
    });
    assert_eq!(code, 0);
    assert_eq!(region[0], 9);
}

#[test]
fn random_lengths_alignments_and_backings() {
    let mut rng = SmallRng::seed_from_u64(11);
    for _ in 0..60 {
        let len = rng.random_range(1..12 * MIB);
        let align = 1usize << rng.random_range(0..26u32);
        let kind = rng.random_range(0..4u32);
        let backing = match kind {
            0 => Backing::Anonymous,
            1 => Backing::Memfd,
            2 => Backing::FileReadOnly(counting_file(len)),
            _ => Backing::FileShared(counting_file(len)),
        };
        let wish = [HugeWish::System, HugeWish::Want, HugeWish::Refuse][rng.random_range(0..3)];
        let builder = Region::builder()
            .len(len)
            .align(align)
            .backing(backing)
            .huge(wish);
        let region = builder.map().unwrap();
        assert_eq!(region.as_ptr() as usize % align.max(4096), 0);
        let done = if rng.random() {
            region.prefault().unwrap()
        } else {
            region.prefault_async().unwrap().wait().unwrap()
        };
        assert_eq!(done.bytes, len);
        if kind == 0 && wish == HugeWish::Refuse {
            assert_eq!(done.huge_bytes, 0);
        }
        let at = rng.random_range(0..len);
        let expected = if kind < 2 { 0 } else { (at / 4096) as u8 };
        assert_eq!(region[at], expected);
    }
}

#[test]
fn the_helper_thread_goes_away_when_idle() {
    let names = || {
        std::fs::read_dir("/proc/self/task")
            .unwrap()
            .filter_map(|t| std::fs::read_to_string(t.ok()?.path().join("comm")).ok())
            .filter(|name| name.trim() == "hakmem-prefault")
            .count()
    };
    // A process of its own, where no other test needs the helper.
    let code = in_child(|| {
        let before = names();
        let region = Region::builder().len(2 * MIB).map().unwrap();
        // It has named itself by the time it worked, and lingers for a second, in which this thread may not have its turn.
        let came = (0..TRIES).any(|_| {
            region.prefault_async().unwrap().wait().unwrap();
            names() == 1
        });
        let deadline = Instant::now() + Duration::from_millis(PATIENCE_MS as u64);
        while names() > 0 && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(50));
        }
        i32::from(!(before == 0 && came && names() == 0))
    });
    assert_eq!(code, 0);
}
