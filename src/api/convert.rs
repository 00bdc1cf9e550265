//! A workload file's object in the words of the supervisor's core.

use core::time::Duration;
use serde_json::{Map, Value, json};

use crate::config::bundle::Bundle;
use crate::config::quantity::MilliCpu;
use crate::image::reference::{Reference, Remote};
use crate::supervisor::core::controller::{
    Controller, Cron, FailureRule, FailureRuleAction, Job, SuccessRule,
};
use crate::supervisor::core::ports::PublishedPort;
use crate::supervisor::core::probes;
use crate::supervisor::core::spec::{
    Back, Backoff, ContainerSource, ContainerSpec, ImageSource, PROGRESS_DEADLINE, Pinned, PodTemplate,
    PullPolicy, RestartLimit, RestartRule, Role, SIGNAL_OF_IMAGE, SandboxSpec, Strategy,
};
use crate::supervisor::core::time::Millis;
use crate::supervisor::shell::handle::{Apply, ChangeRequest};
use crate::workload::engine::Engine;
use crate::workload::inputs::inputs;
use crate::workload::model::{self, Container, EnvVar, Resources};
use crate::workload::pod::Port;
use crate::workload::replica::Sandbox;
use crate::workload::schedule::{Schedule, Zone};
use crate::workload::{Spec, Workload, exit_codes};

/// Parts of a workload that cannot be run yet.
///
/// # Errors
/// What, and what to do instead.
pub fn runnable(w: &Workload) -> Result<(), (String, String)> {
    let name = &w.metadata.name;
    let s = &w.spec;
    let no = |what: &str, hint: &str| Err((format!("workload {name:?}: {what}"), hint.to_owned()));
    if let Some(cron) = s.controller.as_ref().and_then(|c| c.cron.as_ref()) {
        if let Err(why) = Schedule::parse(&cron.schedule) {
            return no(&why, "minute hour day-of-month month day-of-week, such as \"30 4 * * 1-5\"");
        }
        if let Some(zone) = cron.time_zone.as_ref().filter(|zone| Zone::named(zone).is_none()) {
            return no(&format!("unknown time zone {zone:?}"), "write a name such as Europe/Berlin");
        }
    }
    for image in s.all_containers().filter_map(|c| c.image.as_ref()) {
        let path = match Reference::parse(image) {
            Err(mut e) => {
                // The answer has a place of its own for the hint.
                let hint = e.take_hint().unwrap_or_else(|| "write a name such as nginx:1.27".to_owned());
                return no(&e.to_string(), &hint);
            }
            Ok(
                Reference::OciLayout { dir: path, .. }
                | Reference::OciArchive { file: path, .. }
                | Reference::DockerArchive { file: path, .. }
                | Reference::Bundle { dir: path },
            ) => path,
            Ok(Reference::Registry(_)) => continue,
        };
        if !path.starts_with('/') {
            return no(&format!("the path of image {image:?} must be absolute"), "begin it with a slash");
        }
    }
    Ok(())
}

/// The change that `w`, of the file `file`, be as it says.
pub fn apply(w: &Workload, file: &str) -> ChangeRequest {
    ChangeRequest::Apply(Box::new(Apply {
        name: w.metadata.name.clone(),
        replicas: w.spec.replicas,
        strategy: strategy(&w.spec),
        controller: Controller {
            depends_on: w.spec.depends_on.clone(),
            ..w.spec.controller.as_ref().map(controller).unwrap_or_default()
        },
        paused: w.spec.paused,
        template: template(&w.spec),
        source: serde_json::to_value(w).unwrap_or(Value::Null),
        cause: format!("apply {file}"),
    }))
}

fn controller(c: &crate::workload::controller::Controller) -> Controller {
    Controller {
        job: c.is_job().then(|| Box::new(job(c))),
        cron: c.cron.as_ref().map(|of| Box::new(cron(of, c))),
        stateful: c.is_stateful(),
        ordered: c.ordered,
        partition: c.partition,
        on_delete: c.on_delete,
        depends_on: Vec::new(),
    }
}

