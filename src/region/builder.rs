//! The properties requested of a region, and the mapping made from them.

use core::sync::atomic::AtomicBool;
use std::format;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::Arc;

use super::made::{Made, apply_wish};
use super::refused::{advice_for_file, invalid, refused};
use super::wish::{Backing, HugeWish};
use super::work::{How, Plan};
use super::{Memory, Region};
use crate::os::findings;
use crate::os::huge;
use crate::os::mapping::{FileWish, HUGE_PAGE, map_aligned, map_aligned_at_hint, map_file};
use crate::os::sys::{self, Errno};
use crate::os::thread::process;

/// Describes a region; made by [`Region::builder`].
///
/// ```
/// use hakmem_alloc::region::{HugeWish, Region};
///
/// # fn main() -> std::io::Result<()> {
/// let builder = Region::builder().len(4 << 20).huge(HugeWish::Want);
/// let region = builder.map()?;
/// assert_eq!(region.len(), 4 << 20);
/// # Ok(()) }
/// ```
#[derive(Debug, Default)]
#[must_use = "nothing is mapped before `map`"]
pub struct RegionBuilder {
    len: Option<usize>,
    align: Option<usize>,
    offset: u64,
    hint: Option<usize>,
    backing: Backing,
    huge: HugeWish,
    lock: bool,
}

impl RegionBuilder {
    /// The length in bytes. Needed, except for files: their default is the rest of the file.
    ///
    /// ```
    /// use hakmem_alloc::region::Region;
    ///
    /// # fn main() -> std::io::Result<()> {
    /// assert_eq!(Region::builder().len(100).map()?.len(), 100);
    /// # Ok(()) }
    /// ```
    pub fn len(mut self, len: usize) -> Self {
        self.len = Some(len);
        self
    }

    /// The alignment of the address, a power of two. The default is 2 MiB for regions at least that large (for files: congruent
    /// to the offset modulo 2 MiB, which is what huge pages need), else an OS page.
    ///
    /// ```
    /// use hakmem_alloc::region::Region;
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let region = Region::builder().len(100).align(1 << 30).map()?;
    /// assert!(region.as_ptr().addr().is_multiple_of(1 << 30));
    /// # Ok(()) }
    /// ```
    pub fn align(mut self, align: usize) -> Self {
        self.align = Some(align);
        self
    }

    /// Where in the file the region begins, a multiple of the OS page.
    ///
    /// ```
    /// use hakmem_alloc::region::{Backing, Region};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// # let path = std::env::temp_dir().join(format!("hakmem-doc-offset-{}", std::process::id()));
    /// # std::fs::write(&path, vec![7; 200_000])?;
    /// let file = Backing::FileReadOnly(std::fs::File::open(&path)?);
    /// let region = Region::builder().offset(131_072).backing(file).map()?;
    /// assert_eq!(region.len(), 200_000 - 131_072);
    /// # std::fs::remove_file(path)?;
    /// # Ok(()) }
    /// ```
    pub fn offset(mut self, offset: u64) -> Self {
        self.offset = offset;
        self
    }

    /// The address to map at, for anonymous memory. It is no error if the address is unavailable (occupied, misaligned, past
    /// the end of the address space): [`Region::hint_honoured`] tells.
    ///
    /// ```
    /// use hakmem_alloc::region::Region;
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let region = Region::builder().len(1 << 20).hint(0x7000_0000_0000).map()?;
    /// println!("honoured: {:?}", region.hint_honoured());
    /// # Ok(()) }
    /// ```
    pub fn hint(mut self, addr: usize) -> Self {
        self.hint = Some(addr);
        self
    }

    /// What the bytes are; [`Backing::Anonymous`] by default.
    ///
    /// ```
    /// use hakmem_alloc::region::{Backing, Region};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let region = Region::builder().len(1 << 20).backing(Backing::Anonymous).map()?;
    /// assert_eq!(region[0], 0);
    /// # Ok(()) }
    /// ```
    pub fn backing(mut self, backing: Backing) -> Self {
        self.backing = backing;
        self
    }

