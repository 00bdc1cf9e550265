//! Kept objects for people: ConfigMaps, Secrets, claims and Services. What a Secret holds is never shown, only its size;
//! `-o yaml` and `-o json` print it in base64, as kubectl does.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write;

use super::args::Output;
use super::connection::{Call, encoded};
use super::render::{Row, since};
use crate::api::types::KeptAnswer;
use crate::workload::KeptKind;

/// The path of an object.
pub fn path(kind: KeptKind, name: &str) -> String {
    format!("/v1/objects/{}/{}", kind.word(), encoded(name))
}

/// All objects of a kind.
pub fn list(kind: KeptKind) -> Call {
    Call::get("/v1/objects").with("kind", kind.word())
}

/// A list of objects of one kind, which have the columns of that kind.
macro_rules! rows {
    ($($row:ident: $kind:ident),*) => {
        $(
            #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
            #[serde(transparent)]
            pub struct $row(pub KeptAnswer);

            impl Row for $row {
                fn head(wide: bool) -> Vec<&'static str> {
                    head(KeptKind::$kind, wide)
                }

                fn row(&self, wide: bool, now: u64) -> Vec<String> {
                    row(&self.0, wide, now)
                }

                fn name(&self) -> String {
                    format!("{}/{}", KeptKind::$kind.word(), self.0.object.metadata.name)
                }

                fn key(&self) -> u64 {
                    self.0.status.uid
                }

                fn labels(&self) -> &BTreeMap<String, String> {
                    &self.0.object.metadata.labels
                }
            }
        )*
    };
}

rows!(ConfigMapRow: ConfigMap, ClaimRow: PersistentVolumeClaim, SecretRow: Secret, ServiceRow: Service);

fn head(kind: KeptKind, wide: bool) -> Vec<&'static str> {
    match kind {
        KeptKind::ConfigMap => vec!["NAME", "DATA", "AGE"],
        KeptKind::Secret => vec!["NAME", "TYPE", "DATA", "AGE"],
        KeptKind::PersistentVolumeClaim => vec!["NAME", "AGE"],
        KeptKind::Service if wide => {
            vec!["NAME", "TYPE", "CLUSTER-IP", "PORT(S)", "ENDPOINTS", "AGE", "SELECTOR"]
        }
        KeptKind::Service => vec!["NAME", "TYPE", "CLUSTER-IP", "PORT(S)", "ENDPOINTS", "AGE"],
    }
}

fn row(o: &KeptAnswer, wide: bool, now: u64) -> Vec<String> {
    let object = &o.object;
    let (name, age) = (object.metadata.name.clone(), since(&o.status.created, now));
    let count = || object.data().len().to_string();
    let text = |name: &str, default: &str| object.text(name).unwrap_or(default).to_owned();
    match object.kind {
        KeptKind::ConfigMap => vec![name, count(), age],
        KeptKind::Secret => vec![name, text("type", "Opaque"), count(), age],
        KeptKind::PersistentVolumeClaim => vec![name, age],
        KeptKind::Service => {
            let (address, endpoints) = (address(o), endpoints(o, ENDPOINTS_SHOWN));
            let mut row = vec![name, text("type", "ClusterIP"), address, ports(o), endpoints, age];
            row.extend(wide.then(|| pairs(&o.spec()["selector"])));
            row
        }
    }
}

impl KeptAnswer {
    fn spec(&self) -> &Value {
        self.object.fields.get("spec").unwrap_or(&Value::Null)
    }
}

fn pairs(map: &Value) -> String {
    let pairs = map.as_object().into_iter().flatten();
    pairs.map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or_default())).collect::<Vec<_>>().join(",")
}

/// How many endpoints a row has.
const ENDPOINTS_SHOWN: usize = 3;

fn address(o: &KeptAnswer) -> String {
    let own = o.status.service.as_ref().and_then(|s| s.address.clone());
    own.unwrap_or_else(|| "None".to_owned())
}

fn endpoints(o: &KeptAnswer, most: usize) -> String {
    let list = o.status.service.as_ref().map_or(&[][..], |s| &s.endpoints);
    let shown = list.iter().take(most).cloned().collect::<Vec<_>>().join(",");
    match list.len() {
        0 => "<none>".to_owned(),
        n if n > most => format!("{shown} + {} more", n - most),
        _ => shown,
    }
}

/// `80:30080/TCP` for each port, as kubectl writes it.
fn ports(o: &KeptAnswer) -> String {
    let nodes = o.object.text("type") == Some("NodePort");
    let opened = o.status.service.as_ref().map_or(&[][..], |s| &s.host_ports);
    let list = o.spec()["ports"].as_array().map_or(&[][..], Vec::as_slice);
    let asked: Vec<u64> = list.iter().filter_map(|p| p["nodePort"].as_u64()).filter(|n| *n > 0).collect();
    // Those that orund has chosen, in the order of the file.
    let mut chosen = opened.iter().map(|n| u64::from(*n)).filter(|n| nodes && !asked.contains(n));
    let mut one = |p: &Value| {
        let node = p["nodePort"].as_u64().filter(|n| *n > 0).or_else(|| chosen.next());
        let node = node.map(|n| format!(":{n}")).unwrap_or_default();
        format!("{}{node}/{}", p["port"], p["protocol"].as_str().unwrap_or("TCP"))
    };
    let list: Vec<String> = list.iter().map(&mut one).collect();
    if list.is_empty() { "<none>".to_owned() } else { list.join(",") }
}

