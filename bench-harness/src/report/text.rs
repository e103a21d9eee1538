//! Numbers, dates and commands as a reader wants them.

/// A duration in the unit that suits it, with three digits.
pub fn duration(secs: f64) -> String {
    let (value, unit) = match secs {
        s if s < 1e-6 => (s * 1e9, "ns"),
        s if s < 1e-3 => (s * 1e6, "µs"),
        s if s < 1.0 => (s * 1e3, "ms"),
        s => (s, "s"),
    };
    format!("{} {unit}", digits(value))
}

/// A whole number of nanoseconds, as a histogram gives it.
pub fn nanoseconds(ns: f64) -> String {
    if ns < 1000.0 {
        return format!("{ns:.0} ns");
    }
    duration(ns / 1e9)
}

/// Two durations in the unit of the longer one.
pub fn range(low: f64, high: f64) -> String {
    let unit = duration(high);
    let factor = match unit.rsplit(' ').next() {
        Some("ns") => 1e9,
        Some("µs") => 1e6,
        Some("ms") => 1e3,
        _ => 1.0,
    };
    format!("{}–{unit}", digits(low * factor))
}

/// Three significant digits, never more behind the point than needed.
pub fn digits(value: f64) -> String {
    match value.abs() {
        v if v >= 1e9 => format!("{value:.2e}"),
        v if v >= 99.95 => format!("{value:.0}"),
        v if v >= 9.995 => format!("{value:.1}"),
        v if v >= 0.0005 => format!("{value:.2}"),
        _ => "0".to_owned(),
    }
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

/// KiB as MiB.
pub fn mib(kib: f64) -> String {
    format!("{} MiB", bare_mib(kib))
}

/// The same without its unit.
pub fn bare_mib(kib: f64) -> String {
    match kib / 1024.0 {
        m if m >= 99.95 => format!("{m:.0}"),
        m => format!("{m:.1}"),
    }
}

/// A count with its thousands set apart.
pub fn count(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut text = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(c);
    }
    if value <= -0.5 {
        format!("−{text}")
    } else {
        text
    }
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
    let days = i64::try_from(unix_time / 86_400).ok()?;
    // Years start in March here, so that a leap day is the last of its year (Howard Hinnant's civil_from_days).
    let shifted = days.checked_add(719_468)?;
    let (era, day) = (shifted / 146_097, shifted % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let date = day - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    let year = year + era * 400 + carry;
    let minutes = unix_time % 86_400 / 60;
    (unix_time > 0 && year < 10_000).then(|| {
        format!(
            "{year}-{month:02}-{date:02} {:02}:{:02} UTC",
            minutes / 60,
            minutes % 60
        )
    })
}

/// A word as a shell takes it.
pub fn shell_word(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./,:=@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_ranges() {
        let all = [1.234e-9, 45.67e-9, 999.6e-9, 12.34e-6, 0.0025, 3.0, 0.0].map(duration);
        assert_eq!(
            all,
            [
                "1.23 ns", "45.7 ns", "1000 ns", "12.3 µs", "2.50 ms", "3.00 s", "0 ns"
            ]
        );
        assert_eq!(range(900e-9, 2e-6), "0.90–2.00 µs");
    }

    #[test]
    fn dates_by_hand() {
        assert_eq!(utc(0), None);
        assert_eq!(utc(951_782_400).unwrap(), "2000-02-29 00:00 UTC");
        assert_eq!(utc(1_795_219_260).unwrap(), "2026-11-21 00:01 UTC");
        assert_eq!(utc(u64::MAX), None);
    }

    #[test]
    fn counts_and_names() {
        assert_eq!(count(1_234_567.0), "1\u{202f}234\u{202f}567");
        assert_eq!(count(-12.0), "−12");
        assert_eq!(count(0.0), "0");
        assert_eq!(short_name("hakmem"), "hakmem");
        assert_eq!(short_name("a-very-long-allocator"), "a-very-long…");
    }

    #[test]
    fn a_shell_gets_back_the_word() {
        assert_eq!(shell_word("--runs=5"), "--runs=5");
        assert_eq!(shell_word("a b"), "'a b'");
        assert_eq!(shell_word("it's"), r"'it'\''s'");
        assert_eq!(shell_word(""), "''");
        assert_eq!(shell_word("$(x)"), "'$(x)'");
    }
}