    /// Which pages are asked for; [`HugeWish::System`] by default.
    ///
    /// ```
    /// use hakmem_alloc::region::{HugeWish, Region};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let region = Region::builder().len(1 << 20).huge(HugeWish::Refuse).map()?;
    /// assert_eq!(region.prefault()?.huge_bytes, 0);
    /// # Ok(()) }
    /// ```
    pub fn huge(mut self, huge: HugeWish) -> Self {
        self.huge = huge;
        self
    }

    /// Whether prefaulting also locks the region into memory (`mlock`, bounded by `RLIMIT_MEMLOCK`).
    ///
    /// ```
    /// use hakmem_alloc::region::Region;
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let region = Region::builder().len(4096).lock(true).map()?;
    /// if let Err(error) = region.prefault() {
    ///     println!("{error}"); // RLIMIT_MEMLOCK, mostly
    /// }
    /// # Ok(()) }
    /// ```
    pub fn lock(mut self, lock: bool) -> Self {
        self.lock = lock;
        self
    }

    /// Makes the region. Nothing is touched: see [`Region::prefault`].
    ///
    /// # Errors
    /// `InvalidInput` for a length of zero or none, an alignment that is no power of two or above a page of the pool, an offset
    /// that does not begin an OS page or is given without a file, a hint for other than anonymous memory, or a file shorter than
    /// the region; else the kernel's refusal, whose own error is the [`source`](std::error::Error::source). Each error is one
    /// line that says what was expected.
    ///
    /// ```
    /// use hakmem_alloc::region::Region;
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let region = Region::builder().len(1 << 20).map()?;
    /// let error = Region::builder().map().unwrap_err();
    /// assert_eq!(error.to_string(), "region: no length was given: expected len(bytes)");
    /// # drop(region);
    /// # Ok(()) }
    /// ```
    pub fn map(self) -> io::Result<Region> {
        // Reads whether refusals are to be reported.
        crate::knobs::get();
        let page = sys::page_size();
        if let Some(align) = self.align
            && !align.is_power_of_two()
        {
            return Err(invalid(format!(
                "align is {align}: expected a power of two"
            )));
        }
        if !self.offset.is_multiple_of(page as u64) {
            let offset = self.offset;
            return Err(invalid(format!(
                "offset is {offset}: expected a multiple of {page}"
            )));
        }
        let is_file = matches!(
            self.backing,
            Backing::FileReadOnly(_) | Backing::FileShared(_)
        );
        if self.offset != 0 && !is_file {
            return Err(invalid(format!(
                "offset is {}: only a file has one",
                self.offset
            )));
        }
        if self.hint.is_some() && !matches!(self.backing, Backing::Anonymous) {
            return Err(invalid("a hint was given: only anonymous memory takes one"));
        }
        let len = self.checked_len()?;
        let pool_page = match self.backing {
            Backing::Hugetlb(size) => size.page().bytes(),
            _ => usize::MAX,
        };
        // Pool pages are aligned to their own size; the kernel offers no more.
        if let Some(align) = self.align.filter(|&align| align > pool_page) {
            return Err(invalid(format!(
                "align is {align}: expected at most {pool_page}, the size of a page of the pool"
            )));
        }
        let mut made = self
            .map_backing(len)
            .map_err(|errno| self.explain(len, errno))?;
        if self.lock {
            made.plan.locks = true;
        }
        apply_wish(self.huge, &self.backing, &mut made);
        Ok(Region {
            memory: Arc::new(Memory {
                mapping: made.mapping,
                len,
                plan: made.plan,
                closing: AtomicBool::new(false),
                memfd: made.memfd,
                hint_honoured: made.hint_honoured,
                only_in: made.only_in,
            }),
        })
    }

