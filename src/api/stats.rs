//! Resource usage of containers, from their cgroups.

use crate::api::context::Api;
use crate::api::request::Query;
use crate::api::respond::{self, Answer, Problem};
use crate::api::types::{List, ReplicaObject, StatsObject};
use crate::api::view;
use crate::runtime::{Runtime, events};
use crate::supervisor::shell::handle::View;
use crate::sys::time;

/// Threads that read at a time, and the replicas below which one thread is enough.
const MOST_THREADS: usize = 4;
const SMALLEST_SHARE: usize = 100;

/// `GET /v1/stats`.
pub async fn answer(api: &Api, query: &Query) -> Result<Answer, Problem> {
    let workload = query.get("workload").map(str::to_owned);
    let items = read(api, workload).await?;
    respond::json(&List { items })
}

/// The figures of all containers that run, of one workload or of all.
pub async fn read(api: &Api, workload: Option<String>) -> Result<Vec<StatsObject>, Problem> {
    let select = move |v: &View| {
        let mut list = view::replicas(v);
        list.retain(|r| workload.as_ref().is_none_or(|w| r.workload == *w));
        list
    };
    let replicas = api.look(select).await?;
    let runtime = api.handle.runtime().clone();
    tokio::task::spawn_blocking(move || read_all(&runtime, &replicas))
        .await
        .map_err(|e| Problem::internal(e.to_string()))
}

/// Reads the figures with as many threads as there are processors: nearly all of the time is the kernel's.
fn read_all(runtime: &Runtime, replicas: &[ReplicaObject]) -> Vec<StatsObject> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(MOST_THREADS);
    let share = replicas.len().div_ceil(threads).max(SMALLEST_SHARE);
    std::thread::scope(|scope| {
        let mut shares = replicas.chunks(share);
        let first = shares.next().unwrap_or_default();
        let others: Vec<_> = shares.map(|part| scope.spawn(move || read_some(runtime, part))).collect();
        let mut list = read_some(runtime, first);
        list.extend(others.into_iter().flat_map(|thread| thread.join().unwrap_or_default()));
        list
    })
}

fn read_some(runtime: &Runtime, replicas: &[ReplicaObject]) -> Vec<StatsObject> {
    let containers = replicas.iter().flat_map(|r| r.containers.iter().map(move |c| (r, c)));
    containers
        .filter_map(|(r, c)| {
            let figures = figures(runtime, c.id.as_deref()?)?;
            let (replica, workload) = (r.name.clone(), r.workload.clone());
            let container = c.name.clone();
            let (id, image) = (c.id.clone()?, c.image.clone().unwrap_or_else(|| c.bundle.clone()));
            Some(StatsObject { replica, workload, container, id, image, restarts: c.restarts, ..figures })
        })
        .collect()
}

/// One that ends meanwhile has none.
fn figures(runtime: &Runtime, id: &str) -> Option<StatsObject> {
    let (usage, started) = events::usage(runtime, id).ok()?;
    Some(StatsObject {
        cpu: usage.cpu,
        at: time::boottime_ns(),
        started,
        memory: usage.memory,
        memory_limit: usage.memory_limit,
        memory_usage: usage.memory_all,
        rss: usage.rss,
        cache: usage.cache,
        throttled: usage.throttled,
        oom_kills: usage.oom_kills,
        pids: usage.pids,
        pids_limit: usage.pids_limit,
        ..StatsObject::default()
    })
}
