//! `GET /v1/logs`: what containers wrote, of all replicas in the order of time. Each line is
//! `REPLICA CONTAINER TIME STREAM TAG TEXT`; from TIME on it is that of the log file.

use hyper::body::Bytes;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc as sync;
use std::time::Duration;
use tokio::sync::mpsc;

use crate::api::context::{Api, missing};
use crate::api::request::Query;
use crate::api::respond::{self, Answer, Problem};
use crate::api::watch::WAITING;
use crate::config::quantity;
use crate::supervisor::core::desired::Workload;
use crate::supervisor::core::ids::WorkloadId;
use crate::supervisor::core::model::Slot;
use crate::supervisor::shell::handle::{Handle, View};
use crate::supervisor::shell::logs::format::{self, Line};
use crate::supervisor::shell::logs::reader::{self, Item, Reader};
use crate::supervisor::shell::names;
use crate::sys::timestamp::Timestamp;

/// The parameters of the request.
pub const PARAMETERS: &[&str] = &["workload", "replica", "container", "follow", "previous", "since", "tail"];

/// Containers whose logs are read at once: each has a thread meanwhile.
const MOST_SOURCES: usize = 256;
/// How often a log is looked at for more, while it is followed.
const POLL: Duration = Duration::from_millis(100);
/// How often new replicas are looked for.
const SEARCH: Duration = Duration::from_millis(500);
/// Bytes that are sent together.
const BATCH: usize = 16 << 10;
/// Lines of one source that wait to be merged.
const AHEAD: usize = 64;
/// Stack size of a reading thread, bytes.
const STACK: usize = 256 << 10;

/// One container's log.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Source {
    replica: String,
    container: String,
    dir: PathBuf,
    /// The number of the workload.
    of: u64,
}

impl Source {
    fn line(&self, l: &Line) -> Vec<u8> {
        let tag = if l.full { 'F' } else { 'P' };
        let head = format!("{} {} {} {} {tag} ", self.replica, self.container, l.time, l.stream.name());
        [head.as_bytes(), l.text, b"\n"].concat()
    }

    fn item(&self, item: &Item) -> Vec<u8> {
        match item {
            Item::Line(line) => self.line(line),
            Item::Skipped(Some(1)) => self.note("1 line was removed by the rotation before it was read"),
            Item::Skipped(Some(n)) => {
                self.note(&format!("{n} lines were removed by the rotation before they were read"))
            }
            Item::Skipped(None) => self.note("lines were removed by the rotation before they were read"),
        }
    }

    /// A line of the supervisor's own, about the log.
    fn note(&self, text: &str) -> Vec<u8> {
        let text = crate::log::printable(text);
        format!("{} {} {} orund F {text}\n", self.replica, self.container, format::now()).into_bytes()
    }
}

/// The requested logs.
#[derive(Debug, Clone)]
struct Selection {
    workload: Option<String>,
    replica: Option<String>,
    container: Option<String>,
}

/// Answers the request.
pub async fn answer(api: &Api, query: &Query) -> Result<Answer, Problem> {
    let text = |name: &str| query.get(name).map(str::to_owned);
    let selection =
        Selection { workload: text("workload"), replica: text("replica"), container: text("container") };
    let wanted = reader::Query {
        previous: query.flag("previous")?,
        since: query.parsed("since", since)?,
        tail: query.parsed("tail", |t| t.parse().ok())?,
        of: None,
    };
    let follow = query.flag("follow")? && !wanted.previous;
    let sources = find(api, selection.clone()).await?;
    if sources.len() > MOST_SOURCES {
        let message = format!("these are the logs of {} containers", sources.len());
        let hint = "choose a replica or a container";
        let status = hyper::StatusCode::UNPROCESSABLE_ENTITY;
        return Err(Problem::hinted(status, "Invalid", message, hint));
    }
    let open = move || -> Result<Vec<(Source, Reader)>, Problem> {
        let open = |s: Source| match Reader::open(&s.dir, reader::Query { of: Some(s.of), ..wanted.clone() })
        {
            Ok(reader) => Ok((s, reader)),
            Err(e) => Err(Problem::internal(e.to_string())),
        };
        sources.into_iter().map(open).collect()
    };
    let readers = tokio::task::spawn_blocking(open).await.map_err(|e| Problem::internal(e.to_string()))??;
    let (parts, body) = mpsc::channel(WAITING);
    let (handle, wanted) = (api.handle.clone(), selection.clone());
    let of = api.look(move |v| workload_of(v, &wanted)).await?;
    tokio::task::spawn_local(send(handle, selection, of, readers, follow, parts));
    Ok(respond::stream("text/plain", body))
}

