//! Whether the machine held still: system malloc's own runs are the gauge.
//!
//! System malloc is the same code in every run, so what its speed does from run to run is the machine's doing. Two things
//! are looked at. The spread: the distance from the slowest to the fastest run, relative to the median; of five runs or more
//! the slowest and the fastest are left out, as medians and intervals shrug off a single disturbed run too. The drift: how
//! far the median of the second half of the runs lies from that of the first. Beyond the bound the differences between
//! allocators may be the machine's as well, and the row does not count.

use crate::stats::median;

/// The bound unless another is asked for, in per cent.
pub fn bound() -> f64 {
    25.0
}

/// The range of the values relative to their median; of five or more, without the smallest and the largest.
fn spread(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = median(&sorted)?;
    let kept = if sorted.len() >= 5 { &sorted[1..sorted.len() - 1] } else { &sorted[..] };
    Some((kept.last()? - kept.first()?) / middle)
}

/// How far the median of the second half lies from that of the first, relative to the first: of four values or more. The
/// middle one of an odd number belongs to neither.
fn shift(values: &[f64]) -> Option<f64> {
    let half = values.len() / 2;
    if half < 2 {
        return None;
    }
    Some(median(&values[values.len() - half..])? / median(&values[..half])? - 1.0)
}

/// What is noisy about the values of `what`, which were taken in this order: drift if there is any, as it explains a spread,
/// else the spread; nothing where they keep within `bound` per cent.
pub fn describe(what: &str, values: &[f64], bound: f64) -> Option<String> {
    // What is beyond all bounds is so by any figure.
    let per_cent = |share: Option<f64>| (share.unwrap_or(0.0) * 100.0).clamp(-9999.0, 9999.0);
    let (spread, shift) = (per_cent(spread(values)), per_cent(shift(values)));
    if shift.abs() > bound {
        let word = if shift < 0.0 { "slower" } else { "faster" };
        return Some(format!("the second half of {what}'s own runs is {:.0} % {word} than the first", shift.abs()));
    }
    (spread > bound).then(|| format!("{what}'s own runs spread over {spread:.0} % of their median"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drift_explains_a_spread() {
        let of = |values: &[f64], bound| describe("system", values, bound);
        // One disturbed run of five is none.
        assert_eq!(of(&[100.0, 99.0, 20.0, 101.0, 100.0], 2.0), None);
        assert!(of(&[100.0, 60.0, 20.0, 101.0, 100.0], 39.0).unwrap().contains("spread over 40 %"));
        assert_eq!(of(&[100.0, 103.0, 99.0, 101.0, 100.0, 98.0], 25.0), None);
        let wild = of(&[100.0, 140.0, 60.0, 130.0, 70.0, 100.0], 25.0).unwrap();
        assert_eq!(wild, "system's own runs spread over 60 % of their median");
        let slower = [100.0, 101.0, 99.0, 60.0, 61.0, 59.0];
        assert!(of(&slower, 25.0).unwrap().contains("second half of system's own runs is 40 % slower"));
        assert_eq!(of(&slower, 60.0), None);
    }
}
