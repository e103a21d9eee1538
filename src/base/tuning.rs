//! The numbers of the memory policy: value, unit, meaning, and the evidence for each, or the word "guess".

use super::demand::Price;

/// What stores of idle memory keep.
pub(crate) mod retention {
    use super::Price;

    /// Bytes that have to come back within the purge delay before a dip is retained. Faulting them in costs a hundredth of
    /// the default delay at 0.7 µs for 4 KiB (measured: `kernel-facts`, first touch of OS pages).
    pub(crate) const WORTH: Price = Price(64 << 20);
    /// Bytes of freed large blocks that stay cached whatever is live, so that a buffer taken and freed in a loop is not
    /// faulted in each time. With a small program's 2 MiB it makes 8 MiB, which is the bound this policy was given.
    pub(crate) const LARGE_LEAST: usize = 6 << 20;
    /// One part in so many of what is live in large blocks may stay cached besides. Guess.
    pub(crate) const LARGE_SHARE: usize = 2;
    /// Bytes behind the ends of live large blocks that may be resident, in all, and one part in so many of what is live in
    /// large blocks where that is more. Guess: 100 blocks of 1 MiB that come and go then cost 4 MiB more than they hold.
    pub(crate) const TAILS: usize = 4 << 20;
    pub(crate) const TAILS_SHARE: usize = 32;
    /// Where nobody sees time pass, a demand of so many bytes is served in full. glibc keeps as much for a process of one
    /// thread that takes and frees a buffer in a loop (`M_TRIM_THRESHOLD`, up to 64 MiB). A loop over one buffer of 20 MiB
    /// faults 143,399 times without it, and not at all with it.
    pub(crate) const UNSEEN_WHOLE: usize = 30 << 20;
    /// Bytes of large blocks that stay cached where nobody sees time pass and the demand is more: [`LARGE_LEAST`].
    pub(crate) const LARGE_UNSEEN: usize = LARGE_LEAST;
    /// Bytes of free slots and stacks together, likewise. The bound this policy was given is 36 MiB, of which a small program
    /// has 2, the large cache may have 6, and what bins pin is up to 6.
    pub(crate) const SMALL_UNSEEN: usize = 22 << 20;
}

/// When fresh memory takes the place of idle memory.
pub(crate) mod ceiling {
    /// Idle bytes that are left alone when a process grows beyond its recent peak, and one part in so many of what is live
    /// where that is more. Guess: what a start of `python3` has idle (2 MiB) is not worth giving back.
    pub(crate) const SPARED: usize = 2 << 20;
    pub(crate) const SPARED_SHARE: usize = 32;
}
