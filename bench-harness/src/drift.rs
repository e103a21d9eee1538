//! Whether the machine held still: system malloc's own runs are the gauge.
//!
//! System malloc is the same code in every run, so what its throughput does from run to run is the machine's doing. Two
//! things are looked at. The spread: the distance from the slowest to the fastest run, relative to the median; of five
//! runs or more the slowest and the fastest are left out, as medians and intervals shrug off a single disturbed run too.
//! The drift: how far the median of the second half of the runs lies from that of the first. Beyond the bound the
//! differences between allocators may be the machine's as well, and the report has to say so.

use crate::record::CaseResult;
use crate::stats::median;
use crate::table::BASE;

/// The bound unless another is asked for, in per cent.
pub const BOUND: f64 = 25.0;

/// The range of the values relative to their median; of five or more, without the smallest and the largest.
pub fn spread(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = median(&sorted)?;
    let kept = if sorted.len() >= 5 {
        &sorted[1..sorted.len() - 1]
    } else {
        &sorted[..]
    };
    Some((kept.last()? - kept.first()?) / middle)
}

/// How far the median of the second half lies from that of the first, relative to the first: of four values or more. The
/// middle one of an odd number belongs to neither.
pub fn shift(values: &[f64]) -> Option<f64> {
    if values.len() < 4 {
        return None;
    }
    let half = values.len() / 2;
    let (first, second) = (
        median(&values[..half])?,
        median(&values[values.len() - half..])?,
    );
    Some(second / first - 1.0)
}

/// A sentence for each workload and series in which system malloc's runs spread or drift by more than `bound` per cent.
pub fn warnings(results: &[CaseResult], bound: f64) -> Vec<String> {
    results
        .iter()
        .filter(|case| case.allocator == BASE)
        .flat_map(|case| {
            let speeds: Vec<f64> = case.runs.iter().map(|r| r.ops_per_sec).collect();
            let title = format!(
                "{} {}, {}",
                case.spec.name(),
                case.spec.title(),
                case.series
            );
            describe(&title, "system malloc", &speeds, bound)
        })
        .collect()
}

/// At most one sentence on the values of `what`, which were taken in this order: drift if there is any, as it explains a
/// spread, else the spread.
pub fn describe(title: &str, what: &str, values: &[f64], bound: f64) -> Option<String> {
    let (spread, shift) = (
        spread(values).unwrap_or(0.0) * 100.0,
        shift(values).unwrap_or(0.0) * 100.0,
    );
    if shift.abs() > bound {
        return Some(format!(
            "{title}: the second half of {what}'s own runs is {:.0} % {} than the first (bound {bound} %): the machine \
             changed meanwhile, and differences of that size may be its doing",
            shift.abs(),
            if shift < 0.0 { "slower" } else { "faster" },
        ));
    }
    (spread > bound).then(|| {
        format!(
            "{title}: {what}'s own runs spread over {spread:.0} % of their median (bound {bound} %): the machine was not \
             quiet, and differences of that size may be its doing"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_disturbed_run_of_five_is_not_a_spread() {
        assert_eq!(spread(&[100.0, 99.0, 101.0, 20.0, 100.0]), Some(0.01));
        assert_eq!(spread(&[100.0, 60.0, 101.0, 20.0, 100.0]), Some(0.4));
        assert_eq!(spread(&[10.0, 5.0]), Some(5.0 / 7.5));
        assert_eq!(spread(&[]), None);
    }

    #[test]
    fn halves_are_told_apart() {
        assert_eq!(shift(&[100.0, 100.0, 70.0, 50.0, 50.0]), Some(-0.5));
        assert_eq!(shift(&[100.0, 50.0, 100.0]), None);
    }

    #[test]
    fn only_system_mallocs_own_runs_count() {
        let calm = [100.0, 103.0, 99.0, 101.0, 100.0, 98.0];
        let wild = [100.0, 140.0, 60.0, 130.0, 70.0, 100.0];
        let slower = [100.0, 101.0, 99.0, 60.0, 61.0, 59.0];
        assert!(
            warnings(
                &[
                    CaseResult::at_speeds("system", &calm),
                    CaseResult::at_speeds("hakmem", &wild)
                ],
                BOUND
            )
            .is_empty()
        );
        let found = warnings(
            &[
                CaseResult::at_speeds("system", &wild),
                CaseResult::at_speeds("hakmem", &calm),
            ],
            BOUND,
        );
        assert_eq!(found.len(), 1);
        assert!(
            found[0].starts_with(
                "random-mixed 1000000 256 42, warm: system malloc's own runs spread over 60 %"
            ),
            "{found:?}"
        );
        let found = warnings(&[CaseResult::at_speeds("system", &slower)], BOUND);
        assert!(
            found.len() == 1
                && found[0].contains("second half of system malloc's own runs is 40 % slower"),
            "{found:?}"
        );
        assert!(warnings(&[CaseResult::at_speeds("system", &slower)], 60.0).is_empty());
    }
}
