//! A general-purpose memory allocator for Linux in pure stable Rust.
//!
//! ```
//! use hakmem_alloc::Hakmem;
//!
//! #[global_allocator]
//! static GLOBAL: Hakmem = Hakmem::new();
//! # assert!(hakmem_alloc::stats().live_blocks() > 0 || vec![1, 2, 3].len() == 3);
//! ```
//!
//! With these lines every allocation of the program comes from this crate. Each thread has a heap of its own; blocks that other
//! threads free return to it in batches. Memory that the program no longer needs goes back to the kernel. The allocator maps
//! memory in *superslabs* of 2 MiB, aligned to 2 MiB, and asks for huge pages if it expects the program to write them. The
//! crate depends on libc, `spin` and `static_assertions`, and has no build script and no C.
//!
//! How it works inside is in `docs/design.md` in the repository, and how to tune it in `docs/guide.md`.
//!
//! # Configuration
//!
//! Nothing has to be set. A [`Config`] makes settings in code, and an environment variable overrides each of them singly:
//!
//! ```
//! use hakmem_alloc::{Config, Hakmem, Profile};
//!
//! #[global_allocator]
//! static GLOBAL: Hakmem =
//!     Hakmem::with_config(Config::new().profile(Profile::Lean).purge_delay_ms(500));
//! # fn main() {}
//! ```
//!
//! [`env_knobs`] lists every variable: what it does, what it costs, when to use it. The first is `HAKMEM_PROFILE`: `speed`,
//! `balanced`, `lean` or `hardened`. `HAKMEM_VERBOSE=1` prints every value and where it came from, and says why huge pages,
//! prefault or memory were refused. A value that is not understood gets one line on stderr and changes nothing. Programs with
//! raised privileges ignore the environment.
//!
//! # Statistics
//!
//! [`stats`] returns a typed snapshot of what the allocator holds, and [`stats_quick`] the same without asking the kernel.
//! `HAKMEM_STATS=1` prints one when the process exits.
//!
//! ```
//! let stats = hakmem_alloc::stats_quick();
//! println!("{} bytes live, {} mapped", stats.live_bytes(), stats.bytes.mapped);
//! ```
//!
//! [`purge`] gives back what can be given back now, [`prewarm`] takes memory before it is needed, and [`usable_size`] returns
//! how many bytes a block holds. [`raw`] is the same allocator without `Layout`, for C interfaces.
//!
//! # Memory of your own
//!
//! [`region`] maps memory with a checked alignment, requests huge pages for it and says how many the kernel gave. It brings the
//! memory in now or in the background; then a ticket's descriptor tells an event loop when that is done. [`mod@prefault`] does
//! the same for memory that the program mapped itself. Both work under any global allocator.
//!
//! # Features
//!
//! | feature | default | what it adds |
//! |---|---|---|
//! | `std` | yes | [`region`], and thread-local storage on architectures other than x86_64 |
//! | `malloc` | no | exports `malloc`, `free` and the rest of the family, so that C and C++ in the program share the heap |
//! | `allocator-api2` | no | the trait `Allocator` of that crate (0.2) for `&Hakmem`, for collections that take an allocator |
//! | `local_dynamic_tls` | no | for libraries that hold the allocator and are opened by `dlopen`; without it the dynamic loader may refuse them. `docs/guide.md` says what it costs |
//!
//! # Platforms
//!
//! Linux, 64 bits, Rust 1.95 or newer, glibc or musl, linked dynamically or statically. It is tested and measured on x86_64. On
//! aarch64 some of the tests run in an emulator, with OS pages of 4, 16 and 64 KiB; their size is read at run time. Other 64-bit
//! architectures are untested. On anything else it does not compile, and says so. Under Miri the system's allocator serves, and
//! everything here may be called.
//!
//! # Failure and misuse
//!
//! - An allocation that fails returns null: memory is out, a limit forbids it, or the size is above `isize::MAX`. If the
//!   machine has memory and a limit forbids it, one line on stderr names the limit. Nothing panics or unwinds. At alignments of
//!   64 GiB and more there are few blocks: the allocator's table of addresses spans 4 to 16 TiB (less under `RLIMIT_AS`), and each block takes one
//!   multiple of the alignment within the span, but not the first: 63 blocks at 64 GiB if the span is 4 TiB, and none at an
//!   alignment of the whole span.
//! - A free or realloc of what is not a block in use ends the process if the allocator notices: a report on stderr, whose
//!   first line names the address, then SIGABRT. It notices addresses of the stack, of statics and of other allocators, large
//!   blocks freed twice, addresses inside large blocks, blocks freed after their memory went back, and, in a free, layouts of
//!   another size class (except a smaller one down to half of the block's, because a shrink may stay in place). The size of a
//!   large block must be at least the one that was asked for, and at most its usable size; a realloc to 1 MiB or less does not
//!   look at it. The word in front of a large block is checked when the block is freed or reallocated, unless it is aligned beyond
//!   a cache line, its size is a multiple of 2 MiB, or it was fresh from the kernel where a huge page may come.
//! - A write to a freed block is noticed if it hits a word that the allocator keeps there, as it does in some of the blocks that
//!   travel in batches. The report of the same kind comes when that word is read.
//! - A second free and a free of the inside of a block end the process in the same way if they are noticed: among the first
//!   frees of each heap (about a hundred), always for blocks above 48 KiB, and when a block comes back to its slab. A later
//!   second free of a small block is not always noticed. An overflow from one block into the next is noticed only in checked and
//!   guarded blocks.
//! - In a checked block all of these are noticed, and nearly every wrong size, write past the size that was asked for, write
//!   right in front of the block and write after free too. `HAKMEM_CHECK_ONE_IN` says how many slabs are checked. The default is
//!   one in 256, and at most 256 KiB of them. 1 checks every block, and so does `HAKMEM_PROFILE=hardened`. `docs/hardening.md`
//!   has the list.
//! - A few blocks, chosen at random (`HAKMEM_GUARD_EVERY`), lie alone between pages without access. A read or write that leaves
//!   the block's page or comes after its free faults, and the process ends with a report of the same kind. The handler of SIGSEGV
//!   that does so hands every other fault on to the program's.
//! - A report lists the calls that led to the mistake, as addresses in files with their build ids. `HAKMEM_REPORT_FILE` names a
//!   file that gets it too.
//!
//! # Signals and fork
//!
//! A signal handler cannot rely on allocations. Any thread may fork at any moment, and the child works on. In a
//! process of one thread a signal handler may fork as well. `malloc` and `free` are no cancellation points, and leave `errno`
//! alone when they succeed.
//!
//! # System calls
//!
//! If a program installs a filter of system calls (seccomp) after its first allocation, the filter has to allow these or refuse
//! them with an errno. Whatever it refuses, the process goes on and nothing is lost; memory is refused if `mmap` is. A test
//! keeps the table true.
//!
//! | call | for what |
//! |---|---|
//! | `mmap`, `munmap`, `mremap`, `mprotect`, `madvise` | memory that is taken, resized and given back |
//! | `rt_sigaction` | the first guarded block, or if every block is checked the first free of a large one: a handler of SIGSEGV |
//! | `mincore` | whether memory is resident, before huge pages are asked for, where a block is zeroed, and before small blocks get what a large one freed |
//! | `process_vm_readv` | whether that holds anything but zeros, before huge pages are asked for |
//! | `gettid`, `getpid`, `tgkill` | a thread's first block and its end; guarded blocks; before `process_vm_readv`; whether a thread that goes on after its end is still there |
//! | `rt_sigprocmask` | whether another OS page of the stack can be read, for the calls that led to a checked or guarded block; no signal is blocked |
//! | `futex` | a lock that another thread holds for long; the end of that wait |
//! | `nanosleep` | a pause of `purge` and `malloc_trim` if there is much to do; a fork that waits for another thread's fork |
//! | `openat`, `read`, `close` | the system's policy of huge pages; the limits and the free memory of the machine before anything is prefaulted, or if memory is refused; `stats()`, but not `stats_quick()` |
//! | `sysinfo`, `prlimit64` | why memory was refused, which one line says |
//! | `getcpu` | the node of the thread, on machines of several NUMA nodes |
//! | `newfstatat`, `fstat`, `write` | the messages to stderr, and whether descriptor 2 still is stderr; the C library uses one of the first two |
//!
//! A thread of the allocator's own (`HAKMEM_BACKGROUND=0` forbids it) adds the C library's calls for any thread: `clone3` or
//! `clone`, `set_robust_list`, `rseq`, `exit`. The thread sleeps in `futex` and `nanosleep`,
//! and under `async` gives itself a name (`prctl`). In a process of several threads, the maintenance thread included, `fork`
//! reads `/proc/self/task` (`newfstatat`). The clock is read without a call if the machine has a vdso for it. The calls of
//! [`region`] are not among these: it makes descriptors and maps files. Nor are `ioctl` and `prctl`, by which
//! `HAKMEM_VERBOSE=1` finds out why huge pages were refused, nor `rt_sigaction` and `ppoll`, which the report
//! of a mistake needs after its first line, with `openat`, `read` and `close` for /proc/self/maps.

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

