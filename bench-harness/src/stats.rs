//! Medians, spreads, and the ratio of two allocators with its interval.

pub use bench_kernel::median;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Summary {
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

impl Summary {
    /// The summary of at least one value.
    pub fn of(values: &[f64]) -> Option<Self> {
        let end = |wins: fn(f64, f64) -> f64| values.iter().copied().reduce(wins);
        Some(Self { median: median(values)?, min: end(f64::min)?, max: end(f64::max)? })
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ratio {
    pub value: f64,
    /// The ends of the 95 % interval. One pair has none.
    pub interval: Option<(f64, f64)>,
    /// How many pairs of runs it rests on.
    pub pairs: usize,
}

/// From fewer pairs no difference is claimed: of four, all lie on one side by chance in one case of eight.
pub const LEAST_PAIRS: usize = 5;

impl Ratio {
    /// Whether the interval excludes 1 and rests on enough pairs; if not, there is no difference to speak of.
    pub fn is_difference(&self) -> bool {
        self.pairs >= LEAST_PAIRS && self.interval.is_some_and(|(low, high)| low > 1.0 || high < 1.0)
    }
}

/// How often the runs are drawn anew for an interval.
const RESAMPLES: usize = 1000;

/// Where values drawn anew end on both sides, 5 % of them left out.
fn ends(mut drawn: Vec<f64>) -> Option<(f64, f64)> {
    drawn.sort_by(f64::total_cmp);
    let at = |share: f64| drawn.get((drawn.len().checked_sub(1)? as f64 * share).round() as usize).copied();
    Some((at(0.025)?, at(0.975)?))
}

/// A fixed seed: the same results give the same report.
fn random() -> StdRng {
    StdRng::seed_from_u64(0x6861_6B6D)
}

/// Values of both in the rounds both took part in.
fn pairs(ours: &[(usize, f64)], theirs: &[(usize, f64)]) -> Vec<(f64, f64)> {
    ours.iter().filter_map(|&(round, o)| Some((o, theirs.iter().find(|t| t.0 == round)?.1))).collect()
}

fn ratio_of(pairs: &[(f64, f64)]) -> Option<f64> {
    let (o, t): (Vec<f64>, Vec<f64>) = pairs.iter().copied().unzip();
    Some(median(&o)? / median(&t)?)
}

fn drawn(pairs: &[(f64, f64)], random: &mut StdRng) -> Option<f64> {
    let sample: Vec<_> = pairs.iter().map(|_| pairs[random.random_range(0..pairs.len())]).collect();
    ratio_of(&sample)
}

/// The ratio of the medians of `ours` to those of `theirs`, with a 95 % bootstrap interval. Values are given with the round
/// they belong to; rounds both took part in are drawn with replacement, as pairs, so that drift of the machine from round to
/// round does not count as difference.
pub fn ratio(ours: &[(usize, f64)], theirs: &[(usize, f64)]) -> Option<Ratio> {
    let pairs = pairs(ours, theirs);
    let value = ratio_of(&pairs).filter(|v| v.is_finite() && *v > 0.0)?;
    let mut random = random();
    let mut again = || (0..RESAMPLES).map(|_| drawn(&pairs, &mut random)).collect::<Option<Vec<_>>>();
    let interval = if pairs.len() > 1 { ends(again()?).filter(|(l, h)| l.is_finite() && h.is_finite()) } else { None };
    Some(Ratio { value, interval, pairs: pairs.len() })
}

/// Whether `ours` are measurably more. What are less in the median need no interval, which takes most of the time.
pub fn is_more(ours: &[(usize, f64)], theirs: &[(usize, f64)]) -> bool {
    ratio_of(&pairs(ours, theirs)).is_some_and(|value| value > 1.0)
        && ratio(ours, theirs).is_some_and(|r| r.is_difference())
}

pub type Both = (Vec<(usize, f64)>, Vec<(usize, f64)>);

/// The geometric mean of the ratios of several measurements, with the interval that comes of drawing the rounds of each anew.
pub fn mean_ratio(measurements: &[Both]) -> Option<Ratio> {
    let all: Vec<_> = measurements.iter().map(|(o, t)| pairs(o, t)).filter(|p| !p.is_empty()).collect();
    let value =
        geometric_mean(&all.iter().filter_map(|p| ratio_of(p)).collect::<Vec<_>>()).filter(|v| v.is_finite())?;
    let least = all.iter().map(Vec::len).min()?;
    let mut random = random();
    let mut mean = |_| geometric_mean(&all.iter().filter_map(|p| drawn(p, &mut random)).collect::<Vec<_>>());
    let again: Vec<f64> = (0..RESAMPLES).filter_map(&mut mean).collect();
    Some(Ratio { value, interval: ends(again).filter(|_| least > 1), pairs: least })
}

/// The geometric mean of at least one positive value.
pub fn geometric_mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| (values.iter().map(|v| v.ln()).sum::<f64>() / values.len() as f64).exp())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rounds(values: &[f64]) -> Vec<(usize, f64)> {
        values.iter().copied().enumerate().collect()
    }

    #[test]
    fn a_clear_ratio_is_a_difference() {
        let theirs = rounds(&[10.0, 11.0, 9.0, 10.5, 9.5]);
        let ours: Vec<_> = theirs.iter().map(|&(r, v)| (r, v * 2.0)).collect();
        let r = ratio(&ours, &theirs).unwrap();
        assert_eq!((r.value, r.interval, r.is_difference()), (2.0, Some((2.0, 2.0)), true));
        assert!(is_more(&ours, &theirs) && !is_more(&theirs, &ours));
        // Four pairs agree too easily, and one has no interval at all.
        assert!(!ratio(&ours[..4], &theirs[..4]).unwrap().is_difference());
        assert_eq!(ratio(&ours[..1], &theirs[..1]).unwrap().interval, None);
    }

    #[test]
    fn noise_is_no_difference() {
        let r = ratio(&rounds(&[9.0, 11.0, 10.0, 10.2, 9.7]), &rounds(&[10.0, 10.0, 10.1, 9.9, 10.0])).unwrap();
        let (low, high) = r.interval.unwrap();
        assert!(low < 1.0 && high > 1.0 && !r.is_difference(), "{r:?}");
    }

    #[test]
    fn only_common_rounds_count() {
        let r = ratio(&[(1, 4.0), (7, 1000.0)], &[(0, 50.0), (1, 2.0)]).unwrap();
        assert_eq!((r.value, r.pairs), (2.0, 1));
        assert_eq!(ratio(&[(1, 4.0)], &[(2, 4.0)]), None);
    }

    #[test]
    fn means_of_ratios_have_an_interval_of_their_own() {
        assert!((geometric_mean(&[2.0, 8.0]).unwrap() - 4.0).abs() < 1e-12);
        assert_eq!(geometric_mean(&[]), None);
        let twice = (rounds(&[2.0, 2.2, 1.8]), rounds(&[1.0, 1.1, 0.9]));
        let eight = (rounds(&[8.0; 3]), rounds(&[1.0; 3]));
        let mean = mean_ratio(&[twice, eight]).unwrap();
        assert!((mean.value - 4.0).abs() < 1e-9, "{mean:?}");
        let (low, high) = mean.interval.unwrap();
        assert!((3.99..=4.01).contains(&low) && (3.99..=4.01).contains(&high), "pairs keep together: {mean:?}");
        assert_eq!(mean_ratio(&[]), None);
    }
}
