//! What can be requested of a region.
#![forbid(unsafe_code)]

use crate::os::huge::PoolPage;
use std::fs::File;

/// What a region's bytes are.
///
/// ```
/// use hakmem_alloc::region::{Backing, Region};
///
/// # fn main() -> std::io::Result<()> {
/// let region = Region::builder().len(1 << 20).backing(Backing::Memfd).map()?;
/// assert!(region.memfd().is_some());
/// # Ok(()) }
/// ```
#[derive(Debug, Default)]
#[non_exhaustive]
pub enum Backing {
    /// Private memory, zero at first.
    #[default]
    Anonymous,
    /// Private memory from the pool of huge pages (`vm.nr_hugepages`); `map` fails if the pool
    /// has too few. Not inherited by a forked child, which would be killed for using it.
    Hugetlb(HugetlbSize),
    /// Memory with a descriptor, see [`Region::memfd`](super::Region::memfd): can be shared with other processes.
    Memfd,
    /// A file, for reading.
    FileReadOnly(File),
    /// A file, for reading and writing; what is written reaches the file.
    FileShared(File),
}

/// The size of a page of the pool.
///
/// ```
/// use hakmem_alloc::region::{Backing, HugetlbSize, Region};
///
/// # fn main() -> std::io::Result<()> {
/// let pool = Backing::Hugetlb(HugetlbSize::TwoMiB);
/// match Region::builder().len(4 << 20).backing(pool).map() {
///     Ok(region) => println!("{} bytes from the pool", region.len()),
///     Err(error) => println!("{error}"), // how many pages are free, and what to do
/// }
/// # Ok(()) }
/// ```
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum HugetlbSize {
    /// 2 MiB.
    #[default]
    TwoMiB,
    /// 1 GiB.
    OneGiB,
}

impl HugetlbSize {
    pub(super) fn page(self) -> PoolPage {
        match self {
            HugetlbSize::TwoMiB => PoolPage::TwoMiB,
            HugetlbSize::OneGiB => PoolPage::OneGiB,
        }
    }
}

/// Which pages are requested. An ungranted request is no error: [`super::Prefaulted::huge_bytes`] and
/// [`Region::huge_bytes`](super::Region::huge_bytes) tell what came of it.
///
/// ```
/// use hakmem_alloc::region::{HugeWish, Region};
///
/// # fn main() -> std::io::Result<()> {
/// let region = Region::builder().len(8 << 20).huge(HugeWish::Want).map()?;
/// println!("{} of them on huge pages", region.prefault()?.huge_bytes);
/// # Ok(()) }
/// ```
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum HugeWish {
    /// As the system's policy decides.
    #[default]
    System,
    /// Huge pages, as far as the kernel gives them: requested with `MADV_HUGEPAGE`, and collapsed while prefaulting if the
    /// system's policy does not give them at first touch.
    Want,
    /// OS pages.
    Refuse,
}
