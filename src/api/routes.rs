//! From a request to its answer.

use hyper::body::Incoming;
use hyper::{Method, Request, StatusCode};
use std::time::Duration;

use crate::api::context::{Api, missing};
use crate::api::jobs::SpawnRequest;
use crate::api::metrics::{self, Facts};
use crate::api::request::{Query, body, parse};
use crate::api::respond::{self, Answer, Problem};
use crate::api::status::StatusObject;
use crate::api::types::{DrainRequest, KeptAnswer, List, RestartRequest, ScalePatch, UndoRequest, Version};
use crate::api::{apply, attach, exec, logs, ports, stats, view, watch};
use crate::config::quantity;
use crate::runtime::features::COMMIT;
use crate::supervisor::core::services;
use crate::supervisor::core::time::Millis;
use crate::supervisor::shell::handle::{ChangeRequest, View};
use crate::workload::scalar::is_name;

/// Whether the client of `path` may take its time to read the answer.
pub fn may_pause(path: &str) -> bool {
    path == "/v1/logs" || path.ends_with("/exec") || path.ends_with("/attach")
}

/// Answers a request.
pub async fn answer(api: &Api, request: Request<Incoming>) -> Answer {
    route(api, request).await.unwrap_or_else(Problem::answer)
}

async fn route(api: &Api, request: Request<Incoming>) -> Result<Answer, Problem> {
    let path = unqualified(api, request.uri().path()).await?;
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let text = unqualified(api, request.uri().query().unwrap_or_default()).await?;
    let query = |known: &[&str]| Query::new(&text, known);
    let get = matches!(*request.method(), Method::GET | Method::HEAD);
    let post = request.method() == Method::POST;
    match parts[..] {
        ["healthz"] if get => health(api).await,
        ["version"] if get => version(),
        ["metrics"] if get => figures(api).await,
        ["v1", "workloads"] if get => watch::workloads(api, None, &query(&["watch"])?).await,
        ["v1", "apply" | "workloads"] if post => {
            let query = query(&["file", "dryRun", "pruneProject"])?;
            apply::apply(api, &query, &body(request).await?).await
        }
        ["v1", "objects"] if get => watch::objects(api, None, &query(&["watch", "kind"])?).await,
        ["v1", "objects", kind, name] if get => {
            let one = Some((apply::kind(kind)?, name.to_owned()));
            watch::objects(api, one, &query(&["watch"])?).await
        }
        ["v1", "objects", kind, name] if request.method() == Method::DELETE => {
            apply::discard(api, apply::kind(kind)?, name).await
        }
        ["v1", "workloads", name] if get => {
            watch::workloads(api, Some(name.to_owned()), &query(&["watch"])?).await
        }
        ["v1", "workloads", name] if request.method() == Method::PATCH => {
            scale(api, name, &body(request).await?).await
        }
        ["v1", "workloads", name] if request.method() == Method::DELETE => {
            delete(api, name, &query(&["gracePeriodSeconds"])?).await
        }
        ["v1", "workloads", name, "jobs"] if post => spawn(api, name, &body(request).await?).await,
        ["v1", "workloads", name, "revisions"] if get => revisions(api, name).await,
        ["v1", "workloads", name, verb @ ("pause" | "resume" | "stop" | "start" | "undo")] if post => {
            change(api, name, verb, &body(request).await?).await
        }
        ["v1", "workloads", name, "restart"] if post => restart(api, name, &body(request).await?).await,
        ["v1", "replicas"] if get => watch::replicas(api, None, &query(&["watch", "workload"])?).await,
        ["v1", "replicas", name] if get => {
            watch::replicas(api, Some(name.to_owned()), &query(&["watch"])?).await
        }
        ["v1", "replicas", name, "exec"] if post => exec::answer(api, name, request).await,
        ["v1", "replicas", name, "attach"] if post => attach::answer(api, name, request).await,
        ["v1", "replicas", name, "kill"] if post => exec::kill(api, name, &body(request).await?).await,
        ["v1", "ports"] if get => watch::ports(api, &query(&["name"])?).await,
        ["v1", "drain"] if get => watch::drain(api, &query(&["watch"])?).await,
        ["v1", "drain"] if post => drain(api, &body(request).await?).await,
        ["v1", "events"] if get => watch::events(api, query(&["watch", "workload", "replica"])?).await,
        ["v1", "logs"] if get => logs::answer(api, &query(logs::PARAMETERS)?).await,
        ["v1", "status"] if get => health_of_all(api).await,
        ["v1", "stats"] if get => stats::answer(api, &query(&["workload"])?).await,
        ["healthz" | "version" | "metrics"]
        | [
            "v1",
            "apply" | "workloads" | "replicas" | "objects" | "events" | "logs" | "stats" | "status" | "drain"
            | "ports",
        ]
        | ["v1", "objects", _, _]
        | ["v1", "workloads" | "replicas", _]
        | ["v1", "workloads", _, "restart" | "revisions" | "jobs"]
        | ["v1", "workloads", _, "pause" | "resume" | "stop" | "start" | "undo"]
        | ["v1", "replicas", _, "exec" | "attach" | "kill"] => {
            let message = format!("method {} is not allowed for {path}", request.method());
            Err(Problem::new(StatusCode::METHOD_NOT_ALLOWED, "BadRequest", message))
        }
        _ => Err(Problem::not_found(format!("path {path:?} not found; see docs/api.md"))),
    }
}

