//! The table of workloads, `workloads.toml`, and what it says of a workload with its parameters: whether it can be run, what it
//! is called, how much it does; and the parameters that the words of a command line ask for.

use std::sync::LazyLock;

use bench_subject::raw::NULL;
use bench_subject::record::{Series, Spec};
use clap::{Arg, ArgMatches, Command};
use regex::{Captures, Regex};
use serde::Deserialize;
use serde_json::{Value, json};

/// A row; the head of the table explains its fields.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Workload {
    pub name: String,
    pub about: String,
    label: String,
    memory: Option<String>,
    pub params: Vec<Param>,
    #[serde(default)]
    order: Vec<[String; 2]>,
    #[serde(default = "all_series")]
    pub series: Vec<Series>,
    #[serde(default = "yes")]
    pub floor: bool,
    pub figure: Option<String>,
    pub sizes: Vec<Size>,
}

/// A size of a workload in a plan, which is one of `quick` and `full`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Size {
    pub quick: Option<String>,
    pub full: Option<String>,
    pub series: Option<Vec<Series>>,
    pub secs: f64,
    pub rounds: Option<usize>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Param {
    /// Its name in commands; in JSON with `_` for `-`.
    pub name: String,
    #[serde(default)]
    pub option: bool,
    default: Option<Value>,
    least: Option<f64>,
    most: Option<f64>,
    is: Option<String>,
    #[serde(default)]
    pub words: Vec<String>,
    #[serde(default)]
    says: Vec<String>,
    pub variable: Option<String>,
    #[serde(default)]
    longer: bool,
    pub help: String,
}

fn all_series() -> Vec<Series> {
    Series::ALL.to_vec()
}

pub fn yes() -> bool {
    true
}

pub static WORKLOADS: LazyLock<Vec<Workload>> =
    LazyLock::new(|| rows(include_str!("../workloads.toml")).unwrap_or_else(|e| panic!("workloads.toml: {e}")));

fn rows(text: &str) -> Result<Vec<Workload>, toml::de::Error> {
    #[derive(Deserialize)]
    struct File {
        shared: toml::Table,
        workload: Vec<toml::Table>,
    }
    let File { shared, workload } = toml::from_str(text)?;
    let complete = |param: &mut toml::Value| {
        let of_all = param["name"].as_str().and_then(|name| shared.get(name)?.as_table());
        for (key, value) in of_all.into_iter().flatten() {
            param.as_table_mut().map(|own| own.entry(key).or_insert_with(|| value.clone()));
        }
    };
    let row = |mut row: toml::Table| {
        row["params"].as_array_mut().into_iter().flatten().for_each(complete);
        row.try_into()
    };
    workload.into_iter().map(row).collect()
}

/// The row of a workload; nothing for a name this version does not know.
pub fn find(name: &str) -> Option<&'static Workload> {
    WORKLOADS.iter().find(|w| w.name == name)
}

impl Param {
    pub fn key(&self) -> String {
        self.name.replace('-', "_")
    }

    pub fn default(&self) -> Value {
        self.words.first().map(|word| json!(word)).or(self.default.clone()).unwrap_or(json!(u64::MAX))
    }

    fn least(&self) -> f64 {
        self.least.unwrap_or(if self.option { 0.0 } else { 1.0 })
    }

    fn most(&self) -> f64 {
        self.most.unwrap_or(f64::INFINITY)
    }

    /// The value a word of a command line or of the environment stands for; an error says what was expected.
    fn parse(&self, text: &str) -> Result<Value, String> {
        let (least, most) = (self.least(), self.most());
        let value = match self.default() {
            Value::String(_) => self.words.iter().any(|w| w == text).then(|| json!(text)),
            default if default.is_f64() => text.parse().ok().filter(|s| (least..=most).contains(s)).map(|s| json!(s)),
            _ => text.parse().ok().filter(|n| (least..=most).contains(&(*n as f64)) && self.fits(*n)).map(|n| json!(n)),
        };
        value.ok_or_else(|| match &self.is {
            Some(kind) => format!("expected {kind}"),
            None if !self.words.is_empty() => format!("expected one of {}", self.words.join(", ")),
            None if self.most.is_none() => format!("expected a number of at least {least}"),
            None => format!("expected a number from {least} to {most}"),
        })
    }

    /// It as a command line has it.
    fn argument(&self) -> Arg {
        let value = self.name.to_uppercase().replace('-', "_");
        let mut help = self.help.clone();
        if !self.words.is_empty() {
            help += &format!(": {}", self.words.join(", "));
        }
        if let Some(variable) = &self.variable {
            help += &format!(" ({variable})");
        }
        if !help.contains("[default") {
            help += &format!(" [default: {}]", self.default().to_string().trim_matches('"'));
        }
        // -1 is a value that is refused, not an option that nobody knows.
        let arg = Arg::new(&self.name).allow_negative_numbers(true).value_name(value).help(help);
        if self.option { arg.long(&self.name) } else { arg }
    }