fn cron(of: &crate::workload::cron::Cron, c: &crate::workload::controller::Controller) -> Cron {
    Cron {
        schedule: of.schedule.clone(),
        zone: of.time_zone.clone(),
        policy: of.concurrency_policy,
        starting_deadline: of.starting_deadline_seconds.map(Millis::secs),
        keep_succeeded: of.successful_jobs_history_limit,
        keep_failed: of.failed_jobs_history_limit,
        suspended: of.suspend,
        completions: of.completions,
        job: job(c),
    }
}

fn job(c: &crate::workload::controller::Controller) -> Job {
    use crate::workload::controller::FailureAction;
    let failure = |r: &crate::workload::controller::FailureRule| FailureRule {
        action: match r.action {
            FailureAction::FailJob => FailureRuleAction::FailJob,
            FailureAction::FailIndex => FailureRuleAction::FailIndex,
            FailureAction::Ignore => FailureRuleAction::Ignore,
            FailureAction::Count => FailureRuleAction::Count,
        },
        container: r.container_name.clone(),
        exit: r.exit_codes.as_ref().map(codes),
    };
    let success = |r: &crate::workload::controller::SuccessRule| SuccessRule {
        indexes: r.succeeded_indexes.as_deref().and_then(crate::workload::job::ranges),
        count: r.succeeded_count,
    };
    Job {
        parallelism: c.parallelism.unwrap_or(1),
        ttl: c.ttl_seconds_after_finished.map(Millis::secs),
        backoff_limit: c.backoff_limit,
        backoff_limit_per_index: c.backoff_limit_per_index,
        max_failed_indexes: c.max_failed_indexes,
        deadline: c.active_deadline_seconds.map(Millis::secs),
        queue: c.queue,
        suspended: c.suspend,
        failure_rules: c.pod_failure_policy.iter().map(failure).collect(),
        success_rules: c.success_policy.iter().map(success).collect(),
    }
}

fn strategy(spec: &Spec) -> Strategy {
    let rolling = &spec.strategy.rolling_update;
    Strategy {
        recreate: spec.strategy.r#type == model::StrategyType::Recreate,
        max_surge: rolling.max_surge,
        max_unavailable: rolling.max_unavailable,
        min_ready: spec.min_ready.map(millis),
        progress_deadline: Some(spec.progress_deadline.map_or(PROGRESS_DEADLINE, millis)),
        on_failure: spec.failure_action,
        max_failures: spec.max_failures,
        back: spec.rollback.map(|r| Back {
            max_surge: r.rolling_update.max_surge,
            max_unavailable: r.rolling_update.max_unavailable,
            min_ready: r.min_ready.map(millis),
            on_failure: r.failure_action,
            max_failures: r.max_failures,
        }),
        history_limit: spec.revision_history_limit,
    }
}

/// Pins what each container is made from: config.json as it is now. One that cannot be read, or is invalid, is not pinned;
/// it is read when the container is to start, and reported then.
pub fn pin(mut change: ChangeRequest) -> ChangeRequest {
    if let ChangeRequest::Apply(apply) = &mut change {
        for container in &mut apply.template.containers {
            let bundle = Bundle::load(container.launch.bundle.as_ref()).ok();
            container.launch.config = bundle.and_then(|b| String::from_utf8(b.raw).ok());
        }
    }
    change
}

/// Whether the workload that there is was made from the same config.json files as `change` would be.
pub fn same_bundles(change: &ChangeRequest, now: &PodTemplate) -> bool {
    let ChangeRequest::Apply(apply) = change else { return true };
    let configs = |t: &PodTemplate| t.containers.iter().map(|c| c.launch.config.clone()).collect::<Vec<_>>();
    configs(&apply.template) == configs(now)
}

fn template(spec: &Spec) -> PodTemplate {
    let b = &spec.backoff;
    let mut sandbox = Sandbox::sandbox_of(spec);
    if let Some(sandbox) = &mut sandbox {
        sandbox.limits = resources(&spec.resources, None);
    }
    PodTemplate {
        containers: containers(spec, sandbox.is_some()),
        restart_policy: spec.restart_policy,
        active_deadline: spec.active_deadline.map(millis),
        backoff: Backoff {
            initial: millis(b.initial),
            factor: f64::from(b.factor.0) / 100.0,
            max: millis(b.max),
            reset: millis(b.reset),
            ..Backoff::default()
        },
        restart_limit: b.max_restarts.map(|count| RestartLimit { count, window: b.window.map(millis) }),
        grace: millis(spec.termination_grace_period),
        spare: spec.spares > 0,
        ports: ports(spec),
        inputs: inputs(spec).into_iter().map(|input| Pinned { input, digest: None, lack: None }).collect(),
        sandbox: sandbox.map(|s| SandboxSpec { config: serde_json::to_value(s).unwrap_or(Value::Null) }),
    }
}

