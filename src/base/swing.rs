//! How much free memory a program has shown that it comes back for.
//!
//! A bound on retained memory that is enforced at once keeps a process small, and makes one that frees and allocates
//! the same hundred megabytes again and again fault them all in every time. Both are had by believing what is seen:
//! memory that was given back *because of the bound* and had to be taken again within the purge delay was given back
//! too early, and that much more may be retained from then on; memory that lay unneeded for the whole delay takes the
//! allowance down again.

/// An allowance in bytes above the bound, learnt from what was given back and taken again. Times in milliseconds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Swing {
    /// Bytes given back for want of room, and not yet taken again.
    given: usize,
    /// When the last of them went.
    since: u64,
    allowance: usize,
}

impl Swing {
    pub(crate) const NONE: Swing = Swing {
        given: 0,
        since: 0,
        allowance: 0,
    };

    /// Bytes that may be retained above what the bound says otherwise.
    pub(crate) fn allowance(&self) -> usize {
        self.allowance
    }

    /// Whether [`Swing::took`] would have an effect: spares its caller a look at the clock.
    pub(crate) fn is_open(&self) -> bool {
        self.given != 0
    }

    /// `bytes` went back to the kernel because more was retained than the bound allows.
    pub(crate) fn gave(&mut self, bytes: usize, now: u64, delay: u64) {
        if now.saturating_sub(self.since) >= delay {
            self.given = 0;
        }
        self.given += bytes;
        self.since = now;
    }

    /// `bytes` were taken from the kernel.
    pub(crate) fn took(&mut self, bytes: usize, now: u64, delay: u64) {
        let back = bytes.min(self.given);
        self.given -= back;
        if now.saturating_sub(self.since) < delay {
            self.allowance += back;
        } else {
            self.given = 0;
        }
    }

    /// `bytes` were retained for the whole delay, and nobody came.
    pub(crate) fn unneeded(&mut self, bytes: usize) {
        self.allowance = self.allowance.saturating_sub(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DELAY: u64 = 1000;

    #[test]
    fn what_comes_back_in_time_is_allowed_and_no_more() {
        let mut swing = Swing::NONE;
        swing.took(100, 5, DELAY);
        assert_eq!(swing.allowance(), 0, "growth alone is no swing");
        swing.gave(80, 10, DELAY);
        swing.took(50, 20, DELAY);
        assert_eq!((swing.allowance(), swing.is_open()), (50, true));
        swing.took(500, 30, DELAY);
        assert_eq!((swing.allowance(), swing.is_open()), (80, false));
        swing.took(500, 40, DELAY);
        assert_eq!(swing.allowance(), 80, "no byte counts twice");
    }

    #[test]
    fn what_comes_back_late_is_not() {
        let mut swing = Swing::NONE;
        swing.gave(80, 10, DELAY);
        swing.took(50, 10 + DELAY, DELAY);
        assert_eq!((swing.allowance(), swing.is_open()), (0, false));
        swing.gave(30, 5000, DELAY);
        swing.gave(20, 5500, DELAY);
        swing.took(100, 6000, DELAY);
        assert_eq!(swing.allowance(), 50);
        swing.gave(7, 9000, DELAY);
        swing.gave(1, 9000 + DELAY, DELAY);
        swing.took(100, 9000 + DELAY, DELAY);
        assert_eq!(
            swing.allowance(),
            51,
            "the seven had been gone for too long"
        );
    }

    #[test]
    fn a_delay_of_nothing_allows_nothing() {
        let mut swing = Swing::NONE;
        swing.gave(80, 10, 0);
        swing.took(80, 10, 0);
        assert_eq!(swing.allowance(), 0);
    }

    #[test]
    fn what_nobody_needs_is_unlearnt() {
        let mut swing = Swing::NONE;
        swing.gave(80, 10, DELAY);
        swing.took(80, 20, DELAY);
        swing.unneeded(30);
        assert_eq!(swing.allowance(), 50);
        swing.unneeded(300);
        assert_eq!(swing.allowance(), 0);
    }
}
