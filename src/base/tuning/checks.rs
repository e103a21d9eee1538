//! Checked and guarded blocks.

/// Checked blocks.
pub(crate) mod checked {
    use crate::base::units::SLOT;

    /// Bytes of freed blocks of one kind that wait before one is given out again; or so many blocks; or the share of those
    /// that are allocated given by the divisor, if that is more. Guesses.
    pub(crate) const WAITING: usize = 8 << 10;
    pub(crate) const FEWEST: usize = 4;
    pub(crate) const SHARE: usize = 8;
    /// Bytes of freed blocks above 48 KiB that wait, of all sizes together: two of the largest. Guess.
    pub(crate) const RUNS: usize = 34 * SLOT;
    /// So many times as much waits in the hardened profile. Guess.
    pub(crate) const HARDENED: usize = 4;
    /// Bytes of fresh blocks of which the hardened profile gives one out by chance, and so many blocks at least. If these are all
    /// of a slab, a program with few blocks of many sizes touches most of each slab: `git log` has a peak of 19.5 MB then.
    /// Guesses.
    pub(crate) const WINDOW: usize = 8 << 10;
    pub(crate) const WINDOW_FEWEST: usize = 4;
    /// Divisor: a slab is passed over for others if no more than this share of its blocks waits. The second is how many slabs
    /// are examined. Guesses.
    pub(crate) const FEW_OF: usize = 8;
    pub(crate) const LOOKS: usize = 4;
    /// If one slab in N is checked: most bytes of all checked slabs and their descriptors. With the sites of calls and the table
    /// of slabs they are 256 KiB at most.
    pub(crate) const MOST: usize = (256 - 36) << 10;
    /// In that case, bytes of blocks ever handed out from which a slab may be checked. Finding out who asks for its blocks makes code
    /// and tables of the C library and the allocator resident: an idle backend of postgres, which hands out 1.5 MiB, has 1.1 MiB
    /// more than under glibc with 1 MiB, and 0.5 more with 2. The first backend after a start hands out more than 2. It has 0.9
    /// MiB more with 2, and 0.5 with 3, of which 0.17 are luck with addresses (postgres 15, means of six starts).
    pub(crate) const FROM: usize = 3 << 20;
    /// In that case, the share of those bytes that unwind tables may make resident, as a divisor: a part of 64 KiB for each 8 MiB.
    /// Where a table may not be read, the stack is searched for return addresses.
    pub(crate) const TABLES_SHARE: usize = 128;
    /// In that case, the most blocks of one slab that are used. Three slabs fit then.
    pub(crate) const BLOCKS: usize = 256;
    /// In that case, one slow path in so many gets a checked block. After each `SLOWER_EACH` of these the number doubles, `SLOWEST`
    /// times at most: a program that does little but allocate would spend a tenth of its time on them (`batch`, AMD EPYC), as the
    /// callers of each are looked up twice. Guesses.
    pub(crate) const TURNS: u32 = 16;
    pub(crate) const SLOWER_EACH: u32 = 64;
    pub(crate) const SLOWEST: u32 = 4;
    /// If all blocks are checked, calls for which the clock is read once. The report of one that follows a pause may say that it
    /// was as long ago as the one before the pause. Reading it takes 10 of the 150 ns of an allocation and its free (AMD EPYC).
    pub(crate) const CALLS: u32 = 16;
    /// Blocks of a slab from which the place of the first stays empty, so that a write in front of the second damages nothing.
    /// Slabs of fewer have a slot more. Guess: a sixteenth of a slab.
    pub(crate) const LEAD_FROM: usize = 16;
    /// Most bytes behind a block that hold its canary. There may be more room behind it: what nobody writes to stays off the resident
    /// pages. Guess.
    pub(crate) const CANARY: usize = 1024;
    /// Words in a row from which a function of its own fills or compares them. Most canaries and many blocks have fewer, and a call
    /// costs more than they do. Guess.
    pub(crate) const MANY_WORDS: usize = 16;
}

/// Guarded blocks.
pub(crate) mod guarded {
    /// If all blocks are checked, this many times as many allocations go by to the next guarded block: all of them count, and in
    /// other programs only those that find no block at hand. A guarded block costs about 15 us here: perl with 85,000
    /// allocations had 41 of them, which took 3 % of its time.
    pub(crate) const OF_ALL: u32 = 16;
    /// Milliseconds between two guarded blocks of a process, if one slow path in so many or fewer gets one. In programs of four
    /// threads that do little but allocate, a guarded block takes 60 to 90 us, and they were 3 to 5 % of the time (Intel Xeon, 2
    /// cores).
    pub(crate) const SPACED_MS: u64 = 20;
    pub(crate) const SPACED_FROM: u32 = 1000;
    /// Most guarded blocks at once: each splits the kernel's mappings. With OS pages of 16 or 64 KiB fewer fit: 63 or 15. Guess.
    pub(crate) const SLOTS: usize = 64;
    /// How often a thread that faults in one tries to get the lock, and microseconds between two tries. Guesses: 2 seconds.
    pub(crate) const TRIES: u32 = 100;
    pub(crate) const TRY_US: u64 = 20_000;
}
