//! How large the next step of background work is, and how long the pause before it, derived from how long the last one took.
//!
//! A step makes every mmap of the process wait while it holds the lock of the address space, and otherwise keeps a core busy.
//! How long a page takes differs by a factor of ten between machines and from one moment to the next. So the step begins small,
//! shrinks at once by as much as it was too long, and grows only after several short ones in a row.

#![forbid(unsafe_code)]

use crate::base::tuning::pace::{AIM_NS, CALM_STEPS, FIRST, LONGEST_PAUSE_US, PAUSE_US, SMALLEST};
use crate::os::mapping::HUGE_PAGE;

/// A controller: `smallest <= step <= largest`, and `step` is `largest` or a power of two.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Pace {
    step: usize,
    smallest: usize,
    largest: usize,
    calm: u32,
    pause_us: u64,
}

impl Pace {
    /// Steps of at most `largest`; of exactly that size if memory comes only in such pieces (`whole`), because a smaller step
    /// would not be shorter.
    pub(super) fn new(largest: usize, whole: bool) -> Pace {
        let smallest = match whole || largest > HUGE_PAGE {
            true => largest,
            false => SMALLEST.min(largest),
        };
        Pace {
            step: FIRST.clamp(smallest, largest),
            smallest,
            largest,
            calm: 0,
            pause_us: PAUSE_US,
        }
    }

    /// The next step goes at most to the next multiple of this.
    pub(super) fn step(&self) -> usize {
        self.step
    }

    pub(super) fn pause_us(&self) -> u64 {
        self.pause_us
    }

    /// Records that the last step took `ns`.
    pub(super) fn took(&mut self, ns: u64) {
        self.pause_us = (ns / 4000).clamp(PAUSE_US, LONGEST_PAUSE_US);
        if ns > AIM_NS {
            self.calm = 0;
            // Divides by how much it was too long, rounded up to a power of two, and at least by two.
            let times = ns.div_ceil(AIM_NS).max(2).next_power_of_two();
            let shorter = self.step.checked_shr(times.trailing_zeros()).unwrap_or(0);
            self.step = shorter.max(self.smallest);
            return;
        }
        self.calm = if ns < AIM_NS / 2 { self.calm + 1 } else { 0 };
        if ns < AIM_NS / 8 || self.calm >= CALM_STEPS {
            self.calm = 0;
            self.step = self.step.saturating_mul(2).min(self.largest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn begins_small_and_grows_to_the_largest_when_steps_are_short() {
        let mut pace = Pace::new(HUGE_PAGE, false);
        assert_eq!(pace.step(), FIRST);
        for expected in [FIRST * 2, FIRST * 4, HUGE_PAGE, HUGE_PAGE] {
            pace.took(1000);
            assert_eq!((pace.step(), pace.pause_us()), (expected, PAUSE_US));
        }
    }

    #[test]
    fn shrinks_at_once_by_as_much_as_a_step_was_too_long() {
        let at_largest = Pace {
            step: HUGE_PAGE,
            ..Pace::new(HUGE_PAGE, false)
        };
        for (ns, step) in [
            (AIM_NS, HUGE_PAGE),
            (AIM_NS + 1, HUGE_PAGE / 2),
            (2 * AIM_NS, HUGE_PAGE / 2),
            (3 * AIM_NS, HUGE_PAGE / 4),
            (8 * AIM_NS, HUGE_PAGE / 8),
            (1000 * AIM_NS, SMALLEST),
            (u64::MAX, SMALLEST),
        ] {
            let mut pace = at_largest;
            pace.took(ns);
            assert_eq!(pace.step(), step, "{ns}");
        }
    }

    #[test]
    fn grows_slowly_near_the_aim() {
        let mut pace = Pace::new(HUGE_PAGE, false);
        let near = AIM_NS / 2 - 1;
        pace.took(near);
        pace.took(near);
        assert_eq!(pace.step(), FIRST);
        // A step that is not short restarts the count.
        pace.took(AIM_NS / 2);
        pace.took(near);
        pace.took(near);
        assert_eq!(pace.step(), FIRST);
        pace.took(near);
        assert_eq!(pace.step(), 2 * FIRST);
        // A step that would take too long when doubled stays as it is.
        for _ in 0..10 {
            pace.took(AIM_NS * 3 / 4);
        }
        assert_eq!(pace.step(), 2 * FIRST);
    }

    #[test]
    fn whole_pieces_are_never_cut() {
        for mut pace in [Pace::new(HUGE_PAGE, true), Pace::new(1 << 30, false)] {
            let whole = pace.step();
            assert_eq!(whole, pace.largest);
            pace.took(50 * AIM_NS);
            assert_eq!(pace.step(), whole);
        }
    }

    #[test]
    fn the_pause_is_a_share_of_the_step_within_bounds() {
        let mut pace = Pace::new(HUGE_PAGE, true);
        for (ns, us) in [(0, 50), (200_000, 50), (400_000, 100), (4_000_000, 1000)] {
            pace.took(ns);
            assert_eq!(pace.pause_us(), us);
        }
        pace.took(u64::MAX);
        assert_eq!(pace.pause_us(), LONGEST_PAUSE_US);
    }

    /// Whatever an OS page costs on a machine, steps settle at the aim or at the smallest, and the pauses stay a small share of
    /// the whole.
    #[test]
    fn settles_where_steps_take_what_they_should() {
        for ns_per_page in [50, 300, 1000, 5000, 20_000u64] {
            let mut pace = Pace::new(HUGE_PAGE, false);
            let (mut work, mut pauses) = (0, 0);
            for turn in 0..200 {
                let ns = (pace.step() / 4096) as u64 * ns_per_page;
                let allowed = ns <= AIM_NS || pace.step() == SMALLEST;
                assert!(allowed || turn < 3, "{ns_per_page}: {ns} at turn {turn}");
                pace.took(ns);
                (work, pauses) = (work + ns, pauses + pace.pause_us() * 1000);
            }
            assert!(ns_per_page < 300 || pauses <= work / 2, "{ns_per_page}");
        }
    }
}
