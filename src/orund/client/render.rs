//! Objects as text for people.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::args::Output;
use super::kinds::ObjectKind;
use super::yaml;
use crate::api::types::{
    Condition, ContainerState, EventObject, List, ReplicaObject, Role, WorkloadObject, WorkloadPhase,
};
use crate::cli::columns::Columns;
use crate::sys::timestamp::Timestamp;
pub use crate::sys::timestamp::seconds;
use serde::{Deserialize, Serialize};

/// Rows with columns that line up.
pub fn table(rows: &[Vec<String>]) -> String {
    Columns::default().lines(rows)
}

/// An object that can be listed.
pub trait Row: Serialize {
    fn head(wide: bool) -> Vec<&'static str>;
    /// `now`: seconds since 1970.
    fn row(&self, wide: bool, now: u64) -> Vec<String>;
    /// As `kind/name`.
    fn name(&self) -> String;
    /// Distinguishes it from all others of its kind, also from later ones of the same name.
    fn key(&self) -> u64 {
        0
    }
    /// Whether it is of that kind.
    fn is_of(&self, _what: ObjectKind) -> bool {
        true
    }
    /// `metadata.labels`.
    fn labels(&self) -> &BTreeMap<String, String>;
}

/// Several objects in the form that was asked for.
pub fn list<T: Row>(items: &[T], output: Option<Output>) -> String {
    match output {
        Some(Output::Json) => pretty(&List { items: items.iter().collect::<Vec<_>>() }),
        Some(Output::Yaml) => {
            let value = serde_json::to_value(List { items: items.iter().collect::<Vec<_>>() });
            yaml::text(&value.unwrap_or_default())
        }
        Some(Output::Name) => items.iter().map(|i| i.name() + "\n").collect(),
        Some(Output::Wide) | None => rows(items, output == Some(Output::Wide), true),
    }
}

/// One object in the form that was asked for.
pub fn render_object<T: Row>(item: &T, output: Option<Output>) -> String {
    match output {
        Some(Output::Json) => pretty(item),
        Some(Output::Yaml) => yaml::text(&serde_json::to_value(item).unwrap_or_default()),
        other => list(std::slice::from_ref(item), other),
    }
}

/// One object of many that come one after the other: a JSON object in a line, a YAML document, a row.
pub fn next<T: Row>(item: &T, output: Option<Output>) -> String {
    match output {
        Some(Output::Json) => serde_json::to_string(item).unwrap_or_default() + "\n",
        Some(Output::Yaml) => format!("---\n{}", render_object(item, output)),
        Some(Output::Name) => item.name() + "\n",
        Some(Output::Wide) | None => rows(std::slice::from_ref(item), output == Some(Output::Wide), false),
    }
}

fn rows<T: Row>(items: &[T], wide: bool, head: bool) -> String {
    table(&cells(items, wide, head))
}

/// The rows of objects, with a head if asked for.
pub fn cells<T: Row>(items: &[T], wide: bool, head: bool) -> Vec<Vec<String>> {
    let now = Timestamp::now().seconds;
    let mut rows: Vec<Vec<String>> = Vec::new();
    if head {
        rows.push(T::head(wide).into_iter().map(str::to_owned).collect());
    }
    rows.extend(items.iter().map(|i| i.row(wide, now)));
    rows
}

fn pretty(value: &impl Serialize) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default() + "\n"
}

impl Row for WorkloadObject {
    fn head(wide: bool) -> Vec<&'static str> {
        let mut head = vec!["NAME", "READY", "UP-TO-DATE", "STATUS", "RESTARTS"];
        head.extend(if wide { &["KIND", "REVISION", "POLICY", "GRACE", "BUNDLES"][..] } else { &[] });
        head.push("MESSAGE");
        head
    }

    fn row(&self, wide: bool, _now: u64) -> Vec<String> {
        let (spec, status) = (&self.workload.spec, &self.status);
        let mut row = vec![
            self.workload.metadata.name.clone(),
            format!("{}/{}", status.ready, spec.replicas),
            status.updated.to_string(),
            with_conditions(format!("{:?}", status.phase), &status.conditions),
            status.restarts.to_string(),
        ];
        if wide {
            let bundles: Vec<&str> = spec.containers.iter().map(|c| c.bundle.as_str()).collect();
            row.push(spec.controller.as_ref().map_or("Workload", |c| &c.kind).to_owned());
            row.push(status.revision.to_string());
            row.push(format!("{:?}", spec.restart_policy));
            row.push(format!("{:?}", spec.termination_grace_period));
            row.push(bundles.join(","));
        }
        row.push(status.message.as_deref().map(short).unwrap_or_default());
        row
    }

    fn name(&self) -> String {
        format!("{}/{}", self.kind(), self.workload.metadata.name)
    }

    fn key(&self) -> u64 {
        self.status.uid
    }

    fn is_of(&self, what: ObjectKind) -> bool {
        let own = self.kind();
        match what {
            ObjectKind::Of("deployment") => own == "deployment" || own == "workload",
            ObjectKind::Of(kind) => own == kind,
            ObjectKind::Workloads
            | ObjectKind::Replicas
            | ObjectKind::Events
            | ObjectKind::Kept(_)
            | ObjectKind::All => true,
        }
    }

    fn labels(&self) -> &BTreeMap<String, String> {
        &self.workload.metadata.labels
    }
}

