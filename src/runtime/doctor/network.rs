//! Checks whether pods can reach other hosts, and whether published ports can be opened.

use super::Finding;
use crate::error::Errno;
use crate::network::address::Range;
use crate::network::{self, holder};
use std::fs;
use std::path::Path;

const SUBJECT: &str = "network";
/// The name of the bridge that `orund serve` makes when it is given no other.
const BRIDGE: &str = "orun0";
/// Ports that are published more often than others.
const PORTS: [u16; 2] = [80, 443];

/// Facts about the host.
struct Facts {
    tables: Result<(), Errno>,
    /// `net.ipv4.ip_forward`.
    forward: Option<String>,
    docker: bool,
    /// Chains that drop what is forwarded.
    dropping: Vec<String>,
    /// The range of the pods, and a route that overlaps it; None: there is no range for them.
    range: Result<Option<(Range, Option<Range>)>, Errno>,
    /// Ports that programs have open, and which.
    taken: Vec<(u16, String)>,
}

/// Findings about the host whose files are below `root`.
pub(super) fn findings(root: &Path) -> Vec<Finding> {
    let read = |file: &str| fs::read_to_string(root.join(file)).ok();
    let forward = read("proc/sys/net/ipv4/ip_forward").map(|text| text.trim().to_owned());
    let docker = root.join("sys/class/net/docker0").exists();
    let holder = |port: &u16| Some((*port, holder::find_holder(false, *port)?));
    // Ports that orund has open are published already.
    let taken = PORTS.iter().filter_map(holder).filter(|(_, holder)| !holder.contains("(orund"));
    let mut dropping = network::dropping_chains().unwrap_or_default();
    let legacy = read("proc/net/ip_tables_names").unwrap_or_default();
    if docker && dropping.is_empty() && legacy.lines().any(|table| table == "filter") {
        // The policies of legacy iptables cannot be read here.
        dropping.push("FORWARD of table filter".to_owned());
    }
    look(&Facts {
        tables: network::has_nf_tables(),
        forward,
        docker,
        dropping,
        range: network::range_of(BRIDGE),
        taken: taken.collect(),
    })
}

fn look(facts: &Facts) -> Vec<Finding> {
    let mut all = Vec::new();
    let mut limited = |text: String, advice: String| all.push(Finding::limited(SUBJECT, text, advice));
    if !matches!(facts.tables, Ok(()) | Err(Errno(libc::EPERM))) {
        let advice = "pods of orund only reach each other and the host; use a kernel with CONFIG_NF_TABLES, CONFIG_NFT_MASQ";
        limited("the kernel has no nf_tables".to_owned(), advice.to_owned());
    }
    if facts.forward.as_deref() == Some("0") {
        let text = "the host does not forward packets: pods of orund cannot reach other hosts";
        limited(text.to_owned(), "sysctl -w net.ipv4.ip_forward=1".to_owned());
    }
    for chain in &facts.dropping {
        let of = if facts.docker { "DOCKER-USER" } else { "FORWARD" };
        let text =
            format!("the chain {chain} drops forwarded packets: pods of orund may not reach other hosts");
        limited(text, format!("iptables -I {of} -i {BRIDGE} -j ACCEPT, and the same with -o {BRIDGE}"));
    }
    match facts.range {
        Ok(Some((range, Some(other)))) => limited(
            format!("the range {range} of the pods overlaps the route {other} of the host"),
            "one of the two cannot be reached: orund serve --network-range CIDR".to_owned(),
        ),
        Ok(None) => limited(
            "routes of the host cover all private addresses: pods have only their loopback interface"
                .to_owned(),
            "orund serve --network-range CIDR".to_owned(),
        ),
        Ok(Some((_, None))) | Err(_) => {}
    }
    for (port, holder) in &facts.taken {
        let text = format!("port {port} cannot be published: {holder} has it open");
        limited(text, "stop that program, or publish another port".to_owned());
    }
    if all.is_empty() {
        let range = match facts.range {
            Ok(Some((range, _))) => format!(", and addresses of {range} for pods"),
            Ok(None) | Err(_) => String::new(),
        };
        all.push(Finding::works(SUBJECT, format!("nf_tables and forwarding{range}")));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::doctor::Verdict;

    fn good() -> Facts {
        let range = "10.89.0.0/16".parse().unwrap();
        Facts {
            tables: Ok(()),
            forward: Some("1".to_owned()),
            docker: false,
            dropping: Vec::new(),
            range: Ok(Some((range, None))),
            taken: Vec::new(),
        }
    }

    #[test]
    fn each_obstacle_is_reported_with_what_to_do() {
        let texts = |facts: Facts| -> Vec<String> {
            let found = look(&facts);
            assert!(found.iter().all(|f| f.verdict == Verdict::Works || f.advice.is_some()));
            found.into_iter().map(|f| f.text).collect()
        };
        assert_eq!(texts(good()), ["nf_tables and forwarding, and addresses of 10.89.0.0/16 for pods"]);
        let unknown =
            Facts { tables: Err(Errno(libc::EPERM)), forward: None, range: Err(Errno(1)), ..good() };
        assert_eq!(texts(unknown), ["nf_tables and forwarding"]);
        let range: Range = "10.89.0.0/16".parse().unwrap();
        let all = texts(Facts {
            tables: Err(Errno(libc::EOPNOTSUPP)),
            forward: Some("0".to_owned()),
            docker: true,
            dropping: vec!["FORWARD of table filter".to_owned()],
            range: Ok(Some((range, Some("10.0.0.0/8".parse().unwrap())))),
            taken: vec![(80, "process 812 (nginx)".to_owned())],
        });
        assert_eq!(all.len(), 5, "{all:?}");
        assert_eq!(all[3], "the range 10.89.0.0/16 of the pods overlaps the route 10.0.0.0/8 of the host");
        assert_eq!(all[4], "port 80 cannot be published: process 812 (nginx) has it open");
        assert_eq!(texts(Facts { range: Ok(None), ..good() }).len(), 1);
    }
}
