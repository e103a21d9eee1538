//! What values a knob may have, and how they are read, written and described. Pure, and without allocation.
#![forbid(unsafe_code)]

use core::fmt;

use super::path::PathBytes;

/// The raw value of a number that is left to the allocator. It is above every range in the table.
pub(super) const AUTO: u32 = u32::MAX;

/// The form of a knob's values. Its raw value is a `u32` whatever the kind.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    /// One of these words; raw is its position.
    Words(Words),
    /// 0 or 1; raw is the number.
    Switch,
    /// A decimal number within these bounds.
    Number { min: u32, max: u32 },
    /// The same, or the word "auto", whose raw value is [`AUTO`].
    NumberOrAuto { min: u32, max: u32 },
    /// A path; raw says only whether there is one.
    Path,
}

const SWITCH: Words = Words("0 1");

/// Some words, with a blank between each two. As texts of their own each would cost every start a relocation.
#[derive(Clone, Copy)]
pub(super) struct Words(pub(super) &'static str);

impl Words {
    pub(super) fn all(self) -> impl Iterator<Item = &'static str> {
        self.0.split(' ')
    }

    /// Out of the way of a start that is given no word.
    #[inline(never)]
    fn position(self, text: &[u8]) -> Option<u32> {
        self.all()
            .position(|word| word.as_bytes() == text)
            .map(|i| i as u32)
    }
}

/// "auto, always or never".
impl fmt::Display for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let last = self.all().count() - 1;
        for (i, word) in self.all().enumerate() {
            let before = if i == 0 {
                ""
            } else if i == last {
                " or "
            } else {
                ", "
            };
            write!(f, "{before}{word}")?;
        }
        Ok(())
    }
}

impl Kind {
    /// The raw value that `text` stands for, or `None` if it is not allowed.
    pub(super) fn parse(self, text: &[u8]) -> Option<u32> {
        match self {
            Self::Words(words) => words.position(text),
            Self::Switch => SWITCH.position(text),
            Self::NumberOrAuto { .. } if text == b"auto" => Some(AUTO),
            Self::Number { min, max } | Self::NumberOrAuto { min, max } => {
                decimal(text).filter(|n| (min..=max).contains(n))
            }
            Self::Path => PathBytes::new(text).map(|_| 1),
        }
    }

    /// Whether a raw value set in code is within bounds.
    pub(super) fn allows(self, raw: u32) -> bool {
        match self {
            Self::Words(words) => (raw as usize) < words.all().count(),
            Self::Switch | Self::Path => raw <= 1,
            Self::Number { min, max } => (min..=max).contains(&raw),
            Self::NumberOrAuto { min, max } => raw == AUTO || (min..=max).contains(&raw),
        }
    }

    /// The raw value in the spelling that [`parse`](Self::parse) reads.
    pub(super) fn show(self, raw: u32) -> impl fmt::Display {
        fmt::from_fn(move |f| match self {
            Self::Words(words) => f.write_str(words.all().nth(raw as usize).unwrap_or("?")),
            Self::NumberOrAuto { .. } if raw == AUTO => f.write_str("auto"),
            Self::Path => f.write_str(if raw == 0 { "stderr" } else { "a file" }),
            Self::Switch | Self::Number { .. } | Self::NumberOrAuto { .. } => write!(f, "{raw}"),
        })
    }
}

/// "auto, always or never", "a number from 0 to 10": for the tables in the documentation and for messages.
impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Words(words) => words.fmt(f),
            Self::Switch => SWITCH.fmt(f),
            Self::Number { min, max } => write!(f, "a number from {min} to {max}"),
            Self::NumberOrAuto { min, max } => write!(f, "auto or a number from {min} to {max}"),
            Self::Path => write!(f, "a path of 1 to {} bytes", PathBytes::MAX),
        }
    }
}

