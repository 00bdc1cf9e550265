//! The order of services that are one pod.

use super::*;
use crate::workload::model::Container;

/// The containers that start first, those after them, and the findings.
fn pod(text: &str) -> (Vec<Container>, Vec<String>, Vec<String>) {
    let found = project(&[text], &Memory::default(), Options::default());
    let said = findings(&found);
    let first = found.files.iter().flat_map(|(_, read)| &read.objects).find_map(|o| match o {
        Object::Workload { workload, .. } => Some(workload.spec.clone()),
        Object::Kept(_) | Object::Inert { .. } => None,
    });
    let spec = first.unwrap();
    (spec.init_containers, spec.containers.into_iter().map(|c| c.name).collect(), said)
}

#[test]
fn what_is_waited_for_in_a_pod_starts_first() {
    let text = "services:
  vpn:
    image: v
    restart: always
    depends_on: {setup: {condition: service_completed_successfully}}
    healthcheck: {test: 'true', interval: 10s, retries: 4}
  setup: {image: s, network_mode: 'service:vpn', healthcheck: {test: 'true'}}
  cache: {image: c, network_mode: 'service:vpn', restart: always, depends_on: {vpn: {condition: service_healthy}}}
  web: {image: w, network_mode: 'service:vpn', restart: unless-stopped, depends_on: [cache]}
";
    let (first, then, said) = pod(text);
    assert_eq!(said, [""; 0]);
    let names: Vec<(&str, Option<RestartPolicy>)> =
        first.iter().map(|c| (c.name.as_str(), c.restart_policy)).collect();
    let always = Some(RestartPolicy::Always);
    assert_eq!(names, [("setup", Some(RestartPolicy::Never)), ("vpn", always), ("cache", always)]);
    assert_eq!(then, ["web"]);
    // It is waited for until it is healthy: 4 times 10 seconds, in steps of 5.
    let startup = first[1].startup_probe.as_ref().unwrap();
    assert_eq!((startup.period_seconds, startup.failure_threshold), (Some(5), Some(8)));
    assert!(first[1].readiness_probe.is_some() && first[1].engine.image_health_check.as_ref().unwrap().gate);
    // Nothing probes what ends, and what only has to start has no gate.
    assert!(first[0].readiness_probe.is_none() && first[0].engine.image_health_check.is_none());
    assert!(first[2].startup_probe.is_none() && !first[2].engine.image_health_check.as_ref().unwrap().gate);
}

#[test]
fn an_order_that_a_pod_cannot_have_is_a_warning() {
    let vpn = |more: &str, web: &str| {
        format!(
            "services:\n  vpn: {{image: v{more}}}\n  web: {{image: w, network_mode: 'service:vpn'{web}}}\n"
        )
    };
    let waits = ", restart: always, depends_on: [vpn]";
    for (text, message) in [
        (
            vpn("", waits),
            "warning: f0.yaml:3:78 depends_on \"vpn\" has no effect: both are one pod, whose containers start \
             together [write `restart: always` at vpn: one that is always restarted is started first]",
        ),
        (
            vpn(", restart: always", ", depends_on: {vpn: {condition: service_completed_successfully}}"),
            "warning: f0.yaml:3:61 depends_on \"vpn\" has no effect: \"vpn\" never completes, as it is always \
             restarted [write `restart: \"no\"` at vpn]",
        ),
        (
            vpn(", restart: always", ", depends_on: [vpn]"),
            "warning: f0.yaml:3:61 depends_on \"vpn\" has no effect: \"vpn\" would be stopped when \"web\" exits \
             [write `restart: always` at web]",
        ),
    ] {
        let (first, then, said) = pod(&text);
        assert_eq!(
            (first.len(), then, said),
            (0, vec!["vpn".to_owned(), "web".into()], vec![message.to_owned()])
        );
    }
    assert_eq!(pod(&vpn(", restart: always", waits)).2, [""; 0]);
}