/// `describe`.
pub fn describe(o: &KeptAnswer, now: u64) -> String {
    let mut text = String::new();
    let object = &o.object;
    let mut field = |name: &str, value: String| {
        let _ = writeln!(text, "{:14}{}", format!("{name}:"), crate::log::printable(&value));
    };
    field("Name", object.metadata.name.clone());
    field("Kind", object.kind.name().to_owned());
    let joined = |map: &BTreeMap<String, String>| {
        map.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(", ")
    };
    if !object.metadata.labels.is_empty() {
        field("Labels", joined(&object.metadata.labels));
    }
    field("Age", since(&o.status.created, now));
    field("Generation", o.status.generation.to_string());
    if object.is_immutable() {
        field("Immutable", "true".to_owned());
    }
    match object.kind {
        KeptKind::Secret => field("Type", object.text("type").unwrap_or("Opaque").to_owned()),
        KeptKind::Service => {
            field("Type", object.text("type").unwrap_or("ClusterIP").to_owned());
            field("Selector", pairs(&o.spec()["selector"]));
            field("Address", address(o));
            field("Ports", ports(o));
            field("Endpoints", endpoints(o, usize::MAX));
            if let Some(problem) = o.status.service.as_ref().and_then(|s| s.problem.clone()) {
                field("Problem", problem);
            }
        }
        KeptKind::PersistentVolumeClaim | KeptKind::ConfigMap => {}
    }
    for (key, bytes) in object.data() {
        let shown = std::str::from_utf8(&bytes).ok().filter(|_| object.kind == KeptKind::ConfigMap);
        let _ = match shown {
            None => writeln!(text, "{key}: {} bytes", bytes.len()),
            Some(value) => {
                let lines = value.lines().map(|l| format!("  {}\n", crate::log::printable(l)));
                writeln!(text, "{key}:\n{}", lines.collect::<String>().trim_end_matches('\n'))
            }
        };
    }
    text
}

/// Rows of a table whose names have their kinds before them.
pub fn with_kinds<T: Row>(items: &[T], output: Option<Output>) -> String {
    let mut cells = super::render::cells(items, output == Some(Output::Wide), true);
    for (cell, item) in cells.iter_mut().skip(1).zip(items) {
        cell[0] = item.name();
    }
    super::render::table(&cells)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::types::{KeptStatus, ServiceStatus};
    use crate::workload::{Object, read};

    fn answer(text: &str) -> KeptAnswer {
        let Object::Kept(object) = read("f", text, None).objects.remove(0) else { panic!() };
        let created = "2026-01-01T00:00:00Z".to_owned();
        KeptAnswer { object, status: KeptStatus { uid: 1, generation: 2, created, service: None } }
    }

    #[test]
    fn a_secret_is_shown_without_what_it_holds() {
        let secret = answer(
            "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {pw: hunter2, user: \"\\e[31m\"}\n",
        );
        let now = super::super::render::seconds("2026-01-01T00:01:00Z").unwrap();
        assert_eq!(row(&secret, true, now), ["s", "Opaque", "2", "60s"]);
        let text = describe(&secret, now);
        assert!(text.contains("pw: 7 bytes\nuser: 5 bytes\n") && !text.contains("hunter2"), "{text}");
        let map = answer(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {a.conf: \"x=1\\ny=2\\n\"}\n",
        );
        assert!(describe(&map, now).ends_with("a.conf:\n  x=1\n  y=2\n"), "{}", describe(&map, now));
    }

    #[test]
    fn a_service_is_shown_with_its_ports() {
        let service = answer(
            "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {selector: {app: web}, type: NodePort, ports: [{port: 80, nodePort: 30080}, {port: 53, protocol: UDP}]}\n",
        );
        let cells = ["NodePort", "None", "80:30080/TCP,53/UDP", "<none>"];
        assert_eq!(row(&service, true, 0)[1..5], cells);
        assert_eq!(row(&service, true, 0)[6], "app=web");
        let mut service = service;
        service.status.service = Some(ServiceStatus {
            address: Some("10.89.224.2".to_owned()),
            host_ports: vec![30080, 31000],
            endpoints: (2..7).map(|n| format!("10.89.0.{n}:8080")).collect(),
            problem: Some("port 30080/tcp: process 7 (nginx) has it open".to_owned()),
        });
        assert_eq!(row(&service, false, 0)[2..4], ["10.89.224.2", "80:30080/TCP,53:31000/UDP"]);
        assert_eq!(row(&service, false, 0)[4], "10.89.0.2:8080,10.89.0.3:8080,10.89.0.4:8080 + 2 more");
        let text = describe(&service, 0);
        assert!(text.contains("10.89.0.6:8080\n") && text.contains("process 7 (nginx)"), "{text}");
    }
}
