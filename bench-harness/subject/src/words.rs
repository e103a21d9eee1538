//! Counts and sizes as a reader says them, for labels.

/// A count with the unit that keeps it short: `20 M`, `50 k`, `256`.
pub fn count(n: u64) -> String {
    match n {
        n if n >= 1_000_000 => format!("{} M", short(n as f64 / 1e6)),
        n if n >= 10_000 => format!("{} k", short(n as f64 / 1e3)),
        n => n.to_string(),
    }
}

/// One size or a range of them: `48 B`, `16–512 B`, `5–25 MiB`.
pub fn sizes(low: u64, high: u64) -> String {
    let unit = |n: u64| match n {
        n if n >= 1 << 20 && n.is_multiple_of(1 << 20) => (n >> 20, "MiB"),
        n if n >= 10 << 10 && n.is_multiple_of(1 << 10) => (n >> 10, "KiB"),
        n => (n, "B"),
    };
    let ((a, from), (b, to)) = (unit(low), unit(high));
    match (low == high, from == to) {
        (true, _) => format!("{a} {from}"),
        (_, true) => format!("{a}–{b} {to}"),
        _ => format!("{a} {from}–{b} {to}"),
    }
}

/// `, 2 threads`; nothing for one.
pub fn threads(n: u64) -> String {
    if n == 1 { String::new() } else { format!(", {n} threads") }
}

fn short(value: f64) -> String {
    let text = format!("{value:.1}");
    text.strip_suffix(".0").map(str::to_owned).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_sizes_are_words() {
        assert_eq!([256, 10_000, 2_500_000, 20_000_000].map(count), ["256", "10 k", "2.5 M", "20 M"]);
        assert_eq!([sizes(48, 48), sizes(16, 512), sizes(5 << 20, 25 << 20)], ["48 B", "16–512 B", "5–25 MiB"]);
        assert_eq!([sizes(16, 16384), threads(1), threads(3)], ["16 B–16 KiB", "", ", 3 threads"]);
    }
}
