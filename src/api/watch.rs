//! Lists, and the same as streams of changes: one JSON object in a line, `{"type": "ADDED" | "MODIFIED" | "DELETED",
//! "object": ...}`.

use hyper::body::Bytes;
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{broadcast, mpsc};

use crate::api::context::{Api, missing};
use crate::api::request::Query;
use crate::api::respond::{self, Answer, Problem};
use crate::api::types::{KeptAnswer, List, WorkloadObject};
use crate::api::{apply, ports, view};
use crate::supervisor::core::action::Notice;
use crate::supervisor::core::objects::StoredObject;
use crate::supervisor::shell::handle::{Handle, View};
use crate::workload::KeptKind;

/// The media type of streams.
const LINES: &str = "application/x-ndjson";
/// A stream reports changes at most once in this time.
const REPORT_INTERVAL: Duration = Duration::from_millis(50);
/// Waiting parts of a stream: the client's socket holds the rest.
pub const WAITING: usize = 4;

/// `GET /v1/workloads[/NAME]`.
pub async fn workloads(api: &Api, name: Option<String>, query: &Query) -> Result<Answer, Problem> {
    let wanted = name.clone();
    let select = move |v: &View| -> Vec<WorkloadObject> {
        match &wanted {
            Some(name) => {
                v.desired.by_name(name).map(|(id, w)| view::workload(v, id, w)).into_iter().collect()
            }
            None => view::workloads(v),
        }
    };
    if query.flag("watch")? {
        let id = |w: &WorkloadObject| w.status.uid.to_string();
        return stream(api, move |v| keyed(select(v), id)).await;
    }
    one_or_all("workload", name, api.look(select).await?)
}

/// `GET /v1/replicas[/NAME]`.
pub async fn replicas(api: &Api, name: Option<String>, query: &Query) -> Result<Answer, Problem> {
    let (wanted, workload) = (name.clone(), query.get("workload").map(str::to_owned));
    if let Some(w) = &workload {
        check_workload(api, w).await?;
    }
    let select = move |v: &View| {
        let mut list = match workload.as_ref().and_then(|w| v.desired.by_name(w)) {
            Some((id, w)) => view::replicas_of(v, id, w),
            None if workload.is_some() => Vec::new(),
            None => view::replicas(v),
        };
        list.retain(|r| wanted.as_ref().is_none_or(|name| r.name == *name));
        list
    };
    if query.flag("watch")? {
        return stream(api, move |v| keyed(select(v), |r| r.serial.to_string())).await;
    }
    // While a replacement overlaps, the newer one is meant.
    let mut list = api.look(select).await?;
    if name.is_some() && list.len() > 1 {
        list.drain(..list.len() - 1);
    }
    one_or_all("replica", name, list)
}

/// `GET /v1/objects`, and `GET /v1/objects/KIND/NAME`.
pub async fn objects(api: &Api, one: Option<(KeptKind, String)>, query: &Query) -> Result<Answer, Problem> {
    let kind = match (&one, query.get("kind")) {
        (None, Some(word)) => Some(apply::kind(word)?),
        (one, _) => one.as_ref().map(|(kind, _)| *kind),
    };
    let wanted = one.clone().map(|(_, name)| name);
    let select = move |v: &View| -> Vec<KeptAnswer> {
        let of_kind = v.desired.objects.iter().filter(|e| kind.is_none_or(|k| k == e.object.kind));
        let named = |e: &&StoredObject| wanted.as_ref().is_none_or(|name| *name == e.object.metadata.name);
        of_kind.filter(named).map(|e| view::kept(v, e)).collect()
    };
    if query.flag("watch")? {
        return stream(api, move |v| keyed(select(v), |o| o.status.uid.to_string())).await;
    }
    let items = api.look(select).await?;
    match (one, items.first()) {
        (None, _) => respond::json(&List { items }),
        (Some(_), Some(item)) => respond::json(item),
        (Some((kind, name)), None) => Err(apply::missing(kind, &name)),
    }
}

