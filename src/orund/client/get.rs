//! `get`, `events` and `describe`.

use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::fmt::Write;

use super::args::{Describe, Events, Get, Output};
use super::choose::{Name, names_of};
use super::connection::{Call, Client, encoded};
use super::crons::{self, CronRow};
use super::kinds;
use super::kinds::ObjectKind;
use super::lookup;
use super::lookup::{Change, Target};
use super::render::{self, JobRow, Row};
use super::{kept, print, print_while_read};
use crate::api::types::{
    ContainerObject, EventObject, KeptAnswer, List, ReplicaObject, Role, WorkloadObject,
};
use crate::cli::columns::Columns;
use crate::error::{Error, Kind, Result};
use crate::sys::timestamp::Timestamp;
use crate::workload::KeptKind;

/// `get`.
pub async fn get(client: &Client, a: &Get) -> Result<u8> {
    let (what, names) = a.objects();
    if names.len() > 1 && a.watch {
        let e = Error::new(Kind::Usage, "only one object can be watched, or all");
        return Err(e.hint("omit the names, or use a selector: -l app=web"));
    }
    let Some((first, rest)) = names.split_first() else { return print_all(client, what, a).await };
    let mut code = print_one(client, what, first, a).await?;
    for name in rest {
        code = code.max(print_one(client, what, name, a).await?);
    }
    Ok(code)
}

async fn print_all(client: &Client, what: ObjectKind, a: &Get) -> Result<u8> {
    match what {
        ObjectKind::Of("job") => show::<JobRow>(client, Call::get("/v1/workloads"), a, false).await,
        ObjectKind::Of("cronjob") => show::<CronRow>(client, Call::get("/v1/workloads"), a, false).await,
        ObjectKind::Workloads | ObjectKind::Of(_) => {
            show::<WorkloadObject>(client, Call::get("/v1/workloads"), a, false).await
        }
        ObjectKind::Replicas => show::<ReplicaObject>(client, Call::get("/v1/replicas"), a, false).await,
        ObjectKind::Events => events(client, &Events { name: None, watch: a.watch, output: a.output }).await,
        ObjectKind::Kept(kind) => of_kind(client, kind, kept::list(kind), a, false).await,
        ObjectKind::All => everything(client, a).await,
    }
}

/// Kept objects of a kind, or one.
async fn of_kind(client: &Client, kind: KeptKind, call: Call, a: &Get, one: bool) -> Result<u8> {
    match kind {
        KeptKind::ConfigMap => show::<kept::ConfigMapRow>(client, call, a, one).await,
        KeptKind::PersistentVolumeClaim => show::<kept::ClaimRow>(client, call, a, one).await,
        KeptKind::Secret => show::<kept::SecretRow>(client, call, a, one).await,
        KeptKind::Service => show::<kept::ServiceRow>(client, call, a, one).await,
    }
}

/// `get all`: a table for each kind that has objects, or one list.
async fn everything(client: &Client, a: &Get) -> Result<u8> {
    if a.watch {
        return Err(Error::new(Kind::Usage, "only one kind can be watched").hint("orund get replicas -w"));
    }
    let mut all = Everything::default();
    all.add::<WorkloadObject>(client, Call::get("/v1/workloads"), a).await?;
    all.add::<ReplicaObject>(client, Call::get("/v1/replicas"), a).await?;
    all.add::<kept::ServiceRow>(client, kept::list(KeptKind::Service), a).await?;
    all.add::<kept::ConfigMapRow>(client, kept::list(KeptKind::ConfigMap), a).await?;
    all.add::<kept::SecretRow>(client, kept::list(KeptKind::Secret), a).await?;
    all.add::<kept::ClaimRow>(client, kept::list(KeptKind::PersistentVolumeClaim), a).await?;
    if all.items.is_empty() {
        eprintln!("no objects found");
        return Ok(0);
    }
    let list = List { items: all.items };
    print(&match a.output {
        Some(Output::Json) => serde_json::to_string_pretty(&list).unwrap_or_default() + "\n",
        Some(Output::Yaml) => super::yaml::text(&serde_json::to_value(&list).unwrap_or_default()),
        Some(Output::Name) => all.names,
        Some(Output::Wide) | None => all.tables.join("\n"),
    })?;
    Ok(0)
}

#[derive(Default)]
struct Everything {
    items: Vec<serde_json::Value>,
    names: String,
    tables: Vec<String>,
}

