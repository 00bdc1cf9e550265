//! Published ports, and the barrier before a stop, by scenarios.

use super::*;
use crate::supervisor::core::endpoints;
use crate::supervisor::core::ids::ReplicaKey;
use crate::supervisor::core::ports::{HostPort, PublishedPort};
use crate::supervisor::core::publication::{self, RouteOptions, Taken};
use crate::supervisor::core::spec::SandboxSpec;
use crate::workload::kept::KeptObject;
use std::collections::BTreeSet;

fn host() -> HostPort {
    HostPort { port: 80, ..HostPort::default() }
}

fn web() -> PodTemplate {
    let ports = vec![PublishedPort { host: host(), port: 8080 }];
    PodTemplate { sandbox: Some(SandboxSpec::default()), ports, ..template() }
}

/// A pod that runs and is in a map that the proxy uses.
fn published() -> Bench {
    let mut b = Bench::new();
    assert_eq!(names(&b.change(apply(1, web(), one_by_one()))), ["publish", "make sandbox"]);
    assert_eq!(b.observed.endpoints.map[0].targets, [], "the port is open before there is a replica");
    let replica = b.observed.replicas().next().unwrap().0;
    b.event(Event::SandboxMade { replica, address: Some("10.0.0.2".to_owned()) });
    b.run_all();
    acknowledge(&mut b);
    let target = &b.observed.endpoints.map[0].targets[0];
    assert_eq!((target.replica, target.address.as_str(), target.port), (replica, "10.0.0.2", 8080));
    b
}

fn acknowledge(b: &mut Bench) -> Vec<Action> {
    let generation = b.observed.endpoints.generation;
    b.event(Event::Published { generation, taken: Vec::new() })
}

#[test]
fn nobody_is_asked_to_end_before_the_proxy_has_confirmed() {
    let mut b = published();
    let key = b.keys()[0];
    assert_eq!(names(&b.change(Change::Delete { workload: WEB, grace: None })), ["publish"]);
    // An earlier map is confirmed: it has the replica.
    let old = b.observed.endpoints.generation - 1;
    assert!(b.event(Event::Published { generation: old, taken: Vec::new() }).is_empty());
    assert!(b.pass(500).is_empty());
    assert_eq!(acknowledge(&mut b), [Action::Signal { key, signal: libc::SIGTERM }]);
    assert!(!b.reasons.contains(&Reason::PublishSlow));
}

#[test]
fn a_proxy_that_does_not_answer_keeps_nobody_for_long() {
    let mut b = published();
    b.change(Change::Delete { workload: WEB, grace: None });
    assert!(b.pass(999).is_empty());
    assert_eq!(names(&b.pass(1)), ["signal"]);
    assert!(b.reasons.contains(&Reason::PublishSlow));
    // It is sent again until it is confirmed.
    assert_eq!(names(&b.pass(4_000)), ["publish"]);
    acknowledge(&mut b);
    assert!(b.pass(4_999).is_empty());
}

#[test]
fn a_proxy_that_never_answers_costs_no_memory() {
    let mut b = published();
    b.change(apply(1, PodTemplate { ports: Vec::new(), ..web() }, one_by_one()));
    let sent = b.observed.endpoints.generation;
    for _ in 0..20 {
        b.pass(5_000);
    }
    assert_eq!(b.observed.endpoints.generation, sent, "it is the same map that is sent again");
    assert!(b.observed.endpoints.in_use.len() <= 2, "{:?}", b.observed.endpoints.in_use);
    // Readiness that flips.
    let map = |serials: &[u64]| {
        let replica = |serial| publication::Target {
            replica: ReplicaKey { workload: WEB, slot: 0, serial },
            address: "10.0.0.2".to_owned(),
            port: 8080,
        };
        let targets = serials.iter().map(|s| replica(*s)).collect();
        vec![publication::Route {
            workload: WEB,
            service: None,
            host: host(),
            targets,
            options: RouteOptions::default(),
        }]
    };
    let mut e = publication::Endpoints::default();
    for n in 0..50 {
        e.send(2 * n + 1, &map(&[1, 2]), &[], b.now);
        e.send(2 * n + 2, &map(&[2]), &[], b.now);
    }
    assert_eq!((e.in_use.len(), e.exposed()), (2, BTreeSet::from([1, 2])));
    e.acknowledge(98, &[]);
    assert_eq!(e.exposed(), BTreeSet::from([1, 2]), "the map after that has 1 again");
    e.acknowledge(100, &[]);
    assert_eq!(e.exposed(), BTreeSet::from([2]));
    // Replicas come and go.
    for n in 101..200 {
        e.send(n, &map(&[n]), &[], b.now);
        e.forget(n);
    }
    assert!(e.in_use.len() <= 2, "{:?}", e.in_use);
}

