//! A workload's name with its parameters.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Any workload with its parameters; in JSON `"workload": name, "params": {…}`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Spec {
    pub workload: String,
    /// Its parameters by their names in JSON. Null stands in files of older versions for a default.
    pub params: BTreeMap<String, Value>,
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

    /// The same as a command line gives it.
    pub fn word(&self, name: &str) -> String {
        let value = self.value(name);
        value.as_str().map_or_else(|| value.to_string(), str::to_owned)
    }

    /// The name of the real program that is run, if it is one, in an executable of its own.
    pub fn program(&self) -> Option<&str> {
        self.workload.strip_prefix("program-")
    }
}