    /// How messages name it.
    fn told(&self) -> String {
        if self.option { format!("--{} ", self.name) } else { format!("{} ", self.name) }
    }

    fn fits(&self, n: u64) -> bool {
        match self.is.as_deref() {
            Some("an even number") => n.is_multiple_of(2),
            Some("a power of two") => n.is_power_of_two(),
            _ => true,
        }
    }
}

impl Workload {
    /// It with its parameters at their defaults.
    pub fn usual(&self) -> Spec {
        let params = self.params.iter().map(|p| (p.key(), p.default())).collect();
        Spec { workload: self.name.clone(), params }
    }

    fn param(&self, name: &str) -> Option<&Param> {
        self.params.iter().find(|p| p.name == name)
    }

    pub fn arguments(&self) -> impl Iterator<Item = Arg> {
        self.params.iter().map(Param::argument)
    }

    /// What a command line asks for; `environment` answers for variables.
    pub fn asked(&self, matches: &ArgMatches, environment: impl Fn(&str) -> Option<String>) -> Result<Spec, String> {
        let mut spec = self.usual();
        for param in &self.params {
            let set = param.variable.as_ref().and_then(|v| Some((format!("{v}="), environment(v)?)));
            let given = matches.get_one::<String>(&param.name).map(|text| (param.told(), text.clone()));
            for (told, text) in set.into_iter().chain(given) {
                let value = param.parse(&text).map_err(|e| format!("{told}{text}: {e}"))?;
                spec.params.insert(param.key(), value);
            }
        }
        check(&spec).map(|()| spec)
    }
}

/// What this line asks for, a workload's name and its parameters, whatever the environment says.
pub fn of(line: &str) -> Result<Spec, String> {
    parse(line, |_| None)
}

/// The same with `environment` answering for variables.
pub fn parse(line: &str, environment: impl Fn(&str) -> Option<String>) -> Result<Spec, String> {
    let row = line.split(' ').next().and_then(find).ok_or_else(|| format!("unknown workload in {line:?}"))?;
    let command = Command::new(&row.name).args(row.arguments());
    let matches = command.try_get_matches_from(line.split_whitespace()).map_err(|e| e.to_string())?;
    row.asked(&matches, environment)
}

/// Refuses values that cannot be run.
pub fn check(spec: &Spec) -> Result<(), String> {
    let row = find(&spec.workload).ok_or_else(|| format!("unknown workload {:?}", spec.workload))?;
    for param in &row.params {
        let word = spec.word(&param.name);
        param.parse(&word).map_err(|e| format!("{}{word}: {e}", param.told()))?;
    }
    // Sizes of which a row has none are both 0.
    for [low, high] in row.order.iter().chain([&["min-size".to_owned(), "max-size".to_owned()]]) {
        let (l, h) = (product(spec, low), product(spec, high));
        if l > h {
            return Err(format!("{low} {l}: expected at most {h}, {high}"));
        }
    }
    Ok(())
}

/// What a product of numbers and parameters comes to.
fn product(spec: &Spec, text: &str) -> f64 {
    let factor = |word: &str| word.parse().unwrap_or_else(|_| spec.share(word));
    text.split('*').map(|word| factor(word.trim())).product()
}

/// Roughly the most bytes one run holds.
pub fn memory(spec: &Spec) -> u64 {
    find(&spec.workload).map_or(0, |row| product(spec, row.memory.as_deref().unwrap_or("268435456")) as u64)
}

/// Whether it can be run with that allocator in that series.
pub fn takes(spec: &Spec, allocator: &str, series: Series) -> bool {
    find(&spec.workload).is_some_and(|row| row.series.contains(&series) && (row.floor || allocator != NULL.name))
}

/// Makes the timed part that many times as long, or as near as can be had.
pub fn scale(spec: &mut Spec, share: f64) {
    let Some(param) = find(&spec.workload).and_then(|r| r.params.iter().find(|p| p.longer)) else { return };
    let longer = spec.share(&param.name) * share;
    let value = match param.default().is_f64() {
        true => json!(longer.clamp(param.least(), param.most())),
        false => json!((longer.round() as u64).max(1)),
    };
    spec.params.insert(param.key(), value);
}

/// The parameters in words; the parameters themselves where this version does not know the workload.
pub fn label(spec: &Spec) -> String {
    static OPTIONAL: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\[([^\]]*)\]").unwrap_or_else(|e| panic!("{e}")));
    static VALUE: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\{([^}]*)\}").unwrap_or_else(|e| panic!("{e}")));
    let Some(row) = find(&spec.workload) else {
        let all = spec.params.iter().filter(|p| !p.1.is_null()).map(|(k, _)| format!("{k} {}", spec.word(k)));
        let text = all.collect::<Vec<_>>().join(", ");
        return match text.char_indices().nth(100) {
            Some((end, _)) => format!("{}…", &text[..end]),
            None => text,
        };
    };
    // Null stands in files of older versions for a default.
    let mut whole = row.usual();
    whole.params.extend(spec.params.iter().filter(|p| !p.1.is_null()).map(|(k, v)| (k.clone(), v.clone())));
    let is_usual = |name: &str| row.param(name).is_none_or(|p| p.default() == whole.value(name));
    let said = |optional: &Captures| {
        let usual = VALUE.captures_iter(&optional[1]).all(|value| value[1].split("..").all(is_usual));
        if usual { String::new() } else { optional[1].to_owned() }
    };
    let label = OPTIONAL.replace_all(&row.label, said);
    VALUE.replace_all(&label, |value: &Captures| shown(row, &whole, &value[1])).into_owned()
}

