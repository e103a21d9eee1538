//! What the table of workloads says of a workload with its parameters: whether it can be run, what it is called, how much it
//! does; and the parameters that the words of a command line ask for.

use serde_json::{Value, json};

use crate::record::Series;
use crate::spec::{Kind, Spec, shown};
use crate::table;
use crate::workload::Workload;

impl Spec {
    pub fn new(workload: &Workload) -> Spec {
        let params = workload.params.iter().map(|p| (p.key(), p.default())).collect();
        Spec { workload: workload.name.to_owned(), params }
    }

    /// A row's workload with the words that follow its name in a plan.
    pub fn of(workload: &Workload, words: &str) -> Result<Spec, String> {
        let words: Vec<&str> = std::iter::once(workload.name).chain(words.split_whitespace()).collect();
        Spec::parse(&words, |_| None)
    }

    /// With the defaults of whatever is not given.
    pub fn filled(mut self) -> Spec {
        for param in self.row().map_or(&[][..], |r| r.params) {
            if self.params.get(&param.key()).is_none_or(Value::is_null) {
                self.params.insert(param.key(), param.default());
            }
        }
        self
    }

    /// What a command line asks for: the workload's name and the words after it. `environment` answers for variables.
    pub fn parse(words: &[&str], environment: impl Fn(&str) -> Option<String>) -> Result<Spec, String> {
        let (name, words) = words.split_first().ok_or("a workload's name is missing")?;
        let workload = table::find(name).ok_or_else(|| format!("unknown workload {name:?}"))?;
        let mut spec = Spec::new(workload);
        for param in workload.params {
            if let Some((name, text)) = param.variable.and_then(|v| Some((v, environment(v)?))) {
                let value = param.parse(&text).map_err(|e| match e.rsplit_once(": ") {
                    Some((_, wanted)) => format!("{name}={text}: {wanted}"),
                    None => e,
                })?;
                spec.params.insert(param.key(), value);
            }
        }
        let mut places = workload.params.iter().filter(|p| p.place);
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let (param, text) = match word.strip_prefix("--") {
                Some(option) => {
                    let known = workload.params.iter().find(|p| !p.place && p.name == option);
                    let known = known.ok_or_else(|| format!("{name} has no parameter {word}"))?;
                    (known, *words.next().ok_or_else(|| format!("{word}: its value is missing"))?)
                }
                None => (places.next().ok_or_else(|| format!("{name}: unexpected argument '{word}'"))?, *word),
            };
            spec.params.insert(param.key(), param.parse(text)?);
        }
        spec.check().map(|()| spec)
    }

    /// The workload's row; nothing for a name this version does not know.
    pub fn row(&self) -> Option<&'static Workload> {
        table::find(&self.workload)
    }

    pub fn check(&self) -> Result<(), String> {
        let row = self.row().ok_or_else(|| format!("unknown workload {:?}", self.workload))?;
        for param in row.params {
            param.parse(&self.word(param.name))?;
        }
        if row.params.iter().any(|p| p.name == "max-size") && self.n("min-size") > self.n("max-size") {
            let (low, high) = (self.n("min-size"), self.n("max-size"));
            return Err(format!("sizes {low} to {high}: expected the smallest not above the largest"));
        }
        (row.check)(self)
    }

    /// The parameters in words; the parameters themselves where this version does not know the workload.
    pub fn label(&self) -> String {
        if let Some(row) = self.row() {
            return (row.label)(&self.clone().filled());
        }
        let all = self.params.iter().filter(|p| !p.1.is_null()).map(|(k, v)| format!("{k} {}", shown(v)));
        let text = all.collect::<Vec<_>>().join(", ");
        match text.char_indices().nth(100) {
            Some((end, _)) => format!("{}…", &text[..end]),
            None => text,
        }
    }

    /// Makes the timed part that many times as long, or as near as can be had.
    pub fn scale(&mut self, share: f64) {
        let Some(param) = self.row().and_then(|r| r.params.iter().find(|p| p.longer)) else { return };
        let value = match param.kind {
            Kind::Share(_, least, most) => json!((self.share(param.name) * share).clamp(least, most)),
            _ => json!(((self.n(param.name) as f64 * share).round() as u64).max(1)),
        };
        self.params.insert(param.key(), value);
    }

    /// Roughly the most bytes one run holds.
    pub fn peak_bytes(&self) -> u64 {
        self.row().map_or(0, |r| (r.peak)(self))
    }

    pub fn is_program(&self) -> bool {
        self.row().is_some_and(|r| r.is_program)
    }

    /// Whether it can be run with that allocator in that series.
    pub fn takes(&self, allocator: &str, series: Series) -> bool {
        self.row().is_some_and(|r| r.series.contains(&series) && (r.has_floor || allocator != "null"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Spec, String> {
        Spec::parse(&line.split(' ').collect::<Vec<_>>(), |_| None)
    }

    #[test]
    fn words_are_parameters_and_json_gives_them_back() {
        let spec = parse("batch 500 16 4 --order random --max-size 400").unwrap();
        let found = (spec.n("blocks"), spec.n("size"), spec.n("rounds"), spec.word("order"), spec.n("max-size"));
        assert_eq!(found, (500, 16, 4, "random".to_owned(), 400));
        for spec in table::WORKLOADS.iter().map(|w| Spec::new(w)).chain([spec, parse("program-json 0.5").unwrap()]) {
            let json = serde_json::to_string(&spec).unwrap();
            assert_eq!(serde_json::from_str::<Spec>(&json).unwrap(), spec, "{json}");
        }
    }

    #[test]
    fn a_workload_of_another_version_still_has_a_label() {
        let text = r#"{"workload": "gone", "params": {"a": 1, "b": "x", "c": null}}"#;
        let spec: Spec = serde_json::from_str(text).unwrap();
        assert_eq!((spec.label().as_str(), spec.takes("system", Series::Warm)), ("a 1, b x", false));
    }

    #[test]
    fn scaling_keeps_at_least_one() {
        let mut spec = parse("pair 48 1000").unwrap();
        spec.scale(0.1);
        assert_eq!(spec.n("pairs"), 100);
        spec.scale(1e-9);
        assert_eq!(spec.n("pairs"), 1);
    }
}