/// A path or a query with the names of workloads instead of `PROJECT%2FSERVICE`, and those of replicas in place of
/// `PROJECT%2FSERVICE-N`. What no project has remains, and is not found.
async fn unqualified(api: &Api, text: &str) -> Result<String, Problem> {
    let whole = |c: char| !matches!(c, '/' | '=' | '&');
    let Some(word) = text.split(|c| !whole(c)).find(|w| w.contains("%2F")) else {
        return Ok(text.to_owned());
    };
    let Some((project, service)) = word.split_once("%2F") else { return Ok(text.to_owned()) };
    let (project, service) = (project.to_owned(), service.to_owned());
    let found = api.look(move |v| view::of_project(v, &project, &service)).await?;
    Ok(found.map_or_else(|| text.to_owned(), |name| text.replace(word, &name)))
}

async fn health(api: &Api) -> Result<Answer, Problem> {
    let late = || {
        let message = "the supervisor's loop has not answered for 5 seconds";
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "Unavailable", message)
    };
    tokio::time::timeout(Duration::from_secs(5), api.look(|_| ())).await.map_err(|_| late())??;
    Ok(respond::typed(StatusCode::OK, "text/plain", b"ok\n".to_vec()))
}

async fn figures(api: &Api) -> Result<Answer, Problem> {
    let look = |v: &View| {
        let objects: Vec<KeptAnswer> = v.desired.objects.iter().map(|e| view::kept(v, e)).collect();
        (view::workloads(v), view::replicas(v), objects, ports::counts(v))
    };
    let (workloads, replicas, objects, ports) = api.look(look).await?;
    let stats = stats::read(api, None).await?;
    let read = move || metrics::text(&Facts::new(workloads, replicas, objects, stats), &ports);
    let text = tokio::task::spawn_blocking(read).await.map_err(|e| Problem::internal(e.to_string()))?;
    Ok(respond::typed(StatusCode::OK, metrics::TYPE, text.into_bytes()))
}

async fn health_of_all(api: &Api) -> Result<Answer, Problem> {
    let look = |v: &View| {
        let behind = services::behind(v.desired, v.observed);
        (view::workloads(v), view::replicas(v), behind, ports::counts(v))
    };
    let (workloads, replicas, behind, counts) = api.look(look).await?;
    let places = api.handle.places().to_vec();
    let read = move || StatusObject::new(&workloads, &replicas, &behind, &counts, &places);
    let status = tokio::task::spawn_blocking(read).await.map_err(|e| Problem::internal(e.to_string()))?;
    respond::json(&status)
}

fn version() -> Result<Answer, Problem> {
    respond::json(&Version {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        commit: COMMIT.to_owned(),
        api: vec!["v1".to_owned()],
    })
}

async fn scale(api: &Api, name: &str, body: &[u8]) -> Result<Answer, Problem> {
    let patch: ScalePatch = parse(body)?;
    let change = ChangeRequest::Scale { name: name.to_owned(), replicas: patch.spec.replicas };
    respond::json(&api.change(change).await?)
}

/// The verbs without a body, and `undo`.
async fn change(api: &Api, name: &str, verb: &str, body: &[u8]) -> Result<Answer, Problem> {
    let name = name.to_owned();
    let change = match verb {
        "pause" | "resume" => ChangeRequest::Pause { name, paused: verb == "pause" },
        "stop" | "start" => ChangeRequest::Stop { name, stopped: verb == "stop" },
        _ => ChangeRequest::Undo { name, to: parse::<UndoRequest>(body)?.to_revision },
    };
    respond::json(&api.change(change).await?)
}

/// A job of a CronJob.
async fn spawn(api: &Api, name: &str, body: &[u8]) -> Result<Answer, Problem> {
    let SpawnRequest { name: job } = parse(body)?;
    if !is_name(&job) {
        let message = format!("{job:?} is not a valid name");
        let hint = "1 to 63 lower-case letters, digits, \"-\" and \".\"";
        return Err(Problem::hinted(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", message, hint));
    }
    respond::json(&api.change(ChangeRequest::Spawn { name: name.to_owned(), job }).await?)
}

async fn revisions(api: &Api, name: &str) -> Result<Answer, Problem> {
    let wanted = name.to_owned();
    let look = move |v: &View| v.desired.by_name(&wanted).map(|(id, w)| view::revisions(v, id, w));
    let items = api.look(look).await?.ok_or_else(|| missing("workload", name))?;
    respond::json(&List { items })
}

async fn restart(api: &Api, name: &str, body: &[u8]) -> Result<Answer, Problem> {
    let request: RestartRequest = parse(body)?;
    respond::json(&api.change(ChangeRequest::Restart { name: name.to_owned(), slot: request.slot }).await?)
}

async fn drain(api: &Api, body: &[u8]) -> Result<Answer, Problem> {
    let request: DrainRequest = parse(body)?;
    api.pace().await;
    api.handle.drain(!request.undo).await?;
    respond::json(&api.look(view::drain).await?)
}

async fn delete(api: &Api, name: &str, query: &Query) -> Result<Answer, Problem> {
    let grace = query.parsed("gracePeriodSeconds", quantity::duration)?;
    let grace = grace.map(|d| Millis(u64::try_from(d.as_millis()).unwrap_or(u64::MAX)));
    respond::json(&api.change(ChangeRequest::Delete { name: name.to_owned(), grace }).await?)
}
