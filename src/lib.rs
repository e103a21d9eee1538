//! A general-purpose memory allocator for Linux: fast, frugal, with verified huge pages and prefault policy.
//!
//! ```
//! use hakmem_alloc::Hakmem;
//!
//! #[global_allocator]
//! static GLOBAL: Hakmem = Hakmem::new();
//! # assert!(hakmem_alloc::stats().live_blocks() > 0 || vec![1, 2, 3].len() == 3);
//! ```
//!
//! # Words
//!
//! | word | what it is |
//! |---|---|
//! | OS page | the kernel's base page, 4 KiB on x86_64; its size is read at run time |
//! | huge page | 2 MiB had in one piece, transparently or from the administrator's pool |
//! | superslab | 2 MiB of address space, 2 MiB-aligned, taken by mmap |
//! | slot | 64 KiB, the thirty-second part of a superslab; the unit of the directory |
//! | slab | one slot cut into blocks of one size class, or a run of slots that is one block |
//! | block | what a program gets |
//! | size class | all sizes served by blocks of one size |
//! | heap | what one thread allocates from |
//! | bin | a heap's free blocks of one class, private to its thread |
//! | batch | free blocks of one class that move as a whole, by the address of the first |
//! | spare stack | a heap's free blocks of one class between its bin and its slabs: batches, and magazines where they come and go by thousands |
//! | magazine | addresses of free blocks, in memory of the allocator's own: a part of a large spare stack, or the bin of such a class |
//! | inbox | where other threads return a heap's blocks |
//! | directory | the table from an address to the tag (owner, class) of its slot |
//! | idle heap | one whose thread has ended; the next new thread *adopts* it |
//! | reserve, commit | take address space; have memory behind it |
//! | prefault | have memory behind addresses before they are used |
//! | purge | give memory back and keep the addresses |
//! | retain | keep memory that nobody uses, for the next who asks |
//!
//! # Layers
//!
//! Uses only point down; `tests/layers.rs` checks it.
//!
//! ```text
//! api      Hakmem (GlobalAlloc), raw, stats · region: memory of one's own, prefaulted
//! heap     the fast paths, refill, spare stacks, remote frees, threads, fork, maintenance
//! large    huge blocks and their cache
//! pool     superslabs: in use, retained, purged
//! slab     directory, descriptors, slabs, batches, magazines, the inbox
//! knobs    the environment and the configuration in code
//! os       the contract with the kernel, mappings, huge pages, prefault, locks, messages
//! base     units, size classes, atomics
//! ```
//!
//! # The life of one block
//!
//! A thread asks for 100 bytes: class 7, blocks of 112. Its bin of that class is empty, so the slow path looks at the
//! blocks it gathered for others, the spare stack, the inbox, the heap's slabs, idle heaps' slabs, and at last claims a
//! slot from the pool, which maps a superslab if none has room. The slot's word in the directory becomes `heap id << 12
//! | 7 << 4`, a first few blocks are carved, their addresses go into the bin, one is handed out. Another thread frees it: the word is not its own,
//! so the block joins the batch that this thread gathers for the owner, and travels with it into the owner's inbox. The
//! owner's next slow path puts the whole batch on its spare stack; from there it becomes a bin again, or goes home block
//! by block. When the last block of the slab is home the word becomes 0, the slot returns to the pool, and its memory,
//! if nobody claims it, to the kernel.
//!
//! # System calls
//!
//! A filter of system calls (seccomp) that a program installs after its first allocation has to let these through, or to
//! refuse them with an errno: whatever is refused, nothing ends and nothing is lost, and memory is refused where `mmap` is.
//! `tests/seccomp.rs` holds the table to the truth.
//!
//! | call | for what |
//! |---|---|
//! | `mmap`, `munmap`, `mremap`, `mprotect`, `madvise` | memory that is taken, resized and given back |
//! | `mincore` | whether memory was written, before huge pages are asked for |
//! | `gettid`, `tgkill` | a thread's first large block or its end; whether a thread that goes on after that is still there |
//! | `futex` | a lock that another thread holds for long; the end of that wait |
//! | `openat`, `read`, `close` | the limits and the free memory of the machine before anything is prefaulted; `stats()`, but not `stats_quick()` |
//! | `getcpu` | the node of the thread, on machines of several NUMA nodes |
//! | `write` | the messages to stderr |
//!
//! Where a thread of the allocator's own is started (`HAKMEM_BACKGROUND=0` and `HAKMEM_SS_PREFAULT` other than `async`
//! forbid it), the C library's calls for a thread are added, as for any other: `clone3` or `clone`, `rt_sigprocmask`,
//! `set_robust_list`, `rseq`, `exit`; the thread sleeps in `futex` and `nanosleep`, and under `async` gives itself a name
//! (`prctl`). In a process of several threads, the maintenance thread included, `fork` looks at `/proc/self/task` (`newfstatat`). The clock is read without a call where the machine has a vdso for it. What [`region`] needs is not among
//! these: it makes descriptors and maps files.
//!
//! # Libraries that are opened late
//!
//! A library that brings this allocator and is opened by dlopen needs the feature `local_dynamic_tls`; the dynamic loader
//! may refuse it otherwise. README.md says what that costs.
//!
//! # Signals
//!
//! Allocating in a signal handler is not promised to work, as with every allocator that keeps state per thread.

#![no_std]
#![deny(
    missing_docs,
    unsafe_op_in_unsafe_fn,
    clippy::undocumented_unsafe_blocks
)]

#[cfg(not(target_os = "linux"))]
compile_error!(
    "hakmem-alloc supports Linux only: it is built on mmap, madvise and futex as Linux has them"
);
#[cfg(not(target_pointer_width = "64"))]
compile_error!(
    "hakmem-alloc needs a 64-bit address space: its directory describes terabytes of it"
);
#[cfg(all(not(target_arch = "x86_64"), not(feature = "std")))]
compile_error!("without the feature `std` hakmem-alloc has thread-local storage on x86_64 only");

#[cfg(any(test, feature = "std"))]
extern crate std;

// The model checker (`--cfg loom`) is shown the lock-free parts alone: its atomics cannot stand in a static, and
// everything above has one.
#[cfg(not(loom))]
mod api;
#[cfg_attr(loom, allow(dead_code, unused_imports))]
mod base;
#[cfg(not(loom))]
mod heap;
#[cfg(all(loom, test))]
mod heap {
    mod left_over;
    mod model;
}
#[cfg(not(loom))]
mod knobs;
#[cfg(not(loom))]
mod large;
#[allow(dead_code, unused_imports, unused_macros)]
pub(crate) mod os;
#[cfg(not(loom))]
mod pool;
#[cfg(all(feature = "std", not(loom)))]
pub mod region;
#[cfg_attr(loom, allow(dead_code))]
mod slab;

#[cfg(not(loom))]
pub use api::global::Hakmem;
#[cfg(not(loom))]
pub use api::raw;
#[cfg(not(loom))]
pub use api::snapshot::{stats, stats_quick};
#[cfg(not(loom))]
pub use api::stats::{
    BatchStats, ByteStats, ClassStats, FailedCall, Failure, HeapStats, HugePageStats, HugeStats,
    PrefaultStats, Stats, SuperslabStats,
};
#[cfg(not(loom))]
pub use api::{prewarm, purge, usable_size};
#[cfg(not(loom))]
pub use knobs::{Config, Hugetlb, Prefault, Profile, StatsMode, ThpPolicy};
#[doc(hidden)]
pub use os::findings;
#[cfg(all(feature = "std", not(loom)))]
pub use region::prefault;
