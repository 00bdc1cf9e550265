//! Making the changes, and what comes of each.

use super::effects::{self, Facts};
use super::mutations::{Document, Mutation};
use super::tables;
use crate::bundle::Bundle;
use crate::case::T;
use crate::cgroup;
use crate::check::{Context, Done, Result};
use crate::command::{Cmd, Output};
use crate::container::Container;
use crate::matrix::Matrix;
use crate::report::Report;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// So many changes are made in the world of one case.
const CHUNK: usize = 12;

/// A runtime that takes longer has not answered.
const PATIENCE: Duration = Duration::from_secs(20);

/// Limits that the program reads back, on version 1 and on version 2.
const LIMITS: &str = "memory/memory.limit_in_bytes memory/memory.soft_limit_in_bytes memory/memory.memsw.limit_in_bytes \
    memory/memory.swappiness cpu/cpu.shares cpu/cpu.cfs_quota_us cpu/cpu.cfs_period_us cpuset/cpuset.cpus cpuset/cpuset.mems \
    pids/pids.max blkio/blkio.bfq.weight devices/devices.list memory.max memory.low memory.swap.max cpu.weight cpu.max cpuset.cpus \
    cpuset.mems pids.max io.bfq.weight";

/// What came of one change on one runtime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// With this message.
    Refused(String),
    /// What the program saw that it does not see without the change.
    Accepted(Facts),
    /// It did not end.
    Hung,
}

impl Outcome {
    /// One word.
    pub fn class(&self) -> &'static str {
        match self {
            Outcome::Refused(_) => "refused",
            Outcome::Accepted(_) => "accepted",
            Outcome::Hung => "hung",
        }
    }

    /// Nobody sees a difference: two refusals are alike whatever they say.
    pub fn is_like(&self, other: &Outcome) -> bool {
        match (self, other) {
            (Outcome::Accepted(a), Outcome::Accepted(b)) => a == b,
            (a, b) => a.class() == b.class(),
        }
    }

    fn to_json(&self) -> Value {
        match self {
            Outcome::Refused(message) => json!({"refused": message}),
            Outcome::Accepted(facts) => json!({"accepted": facts}),
            Outcome::Hung => json!("hung"),
        }
    }

    fn from_json(value: &Value) -> Outcome {
        if let Some(message) = value["refused"].as_str() {
            return Outcome::Refused(message.to_owned());
        }
        let facts = |o: &serde_json::Map<String, Value>| {
            o.iter().map(|(k, v)| (k.clone(), v.as_str().unwrap_or("").to_owned())).collect()
        };
        value["accepted"].as_object().map_or(Outcome::Hung, |o| Outcome::Accepted(facts(o)))
    }
}

/// Outcomes by document, property and change, and by the runtime's path.
pub type Results = BTreeMap<(Document, String, String), BTreeMap<PathBuf, Outcome>>;

/// The cases of a run that writes its outcomes below `out`: every `every`th change.
pub fn matrix(out: &Path, every: usize) -> Matrix {
    let mut matrix = Matrix::default();
    let mut all: Vec<Mutation> = tables::all().into_iter().step_by(every.max(1)).collect();
    all.sort_by_key(|m| m.document);
    for document in [Document::Config, Document::Process, Document::Update] {
        let of: Vec<Mutation> = all.iter().filter(|m| m.document == document).cloned().collect();
        for (number, chunk) in of.chunks(CHUNK).enumerate() {
            let (chunk, out) = (chunk.to_vec(), out.to_owned());
            let name = format!("differential/{}-{number:02}", document.name());
            matrix.case(name, "what runc and crun do", move |t| one_chunk(t, document, &chunk, &out));
        }
    }
    matrix
}

/// Reads what the cases have written.
///
/// # Errors
/// A file is damaged.
pub fn collect(out: &Path) -> Result<Results> {
    let mut results = Results::new();
    let changes = tables::all();
    for entry in fs::read_dir(out)?.flatten() {
        for line in fs::read_to_string(entry.path())?.lines() {
            let line: Value = serde_json::from_str(line).context("a line of an outcome")?;
            let text = |key: &str| line[key].as_str().unwrap_or("").to_owned();
            let found = changes.iter().find(|m| {
                m.document.name() == text("document")
                    && m.property == text("property")
                    && m.name == text("change")
            });
            let Some(m) = found else { continue };
            let outcome = Outcome::from_json(&line["outcome"]);
            let key = (m.document, m.property.clone(), m.name.clone());
            results.entry(key).or_default().insert(PathBuf::from(text("runtime")), outcome);
        }
    }
    Ok(results)
}

fn one_chunk(t: &T<'_>, document: Document, chunk: &[Mutation], out: &Path) -> Done {
    let file = out.join(format!("{}.jsonl", t.marker()));
    let mut file = fs::File::options().create(true).append(true).open(file)?;
    let container = (document == Document::Process).then(|| t.sleeper(bundle(t)?)).transpose()?;
    let base = match (document, &container) {
        (Document::Process, Some(c)) => facts_of(process(t, c, None)?)?,
        (Document::Update, _) => Facts::new(),
        _ => facts_of(config(t, None)?)?,
    };
    for m in chunk {
        let outcome = match (document, &container) {
            (Document::Process, Some(c)) => process(t, c, Some(m))?,
            (Document::Update, _) => update(t, m)?,
            _ => config(t, Some(m))?,
        };
        let outcome = match outcome {
            Outcome::Accepted(facts) if facts.contains_key("/output") => Outcome::Accepted(facts),
            Outcome::Accepted(facts) => Outcome::Accepted(effects::changed(&base, &facts)),
            other => other,
        };
        let line = json!({"document": document.name(), "property": m.property, "change": m.name,
            "runtime": t.runtime.path, "outcome": outcome.to_json()});
        writeln!(file, "{line}")?;
    }
    Ok(())
}

