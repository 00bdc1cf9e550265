//! What pods need to reach the outside.

use super::Finding;
use crate::error::Errno;
use crate::network;
use std::fs;
use std::path::Path;

const SUBJECT: &str = "network";

/// Findings about the host whose files are below `root`.
pub(super) fn findings(root: &Path) -> Vec<Finding> {
    let docker = root.join("sys/class/net/docker0").exists();
    let forward = fs::read_to_string(root.join("proc/sys/net/ipv4/ip_forward")).ok();
    look(network::has_nf_tables(), forward.as_deref().map(str::trim), docker)
}

fn look(tables: Result<(), Errno>, forward: Option<&str>, docker: bool) -> Vec<Finding> {
    let mut all = Vec::new();
    match tables {
        Ok(()) | Err(Errno(libc::EPERM)) => {}
        Err(_) => {
            let advice = "pods of orund reach each other and the host only; use a kernel with CONFIG_NF_TABLES, CONFIG_NFT_MASQ";
            all.push(Finding::limited(SUBJECT, "the kernel has no nf_tables", advice));
        }
    }
    if forward.is_some_and(|value| value == "0") {
        let text = "the host does not forward packets: pods of orund do not reach the outside";
        all.push(Finding::limited(SUBJECT, text, "sysctl -w net.ipv4.ip_forward=1"));
    }
    if docker {
        let text = "Docker drops what is forwarded and not its own: pods of orund may not reach the outside";
        all.push(Finding::limited(
            SUBJECT,
            text,
            "iptables -I DOCKER-USER -i orun0 -j ACCEPT (and -o orun0)",
        ));
    }
    if all.is_empty() {
        all.push(Finding::works(SUBJECT, "nf_tables and forwarding"));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::doctor::Verdict;

    #[test]
    fn each_obstacle_is_reported_with_what_to_do() {
        let texts = |found: Vec<Finding>| -> Vec<String> {
            assert!(found.iter().all(|f| f.verdict == Verdict::Works || f.advice.is_some()));
            found.into_iter().map(|f| f.text).collect()
        };
        assert_eq!(texts(look(Ok(()), Some("1"), false)), ["nf_tables and forwarding"]);
        assert_eq!(texts(look(Err(Errno(libc::EPERM)), None, false)), ["nf_tables and forwarding"]);
        let all = texts(look(Err(Errno(libc::EOPNOTSUPP)), Some("0"), true));
        assert_eq!(all.len(), 3, "{all:?}");
    }
}
