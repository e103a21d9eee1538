//! The finding: how each allocator did over all measurements of a file; what came out, by how much, and how sure, in a
//! sentence or two.

use crate::figures::{Entry, Group, Measure, Verdict, count, ranked};
use crate::results::{BASE, OURS};
use crate::stats::{Both, Ratio, mean_ratio};
use crate::text::{self, counted};

/// How an allocator did over all measurements.
#[derive(Debug)]
pub struct Standing {
    pub name: String,
    /// Its places and its verdicts in the measurements that have one.
    pub places: Vec<Verdict>,
    pub verdicts: Vec<Verdict>,
    /// Its ratios to system malloc in the measurements that count.
    pub ratios: Vec<f64>,
    pub mean: Option<Ratio>,
}

fn standing(groups: &[Group], name: String) -> Standing {
    let entries = || groups.iter().filter_map(|g| g.entry(&name));
    let counting = || {
        let judged = |e: &&Entry| matches!(e.verdict, Some(Verdict::Faster | Verdict::Level | Verdict::Slower));
        groups.iter().filter_map(|g| Some((g, g.entry(&name)?, g.entry(BASE)?))).filter(move |(_, e, _)| judged(e))
    };
    let both = |(g, own, base): (&Group, &Entry, &Entry)| -> Both {
        (g.measure.speeds(own.case), g.measure.speeds(base.case))
    };
    Standing {
        places: entries().filter_map(|e| e.place).collect(),
        verdicts: entries().filter_map(|e| e.verdict).collect(),
        ratios: counting().filter_map(|(_, e, _)| Some(e.ratio?.value)).collect(),
        mean: mean_ratio(&counting().map(both).collect::<Vec<_>>()),
        name,
    }
}

/// What all measurements together come to.
#[derive(Debug)]
pub struct Finding {
    pub standings: Vec<Standing>,
    /// What was found, without a full stop.
    pub title: String,
    /// How that stands to system malloc, where the title says how it stands to all.
    against_base: Option<String>,
}

impl Finding {
    pub fn of(groups: &[Group]) -> Finding {
        let standings: Vec<_> = ranked(groups).into_iter().map(|name| standing(groups, name)).collect();
        let (title, against_base) = match subject(&standings) {
            None => ("Nothing was measured that could be compared".to_owned(), None),
            Some(s) if standings.len() == 2 => (against_base(s, groups), None),
            Some(s) => {
                let (first, of) = (count(&s.places, Verdict::Faster), counted(s.places.len(), "measurement"));
                let title = format!("{} is measurably first in {first} of {of}{}", s.name, rest_of_places(&s.places));
                (title, (standings.len() > 2 && !s.verdicts.is_empty()).then(|| against_base(s, groups)))
            }
        };
        Finding { standings, title, against_base }
    }

    pub fn sentences(&self) -> Vec<String> {
        [Some(&self.title), self.against_base.as_ref()].into_iter().flatten().map(|s| format!("{s}.")).collect()
    }
}

/// The allocator that sentences are about: ours where it takes part, else whoever is first most often.
pub fn subject(standings: &[Standing]) -> Option<&Standing> {
    let measured = |s: &&Standing| !s.places.is_empty() || !s.verdicts.is_empty();
    let ours = standings.iter().find(|s| s.name == OURS && measured(s));
    ours.or_else(|| standings.iter().filter(measured).max_by_key(|s| count(&s.places, Verdict::Faster)))
}

const UNDECIDED: (Verdict, &str) = (Verdict::Noisy, "too noisy or too few runs to tell");
const FAILED: (Verdict, &str) = (Verdict::Failed, "failed");

/// What is not first, as far as there is any.
fn rest_of_places(places: &[Verdict]) -> String {
    let all = [(Verdict::Level, "level with the fastest"), (Verdict::Slower, "behind"), UNDECIDED, FAILED];
    let met = all.into_iter().map(|(verdict, words)| (count(places, verdict), words)).filter(|(n, _)| *n > 0);
    met.map(|(n, words)| format!(", {words} in {n}")).collect()
}

/// What, by how much, how sure: against system malloc.
fn against_base(s: &Standing, groups: &[Group]) -> String {
    let (name, total) = (&s.name, s.verdicts.len());
    let decided = [(Verdict::Faster, "faster"), (Verdict::Level, "level"), (Verdict::Slower, "slower")];
    let met = |(verdict, word)| format!("{word} in {}", count(&s.verdicts, verdict));
    let counts = decided.into_iter().chain([UNDECIDED, FAILED]).map(met).collect::<Vec<_>>().join(", ");
    let all = counted(total, "measurement");
    let over = match s.ratios.len() {
        _ if total == 0 => return format!("{name} was measured alone: there is nothing to compare it with"),
        n if n == total => all.clone(),
        n => format!("the {n} of {all} that count"),
    };
    match s.mean {
        None => format!(
            "{name} against {BASE} malloc over {all}: no verdict ({counts}); five runs or more, longer ones, or a quieter machine \
             would give one"
        ),
        Some(mean) => format!(
            "{name} does {}× the operations per second of {BASE} malloc over {over} ({}{}): {counts}",
            text::bare_ratio(mean.value),
            sureness(&mean),
            measures(groups, s)
        ),
    }
}

fn sureness(r: &Ratio) -> String {
    match r.interval {
        Some((low, high)) => format!("95 % interval {} to {}", text::bare_ratio(low), text::bare_ratio(high)),
        None => "one run, no interval".to_owned(),
    }
}

/// By which time the rows were judged, where that is not elapsed time throughout.
fn measures(groups: &[Group], s: &Standing) -> String {
    let own = || groups.iter().filter(|g| g.noise.is_none() && g.entry(&s.name).is_some_and(|e| e.ratio.is_some()));
    let by_processor = own().filter(|g| g.measure == Measure::Processor).count();
    match by_processor {
        0 => ", by elapsed time".to_owned(),
        n if n == own().count() => ", by processor time, since elapsed time was noise".to_owned(),
        n => format!(", by processor time in {n} whose elapsed time was noise"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures;
    use crate::results::tests::{case, results, spec};
    use bench_subject::record::Series::Warm;

    const FAST: [f64; 5] = [20.0, 21.0, 20.5, 20.2, 20.8];
    const SLOW: [f64; 5] = [10.0, 10.5, 10.25, 10.1, 10.4];

    #[test]
    fn several_are_counted_apart() {
        let mut cases = Vec::new();
        for (name, speeds) in [("system", &SLOW), ("hakmem", &FAST), ("jemalloc", &SLOW)] {
            cases.push(case(&spec("pair"), name, Warm, speeds));
            cases.push(case(&spec("batch"), name, Warm, &speeds[..2]));
        }
        let file = results(cases);
        let found = Finding::of(&figures::groups(&file));
        let title = "hakmem is measurably first in 1 of 2 measurements, too noisy or too few runs to tell in 1";
        assert_eq!(found.title, title);
        assert!(found.sentences()[1].contains("over the 1 of 2 measurements that count"), "{found:?}");
    }
}