/// The ports of its containers that are published on the host.
fn ports(spec: &Spec) -> Vec<PublishedPort> {
    let pods = spec.all_containers().filter(|_| !spec.host_network);
    pods.flat_map(|c| &c.ports).filter_map(PublishedPort::of_container).collect()
}

/// Rounded up: a wait that was asked for is never none.
fn millis(d: Duration) -> Millis {
    Millis(u64::try_from(d.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX))
}

/// The containers in the order in which they start.
fn containers(spec: &Spec, in_pod: bool) -> Vec<ContainerSpec> {
    let of_role = |c: &Container, role| ContainerSpec { role, ..container(c, spec, in_pod) };
    let init = |c: &Container| of_role(c, if c.is_sidecar() { Role::Sidecar } else { Role::Init });
    let inits = spec.init_containers.iter().map(init);
    inits.chain(spec.containers.iter().map(|c| of_role(c, Role::Main))).collect()
}

fn rule(rule: &model::RestartRule) -> RestartRule {
    let model::RestartAction::Restart = rule.action;
    codes(&rule.exit_codes)
}

fn codes(codes: &exit_codes::ExitCodes) -> RestartRule {
    RestartRule {
        codes: codes.values.iter().map(|code| i32::from(*code)).collect(),
        others: codes.operator == exit_codes::Membership::NotIn,
    }
}

fn container(c: &Container, spec: &Spec, in_pod: bool) -> ContainerSpec {
    // The configuration of a pod's container is generated for each replica.
    let plain = |env: &EnvVar| format!("{}={}", env.name, env.value);
    ContainerSpec {
        name: c.name.clone(),
        restart_policy: c.restart_policy,
        restart_rules: c.restart_policy_rules.iter().map(rule).collect(),
        launch: ContainerSource {
            bundle: c.bundle.clone(),
            image: c.image.as_ref().map(|name| image(name, c, spec, in_pod)),
            config: None,
            args: if in_pod || c.image.is_some() { None } else { arguments(c) },
            env: if in_pod { Vec::new() } else { c.env.iter().map(plain).collect() },
            resources: resources(&c.resources, c.engine.cpuset.as_deref()),
            container: in_pod.then(|| Box::new(program(c))),
            shared_root: spec.shared_root,
        },
        stop_signal: match c.lifecycle.stop_signal.or(spec.stop_signal) {
            Some(signal) => signal.0,
            None if c.image.is_some() => SIGNAL_OF_IMAGE,
            None => libc::SIGTERM,
        },
        post_start: c.lifecycle.post_start.as_ref().and_then(|h| probes::handler(c, h)),
        pre_stop: c.lifecycle.pre_stop.as_ref().and_then(|h| probes::handler(c, h)),
        probes: probes::probes(c),
        ..ContainerSpec::default()
    }
}

/// A container of a pod has its program worked out for each replica.
fn image(name: &str, c: &Container, spec: &Spec, in_pod: bool) -> ImageSource {
    let latest = |r: &Remote| !r.is_pinned() && r.tag.as_deref() == Some("latest");
    let latest = matches!(Reference::parse(name), Ok(Reference::Registry(r)) if latest(&r));
    ImageSource {
        name: name.to_owned(),
        policy: match c.image_pull_policy {
            Some(model::PullPolicy::Always) => PullPolicy::Always,
            Some(model::PullPolicy::IfNotPresent) => PullPolicy::IfNotPresent,
            Some(model::PullPolicy::Never) => PullPolicy::Never,
            // Kubernetes' rule.
            None if latest => PullPolicy::Always,
            None => PullPolicy::IfNotPresent,
        },
        digest: None,
        command: if in_pod { Vec::new() } else { c.command.clone() },
        args: if in_pod { None } else { c.args.clone() },
        pull_secrets: spec.image_pull_secrets.iter().map(|s| s.name.clone()).collect(),
    }
}