impl WorkloadObject {
    /// The kind in its file, in a word: `job`.
    pub fn kind(&self) -> String {
        let controller = self.workload.spec.controller.as_ref();
        controller.map_or("workload".to_owned(), |c| c.kind.to_lowercase())
    }
}

/// A Job, by how much of it is done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JobRow(pub WorkloadObject);

impl Row for JobRow {
    fn head(wide: bool) -> Vec<&'static str> {
        let mut head = vec!["NAME", "STATUS", "COMPLETIONS"];
        head.extend(if wide { &["PARALLELISM", "FAILED"][..] } else { &[] });
        head.push("MESSAGE");
        head
    }

    fn row(&self, wide: bool, _now: u64) -> Vec<String> {
        let (spec, status) = (&self.0.workload.spec, &self.0.status);
        let word = match status.phase {
            _ if status.job.as_ref().is_some_and(|job| job.failed) => "Failed".to_owned(),
            WorkloadPhase::Stopped => "Suspended".to_owned(),
            WorkloadPhase::Ready | WorkloadPhase::Progressing | WorkloadPhase::Degraded => {
                "Running".to_owned()
            }
            phase => format!("{phase:?}"),
        };
        let mut row = vec![
            self.0.workload.metadata.name.clone(),
            with_conditions(word, &status.conditions),
            format!("{}/{}", status.succeeded, spec.replicas),
        ];
        if wide {
            let parallelism = spec.controller.as_ref().and_then(|c| c.parallelism);
            row.push(parallelism.map(|p| p.to_string()).unwrap_or_default());
            row.push(status.failed.to_string());
        }
        row.push(status.message.as_deref().map(short).unwrap_or_default());
        row
    }

    fn name(&self) -> String {
        self.0.name()
    }

    fn key(&self) -> u64 {
        self.0.key()
    }

    fn is_of(&self, what: ObjectKind) -> bool {
        self.0.is_of(what)
    }

    fn labels(&self) -> &BTreeMap<String, String> {
        self.0.labels()
    }
}

impl Row for ReplicaObject {
    fn head(wide: bool) -> Vec<&'static str> {
        let mut head = vec!["NAME", "READY", "STATUS", "RESTARTS", "AGE"];
        head.extend(if wide { &["IP", "PID", "REVISION", "LAST EXIT"][..] } else { &[] });
        head
    }

    fn row(&self, wide: bool, now: u64) -> Vec<String> {
        let counted = || self.containers.iter().filter(|c| c.role != Role::Init);
        let ready = counted().filter(|c| c.ready).count();
        let last = self.containers.iter().filter_map(|c| c.exits.first()).max_by_key(|e| &e.time);
        let restarts = match last {
            Some(exit) if self.restarts > 0 => {
                format!("{} ({} ago)", self.restarts, since(&exit.time, now))
            }
            _ => self.restarts.to_string(),
        };
        let mut row = vec![
            self.name.clone(),
            format!("{ready}/{}", counted().count()),
            with_conditions(self.state(), &self.conditions),
            restarts,
            since(&self.created, now),
        ];
        if wide {
            row.push(self.pod_ip.clone().unwrap_or_else(|| "<none>".to_owned()));
            let pids: Vec<String> =
                self.containers.iter().filter_map(|c| c.pid).map(|pid| pid.to_string()).collect();
            row.push(pids.join(","));
            row.push(self.revision.to_string());
            row.push(last.map(|e| short(&e.summary())).unwrap_or_default());
        }
        row
    }

    fn name(&self) -> String {
        format!("replica/{}", self.name)
    }

    fn key(&self) -> u64 {
        self.serial
    }

    fn labels(&self) -> &BTreeMap<String, String> {
        &self.labels
    }
}