/// A parameter, or a range of bytes, as a label has it.
fn shown(row: &Workload, spec: &Spec, value: &str) -> String {
    if let Some((low, high)) = value.split_once("..") {
        let low = product(spec, low);
        return sizes(low as u64, product(spec, high).max(low) as u64);
    }
    let word = spec.word(value);
    let said = row.param(value).and_then(|p| p.says.get(p.words.iter().position(|w| *w == word)?));
    said.cloned().unwrap_or_else(|| spec.value(value).as_u64().map_or(word, count))
}

/// A count with the unit that keeps it short: `20 M`, `50 k`, `256`.
fn count(n: u64) -> String {
    let (share, unit) = match n {
        n if n >= 1_000_000 => (n as f64 / 1e6, " M"),
        n if n >= 10_000 => (n as f64 / 1e3, " k"),
        n => (n as f64, ""),
    };
    format!("{}{unit}", (share * 10.0).round() / 10.0)
}

/// One size or a range of them: `48 B`, `16–512 B`, `5–25 MiB`.
fn sizes(low: u64, high: u64) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn rows_are_complete_and_every_size_can_be_run() {
        let names: HashSet<&str> = WORKLOADS.iter().map(|w| w.name.as_str()).collect();
        assert_eq!(names.len(), WORKLOADS.len());
        for row in WORKLOADS.iter() {
            let name = &row.name;
            let is_done = bench_subject::workloads::find(name).is_some();
            assert!(is_done || row.usual().program().is_some(), "{name}: nothing does it");
            assert!(row.params.is_sorted_by_key(|p| p.option), "{name}: places come first");
            assert!(row.params.iter().filter(|p| p.longer).count() <= 1 && row.about.len() > 20, "{name}");
            assert!(row.params.iter().all(|p| p.says.is_empty() || p.says.len() == p.words.len()), "{name}");
            check(&row.usual()).unwrap();
            for size in &row.sizes {
                let words = size.quick.as_ref().xor(size.full.as_ref()).expect("a size is of one plan");
                let spec = of(&format!("{name} {words}")).unwrap();
                assert!(!label(&spec).contains(['{', '[']) && !label(&spec).is_empty(), "{}", label(&spec));
                assert!(size.series.iter().flatten().all(|s| row.series.contains(s)), "{name} {words}");
                let json = serde_json::to_string(&spec).unwrap();
                assert_eq!(serde_json::from_str::<Spec>(&json).unwrap(), spec, "{json}");
            }
            assert!(
                row.sizes.iter().any(|s| s.quick.is_some()) && row.sizes.iter().any(|s| s.full.is_some()),
                "{name}"
            );
        }
    }

    #[test]
    fn labels_are_words() {
        for (line, wanted) in [
            ("random-mixed 20000000 256 42", "256 slots, 20 M operations"),
            ("random-mixed 2500000 50000 5 32 64", "50 k slots, 2.5 M operations, 32–64 B"),
            ("pair 48 --threads 2", "48 B, 2 threads"),
            ("batch 500 16 4 --order random --max-size 400", "500 blocks of 16–400 B, random"),
            ("batch 500 64 --touch none", "500 blocks of 64 B, fifo, untouched"),
            ("hand-over 8", "8 threads, 1000 live each, 16–512 B, successors"),
            ("huge", "20 live, 5–25 MiB, touched in places"),
            ("burst", "50 k blocks, 16 B–16 KiB"),
            ("cache-sets", "60 objects of 16–960 B"),
            ("program-json", "usual size"),
            ("program-json 0.5", "0.5 times the usual size"),
        ] {
            assert_eq!(label(&of(line).unwrap()), wanted, "{line}");
        }
        let text = r#"{"workload": "gone", "params": {"a": 1, "b": "x", "c": null}}"#;
        let spec: Spec = serde_json::from_str(text).unwrap();
        assert_eq!((label(&spec).as_str(), takes(&spec, "system", Series::Warm)), ("a 1, b x", false));
    }

    #[test]
    fn scaling_keeps_at_least_one() {
        let mut spec = of("pair 48 1000").unwrap();
        scale(&mut spec, 0.1);
        assert_eq!(spec.n("pairs"), 100);
        scale(&mut spec, 1e-9);
        assert_eq!(spec.n("pairs"), 1);
    }
}
