//! Replicas, restarts and updates: `deploy`, `scale`, `restart`, `depends_on`.

use core::time::Duration;

use super::load::Loader;
use super::state::Service;
use super::{order, values};
use crate::config::document::Node;
use crate::config::quantity::{Factor, IntOrPercent};
use crate::workload::controller::Controller;
use crate::workload::depends::{Condition, Dependency};
use crate::workload::model::{
    Backoff, FailureAction, RestartPolicy, Rollback, RollingUpdate, Strategy, StrategyType,
};

/// Docker's time between the stop signal and SIGKILL.
const GRACE: Duration = Duration::from_secs(10);
/// Swarm's time until a new replica counts.
const MONITOR: Duration = Duration::from_secs(5);

/// When a container that has exited is started again.
pub struct Restart {
    pub policy: RestartPolicy,
    pub most: Option<u32>,
}

/// `restart`, or what `deploy` says; a service with `deploy` is one of Swarm's, which are always restarted.
pub fn restart(node: &Node) -> Restart {
    let deploy = values::get(node, "deploy");
    let of_deploy = deploy.and_then(|d| values::get(d, "restart_policy"));
    let text = values::text(node, "restart");
    let (word, most) = match text.and_then(|t| t.split_once(':')) {
        Some((word, most)) => (Some(word), most.parse().ok()),
        None => (text, None),
    };
    let policy = match (of_deploy, word) {
        (Some(p), _) => match values::text(p, "condition") {
            Some("none") => RestartPolicy::Never,
            Some("on-failure") => RestartPolicy::OnFailure,
            _ => RestartPolicy::Always,
        },
        (None, Some("always" | "unless-stopped")) => RestartPolicy::Always,
        (None, Some("on-failure")) => RestartPolicy::OnFailure,
        (None, Some(_)) => RestartPolicy::Never,
        (None, None) if deploy.is_some() => RestartPolicy::Always,
        (None, None) => RestartPolicy::Never,
    };
    let most = of_deploy
        .and_then(|p| values::value(p, "max_attempts", values::integer))
        .map_or(most, |n| u32::try_from(n).ok().filter(|n| *n > 0));
    Restart { policy, most }
}

/// Everything about replicas.
pub fn read(loader: &mut Loader<'_>, s: &mut Service<'_>) {
    let none = Node { place: s.node.place, data: crate::config::document::Data::Null };
    let deploy = values::get(s.node, "deploy").unwrap_or(&none);
    restarts(loader, s, deploy);
    replicas(loader, s, deploy);
    s.spec.termination_grace_period =
        values::value(s.node, "stop_grace_period", values::span).unwrap_or(GRACE);
    update(s, loader, deploy);
    s.spec.depends_on = waits(s.node);
}

/// The dependencies in `depends_on`.
fn waits(node: &Node) -> Vec<Dependency> {
    let conditions = values::get(node, "depends_on").map(values::entries).unwrap_or_default();
    let condition = |name: &str| {
        let entry = conditions.iter().find(|(k, _)| k.data.text() == Some(name));
        match entry.and_then(|(_, v)| values::text(v, "condition")) {
            Some("service_healthy") => Condition::Ready,
            Some("service_completed_successfully") => Condition::Completed,
            _ => Condition::Started,
        }
    };
    let dependency = |(name, required, _): (String, bool, &Node)| Dependency {
        workload: values::label(&name),
        condition: condition(&name),
        optional: !required,
    };
    order::dependencies(node).into_iter().map(dependency).collect()
}

fn restarts(loader: &mut Loader<'_>, s: &mut Service<'_>, deploy: &Node) {
    if let Some(text) = values::text(s.node, "restart") {
        let (word, count) = text.split_once(':').unwrap_or((text, ""));
        let known = ["no", "false", "always", "unless-stopped", "on-failure"].contains(&word);
        if !known || (!count.is_empty() && (word != "on-failure" || count.parse::<u32>().is_err())) {
            let hint = "expected no, always, unless-stopped, on-failure or on-failure:N";
            s.error(loader, "restart", format!("unknown restart policy {text:?}"), Some(hint));
        }
    }
    let Restart { policy, most } = restart(s.node);
    s.spec.restart_policy = policy;
    let policy = values::get(deploy, "restart_policy");
    if policy.is_some() && values::get(s.node, "restart").is_some() {
        let hint = "leave one of both out";
        s.warn(loader, "restart", "restart has no effect next to deploy.restart_policy", hint);
    }
    let mut backoff = Backoff { max_restarts: most, ..Backoff::default() };
    if let Some(delay) = policy.and_then(|p| values::value(p, "delay", values::span)) {
        let delay = delay.max(Duration::from_millis(1));
        (backoff.initial, backoff.max) = (delay, delay.max(Duration::from_secs(60)));
        if delay > Duration::from_secs(60) {
            backoff.factor = Factor(100);
        }
    }
    backoff.window = policy.and_then(|p| values::value(p, "window", values::span)).filter(|_| most.is_some());
    s.spec.backoff = backoff;
}

