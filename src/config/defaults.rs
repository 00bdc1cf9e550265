//! The configuration that `orun spec` writes: it runs a shell from `rootfs` with little privilege.

use serde_json::{Value, json};

/// Version of the runtime-spec that orun follows.
pub const OCI_VERSION: &str = "1.3.0";

/// Capabilities of the default process: enough to log, to signal and to listen on a low port.
const CAPABILITIES: [&str; 3] = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"];

/// Files of procfs and sysfs that reveal the host or give access to it.
const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// Files of procfs that change the host.
const READONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// The default config.json, for a container that root starts.
pub fn spec() -> Value {
    json!({
        "ociVersion": OCI_VERSION,
        "process": process(),
        "root": { "path": "rootfs", "readonly": true },
        "hostname": "orun",
        "mounts": mounts(),
        "linux": {
            "resources": { "devices": [{ "allow": false, "access": "rwm" }] },
            "namespaces": namespaces(&["pid", "network", "ipc", "uts", "mount", "cgroup"]),
            "maskedPaths": MASKED,
            "readonlyPaths": READONLY,
        },
    })
}

/// The default config.json for a container that user `uid` with group `gid` starts without privileges: it has a user
/// namespace with the one id that such a user may map, the host's network, and no limits.
pub fn rootless(uid: u32, gid: u32) -> Value {
    let mut spec = spec();
    let linux = &mut spec["linux"];
    linux["namespaces"] = namespaces(&["pid", "ipc", "uts", "mount", "cgroup", "user"]);
    linux["uidMappings"] = json!([{ "containerID": 0, "hostID": uid, "size": 1 }]);
    linux["gidMappings"] = json!([{ "containerID": 0, "hostID": gid, "size": 1 }]);
    if let Some(linux) = linux.as_object_mut() {
        linux.remove("resources");
    }
    for mount in spec["mounts"].as_array_mut().into_iter().flatten() {
        // sysfs belongs to a network namespace: without an own one only the host's can be shown.
        if mount["destination"] == "/sys" {
            *mount = json!({
                "destination": "/sys", "type": "none", "source": "/sys",
                "options": ["rbind", "nosuid", "noexec", "nodev", "ro"],
            });
        }
        // The groups of devpts and of others are not mapped.
        if let Some(options) = mount["options"].as_array_mut() {
            options.retain(|o| !o.as_str().is_some_and(|o| o.starts_with("uid=") || o.starts_with("gid=")));
        }
    }
    spec
}

/// Takes the cgroup namespace out of a default config.json.
pub fn without_cgroup_namespace(spec: &mut Value) {
    if let Some(list) = spec["linux"]["namespaces"].as_array_mut() {
        list.retain(|n| n["type"] != "cgroup");
    }
}

fn process() -> Value {
    json!({
        "terminal": true,
        "user": { "uid": 0, "gid": 0 },
        "args": ["sh"],
        "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
        "cwd": "/",
        "capabilities": {
            "bounding": CAPABILITIES,
            "effective": CAPABILITIES,
            "permitted": CAPABILITIES,
        },
        "rlimits": [{ "type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024 }],
        "noNewPrivileges": true,
    })
}

fn namespaces(kinds: &[&str]) -> Value {
    kinds.iter().map(|k| json!({ "type": k })).collect()
}

fn mounts() -> Value {
    let mount = |destination: &str, kind: &str, source: &str, options: &[&str]| json!({ "destination": destination, "type": kind, "source": source, "options": options });
    json!([
        mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount(
            "/dev/pts",
            "devpts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]
        ),
        mount("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
        mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
        mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", "ro"]),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;
    use crate::config::spec::Spec;

    fn typed(v: &Value) -> Spec {
        parse::json(v.to_string().as_bytes(), "config.json").unwrap()
    }

    #[test]
    fn the_default_is_a_locked_down_shell() {
        let s = typed(&spec());
        let p = s.process.unwrap();
        assert!(p.terminal && p.no_new_privileges);
        assert_eq!(p.args, ["sh"]);
        let caps = p.capabilities.unwrap();
        assert!(caps.inheritable.is_empty() && caps.ambient.is_empty(), "CVE-2022-29162");
        assert_eq!((caps.bounding.len(), caps.effective.len(), caps.permitted.len()), (3, 3, 3));
        assert_eq!(s.root.unwrap().path, "rootfs");
        assert_eq!(s.linux.namespaces.len(), 6);
        let rules = s.linux.resources.unwrap().devices;
        assert!(rules.len() == 1 && !rules[0].allow && rules[0].kind.is_empty());
        assert!(s.linux.masked_paths.contains(&"/proc/kcore".to_owned()));
        assert!(s.linux.readonly_paths.contains(&"/proc/sys".to_owned()));
    }

    #[test]
    fn the_cgroup_namespace_can_be_left_out() {
        let mut s = spec();
        without_cgroup_namespace(&mut s);
        let kinds: Vec<String> = typed(&s).linux.namespaces.into_iter().map(|n| n.kind).collect();
        assert_eq!(kinds, ["pid", "network", "ipc", "uts", "mount"]);
    }

    #[test]
    fn the_rootless_one_asks_for_nothing_that_a_user_may_not_do() {
        let s = typed(&rootless(1000, 1001));
        assert_eq!((s.linux.uid_mappings[0].host_id, s.linux.gid_mappings[0].host_id), (1000, 1001));
        assert!(s.linux.namespaces.iter().all(|n| n.kind != "network"));
        assert!(s.linux.namespaces.iter().any(|n| n.kind == "user"));
        assert!(s.linux.resources.is_none());
        let sys = s.mounts.iter().find(|m| m.destination == "/sys").unwrap();
        assert_eq!((sys.source.as_str(), sys.options[0].as_str()), ("/sys", "rbind"));
        assert!(s.mounts.iter().flat_map(|m| &m.options).all(|o| !o.starts_with("gid=")));
        assert_eq!(s.mounts.len(), 7);
    }
}
