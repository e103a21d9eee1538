//! Memory regions, on huge pages if possible, brought in now or in the background.
//!
//! They are independent of the allocator: any program may use them, whatever its `#[global_allocator]`.
//!
//! ```
//! use hakmem_alloc::region::{HugeWish, Region};
//!
//! # fn main() -> std::io::Result<()> {
//! let region = Region::builder().len(8 << 20).huge(HugeWish::Want).map()?;
//! let ticket = region.prefault_async()?; // goes on in the background
//! // … put `ticket` into an event loop: its descriptor becomes readable when the work is done.
//! let done = ticket.wait()?;
//! println!("{} bytes in, {} of them on huge pages", done.bytes, done.huge_bytes);
//! # assert!(done.bytes <= 8 << 20);
//! # Ok(()) }
//! ```
//!
//! # fork
//! A forked child inherits a region like any memory, with one exception: a hugetlb region is not inherited, because a child
//! that writes to one takes pages that nobody reserved, and is killed by SIGBUS if the pool is empty. A ticket belongs to the
//! process that took it: in the child it returns `ECANCELED`, while the parent's work goes on.

mod builder;
mod helper;
mod made;
mod pace;
pub mod prefault;
mod refused;
mod ticket;
mod wish;
mod work;

use core::ops::Deref;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

pub use builder::RegionBuilder;
pub use ticket::Ticket;
pub use wish::{Backing, HugeWish, HugetlbSize};
pub use work::Prefaulted;

use crate::os::mapping::{Mapping, abandon};
use crate::os::sys::Errno;
use crate::os::thread::{Process, process};
use work::{Keep, Plan, Segment, Work};

/// An owned mapping, given back when dropped.
///
/// Dereferences to its bytes. If another process changes the file behind it, the bytes change. If one truncates the file, a
/// load beyond its new end raises SIGBUS, as with any mapping.
///
/// ```
/// use hakmem_alloc::region::Region;
///
/// # fn main() -> std::io::Result<()> {
/// let mut region = Region::builder().len(1 << 20).map()?;
/// region.as_mut_slice()?.fill(1);
/// assert!(region.iter().all(|&byte| byte == 1)); // a region is a slice of its bytes
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Region {
    memory: Arc<Memory>,
}

/// The mapping, shared with the background work on it.
#[derive(Debug)]
struct Memory {
    mapping: Mapping,
    /// As requested; the mapping has whole OS pages.
    len: usize,
    plan: Plan,
    /// Set when the region is dropped: work in progress ends at its next step.
    closing: AtomicBool,
    /// A memfd, kept open for [`Region::memfd`].
    memfd: Option<OwnedFd>,
    /// Whether the mapping lies at the requested address; `None` if none was requested.
    hint_honoured: Option<bool>,
    /// The process that the mapping belongs to, if a child does not inherit it.
    only_in: Option<Process>,
}

impl Drop for Memory {
    fn drop(&mut self) {
        // In a child that did not inherit the mapping, the addresses may belong to another mapping.
        if self.only_in.is_some_and(|only| only != process()) {
            return;
        }
        // SAFETY: the mapping was made for this value, and every reference into it borrowed the region, whose `Arc` is gone
        // with the last one.
        unsafe { abandon(self.mapping) };
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // Relaxed: work that sees it late does one more step.
        self.memory.closing.store(true, Relaxed);
    }
}

impl Region {
    /// Begins to describe a region.
    ///
    /// ```
    /// use hakmem_alloc::region::Region;
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let region = Region::builder().len(1 << 20).map()?;
    /// # drop(region);
    /// # Ok(()) }
    /// ```
    pub fn builder() -> RegionBuilder {
        RegionBuilder::default()
    }

    /// The first byte, for writing while the region is shared; [`Region::as_mut_slice`] is the safe way.
    ///
    /// The caller must not write through it while a slice of the region is in use, and not at all if the backing is a read-only
    /// file.
    ///
    /// ```
    /// use hakmem_alloc::region::Region;
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let region = Region::builder().len(1 << 20).map()?;
    /// // SAFETY: the first byte, and no slice of the region is in use.
    /// unsafe { region.as_mut_ptr().write(7) };
    /// assert_eq!(region[0], 7);
    /// # Ok(()) }
    /// ```
    pub fn as_mut_ptr(&self) -> *mut u8 {
        core::ptr::with_exposed_provenance_mut(self.memory.mapping.addr)
    }

    /// The bytes, for writing. Prefaulting in the background may continue meanwhile: it changes no byte.
    ///
    /// ```
    /// use hakmem_alloc::region::Region;
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let mut region = Region::builder().len(1 << 20).map()?;
    /// region.as_mut_slice()?[..5].copy_from_slice(b"hello");
    /// assert_eq!(&region[..6], b"hello\0");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// `InvalidInput` for [`Backing::FileReadOnly`].
    pub fn as_mut_slice(&mut self) -> io::Result<&mut [u8]> {
        if !self.memory.plan.is_writable() {
            return Err(refused::invalid(
                "as_mut_slice: a read-only file cannot be written; expected Backing::FileShared",
            ));
        }
        // SAFETY: mapped writable for as long as the region lives, and borrowed exclusively. The background thread either has
        // the kernel populate or ors zero into bytes atomically: neither changes a byte, undoes a write or can be observed
        // through the slice.
        Ok(unsafe { core::slice::from_raw_parts_mut(self.as_mut_ptr(), self.memory.len) })
    }

