//! Hooks and probes of containers: what Kubernetes demands of them.

use core::net::IpAddr;
use core::time::Duration;

use super::health_check::HealthCheck;
use super::model::{Container, Lifecycle};
use super::probe::{ExecAction, Handler, HttpGet, PortRef, Probe};
use super::semantic::Pod;
use crate::config::document::reader::similar;

impl PortRef {
    /// The number. None: there is no such port.
    pub fn resolve(&self, c: &Container) -> Option<u16> {
        let number = |n: i64| u16::try_from(n).ok().filter(|n| *n > 0);
        match self {
            PortRef::Number(n) => number(*n),
            PortRef::Name(name) => {
                let named = c.ports.iter().find(|p| p.name.as_ref() == Some(name));
                named.map(|p| p.container_port).or_else(|| number(name.parse().ok()?))
            }
        }
    }
}

/// The longest name of a service that is asked about.
const LONGEST_SERVICE: usize = 1024;

/// The address that a host stands for. None: it would have to be looked up.
pub fn host(text: &str) -> Option<IpAddr> {
    match text {
        "localhost" => Some(IpAddr::V4(core::net::Ipv4Addr::LOCALHOST)),
        text => text.trim_start_matches('[').trim_end_matches(']').parse().ok(),
    }
}

impl Container {
    /// Gives it the probes of a health check: a readiness probe, and, where an unhealthy container is restarted, a
    /// liveness probe. In the start period, and until one that others wait for is healthy, a startup probe takes their place. None without a command.
    pub fn set_health_check(&mut self, check: &HealthCheck) {
        if check.command.is_empty() {
            return;
        }
        let second = Duration::from_secs(1);
        let interval = check.interval.unwrap_or(30 * second);
        let retries = check.retries.unwrap_or(3).max(1);
        let probe = Probe {
            exec: Some(ExecAction { command: check.command.clone() }),
            period_seconds: Some(whole(interval)),
            timeout_seconds: Some(whole(check.timeout.unwrap_or(30 * second))),
            failure_threshold: Some(retries),
            ..Probe::default()
        };
        let start = check.start_period.unwrap_or_default();
        if (!start.is_zero() || check.gate) && check.restart {
            let period = check.start_interval.unwrap_or(5 * second).max(second).min(interval.max(second));
            let all = interval.saturating_mul(retries.min(1 << 16)).saturating_add(start);
            let count = all.as_secs().div_ceil(u64::from(whole(period)));
            self.startup_probe = Some(Probe {
                period_seconds: Some(whole(period)),
                failure_threshold: Some(u32::try_from(count).unwrap_or(u32::MAX).max(1)),
                ..probe.clone()
            });
        }
        self.liveness_probe = check.restart.then(|| probe.clone());
        self.readiness_probe = Some(probe);
    }
}

/// Whole seconds, at least one.
fn whole(d: Duration) -> u32 {
    let up = d.as_secs().saturating_add(u64::from(d.subsec_nanos() > 0));
    u32::try_from(up).unwrap_or(u32::MAX).max(1)
}