impl Row for EventObject {
    fn head(_wide: bool) -> Vec<&'static str> {
        vec!["LAST SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"]
    }

    fn row(&self, _wide: bool, now: u64) -> Vec<String> {
        let message = match &self.container {
            Some(container) => format!("{container}: {}", self.message),
            None => self.message.clone(),
        };
        let seen = since(&self.time, now);
        vec![seen, self.severity.clone(), self.reason.clone(), self.object(), message]
    }

    fn name(&self) -> String {
        self.object()
    }

    fn labels(&self) -> &BTreeMap<String, String> {
        static NONE: BTreeMap<String, String> = BTreeMap::new();
        &NONE
    }
}

impl ReplicaObject {
    /// Its state in one word.
    pub fn state(&self) -> String {
        self.initializing.clone().unwrap_or_else(|| self.phase.to_string())
    }
}

impl EventObject {
    fn object(&self) -> String {
        match &self.replica {
            Some(replica) => format!("replica/{replica}"),
            None => format!("{}/{}", self.kind.as_deref().unwrap_or("workload"), self.workload),
        }
    }
}

/// A phase with what else is true: `Ready,LogDiskFull`.
fn with_conditions(phase: String, conditions: &[Condition]) -> String {
    let types: std::collections::BTreeSet<_> = conditions.iter().map(|c| c.r#type).collect();
    types.iter().fold(phase, |text, t| format!("{text},{t:?}"))
}

/// A message without its hint, for a row; `describe` has both.
fn short(message: &str) -> String {
    message.split("; hint: ").next().unwrap_or_default().to_owned()
}

/// A state in a few words.
pub fn state(s: &ContainerState, now: u64) -> String {
    match s {
        ContainerState::Waiting { reason, message, next_attempt } => {
            let mut text = format!("Waiting ({reason})");
            if let Some(message) = message {
                let _ = write!(text, ": {message}");
            }
            if let Some(at) = next_attempt.as_deref().and_then(seconds) {
                let _ = write!(text, "; next attempt in {}", span(at.saturating_sub(now)));
            }
            text
        }
        ContainerState::Running { started } => format!("Running for {}", since(started, now)),
        ContainerState::Terminating { stopping } => {
            let left = seconds(&stopping.deadline).unwrap_or(now).saturating_sub(now);
            format!("Terminating ({}), killed in {} at the latest", stopping.cause, span(left))
        }
        ContainerState::Terminated { reason } => format!("Terminated ({reason})"),
    }
}

/// The time since `then` (RFC 3339).
pub fn since(then: &str, now: u64) -> String {
    seconds(then).map_or_else(|| "?".to_owned(), |then| span(now.saturating_sub(then)))
}

/// Seconds as kubectl shows them: the two largest units that matter.
pub fn span(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600, seconds / 60);
    match seconds {
        0..120 => format!("{seconds}s"),
        120..600 if seconds.is_multiple_of(60) => format!("{minutes}m"),
        120..600 => format!("{minutes}m{}s", seconds % 60),
        600..10_800 => format!("{minutes}m"),
        10_800..172_800 => format!("{hours}h"),
        _ => format!("{days}d"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let row = |cells: &[&str]| cells.iter().map(|c| (*c).to_owned()).collect::<Vec<_>>();
        let text =
            table(&[row(&["NAME", "STATUS", "X"]), row(&["a-long-name", "Ok", ""]), row(&["b", "c", "d e"])]);
        assert_eq!(text, "NAME          STATUS   X\na-long-name   Ok\nb             c        d e\n");
    }

    #[test]
    fn times_are_read_as_they_are_written() {
        for n in [0, 951_782_399, 951_782_400, 1_709_164_800, 1_795_469_697, 4_107_542_400] {
            assert_eq!(seconds(&Timestamp { seconds: n, nanos: 5_000_000 }.rfc3339_nanos()), Some(n));
        }
        for bad in ["", "yesterday at noon it was", "1969-01-01T00:00:00Z", "2026-13-01T00:00:00Z"] {
            assert_eq!(seconds(bad), None, "{bad}");
        }
    }

    #[test]
    fn spans_are_short() {
        for (n, text) in [
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (185, "3m5s"),
            (3600, "60m"),
            (10_800, "3h"),
            (400_000, "4d"),
        ] {
            assert_eq!(span(n), text);
        }
    }
}