impl Everything {
    async fn add<T: Row + DeserializeOwned>(&mut self, client: &Client, call: Call, a: &Get) -> Result<()> {
        let mut items = client.fetch::<List<T>>(call).await?.items;
        items.retain(|i| a.selects(i));
        if !items.is_empty() {
            self.tables.push(kept::with_kinds(&items, a.output));
        }
        self.names.extend(items.iter().map(|i| i.name() + "\n"));
        self.items.extend(items.iter().map(|i| serde_json::to_value(i).unwrap_or_default()));
        Ok(())
    }
}

async fn print_one(client: &Client, what: ObjectKind, name: &str, a: &Get) -> Result<u8> {
    if let ObjectKind::Kept(kind) = what {
        return of_kind(client, kind, Call::get(kept::path(kind, name)), a, true).await;
    }
    let replica = || Call::get(format!("/v1/replicas/{}", encoded(name)));
    let workload = client.find::<WorkloadObject>(Call::get(lookup::path(name))).await?.is_some();
    let kind_given = a.words.first().is_some_and(|w| kinds::kind(w.split('/').next().unwrap_or(w)).is_some());
    match what {
        ObjectKind::Of("job") if workload => {
            show::<JobRow>(client, Call::get(lookup::path(name)), a, true).await
        }
        ObjectKind::Of("cronjob") if workload => {
            show::<CronRow>(client, Call::get(lookup::path(name)), a, true).await
        }
        ObjectKind::Workloads | ObjectKind::Of(_) if workload || kind_given => {
            show::<WorkloadObject>(client, Call::get(lookup::path(name)), a, true).await
        }
        ObjectKind::Replicas if workload => {
            show::<ReplicaObject>(client, Call::get("/v1/replicas").with("workload", name), a, false).await
        }
        ObjectKind::Workloads | ObjectKind::Of(_) | ObjectKind::Replicas => {
            // For the words of its error.
            lookup::replica(client, name).await?;
            show::<ReplicaObject>(client, replica(), a, true).await
        }
        ObjectKind::Events => {
            let name = Some(Name { kind: None, name: name.to_owned() });
            events(client, &Events { name, watch: a.watch, output: a.output }).await
        }
        ObjectKind::Kept(_) | ObjectKind::All => Err(Error::new(Kind::Usage, "\"all\" takes no names")),
    }
}

impl Get {
    /// Whether the object has the labels that are asked for.
    fn selects(&self, object: &impl Row) -> bool {
        let (what, _) = self.objects();
        object.is_of(what) && self.selector.as_ref().is_none_or(|s| s.takes(object.labels()))
    }
}

/// Prints what `call` lists, and with `watch` what changes.
async fn show<T: Row + DeserializeOwned + PartialEq>(
    client: &Client,
    call: Call,
    a: &Get,
    one: bool,
) -> Result<u8> {
    if !a.watch {
        let text = match one {
            true => render::render_object(&client.fetch::<T>(call).await?, a.output),
            false => {
                let mut items = client.fetch::<List<T>>(call).await?.items;
                items.retain(|i| a.selects(i));
                if items.is_empty() && matches!(a.output, None | Some(Output::Wide)) {
                    eprintln!("no objects found");
                    return Ok(0);
                }
                render::list(&items, a.output)
            }
        };
        print(&text)?;
        return Ok(0);
    }
    watch::<T>(client, call, a, one).await
}

/// Prints what exists and then what changes, over restarts of the supervisor.
async fn watch<T: Row + DeserializeOwned + PartialEq>(
    client: &Client,
    call: Call,
    a: &Get,
    one: bool,
) -> Result<u8> {
    let tabular = matches!(a.output, None | Some(Output::Wide));
    let wide = a.output == Some(Output::Wide);
    let mut columns = Columns::default();
    let mut shown: BTreeMap<u64, T> = BTreeMap::new();
    let mut lines = client.lines(call.clone().flag("watch", true)).await?;
    if tabular && !one {
        // The widths that the existing objects need.
        let items = client.fetch::<List<T>>(call.clone()).await?.items;
        columns.lines(&render::cells(&items, wide, true));
    }
    let mut head = tabular;
    loop {
        let change = match lines.object::<Change<T>>().await {
            Ok(Some(change)) => change,
            Ok(None) | Err(_) => {
                lines = client.resume(call.clone().flag("watch", true)).await?;
                for gone in vanished(client, &call, one, &mut shown).await? {
                    if a.output != Some(Output::Yaml)
                        && !print_while_read(&format!("{} deleted\n", gone.name()))?
                    {
                        return Ok(0);
                    }
                }
                continue;
            }
        };
        let deleted = change.kind == "DELETED";
        if !a.selects(&change.object) || (!deleted && shown.get(&change.object.key()) == Some(&change.object))
        {
            continue;
        }
        let text = match a.output {
            None | Some(Output::Wide | Output::Name) if deleted => {
                format!("{} deleted\n", change.object.name())
            }
            None | Some(Output::Wide) => columns.lines(&render::cells(
                std::slice::from_ref(&change.object),
                wide,
                std::mem::take(&mut head),
            )),
            output => render::next(&change.object, output),
        };
        match deleted {
            true => drop(shown.remove(&change.object.key())),
            false => drop(shown.insert(change.object.key(), change.object)),
        }
        if !print_while_read(&text)? {
            return Ok(0);
        }
    }
}