impl Pod<'_, '_, '_> {
    /// The hooks and probes of `c`, which is at `at`.
    pub fn health(&mut self, at: &str, c: &Container) {
        let Lifecycle { post_start, pre_stop, .. } = &c.lifecycle;
        for (field, hook) in [("postStart", post_start), ("preStop", pre_stop)] {
            let Some(Handler { exec, http_get, sleep }) = hook else { continue };
            let path = format!("{at}.lifecycle.{field}");
            let there = [exec.is_some(), http_get.is_some(), sleep.is_some()];
            self.one_handler(&path, &there, "exec, httpGet or sleep");
            self.command(&path, exec.as_ref());
            self.http(&path, c, http_get.as_ref());
        }
        let probes = [
            ("startupProbe", &c.startup_probe),
            ("readinessProbe", &c.readiness_probe),
            ("livenessProbe", &c.liveness_probe),
        ];
        for (field, probe) in probes {
            let Some(probe) = probe else { continue };
            let path = format!("{at}.{field}");
            let there = [
                probe.exec.is_some(),
                probe.http_get.is_some(),
                probe.tcp_socket.is_some(),
                probe.grpc.is_some(),
            ];
            self.one_handler(&path, &there, "exec, httpGet, tcpSocket or grpc");
            self.command(&path, probe.exec.as_ref());
            self.http(&path, c, probe.http_get.as_ref());
            if let Some(tcp) = &probe.tcp_socket {
                self.port(&format!("{path}.tcpSocket.port"), c, &tcp.port);
                self.host(&format!("{path}.tcpSocket.host"), tcp.host.as_deref(), None);
            }
            if probe.grpc.as_ref().and_then(|g| g.service.as_ref()).is_some_and(|s| s.len() > LONGEST_SERVICE)
            {
                let message = format!("service must have at most {LONGEST_SERVICE} bytes");
                self.error(&format!("{path}.grpc.service"), message, None);
            }
            self.numbers(&path, field, probe);
        }
    }

    fn one_handler(&mut self, path: &str, there: &[bool], what: &str) {
        // One that is not supported has an error of its own.
        if self.has(&format!("{path}.tcpSocket")) && !there.contains(&true) {
            return;
        }
        match there.iter().filter(|there| **there).count() {
            1 => {}
            0 => self.error(path, format!("it must have {what}"), None),
            _ => self.error(path, format!("it must have only one of {what}"), None),
        }
    }

    fn command(&mut self, path: &str, exec: Option<&ExecAction>) {
        if exec.is_some_and(|e| e.command.first().is_none_or(String::is_empty)) {
            self.error(&format!("{path}.exec.command"), "command must begin with a program", None);
        }
    }

    fn http(&mut self, path: &str, c: &Container, http: Option<&HttpGet>) {
        let Some(http) = http else { return };
        let path = format!("{path}.httpGet");
        self.port(&format!("{path}.port"), c, &http.port);
        let hint =
            "a server with several names is asked by its name in httpHeaders: `- {name: Host, value: NAME}`";
        self.host(&format!("{path}.host"), http.host.as_deref(), Some(hint));
        if http.path.as_ref().is_some_and(|p| !p.bytes().all(|b| b.is_ascii_graphic())) {
            let message = "path must be printable ASCII without spaces";
            self.error(&format!("{path}.path"), message, Some("write %20 for a space".to_owned()));
        }
        for (n, header) in http.http_headers.iter().enumerate() {
            let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
            let at = format!("{path}.httpHeaders[{n}]");
            if header.name.is_empty() || !header.name.bytes().all(token) {
                let message = format!("{:?} is not a valid name of a header", header.name);
                self.error(&format!("{at}.name"), message, None);
            }
            if header.value.chars().any(char::is_control) {
                self.error(&format!("{at}.value"), "the value must not have control characters", None);
            }
        }
    }

    fn port(&mut self, path: &str, c: &Container, port: &PortRef) {
        if port.resolve(c).is_some() {
            return;
        }
        let PortRef::Name(name) = port else {
            return self.error(path, "port must be from 1 to 65535", None);
        };
        let names: Vec<&str> = c.ports.iter().filter_map(|p| p.name.as_deref()).collect();
        let hint = match similar(name, &names) {
            Some(meant) => format!("did you mean {meant:?}?"),
            None => format!("write its number, or add `- {{name: {name}, containerPort: NUMBER}}` to ports"),
        };
        self.error(path, format!("no port of the container has the name {name:?}"), Some(hint));
    }

    fn host(&mut self, path: &str, text: Option<&str>, hint: Option<&str>) {
        if text.is_some_and(|text| !text.is_empty() && host(text).is_none()) {
            let message = "host must be an address: names are not looked up in the container's network";
            self.error(path, message, hint.map(str::to_owned));
        }
    }

    fn numbers(&mut self, path: &str, field: &str, probe: &Probe) {
        if field != "readinessProbe" && probe.success_threshold.is_some_and(|n| n != 1) {
            let message = format!("successThreshold of {field} must be 1");
            self.error(&format!("{path}.successThreshold"), message, None);
        }
        if field == "readinessProbe" && probe.termination_grace_period_seconds.is_some() {
            let path = format!("{path}.terminationGracePeriodSeconds");
            self.error(&path, "a readinessProbe does not stop containers: it has no grace period", None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_without_bounds_are_no_overflow() {
        let long = Some(Duration::MAX);
        let check = HealthCheck {
            command: vec!["/up".into()],
            interval: long,
            timeout: long,
            start_period: long,
            start_interval: long,
            retries: Some(u32::MAX),
            restart: true,
            gate: false,
        };
        let mut c = Container::default();
        c.set_health_check(&check);
        let startup = c.startup_probe.unwrap();
        assert_eq!((startup.period_seconds, startup.failure_threshold), (Some(u32::MAX), Some(u32::MAX)));
    }
}