/// Digits only: no sign, no blanks, no unit.
fn decimal(text: &[u8]) -> Option<u32> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0u32, |n, &byte| {
        let digit = byte.checked_sub(b'0').filter(|&d| d <= 9)?;
        n.checked_mul(10)?.checked_add(u32::from(digit))
    })
}

/// Bytes from outside in a form for one line of a message: cut off after 60 characters, control characters escaped.
pub(super) struct Shown<'a>(pub(super) &'a [u8]);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write;
        let mut left = 60;
        for chunk in self.0.utf8_chunks() {
            let bad = if chunk.invalid().is_empty() {
                None
            } else {
                Some(char::REPLACEMENT_CHARACTER)
            };
            for c in chunk.valid().chars().chain(bad) {
                if left == 0 {
                    return f.write_char('…');
                }
                left -= 1;
                if c.is_control() {
                    write!(f, "{}", c.escape_default())?
                } else {
                    f.write_char(c)?
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    const NUMBER: Kind = Kind::Number { min: 3, max: 20 };
    const AUTO_NUMBER: Kind = Kind::NumberOrAuto {
        min: 0,
        max: 4_000_000_000,
    };

    #[test]
    fn words_are_matched_whole() {
        let kind = Kind::Words(Words("auto always never"));
        assert_eq!(kind.parse(b"always"), Some(1));
        for bad in [
            &b"alway"[..],
            b"auto always",
            b"alwayss",
            b"Always",
            b" always",
            b"",
            b"1",
        ] {
            assert_eq!(kind.parse(bad), None, "{}", Shown(bad));
        }
        assert_eq!(Kind::Switch.parse(b"1"), Some(1));
        assert_eq!(Kind::Switch.parse(b"01"), None);
    }

    #[test]
    fn numbers_keep_to_their_bounds() {
        assert_eq!(NUMBER.parse(b"3"), Some(3));
        assert_eq!(NUMBER.parse(b"0020"), Some(20));
        for bad in [
            &b"2"[..],
            b"21",
            b"",
            b"+4",
            b"-4",
            b"4 ",
            b"4k",
            b"0x4",
            b"4294967300",
            b"99999999999999999999",
            b"auto",
        ] {
            assert_eq!(NUMBER.parse(bad), None, "{}", Shown(bad));
        }
        assert_eq!(AUTO_NUMBER.parse(b"auto"), Some(AUTO));
        assert_eq!(AUTO_NUMBER.parse(b"4000000000"), Some(4_000_000_000));
        assert_eq!(
            AUTO_NUMBER.parse(b"4294967295"),
            None,
            "the raw value of auto is not a number"
        );
    }

    #[test]
    fn what_is_shown_can_be_parsed() {
        for kind in [Kind::Words(Words("x y")), Kind::Switch, NUMBER, AUTO_NUMBER] {
            for raw in [0, 1, 3, 20, AUTO] {
                if kind.allows(raw) {
                    assert_eq!(kind.parse(kind.show(raw).to_string().as_bytes()), Some(raw));
                }
            }
        }
    }

    #[test]
    fn expectations_read_as_a_sentence() {
        assert_eq!(
            Kind::Words(Words("auto always never")).to_string(),
            "auto, always or never"
        );
        assert_eq!(Kind::Switch.to_string(), "0 or 1");
        assert_eq!(NUMBER.to_string(), "a number from 3 to 20");
        assert_eq!(
            AUTO_NUMBER.to_string(),
            "auto or a number from 0 to 4000000000"
        );
    }

    #[test]
    fn foreign_bytes_stay_on_one_line() {
        assert_eq!(
            Shown(b"a\nb\x1b[1m\xff").to_string(),
            "a\\nb\\u{1b}[1m\u{fffd}"
        );
        assert_eq!(Shown(&[b'x'; 61]).to_string().chars().count(), 61);
        assert!(Shown(&[b'x'; 61]).to_string().ends_with('…'));
        assert_eq!(Shown(&[b'x'; 60]).to_string(), "x".repeat(60));
    }
}
