//! How each allocator did over all measurements of a file.

use crate::figures::{Entry, Group, Verdict, allocators};
use crate::results::{BASE, FLOOR};
use crate::stats::{Both, Ratio, mean_ratio};

/// How often each verdict was met. They add up to the measurements.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Count([usize; 5]);

impl Count {
    fn over(verdicts: impl Iterator<Item = Verdict>) -> Count {
        let mut count = Count::default();
        verdicts.for_each(|v| count.0[v as usize] += 1);
        count
    }

    pub fn of(&self, verdict: Verdict) -> usize {
        self.0[verdict as usize]
    }

    pub fn total(&self) -> usize {
        self.0.iter().sum()
    }
}

#[derive(Debug)]
pub struct Standing {
    pub name: String,
    pub places: Count,
    pub verdicts: Count,
    /// Its ratios to system malloc in the measurements that count.
    pub ratios: Vec<f64>,
    pub mean: Option<Ratio>,
}

pub fn standings(groups: &[Group]) -> Vec<Standing> {
    allocators(groups).into_iter().filter(|n| n != FLOOR).map(|name| standing(groups, name)).collect()
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
        places: Count::over(entries().filter_map(|e| e.place)),
        verdicts: Count::over(entries().filter_map(|e| e.verdict)),
        ratios: counting().filter_map(|(_, e, _)| Some(e.ratio?.value)).collect(),
        mean: mean_ratio(&counting().map(both).collect::<Vec<_>>()),
        name,
    }
}