/// A point in time: RFC 3339 in UTC, or a duration before now.
fn since(text: &str) -> Option<String> {
    if text.len() >= 20 && text.ends_with('Z') && text.as_bytes()[10] == b'T' {
        // With nine digits of the second, as log files have it.
        let (second, fraction) =
            text[..text.len() - 1].split_once('.').unwrap_or((&text[..text.len() - 1], ""));
        let digits = fraction.len() <= 9 && fraction.bytes().all(|b| b.is_ascii_digit());
        return (digits && second.len() == 19).then(|| format!("{second}.{fraction:0<9}Z"));
    }
    let ago = quantity::duration(text)?;
    let now = Timestamp::now();
    let then = Duration::new(now.seconds, now.nanos).checked_sub(ago)?;
    let t = Timestamp { seconds: then.as_secs(), nanos: 0 };
    Some(format!("{}.{:09}Z", t.rfc3339().trim_end_matches('Z'), then.subsec_nanos()))
}

/// The logs that are selected, once each.
async fn find(api: &Api, s: Selection) -> Result<Vec<Source>, Problem> {
    let (what, name) = match (&s.workload, &s.replica) {
        (_, Some(replica)) => ("replica", replica.clone()),
        (Some(workload), None) => ("workload", workload.clone()),
        (None, None) => return Err(Problem::bad_request("neither workload nor replica is given")),
    };
    let handle = api.handle.clone();
    let container = s.container.clone();
    let (found, exists) = api.look(move |v| sources(&handle, v, &s)).await?;
    match (exists, container) {
        (false, _) => Err(missing(what, &name)),
        (true, Some(container)) if found.is_empty() => {
            Err(Problem::not_found(format!("{name} has no container {container:?}")))
        }
        (true, _) => Ok(found),
    }
}

/// The workload whose logs these are.
fn workload_of(v: &View, s: &Selection) -> Option<WorkloadId> {
    let is_it = |id: &WorkloadId, w: &Workload| match (&s.replica, &s.workload) {
        (Some(replica), _) => {
            let slots = v.observed.workloads.get(id).map(|x| x.slots.keys());
            slots.into_iter().flatten().any(|n| names::replica(&w.name, *n) == *replica)
        }
        (None, workload) => workload.as_ref() == Some(&w.name),
    };
    v.desired.workloads.iter().find(|(id, w)| is_it(id, w)).map(|(id, _)| *id)
}

/// The sources, and whether the workload or replica exists at all.
fn sources(handle: &Handle, v: &View, s: &Selection) -> (Vec<Source>, bool) {
    let (mut found, mut exists) = (BTreeSet::new(), false);
    for (id, w) in &v.desired.workloads {
        if s.workload.as_ref().is_some_and(|name| w.name != *name) {
            continue;
        }
        exists |= s.workload.is_some() && s.replica.is_none();
        let Some(slots) = v.observed.workloads.get(id) else { continue };
        for (slot, state) in &slots.slots {
            let replica = names::replica(&w.name, *slot);
            if s.replica.as_ref().is_some_and(|name| replica != *name) {
                continue;
            }
            exists |= s.replica.is_some();
            let names = state.replicas.iter().flat_map(|r| r.containers.iter().map(|c| &c.name));
            let names = names.chain(state.history.keys());
            found.extend(names.filter(|name| s.container.as_ref().is_none_or(|wanted| wanted == *name)).map(
                |name| {
                    let dir = handle.log_dir(&w.name, *slot, name);
                    Source { replica: replica.clone(), container: name.clone(), dir, of: id.0 }
                },
            ));
        }
    }
    (found.into_iter().collect(), exists)
}

