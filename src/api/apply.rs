//! `apply`: all objects of a request become one change, or nothing changes; and the kept objects.

use hyper::StatusCode;
use std::collections::BTreeMap;

use crate::api::context::{Api, object};
use crate::api::request::Query;
use crate::api::respond::{self, Answer, Problem};
use crate::api::types::{Applied, KeptAnswer, List, Outcome};
use crate::api::{convert, view};
use crate::supervisor::shell::handle::{ChangeRequest, View};
use crate::workload::compose::PROJECT;
use crate::workload::{self, KeptKind, KeptObject, Object, Workload};

/// An object of the request: the change, and its outcome.
struct Step {
    /// None: nothing is to be done.
    change: Option<ChangeRequest>,
    applied: Applied,
}

/// `POST /v1/apply`.
pub async fn apply(api: &Api, query: &Query, body: &[u8]) -> Result<Answer, Problem> {
    let file = query.get("file").unwrap_or("request");
    let text = std::str::from_utf8(body).map_err(|_| Problem::bad_request("the body is not UTF-8"))?;
    let objects = workload::read(file, text, None).checked().map_err(|d| Problem::invalid(&d))?;
    let mut steps = match query.get("pruneProject") {
        Some(project) => pruned(api, project, &objects).await?,
        None => Vec::new(),
    };
    for object in objects {
        match object {
            Object::Workload { workload, .. } => steps.push(of_workload(api, &workload, file).await?),
            Object::Kept(object) => steps.push(of_kept(api, object, file).await?),
            Object::Inert { .. } => {}
        }
    }
    let (changes, mut items): (Vec<Option<ChangeRequest>>, Vec<Applied>) =
        steps.into_iter().map(|s| (s.change, s.applied)).unzip();
    let changes: Vec<ChangeRequest> = changes.into_iter().flatten().collect();
    if !query.flag("dryRun")? && !changes.is_empty() {
        api.change(ChangeRequest::All(changes)).await?;
        let changed = |i: &&mut Applied| !matches!(i.outcome, Outcome::Unchanged | Outcome::Deleted);
        for item in items.iter_mut().filter(changed) {
            renew(api, item).await?;
        }
    }
    respond::json(&List { items })
}

/// The end of what belongs to a Compose project and is not among its objects any more. Volumes stay.
async fn pruned(api: &Api, project: &str, objects: &[Object]) -> Result<Vec<Step>, Problem> {
    let key = project.to_owned();
    let (workloads, kept) = api
        .look(move |v: &View| {
            let of = |labels: &BTreeMap<String, String>| labels.get(PROJECT) == Some(&key);
            let labels = |source: &serde_json::Value| {
                serde_json::from_value(source["metadata"]["labels"].clone()).unwrap_or_default()
            };
            let own = v.desired.workloads.values().filter(|w| w.deletion.is_none() && of(&labels(&w.source)));
            let kept = v.desired.objects.iter().map(|e| &e.object).filter(|o| of(&o.metadata.labels));
            let kept = kept.filter(|o| o.kind != KeptKind::PersistentVolumeClaim);
            let workloads: Vec<String> = own.map(|w| w.name.clone()).collect();
            (workloads, kept.map(|o| (o.kind, o.metadata.name.clone())).collect::<Vec<_>>())
        })
        .await?;
    let there = |word: &str, name: &str| objects.iter().any(|o| o.word() == word && o.name() == name);
    let step = |change, kind: &str, name: String| {
        let (kind, outcome) = (kind.to_owned(), Outcome::Deleted);
        Step { change: Some(change), applied: Applied { kind, name, outcome, generation: 0, revision: 0 } }
    };
    let gone = workloads.into_iter().filter(|name| !there("workload", name));
    let mut steps: Vec<Step> = gone
        .map(|name| step(ChangeRequest::Delete { name: name.clone(), grace: None }, "workload", name))
        .collect();
    for (kind, name) in kept.into_iter().filter(|(kind, name)| !there(kind.word(), name)) {
        steps.push(step(ChangeRequest::Discard { kind, name: name.clone() }, kind.word(), name));
    }
    Ok(steps)
}

