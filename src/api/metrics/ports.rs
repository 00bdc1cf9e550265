//! Published ports.

use super::document::Document;
use crate::api::types::PortObject;
use crate::network::proxy::Counts;

/// A number of a port, with the name, the kind and the help of its family.
type OfPort = (&'static str, &'static str, &'static str, fn(&Counts) -> u64);

/// Counters of the proxy of published ports. They restart at 0 with the proxy.
pub fn of_ports(doc: &mut Document, ports: &[(PortObject, Counts)]) {
    let families: [OfPort; 7] = [
        ("orun_port_connections_total", "counter", "Connections that a replica accepted.", |c| c.accepted),
        ("orun_port_connections_open", "gauge", "Connections that are open.", |c| c.open),
        ("orun_port_connections_held_total", "counter", "Connections that had to wait for a replica.", |c| {
            c.held
        }),
        ("orun_port_connections_waiting", "gauge", "Connections that wait for a replica.", |c| c.waiting),
        ("orun_port_connections_refused_total", "counter", "Connections that no replica accepted.", |c| {
            c.refused
        }),
        ("orun_port_received_bytes_total", "counter", "Bytes from clients.", |c| c.received),
        ("orun_port_sent_bytes_total", "counter", "Bytes to clients.", |c| c.sent),
    ];
    for (name, kind, help, value) in families {
        doc.family(name, kind, help);
        for (port, counts) in ports {
            let number = port.port.to_string();
            let address = port.address.as_deref().unwrap_or("*");
            let mut labels =
                vec![("protocol", port.protocol.as_str()), ("address", address), ("port", &number)];
            labels.extend(port.workload.as_deref().map(|name| ("workload", name)));
            labels.extend(port.service.as_deref().map(|name| ("service", name)));
            doc.sample(name, &labels, value(counts));
        }
    }
}
