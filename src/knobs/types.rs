//! The values a knob can take, as types. Each enum lists its words in the order of its variants, so that the
//! table, the parser and the print-out share one spelling.
#![forbid(unsafe_code)]

use super::parse::Words;

/// What the defaults of the other knobs favour.
///
/// ```
/// use hakmem_alloc::{Config, Hakmem, Profile};
/// static HAKMEM: Hakmem = Hakmem::with_config(Config::new().profile(Profile::Speed));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// Time before memory: huge pages everywhere, large caches, memory kept for long.
    Speed,
    /// Some of both; the default.
    Balanced,
    /// Memory before time: no huge pages, small caches, memory given back quickly.
    Lean,
    /// Safety before both: every block is checked, blocks are reused late and in random order, freed ones are
    /// zeroed.
    Hardened,
}

/// Which memory asks the kernel for transparent huge pages.
///
/// ```
/// use hakmem_alloc::{Config, Hakmem, ThpPolicy};
/// static HAKMEM: Hakmem = Hakmem::with_config(Config::new().thp(ThpPolicy::Never));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ThpPolicy {
    /// Memory that will be written; see [`env_knobs`](crate::env_knobs).
    Auto,
    /// All, from the first superslab on.
    Always,
    /// None. Superslabs opt out, in case the system gives huge pages unasked. Large blocks do not.
    Never,
}

/// What is done to a new superslab before its first block is handed out.
///
/// ```
/// use hakmem_alloc::{Config, Hakmem, Prefault};
/// static HAKMEM: Hakmem = Hakmem::with_config(Config::new().prefault(Prefault::Populate));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prefault {
    /// Nothing: pages arrive as they are first written.
    Off,
    /// One byte is written in every OS page.
    Touch,
    /// Every byte is written.
    Memset,
    /// The mapping is made with `MAP_POPULATE`. If it gets huge pages, that would come too early: then as `Populate`.
    MapPopulate,
    /// `MADV_POPULATE_WRITE`, after `MADV_HUGEPAGE` if huge pages are asked for; touching if the kernel lacks it.
    Populate,
    /// As `Populate`, then `MADV_COLLAPSE` if huge pages were not asked for.
    Collapse,
    /// A background thread keeps populated superslabs ready while the program grows.
    Async,
}

/// Whether superslabs are requested from the administrator's pool of huge pages. Always refused, with a line that says why;
/// a [`Region`](crate::region::Backing::Hugetlb) takes such memory.
///
/// ```
/// use hakmem_alloc::{Config, Hakmem, Hugetlb};
/// static HAKMEM: Hakmem = Hakmem::with_config(Config::new().hugetlb(Hugetlb::Off));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hugetlb {
    /// No.
    Off,
    /// Pages of 2 MiB.
    TwoMib,
    /// Pages of 1 GiB.
    OneGib,
}

/// Whether statistics are printed when the process exits.
///
/// ```
/// use hakmem_alloc::{Config, Hakmem, StatsMode};
/// static HAKMEM: Hakmem = Hakmem::with_config(Config::new().stats(StatsMode::Json));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatsMode {
    /// No.
    Off,
    /// As text for people, about ten lines.
    Text,
    /// The same, with a table of the size classes.
    Full,
    /// As one JSON object on one line.
    Json,
}

/// Gives an enum its words and the conversion from a position in the table to a value.
macro_rules! words {
    ($type:ident: $first:ident = $first_word:literal $(, $variant:ident = $word:literal)+) => {
        impl $type {
            const ALL: &'static [Self] = &[Self::$first $(, Self::$variant)+];
            /// The spelling of every variant, in the order of the variants.
            pub(super) const WORDS: Words = Words(concat!($first_word $(, " ", $word)+));

            /// The variant at `raw`, or the first one if there is none, which the table's checks exclude.
            /// Comparisons, not a table: every start would fault in the table's page.
            pub(super) fn from_raw(raw: u32) -> Self {
                match raw {
                    raw if raw == Self::$first as u32 => Self::$first,
                    $(raw if raw == Self::$variant as u32 => Self::$variant,)+
                    _ => Self::ALL[0],
                }
            }
        }
    };
}

words!(Profile: Speed = "speed", Balanced = "balanced", Lean = "lean", Hardened = "hardened");
words!(ThpPolicy: Auto = "auto", Always = "always", Never = "never");
words!(Prefault: Off = "off", Touch = "touch", Memset = "memset", MapPopulate = "map_populate",
       Populate = "populate", Collapse = "collapse", Async = "async");
words!(Hugetlb: Off = "off", TwoMib = "2m", OneGib = "1g");
words!(StatsMode: Off = "0", Text = "1", Full = "full", Json = "json");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_variants_stand_in_the_same_order() {
        fn check<T: Copy + PartialEq + core::fmt::Debug>(
            all: &[T],
            words: Words,
            from: fn(u32) -> T,
            raw: fn(T) -> u32,
        ) {
            assert_eq!(all.len(), words.all().count());
            for (i, &value) in all.iter().enumerate() {
                assert_eq!(raw(value) as usize, i, "{value:?}");
                assert_eq!(from(i as u32), value);
            }
        }
        check(Profile::ALL, Profile::WORDS, Profile::from_raw, |v| {
            v as u32
        });
        check(ThpPolicy::ALL, ThpPolicy::WORDS, ThpPolicy::from_raw, |v| {
            v as u32
        });
        check(Prefault::ALL, Prefault::WORDS, Prefault::from_raw, |v| {
            v as u32
        });
        check(Hugetlb::ALL, Hugetlb::WORDS, Hugetlb::from_raw, |v| {
            v as u32
        });
        check(StatsMode::ALL, StatsMode::WORDS, StatsMode::from_raw, |v| {
            v as u32
        });
    }
}
