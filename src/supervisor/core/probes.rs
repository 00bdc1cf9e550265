//! The hooks and probes of a workload in the words of the core.

use super::spec::{Endpoint, GrpcRequest, Handler, HttpRequest, Probe, Probes};
use super::time::Millis;
use crate::workload::health;
use crate::workload::health_check::HealthCheck;
use crate::workload::model::Container;
use crate::workload::probe::{self as model, ExecAction, HttpGet, PortRef, TcpSocket};

/// Kubernetes' defaults.
const PERIOD: u32 = 10;
const TIMEOUT: u32 = 1;
const FAILURES: u32 = 3;

/// The action of a hook of `c`. None: not possible with a checked file.
pub fn handler(c: &Container, hook: &model::Handler) -> Option<Handler> {
    let sleep = hook.sleep.as_ref().map(|s| Handler::Sleep(Millis::secs(s.seconds.into())));
    decide_probe(c, hook.exec.as_ref(), hook.http_get.as_ref(), None).or(sleep)
}

/// The probes of `c`. None: it has none.
pub fn probes(c: &Container) -> Option<Box<Probes>> {
    let of = |p: &Option<model::Probe>| p.as_ref().and_then(|p| probe(c, p));
    let probes = Probes {
        startup: of(&c.startup_probe),
        readiness: of(&c.readiness_probe),
        liveness: of(&c.liveness_probe),
    };
    (probes != Probes::default()).then(|| Box::new(probes))
}

fn probe(c: &Container, p: &model::Probe) -> Option<Probe> {
    let seconds = |n: Option<u32>, default: u32| Millis::secs(n.unwrap_or(default).into());
    Some(Probe {
        handler: decide_probe(c, p.exec.as_ref(), p.http_get.as_ref(), p.tcp_socket.as_ref())
            .or_else(|| grpc(p))?,
        initial_delay: seconds(p.initial_delay_seconds, 0),
        period: seconds(p.period_seconds, PERIOD),
        timeout: seconds(p.timeout_seconds, TIMEOUT),
        success_threshold: p.success_threshold.unwrap_or(1),
        failure_threshold: p.failure_threshold.unwrap_or(FAILURES),
        grace: p.termination_grace_period_seconds.map(|n| Millis::secs(n.into())),
    })
}

fn grpc(p: &model::Probe) -> Option<Handler> {
    let grpc = p.grpc.as_ref()?;
    let endpoint = Endpoint { host: None, port: grpc.port };
    Some(Handler::Grpc(GrpcRequest { endpoint, service: grpc.service.clone().unwrap_or_default() }))
}

fn decide_probe(
    c: &Container,
    exec: Option<&ExecAction>,
    http: Option<&HttpGet>,
    tcp: Option<&TcpSocket>,
) -> Option<Handler> {
    let endpoint = |host: &Option<String>, port: &PortRef| {
        Some(Endpoint { host: host.as_deref().and_then(health::host), port: port.resolve(c)? })
    };
    if let Some(exec) = exec {
        return Some(Handler::Exec(exec.command.clone()));
    }
    if let Some(http) = http {
        let path = http.path.as_deref().unwrap_or("/");
        return Some(Handler::Http(HttpRequest {
            endpoint: endpoint(&http.host, &http.port)?,
            path: if path.starts_with('/') { path.to_owned() } else { format!("/{path}") },
            headers: http.http_headers.iter().map(|h| (h.name.clone(), h.value.clone())).collect(),
            tls: http.scheme.as_deref() == Some("HTTPS"),
        }));
    }
    tcp.and_then(|tcp| Some(Handler::Tcp(endpoint(&tcp.host, &tcp.port)?)))
}

/// The probes of a health check. None: it has no command.
pub fn of_health_check(check: &HealthCheck) -> Option<Box<Probes>> {
    let mut c = Container::default();
    c.set_health_check(check);
    probes(&c)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::read;

    #[test]
    fn named_ports_are_resolved_and_defaults_are_those_of_kubernetes() {
        let text = "apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  containers:
  - name: app
    image: bundle:/b
    ports: [{name: http, containerPort: 8080}]
    lifecycle: {postStart: {httpGet: {port: http, path: warm}}, preStop: {sleep: {seconds: 5}}}
    readinessProbe: {httpGet: {port: \"9090\", host: \"::1\", scheme: HTTPS, httpHeaders: [{name: Host, value: web}]}}
    livenessProbe: {tcpSocket: {port: http}, periodSeconds: 5, terminationGracePeriodSeconds: 3}
    startupProbe: {exec: {command: [/up, now]}, failureThreshold: 30}
";
        let w = read("f", text, None).workloads().unwrap_or_else(|e| panic!("{e}")).remove(0);
        let c = &w.spec.containers[0];
        let own = |port| Endpoint { host: None, port };
        let warm = HttpRequest { endpoint: own(8080), path: "/warm".into(), headers: vec![], tls: false };
        let hooks = [&c.lifecycle.post_start, &c.lifecycle.pre_stop].map(|h| handler(c, h.as_ref().unwrap()));
        assert_eq!(hooks, [Some(Handler::Http(warm)), Some(Handler::Sleep(Millis::secs(5)))]);
        let probe = |handler| Probe {
            handler,
            initial_delay: Millis(0),
            period: Millis::secs(10),
            timeout: Millis::secs(1),
            success_threshold: 1,
            failure_threshold: 3,
            grace: None,
        };
        let readiness = HttpRequest {
            endpoint: Endpoint { host: "::1".parse().ok(), port: 9090 },
            path: "/".into(),
            headers: vec![("Host".into(), "web".into())],
            tls: true,
        };
        let up = Handler::Exec(vec!["/up".into(), "now".into()]);
        let expected = Probes {
            startup: Some(Probe { failure_threshold: 30, ..probe(up) }),
            readiness: Some(probe(Handler::Http(readiness))),
            liveness: Some(Probe {
                period: Millis::secs(5),
                grace: Some(Millis::secs(3)),
                ..probe(Handler::Tcp(own(8080)))
            }),
        };
        assert_eq!(probes(c), Some(Box::new(expected)));
    }
}
