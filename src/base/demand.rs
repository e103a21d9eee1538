//! How much memory a program frees and takes again: its *demand*.
//!
//! Every store of idle memory faces the same question. Memory that goes back to the kernel costs nothing while it is gone, and
//! a page fault for each page when it is needed again. The answer is TCMalloc's (`huge_cache.cc`): the *largest brief dip*, the
//! most by which usage fell below its peak and rose again within a window of one purge delay. A store that keeps this much
//! serves the next rise without the kernel. A store that keeps more holds memory that nobody takes again.
//!
//! Time is counted in epochs, which are quarters of the delay. The caller passes the epoch, so nothing here reads a clock.

#![forbid(unsafe_code)]

/// Epochs in a window: one purge delay.
const WINDOW: usize = 4;
/// The current epoch, and the window before it.
const SPANS: usize = WINDOW + 1;

/// A quarter of the purge delay, counted from an arbitrary moment.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub(crate) struct Epoch(u64);

impl Epoch {
    /// The epoch of a moment, in milliseconds. An epoch lasts at least 10 ms, because the clock may tick only every 10 ms.
    pub(crate) fn at(now_ms: u64, delay_ms: u64) -> Epoch {
        Epoch(now_ms / (delay_ms / WINDOW as u64).max(10))
    }

    /// Epochs from `earlier` to this one.
    pub(crate) fn since(self, earlier: Epoch) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// Whether a whole window lies between `earlier` and this one.
    pub(crate) fn is_a_window_after(self, earlier: Epoch) -> bool {
        self.since(earlier) >= WINDOW as u64
    }

    /// How many windows began since the epoch with this number.
    pub(crate) fn windows_since(self, number: u64) -> u64 {
        (self.0 / WINDOW as u64).saturating_sub(number / WINDOW as u64)
    }

    /// The number, for a word that several threads advance.
    pub(crate) fn number(self) -> u64 {
        self.0
    }
}

/// Bytes that must come back within one window before a dip is worth retaining memory for. Faulting in fewer costs less time
/// than anybody notices.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Price(pub(crate) usize);

/// What happened within one epoch.
#[derive(Clone, Copy, Debug)]
struct Span {
    /// Most bytes live.
    most: usize,
    /// Least bytes live since the window's peak.
    least: usize,
    /// The largest dip that ended.
    dip: usize,
    /// Bytes by which usage rose without exceeding the window's peak.
    back: usize,
}

impl Span {
    const NONE: Span = Span::of(0);

    const fn of(live: usize) -> Span {
        Span {
            most: live,
            least: live,
            dip: 0,
            back: 0,
        }
    }
}

/// The history of one store's usage over the last window. `live` is the last value given to [`Demand::live`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Demand {
    live: usize,
    at: Epoch,
    /// Whether usage ever fell, for [`Demand::rise`].
    fell: bool,
    /// The current epoch first, older ones after it.
    spans: [Span; SPANS],
}

impl Demand {
    pub(crate) const NONE: Demand = Demand {
        live: 0,
        at: Epoch(0),
        fell: false,
        spans: [Span::NONE; SPANS],
    };

    /// `bytes` are live from now on, no fewer than before. The clock is asked only if usage ever fell: without a fall there is no
    /// dip, and what is live is the peak of every epoch from now on, whenever it rose. So a small program reads no clock.
    pub(crate) fn rise(&mut self, bytes: usize, now: impl FnOnce() -> Epoch) {
        let at = if self.fell { now() } else { self.at };
        self.live(bytes, at);
    }

    /// `bytes` are live from now on, no more than before.
    pub(crate) fn fall(&mut self, bytes: usize, at: Epoch) {
        self.fell = true;
        self.live(bytes, at);
    }

