//! `get`, `events` and `describe`.

use serde::de::DeserializeOwned;
use std::fmt::Write;

use super::args::{Events, Get, Output, What};
use super::change::{self, Change};
use super::connection::{Call, Client, encoded};
use super::render::{self, Row};
use super::{print, print_while_read};
use crate::api::types::{ContainerObject, EventObject, List, ReplicaObject, WorkloadObject};
use crate::error::{Kind, Result};
use crate::sys::timestamp::Timestamp;

/// `get`.
pub async fn get(client: &Client, a: &Get) -> Result<u8> {
    match a.what {
        What::Workloads => {
            let path = a.name.as_ref().map_or("/v1/workloads".to_owned(), |name| change::path(name));
            show::<WorkloadObject>(client, Call::get(path), a, a.name.is_some()).await
        }
        What::Replicas => {
            let all = Call::get("/v1/replicas");
            let Some(name) = &a.name else { return show::<ReplicaObject>(client, all, a, false).await };
            match client.find::<WorkloadObject>(Call::get(change::path(name))).await? {
                Some(_) => show::<ReplicaObject>(client, all.with("workload", name), a, false).await,
                None => {
                    // For the words of its error.
                    change::replica(client, name).await?;
                    let call = Call::get(format!("/v1/replicas/{}", encoded(name)));
                    show::<ReplicaObject>(client, call, a, true).await
                }
            }
        }
        What::Events => {
            let events = Events { name: a.name.clone(), watch: a.watch, output: a.output };
            self::events(client, &events).await
        }
    }
}