/// An object that was shown and no longer exists.
async fn vanished<T: Row + DeserializeOwned>(
    client: &Client,
    call: &Call,
    one: bool,
    shown: &mut BTreeMap<u64, T>,
) -> Result<Vec<T>> {
    let items: Vec<T> = match one {
        true => client.find::<T>(call.clone()).await?.into_iter().collect(),
        false => client.find::<List<T>>(call.clone()).await?.map(|l| l.items).unwrap_or_default(),
    };
    let keys: Vec<u64> = items.iter().map(Row::key).collect();
    let gone: Vec<u64> = shown.keys().copied().filter(|k| !keys.contains(k)).collect();
    Ok(gone.iter().filter_map(|k| shown.remove(k)).collect())
}

/// `events`.
pub async fn events(client: &Client, a: &Events) -> Result<u8> {
    let call = of_name(client, Call::get("/v1/events"), a.name.as_ref()).await?;
    if !a.watch {
        let items = client.fetch::<List<EventObject>>(call).await?.items;
        print(&render::list(&items, a.output))?;
        return Ok(0);
    }
    let call = call.flag("watch", true);
    let mut lines = client.lines(call.clone()).await?;
    // Those of the last instant: a stream that is taken up again begins with all events that are remembered.
    let (mut last, mut at, mut again) = (Vec::<EventObject>::new(), 0, 0);
    loop {
        let event = match lines.object::<EventObject>().await {
            Ok(Some(event)) => event,
            Ok(None) | Err(_) => {
                lines = client.resume(call.clone()).await?;
                again = at;
                continue;
            }
        };
        let same = |e: &EventObject| {
            (&e.reason, &e.workload, &e.replica, &e.container, &e.message)
                == (&event.reason, &event.workload, &event.replica, &event.container, &event.message)
        };
        if event.uptime < again || (event.uptime == again && last.iter().any(same)) {
            continue;
        }
        if event.uptime != at {
            last.clear();
        }
        at = event.uptime;
        let text = match a.output {
            None => line(&event),
            output => render::next(&event, output),
        };
        last.push(event);
        if !print_while_read(&text)? {
            return Ok(0);
        }
    }
}

/// Restricts a call to a workload or a replica.
async fn of_name(client: &Client, call: Call, name: Option<&Name>) -> Result<Call> {
    let Some(name) = name else { return Ok(call) };
    match lookup::target(client, name).await {
        Ok(Target::Workload(_)) => Ok(call.with("workload", &name.name)),
        Ok(Target::Replica(_)) => Ok(call.with("replica", &name.name)),
        // Events outlive what they are about.
        Err(e) if e.kind() == Kind::NotFound => {
            let filter = if name.kind == Some(ObjectKind::Replicas) { "replica" } else { "workload" };
            Ok(call.with(filter, &name.name))
        }
        Err(e) => Err(e),
    }
}

/// An event as a line of its own: other than in a table, its time does not age.
fn line(e: &EventObject) -> String {
    let object = e.replica.as_ref().unwrap_or(&e.workload);
    let container = e.container.as_ref().map(|c| format!(" {c}:")).unwrap_or_default();
    format!(
        "{} {:7} {:16} {object}{container} {}\n",
        e.time,
        e.severity,
        e.reason,
        crate::log::printable(&e.message)
    )
}

/// `describe`.
pub async fn describe(client: &Client, a: &Describe) -> Result<u8> {
    let names = names_of(&a.words).map_err(|what| Error::new(Kind::Usage, what))?;
    for (n, name) in names.iter().enumerate() {
        let head = if n > 0 { "\n" } else { "" };
        print(&format!("{head}{}", description(client, name).await?))?;
    }
    Ok(0)
}

