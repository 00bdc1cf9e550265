//! `ports` and `expose`: `[[IP:]HOST[-END]:]CONTAINER[-END][/PROTOCOL]`, or a mapping.

use super::load::Loader;
use super::state::Service;
use super::values;
use crate::config::document::Node;
use crate::workload::pod::Port;

/// How many ports an entry may have.
const MOST: u32 = 4096;

/// The ports of a service.
pub fn read(loader: &mut Loader<'_>, s: &mut Service<'_>) {
    let mode = values::text(s.node, "network_mode").unwrap_or_default();
    let host_network = mode == "host";
    let list = values::get(s.node, "ports").map(values::list_or_one).unwrap_or_default();
    for (n, entry) in list.iter().enumerate() {
        let path = s.path(&format!("ports[{n}]"));
        if mode == "none" {
            let hint = "leave the ports or the network_mode out".to_owned();
            let message = "ports cannot be combined with network_mode none";
            loader.error(entry.place, &path, message, Some(hint));
            break;
        }
        match ports(entry) {
            Ok(found) => {
                if found.iter().any(|p| p.host_port.is_none()) {
                    let message =
                        "no port of the host is chosen for it: it is reached by other services only";
                    let hint = format!("write HOST:{}", found[0].container_port);
                    loader.warn(entry.place, &path, message, Some(hint));
                }
                if host_network {
                    let hint = "the program is on the ports of the host already".to_owned();
                    loader.warn(
                        entry.place,
                        &path,
                        "ports have no effect with network_mode host",
                        Some(hint),
                    );
                    continue;
                }
                for port in found {
                    // The same one may be written in two forms.
                    if !s.container.ports.contains(&port) {
                        s.container.ports.push(port);
                    }
                }
            }
            Err((message, hint)) => loader.error(entry.place, &path, message, Some(hint)),
        }
    }
    let list = values::get(s.node, "expose").map(values::list).unwrap_or_default();
    for (n, entry) in list.iter().enumerate() {
        let text = entry.data.text().unwrap_or_default();
        match short(text) {
            Ok(found) => {
                for port in found.into_iter().map(|p| Port { host_port: None, host_ip: None, ..p }) {
                    let same =
                        |p: &Port| p.container_port == port.container_port && p.protocol == port.protocol;
                    if !s.container.ports.iter().any(same) {
                        s.container.ports.push(port);
                    }
                }
            }
            Err((message, hint)) => {
                loader.error(entry.place, &s.path(&format!("expose[{n}]")), message, Some(hint));
            }
        }
    }
}

type Wrong = (String, String);

fn wrong<T>(message: String) -> Result<T, Wrong> {
    Err((message, "write HOST:CONTAINER, as 8080:80, 127.0.0.1:8080:80 or 53:53/udp".to_owned()))
}

fn ports(entry: &Node) -> Result<Vec<Port>, Wrong> {
    if let Some(text) = entry.data.text() {
        return short(text);
    }
    let target = values::text(entry, "target").unwrap_or_default();
    let published = values::text(entry, "published").unwrap_or_default();
    let protocol = values::text(entry, "protocol").unwrap_or("tcp");
    made(values::text(entry, "host_ip"), published, target, protocol)
}

/// The short form.
pub fn short(text: &str) -> Result<Vec<Port>, Wrong> {
    let (rest, protocol) = text.rsplit_once('/').unwrap_or((text, "tcp"));
    let (rest, target) = rest.rsplit_once(':').unwrap_or(("", rest));
    let (address, published) = match rest.rsplit_once(':') {
        Some((address, published)) => (Some(address), published),
        None => (None, rest),
    };
    made(address, published, target, protocol)
}

/// The first and the last of a range.
fn range(text: &str) -> Option<(u32, u32)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let number = |t: &str| t.trim().parse::<u16>().ok().filter(|n| *n > 0).map(u32::from);
    let (first, last) = (number(first)?, number(last)?);
    (first <= last && last - first < MOST).then_some((first, last))
}

