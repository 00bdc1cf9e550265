//! What the probe saw: one JSON document, with the questions that cases ask of it.

use crate::check::{Done, Result, fail, same};
use crate::proc::Mount;
use serde_json::Value;
use std::collections::BTreeMap;

/// The probe's report.
#[derive(Debug, Clone)]
pub struct Report(pub Value);

impl Report {
    /// Finds the report in a program's output: the line that is a JSON object.
    pub fn parse(text: &str) -> Result<Report> {
        let line = text.lines().find(|l| l.starts_with('{'));
        match line.map(serde_json::from_str) {
            Some(Ok(value)) => Ok(Report(value)),
            Some(Err(e)) => fail(format!("the probe's report is damaged ({e}): {text:?}")),
            None => fail(format!("no report of the probe in {text:?}")),
        }
    }

    /// A value by JSON pointer; `null` when there is none.
    pub fn at(&self, pointer: &str) -> &Value {
        self.0.pointer(pointer).unwrap_or(&Value::Null)
    }

    /// Demands a value.
    pub fn is(&self, pointer: &str, want: impl Into<Value>) -> Done {
        same(pointer, self.at(pointer), &want.into())
    }

    /// A string.
    pub fn str(&self, pointer: &str) -> &str {
        self.at(pointer).as_str().unwrap_or("")
    }

    /// A number.
    pub fn num(&self, pointer: &str) -> Result<i64> {
        match self.at(pointer).as_i64() {
            Some(n) => Ok(n),
            None => fail(format!("{pointer} of the report is {:?}, not a number", self.at(pointer))),
        }
    }

    /// A list of strings.
    pub fn list(&self, pointer: &str) -> Vec<String> {
        let list = self.at(pointer).as_array().map(Vec::as_slice).unwrap_or_default();
        list.iter().filter_map(|v| v.as_str().map(str::to_owned)).collect()
    }

    /// A map of strings.
    pub fn map(&self, pointer: &str) -> BTreeMap<String, String> {
        let map = self.at(pointer).as_object();
        map.into_iter()
            .flatten()
            .map(|(k, v)| (k.clone(), v.as_str().map_or_else(|| v.to_string(), str::to_owned)))
            .collect()
    }

    /// The value of a variable of the environment.
    pub fn env(&self, name: &str) -> Option<String> {
        self.map("/env").remove(name)
    }

    /// A namespace, as `pid:[4026531836]`.
    pub fn ns(&self, kind: &str) -> &str {
        self.str(&format!("/ns/{kind}"))
    }

    /// All mounts.
    pub fn mounts(&self) -> Vec<Mount> {
        self.list("/mountinfo").iter().filter_map(|l| Mount::parse(l)).collect()
    }

    /// The topmost mount on a path.
    pub fn mount(&self, target: &str) -> Result<Mount> {
        match self.mounts().into_iter().rfind(|m| m.target == target) {
            Some(m) => Ok(m),
            None => {
                let all: Vec<_> = self.mounts().into_iter().map(|m| m.target).collect();
                fail(format!("nothing is mounted on {target}, only on {all:?}"))
            }
        }
    }

    /// The facts about a path that the probe was asked for: `type`, `mode`, `uid`, `gid`, `rdev`, `link`, ...
    pub fn path(&self, path: &str) -> Result<&Value> {
        match self.0["paths"].get(path) {
            Some(facts) if !facts.is_null() => Ok(facts),
            _ => fail(format!("{path} is not there; the probe saw {}", self.0["paths"])),
        }
    }

    /// Demands a property of a path.
    pub fn path_is(&self, path: &str, property: &str, want: impl Into<Value>) -> Done {
        same(&format!("{property} of {path}"), &self.path(path)?[property], &want.into())
    }
}
