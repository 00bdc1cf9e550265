//! What the containers use: read from their cgroups.

use crate::api::respond::{self, Answer, Problem};
use crate::api::routes::{Api, Query};
use crate::api::types::{List, StatsObject};
use crate::api::view;
use crate::kernel::cgroup::Stats;
use crate::runtime::{Runtime, events};
use crate::supervisor::shell::handle::View;
use crate::sys::time;

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
    let all = move || -> Vec<StatsObject> {
        let containers = replicas.iter().flat_map(|r| r.containers.iter().map(move |c| (r, c)));
        containers
            .filter_map(|(r, c)| {
                let figures = figures(&runtime, c.id.as_deref()?)?;
                let (replica, workload) = (r.name.clone(), r.workload.clone());
                let container = c.name.clone();
                Some(StatsObject { replica, workload, container, restarts: c.restarts, ..figures })
            })
            .collect()
    };
    tokio::task::spawn_blocking(all).await.map_err(|e| Problem::internal(e.to_string()))
}

/// One that ends meanwhile has none.
fn figures(runtime: &Runtime, id: &str) -> Option<StatsObject> {
    let event = events::stats(runtime, id).ok()?;
    Some(object(event.data.as_deref()?))
}

fn object(stats: &Stats) -> StatsObject {
    // What the kernel calls no limit: the largest number of pages, or of 64 bits.
    let limited = |limit: u64| (limit != 0 && limit < i64::MAX as u64 / 4096 * 4096).then_some(limit);
    let raw = |name: &str| stats.memory.raw.get(name).copied();
    let inactive = raw("total_inactive_file").or_else(|| raw("inactive_file")).unwrap_or(0);
    StatsObject {
        cpu: stats.cpu.usage.total,
        at: time::boottime_ns(),
        memory: stats.memory.usage.usage.saturating_sub(inactive),
        memory_limit: limited(stats.memory.usage.limit),
        pids: stats.pids.current,
        pids_limit: limited(stats.pids.limit),
        ..StatsObject::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_what_cannot_be_dropped_and_no_limit_is_none() {
        let mut stats = Stats::default();
        stats.memory.usage.usage = 1000;
        stats.memory.usage.limit = 9_223_372_036_854_771_712;
        stats.memory.raw.insert("inactive_file".to_owned(), 300);
        stats.pids.limit = 7;
        let object = object(&stats);
        assert_eq!((object.memory, object.memory_limit, object.pids_limit), (700, None, Some(7)));
        stats.memory.raw.insert("total_inactive_file".to_owned(), 400);
        stats.memory.usage.limit = 2000;
        assert_eq!(super::object(&stats).memory, 600);
        assert_eq!(super::object(&stats).memory_limit, Some(2000));
    }
}
