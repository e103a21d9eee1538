//! How much free memory a program has shown that it comes back for.
//!
//! A bound on retained memory that is enforced at once keeps a process small, and makes one that frees and allocates
//! the same hundred megabytes again and again fault them all in every time. Both are had by believing what is seen:
//! memory that was given back *because of the bound* and had to be taken again within the purge delay was given back
//! too early, and that much more may be retained from then on, provided it happens often enough to cost time that
//! anybody would notice; memory that lay unneeded for the whole delay takes the allowance down again.

/// Bytes per millisecond that may be taken again without an allowance coming of it: faulting them in, at 0.7 µs for
/// 4 KiB, takes one hundredth of the time.
const CHEAP_PER_MS: usize = 64 << 10;
/// Bytes taken again at once that are put up with before anything is learnt.
const PATIENCE: usize = 2 << 20;

/// An allowance in bytes, learnt from what was given back and taken again. Times in milliseconds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Swing {
    /// Bytes given back for want of room, and not yet taken again.
    given: usize,
    /// When the last of them went.
    since: u64,
    allowance: usize,
    /// Bytes taken again, less those that time has made cheap and those learnt from, and when they were last looked at.
    paid: usize,
    paid_at: u64,
}

impl Swing {
    pub(crate) const NONE: Swing = Swing {
        given: 0,
        since: 0,
        allowance: 0,
        paid: 0,
        paid_at: 0,
    };

    /// Bytes that may be retained, even if the bound says less.
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
        if back == 0 {
            return;
        }
        self.given -= back;
        if now.saturating_sub(self.since) < delay {
            let cheap = (now.saturating_sub(self.paid_at) as usize).saturating_mul(CHEAP_PER_MS);
            self.paid = self.paid.saturating_sub(cheap) + back;
            self.paid_at = now;
            // Once a program is known to swing, the rest is believed at once.
            if self.allowance > PATIENCE || self.paid > PATIENCE {
                self.allowance += back;
                self.paid = PATIENCE;
            }
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
    const MIB: usize = 1 << 20;

    /// A swing that has been patient already.
    fn tried(now: u64) -> Swing {
        Swing {
            paid: PATIENCE + 1,
            paid_at: now,
            ..Swing::NONE
        }
    }

    #[test]
    fn what_comes_back_in_time_is_allowed_and_no_more() {
        let mut swing = tried(20);
        swing.took(100, 5, DELAY);
        assert_eq!(swing.allowance(), 0, "growth alone is no swing");
        swing.gave(80, 10, DELAY);
        swing.took(50, 20, DELAY);
        assert_eq!((swing.allowance(), swing.is_open()), (50, true));
        swing.took(500, 20, DELAY);
        assert_eq!((swing.allowance(), swing.is_open()), (80, false));
        swing.took(500, 20, DELAY);
        assert_eq!(swing.allowance(), 80, "no byte counts twice");
    }

    #[test]
    fn what_comes_back_late_is_not() {
        let mut swing = tried(6000);
        swing.gave(80, 10, DELAY);
        swing.took(50, 10 + DELAY, DELAY);
        assert_eq!((swing.allowance(), swing.is_open()), (0, false));
        swing.gave(30, 5000, DELAY);
        swing.gave(20, 5500, DELAY);
        swing.took(100, 6000, DELAY);
        assert_eq!(swing.allowance(), 50);
        swing.gave(7, 9000, DELAY);
        swing.gave(1, 9000 + DELAY, DELAY);
        (swing.paid, swing.paid_at) = (PATIENCE, 9000 + DELAY);
        swing.took(100, 9000 + DELAY, DELAY);
        assert_eq!(
            swing.allowance(),
            51,
            "the seven had been gone for too long"
        );
    }

    #[test]
    fn a_delay_of_nothing_allows_nothing() {
        let mut swing = tried(10);
        swing.gave(80, 10, 0);
        swing.took(80, 10, 0);
        assert_eq!(swing.allowance(), 0);
    }

    #[test]
    fn what_nobody_needs_is_unlearnt() {
        let mut swing = tried(20);
        swing.gave(80, 10, DELAY);
        swing.took(80, 20, DELAY);
        swing.unneeded(30);
        assert_eq!(swing.allowance(), 50);
        swing.unneeded(300);
        assert_eq!(swing.allowance(), 0);
    }

    #[test]
    fn a_slow_swing_costs_too_little_to_hold_memory_for() {
        let mut swing = Swing::NONE;
        for round in 1..100 {
            let now = round * 100;
            swing.gave(2 * MIB, now, DELAY);
            swing.took(2 * MIB, now + 1, DELAY);
        }
        assert_eq!(swing.allowance(), 0, "2 MiB ten times a second");
    }

    #[test]
    fn a_quick_swing_is_learnt_in_a_few_rounds() {
        let mut swing = Swing::NONE;
        for now in 1..6 {
            let given = (3 * MIB).saturating_sub(swing.allowance());
            swing.gave(given, now, DELAY);
            swing.took(given, now, DELAY);
        }
        assert!(
            swing.allowance() > 5 * MIB / 2,
            "{} of 3 MiB every millisecond",
            swing.allowance()
        );
        let mut swing = Swing::NONE;
        swing.gave(100 * MIB, 10, DELAY);
        swing.took(100 * MIB, 200, DELAY);
        assert_eq!(
            swing.allowance(),
            100 * MIB,
            "so many are dear the first time"
        );
    }
}
