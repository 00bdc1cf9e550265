//! `orund run --publish`: ports of the host for the replicas.

use crate::error::{Error, Kind, Result};
use crate::supervisor::core::ports::PublishedPort;
use crate::supervisor::shell::listen;
use crate::workload::compose;
use std::collections::BTreeSet;

/// The ports of one `--publish`: several, if it is a range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published(Vec<PublishedPort>);

/// The accepted forms, for error messages.
const FORMS: &str = "write HOST:PORT, such as 8080:80, 127.0.0.1:8080:80, 53:53/udp or 8000-8002:80-82";

/// Reads docker's forms. A host port is never chosen automatically, because the user would not know it.
pub fn parse(text: &str) -> std::result::Result<Published, String> {
    let ports = compose::short_ports(text).map_err(|wrong| format!("{wrong}; {FORMS}"))?;
    let published: Option<Vec<PublishedPort>> = ports.iter().map(PublishedPort::of_container).collect();
    published.map(Published).ok_or_else(|| format!("the port of the host is missing; {FORMS}"))
}

/// All ports, each of which is free.
///
/// # Errors
/// A port is given twice, or cannot be opened: with the process that has it.
pub fn ports(all: &[Published]) -> Result<Vec<PublishedPort>> {
    let ports: Vec<PublishedPort> = all.iter().flat_map(|p| p.0.clone()).collect();
    let mut seen = BTreeSet::new();
    for PublishedPort { host, .. } in &ports {
        if !seen.insert(host) {
            return Err(Error::new(Kind::Usage, format!("--publish: port {host} is given twice"))
                .hint("give each port of the host once"));
        }
        listen::open(host, None, &[]).map_err(|reason| {
            Error::new(Kind::System, format!("port {host} cannot be published: {reason}"))
        })?;
    }
    Ok(ports)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_read_in_the_forms_of_docker() {
        for (text, expected) in [
            ("8080:80", "tcp *:8080 80"),
            ("127.0.0.1:53:5353/udp", "udp 127.0.0.1:53 5353"),
            ("0.0.0.0:80:80/tcp", "tcp *:80 80"),
            ("[::1]:80:8080", "tcp ::1:80 8080"),
            ("8000-8001:80-81", "tcp *:8000 80, tcp *:8001 81"),
        ] {
            let found = parse(text).unwrap().0;
            let words: Vec<String> = found.iter().map(|p| format!("{} {}", p.host, p.port)).collect();
            assert_eq!(words.join(", "), expected, "{text}");
        }
        for (bad, reason) in [
            ("80", "the port of the host is missing"),
            ("127.0.0.1::80", "the port of the host is missing"),
            ("x:80", "\"x\" is not a port"),
            ("80:80/sctp", "SCTP is not supported"),
            ("", "\"\" is not a port"),
            ("70000:80", "\"70000\" is not a port"),
            ("localhost:80:80", "\"localhost\" is not an address"),
        ] {
            let error = parse(bad).unwrap_err();
            assert!(error.starts_with(reason) && error.contains("such as 8080:80"), "{bad}: {error}");
        }
    }

    #[test]
    fn a_port_given_twice_or_taken_is_an_error() {
        let twice = [parse("127.0.0.1:0-0:80").err(), None].into_iter().flatten().count();
        assert_eq!(twice, 1, "0 is not a port of the host");
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        let taken = parse(&format!("127.0.0.1:{port}:80")).unwrap();
        let error = ports(std::slice::from_ref(&taken)).unwrap_err().to_string();
        assert!(error.contains(&format!("process {} (", std::process::id())), "{error}");
        drop(socket);
        let error = ports(&[taken.clone(), taken]).unwrap_err().to_string();
        assert!(error.contains("is given twice"), "{error}");
    }
}