fn made(address: Option<&str>, published: &str, target: &str, protocol: &str) -> Result<Vec<Port>, Wrong> {
    let Some((first, last)) = range(target) else {
        return wrong(format!("{target:?} is not a port"));
    };
    let protocol = match protocol.to_ascii_lowercase().as_str() {
        "tcp" => None,
        "udp" => Some("UDP".to_owned()),
        "sctp" => return Err(("SCTP is not supported".to_owned(), "tcp and udp are".to_owned())),
        other => return wrong(format!("unknown protocol {other:?}")),
    };
    let address = address.map(|a| a.trim_start_matches('[').trim_end_matches(']'));
    let address = match address {
        None | Some("") => None,
        Some(a) => match a.parse::<core::net::IpAddr>() {
            Ok(_) => Some(a.to_owned()),
            Err(_) => return wrong(format!("{a:?} is not an address")),
        },
    };
    let published = match published {
        "" | "0" => None,
        text => match range(text) {
            None => return wrong(format!("{text:?} is not a port")),
            // A range for one port: any of them will do.
            Some((p, _)) if first == last => Some(p),
            Some((p, end)) if end - p == last - first => Some(p),
            Some(_) => return wrong(format!("the ranges {text} and {target} differ in length")),
        },
    };
    let port = |n: u32| Port {
        container_port: (first + n) as u16,
        name: None,
        protocol: protocol.clone(),
        host_port: published.map(|p| (p + n) as u16),
        host_ip: address.clone(),
    };
    Ok((0..=last - first).map(port).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_read_in_all_forms() {
        for (text, expected) in [
            ("80", "-:80"),
            ("8080:80", "8080:80"),
            ("127.0.0.1:8080:80/tcp", "127.0.0.1 8080:80"),
            ("[::1]:8080:80", "::1 8080:80"),
            ("::1:8080:80", "::1 8080:80"),
            ("53:53/UDP", "53:53UDP"),
            ("127.0.0.1::80", "127.0.0.1 -:80"),
            ("3000-3002", "-:3000 -:3001 -:3002"),
            ("9090-9091:8080-8081", "9090:8080 9091:8081"),
            ("8000-9000:80", "8000:80"),
            ("65535:65535", "65535:65535"),
            ("0:80", "-:80"),
            ("127.0.0.1:5000-5001:6000-6001/udp", "127.0.0.1 5000:6000UDP 127.0.0.1 5001:6001UDP"),
            ("[::]:80:80/tcp", ":: 80:80"),
            ("0.0.0.0:443:8443", "0.0.0.0 443:8443"),
            (":80", "-:80"),
            ("8080-8080:80", "8080:80"),
            ("80-80:80-80", "80:80"),
        ] {
            let show = |p: &Port| {
                let ip = p.host_ip.as_ref().map(|ip| format!("{ip} ")).unwrap_or_default();
                let host = p.host_port.map_or("-".to_owned(), |p| p.to_string());
                format!("{ip}{host}:{}{}", p.container_port, p.protocol.as_deref().unwrap_or_default())
            };
            let found = short(text).unwrap_or_else(|e| panic!("{text}: {e:?}"));
            assert_eq!(found.iter().map(show).collect::<Vec<_>>().join(" "), expected, "{text}");
        }
        for (text, message) in [
            ("", "\"\" is not a port"),
            ("a:80", "\"a\" is not a port"),
            ("80:65536", "\"65536\" is not a port"),
            ("80:81-80", "\"81-80\" is not a port"),
            ("1-2:1-3", "the ranges 1-2 and 1-3 differ in length"),
            ("host:80:80", "\"host\" is not an address"),
            ("80:80/icmp", "unknown protocol \"icmp\""),
            ("80:80/sctp", "SCTP is not supported"),
            ("80:80/", "unknown protocol \"\""),
            ("90-80:80", "\"90-80\" is not a port"),
            ("1.2.3:80:80", "\"1.2.3\" is not an address"),
            ("80:", "\"\" is not a port"),
            ("-1:80", "\"-1\" is not a port"),
            ("80:80:80:80", "\"80:80\" is not an address"),
            ("1-65535:1-65535", "\"1-65535\" is not a port"),
        ] {
            assert_eq!(short(text).unwrap_err().0, message, "{text}");
        }
    }
}
