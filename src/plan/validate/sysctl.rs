//! `linux.sysctl` (config-linux.md, "Sysctl"): only parameters that the container has for itself.

use super::Findings;
use super::namespaces::is_listed;
use crate::config::linux::Linux;
use crate::plan::tables::namespaces::NamespaceKind;
use crate::plan::tables::sysctl;

pub fn check(linux: &Linux, f: &mut Findings) {
    for (key, value) in &linux.sysctl {
        let at = || format!("linux.sysctl[{key:?}]");
        // One write is one value: a line break would begin another (CVE-2022-0811).
        if value.contains(['\n', '\r', '\0']) {
            f.violation(at(), format!("value {value:?} contains a line break or a null byte"));
        }
        match sysctl::parts(key) {
            None => f.violation(at(), format!("{key:?} is not a valid sysctl name")),
            Some(parts) => namespaced(linux, &at(), &parts, f),
        }
    }
}

/// The parameter belongs to a namespace, and the container has one of that kind.
fn namespaced(linux: &Linux, at: &str, parts: &[String], f: &mut Findings) {
    let key = parts.join(".");
    let kind = sysctl::namespace(parts);
    let own = kind.is_some_and(|k| is_listed(linux, k));
    match kind {
        Some(NamespaceKind::Uts) if own && parts[1] == "hostname" => f.hinted(
            at,
            format!("sysctl {key:?} is not allowed as it conflicts with the OCI \"hostname\" field"),
            "set hostname instead",
        ),
        Some(_) if own => {}
        Some(NamespaceKind::Ipc) => {
            f.violation(at, format!("sysctl {key:?} is not allowed in the hosts ipc namespace"))
        }
        Some(NamespaceKind::Network) => {
            f.violation(at, format!("sysctl {key:?} not allowed in host network namespace"))
        }
        Some(NamespaceKind::User) => {
            f.violation(at, format!("setting ucounts without a user namespace not allowed: {key}"))
        }
        _ => f.violation(at, format!("sysctl {key:?} is not in a separate kernel namespace")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use serde_json::{Value, json};

    fn with(key: &'static str, value: &'static str) -> impl FnOnce(&mut Value) {
        move |v| v["linux"]["sysctl"] = json!({key: value})
    }

    fn without(namespace: &'static str, key: &'static str) -> impl FnOnce(&mut Value) {
        move |v| {
            remove_namespace(v, namespace);
            v["hostname"] = Value::Null;
            with(key, "1")(v);
        }
    }

    #[test]
    fn parameters_of_the_containers_namespaces() {
        for key in [
            "net.ipv4.ip_forward",
            "net/core/somaxconn",
            "kernel.shmmax",
            "fs.mqueue.msg_max",
            "kernel.domainname",
        ] {
            passes(with(key, "1"));
        }
        passes(|v| {
            add_user_namespace(v);
            with("user.max_user_namespaces", "0")(v);
        });
        passes(with("kernel.sem", "32000 1024000000 500 32000"));
    }

    #[test]
    fn parameters_of_the_host() {
        breaks(
            "linux.sysctl[\"kernel.msgmax\"]: sysctl \"kernel.msgmax\" is not allowed in the hosts ipc namespace",
            without("ipc", "kernel.msgmax"),
        );
        breaks(
            "linux.sysctl[\"net/ipv4/ip_forward\"]: sysctl \"net.ipv4.ip_forward\" not allowed in host network",
            without("network", "net/ipv4/ip_forward"),
        );
        breaks(
            "linux.sysctl[\"user.x\"]: setting ucounts without a user namespace not allowed: user.x",
            with("user.x", "1"),
        );
        breaks(
            "linux.sysctl[\"kernel.domainname\"]: sysctl \"kernel.domainname\" is not in a separate kernel",
            without("uts", "kernel.domainname"),
        );
        for key in ["kernel.core_pattern", "vm.swappiness", "kernel.shmmaxx", "x"] {
            let text = format!("linux.sysctl[{key:?}]: sysctl {key:?} is not in a separate kernel namespace");
            breaks(&text, with(key, "1"));
        }
    }

    #[test]
    fn the_host_name_has_its_own_property() {
        breaks(
            "linux.sysctl[\"kernel.hostname\"]: sysctl \"kernel.hostname\" is not allowed as it conflicts",
            with("kernel.hostname", "x"),
        );
    }

    #[test]
    fn keys_stay_below_proc_sys_and_values_on_one_line() {
        for key in
            ["", "net.//.//.kernel.x", "net/../kernel/core_pattern", "../x", "net..x", "kernel.shmmax\n"]
        {
            breaks(&format!("linux.sysctl[{key:?}]: {key:?} is not a valid sysctl name"), with(key, "1"));
        }
        for value in ["1\n2", "a\0", "1\r"] {
            breaks("linux.sysctl[\"kernel.shm_rmid_forced\"]: value", with("kernel.shm_rmid_forced", value));
        }
    }
}