/// The parts of a container that define its program: without those that can change while it runs.
fn program(c: &Container) -> Container {
    // Services find ports by name.
    let named = c.ports.iter().filter(|p| p.name.is_some());
    Container {
        ports: named.map(|p| Port { host_port: None, host_ip: None, ..p.clone() }).collect(),
        name: c.name.clone(),
        command: c.command.clone(),
        args: c.args.clone(),
        working_dir: c.working_dir.clone(),
        env: c.env.clone(),
        env_from: c.env_from.clone(),
        volume_mounts: c.volume_mounts.clone(),
        stdin: c.stdin,
        stdin_once: c.stdin_once,
        tty: c.tty,
        termination_message_path: c.termination_message_path.clone(),
        termination_message_policy: c.termination_message_policy,
        security_context: c.security_context.clone(),
        engine: Engine { cpuset: None, ..c.engine.clone() },
        ..Container::default()
    }
}

/// The replacement of the bundle's arguments.
fn arguments(c: &Container) -> Option<Vec<String>> {
    match (&c.args, c.command.is_empty()) {
        (None, true) => None,
        (args, _) => Some(c.command.iter().chain(args.iter().flatten()).cloned().collect()),
    }
}

/// The period that CPU limits are measured in, microseconds: that of the kernel and of every container engine.
const PERIOD: u64 = 100_000;
/// The shares of one CPU, and the kernel's bounds.
const SHARES: u64 = 1024;
const LEAST_SHARES: u64 = 2;
const MOST_SHARES: u64 = 262_144;
/// The least quota that the kernel takes, microseconds.
const LEAST_QUOTA: u64 = 1000;

