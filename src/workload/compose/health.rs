//! `healthcheck`, `post_start` and `pre_stop`.
//!
//! A service that has become unhealthy is restarted, where it is restarted at all.

use super::load::Loader;
use super::state::{Service, command};
use super::{deploy, values};
use crate::config::document::Node;
use crate::workload::health_check::HealthCheck;
use crate::workload::model::RestartPolicy;
use crate::workload::probe::{ExecAction, Handler};

/// The probes and hooks of a service.
pub fn read(loader: &mut Loader<'_>, s: &mut Service<'_>) {
    check(loader, s);
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

/// `healthcheck`. What it leaves out is the image's, as in Docker.
fn check(loader: &mut Loader<'_>, s: &mut Service<'_>) {
    let restart = deploy::restart(s.node).policy != RestartPolicy::Never;
    let mut check = HealthCheck { restart, ..HealthCheck::default() };
    let node = values::get(s.node, "healthcheck");
    if let Some(node) = node {
        if values::is_set(node, "disable") {
            return;
        }
        match values::get(node, "test").map(command_of) {
            Some(Test::Command(command)) => check.command = command,
            Some(Test::None) => return,
            Some(Test::Invalid) => {
                let hint = "write [CMD, PROGRAM, ARGUMENT], [CMD-SHELL, LINE] or a string";
                let message = "test must begin with CMD, CMD-SHELL or NONE";
                return s.error(loader, "healthcheck", message, Some(hint));
            }
            None => {}
        }
        // Zero means the default, as in Docker.
        let span = |name: &str| values::value(node, name, values::span).filter(|d| !d.is_zero());
        check.interval = span("interval");
        check.timeout = span("timeout");
        check.start_period = span("start_period");
        check.start_interval = span("start_interval");
        let retries = values::value(node, "retries", values::integer).filter(|n| *n > 0);
        check.retries = retries.map(|n| u32::try_from(n).unwrap_or(u32::MAX));
    }
    s.container.set_health_check(&check);
    if s.container.image.is_some() {
        s.container.engine.image_health_check = (!check.is_whole()).then_some(check);
    } else if node.is_some() && check.command.is_empty() {
        let hint = "a bundle has no check of its own: write `test: [CMD, PROGRAM]`";
        s.warn(loader, "healthcheck", "a healthcheck without test has no effect", hint);
    }
}

/// `healthcheck.test`.
enum Test {
    Command(Vec<String>),
    None,
    Invalid,
}

fn command_of(test: &Node) -> Test {
    let words: Vec<&str> = values::list(test).iter().filter_map(|n| n.data.text()).collect();
    let shell = |line: &str| Test::Command(vec!["/bin/sh".to_owned(), "-c".to_owned(), line.to_owned()]);
    match (test.data.text(), words.as_slice()) {
        (Some("NONE"), _) | (None, ["NONE"]) => Test::None,
        (Some(line), _) => shell(line),
        (None, ["CMD-SHELL", rest @ ..]) if !rest.is_empty() => shell(&rest.join(" ")),
        (None, ["CMD", rest @ ..]) if !rest.is_empty() => {
            Test::Command(rest.iter().map(|w| (*w).to_owned()).collect())
        }
        (None, _) => Test::Invalid,
    }
}
