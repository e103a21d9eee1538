//! A workload's name with its parameters, and what values a parameter takes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// A whole number from the least to the most, with its default.
    Count(u64, u64, u64),
    /// A number from the least to the most, with its default.
    Share(f64, f64, f64),
    /// One of these words, the first by default.
    Word(&'static [&'static str]),
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Param {
    /// Its name in commands; in JSON with `_` for `-`.
    pub name: &'static str,
    /// Whether it is given by its place on the command line instead of by `--name`.
    pub place: bool,
    pub kind: Kind,
    /// A variable of the environment that stands in for its default.
    pub variable: Option<&'static str>,
    /// Whether the timed part grows with it in proportion: of one parameter at most.
    pub longer: bool,
    pub help: &'static str,
}

impl Param {
    /// The same, which makes the timed part longer.
    pub const fn longer(self) -> Param {
        Param { longer: true, ..self }
    }

    pub fn key(&self) -> String {
        self.name.replace('-', "_")
    }

    pub fn default(&self) -> Value {
        match self.kind {
            Kind::Count(n, ..) => json!(n),
            Kind::Share(s, ..) => json!(s),
            Kind::Word(words) => json!(words[0]),
        }
    }

    /// The value a word of a command line or of the environment stands for.
    pub fn parse(&self, text: &str) -> Result<Value, String> {
        let wrong = |wanted: String| Err(format!("{} {text}: expected {wanted}", self.told()));
        match self.kind {
            Kind::Count(_, least, most) => match text.parse::<u64>() {
                Ok(n) if (least..=most).contains(&n) => Ok(json!(n)),
                _ if most == u64::MAX => wrong(format!("a number of at least {least}")),
                _ => wrong(format!("a number from {least} to {most}")),
            },
            Kind::Share(_, least, most) => match text.parse::<f64>() {
                Ok(s) if (least..=most).contains(&s) => Ok(json!(s)),
                _ => wrong(format!("a number from {least} to {most}")),
            },
            Kind::Word(words) if words.contains(&text) => Ok(json!(text)),
            Kind::Word(words) => wrong(format!("one of {}", words.join(", "))),
        }
    }

    fn told(&self) -> String {
        if self.place { self.name.to_owned() } else { format!("--{}", self.name) }
    }
}

/// Any workload with its parameters; in JSON `"workload": name, "params": {…}`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Spec {
    pub workload: String,
    /// Its parameters by their names in JSON. Null stands in files of older versions for a default.
    pub params: BTreeMap<String, Value>,
}

/// A value as a command line gives it.
pub fn shown(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

impl Spec {
    /// A parameter by its name in commands; 0 for one that is not there.
    pub fn value(&self, name: &str) -> Value {
        self.params.get(&name.replace('-', "_")).filter(|v| !v.is_null()).cloned().unwrap_or(json!(0))
    }

    pub fn n(&self, name: &str) -> u64 {
        let value = self.value(name);
        value.as_u64().unwrap_or_else(|| value.as_f64().unwrap_or(0.0) as u64)
    }

    /// The same as an index or a number of bytes.
    pub fn size(&self, name: &str) -> usize {
        self.n(name) as usize
    }

    pub fn share(&self, name: &str) -> f64 {
        self.value(name).as_f64().unwrap_or(0.0)
    }

    pub fn is(&self, name: &str, word: &str) -> bool {
        self.value(name) == word
    }

    pub fn word(&self, name: &str) -> String {
        shown(&self.value(name))
    }
}