    /// The memfd behind the region, to hand to another process; `None` for other backings.
    ///
    /// ```
    /// use hakmem_alloc::region::{Backing, Region};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let region = Region::builder().len(4096).backing(Backing::Memfd).map()?;
    /// let for_the_other = region.memfd().expect("a memfd").try_clone_to_owned()?;
    /// # drop(for_the_other);
    /// # Ok(()) }
    /// ```
    pub fn memfd(&self) -> Option<BorrowedFd<'_>> {
        self.memory.memfd.as_ref().map(|fd| fd.as_fd())
    }

    /// Whether the region lies at the address given as [`RegionBuilder::hint`]; `None` if none was given.
    ///
    /// ```
    /// use hakmem_alloc::region::Region;
    ///
    /// # fn main() -> std::io::Result<()> {
    /// assert_eq!(Region::builder().len(4096).map()?.hint_honoured(), None);
    /// # Ok(()) }
    /// ```
    pub fn hint_honoured(&self) -> Option<bool> {
        self.memory.hint_honoured
    }

    /// Brings the whole region into memory, and locks it there after `lock(true)`. Returns when that is done.
    ///
    /// It works in steps of at most 2 MiB (or a page of the pool) with a short pause between them, so that other threads'
    /// `mmap` and `munmap` do not wait for long. Anonymous and memfd memory stops short of what the control group and the
    /// machine can spare: then [`Prefaulted::bytes`] is less than the length.
    ///
    /// The pages of an anonymous region are touched, each by an atomic write that changes nothing: no part of it may be made
    /// read-only or inaccessible (by `mprotect` on its address) before this has ended, or the process gets a signal.
    ///
    /// # Errors
    /// The kernel's: `UnexpectedEof` if a file was truncated, `OutOfMemory` also if `RLIMIT_MEMLOCK` does not allow the lock
    /// (`PermissionDenied` if that limit is 0).
    ///
    /// ```
    /// use hakmem_alloc::region::Region;
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let region = Region::builder().len(4 << 20).map()?;
    /// let done = region.prefault()?;
    /// println!("{} of {} bytes in {} ns", done.bytes, region.len(), done.nanos);
    /// # Ok(()) }
    /// ```
    pub fn prefault(&self) -> io::Result<Prefaulted> {
        self.populate_work().run_here()
    }

    /// As [`Region::prefault`], in the background. Dropping the ticket or the region cancels what is left to do.
    ///
    /// # Errors
    /// If the kernel refuses a descriptor or a thread.
    ///
    /// ```
    /// use hakmem_alloc::region::Region;
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let region = Region::builder().len(4 << 20).map()?;
    /// let ticket = region.prefault_async()?;
    /// // … other work …
    /// println!("{} bytes are in", ticket.wait()?.bytes);
    /// # Ok(()) }
    /// ```
    pub fn prefault_async(&self) -> io::Result<Ticket> {
        helper::submit(self.populate_work())
    }

    /// Writes a shared file region back to its file in the background, as `msync(MS_SYNC)` does.
    ///
    /// # Errors
    /// `InvalidInput` for other backings, else as [`Region::prefault_async`].
    ///
    /// ```
    /// use hakmem_alloc::region::{Backing, Region};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// # let path = std::env::temp_dir().join(format!("hakmem-doc-sync-{}", std::process::id()));
    /// # std::fs::write(&path, vec![0; 4096])?;
    /// let file = std::fs::File::options().read(true).write(true).open(&path)?;
    /// let mut region = Region::builder().backing(Backing::FileShared(file)).map()?;
    /// region.as_mut_slice()?[0] = 7;
    /// region.sync_async()?.wait()?;
    /// assert_eq!(std::fs::read(&path)?[0], 7);
    /// # std::fs::remove_file(path)?;
    /// # Ok(()) }
    /// ```
    pub fn sync_async(&self) -> io::Result<Ticket> {
        if !self.memory.plan.syncs {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "region: sync_async: only a region of Backing::FileShared has a file to write to",
            ));
        }
        let keep = Keep::Memory(Arc::clone(&self.memory));
        helper::submit(Work::sync(keep, self.segment()))
    }

    /// Bytes of the region that lie on huge pages now. The kernel walks the page tables to count them.
    ///
    /// # Errors
    /// If /proc cannot be read.
    ///
    /// ```
    /// use hakmem_alloc::region::Region;
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let region = Region::builder().len(4 << 20).map()?;
    /// assert_eq!(region.huge_bytes()?, 0); // nothing was touched yet
    /// # Ok(()) }
    /// ```
    pub fn huge_bytes(&self) -> io::Result<usize> {
        let m = &self.memory.mapping;
        crate::os::achieved::huge_bytes(m.addr, m.len).map_err(into_io)
    }

    fn segment(&self) -> Segment {
        Segment {
            addr: self.memory.mapping.addr,
            len: self.memory.mapping.len,
            how: self.memory.plan.how,
        }
    }

    fn populate_work(&self) -> Work {
        let keep = Keep::Memory(Arc::clone(&self.memory));
        Work::populate(keep, self.segment(), self.memory.plan, self.memory.len)
    }
}

impl Deref for Region {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: mapped readable for as long as the region lives. The type's documentation says how its contents may change.
        unsafe { core::slice::from_raw_parts(self.as_mut_ptr(), self.memory.len) }
    }
}

/// An errno as an `io::Error`.
fn into_io(errno: Errno) -> io::Error {
    io::Error::from_raw_os_error(errno.0)
}

const _: fn() = || {
    fn shared_between_threads<T: Send + Sync>() {}
    shared_between_threads::<Region>();
    shared_between_threads::<Ticket>();
};

#[cfg(test)]
mod tests;
