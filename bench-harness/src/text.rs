//! Numbers and dates as a reader wants them.

use std::time::Duration;

use serde_json::Value;

use crate::stats::Ratio;

/// A duration in the unit that suits it, with three digits.
pub fn duration(secs: f64) -> String {
    let (unit, times) = match secs {
        s if s < 1e-6 => ("ns", 1e9),
        s if s < 1e-3 => ("µs", 1e6),
        s if s < 1.0 => ("ms", 1e3),
        _ => ("s", 1.0),
    };
    format!("{} {unit}", short(secs * times))
}

/// A duration below a line of an axis, which is a round number.
pub fn tick_duration(secs: f64) -> String {
    let text = duration(secs);
    let (number, unit) = text.split_once(' ').unwrap_or((&text, ""));
    let round = if number.contains('.') { number.trim_end_matches('0').trim_end_matches('.') } else { number };
    format!("{round} {unit}")
}

/// A ratio: two digits behind the point, fewer where it is large.
pub fn times(ratio: f64) -> String {
    format!("{}×", bare_ratio(ratio))
}

/// A ratio below a line of an axis, which is a round number.
pub fn tick(ratio: f64) -> String {
    format!("{}×", (ratio * 1e9).round() / 1e9)
}

/// A ratio without its sign.
pub fn bare_ratio(ratio: f64) -> String {
    match ratio {
        r if r >= 1e6 => format!("{r:.1e}"),
        r if r >= 100.0 => format!("{r:.0}"),
        r if r >= 10.0 => format!("{r:.1}"),
        r if r >= 0.01 => format!("{r:.2}"),
        r => format!("{r:.1e}"),
    }
}

/// KiB as MiB, without the unit.
pub fn bare_mib(kib: f64) -> String {
    match kib / 1024.0 {
        m if m >= 99.95 => format!("{m:.0}"),
        m => format!("{m:.1}"),
    }
}

pub fn count(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let groups: Vec<_> = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy).collect();
    let text = groups.join("\u{202f}");
    if value <= -0.5 { format!("−{text}") } else { text }
}

/// How long something will take, as well as it is known.
pub fn about(time: Duration) -> String {
    match time.as_secs_f64() {
        s if s < 1.0 => "less than a second".to_owned(),
        s if s < 90.0 => format!("about {s:.0} s"),
        s if s < 5400.0 => format!("about {:.0} min", s / 60.0),
        s => format!("about {:.1} h", s / 3600.0),
    }
}

/// `1 run`, `3 runs`.
pub fn counted(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

/// A few characters of a name, for places where it cannot be wrapped.
pub fn short_name(name: &str) -> String {
    if name.chars().count() <= 12 {
        return name.to_owned();
    }
    name.chars().take(11).chain(['…']).collect()
}

/// A moment in UTC, to the minute; nothing where it is not known.
pub fn utc(unix_time: u64) -> Option<String> {
    let moment = jiff::Timestamp::from_second(i64::try_from(unix_time).ok().filter(|t| *t > 0)?).ok()?;
    Some(moment.strftime("%Y-%m-%d %H:%M UTC").to_string())
}

/// A ratio with its interval, and a mark where it is no difference.
pub fn ratio(r: &Ratio) -> String {
    let Some((low, high)) = r.interval else { return format!("{} (one run)", bare_ratio(r.value)) };
    let mark = if r.is_difference() { "" } else { "= " };
    format!("{mark}{} [{}–{}]", bare_ratio(r.value), bare_ratio(low), bare_ratio(high))
}

/// Three significant digits, as far as a table needs them.
pub fn short(value: f64) -> String {
    match value {
        v if v >= 100.0 => format!("{v:.0}"),
        v if v >= 10.0 => format!("{v:.1}"),
        v if v >= 1.0 => format!("{v:.2}"),
        v if v >= 0.1 => format!("{v:.3}"),
        0.0 => "0".to_owned(),
        v => format!("{v:.5}"),
    }
}

/// A value of JSON as a cell of a table; blank where a row has no such column.
pub fn cell(value: Option<&Value>) -> String {
    match value {
        None => String::new(),
        Some(Value::Null) => "not available".to_owned(),
        Some(Value::String(s)) => s.clone(),
        Some(Value::Number(n)) => match n.as_f64().unwrap_or_default() {
            v if !n.is_f64() => count(v),
            v if v < 0.1 => format!("{v:.4}"),
            v => short(v),
        },
        Some(other) => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn cells_have_what_json_has() {
        let all = [json!(null), json!(0.5), json!(0.00971), json!(7), json!(524_288), json!("x"), json!(true)];
        let shown = all.iter().map(Some).chain([None]).map(cell).collect::<Vec<_>>();
        assert_eq!(shown, ["not available", "0.500", "0.0097", "7", "524\u{202f}288", "x", "true", ""]);
    }

    #[test]
    fn durations_have_three_digits() {
        let all = [1.234e-9, 45.67e-9, 999.6e-9, 12.34e-6, 0.0025, 3.0, 0.0].map(duration);
        assert_eq!([1234.5, 12.34, 1.234, 0.1234, 0.00123].map(short), ["1234", "12.3", "1.23", "0.123", "0.00123"]);
        assert_eq!([1e-8, 2.5e-3, 100.0].map(tick_duration), ["10 ns", "2.5 ms", "100 s"]);
        assert_eq!(all, ["1.23 ns", "45.7 ns", "1000 ns", "12.3 µs", "2.50 ms", "3.00 s", "0 ns"]);
    }

    #[test]
    fn dates_are_said_to_the_minute() {
        assert_eq!(utc(0), None);
        assert_eq!(utc(951_782_400).unwrap(), "2000-02-29 00:00 UTC");
        assert_eq!(utc(1_795_219_260).unwrap(), "2026-11-21 00:01 UTC");
        assert_eq!(utc(u64::MAX), None);
    }
}
