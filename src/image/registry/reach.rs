//! Errors for a registry that cannot be reached: the reason in the kernel's or the protocol's words, and a hint.

use crate::error::{Errno, Error, Kind};
use ureq::Timeout;

const TLS: &str = "the registry needs a certificate that this host trusts; one without TLS needs \"insecure = true\" \
                   in /etc/containers/registries.conf";
const NO_PROTOCOL: &str = "check that it is a registry with TLS at this port";

/// The error of a request to `what` at `origin` (scheme, host and port) that had no answer.
pub fn failed(what: &str, origin: &str, e: &ureq::Error) -> Error {
    let (why, hint) = words(e);
    Error::new(Kind::Timeout, format!("cannot reach {what} ({origin}): {why}")).hint(hint)
}

/// The reason and the way out.
fn words(e: &ureq::Error) -> (String, &'static str) {
    let own = |text: &str| text.to_owned();
    match e {
        ureq::Error::HostNotFound => (
            own("the host name cannot be resolved"),
            "check the name of the image, and the name servers in /etc/resolv.conf",
        ),
        ureq::Error::ConnectionFailed => (own("no connection"), "check the network of this host"),
        ureq::Error::Timeout(Timeout::Resolve) => {
            (own("no answer of the name server in time"), "check the name servers in /etc/resolv.conf")
        }
        ureq::Error::Timeout(Timeout::Connect) => {
            (own("no connection in time"), "check the network of this host, its firewall and its proxy")
        }
        ureq::Error::Timeout(_) => (own("no answer in time"), "the registry may be busy: try again"),
        ureq::Error::Tls(why) => (format!("TLS: {why}"), TLS),
        ureq::Error::Rustls(why) => (format!("TLS: {why}"), TLS),
        ureq::Error::Protocol(why) => (format!("the answer is not HTTP: {why}"), NO_PROTOCOL),
        ureq::Error::Http(why) => (format!("the answer is not HTTP: {why}"), NO_PROTOCOL),
        ureq::Error::BadUri(why) => (format!("not a valid address: {why}"), "check the name of the image"),
        ureq::Error::Io(e) => match e.raw_os_error() {
            Some(n) => (Errno(n).to_string(), of_errno(n)),
            // TLS reports what it finds so.
            None if e.kind() == std::io::ErrorKind::InvalidData => (format!("TLS: {e}"), TLS),
            None => (e.to_string(), NO_PROTOCOL),
        },
        // The type may grow.
        other => (other.to_string(), "try again"),
    }
}

fn of_errno(n: i32) -> &'static str {
    match n {
        libc::ECONNREFUSED => "check that the registry runs, and its port",
        libc::ENETUNREACH | libc::EHOSTUNREACH | libc::ENETDOWN => "check the network of this host",
        libc::ECONNRESET | libc::EPIPE => NO_PROTOCOL,
        _ => "try again",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    #[test]
    fn a_registry_that_is_not_reached_has_a_reason_and_a_way_out() {
        let text = |e| failed("registry r:5000", "https://r:5000", &e).to_string();
        let refused = ureq::Error::Io(io::Error::from_raw_os_error(libc::ECONNREFUSED));
        assert_eq!(
            text(refused),
            "cannot reach registry r:5000 (https://r:5000): connection refused; hint: check that the registry runs, \
             and its port"
        );
        let unknown = text(ureq::Error::HostNotFound);
        assert!(unknown.contains("the host name cannot be resolved; hint: check the name"), "{unknown}");
        let late = text(ureq::Error::Timeout(Timeout::Connect));
        assert!(late.contains("no connection in time") && late.contains("firewall"), "{late}");
        let tls = io::Error::new(io::ErrorKind::InvalidData, "unexpected EOF");
        assert!(text(ureq::Error::Io(tls)).contains("insecure = true"));
    }
}
