//! The axis: where a value lies between 0 and 100 per cent of a chart's width, and which values get a line and a label.

#[derive(Debug, Clone, Copy)]
pub struct Log {
    low: f64,
    high: f64,
}

impl Log {
    /// The axis that holds all values with some room at both ends; nothing without a positive value.
    pub fn over(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let usable = values.into_iter().filter(|v| v.is_finite() && *v > 0.0);
        // Beyond that lies nothing that was measured, and the axis would have more decades than lines fit.
        let sane = usable.map(|v| v.clamp(1e-30, 1e30));
        let (low, high): (f64, f64) = sane.fold((f64::MAX, 0.0), |(l, h), v| (v.min(l), v.max(h)));
        if high <= 0.0 {
            return None;
        }
        // A twentieth of the span on each side, and never so narrow that a hair's difference fills the chart.
        let room = ((high / low).ln() * 0.06).max(0.05);
        Some(Self { low: low * (-room).exp(), high: high * room.exp() })
    }

    /// Per cent of the width.
    pub fn place(&self, value: f64) -> f64 {
        let share = (value.max(f64::MIN_POSITIVE) / self.low).ln() / (self.high / self.low).ln();
        share.clamp(0.0, 1.0) * 100.0
    }

    /// Round values on the axis that leave room for each other's labels on the narrowest chart, at most six: first 1, which means
    /// something on an axis of ratios, and powers of ten; less round ones only until there are three, the least round until two.
    pub fn ticks(&self) -> Vec<f64> {
        const ROOM: f64 = 19.0;
        let decades = self.low.log10().floor() as i32..=self.high.log10().ceil() as i32;
        let tenths = decades.flat_map(|d| (10..100).map(move |m| (m, round(f64::from(m) * 10f64.powi(d - 1)))));
        let all: Vec<(i32, f64)> = tenths.filter(|(_, t)| (self.low..=self.high).contains(t)).collect();
        let rank = |&(mantissa, tick): &(i32, f64)| match mantissa {
            10 if tick == 1.0 => 0,
            10 => 1,
            20 | 50 => 2,
            15 | 30 | 70 => 3,
            _ => 4,
        };
        let mut kept: Vec<f64> = Vec::new();
        for wanted in 0..5 {
            if kept.len() >= if wanted < 4 { 3 } else { 2 } {
                break;
            }
            for (_, tick) in all.iter().filter(|t| rank(t) == wanted) {
                if kept.iter().all(|k| (self.place(*k) - self.place(*tick)).abs() >= ROOM) {
                    kept.push(*tick);
                }
            }
        }
        kept.sort_by(f64::total_cmp);
        kept
    }
}

/// Without the last digits that powers of ten bring in.
fn round(value: f64) -> f64 {
    format!("{value:.9e}").parse().unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_few() {
        let ticks = |values: &[f64]| Log::over(values.iter().copied()).unwrap().ticks();
        assert_eq!(ticks(&[0.4, 6.0]), [0.5, 1.0, 2.0, 5.0]);
        assert_eq!(ticks(&[1.0, 1e6]), [1.0, 100.0, 1e4, 1e6]);
        assert!(ticks(&[0.9, 1.1]).contains(&1.0));
        assert!(Log::over([f64::NAN, -1.0, f64::INFINITY]).is_none());
    }

    #[test]
    fn any_values_lie_on_their_axis() {
        for (a, b) in (-12..12).flat_map(|a| (-12..12).map(move |b| (1.37f64.powi(9 * a), 7.1f64.powi(b)))) {
            let axis = Log::over([a, b]).unwrap();
            let ticks = axis.ticks();
            assert!((1..=6).contains(&ticks.len()), "{a} {b}: {ticks:?}");
            assert_eq!(axis.place(a) < axis.place(b), a < b, "{a} {b}");
            assert!(axis.place(a.min(b)) > 0.0 && axis.place(a.max(b)) < 100.0);
        }
    }
}
