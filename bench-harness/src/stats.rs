//! Medians, spreads, and the ratio of two allocators with its interval.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde::{Deserialize, Serialize};

/// Middle, smallest and largest of some values.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// The median.
    pub median: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
}

impl Summary {
    /// The summary of at least one value.
    pub fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        Some(Self {
            median: median_of_sorted(&sorted)?,
            min: *sorted.first()?,
            max: *sorted.last()?,
        })
    }

    /// Largest minus smallest, relative to the median.
    pub fn spread(&self) -> f64 {
        (self.max - self.min) / self.median
    }
}

/// The median of at least one value; of an even number, the mean of the middle two.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    median_of_sorted(&sorted)
}

fn median_of_sorted(sorted: &[f64]) -> Option<f64> {
    let (high, low) = (
        sorted.get(sorted.len() / 2)?,
        sorted.get(sorted.len().checked_sub(1)? / 2)?,
    );
    Some((high + low) / 2.0)
}

/// How one allocator compares with another.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Ratio {
    /// The ratio of the medians.
    pub value: f64,
    /// Lower end of the 95 % interval.
    pub low: f64,
    /// Upper end of the 95 % interval.
    pub high: f64,
    /// How many pairs of runs it rests on.
    #[serde(default)]
    pub pairs: usize,
}

/// From fewer pairs no interval can be drawn that means anything.
const LEAST_PAIRS: usize = 3;

impl Ratio {
    /// Whether the interval excludes 1 and rests on enough pairs; if not, there is no difference to speak of.
    pub fn is_difference(&self) -> bool {
        self.pairs >= LEAST_PAIRS && (self.low > 1.0 || self.high < 1.0)
    }
}

/// How often the runs are drawn anew for the interval.
const RESAMPLES: usize = 2000;

/// The ratio of the medians of `ours` to those of `theirs`, with a 95 % bootstrap interval. Values are given with the
/// round they belong to; rounds both took part in are drawn with replacement, as pairs, so that drift of the machine from
/// round to round does not count as difference.
pub fn ratio(ours: &[(usize, f64)], theirs: &[(usize, f64)]) -> Option<Ratio> {
    let pairs: Vec<(f64, f64)> = ours
        .iter()
        .filter_map(|&(round, o)| Some((o, theirs.iter().find(|t| t.0 == round)?.1)))
        .collect();
    let of = |pairs: &[(f64, f64)]| {
        let (o, t): (Vec<f64>, Vec<f64>) = pairs.iter().copied().unzip();
        Some(median(&o)? / median(&t)?)
    };
    let value = of(&pairs)?;
    // A fixed seed: the same results give the same report.
    let mut random = StdRng::seed_from_u64(0x6861_6B6D);
    let mut drawn = Vec::with_capacity(RESAMPLES);
    for _ in 0..RESAMPLES {
        let sample: Vec<_> = pairs
            .iter()
            .map(|_| pairs[random.random_range(0..pairs.len())])
            .collect();
        drawn.push(of(&sample)?);
    }
    drawn.sort_by(f64::total_cmp);
    let at = |share: f64| drawn[((RESAMPLES - 1) as f64 * share).round() as usize];
    Some(Ratio {
        value,
        low: at(0.025),
        high: at(0.975),
        pairs: pairs.len(),
    })
}

/// The geometric mean of at least one positive value.
pub fn geometric_mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty())
        .then(|| (values.iter().map(|v| v.ln()).sum::<f64>() / values.len() as f64).exp())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rounds(values: &[f64]) -> Vec<(usize, f64)> {
        values.iter().copied().enumerate().collect()
    }

    #[test]
    fn medians_and_spread() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0]), Some(3.0));
        assert_eq!(median(&[9.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 100.0]), Some(3.0));
        let s = Summary::of(&[5.0, 1.0, 2.0]).unwrap();
        assert_eq!((s.median, s.min, s.max, s.spread()), (2.0, 1.0, 5.0, 2.0));
        assert_eq!(Summary::of(&[]), None);
    }

    #[test]
    fn a_clear_ratio_is_a_difference() {
        let theirs = rounds(&[10.0, 11.0, 9.0, 10.5, 9.5]);
        let ours: Vec<_> = theirs.iter().map(|&(r, v)| (r, v * 2.0)).collect();
        let r = ratio(&ours, &theirs).unwrap();
        assert_eq!((r.value, r.low, r.high), (2.0, 2.0, 2.0));
        assert!(r.is_difference());
        // Two pairs agree too easily.
        assert!(!ratio(&ours[..2], &theirs[..2]).unwrap().is_difference());
    }

    #[test]
    fn noise_is_no_difference() {
        let r = ratio(
            &rounds(&[9.0, 11.0, 10.0, 10.2]),
            &rounds(&[10.0, 10.0, 10.1, 9.9]),
        )
        .unwrap();
        assert!(r.low < 1.0 && r.high > 1.0 && !r.is_difference(), "{r:?}");
    }

    #[test]
    fn only_common_rounds_count() {
        let r = ratio(&[(1, 4.0), (7, 1000.0)], &[(0, 50.0), (1, 2.0)]).unwrap();
        assert_eq!((r.value, r.low, r.high), (2.0, 2.0, 2.0));
        assert_eq!(ratio(&[(1, 4.0)], &[(2, 4.0)]), None);
    }

    #[test]
    fn geometric_mean_by_hand() {
        assert!((geometric_mean(&[2.0, 8.0]).unwrap() - 4.0).abs() < 1e-12);
        assert_eq!(geometric_mean(&[]), None);
    }
}