fn replicas(loader: &mut Loader<'_>, s: &mut Service<'_>, deploy: &Node) {
    let count = |node: &Node, name: &str| {
        values::value(node, name, values::integer).and_then(|n| u32::try_from(n).ok())
    };
    let (scale, replicas) = (count(s.node, "scale"), count(deploy, "replicas"));
    if let (Some(a), Some(b)) = (scale, replicas)
        && a != b
    {
        let message = format!("scale is {a} and deploy.replicas is {b}");
        s.error(loader, "scale", message, Some("leave one of both out"));
    }
    let mode = values::text(deploy, "mode").unwrap_or("replicated");
    let number = scale.or(replicas);
    s.spec.replicas = number.unwrap_or(1);
    if mode.starts_with("global") {
        if number.is_some_and(|n| n != 1) {
            let message = format!("a service of mode {mode} has one replica on one host");
            s.error(loader, "deploy", message, Some("leave replicas out, or write `mode: replicated`"));
        }
        s.spec.replicas = 1;
    }
    if mode.ends_with("-job") {
        s.spec.controller = Some(Controller {
            kind: "Job".to_owned(),
            parallelism: Some(s.spec.replicas.max(1)),
            ..Controller::default()
        });
        s.spec.restart_policy = RestartPolicy::OnFailure;
    }
    if s.spec.replicas > 1 && values::get(s.node, "container_name").is_some() {
        let message =
            format!("container_name names one container, and there are {} replicas", s.spec.replicas);
        s.error(loader, "container_name", message, Some("leave container_name out"));
    }
    let host = values::text(s.node, "network_mode") == Some("host");
    if s.spec.replicas > 1 && host && values::get(s.node, "ports").is_some() {
        let message = format!("{} replicas cannot have the same ports of the host", s.spec.replicas);
        s.error(loader, "network_mode", message, Some("leave network_mode out: ports lead to all replicas"));
    }
}

/// Swarm's updates: one replica at a time, the old one stops first, and a failure pauses.
fn update(s: &mut Service<'_>, loader: &mut Loader<'_>, deploy: &Node) {
    let config = values::get(deploy, "update_config");
    let rolling_update = steps(config);
    s.spec.strategy = Strategy { r#type: StrategyType::RollingUpdate, rolling_update };
    if let Some(config) = config {
        s.spec.min_ready = proof(config);
        (s.spec.failure_action, s.spec.max_failures) = failures(s, loader, config, "update_config");
    }
    if let Some(config) = values::get(deploy, "rollback_config") {
        let (failure_action, max_failures) = failures(s, loader, config, "rollback_config");
        let min_ready = proof(config);
        s.spec.rollback =
            Some(Rollback { rolling_update: steps(Some(config)), min_ready, failure_action, max_failures });
    }
}

/// How many replicas at a time.
fn steps(config: Option<&Node>) -> RollingUpdate {
    let of = |name: &str| config.and_then(|c| values::text(c, name));
    let parallel = match of("parallelism").and_then(values::integer) {
        Some(0) => IntOrPercent::Percent(100),
        Some(n) => IntOrPercent::Int(u32::try_from(n).unwrap_or(u32::MAX)),
        None => IntOrPercent::Int(1),
    };
    let none = IntOrPercent::Int(0);
    let (max_surge, max_unavailable) = match of("order") {
        Some("start-first") => (parallel, none),
        _ => (none, parallel),
    };
    RollingUpdate { max_surge, max_unavailable }
}

/// How long a replica must have been ready to count.
fn proof(config: &Node) -> Option<Duration> {
    let span = |name: &str| values::value(config, name, values::span);
    let wait = span("monitor").unwrap_or(MONITOR).max(span("delay").unwrap_or_default());
    Some(wait).filter(|w| !w.is_zero())
}

/// The action after failures, and the number of replicas that may fail before it. With "continue" all may fail.
fn failures(
    s: &mut Service<'_>,
    loader: &mut Loader<'_>,
    config: &Node,
    section: &str,
) -> (FailureAction, IntOrPercent) {
    let action = match values::text(config, "failure_action") {
        Some("continue") => return (FailureAction::None, IntOrPercent::Percent(100)),
        Some("rollback") => FailureAction::Rollback,
        _ => FailureAction::Pause,
    };
    let Some(text) = values::text(config, "max_failure_ratio") else { return (action, IntOrPercent::Int(0)) };
    let Some(ratio) = text.parse::<f64>().ok().filter(|r| (0.0..=1.0).contains(r)) else {
        let message = format!("{text:?} is not a share of the replicas");
        let hint = "write a number from 0 to 1, such as 0.25";
        let place = values::get(config, "max_failure_ratio").map_or(config.place, |n| n.place);
        let path = s.path(&format!("deploy.{section}.max_failure_ratio"));
        loader.error(place, &path, message, Some(hint.to_owned()));
        return (action, IntOrPercent::Int(0));
    };
    // A fraction of a percent refers to the replicas of the file. 0.29 is a little less than that as a binary number.
    let least = |x: f64| (x + 1e-9) as u32;
    let percent = ratio * 100.0;
    let whole = (percent - percent.round()).abs() < 1e-9;
    let most = match whole {
        true => IntOrPercent::Percent(percent.round() as u32),
        false => IntOrPercent::Int(least(ratio * f64::from(s.spec.replicas))),
    };
    (action, if most == IntOrPercent::Percent(0) { IntOrPercent::Int(0) } else { most })
}
