//! Configurations as the callers of a runtime write them.

use orun::config::defaults;
use serde_json::{Value, json};

/// The default of `orun spec`, without a terminal.
pub fn plain() -> Value {
    let mut spec = defaults::spec();
    spec["process"]["terminal"] = json!(false);
    spec
}

/// The default of `orun spec --rootless`.
pub fn rootless() -> Value {
    defaults::rootless(1000, 1000)
}

/// As an engine with user namespaces writes it: id mappings, limits, volumes, all kinds of hooks, and a system
/// call filter that a process without privileges loads.
pub fn engine() -> Value {
    let mut spec = plain();
    let map = json!([{"containerID": 0, "hostID": 100000, "size": 65536}]);
    spec["hostname"] = json!("8f3c");
    spec["domainname"] = json!("example.org");
    spec["annotations"] = json!({"org.example.service": "web"});
    spec["root"]["readonly"] = json!(false);
    merge(
        &mut spec["process"],
        &json!({
            "user": {"uid": 1000, "gid": 1000, "additionalGids": [5, 6], "umask": 0o27},
            "args": ["web", "--listen", "80"],
            "cwd": "/srv/web",
            "oomScoreAdj": 100,
            "apparmorProfile": "",
            "capabilities": {"ambient": ["CAP_NET_BIND_SERVICE"], "inheritable": ["CAP_NET_BIND_SERVICE"]},
        }),
    );
    let mounts = [
        json!({"destination": "/data", "type": "bind", "source": "/srv/data", "options": ["rbind", "rw", "rslave"]}),
        json!({"destination": "/etc/hosts", "type": "bind", "source": "hosts", "options": ["bind", "ro", "nosuid"]}),
        json!({"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["mode=1777", "tmpcopyup"]}),
    ];
    push(&mut spec["mounts"], mounts);
    push(&mut spec["linux"]["namespaces"], [json!({"type": "user"})]);
    spec["hooks"] = hooks();
    merge(
        &mut spec["linux"],
        &json!({
            "uidMappings": map,
            "gidMappings": map,
            "cgroupsPath": "/engine/8f3c",
            "devices": [{"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 0o666}],
            "sysctl": {"net.ipv4.ip_unprivileged_port_start": "0"},
            "seccomp": seccomp(),
            "resources": {
                "memory": {"limit": 268435456, "reservation": 134217728, "swap": 536870912},
                "cpu": {"shares": 512, "quota": 50000, "period": 100000, "cpus": "0-1"},
                "pids": {"limit": 100},
                "blockIO": {"weight": 500},
            },
        }),
    );
    spec
}

/// A sidecar that joins the network, ipc, uts and user namespaces of another container, with a terminal and
/// privileges, and without no_new_privs.
pub fn joined() -> Value {
    let mut spec = plain();
    let mut namespaces = vec![json!({"type": "mount"}), json!({"type": "pid"}), json!({"type": "cgroup"})];
    for kind in ["network", "ipc", "uts", "user"] {
        let file = if kind == "network" { "net" } else { kind };
        namespaces.push(json!({"type": kind, "path": format!("/proc/77/ns/{file}")}));
    }
    spec["linux"]["namespaces"] = json!(namespaces);
    if let Some(top) = spec.as_object_mut() {
        top.remove("hostname");
    }
    merge(
        &mut spec["process"],
        &json!({
            "terminal": true,
            "consoleSize": {"height": 24, "width": 80},
            "noNewPrivileges": false,
        }),
    );
    spec["linux"]["seccomp"] = seccomp();
    spec
}

/// A time namespace with offsets, real-time scheduling, shared propagation, an execution domain.
pub fn unusual() -> Value {
    let mut spec = plain();
    spec["annotations"] = json!({
        "run.orun.rootfs.lower": "/layers/top:base",
        "run.orun.rootfs.upper": "/changes/c1/upper",
        "run.orun.rootfs.work": "/changes/c1/work",
    });
    push(&mut spec["linux"]["namespaces"], [json!({"type": "time"})]);
    merge(
        &mut spec["process"],
        &json!({
            "scheduler": {"policy": "SCHED_BATCH", "nice": 5},
            "ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 7},
        }),
    );
    merge(
        &mut spec["linux"],
        &json!({
            "timeOffsets": {"monotonic": {"secs": 86400, "nanosecs": 0}, "boottime": {"secs": 604800, "nanosecs": 5}},
            "netDevices": {"eth1": {"name": "net0"}},
            "personality": {"domain": "LINUX32"},
            "memoryPolicy": {"mode": "MPOL_INTERLEAVE", "nodes": "0"},
            "rootfsPropagation": "shared",
        }),
    );
    spec
}

fn hooks() -> Value {
    let hook = |name: &str| json!([{"path": format!("/usr/libexec/{name}"), "args": [name], "timeout": 5}]);
    json!({
        "prestart": hook("network"),
        "createRuntime": hook("create-runtime"),
        "createContainer": hook("create-container"),
        "startContainer": hook("start-container"),
        "poststart": hook("poststart"),
        "poststop": hook("poststop"),
    })
}

fn seccomp() -> Value {
    json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": 1,
        "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": [
            {"names": ["read", "write", "exit", "exit_group", "execve", "close", "openat", "mmap"], "action": "SCMP_ACT_ALLOW"},
            {"names": ["personality"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 8, "op": "SCMP_CMP_EQ"}]},
        ],
    })
}

/// Sets the properties of `changes`, one by one.
pub fn merge(value: &mut Value, changes: &Value) {
    for (key, change) in changes.as_object().into_iter().flatten() {
        match change {
            Value::Object(_) if value[key].is_object() => merge(&mut value[key], change),
            _ => value[key] = change.clone(),
        }
    }
}

/// Appends to a list.
pub fn push(list: &mut Value, entries: impl IntoIterator<Item = Value>) {
    if let Some(list) = list.as_array_mut() {
        list.extend(entries);
    }
}