    /// `bytes` are live from now on. Whoever calls this alone never calls [`Demand::rise`].
    pub(crate) fn live(&mut self, bytes: usize, at: Epoch) {
        self.advance(at);
        let peak = self.peak();
        if bytes > self.live {
            let back = bytes.min(peak).saturating_sub(self.live);
            let least = self.spans.iter().map(|span| span.least).min();
            let least = least.unwrap_or(bytes).min(self.live);
            let dip = (peak - least).min(bytes - least);
            let now = &mut self.spans[0];
            now.back = now.back.saturating_add(back);
            now.dip = now.dip.max(dip);
        }
        if bytes >= peak {
            // A new peak: the troughs before it are not dips below it.
            self.spans.iter_mut().for_each(|span| span.least = bytes);
        }
        let now = &mut self.spans[0];
        now.most = now.most.max(bytes);
        now.least = now.least.min(bytes);
        self.live = bytes;
    }

    /// Lets epochs pass in which nothing changed.
    pub(crate) fn advance(&mut self, at: Epoch) {
        let passed = at.since(self.at);
        for _ in 0..passed.min(SPANS as u64) {
            self.spans.copy_within(0..SPANS - 1, 1);
            self.spans[0] = Span::of(self.live);
        }
        self.at = self.at.max(at);
    }

    /// Most bytes live within the window.
    pub(crate) fn peak(&self) -> usize {
        self.most_of(|span| span.most)
    }

    /// Bytes by which usage lies below the window's peak.
    pub(crate) fn fallen(&self) -> usize {
        self.peak().saturating_sub(self.live)
    }

    /// Bytes the store may keep idle: `base`, or the largest dip if the bytes that came back are worth `price`.
    pub(crate) fn allow(&self, base: usize, price: Price) -> usize {
        let back = |sum: usize, span: &Span| sum.saturating_add(span.back);
        if self.spans.iter().fold(0, back) >= price.0 {
            base.max(self.most_of(|span| span.dip))
        } else {
            base
        }
    }