#[test]
fn a_port_belongs_to_the_older_workload() {
    let mut b = published();
    let Change::Apply { template, replicas, strategy, controller, source, stamp, paused, .. } =
        apply(1, web(), one_by_one())
    else {
        unreachable!()
    };
    let name = "other".to_owned();
    b.change(Change::Apply { name, template, replicas, strategy, controller, source, stamp, paused });
    let other = WorkloadId(2);
    let error = "workload \"web\" publishes it".to_owned();
    assert_eq!(endpoints::taken(&b.desired, &b.observed, other), [Taken { host: host(), error }]);
    assert_eq!(endpoints::taken(&b.desired, &b.observed, WEB), []);
    let taken = vec![Taken { host: host(), error: "process 7 (nginx) has it open".to_owned() }];
    let generation = b.observed.endpoints.generation;
    b.event(Event::Published { generation, taken: taken.clone() });
    assert_eq!(endpoints::taken(&b.desired, &b.observed, WEB), taken);
    assert_eq!(b.reasons.iter().filter(|r| **r == Reason::PortTaken).count(), 1);
    b.event(Event::Published { generation, taken });
    assert_eq!(b.reasons.iter().filter(|r| **r == Reason::PortTaken).count(), 1, "reported once");
    b.change(Change::Delete { workload: WEB, grace: Some(Millis(0)) });
    assert_eq!(b.observed.endpoints.map[0].workload, other);
}

/// A service for pods with the label `app: web`.
fn service(name: &str, spec: serde_json::Value) -> Change {
    let fields = serde_json::json!({"spec": spec}).as_object().unwrap().clone();
    let metadata = crate::workload::model::Metadata { name: name.to_owned(), ..Default::default() };
    let object = KeptObject { api_version: "v1".to_owned(), kind: KeptKind::Service, metadata, fields };
    Change::Keep { object: Box::new(object), stamp: Stamp::default() }
}

/// The published routes, as `PORT ADDRESS:PORT`.
fn published_ports(b: &Bench) -> Vec<String> {
    let text = |r: &publication::Route| {
        let targets: Vec<String> = r.targets.iter().map(|t| format!("{}:{}", t.address, t.port)).collect();
        format!("{} {}", r.host, targets.join(","))
    };
    let of_host = |r: &&publication::Route| r.host.address.is_none();
    b.observed.endpoints.map.iter().filter(of_host).map(text).collect()
}

