//! What is compared of the runs of a program.

use super::run::Measured;
use crate::stats::Ratio;

pub struct Measure {
    pub name: String,
    /// In tables; times get their unit from their length.
    pub title: String,
    kind: Of,
}

#[derive(Clone, Copy, PartialEq)]
enum Of {
    Wall,
    User,
    System,
    Processor,
    Rss,
    Faults,
    Metric(usize),
}

impl Measure {
    /// Everything that is compared where these figures are looked for.
    pub fn all(metrics: &[String]) -> Vec<Self> {
        let fixed = [
            ("wall_secs", "wall", Of::Wall),
            ("user_secs", "user", Of::User),
            ("sys_secs", "sys", Of::System),
            ("cpu_secs", "user + sys", Of::Processor),
            ("max_rss_kib", "max RSS, MiB", Of::Rss),
            ("minor_faults", "minor faults", Of::Faults),
        ];
        let fixed = fixed.map(|(name, title, kind)| Self { name: name.to_owned(), title: title.to_owned(), kind });
        let metrics = metrics.iter().enumerate().map(|(i, name)| Self {
            name: name.clone(),
            title: name.clone(),
            kind: Of::Metric(i),
        });
        fixed.into_iter().chain(metrics).collect()
    }

    pub fn of(&self, run: &Measured) -> Option<f64> {
        Some(match self.kind {
            Of::Wall => run.wall_secs,
            Of::User => run.user_secs,
            Of::System => run.sys_secs,
            Of::Processor => run.user_secs + run.sys_secs,
            Of::Rss => run.max_rss_kib as f64 / 1024.0,
            Of::Faults => run.minor_faults as f64,
            Of::Metric(i) => *run.metrics.get(i)?,
        })
    }

    pub fn is_time(&self) -> bool {
        matches!(self.kind, Of::Wall | Of::User | Of::System | Of::Processor)
    }

    pub fn verdict(&self, ratio: &Ratio) -> String {
        if !ratio.is_difference() {
            return "no difference".to_owned();
        }
        match (self.is_time(), ratio.value < 1.0) {
            (true, true) => format!("{:.2} times as fast", 1.0 / ratio.value),
            (true, false) => "slower".to_owned(),
            (false, true) => "less".to_owned(),
            (false, false) => "more".to_owned(),
        }
    }
}
