//! The health check of a container engine.

use core::time::Duration;
use serde::{Deserialize, Serialize};

use crate::config::quantity::seconds;

/// A health check, or what replaces parts of one.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct HealthCheck {
    /// Program and arguments.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// `None`: 30 seconds.
    #[serde(rename = "intervalSeconds", skip_serializing_if = "Option::is_none", with = "seconds::option")]
    pub interval: Option<Duration>,
    /// `None`: 30 seconds.
    #[serde(rename = "timeoutSeconds", skip_serializing_if = "Option::is_none", with = "seconds::option")]
    pub timeout: Option<Duration>,
    /// How long failures do not count after the start. `None`: they always do.
    #[serde(
        rename = "startPeriodSeconds",
        skip_serializing_if = "Option::is_none",
        with = "seconds::option"
    )]
    pub start_period: Option<Duration>,
    /// `None`: 5 seconds.
    #[serde(
        rename = "startIntervalSeconds",
        skip_serializing_if = "Option::is_none",
        with = "seconds::option"
    )]
    pub start_interval: Option<Duration>,
    /// How many failures in a row make a container unhealthy. `None`: 3.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retries: Option<u32>,
    /// An unhealthy container is restarted.
    #[serde(skip_serializing_if = "core::ops::Not::not")]
    pub restart: bool,
    /// Other containers of the pod wait until it is healthy.
    #[serde(skip_serializing_if = "core::ops::Not::not")]
    pub gate: bool,
}

impl HealthCheck {
    /// Whether nothing of another check shows below it.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        let times = [self.interval, self.timeout, self.start_period, self.start_interval];
        !self.command.is_empty() && self.retries.is_some() && times.iter().all(Option::is_some)
    }

    /// The check `below`, with what this one has in its place.
    #[must_use]
    pub fn over(&self, below: &HealthCheck) -> HealthCheck {
        let command = if self.command.is_empty() { &below.command } else { &self.command };
        HealthCheck {
            command: command.clone(),
            interval: self.interval.or(below.interval),
            timeout: self.timeout.or(below.timeout),
            start_period: self.start_period.or(below.start_period),
            start_interval: self.start_interval.or(below.start_interval),
            retries: self.retries.or(below.retries),
            restart: self.restart,
            gate: self.gate,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_field_replaces_one_of_the_other() {
        let span = |s| Some(Duration::from_secs(s));
        let image = HealthCheck {
            command: vec!["/up".into()],
            interval: span(10),
            timeout: span(2),
            start_period: span(60),
            start_interval: None,
            retries: Some(5),
            restart: false,
            gate: false,
        };
        let file = HealthCheck { interval: span(20), restart: true, ..HealthCheck::default() };
        let both = file.over(&image);
        assert_eq!(both, HealthCheck { interval: span(20), restart: true, ..image.clone() });
        let command = vec!["/other".to_owned()];
        let own = HealthCheck { command: command.clone(), ..HealthCheck::default() };
        assert_eq!(own.over(&image), HealthCheck { command, ..image.clone() });
        assert!(!both.is_whole() && HealthCheck { start_interval: span(1), ..image }.is_whole());
    }
}