/// Prints what `call` lists, and with `watch` what changes.
async fn show<T: Row + DeserializeOwned>(client: &Client, call: Call, a: &Get, one: bool) -> Result<u8> {
    if !a.watch {
        let text = match one {
            true => render::one(&client.fetch::<T>(call).await?, a.output),
            false => {
                let items = client.fetch::<List<T>>(call).await?.items;
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
    let mut lines = client.lines(call.flag("watch", true)).await?;
    let mut head = matches!(a.output, None | Some(Output::Wide));
    while let Some(change) = lines.object::<Change<T>>().await? {
        let mut text = match head {
            true => render::list(std::slice::from_ref(&change.object), a.output),
            false => render::next(&change.object, a.output),
        };
        head = false;
        if change.kind == "DELETED" && matches!(a.output, None | Some(Output::Wide | Output::Name)) {
            text = format!("{} deleted\n", change.object.name());
        }
        if !print_while_read(&text)? {
            break;
        }
    }
    Ok(0)
}

/// `events`.
pub async fn events(client: &Client, a: &Events) -> Result<u8> {
    let call = of_name(client, Call::get("/v1/events"), a.name.as_deref()).await?;
    if !a.watch {
        let items = client.fetch::<List<EventObject>>(call).await?.items;
        print(&render::list(&items, a.output))?;
        return Ok(0);
    }
    let mut lines = client.lines(call.flag("watch", true)).await?;
    while let Some(event) = lines.object::<EventObject>().await? {
        let text = match a.output {
            None => line(&event),
            output => render::next(&event, output),
        };
        if !print_while_read(&text)? {
            break;
        }
    }
    Ok(0)
}

/// Restricts a call to a workload or a replica.
async fn of_name(client: &Client, call: Call, name: Option<&str>) -> Result<Call> {
    let Some(name) = name else { return Ok(call) };
    let workload = client.find::<WorkloadObject>(Call::get(change::path(name))).await?;
    match workload {
        Some(_) => Ok(call.with("workload", name)),
        None => match change::replica(client, name).await {
            Ok(_) => Ok(call.with("replica", name)),
            // Events outlive what they are about.
            Err(e) if e.kind() == Kind::NotFound => Ok(call.with("workload", name)),
            Err(e) => Err(e),
        },
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
pub async fn describe(client: &Client, name: &str) -> Result<u8> {
    let now = Timestamp::now().seconds;
    let workload: Option<WorkloadObject> = client.find(Call::get(change::path(name))).await?;
    let mut text = String::new();
    let (replicas, filter) = match &workload {
        Some(w) => {
            text.push_str(&of_workload(w));
            let call = Call::get("/v1/replicas").with("workload", name);
            (client.fetch::<List<ReplicaObject>>(call).await?.items, "workload")
        }
        None => (vec![change::replica(client, name).await?], "replica"),
    };
    for r in &replicas {
        text.push_str(&of_replica(r, now));
        for c in &r.containers {
            text.push_str(&of_container(c, now));
            text.push_str(&last_words(client, r, c).await?);
        }
    }
    let call = Call::get("/v1/events").with(filter, name);
    let events = client.fetch::<List<EventObject>>(call).await?.items;
    let recent = &events[events.len().saturating_sub(20)..];
    if !recent.is_empty() {
        text.push_str("Events:\n");
        for row in render::list(recent, None).lines() {
            let _ = writeln!(text, "  {row}");
        }
    }
    print(&text)?;
    Ok(0)
}

fn of_workload(w: &WorkloadObject) -> String {
    let (spec, status) = (&w.workload.spec, &w.status);
    let mut text = String::new();
    let mut field = |name: &str, value: String| {
        let _ = writeln!(text, "{:14}{value}", format!("{name}:"));
    };
    field("Name", w.workload.metadata.name.clone());
    let pairs = |map: &std::collections::BTreeMap<String, String>| {
        map.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(", ")
    };
    if !w.workload.metadata.labels.is_empty() {
        field("Labels", pairs(&w.workload.metadata.labels));
    }
    let message = status.message.as_ref().map(|m| format!(" ({m})")).unwrap_or_default();
    field("Status", format!("{:?}{message}", status.phase));
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
    let signal = spec.stop_signal.map_or("SIGTERM".to_owned(), |s| s.to_string());
    field("Termination", format!("{signal}, killed after {:?}", spec.termination_grace_period));
    text
}

fn of_replica(r: &ReplicaObject, now: u64) -> String {
    let mut text = format!("Replica {}:\n", r.name);
    let mut field = |name: &str, value: String| {
        let _ = writeln!(text, "  {:12}{value}", format!("{name}:"));
    };
    field("Status", r.phase.to_string());
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
    let mut text = format!("  Container {}:\n", c.name);
    let mut field = |name: &str, value: String| {
        let _ = writeln!(text, "    {:10}{value}", format!("{name}:"));
    };
    field("Bundle", c.bundle.clone());
    if let (Some(id), Some(pid)) = (&c.id, c.pid) {
        field("Process", format!("{pid} (container {id})"));
    }
    field("State", render::state(&c.state, now));
    field("Restarts", c.restarts.to_string());
    for (n, e) in c.exits.iter().enumerate() {
        let ran = match e.started.as_deref().and_then(render::seconds).zip(render::seconds(&e.time)) {
            Some((from, to)) => format!(" after {}", render::span(to.saturating_sub(from))),
            None => String::new(),
        };
        let ended = e.exit_code.is_some() || e.signal.is_some();
        let why = e.message.as_ref().filter(|_| ended).map(|m| format!(": {m}")).unwrap_or_default();
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
        if let Some(entry) = super::logs::Entry::new(&line) {
            let _ = writeln!(text, "      | {}", String::from_utf8_lossy(entry.text));
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
            time: Timestamp { seconds, nanos: 0 }.rfc3339(),
            started: Some(Timestamp { seconds: seconds - 3, nanos: 0 }.rfc3339()),
            reason,
            exit_code: code,
            signal: signal.map(str::to_owned),
            message: None,
        };
        let c = ContainerObject {
            name: "web".into(),
            bundle: "/b".into(),
            id: None,
            pid: None,
            ready: false,
            restarts: 2,
            state: ContainerState::Waiting {
                reason: Reason::CrashLoopBackOff,
                message: Some("exit code 1".into()),
                next_attempt: Some(Timestamp { seconds: 1007, nanos: 0 }.rfc3339()),
            },
            exits: vec![
                exit(1000, Some(1), None, Reason::Error),
                exit(900, None, Some("SIGKILL"), Reason::OomKilled),
            ],
        };
        let expected = "  Container web:
    Bundle:   /b
    State:    Waiting (CrashLoopBackOff): exit code 1; next attempt in 7s
    Restarts: 2
    Exits:    exit code 1 after 3s, 0s ago
              killed by SIGKILL (OOMKilled) after 3s, 100s ago
";
        assert_eq!(of_container(&c, 1000), expected);
    }
}
