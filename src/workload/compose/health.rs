//! `healthcheck`, `post_start` and `pre_stop`.
//!
//! A check is a readiness probe, and, where the service is restarted at all, a liveness probe: a service that has become
//! unhealthy is restarted. In `start_period` a startup probe takes their place.

use core::time::Duration;

use super::load::Loader;
use super::service::{Service, command};
use super::{deploy, values};
use crate::config::document::Node;
use crate::workload::health::{ExecAction, Handler, Probe};
use crate::workload::model::RestartPolicy;

/// The probes and hooks of a service.
pub fn read(loader: &mut Loader<'_>, s: &mut Service<'_>) {
    if let Some(node) = values::get(s.node, "healthcheck") {
        check(loader, s, node);
    }
    for (field, start) in [("post_start", true), ("pre_stop", false)] {
        let hooks = values::get(s.node, field).map(values::list_or_one).unwrap_or_default();
        if hooks.len() > 1 {
            s.error(loader, field, format!("{field} can have one command"), Some("join them in a shell"));
        }
        let Some(hook) = hooks.first().and_then(|h| values::get(h, "command")) else { continue };
        let command = command(loader, hook, &s.path(field));
        if command.is_empty() {
            s.error(loader, field, "the command must not be empty", None);
            continue;
        }
        let handler = Some(Handler { exec: Some(ExecAction { command }), ..Handler::default() });
        let lifecycle = &mut s.container.lifecycle;
        if start { lifecycle.post_start = handler } else { lifecycle.pre_stop = handler }
    }
}

fn check(loader: &mut Loader<'_>, s: &mut Service<'_>, node: &Node) {
    if values::is_set(node, "disable") {
        return;
    }
    let Some(test) = values::get(node, "test") else {
        let hint = "the image's own check is not known here: write `test: [CMD, PROGRAM]`";
        return s.warn(loader, "healthcheck", "a healthcheck without test has no effect", hint);
    };
    let words: Vec<&str> = values::list(test).iter().filter_map(|n| n.data.text()).collect();
    let shell = |line: &str| vec!["/bin/sh".to_owned(), "-c".to_owned(), line.to_owned()];
    let command = match (test.data.text(), words.as_slice()) {
        (Some("NONE"), _) | (None, ["NONE"]) => return,
        (Some(line), _) => shell(line),
        (None, ["CMD-SHELL", rest @ ..]) if !rest.is_empty() => shell(&rest.join(" ")),
        (None, ["CMD", rest @ ..]) if !rest.is_empty() => rest.iter().map(|w| (*w).to_owned()).collect(),
        (None, _) => {
            let hint = "write [CMD, PROGRAM, ARGUMENT], [CMD-SHELL, LINE] or a string";
            return s.error(loader, "healthcheck", "test must begin with CMD, CMD-SHELL or NONE", Some(hint));
        }
    };
    let span = |name: &str, default: u64| {
        values::value(node, name, values::span).unwrap_or(Duration::from_secs(default))
    };
    let interval = span("interval", 30).max(Duration::from_millis(1));
    let retries = values::value(node, "retries", values::integer).filter(|n| *n > 0).unwrap_or(3) as u64;
    let probe = Probe {
        exec: Some(ExecAction { command }),
        period_seconds: Some(seconds(interval)),
        timeout_seconds: Some(seconds(span("timeout", 30))),
        failure_threshold: Some(u32::try_from(retries).unwrap_or(u32::MAX)),
        ..Probe::default()
    };
    let start = span("start_period", 0);
    let restarted = deploy::restart(s.node).policy != RestartPolicy::Never;
    if !start.is_zero() && restarted {
        let period =
            span("start_interval", 5).max(Duration::from_secs(1)).min(interval.max(Duration::from_secs(1)));
        let whole = start + interval * u32::try_from(retries).unwrap_or(u32::MAX).min(1 << 16);
        let count = whole.as_secs().div_ceil(u64::from(seconds(period)));
        s.container.startup_probe = Some(Probe {
            period_seconds: Some(seconds(period)),
            failure_threshold: Some(u32::try_from(count).unwrap_or(u32::MAX).max(1)),
            ..probe.clone()
        });
    }
    s.container.liveness_probe = restarted.then(|| probe.clone());
    s.container.readiness_probe = Some(probe);
}

/// Whole seconds, at least one.
fn seconds(d: Duration) -> u32 {
    let up = d.as_secs() + u64::from(d.subsec_nanos() > 0);
    u32::try_from(up).unwrap_or(u32::MAX).max(1)
}
