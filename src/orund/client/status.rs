//! `status`: the health of all workloads and of the host on one screen, with the causes of problems.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::io::IsTerminal;
use std::time::Duration;

use super::args::{Status, StatusOutput};
use super::connection::{Call, Client};
use super::screen::{Pause, Screen, quits};
use super::top::size;
use super::wait::last_line;
use super::{print, render, yaml};
use crate::api::status::{HostObject, ProblemObject, StatusObject};
use crate::api::types::{List, StatsObject, WorkloadObject};
use crate::error::Result;
use crate::log::printable;
use crate::sys::timestamp::Timestamp;

/// The time between two refreshes.
const REFRESH: Duration = Duration::from_secs(2);

/// `status`: returns 0 without problems, otherwise 1.
pub async fn status(client: &Client, a: &Status) -> Result<u8> {
    if let Some(output) = a.output {
        let value: serde_json::Value = client.fetch(Call::get("/v1/status")).await?;
        print(&match output {
            StatusOutput::Json => serde_json::to_string_pretty(&value).unwrap_or_default() + "\n",
            StatusOutput::Yaml => yaml::text(&value),
        })?;
        let well = value["problems"].as_array().is_none_or(Vec::is_empty);
        return Ok(u8::from(!well));
    }
    let (mut text, mut well) = page(client).await?;
    if !a.watch || !std::io::stdout().is_terminal() {
        print(&text)?;
        return Ok(u8::from(!well));
    }
    let mut screen = Screen::enter();
    loop {
        screen.draw(&text, "q quit");
        match screen.pause(REFRESH).await {
            Pause::Key(key) if quits(key) => return Ok(u8::from(!well)),
            Pause::Key(_) | Pause::Over => {}
        }
        (text, well) = page(client).await?;
    }
}

/// The screen, and whether there are no problems.
async fn page(client: &Client) -> Result<(String, bool)> {
    let status: StatusObject = client.fetch(Call::get("/v1/status")).await?;
    let workloads = client.fetch::<List<WorkloadObject>>(Call::get("/v1/workloads")).await?.items;
    let stats = client.fetch::<List<StatsObject>>(Call::get("/v1/stats")).await?.items;
    let now = Timestamp::now().seconds;
    let mut text = headline(&workloads, &status.problems);
    let mut object = "";
    for p in &status.problems {
        if p.object != object {
            let _ = writeln!(text, "\n{}", p.object);
            object = &p.object;
        }
        let last = match (&p.replica, &p.container) {
            (Some(replica), Some(container)) => last_line(client, replica, container).await,
            _ => None,
        };
        text += &problem(p, last.as_deref(), now);
    }
    if !workloads.is_empty() {
        let _ = writeln!(text, "\n{}", table(&workloads, &stats).trim_end());
    }
    let _ = writeln!(text, "\n{}", host(&status.host));
    Ok((text, status.problems.is_empty()))
}

fn headline(workloads: &[WorkloadObject], problems: &[ProblemObject]) -> String {
    let all = match workloads.len() {
        1 => "1 workload".to_owned(),
        n => format!("{n} workloads"),
    };
    if problems.is_empty() {
        return format!("healthy: {all}, no problems\n");
    }
    let sick =
        |w: &&WorkloadObject| problems.iter().any(|p| p.workload.as_ref() == Some(&w.workload.metadata.name));
    let sick = workloads.iter().filter(sick).count();
    let problems = match problems.len() {
        1 => "1 problem".to_owned(),
        n => format!("{n} problems"),
    };
    format!("{problems}: {sick} of {all} unhealthy\n")
}

/// Two to four lines.
fn problem(p: &ProblemObject, last: Option<&str>, now: u64) -> String {
    let mut place = p.replica.clone().unwrap_or_default();
    if p.replicas > 1 {
        let _ = write!(place, " and {} more", p.replicas - 1);
    }
    if let Some(container) = p.container.as_ref().filter(|_| p.replica.is_some()) {
        let _ = write!(place, ", container {container}");
    }
    let place = if place.is_empty() { place } else { format!("{place}: ") };
    let colon = if p.message.is_empty() { "" } else { ": " };
    let next = p.next_attempt.as_deref().and_then(render::seconds);
    let next = next.map(|at| format!("; next start in {}", render::span(at.saturating_sub(now))));
    let mut text =
        format!("  {place}{}{colon}{}{}\n", p.reason, printable(&p.message), next.unwrap_or_default());
    if let Some(last) = last {
        let _ = writeln!(text, "    last line: {}", printable(last));
    }
    if let Some(hint) = &p.hint {
        let _ = writeln!(text, "    hint: {}", printable(hint));
    }
    text
}

fn table(workloads: &[WorkloadObject], stats: &[StatsObject]) -> String {
    let mut used: BTreeMap<&str, u64> = BTreeMap::new();
    for s in stats {
        *used.entry(&s.workload).or_default() += s.memory;
    }
    let head = ["WORKLOAD", "READY", "STATUS", "REVISION", "RESTARTS", "MEMORY"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(workloads.iter().map(|w| {
        let (name, status) = (&w.workload.metadata.name, &w.status);
        vec![
            name.clone(),
            format!("{}/{}", status.ready, w.workload.spec.replicas),
            format!("{:?}", status.phase),
            status.revision.to_string(),
            status.restarts.to_string(),
            used.get(name.as_str()).map_or("-".to_owned(), |n| size(*n)),
        ]
    }));
    render::table(&rows)
}

fn host(h: &HostObject) -> String {
    let used = h.memory.saturating_sub(h.memory_available);
    let mut text = format!("host: {} CPUs, load {:.2}; ", h.cpus, h.load);
    let _ = write!(text, "memory {} of {} used", size(used), size(h.memory));
    for d in &h.disks {
        let _ = write!(text, "; {}: {} of {} left", d.path.display(), size(d.available), size(d.size));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_has_its_place_its_cause_and_a_hint() {
        let p = ProblemObject {
            object: "workload/web".into(),
            workload: Some("web".into()),
            replica: Some("web-1".into()),
            replicas: 2,
            container: Some("app".into()),
            reason: "CrashLoopBackOff".into(),
            message: "exit code 3".into(),
            next_attempt: Some("1970-01-01T00:16:47Z".into()),
            hint: Some("look".into()),
        };
        let expected = "  web-1 and 1 more, container app: CrashLoopBackOff: exit code 3; next start in 7s\n    \
                        last line: no\\u{1b}db\n    hint: look\n";
        assert_eq!(problem(&p, Some("no\u{1b}db"), 1000), expected);
        let host =
            ProblemObject { reason: "DiskFull".into(), message: "m".into(), ..ProblemObject::default() };
        assert_eq!(problem(&host, None, 0), "  DiskFull: m\n");
    }

    #[test]
    fn the_first_line_is_the_answer() {
        assert_eq!(headline(&[], &[]), "healthy: 0 workloads, no problems\n");
        let p = ProblemObject::default();
        assert_eq!(headline(&[], &[p]), "1 problem: 0 of 0 workloads unhealthy\n");
    }
}
