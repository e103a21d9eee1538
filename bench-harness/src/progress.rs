//! How far a measurement is and how long it will still take, a line now and then.
//!
//! Nothing runs between the calls, as a thread that redraws would be measured as well.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::output;
use crate::stats::median;

const EVERY: Duration = Duration::from_secs(5);

/// What runs take, learned as they are seen. Runs of a case take about the same each time.
#[derive(Debug)]
pub struct Pace {
    seen: HashMap<usize, Vec<f64>>,
    expected: f64,
    taken: f64,
}

impl Pace {
    /// Nothing seen yet; until then expectations are taken times `factor`.
    pub fn new(factor: f64) -> Self {
        Self {
            seen: HashMap::new(),
            // Counts like a second of runs, so that the first of them do not throw everything over.
            expected: 1.0,
            taken: factor,
        }
    }

    /// A run of this case was expected to take so many seconds and took others.
    pub fn saw(&mut self, case: usize, expected: f64, taken: f64) {
        self.seen.entry(case).or_default().push(taken);
        self.expected += expected;
        self.taken += taken;
    }

    /// What a run of this case will take, where `expected` is the guess of someone who has not seen any.
    pub fn guess(&self, case: usize, expected: f64) -> f64 {
        match self.seen.get(&case).and_then(|s| median(s)) {
            Some(seen) => seen,
            None => expected * self.taken / self.expected,
        }
    }
}

#[derive(Debug)]
pub struct Progress {
    total: usize,
    said: Instant,
}

impl Progress {
    pub fn new(total: usize) -> Self {
        Self { total, said: Instant::now() }
    }

    /// The next run is about to start; so many are done, and so much is left.
    pub fn starts(&mut self, what: &str, done: usize, left: Duration) {
        if self.said.elapsed() >= EVERY {
            self.said = Instant::now();
            output::say(&format!("{done} of {} runs, {} left: {what}\n", self.total, in_words(left)));
        }
    }
}

pub fn in_words(time: Duration) -> String {
    let secs = time.as_secs_f64();
    match secs {
        s if s < 1.0 => "less than a second".to_owned(),
        s if s < 90.0 => format!("about {s:.0} s"),
        s if s < 5400.0 => format!("about {:.0} min", s / 60.0),
        s => format!("about {:.1} h", s / 3600.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pace_is_learned() {
        let mut pace = Pace::new(2.0);
        assert_eq!(pace.guess(0, 3.0), 6.0);
        pace.saw(0, 3.0, 9.0);
        assert_eq!(pace.guess(0, 3.0), 9.0);
        // Others are guessed by what all have taken beyond expectation: (2 + 9) / (1 + 3).
        assert_eq!(pace.guess(1, 4.0), 11.0);
        pace.saw(0, 3.0, 1.0);
        assert_eq!(pace.guess(0, 3.0), 5.0);
    }
}
