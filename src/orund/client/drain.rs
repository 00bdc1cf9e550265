//! `drain`.

use hyper::Method;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

use super::args::Drain;
use super::connection::{Call, Client};
use super::lookup::Change;
use super::{print, render};
use crate::api::types::{DrainRequest, DrainStatus};
use crate::error::{Error, Kind, Result};
use crate::sys::timestamp::Timestamp;

/// How long killed containers may take to disappear.
const SLACK: Duration = Duration::from_secs(30);
/// Names that fit in a line.
const SHOWN: usize = 5;

/// `drain`: returns when nothing runs.
pub async fn drain(client: &Client, a: &Drain) -> Result<u8> {
    let call = || Call::get("/v1/drain").flag("watch", true);
    let begin = Instant::now();
    let body = DrainRequest { undo: a.undo };
    let _: DrainStatus = client.fetch(Call::new(Method::POST, "/v1/drain").json(&body)).await?;
    if a.undo {
        print("drain undone: starting the replicas again\n")?;
        return Ok(0);
    }
    let mut deadline = begin + a.timeout.unwrap_or(SLACK);
    let mut lines = client.lines(call()).await?;
    let mut last = DrainStatus::default();
    loop {
        let next = timeout_at(deadline, lines.object::<Change<DrainStatus>>()).await;
        let status = match next {
            Err(_) => return Err(late(&last)),
            Ok(Ok(Some(change))) => change.object,
            // The supervisor restarts, and continues to drain.
            Ok(Ok(None) | Err(_)) => {
                lines = client.lines_again(call(), deadline).await?;
                continue;
            }
        };
        if !status.draining {
            return Err(Error::new(Kind::State, "the drain was undone"));
        }
        if status.running.is_empty() {
            print("drained: no replica runs\n")?;
            return Ok(0);
        }
        if a.timeout.is_none() {
            deadline = deadline.max(Instant::now() + time_left(&status) + SLACK);
        }
        if status.running != last.running {
            print(&format!("{}\n", progress(&status)))?;
        }
        last = status;
    }
}

/// Until the last replica is killed.
fn time_left(status: &DrainStatus) -> Duration {
    let at = status.deadline.as_deref().and_then(render::seconds).unwrap_or(0);
    Duration::from_secs(at.saturating_sub(Timestamp::now().seconds))
}

fn names(status: &DrainStatus) -> String {
    let shown = status.running.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    match status.running.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

fn progress(status: &DrainStatus) -> String {
    let count = match status.running.len() {
        1 => "1 replica is".to_owned(),
        n => format!("{n} replicas are"),
    };
    format!(
        "draining: {count} still running, for {} s at most: {}",
        time_left(status).as_secs(),
        names(status)
    )
}

fn late(last: &DrainStatus) -> Error {
    let what = match last.running.len() {
        0 => "timed out waiting for the drain to begin".to_owned(),
        n => format!("the drain is not complete in time: {n} replicas still run: {}", names(last)),
    };
    Error::new(Kind::Timeout, what).hint("it continues; `orund get replicas` shows the progress")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_names_what_still_runs() {
        let running = (0..7).map(|n| format!("web-{n}")).collect();
        let s = DrainStatus { draining: true, running, deadline: None };
        let text = "draining: 7 replicas are still running, for 0 s at most: web-0, web-1, web-2, web-3, web-4 and 2 more";
        assert_eq!(progress(&s), text);
        assert!(late(&s).to_string().contains("7 replicas still run: web-0"));
    }
}