/// `linux.resources` of the runtime specification.
fn resources(resources: &Resources, cpuset: Option<&str>) -> Option<Value> {
    if resources.is_empty() && cpuset.is_none() {
        return None;
    }
    let (limits, requests) = (&resources.limits, &resources.requests);
    let mut all = Map::new();
    let mut cpu = Map::new();
    if let Some(MilliCpu(milli)) = limits.cpu {
        let quota = milli.saturating_mul(PERIOD / 1000).clamp(LEAST_QUOTA, i64::MAX as u64);
        cpu.insert("quota".to_owned(), quota.into());
        cpu.insert("period".to_owned(), PERIOD.into());
    }
    if let Some(MilliCpu(milli)) = requests.cpu {
        let shares = milli.saturating_mul(SHARES) / 1000;
        cpu.insert("shares".to_owned(), shares.clamp(LEAST_SHARES, MOST_SHARES).into());
    }
    if let Some(cpus) = cpuset {
        cpu.insert("cpus".to_owned(), cpus.into());
    }
    if !cpu.is_empty() {
        all.insert("cpu".to_owned(), cpu.into());
    }
    let mut memory = Map::new();
    for (name, bytes) in [("limit", limits.memory), ("reservation", requests.memory)] {
        if let Some(bytes) = bytes {
            memory.insert(name.to_owned(), bytes.0.min(i64::MAX as u64).into());
        }
    }
    if !memory.is_empty() {
        all.insert("memory".to_owned(), memory.into());
    }
    if let Some(pids) = limits.pids {
        all.insert("pids".to_owned(), json!({"limit": pids}));
    }
    Some(Value::Object(all))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::quantity::{Bytes, IntOrPercent};
    use crate::workload::model::{FailureAction, Limits, RestartPolicy};
    use crate::workload::read;
    use std::path::Path;

    #[test]
    fn nothing_of_a_file_is_lost() {
        let text = "apiVersion: orun.dev/v1
kind: Workload
metadata: {name: web}
spec:
  replicas: 2
  restartPolicy: OnFailure
  terminationGracePeriodSeconds: 0.0005
  stopSignal: SIGQUIT
  spares: 1
  backoff: {initial: 0.5, factor: 1.5, max: 9, reset: 8, maxRestarts: 7, window: 6}
  containers:
  - name: app
    bundle: /b
    args: [x]
    env: [{name: A, value: \"1\"}]
    resources: {limits: {cpu: 5m, memory: 1Ki, pids: 9}}
    lifecycle: {preStop: {exec: {command: [/stop]}}}
";
        let w = read("f", text, Some(Path::new("/"))).workloads().unwrap().remove(0);
        let ChangeRequest::Apply(applied) = apply(&w, "f") else { panic!() };
        assert_eq!((applied.name.as_str(), applied.replicas), ("web", 2));
        assert_eq!(serde_json::from_value::<Workload>(applied.source).unwrap(), w);
        let launch = ContainerSource {
            bundle: "/b".into(),
            image: None,
            config: None,
            args: Some(vec!["x".into()]),
            env: vec!["A=1".into()],
            container: None,
            shared_root: false,
            resources: Some(json!({
                "cpu": {"quota": 1000, "period": 100_000},
                "memory": {"limit": 1024},
                "pids": {"limit": 9},
            })),
        };
        let app = ContainerSpec {
            name: "app".into(),
            launch,
            stop_signal: libc::SIGQUIT,
            pre_stop: Some(crate::supervisor::core::spec::Handler::Exec(vec!["/stop".into()])),
            ..ContainerSpec::default()
        };
        let expected = PodTemplate {
            containers: vec![app],
            restart_policy: RestartPolicy::OnFailure,
            backoff: Backoff {
                initial: Millis(500),
                factor: 1.5,
                max: Millis(9000),
                reset: Millis(8000),
                ..Backoff::default()
            },
            restart_limit: Some(RestartLimit { count: 7, window: Some(Millis(6000)) }),
            grace: Millis(1),
            spare: true,
            ..PodTemplate::default()
        };
        assert_eq!(applied.template, expected);
    }

    #[test]
    fn how_revisions_follow_each_other() {
        let text = "apiVersion: orun.dev/v1
kind: Workload
metadata: {name: web}
spec:
  bundle: /b
  strategy: {rollingUpdate: {maxSurge: 50%, maxUnavailable: 2}}
  minReadySeconds: 3
  progressDeadlineSeconds: 1m
  failureAction: rollback
  maxFailures: 20%
  rollback: {rollingUpdate: {maxUnavailable: 0}, failureAction: pause, maxFailures: 1}
  paused: true
  revisionHistoryLimit: 4
";
        let w = read::read("f", text, Some(Path::new("/"))).workloads().unwrap().remove(0);
        let ChangeRequest::Apply(applied) = apply(&w, "f") else { panic!() };
        assert_eq!((applied.cause.as_str(), applied.paused), ("apply f", Some(true)));
        let strategy = Strategy {
            recreate: false,
            max_surge: IntOrPercent::Percent(50),
            max_unavailable: IntOrPercent::Int(2),
            min_ready: Some(Millis(3000)),
            progress_deadline: Some(Millis(60_000)),
            on_failure: FailureAction::Rollback,
            max_failures: IntOrPercent::Percent(20),
            back: Some(Back {
                max_surge: IntOrPercent::Percent(25),
                max_unavailable: IntOrPercent::Int(0),
                min_ready: None,
                on_failure: FailureAction::Pause,
                max_failures: IntOrPercent::Int(1),
            }),
            history_limit: Some(4),
        };
        assert_eq!(applied.strategy, strategy);
    }

    #[test]
    fn what_the_file_does_not_limit_is_the_bundles() {
        assert_eq!(resources(&Resources::default(), None), None);
        let limits = Limits { cpu: Some(MilliCpu(1500)), ..Limits::default() };
        let only = Resources { limits, ..Resources::default() };
        assert_eq!(resources(&only, None), Some(json!({"cpu": {"quota": 150_000, "period": 100_000}})));
        let requests = Limits { cpu: Some(MilliCpu(1)), memory: Some(Bytes(7)), ..Limits::default() };
        let only = Resources { requests, ..Resources::default() };
        let expected = json!({"cpu": {"shares": 2}, "memory": {"reservation": 7}});
        assert_eq!(
            resources(&only, None),
            Some(expected),
            "a request is a weight, and memory that is taken last"
        );
    }
}