#[cfg(all(feature = "malloc", feature = "local_dynamic_tls"))]
compile_error!(
    "the features `malloc` and `local_dynamic_tls` exclude each other: the loader would call the exported malloc for the \
     thread-local storage that this malloc asks it for"
);

#[cfg(any(test, feature = "std"))]
extern crate std;

// The model checker (`--cfg loom`) is shown the lock-free parts alone: its atomics cannot stand in a static, and
// everything above has one.
#[cfg(not(loom))]
mod api;
#[cfg_attr(loom, allow(dead_code, unused_imports))]
mod base;
#[cfg(not(loom))]
mod checked;
#[cfg(not(loom))]
mod guarded;
#[cfg(not(loom))]
mod heap;
#[cfg(all(loom, test))]
#[allow(dead_code)]
mod heap {
    mod data {
        pub(crate) mod attended;
        mod ending;
        mod errands;
        mod presence;
    }
    mod model;
}
/// The environment variables, as they stand in `env-knobs.md`.
#[cfg(doc)]
#[doc = include_str!("../env-knobs.md")]
pub mod env_knobs {}
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

/// For `preload/`, which has more functions of C.
#[cfg(all(feature = "malloc", not(any(test, miri, loom))))]
#[doc(hidden)]
pub use api::c::file::Buffer;
#[cfg(not(loom))]
pub use api::global::Hakmem;
#[cfg(not(loom))]
pub use api::raw;
#[cfg(not(loom))]
pub use api::snapshot::{stats, stats_quick};
#[cfg(not(loom))]
pub use api::stats::{
    BatchStats, ByteStats, ClassStats, FailedCall, Failure, HeapStats, HugePageStats, LargeStats,
    PrefaultStats, ProcessStats, Stats, SuperslabStats,
};
#[cfg(not(loom))]
pub use api::{prewarm, purge, usable_size};
#[cfg(not(loom))]
pub use knobs::{Config, Hugetlb, Prefault, Profile, StatsMode, ThpPolicy};
#[doc(hidden)]
pub use os::findings;
#[cfg(all(feature = "std", not(loom)))]
pub use region::prefault;
