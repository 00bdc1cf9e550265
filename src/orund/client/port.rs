//! `port`: where the ports of a workload or a Service are open.

use super::args::Port;
use super::choose::PortName;
use super::connection::{Call, Client};
use super::lookup;
use super::print;
use crate::api::types::{List, PortObject, WorkloadObject};
use crate::error::{Error, Kind, Result};
use std::fmt::Write;

/// Prints them.
pub async fn port(client: &Client, a: &Port) -> Result<u8> {
    let mut call = Call::get("/v1/ports");
    if let Some(name) = &a.name {
        call = call.with("name", name);
    }
    let mut ports = client.fetch::<List<PortObject>>(call).await?.items;
    let known = ports.iter().any(|p| !p.cluster);
    ports.retain(|p| !p.cluster && a.port.as_ref().is_none_or(|port| leads_to(port, p)));
    let text = match a.json {
        true => serde_json::to_string_pretty(&List { items: ports.clone() }).unwrap_or_default() + "\n",
        false => ports.iter().map(|p| line(p, a)).collect(),
    };
    print(&text)?;
    for (port, problem) in ports.iter().filter_map(|p| Some((p, p.problem.as_ref()?))) {
        crate::log::warn(format!("port {}/{} is not open: {problem}", port.port, port.protocol));
    }
    match (&a.name, &a.port) {
        (Some(name), Some(port)) if ports.is_empty() => {
            let message = format!("{name} publishes no port {}/{}", port.number, port.protocol);
            Err(Error::new(Kind::NotFound, message).hint(format!("list all: orund port {name}")))
        }
        (Some(name), None) if !known => nothing(client, name).await,
        _ => Ok(0),
    }
}

/// Whether `p` leads to this port of replicas.
fn leads_to(port: &PortName, p: &PortObject) -> bool {
    p.target_port == Some(port.number) && p.protocol == port.protocol
}

/// Why there is nothing to print.
async fn nothing(client: &Client, name: &str) -> Result<u8> {
    // For the words of its error.
    let w: WorkloadObject = client.fetch(Call::get(lookup::path(name))).await?;
    let message = match w.workload.spec.replicas {
        0 => format!("workload {name:?} has no replicas: its ports are closed"),
        _ => format!("workload {name:?} publishes no ports"),
    };
    Err(Error::new(Kind::NotFound, message).hint("set hostPort of a container's port, or add a Service"))
}

/// `8080/tcp -> 0.0.0.0:80`, as Docker writes it; for a port that was named only where it is open.
fn line(p: &PortObject, a: &Port) -> String {
    let mut text = String::new();
    if a.name.is_none() {
        let _ = match (&p.workload, &p.service) {
            (Some(name), _) => write!(text, "workload/{name} "),
            (None, Some(name)) => write!(text, "service/{name} "),
            (None, None) => Ok(()),
        };
    }
    if a.port.is_none() {
        let target = p.target_port.map_or("?".to_owned(), |n| n.to_string());
        let _ = write!(text, "{target}/{} -> ", p.protocol);
    }
    let address = p.address.as_deref().unwrap_or("0.0.0.0");
    let open = if address.contains(':') {
        format!("[{address}]:{}", p.port)
    } else {
        format!("{address}:{}", p.port)
    };
    text + &open + if p.problem.is_some() { " (not open)\n" } else { "\n" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_written_as_docker_does() {
        let port = |address: Option<&str>, target_port| PortObject {
            workload: Some("web".to_owned()),
            protocol: "tcp".to_owned(),
            address: address.map(str::to_owned),
            port: 80,
            target_port,
            ..PortObject::default()
        };
        let all = Port { name: None, port: None, json: false };
        let one = Port { name: Some("web".to_owned()), ..all.clone() };
        let of_port = Port { port: Some("8080".parse().unwrap()), ..one.clone() };
        assert_eq!(line(&port(None, Some(8080)), &all), "workload/web 8080/tcp -> 0.0.0.0:80\n");
        assert_eq!(line(&port(Some("::1"), None), &one), "?/tcp -> [::1]:80\n");
        assert_eq!(line(&port(None, Some(8080)), &of_port), "0.0.0.0:80\n");
        let taken = PortObject { problem: Some("taken".to_owned()), ..port(None, Some(8080)) };
        assert_eq!(line(&taken, &of_port), "0.0.0.0:80 (not open)\n");
        for bad in ["", "0", "80/sctp", "a", "70000"] {
            assert!(bad.parse::<PortName>().is_err(), "{bad}");
        }
    }
}