    fn most_of(&self, of: impl Fn(&Span) -> usize) -> usize {
        self.spans.iter().map(of).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DELAY: u64 = 1000;
    const CHEAP: Price = Price(0);

    /// A demand and a clock in milliseconds.
    struct Story {
        demand: Demand,
        now: u64,
    }

    impl Story {
        fn new() -> Story {
            Story {
                demand: Demand::NONE,
                now: 1_000_000,
            }
        }

        fn live(&mut self, bytes: usize) -> &mut Story {
            self.demand.live(bytes, Epoch::at(self.now, DELAY));
            self
        }

        fn after(&mut self, ms: u64) -> &mut Story {
            self.now += ms;
            self.demand.advance(Epoch::at(self.now, DELAY));
            self
        }

        fn allows(&self, base: usize, price: Price) -> usize {
            self.demand.allow(base, price)
        }
    }

    #[test]
    fn growth_alone_is_no_dip() {
        let mut story = Story::new();
        for bytes in [10, 50, 50, 200] {
            story.live(bytes).after(100);
        }
        assert_eq!(story.allows(7, CHEAP), 7);
    }

    /// Growth is counted in the epoch of the last call that told the time. What was there from then on is the same as with the
    /// clock read each time.
    #[test]
    fn growth_needs_no_clock() {
        for pause in [0, 100, DELAY / 4, DELAY, 3 * DELAY] {
            let (mut read, mut unread) = (Story::new(), Story::new());
            for bytes in [10, 50, 50, 200, 210] {
                read.live(bytes);
                let at = || panic!("usage never fell");
                unread.demand.rise(bytes, at);
                assert_eq!(read.demand.peak(), unread.demand.peak());
                read.now += pause;
                unread.now = read.now;
            }
            for bytes in [150, 40, 180, 205, 300, 290] {
                for story in [&mut read, &mut unread] {
                    let at = Epoch::at(story.now, DELAY);
                    match bytes < story.demand.live {
                        true => story.demand.fall(bytes, at),
                        false => story.demand.rise(bytes, || at),
                    }
                }
                assert_eq!(read.demand.peak(), unread.demand.peak(), "{pause} {bytes}");
                let (one, other) = (read.allows(0, CHEAP), unread.allows(0, CHEAP));
                assert_eq!(one, other, "{pause} {bytes}");
                read.after(pause);
                unread.after(pause);
            }
        }
    }

    #[test]
    fn a_fall_alone_is_no_dip() {
        let mut story = Story::new();
        story.live(200).live(100).live(0);
        assert_eq!(story.allows(7, CHEAP), 7);
    }

    #[test]
    fn a_dip_is_what_fell_and_came_back() {
        let mut story = Story::new();
        story.live(200).live(80).live(110);
        assert_eq!(story.allows(0, CHEAP), 30, "of 120 that went, 30 came back");
        story.live(500);
        assert_eq!(
            story.allows(0, CHEAP),
            120,
            "growth beyond the peak is none"
        );
        story.live(480).live(490);
        assert_eq!(story.allows(0, CHEAP), 120, "the largest counts");
        assert_eq!(story.allows(300, CHEAP), 300);
    }

    #[test]
    fn what_lies_before_a_peak_does_not_count() {
        let mut story = Story::new();
        story.live(5).live(200).live(190).live(195);
        assert_eq!(story.allows(0, CHEAP), 5);
    }

    #[test]
    fn a_dip_is_forgotten_one_to_one_and_a_quarter_delays_later() {
        let mut story = Story::new();
        story.live(200).live(80).live(200);
        story.after(DELAY - 1);
        assert_eq!(story.allows(0, CHEAP), 120);
        story.after(DELAY / 4 + 1);
        assert_eq!(story.allows(0, CHEAP), 0);
        assert_eq!(story.demand.peak(), 200, "it is live all along");
    }

    #[test]
    fn a_slow_swing_is_none() {
        let mut story = Story::new();
        for _ in 0..5 {
            story.live(200).after(2 * DELAY).live(0).after(2 * DELAY);
        }
        assert_eq!(story.allows(0, CHEAP), 0);
        assert_eq!(story.demand.peak(), 0);
    }

    #[test]
    fn a_trough_is_forgotten_with_its_window() {
        let mut story = Story::new();
        story
            .live(200)
            .live(10)
            .live(100)
            .after(2 * DELAY)
            .live(110);
        assert_eq!(story.allows(0, CHEAP), 0, "steady at 100 for two delays");
        story.live(90).live(100);
        assert_eq!(story.allows(0, CHEAP), 10);
    }

    #[test]
    fn what_comes_back_has_its_price() {
        let mut story = Story::new();
        story.live(200);
        for back in [50, 100, 150] {
            story.live(150).live(200);
            assert_eq!(story.allows(1, Price(back)), 50);
            assert_eq!(story.allows(1, Price(back + 1)), 1);
        }
        story.after(2 * DELAY);
        assert_eq!(story.allows(1, Price(1)), 1, "paid long ago");
    }

    #[test]
    fn a_steady_swing_is_allowed_for_as_long_as_it_lasts() {
        let mut story = Story::new();
        story.live(200);
        for round in 0..100 {
            story.live(0).after(130).live(200).after(130);
            assert_eq!(story.allows(0, Price(200)), 200, "round {round}");
        }
    }

    #[test]
    fn a_clock_that_stands_still_or_jumps_harms_nothing() {
        let mut story = Story::new();
        story.live(200).live(80).live(200);
        story.demand.live(100, Epoch::default());
        assert_eq!(story.allows(0, CHEAP), 120, "back in time: nothing passed");
        story.demand.live(200, Epoch::at(u64::MAX, DELAY));
        assert_eq!(story.allows(0, CHEAP), 0);
        assert_eq!(story.demand.peak(), 200);
    }

    #[test]
    fn epochs_are_quarters_of_the_delay() {
        assert_eq!(Epoch::at(1000, 1000).since(Epoch::at(0, 1000)), 4);
        assert!(Epoch::at(1000, 1000).is_a_window_after(Epoch::at(0, 1000)));
        assert!(!Epoch::at(999, 1000).is_a_window_after(Epoch::at(0, 1000)));
        assert_eq!(Epoch::at(99, 0).since(Epoch::at(0, 0)), 9, "10 ms at least");
        assert_eq!(Epoch::at(0, 0).since(Epoch::at(99, 0)), 0);
    }
}