/// `GET /v1/ports`.
pub async fn ports(api: &Api, query: &Query) -> Result<Answer, Problem> {
    let name = query.get("name").map(str::to_owned);
    respond::json(&List { items: api.look(move |v| ports::list(v, name.as_deref())).await? })
}

/// `GET /v1/drain`.
pub async fn drain(api: &Api, query: &Query) -> Result<Answer, Problem> {
    if query.flag("watch")? {
        return stream(api, move |v| keyed(vec![view::drain(v)], |_| String::new())).await;
    }
    respond::json(&api.look(view::drain).await?)
}

async fn check_workload(api: &Api, workload: &str) -> Result<(), Problem> {
    let name = workload.to_owned();
    match api.look(move |v| v.desired.by_name(&name).is_some()).await? {
        true => Ok(()),
        false => Err(missing("workload", workload)),
    }
}

fn one_or_all<T: Serialize>(what: &str, name: Option<String>, items: Vec<T>) -> Result<Answer, Problem> {
    match name {
        None => respond::json(&List { items }),
        Some(name) => match items.first() {
            Some(item) => respond::json(item),
            None => Err(missing(what, &name)),
        },
    }
}

type Objects = BTreeMap<String, Value>;

fn keyed<T: Serialize>(list: Vec<T>, key: impl Fn(&T) -> String) -> Objects {
    list.into_iter()
        .map(|object| (key(&object), serde_json::to_value(&object).unwrap_or(Value::Null)))
        .collect()
}

/// All objects that `select` finds, and then every change of them. The client that stops reading is dropped by its
/// connection; meanwhile changes are joined, and never pile up.
async fn stream(
    api: &Api,
    select: impl Fn(&View) -> Objects + Send + Sync + 'static,
) -> Result<Answer, Problem> {
    let (parts, body) = mpsc::channel(WAITING);
    let (handle, clock) = (api.handle.clone(), api.clock.clone());
    let select = Arc::new(select);
    let look = move || {
        let (select, clock, handle) = (Arc::clone(&select), clock.clone(), handle.clone());
        async move { handle.look(move |v| select(&clock.steady(v))).await }
    };
    let mut turns = api.handle.turns();
    turns.borrow_and_update();
    // Objects that exist when the stream begins are reported, even if they vanish at once: a client may wait for just that.
    let mut seen = look().await;
    tokio::task::spawn_local(async move {
        let mut told = Objects::new();
        loop {
            // The supervisor ends, and the objects do not: the client shall ask the next one.
            let Ok(now) = seen else { return parts.closed().await };
            let text = changes(&told, &now);
            told = now;
            if !text.is_empty() && parts.send(Bytes::from(text)).await.is_err() {
                return;
            }
            tokio::time::sleep(REPORT_INTERVAL).await;
            tokio::select! {
                changed = turns.changed() => if changed.is_err() { return parts.closed().await },
                () = parts.closed() => return,
            }
            // Before the look: what changes after it is another turn.
            turns.borrow_and_update();
            seen = look().await;
        }
    });
    Ok(respond::stream(LINES, body))
}

/// The lines that lead from one set of objects to the other.
fn changes(before: &Objects, now: &Objects) -> String {
    let mut text = String::new();
    let mut line = |kind: &str, object: &Value| {
        text.push_str(&serde_json::json!({"object": object, "type": kind}).to_string());
        text.push('\n');
    };
    for (key, object) in now {
        match before.get(key) {
            None => line("ADDED", object),
            Some(old) if old != object => line("MODIFIED", object),
            Some(_) => {}
        }
    }
    for (_, object) in before.iter().filter(|(key, _)| !now.contains_key(*key)) {
        line("DELETED", object);
    }
    text
}

