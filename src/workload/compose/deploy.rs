//! Replicas, restarts and updates: `deploy`, `scale`, `restart`, `depends_on`.

use core::time::Duration;

use super::load::Loader;
use super::service::Service;
use super::values;
use crate::config::document::Node;
use crate::config::quantity::{Factor, IntOrPercent};
use crate::workload::controller::Controller;
use crate::workload::depends::{Condition, Dependency};
use crate::workload::model::{Backoff, FailureAction, RestartPolicy, RollingUpdate, Strategy, StrategyType};

/// Docker's time between the stop signal and SIGKILL.
const GRACE: Duration = Duration::from_secs(10);
/// Swarm's time until a new replica counts.
const MONITOR: Duration = Duration::from_secs(5);

/// When a container that has exited is started again.
pub struct Restart {
    pub policy: RestartPolicy,
    pub most: Option<u32>,
}

/// The names that a service waits for, whether each must exist, and where that is written.
pub fn dependencies(node: &Node) -> Vec<(String, bool, &Node)> {
    let Some(field) = values::get(node, "depends_on") else { return Vec::new() };
    let of_list = values::list(field).iter().filter_map(|n| Some((n.data.text()?.to_owned(), true, n)));
    let of_map = values::entries(field).iter().filter_map(|(k, v)| {
        let required = values::value(v, "required", values::flag).unwrap_or(true);
        Some((k.data.text()?.to_owned(), required, k))
    });
    of_list.chain(of_map).collect()
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
    update(s, deploy);
    s.spec.depends_on = waits(s.node);
}

/// What `depends_on` says.
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
    dependencies(node).into_iter().map(dependency).collect()
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
        s.warn(loader, "restart", "restart has no effect beside deploy.restart_policy", hint);
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
fn update(s: &mut Service<'_>, deploy: &Node) {
    let config = values::get(deploy, "update_config");
    let of = |name: &str| config.and_then(|c| values::text(c, name));
    let span = |name: &str| config.and_then(|c| values::value(c, name, values::span));
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
    let rolling_update = RollingUpdate { max_surge, max_unavailable };
    s.spec.strategy = Strategy { r#type: StrategyType::RollingUpdate, rolling_update };
    if config.is_some() {
        let wait = span("monitor").unwrap_or(MONITOR).max(span("delay").unwrap_or_default());
        s.spec.min_ready = Some(wait).filter(|w| !w.is_zero());
        s.spec.failure_action = match of("failure_action") {
            Some("continue") => FailureAction::None,
            Some("rollback") => FailureAction::Rollback,
            _ => FailureAction::Pause,
        };
    }
}
