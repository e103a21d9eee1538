//! Memory that is populated before it is used, and the work on regions.

/// How much may be populated.
pub(crate) mod budget {
    /// Bytes that are never populated; or the share of what is available given by the divisor, if that is more. Guesses.
    pub(crate) const MARGIN: usize = 32 << 20;
    pub(crate) const MARGIN_SHARE: usize = 16;
    /// Milliseconds for which one reading of the budget holds, less what has been taken since; and bytes of a region's work.
    /// Reading it costs as much as populating a huge page. Guesses.
    pub(crate) const HOLDS_MS: u64 = 20;
    #[cfg(feature = "std")]
    pub(crate) const HOLDS_BYTES: usize = 64 * crate::base::units::SUPERSLAB;
}

/// How large the steps of background work on a region are, and the pauses between them.
#[cfg(feature = "std")]
pub(crate) mod pace {
    /// Nanoseconds: the longest a step should take. Guess.
    pub(crate) const AIM_NS: u64 = 400_000;
    /// Bytes of the first step. Guess.
    pub(crate) const FIRST: usize = 256 << 10;
    /// Bytes of the smallest step on OS pages: a call costs a few microseconds, so smaller steps would spend their time on calls.
    /// Guess.
    pub(crate) const SMALLEST: usize = 128 << 10;
    /// Steps of less than half the aim in a row that make the next one larger. One of less than an eighth does so at once. Guess.
    pub(crate) const CALM_STEPS: u32 = 3;
    /// The pause between two steps in microseconds, in which writers of the address space's lock get their turn: at least the
    /// first, or a quarter of what the step took, and at most the second. Guesses.
    pub(crate) const PAUSE_US: u64 = 50;
    pub(crate) const LONGEST_PAUSE_US: u64 = 2000;
}

/// Work on regions.
#[cfg(feature = "std")]
pub(crate) mod region {
    use core::time::Duration;

    /// Bytes written back at a time: each step costs the file system a commit. Guess.
    pub(crate) const SYNC_STEP: usize = 64 << 20;
    /// How often one page may report "try again" before that is an error. Guess.
    pub(crate) const RETRIES: u32 = 1000;
    /// How long the thread stays without work. Guess.
    pub(crate) const LINGER: Duration = Duration::from_secs(1);
}

/// Bytes whose pages are asked about in one call: the kernel holds the lock of the address space meanwhile. Guess.
pub(crate) const SCAN_STEP: usize = 64 << 20;