fn facts_of(outcome: Outcome) -> Result<Facts> {
    match outcome {
        Outcome::Accepted(facts) => Ok(facts),
        other => crate::check::fail(format!("the unchanged document: {other:?}")),
    }
}

/// The document that is changed: a container that shows as much as possible of itself.
fn bundle(t: &T<'_>) -> Result<Bundle> {
    let bundle = t.bundle()?.file("/etc/secret", "secret", 0o644)?.file("/etc/fixed", "text", 0o666)?;
    let bundle = bundle.mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "ro"]);
    let bundle =
        bundle.mount("/mnt", "tmpfs", "tmpfs", &["nosuid"]).mount("/home", "bind", "/etc", &["rbind", "ro"]);
    let bundle =
        bundle.set("/linux/devices", json!([{"path": "/dev/extra", "type": "c", "major": 1, "minor": 3}]));
    let bundle = bundle.set("/linux/maskedPaths", json!(["/etc/secret"]));
    let bundle = bundle.set("/linux/readonlyPaths", json!(["/etc/fixed"]));
    let allow = json!({"allow": true, "type": "c", "major": 1, "minor": 3, "access": "rwm"});
    let bundle = bundle.push("/linux/resources/devices", allow);
    Ok(bundle.args(&["sh", "-c", &script()]))
}

fn script() -> String {
    let paths = ["/mnt", "/mnt/x", "/new/file", "/dev/extra", "/dev/x", "/etc/secret", "/etc/fixed", "/home"];
    let paths: Vec<String> = paths.iter().map(|p| format!("--path {p}")).collect();
    let limits = limits_script();
    format!("/bin/probe report {} --sysctl net.ipv4.ip_forward; {limits}", paths.join(" "))
}

fn limits_script() -> String {
    format!(
        "cd /sys/fs/cgroup; for f in {LIMITS}; do [ ! -e $f ] || echo limit $f $(/bin/busybox cat $f); done"
    )
}

fn config(t: &T<'_>, m: Option<&Mutation>) -> Result<Outcome> {
    let mut bundle = bundle(t)?;
    if let Some(m) = m {
        m.apply(&mut bundle.spec);
    }
    bundle.save()?;
    let id = t.id();
    let outcome = ended(t.verb("run").arg("--bundle").arg(&bundle.dir).arg(&id))?;
    let _ = t.verb("delete").args(["--force", &id]).output();
    Ok(outcome)
}

fn process(t: &T<'_>, container: &Container<'_>, m: Option<&Mutation>) -> Result<Outcome> {
    let mut process = container.bundle.spec["process"].clone();
    process["args"] = json!(["sh", "-c", script()]);
    if let Some(m) = m {
        m.apply(&mut process);
    }
    let file = t.path("process.json");
    fs::write(&file, process.to_string())?;
    ended(t.verb("exec").arg("--process").arg(&file).arg(&container.id))
}

fn update(t: &T<'_>, m: &Mutation) -> Result<Outcome> {
    let container = t.sleeper(bundle(t)?)?;
    let limits = || -> Result<Facts> {
        let out = container.exec(&["/bin/busybox", "sh", "-c", &limits_script()])?.ok()?;
        Ok(facts(&out))
    };
    let before = limits()?;
    let mut resources = json!({});
    m.apply(&mut resources);
    let update = container.verb_with("update", &["--resources", "-"]).stdin(resources.to_string());
    let outcome = match ended(update)? {
        Outcome::Accepted(_) => Outcome::Accepted(effects::changed(&before, &limits()?)),
        other => other,
    };
    container.delete_force()?;
    Ok(outcome)
}

fn ended(cmd: Cmd) -> Result<Outcome> {
    let running = cmd.deadline(PATIENCE).spawn()?;
    let Ok(out) = running.wait() else { return Ok(Outcome::Hung) };
    let mut seen = facts(&out);
    if out.status.success() && seen.is_empty() {
        // Another program than the probe: nothing of its container shows.
        seen.insert("/output".into(), "none".into());
    }
    if out.status.success() || !seen.is_empty() {
        return Ok(Outcome::Accepted(seen));
    }
    let message = out.stderr.lines().last().unwrap_or("").chars().take(300).collect();
    Ok(Outcome::Refused(message))
}

/// What the program's output says: the report, the limits, and its exit code.
fn facts(out: &Output) -> Facts {
    let own = |kind: &str| {
        let kind = kind.trim_end_matches("_for_children");
        fs::read_link(format!("/proc/self/ns/{kind}"))
            .map_or_else(|_| String::new(), |p| p.to_string_lossy().into_owned())
    };
    let mut facts = Report::parse(&out.stdout).map(|r| effects::facts(&r.0, &own)).unwrap_or_default();
    for line in out.stdout.lines() {
        if let Some((file, value)) = line.strip_prefix("limit ").map(|l| l.split_once(' ').unwrap_or((l, "")))
        {
            facts.insert(format!("/limits/{file}"), value.to_owned());
        }
    }
    if !facts.is_empty() && !out.status.success() {
        facts.insert("/exit".into(), out.status.code().to_string());
    }
    facts
}

/// The layout of the machine's cgroups, for the page.
pub fn machine() -> &'static str {
    match cgroup::layout() {
        cgroup::Layout::V1 => "cgroup version 1",
        cgroup::Layout::V2 => "cgroup version 2",
    }
}
