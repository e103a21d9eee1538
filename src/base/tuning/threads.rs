//! The allocator's own threads.

/// The maintenance thread.
pub(crate) mod helper {
    use core::ops::RangeInclusive;

    /// Idle bytes from which a process of several threads starts the thread. The thread ends if fewer are left, or if nothing
    /// more can go. `tests/at_rest` ("hand-over 8") rests at 2.7 to 4.3 MiB with 2 MiB, and at 9.1 to 11.1 with 6.
    pub(crate) const FROM: usize = 2 << 20;
    /// The same for a process of one thread, and by how much its memory falls if the thread is to come for little. A silent one
    /// keeps this much for ever; a lower value would start the thread in programs that need none. Guess, between what programs free
    /// and take again while they start (22 MiB for the harness's `burst 10000`) and the 36 MiB that a process may keep after bursts
    /// of 200 MiB.
    pub(crate) const FROM_ALONE: usize = 32 << 20;
    /// It ends after this many rounds in which it got nothing and nothing changed, or after the rounds of two purge delays if
    /// those are more. Guess.
    pub(crate) const ROUNDS_TO_LIVE: u64 = 8;
    /// Milliseconds of a round: half a purge delay, within these bounds. Guess.
    pub(crate) const ROUND_MS: RangeInclusive<u64> = 50..=1000;
    /// Bytes of its stack, and of that of every other thread that the allocator starts. Guess: its deepest call chains use less
    /// than 32 KiB.
    pub(crate) const STACK: usize = 256 << 10;
    /// After the kernel refuses the thread, this many requests for it are dropped before it is tried again: at first the lower
    /// bound, doubled by each refusal up to the upper bound. A process that is refused a thread once is mostly refused for
    /// long, by a limit on threads or on address space. The bounds keep the cost of asking small. Guess.
    pub(crate) const TURNED_AWAY: RangeInclusive<u32> = 64..=64 << 10;
    /// How long a fork waits for the end of a round before it checks whether the thread sleeps: this many steps of so many
    /// microseconds. Guesses.
    pub(crate) const STEPS: u32 = 1000;
    pub(crate) const STEP_US: u64 = 100;
    /// Such waits that a fork makes, and a library that is unloaded. A busy machine may take seconds. Guess.
    pub(crate) const WAITS: u32 = 100;
    /// Milliseconds that the thread waits for the end of a fork before it looks again. Guess.
    pub(crate) const FORK_MS: u64 = 10;
}

/// Populating ahead of demand (`HAKMEM_SS_PREFAULT=async`).
pub(crate) mod ahead {
    /// A program grows if its pool ran dry this often, each time within so many milliseconds of the time before. Guess.
    pub(crate) const DRY_TO_START: u32 = 4;
    pub(crate) const QUICK_MS: u64 = 100;
    /// Mapped superslabs from which populating ahead may start. Guess.
    pub(crate) const FROM_SUPERSLABS: usize = 8;
    /// Microseconds between two checks of what the program took. Populating 2 MiB takes 100 to 700. Guess.
    pub(crate) const LOOK_US: u64 = 1000;
    /// Milliseconds before another attempt, after memory, a limit or a refused thread ended the last. Guess.
    pub(crate) const REFUSED_MS: u64 = 1000;
    /// Least microseconds between two superslabs. With 50, another thread's `mmap` waits 0.9 ms at worst; without a pause, 16
    /// ms (2 vCPU, 2 GiB populated in steps of 2 MiB).
    pub(crate) const PAUSE_US: u64 = 50;
    /// Checks without growth after which the thread ends. Guess.
    pub(crate) const LOOKS_TO_LIVE: u32 = 100;
    /// Superslabs are kept ready for this many times what the program took since the last check, within the share of what it holds
    /// given by the divisor. Guesses: a check is short compared with populating.
    pub(crate) const TIMES: usize = 4;
    pub(crate) const CLAIMED_SHARE: usize = 4;
    /// Fewest and most superslabs kept ready. Guess.
    pub(crate) const LEAST: usize = 2;
    pub(crate) const MOST: usize = 64;
}