async fn description(client: &Client, name: &Name) -> Result<String> {
    let now = Timestamp::now().seconds;
    let mut text = String::new();
    if let Some(ObjectKind::Kept(kind)) = name.kind {
        let object: KeptAnswer = client.fetch(Call::get(kept::path(kind, &name.name))).await?;
        return Ok(kept::describe(&object, now));
    }
    let (replicas, filter) = match lookup::target(client, name).await? {
        Target::Workload(w) => {
            text.push_str(&of_workload(&w));
            let call = Call::get("/v1/replicas").with("workload", &name.name);
            (client.fetch::<List<ReplicaObject>>(call).await?.items, "workload")
        }
        Target::Replica(r) => (vec![*r], "replica"),
    };
    for r in &replicas {
        text.push_str(&of_replica(r, now));
        for c in &r.containers {
            text.push_str(&of_container(c, now));
            text.push_str(&last_words(client, r, c).await?);
        }
    }
    let call = Call::get("/v1/events").with(filter, &name.name);
    let events = client.fetch::<List<EventObject>>(call).await?.items;
    let recent = &events[events.len().saturating_sub(20)..];
    if !recent.is_empty() {
        text.push_str("Events:\n");
        for row in render::list(recent, None).lines() {
            let _ = writeln!(text, "  {row}");
        }
    }
    Ok(text)
}

