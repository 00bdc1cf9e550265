//! Probes as objects of the interface.

use crate::api::types::ProbeObject;
use crate::supervisor::core::checks::ProbeKind;
use crate::supervisor::core::model::Container as Observed;
use crate::supervisor::core::spec::{ContainerSpec, Endpoint, Handler, Probe};
use crate::supervisor::core::time::Millis;

/// The probes of a container as objects of the interface.
pub fn objects(c: &Observed, spec: &ContainerSpec) -> Vec<ProbeObject> {
    let lives = c.lives();
    let health = lives.and_then(|i| i.health.as_deref());
    let of = |kind: ProbeKind| {
        let probe = lives.map_or_else(|| spec.probe(kind), |i| i.probe(spec, kind))?;
        let count = health.and_then(|h| h.count(kind)).cloned().unwrap_or_default();
        let [successes, failures, errors] = count.totals;
        let passed = count.passed;
        Some(ProbeObject {
            kind,
            check: check(probe),
            passed,
            successes,
            failures,
            errors,
            error: count.error,
        })
    };
    ProbeKind::ALL.into_iter().filter_map(of).collect()
}

/// The action of a probe, in kubectl's words.
fn check(probe: &Probe) -> String {
    let at = |e: &Endpoint| format!("{}:{}", e.host.map(|h| h.to_string()).unwrap_or_default(), e.port);
    let what = match &probe.handler {
        Handler::Exec(command) => format!("exec [{}]", command.join(" ")),
        Handler::Http(request) => {
            let scheme = if request.tls { "https" } else { "http" };
            format!("http-get {scheme}://{}{}", at(&request.endpoint), request.path)
        }
        Handler::Grpc(request) => format!("grpc {} {}", at(&request.endpoint), request.service),
        Handler::Tcp(endpoint) => format!("tcp-socket {}", at(endpoint)),
        Handler::Sleep(time) => format!("sleep {time}"),
    };
    let seconds = |m: Millis| format!("{}s", m.0 as f64 / 1000.0);
    format!(
        "{what} delay={} timeout={} period={} #success={} #failure={}",
        seconds(probe.initial_delay),
        seconds(probe.timeout),
        seconds(probe.period),
        probe.success_threshold,
        probe.failure_threshold
    )
}