#[test]
fn services_lead_to_the_ready_pods_that_they_select() {
    let selector = serde_json::json!({"app": "web"});
    let mut b = Bench::new();
    let mut pod = web();
    pod.ports.clear();
    let config = serde_json::json!({"metadata": {"labels": {"app": "web", "tier": "front"}}});
    pod.sandbox = Some(SandboxSpec { config });
    let port = serde_json::json!({"containerPort": 8080, "name": "http"});
    let main = serde_json::json!({"name": "main", "ports": [port]});
    pod.containers[0].launch.container = serde_json::from_value(main).unwrap();
    b.change(service(
        "front",
        serde_json::json!({"type": "LoadBalancer", "selector": selector, "ports": [{"port": 80, "targetPort": "http"}]}),
    ));
    assert_eq!(published_ports(&b), Vec::<String>::new(), "nobody is behind it");
    b.change(apply(1, pod, one_by_one()));
    assert_eq!(published_ports(&b), ["tcp *:80 "]);
    let replica = b.observed.replicas().next().unwrap().0;
    b.event(Event::SandboxMade { replica, address: Some("10.0.0.2".to_owned()) });
    b.run_all();
    assert_eq!(published_ports(&b), ["tcp *:80 10.0.0.2:8080"]);
    // Pods reach it by an address of its own, too.
    let own: Vec<_> = b.observed.endpoints.map.iter().filter(|r| r.host.address.is_some()).collect();
    assert_eq!((own.len(), own[0].host.to_string()), (1, "tcp service/1:80".to_owned()));
    assert_eq!(own[0].targets[0].address, "10.0.0.2");
    acknowledge(&mut b);
    let open = serde_json::json!([{"port": 53, "protocol": "UDP", "nodePort": 30053}, {"port": 9000}]);
    b.change(service("node", serde_json::json!({"type": "NodePort", "selector": selector, "ports": open})));
    let all = published_ports(&b);
    assert_eq!(all[1], "udp *:30053 10.0.0.2:53");
    let chosen: u16 = all[2].trim_start_matches("tcp *:").split(' ').next().unwrap().parse().unwrap();
    assert!((30_000..=32_767).contains(&chosen) && all[2].ends_with(" 10.0.0.2:9000"), "{all:?}");
    let other = serde_json::json!({"app": "other"});
    for spec in [
        serde_json::json!({"type": "NodePort", "selector": other, "ports": [{"port": 1}]}),
        serde_json::json!({"type": "NodePort", "ports": [{"port": 1}]}),
        serde_json::json!({"selector": selector, "ports": [{"port": 1}]}),
    ] {
        b.change(service("third", spec));
        assert_eq!(published_ports(&b), all);
    }
    acknowledge(&mut b);
    let key = b.keys()[0];
    assert_eq!(names(&b.change(Change::Delete { workload: WEB, grace: None })), ["publish"]);
    assert_eq!(acknowledge(&mut b), [Action::Signal { key, signal: libc::SIGTERM }]);
}

#[test]
fn names_lead_to_ready_pods_and_nobody_ends_while_they_do() {
    let mut b = Bench::new();
    let mut pod = web();
    pod.ports.clear();
    let config = serde_json::json!({"metadata": {"labels": {"app": "web"}}});
    pod.sandbox = Some(SandboxSpec { config });
    let spec = |more: &str| {
        let mut spec = serde_json::json!({"clusterIP": "None", "selector": {"app": "web"}});
        spec.as_object_mut().unwrap().insert(more.to_owned(), true.into());
        spec
    };
    b.change(service("web", spec("x")));
    b.change(service("early", spec("publishNotReadyAddresses")));
    let named = |b: &Bench| -> Vec<String> {
        let text = |n: &publication::Name| {
            let pods = n.pods.iter().map(|p| format!(" {} {}", p.host, p.address));
            format!("{}{}", n.service, pods.collect::<String>())
        };
        b.observed.endpoints.names.iter().map(text).collect()
    };
    b.change(apply(1, pod, one_by_one()));
    let replica = b.observed.replicas().next().unwrap().0;
    b.event(Event::SandboxMade { replica, address: Some("10.0.0.2".to_owned()) });
    assert_eq!(named(&b), ["early web-0 10.0.0.2", "web"]);
    b.run_all();
    acknowledge(&mut b);
    assert_eq!(named(&b), ["early web-0 10.0.0.2", "web web-0 10.0.0.2"]);
    let key = b.keys()[0];
    assert_eq!(names(&b.change(Change::Delete { workload: WEB, grace: None })), ["publish"]);
    assert_eq!(named(&b), ["early", "web"]);
    assert_eq!(acknowledge(&mut b), [Action::Signal { key, signal: libc::SIGTERM }]);
}