/// Sends the existing lines in the order of time, then new ones as they come, until no more can come.
async fn send(
    handle: Handle,
    selection: Selection,
    of: Option<WorkloadId>,
    readers: Vec<(Source, Reader)>,
    follow: bool,
    parts: mpsc::Sender<Bytes>,
) {
    let mut known: BTreeSet<Source> = readers.iter().map(|(source, _)| source.clone()).collect();
    let to = parts.clone();
    let Ok(readers) = tokio::task::spawn_blocking(move || merge(readers, &to)).await else { return };
    if !follow {
        return;
    }
    let over = Arc::new(AtomicBool::new(false));
    for (source, reader) in readers {
        followed(source, reader, parts.clone(), &over);
    }
    loop {
        let (wanted, h) = (selection.clone(), handle.clone());
        let look = move |v: &View| (sources(&h, v, &wanted).0, is_over(v, &wanted, of));
        let Ok((found, ended)) = handle.look(look).await else {
            // This supervisor ends, and the logs do not: the client shall ask the next one.
            return parts.closed().await;
        };
        for source in found {
            if known.contains(&source) {
                continue;
            }
            known.insert(source.clone());
            if known.len() > MOST_SOURCES {
                let text = format!("not followed: {MOST_SOURCES} containers are followed already");
                let _ = parts.send(Bytes::from(source.note(&text))).await;
                continue;
            }
            // From its beginning: it was not there before.
            match Reader::open(&source.dir, reader::Query { of: Some(source.of), ..reader::Query::default() })
            {
                Ok(reader) => followed(source, reader, parts.clone(), &over),
                Err(e) => drop(parts.send(Bytes::from(source.note(&format!("not followed: {e}")))).await),
            }
        }
        if ended {
            // The content of the files is still read.
            return over.store(true, Ordering::Release);
        }
        tokio::select! {
            () = tokio::time::sleep(SEARCH) => {}
            () = parts.closed() => return,
        }
    }
}

/// Whether nothing that is selected will write any more: it is deleted, or has terminated for good.
fn is_over(v: &View, s: &Selection, of: Option<WorkloadId>) -> bool {
    let Some(id) = of else { return false };
    let Some(w) = v.desired.workloads.get(&id) else { return true };
    let Some(slots) = v.observed.workloads.get(&id) else { return false };
    let done = |slot: &Slot| {
        let mut containers = slot.replicas.iter().flat_map(|r| &r.containers);
        containers.all(|c| c.instances.is_empty() && c.restart.due().is_none())
    };
    match s.replica.as_deref() {
        Some(name) => {
            let slot = slots.slots.iter().find(|(n, _)| names::replica(&w.name, **n) == name);
            slot.is_none_or(|(_, slot)| done(slot) && !slot.replicas.is_empty())
        }
        None => {
            let ended = slots.slots.values().filter(|s| !s.replicas.is_empty() && done(s)).count();
            w.desired_replicas() > 0
                && ended >= w.desired_replicas() as usize
                && slots.slots.values().all(done)
        }
    }
}

/// Has a thread read `reader` for as long as the client is connected, and more can come.
fn followed(source: Source, mut reader: Reader, parts: mpsc::Sender<Bytes>, over: &Arc<AtomicBool>) {
    let (over, name, to) = (Arc::clone(over), source.clone(), parts.clone());
    let run = move || {
        let mut reported = None;
        while !parts.is_closed() {
            // Looked at before reading: nothing is written after it.
            let last = over.load(Ordering::Acquire);
            match read(&source, &mut reader, &parts) {
                Ok(()) => reported = None,
                Err(e) => {
                    let text = format!("cannot be read: {e}; trying again");
                    if reported.as_ref() != Some(&text) {
                        let _ = parts.blocking_send(Bytes::from(source.note(&text)));
                    }
                    reported = Some(text);
                }
            }
            if last {
                return;
            }
            std::thread::sleep(POLL);
        }
    };
    let thread = std::thread::Builder::new().name("logs".to_owned()).stack_size(STACK).spawn(run);
    if let Err(e) = thread {
        // A client that does not read will not miss it.
        let _ = to.try_send(Bytes::from(name.note(&format!("not followed: cannot start a thread: {e}"))));
    }
}

/// Sends what a reader has now.
fn read(source: &Source, reader: &mut Reader, parts: &mpsc::Sender<Bytes>) -> crate::error::Result<()> {
    let mut batch = Vec::new();
    let read = reader.read(|item| {
        batch.extend(source.item(&item));
        if batch.len() >= BATCH {
            let _ = parts.blocking_send(Bytes::from(std::mem::take(&mut batch)));
        }
    });
    if !batch.is_empty() {
        let _ = parts.blocking_send(Bytes::from(batch));
    }
    read
}

