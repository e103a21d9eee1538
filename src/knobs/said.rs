//! What the knobs tell people: what was not understood, and every value.

use super::parse::{Kind, Shown};
use super::table::{Knob, Row, TABLE};
use super::types::{Hugetlb, Prefault, Profile};
use super::{Config, Environ, Knobs, OTHERS, PREFIX, PathBytes, Report, Source};
use super::{find, first_of_each, split};
use core::fmt;

impl Knobs {
    /// Reports what was not understood. It reads the environment again, because only now it is known what holds instead.
    pub(super) fn complain(&self, config: &Config, env: &Environ<'_>, report: Report<'_>) {
        for row in &TABLE {
            if let Some(bad) = config.raw(row.knob).filter(|&raw| !row.kind.allows(raw)) {
                report(format_args!(
                    "{}={bad} set in code: expected {}; using {}",
                    row.name,
                    row.kind,
                    self.shown(row)
                ));
            }
            if let Some(path) = row.knob.file().and_then(|at| config.files[at])
                && !PathBytes::allows(path.as_bytes())
            {
                let path = Shown(path.as_bytes());
                report(format_args!(
                    "{}={path} set in code: expected {}; using {}",
                    row.name,
                    row.kind,
                    self.shown(row)
                ));
            }
        }
        first_of_each(env, &mut |row, value| {
            if row.kind.parse(value).is_none() {
                let value = Shown(value);
                report(format_args!(
                    "{}={value}: expected {}; using {}",
                    row.name,
                    row.kind,
                    self.shown(row)
                ));
            }
        });
        if self.hugetlb != Hugetlb::Off {
            report(format_args!(
                "HAKMEM_HUGETLB={}: refused for blocks, since a forked child that writes to memory of the pool is \
                 killed if the pool is empty; HAKMEM_THP decides",
                Kind::Words(Hugetlb::WORDS).show(self.hugetlb as u32)
            ));
        }
        // A program that sets the file in code leaves it to the environment whether to print.
        let by = |knob: Knob| self.sources[knob as usize];
        if by(Knob::StatsFile) == Source::Environment && by(Knob::Stats) == Source::Profile {
            report(format_args!(
                "HAKMEM_STATS_FILE is set and HAKMEM_STATS is not: expected 1, full or json there too; nothing is printed"
            ));
        }
        env.each(PREFIX, &mut |entry| {
            let (name, _) = split(entry);
            let others = OTHERS.iter().any(|prefix| name.starts_with(prefix));
            if !others && find(name).is_none() {
                report(format_args!(
                    "{}: no such knob, ignored; env-knobs.md lists them all",
                    Shown(name)
                ));
            }
        });
    }

    /// Reports every knob, its value and where that came from: the print-out of `HAKMEM_VERBOSE=1`.
    pub(crate) fn print(&self, report: Report<'_>) {
        for row in &TABLE {
            let by = match self.sources[row.knob as usize] {
                Source::Environment => "environment",
                Source::Code => "set in code",
                // No profile sets the profile, and a value that all profiles share does not come from this one.
                Source::Profile if row.by_profile.windows(2).all(|two| two[0] == two[1]) => {
                    "default"
                }
                Source::Profile => match self.profile {
                    Profile::Speed => "profile speed",
                    Profile::Balanced => "profile balanced",
                    Profile::Lean => "profile lean",
                    Profile::Hardened => "profile hardened",
                },
            };
            let asked = self.raw[row.knob as usize];
            let turned_off =
                row.knob == Knob::Prefault && Prefault::from_raw(asked) != self.prefault;
            let note = if turned_off {
                ", made off by HAKMEM_NO_EXPLICIT_PREFAULT"
            } else {
                ""
            };
            report(format_args!(
                "{}={} ({by}{note})",
                row.name,
                self.shown(row)
            ));
        }
    }

    fn shown(&self, row: &Row) -> impl fmt::Display {
        fmt::from_fn(move |f| match self.file(row.knob) {
            Some(path) => write!(f, "{}", Shown(path.as_bytes())),
            None => write!(f, "{}", row.kind.show(self.raw[row.knob as usize])),
        })
    }
}