/// `GET /v1/events`: what is remembered; with `watch`, what comes, too.
pub async fn events(api: &Api, query: Query) -> Result<Answer, Problem> {
    let watch = query.flag("watch")?;
    // Before the look, so that nothing is missed in between.
    let coming = api.handle.notices();
    let wanted = Wanted {
        workload: query.get("workload").map(str::to_owned),
        replica: query.get("replica").map(str::to_owned),
    };
    let look = |v: &View| {
        let with_kind = |n: &Arc<Notice>| (Arc::clone(n), view::kind_of(v, n));
        (v.epoch_ms, v.notices.iter().map(with_kind).collect::<Vec<_>>())
    };
    let (epoch, past) = api.look(look).await?;
    if !watch {
        let events = past.into_iter().map(|(n, kind)| view::event(epoch, &n, kind));
        let items: Vec<_> = events.filter(|e| wanted.takes(e)).collect();
        return respond::json(&List { items });
    }
    let (parts, body) = mpsc::channel(WAITING);
    tokio::task::spawn_local(follow_events(api.handle.clone(), past, epoch, coming, wanted, parts));
    Ok(respond::stream(LINES, body))
}

struct Wanted {
    workload: Option<String>,
    replica: Option<String>,
}

impl Wanted {
    fn takes(&self, e: &crate::api::types::EventObject) -> bool {
        self.workload.as_ref().is_none_or(|w| e.workload == *w)
            && self.replica.as_ref().is_none_or(|r| e.replica.as_ref() == Some(r))
    }
}

async fn follow_events(
    handle: Handle,
    past: Vec<(Arc<Notice>, Option<String>)>,
    epoch: i64,
    mut coming: broadcast::Receiver<Arc<Notice>>,
    wanted: Wanted,
    parts: mpsc::Sender<Bytes>,
) {
    for (notice, kind) in &past {
        if tell(&parts, &wanted, epoch, notice, kind.clone()).await.is_err() {
            return;
        }
    }
    loop {
        let next = tokio::select! {
            next = coming.recv() => next,
            () = parts.closed() => return,
        };
        match next {
            Ok(notice) if past.iter().any(|(p, _)| Arc::ptr_eq(p, &notice)) => {}
            Ok(notice) => {
                // The wall clock may have been set.
                let own = Arc::clone(&notice);
                let look = handle.look(move |v| (v.epoch_ms, view::kind_of(v, &own))).await;
                let Ok((epoch, kind)) = look else { return parts.closed().await };
                if tell(&parts, &wanted, epoch, &notice, kind).await.is_err() {
                    return;
                }
            }
            // The client is too slow for what happens: it shall know that it missed something, and start again.
            Err(broadcast::error::RecvError::Lagged(_)) => return,
            Err(broadcast::error::RecvError::Closed) => return parts.closed().await,
        }
    }
}

async fn tell(
    parts: &mpsc::Sender<Bytes>,
    wanted: &Wanted,
    epoch: i64,
    notice: &Notice,
    kind: Option<String>,
) -> Result<(), mpsc::error::SendError<Bytes>> {
    let event = view::event(epoch, notice, kind);
    if !wanted.takes(&event) {
        return Ok(());
    }
    let mut line = serde_json::to_vec(&event).unwrap_or_default();
    line.push(b'\n');
    parts.send(Bytes::from(line)).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn changes_lead_from_one_state_to_the_next() {
        let objects = |list: &[(&str, i32)]| -> Objects {
            list.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect()
        };
        let (before, now) =
            (objects(&[("a", 1), ("b", 1), ("c", 1)]), objects(&[("b", 2), ("c", 1), ("d", 1)]));
        let expected = "{\"object\":2,\"type\":\"MODIFIED\"}\n{\"object\":1,\"type\":\"ADDED\"}\n{\"object\":1,\"type\":\"DELETED\"}\n";
        assert_eq!(changes(&before, &now), expected);
        assert_eq!(changes(&now, &now), "");
    }
}