fn of_workload(w: &WorkloadObject) -> String {
    let (spec, status) = (&w.workload.spec, &w.status);
    let mut text = String::new();
    let mut field = |name: &str, value: String| {
        let _ = writeln!(text, "{:14}{value}", format!("{name}:"));
    };
    field("Name", w.workload.metadata.name.clone());
    field("Kind", spec.controller.as_ref().map_or("Workload", |c| &c.kind).to_owned());
    let pairs = |map: &std::collections::BTreeMap<String, String>| {
        map.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(", ")
    };
    if !w.workload.metadata.labels.is_empty() {
        field("Labels", pairs(&w.workload.metadata.labels));
    }
    let message = status.message.as_ref().map(|m| format!(" ({m})")).unwrap_or_default();
    field("Status", format!("{:?}{message}", status.phase));
    if let Some(job) = &status.job {
        field("Job", format!("{}: {}", job.reason, job.message));
    }
    crons::describe(w, &mut field);
    for c in &status.conditions {
        field("Condition", format!("{:?}: {}", c.r#type, c.message));
    }
    field(
        "Replicas",
        format!(
            "{} desired, {} total, {} ready, {} updated, {} terminating",
            spec.replicas, status.replicas, status.ready, status.updated, status.terminating
        ),
    );
    field("Revision", format!("{} (generation {})", status.revision, status.generation));
    field("Restarts", format!("{} ({:?})", status.restarts, spec.restart_policy));
    let of_image = spec.containers.first().is_some_and(|c| c.image.is_some());
    let unset = if of_image { "the image's stop signal" } else { "SIGTERM" };
    let signal = spec.stop_signal.map_or(unset.to_owned(), |s| s.to_string());
    field("Termination", format!("{signal}, killed after {:?}", spec.termination_grace_period));
    text
}

fn of_replica(r: &ReplicaObject, now: u64) -> String {
    let mut text = format!("Replica {}:\n", r.name);
    let mut field = |name: &str, value: String| {
        let _ = writeln!(text, "  {:12}{value}", format!("{name}:"));
    };
    field("Status", r.state());
    for c in &r.conditions {
        field("Condition", format!("{:?}: {}", c.r#type, c.message));
    }
    field("Age", render::since(&r.created, now));
    field("Revision", r.revision.to_string());
    if let Some(stopping) = &r.stopping {
        field("Stopping", format!("{}, killed at {} at the latest", stopping.cause, stopping.deadline));
    }
    text
}

/// A container, and why it was restarted.
fn of_container(c: &ContainerObject, now: u64) -> String {
    let kind = match c.role {
        Role::Init => "Init container",
        Role::Sidecar => "Sidecar",
        Role::Main => "Container",
    };
    let mut text = format!("  {kind} {}:\n", c.name);
    let mut field = |name: &str, value: String| {
        let _ = writeln!(text, "    {:9} {value}", format!("{name}:"));
    };
    match &c.image {
        Some(image) => field("Image", image.clone()),
        None => field("Bundle", c.bundle.clone()),
    }
    if !c.exposed_ports.is_empty() {
        field("Exposes", crate::log::printable(&c.exposed_ports.join(", ")).to_string());
    }
    if let (Some(id), Some(pid)) = (&c.id, c.pid) {
        field("Process", format!("{pid} (container {id})"));
    }
    field("State", render::state(&c.state, now));
    field("Restarts", c.restarts.to_string());
    for p in &c.probes {
        let verdict = match (p.passed, &p.error) {
            (_, None) if p.successes + p.failures + p.errors == 0 => "not run yet".to_owned(),
            (_, None) => "succeeds".to_owned(),
            (_, Some(error)) => format!("fails: {}", crate::log::printable(error)),
        };
        let counts =
            format!("{} succeeded, {} failed, {} without a result", p.successes, p.failures, p.errors);
        field(&format!("{:?}", p.kind), format!("{} ({counts}; {verdict})", p.check));
    }
    for (n, e) in c.exits.iter().enumerate() {
        let ran = match e.started.as_deref().and_then(render::seconds).zip(render::seconds(&e.time)) {
            Some((from, to)) => format!(" after {}", render::span(to.saturating_sub(from))),
            None => String::new(),
        };
        let ended = e.exit_code.is_some() || e.signal.is_some();
        let why = e
            .message
            .as_ref()
            .filter(|_| ended)
            .map(|m| format!(": {}", crate::log::printable(m)))
            .unwrap_or_default();
        let head = if n == 0 { "Exits:" } else { "" };
        let ago = render::since(&e.time, now);
        let _ = writeln!(text, "    {head:10}{}{ran}, {ago} ago{why}", e.summary());
    }
    text
}

/// The last lines that a container wrote before its last exit.
async fn last_words(client: &Client, r: &ReplicaObject, c: &ContainerObject) -> Result<String> {
    let failed = c.exits.first().is_some_and(|e| e.exit_code != Some(0) && e.started.is_some());
    if !failed {
        return Ok(String::new());
    }
    let call = Call::get("/v1/logs").with("replica", &r.name).with("container", &c.name).with("tail", "5");
    let mut lines = client.lines(call.flag("previous", c.pid.is_some())).await?;
    let mut text = String::new();
    while let Some(line) = lines.next().await? {
        if let Some(entry) = super::logs::LogLine::new(&line).filter(|e| !e.note) {
            let _ = writeln!(text, "      | {}", crate::log::printable(&String::from_utf8_lossy(entry.text)));
        }
    }
    match text.is_empty() {
        true => Ok(text),
        false => Ok(format!("    Its last lines:\n{text}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::types::{ContainerState, ExitObject, Reason};

    #[test]
    fn a_description_says_why_it_restarted() {
        let exit = |seconds: u64, code: Option<i32>, signal: Option<&str>, reason: Reason| ExitObject {
            instance: 0,
            time: Timestamp { seconds, nanos: 0 }.rfc3339(),
            started: Some(Timestamp { seconds: seconds - 3, nanos: 0 }.rfc3339()),
            reason,
            exit_code: code,
            signal: signal.map(str::to_owned),
            message: None,
        };
        let c = ContainerObject {
            name: "web".into(),
            role: Role::Main,
            bundle: "/b".into(),
            image: None,
            exposed_ports: vec!["80/tcp".into(), "443/tcp".into()],
            id: None,
            pid: None,
            ready: false,
            restarts: 2,
            state: ContainerState::Waiting {
                reason: Reason::CrashLoopBackOff,
                message: Some("exit code 1".into()),
                next_attempt: Some(Timestamp { seconds: 1007, nanos: 0 }.rfc3339()),
            },
            probes: Vec::new(),
            exits: vec![
                exit(1000, Some(1), None, Reason::Error),
                exit(900, None, Some("SIGKILL"), Reason::OomKilled),
            ],
        };
        let expected = "  Container web:
    Bundle:   /b
    Exposes:  80/tcp, 443/tcp
    State:    Waiting (CrashLoopBackOff): exit code 1; next attempt in 7s
    Restarts: 2
    Exits:    exit code 1 after 3s, 0s ago
              killed by SIGKILL (OOMKilled) after 3s, 100s ago
";
        assert_eq!(of_container(&c, 1000), expected);
        let image = Some("docker.io/library/nginx:1.27".to_owned());
        let text = of_container(&ContainerObject { bundle: String::new(), image, ..c }, 1000);
        assert!(text.starts_with("  Container web:\n    Image:    docker.io/library/nginx:1.27\n"), "{text}");
        assert!(!text.contains("Bundle"), "{text}");
    }
}