    /// The length requested, or the rest of the file; never more than the file has.
    fn checked_len(&self) -> io::Result<usize> {
        let rest = match &self.backing {
            Backing::FileReadOnly(file) | Backing::FileShared(file) => {
                let size = file.metadata().map_err(invalid)?.len();
                let rest = size.saturating_sub(self.offset);
                Some(usize::try_from(rest).unwrap_or(usize::MAX))
            }
            _ => None,
        };
        match (self.len, rest) {
            (Some(0), _) | (None, Some(0)) => {
                Err(invalid("the length is 0: expected at least one byte"))
            }
            (None, None) => Err(invalid("no length was given: expected len(bytes)")),
            (Some(len), Some(rest)) if len > rest => Err(invalid(format!(
                "len is {len}: expected at most {rest}, which the file has from offset {} on",
                self.offset
            ))),
            (Some(len), _) | (None, Some(len)) => Ok(len),
        }
    }

    fn map_backing(&self, len: usize) -> Result<Made, Errno> {
        let natural = if len >= HUGE_PAGE {
            HUGE_PAGE
        } else {
            sys::page_size()
        };
        let align = self.align.unwrap_or(natural).max(sys::page_size());
        match &self.backing {
            Backing::Anonymous => match self.hint {
                None => Ok(Made::new(map_aligned(len, align, None)?, Plan::memory())),
                Some(hint) => {
                    let got = map_aligned_at_hint(hint, len, align)?;
                    let made = Made::new(got.mapping, Plan::memory());
                    Ok(Made {
                        hint_honoured: Some(got.honoured),
                        ..made
                    })
                }
            },
            Backing::Hugetlb(size) => {
                let page = size.page();
                let mapping = huge::map_pool(len, page)?;
                let plan = Plan {
                    step: page.bytes(),
                    whole: true,
                    budgeted: false,
                    ..Plan::memory()
                };
                Ok(Made {
                    only_in: Some(process()),
                    ..Made::new(mapping, plan)
                })
            }
            Backing::Memfd => {
                let fd = sys::memfd_create(c"hakmem-region", libc::MFD_CLOEXEC)?;
                // SAFETY: made above, and this is its only owner.
                let fd = unsafe { OwnedFd::from_raw_fd(fd) };
                let whole = len
                    .checked_next_multiple_of(sys::page_size())
                    .ok_or(Errno::ENOMEM)?;
                sys::ftruncate(fd.as_raw_fd(), whole as u64)?;
                let mapping = map_file(FileWish {
                    fd: fd.as_raw_fd(),
                    offset: 0,
                    len,
                    align,
                    phase: 0,
                    writable: true,
                    shared: true,
                })?;
                Ok(Made {
                    memfd: Some(fd),
                    ..Made::new(mapping, Plan::memory())
                })
            }
            Backing::FileReadOnly(file) => self.map_file(file, len, align, false),
            Backing::FileShared(file) => self.map_file(file, len, align, true),
        }
    }

    /// The kernel's refusal of [`Self::map_backing`] in one line that says what to do.
    fn explain(&self, len: usize, errno: Errno) -> io::Error {
        match &self.backing {
            Backing::Anonymous => refused(format!("{len} bytes"), errno, findings::of_mapping(len)),
            Backing::Memfd => refused(
                format!("{len} bytes of a memfd"),
                errno,
                findings::of_mapping(len),
            ),
            Backing::Hugetlb(size) => {
                let page = size.page().bytes();
                refused(
                    format!("{len} bytes from the pool of {} MiB pages", page >> 20),
                    errno,
                    findings::of_pool(page),
                )
            }
            Backing::FileReadOnly(_) | Backing::FileShared(_) => {
                refused("mapping the file", errno, advice_for_file(errno))
            }
        }
    }

    fn map_file(&self, file: &File, len: usize, align: usize, shared: bool) -> Result<Made, Errno> {
        let phase = match self.align {
            Some(_) => 0,
            None => (self.offset % align as u64) as usize,
        };
        let mapping = map_file(FileWish {
            fd: file.as_raw_fd(),
            offset: self.offset,
            len,
            align,
            phase,
            writable: shared,
            shared: true,
        })?;
        // Reading brings the file in; writing would make every byte of it dirty.
        let plan = Plan {
            how: How::Read,
            budgeted: false,
            syncs: shared,
            ..Plan::memory()
        };
        Ok(Made::new(mapping, plan))
    }
}