/// A line with its time.
type Timed = (String, Vec<u8>);

/// Sends what the readers have now, in the order of time. Returns them.
fn merge(mut readers: Vec<(Source, Reader)>, parts: &mpsc::Sender<Bytes>) -> Vec<(Source, Reader)> {
    if let [(source, reader)] = &mut readers[..] {
        if let Err(e) = read(source, reader, parts) {
            let _ = parts.blocking_send(Bytes::from(source.note(&format!("cannot be read: {e}"))));
        }
        return readers;
    }
    let mut inputs: Vec<sync::Receiver<Timed>> = Vec::new();
    let mut threads = Vec::new();
    for (source, mut reader) in readers {
        let (to, from) = sync::sync_channel(AHEAD);
        inputs.push(from);
        let run = move || {
            let (mut gone, mut time) = (false, String::new());
            let read = reader.read(|item| {
                if let Item::Line(line) = &item {
                    time = line.time.to_owned();
                }
                // Without a listener, the rest is skipped.
                gone = gone || to.send((time.clone(), source.item(&item))).is_err();
            });
            if let Err(e) = read {
                let _ = to.send((time, source.note(&format!("cannot be read: {e}"))));
            }
            (source, reader)
        };
        threads.extend(std::thread::Builder::new().stack_size(STACK).spawn(run));
    }
    let mut heads: Vec<Option<Timed>> = inputs.iter().map(|input| input.recv().ok()).collect();
    let mut batch = Vec::new();
    while let Some(first) = (0..heads.len()).filter(|n| heads[*n].is_some()).min_by_key(|n| &heads[*n]) {
        if let Some((_, line)) = heads[first].take() {
            batch.extend(line);
        }
        heads[first] = inputs[first].recv().ok();
        let full = batch.len() >= BATCH;
        if full && parts.blocking_send(Bytes::from(std::mem::take(&mut batch))).is_err() {
            break;
        }
    }
    drop(inputs);
    if !batch.is_empty() {
        let _ = parts.blocking_send(Bytes::from(batch));
    }
    threads.into_iter().filter_map(|t| t.join().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_in_time_have_the_form_of_log_files() {
        assert_eq!(since("2026-01-02T03:04:05Z").unwrap(), "2026-01-02T03:04:05.000000000Z");
        assert_eq!(since("2026-01-02T03:04:05.25Z").unwrap(), "2026-01-02T03:04:05.250000000Z");
        let ago = since("10m").unwrap();
        assert_eq!(ago.len(), 30);
        assert!(ago < since("1s").unwrap());
        for bad in ["", "yesterday", "2026-01-02T03:04:05+01:00", "2026-01-02T03:04:05.xZ"] {
            assert_eq!(since(bad), None, "{bad}");
        }
    }

    #[test]
    fn logs_are_merged_by_time() {
        let dir = tempfile::tempdir().unwrap();
        let source = |name: &str, lines: &[u32]| {
            let sub = dir.path().join(name);
            std::fs::create_dir(&sub).unwrap();
            let text: String =
                lines.iter().map(|n| format!("2026-01-01T00:00:{n:02}.000000000Z stdout F {n}\n")).collect();
            std::fs::write(sub.join("0.log"), text).unwrap();
            let reader = Reader::open(&sub, reader::Query::default()).unwrap();
            (Source { replica: name.to_owned(), container: "c".to_owned(), dir: sub, of: 1 }, reader)
        };
        let readers = vec![source("a", &[1, 4, 5]), source("b", &[2, 3, 6]), source("d", &[])];
        let (to, mut from) = mpsc::channel(100);
        assert_eq!(merge(readers, &to).len(), 3);
        drop(to);
        let mut text = String::new();
        while let Some(part) = from.blocking_recv() {
            text.push_str(std::str::from_utf8(&part).unwrap());
        }
        let order: Vec<String> = text
            .lines()
            .map(|l| {
                let parts: Vec<&str> = l.split(' ').collect();
                format!("{}{}", parts[0], parts[5])
            })
            .collect();
        assert_eq!(order, ["a1", "b2", "b3", "a4", "a5", "b6"]);
        assert!(text.starts_with("a c 2026-01-01T00:00:01.000000000Z stdout F 1\n"), "{text}");
    }
}