async fn of_workload(api: &Api, w: &Workload, file: &str) -> Result<Step, Problem> {
    convert::runnable(w)
        .map_err(|(what, hint)| Problem::hinted(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", what, &hint))?;
    let (name, change) = (w.metadata.name.clone(), convert::apply(w, file));
    // A file system may let one wait.
    let pinned = tokio::task::spawn_blocking(move || convert::pin(change)).await;
    let change = pinned.map_err(|e| Problem::bad_request(format!("reading the bundles: {e}")))?;
    check(api, &change, &format!("workload {name:?}")).await?;
    let before = object(api, &name).await?;
    let outcome = match &before {
        None => Outcome::Created,
        // Also when a scale has made it so: there is nothing to do.
        Some(b) if b.as_applied(w) && !b.status.stopped && same_bundles(api, &name, &change).await? => {
            Outcome::Unchanged
        }
        Some(_) => Outcome::Configured,
    };
    let (generation, revision) = before.map_or((0, 0), |b| (b.status.generation, b.status.revision));
    let kind = w.spec.controller.as_ref().map_or("workload".to_owned(), |c| c.kind.to_lowercase());
    let applied = Applied { kind, name, outcome, generation, revision };
    Ok(Step { change: Some(change).filter(|_| outcome != Outcome::Unchanged), applied })
}

async fn of_kept(api: &Api, object: KeptObject, file: &str) -> Result<Step, Problem> {
    let (kind, name) = (object.kind, object.metadata.name.clone());
    let before = find_object(api, kind, &name).await?;
    let (outcome, generation) = match &before {
        None => (Outcome::Created, 0),
        Some(b) if b.object == object => (Outcome::Unchanged, b.status.generation),
        Some(b) => (Outcome::Configured, b.status.generation),
    };
    let change = ChangeRequest::Keep(Box::new(object), format!("apply {file}"));
    check(api, &change, &format!("{} {name:?}", kind.name())).await?;
    let applied = Applied { kind: kind.word().to_owned(), name, outcome, generation, revision: 0 };
    Ok(Step { change: Some(change).filter(|_| outcome != Outcome::Unchanged), applied })
}

/// Whether the core would accept a change about `what`.
async fn check(api: &Api, change: &ChangeRequest, what: &str) -> Result<(), Problem> {
    let checked = api.handle.check(change.clone()).await;
    checked.map_err(|denied| Problem::from(denied).about(what))
}

/// The generation and the revision that an object has now.
async fn renew(api: &Api, item: &mut Applied) -> Result<(), Problem> {
    (item.generation, item.revision) = match KeptKind::from_word(&item.kind) {
        Some(kind) => (find_object(api, kind, &item.name).await?.map_or(0, |k| k.status.generation), 0),
        None => {
            let name = item.name.clone();
            let find =
                move |v: &View| v.desired.by_name(&name).map(|(_, w)| (w.generation, w.number(w.applied())));
            api.look(find).await?.unwrap_or((0, 0))
        }
    };
    Ok(())
}

/// Whether each config.json, ConfigMap and Secret is what the workload's current revision was made from.
async fn same_bundles(api: &Api, name: &str, change: &ChangeRequest) -> Result<bool, Problem> {
    let (name, change) = (name.to_owned(), change.clone());
    let same = move |v: &View| {
        let template = v.desired.by_name(&name).and_then(|(_, w)| w.template());
        template.is_none_or(|t| convert::same_bundles(&change, t) && v.desired.objects.is_current(t))
    };
    api.look(same).await
}

async fn find_object(api: &Api, kind: KeptKind, name: &str) -> Result<Option<KeptAnswer>, Problem> {
    let name = name.to_owned();
    api.look(move |v| v.desired.objects.get(kind, &name).map(|e| view::kept(v, e))).await
}

/// The kind that a path or a parameter names.
pub fn kind(word: &str) -> Result<KeptKind, Problem> {
    KeptKind::from_word(word).ok_or_else(|| {
        let kinds = KeptKind::ALL.map(|k| format!("{}s", k.word())).join(", ");
        Problem::not_found(format!("unknown kind {word:?}; known kinds: {kinds}"))
    })
}

/// `DELETE /v1/objects/KIND/NAME`.
pub async fn discard(api: &Api, kind: KeptKind, name: &str) -> Result<Answer, Problem> {
    let done = api.change(ChangeRequest::Discard { kind, name: name.to_owned() }).await;
    match done {
        Err(p) if p.status == StatusCode::NOT_FOUND => Err(missing(kind, name)),
        done => respond::json(&done?),
    }
}

/// The problem with an object that is not there.
pub fn missing(kind: KeptKind, name: &str) -> Problem {
    let word = kind.word();
    Problem::hinted(
        StatusCode::NOT_FOUND,
        "NotFound",
        format!("no such {word}: {name:?}"),
        &format!("`orund get {word}s` lists them"),
    )
}
