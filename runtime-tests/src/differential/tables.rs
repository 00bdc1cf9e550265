//! What is changed: every property that runc 1.1 and crun 1.8 know, by its kind, and changes that take more than one property.

use super::mutations::{Document, Kind, Mutation, changes};
use serde_json::{Value, json};

const CONFIG: &[(&str, Kind)] = &[
    ("/ociVersion", Kind::Word("1.0.2")),
    ("/root/path", Kind::Path("rootfs")),
    ("/root/readonly", Kind::Bool),
    ("/root", Kind::Structure),
    ("/hostname", Kind::Text("other")),
    ("/annotations", Kind::Structure),
    ("/process/terminal", Kind::Bool),
    ("/process/consoleSize", Kind::Structure),
    ("/mounts", Kind::Structure),
    ("/mounts/7/destination", Kind::Path("/mnt")),
    ("/mounts/7/type", Kind::Word("tmpfs")),
    ("/mounts/7/source", Kind::Text("tmpfs")),
    ("/mounts/7/options", Kind::Texts(&["ro", "nosuid"])),
    ("/mounts/8/source", Kind::Path("/etc")),
    ("/linux/namespaces", Kind::Structure),
    ("/linux/namespaces/0/type", Kind::Word("pid")),
    ("/linux/namespaces/0/path", Kind::Text("")),
    ("/linux/uidMappings", Kind::Structure),
    ("/linux/devices", Kind::Structure),
    ("/linux/devices/0/path", Kind::Path("/dev/extra")),
    ("/linux/devices/0/type", Kind::Word("c")),
    ("/linux/devices/0/major", Kind::Number(1)),
    ("/linux/devices/0/minor", Kind::Number(3)),
    ("/linux/devices/0/fileMode", Kind::Number(0o640)),
    ("/linux/devices/0/uid", Kind::Number(7)),
    ("/linux/cgroupsPath", Kind::Text("")),
    ("/linux/rootfsPropagation", Kind::Word("private")),
    ("/linux/maskedPaths", Kind::Texts(&["/etc/secret"])),
    ("/linux/maskedPaths/0", Kind::Path("/etc/secret")),
    ("/linux/readonlyPaths", Kind::Texts(&["/etc/fixed"])),
    ("/linux/readonlyPaths/0", Kind::Path("/etc/fixed")),
    ("/linux/mountLabel", Kind::Text("")),
    ("/linux/sysctl", Kind::Structure),
    ("/linux/sysctl/net.ipv4.ip_forward", Kind::Text("1")),
    ("/linux/seccomp", Kind::Structure),
    ("/linux/seccomp/defaultAction", Kind::Word("SCMP_ACT_ALLOW")),
    ("/linux/seccomp/architectures", Kind::Texts(&["SCMP_ARCH_X86_64"])),
    ("/linux/seccomp/syscalls", Kind::Structure),
    ("/linux/seccomp/syscalls/0/names", Kind::Texts(&["getcwd"])),
    ("/linux/seccomp/syscalls/0/action", Kind::Word("SCMP_ACT_ERRNO")),
    ("/linux/seccomp/syscalls/0/errnoRet", Kind::Number(5)),
    ("/linux/personality", Kind::Structure),
    ("/linux/personality/domain", Kind::Word("LINUX32")),
    ("/hooks", Kind::Structure),
    ("/hooks/prestart/0/path", Kind::Path("/bin/true")),
    ("/hooks/prestart/0/args", Kind::Texts(&["true"])),
    ("/hooks/prestart/0/env", Kind::Texts(&["A=b"])),
    ("/hooks/prestart/0/timeout", Kind::Number(5)),
    ("/linux/resources", Kind::Structure),
    ("/linux/resources/devices", Kind::Structure),
    ("/linux/resources/devices/0/allow", Kind::Bool),
    ("/linux/resources/devices/0/type", Kind::Word("a")),
    ("/linux/resources/devices/0/access", Kind::Word("rwm")),
    ("/linux/resources/devices/0/major", Kind::Number(1)),
    ("/linux/resources/hugepageLimits", Kind::Structure),
    ("/linux/resources/network", Kind::Structure),
];

/// Properties of `process`, for config.json and for process.json.
const PROCESS: &[(&str, Kind)] = &[
    ("/user", Kind::Structure),
    ("/user/uid", Kind::Number(1000)),
    ("/user/gid", Kind::Number(1000)),
    ("/user/umask", Kind::Number(0o27)),
    ("/user/additionalGids", Kind::Structure),
    ("/args", Kind::Texts(&["true"])),
    ("/env", Kind::Texts(&["PATH=/bin", "A=b"])),
    ("/cwd", Kind::Path("/tmp")),
    ("/capabilities", Kind::Structure),
    ("/capabilities/bounding", Kind::Texts(&["CAP_KILL"])),
    ("/capabilities/ambient", Kind::Texts(&["CAP_KILL"])),
    ("/capabilities/effective/0", Kind::Word("CAP_KILL")),
    ("/rlimits", Kind::Structure),
    ("/rlimits/0/type", Kind::Word("RLIMIT_NOFILE")),
    ("/rlimits/0/soft", Kind::Number(512)),
    ("/rlimits/0/hard", Kind::Number(1024)),
    ("/noNewPrivileges", Kind::Bool),
    ("/oomScoreAdj", Kind::Number(100)),
    ("/apparmorProfile", Kind::Text("")),
    ("/selinuxLabel", Kind::Text("")),
];

/// Properties of `linux.resources`, for config.json and for `update`.
const RESOURCES: &[(&str, Kind)] = &[
    ("/memory", Kind::Structure),
    ("/memory/limit", Kind::Number(64 << 20)),
    ("/memory/reservation", Kind::Number(32 << 20)),
    ("/memory/swappiness", Kind::Number(10)),
    ("/cpu", Kind::Structure),
    ("/cpu/shares", Kind::Number(512)),
    ("/cpu/quota", Kind::Number(20_000)),
    ("/cpu/period", Kind::Number(50_000)),
    ("/cpu/cpus", Kind::Text("0, 0")),
    ("/cpu/mems", Kind::Text("0 ")),
    ("/pids", Kind::Structure),
    ("/pids/limit", Kind::Number(50)),
    ("/blockIO", Kind::Structure),
    ("/blockIO/weight", Kind::Number(300)),
];

/// All changes, in their order.
pub fn all() -> Vec<Mutation> {
    let mut all = Vec::new();
    for (pointer, kind) in CONFIG {
        all.extend(changes(Document::Config, pointer, kind));
    }
    for (pointer, kind) in PROCESS {
        all.extend(changes(Document::Config, &format!("/process{pointer}"), kind));
        all.extend(changes(Document::Process, pointer, kind));
    }
    for (pointer, kind) in RESOURCES {
        all.extend(changes(Document::Config, &format!("/linux/resources{pointer}"), kind));
        all.extend(changes(Document::Update, pointer, kind));
    }
    all.extend(several());
    all
}

fn mount(destination: &str, kind: &str, source: &str, options: &[&str]) -> Value {
    json!({"destination": destination, "type": kind, "source": source, "options": options})
}

/// What a table of single properties cannot say.
fn several() -> Vec<Mutation> {
    let config = |pointer: &str, name: &str, changes: &[(&str, Value)]| {
        Mutation::of(Document::Config, pointer, name, changes)
    };
    let mounted = |name: &str, one: Value, two: Value| {
        config("/mounts", name, &[("/mounts/7", one), ("/mounts/8", two)])
    };
    let mut all = vec![
        mounted("twice at one place", mount("/mnt", "tmpfs", "a", &[]), mount("/mnt", "tmpfs", "b", &["ro"])),
        mounted("the inner one first", mount("/mnt/a", "tmpfs", "a", &[]), mount("/mnt", "tmpfs", "b", &[])),
        mounted("the inner one second", mount("/mnt", "tmpfs", "a", &[]), mount("/mnt/a", "tmpfs", "b", &[])),
        mounted(
            "a file at a new place",
            mount("/new/file", "bind", "/etc/hostname", &["bind"]),
            mount("/new", "tmpfs", "a", &[]),
        ),
        mounted(
            "bind and rbind",
            mount("/mnt", "bind", "/etc", &["bind", "rbind"]),
            mount("/home", "none", "/etc", &["rbind"]),
        ),
        mounted(
            "ro and rw",
            mount("/mnt", "tmpfs", "a", &["ro", "rw"]),
            mount("/home", "tmpfs", "a", &["rw", "ro"]),
        ),
        mounted(
            "a type of bind without the option",
            mount("/mnt", "bind", "/etc", &[]),
            mount("/home", "tmpfs", "a", &[]),
        ),
        mounted(
            "private and shared",
            mount("/mnt", "tmpfs", "a", &["private", "shared"]),
            mount("/home", "tmpfs", "a", &["rslave"]),
        ),
        mounted(
            "an unknown option",
            mount("/mnt", "tmpfs", "a", &["moon"]),
            mount("/home", "tmpfs", "a", &[]),
        ),
        mounted(
            "an unknown option of a bind",
            mount("/mnt", "bind", "/etc", &["bind", "moon"]),
            mount("/home", "tmpfs", "a", &[]),
        ),
        mounted(
            "an option with a space",
            mount("/mnt", "tmpfs", "a", &[" ro"]),
            mount("/home", "tmpfs", "a", &["ro "]),
        ),
        mounted(
            "options in one text",
            mount("/mnt", "tmpfs", "a", &["ro,nosuid"]),
            mount("/home", "tmpfs", "a", &["size=1m,mode=700"]),
        ),
        mounted("remount", mount("/mnt", "tmpfs", "a", &[]), mount("/mnt", "tmpfs", "a", &["remount", "ro"])),
        mounted("over proc", mount("/proc/sys", "tmpfs", "a", &[]), mount("/mnt", "tmpfs", "a", &[])),
        mounted("a second proc", mount("/mnt", "proc", "proc", &["ro"]), mount("/home", "tmpfs", "a", &[])),
        mounted(
            "a device as source",
            mount("/mnt", "bind", "/dev/null", &["bind"]),
            mount("/home", "tmpfs", "a", &[]),
        ),
        config("/hostname", "with 64 bytes", &[("/hostname", json!("h".repeat(64)))]),
        config("/hostname", "with 65 bytes", &[("/hostname", json!("h".repeat(65)))]),
        config("/ociVersion", "1.0.0", &[("/ociVersion", json!("1.0.0"))]),
        config("/ociVersion", "1.0.2-dev", &[("/ociVersion", json!("1.0.2-dev"))]),
        config("/ociVersion", "0.9.0", &[("/ociVersion", json!("0.9.0"))]),
        config("/ociVersion", "v1.0.2", &[("/ociVersion", json!("v1.0.2"))]),
        config("/ociVersion", "1.0", &[("/ociVersion", json!("1.0"))]),
        config(
            "/linux/readonlyPaths",
            "a file and what holds it",
            &[("/linux/readonlyPaths", json!(["/etc", "/etc/fixed"]))],
        ),
        config(
            "/linux/maskedPaths",
            "a file and what holds it",
            &[("/linux/maskedPaths", json!(["/etc", "/etc/secret"]))],
        ),
        config(
            "/linux/maskedPaths",
            "masked and read-only",
            &[("/linux/maskedPaths", json!(["/etc/fixed"])), ("/linux/readonlyPaths", json!(["/etc/fixed"]))],
        ),
        config(
            "/unknown",
            "of every kind",
            &[
                ("/unknown", json!({"a": [1, null]})),
                ("/linux/unknown", json!(1)),
                ("/process/unknown", json!("x")),
            ],
        ),
        config(
            "/linux/resources/pids/limit",
            "50, as a float",
            &[("/linux/resources/pids/limit", json!(50.0))],
        ),
        config(
            "/linux/namespaces",
            "user without mappings",
            &[("/linux/namespaces/5", json!({"type": "user"}))],
        ),
        config("/linux/namespaces", "pid twice", &[("/linux/namespaces/5", json!({"type": "pid"}))]),
        config(
            "/linux/namespaces",
            "without pid",
            &[(
                "/linux/namespaces",
                json!([{"type": "network"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}]),
            )],
        ),
        config(
            "/linux/namespaces",
            "in another order",
            &[(
                "/linux/namespaces",
                json!([{"type": "mount"}, {"type": "uts"}, {"type": "ipc"}, {"type": "network"}, {"type": "pid"}]),
            )],
        ),
        config(
            "/linux/namespaces",
            "with a cgroup namespace",
            &[("/linux/namespaces/5", json!({"type": "cgroup"}))],
        ),
        config(
            "/linux/uidMappings",
            "without a user namespace",
            &[("/linux/uidMappings", json!([{"containerID": 0, "hostID": 0, "size": 1}]))],
        ),
        config(
            "/linux/devices",
            "of a default device",
            &[("/linux/devices", json!([{"path": "/dev/null", "type": "c", "major": 1, "minor": 3}]))],
        ),
        config(
            "/linux/devices",
            "twice",
            &[(
                "/linux/devices",
                json!([{"path": "/dev/x", "type": "c", "major": 1, "minor": 3}, {"path": "/dev/x", "type": "c", "major": 1, "minor": 3}]),
            )],
        ),
        config(
            "/linux/devices",
            "twice, but not the same",
            &[(
                "/linux/devices",
                json!([{"path": "/dev/x", "type": "c", "major": 1, "minor": 3}, {"path": "/dev/x", "type": "c", "major": 1, "minor": 5}]),
            )],
        ),
        config(
            "/linux/devices",
            "outside of /dev",
            &[("/linux/devices", json!([{"path": "/mnt/x", "type": "c", "major": 1, "minor": 3}]))],
        ),
        config(
            "/linux/devices",
            "a FIFO",
            &[("/linux/devices", json!([{"path": "/dev/x", "type": "p", "fileMode": 384}]))],
        ),
        config(
            "/linux/devices",
            "a FIFO with numbers",
            &[("/linux/devices", json!([{"path": "/dev/x", "type": "p", "major": 1, "minor": 3}]))],
        ),
    ];
    let user = json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
    for (name, changes) in [
        ("with mappings", vec![]),
        (
            "that overlap",
            vec![("/linux/uidMappings/1", json!({"containerID": 5, "hostID": 500_000, "size": 1}))],
        ),
        (
            "of size 0",
            vec![("/linux/uidMappings/1", json!({"containerID": 70_000, "hostID": 500_000, "size": 0}))],
        ),
        (
            "with a device",
            vec![("/linux/devices/0", json!({"path": "/dev/null", "type": "c", "major": 1, "minor": 3}))],
        ),
        (
            "with a device that the host does not have",
            vec![("/linux/devices/0", json!({"path": "/dev/moon", "type": "c", "major": 1, "minor": 3}))],
        ),
        ("and a user that is not mapped", vec![("/process/user/uid", json!(70_000))]),
    ] {
        let mut of = vec![
            ("/linux/namespaces/5", json!({"type": "user"})),
            ("/linux/uidMappings", user.clone()),
            ("/linux/gidMappings", user.clone()),
        ];
        of.extend(changes);
        all.push(config("/linux/uidMappings", name, &of));
    }
    for document in [Document::Config, Document::Process] {
        let at = |pointer: &str| match document {
            Document::Config => format!("/process{pointer}"),
            _ => pointer.to_owned(),
        };
        for (pointer, name, value) in [
            ("/env", "one name twice", json!(["PATH=/bin", "A=1", "A=2"])),
            ("/env", "PATH twice", json!(["PATH=/none", "PATH=/bin"])),
            ("/env", "without PATH", json!(["A=1"])),
            ("/env", "without a =", json!(["PATH=/bin", "A"])),
            ("/env", "without a name", json!(["PATH=/bin", "=x"])),
            ("/env", "an empty HOME", json!(["PATH=/bin", "HOME="])),
            ("/env", "a newline", json!(["PATH=/bin", "A=1\n2"])),
            ("/env", "a space in a name", json!(["PATH=/bin", "A B=1"])),
            ("/env", "not in order", json!(["Z=1", "PATH=/bin", "A=2"])),
            ("/user/additionalGids", "one twice", json!([5, 5, 7])),
            ("/user/additionalGids", "the group itself", json!([0])),
            ("/user/additionalGids", "a negative one", json!([-1])),
            ("/args", "a program that does not exist", json!(["moon"])),
            ("/args", "a directory", json!(["/etc"])),
            ("/args", "a file that cannot be executed", json!(["/etc/passwd"])),
            ("/args", "an empty name behind", json!(["echo", ""])),
            ("/rlimits", "soft above hard", json!([{"type": "RLIMIT_NOFILE", "soft": 20, "hard": 10}])),
            (
                "/rlimits",
                "one type twice",
                json!([{"type": "RLIMIT_CORE", "soft": 1, "hard": 1}, {"type": "RLIMIT_CORE", "soft": 2, "hard": 2}]),
            ),
            ("/capabilities/bounding", "an unknown one", json!(["CAP_KILL", "CAP_MOON"])),
            ("/capabilities/bounding", "without CAP_", json!(["KILL"])),
            ("/capabilities/bounding", "in lower case", json!(["cap_kill"])),
            ("/capabilities/effective", "more than permitted", json!(["CAP_KILL", "CAP_CHOWN"])),
            ("/capabilities/inheritable", "more than bounding", json!(["CAP_SYS_ADMIN"])),
            ("/oomScoreAdj", "1001", json!(1001)),
        ] {
            let pointer = at(pointer);
            all.push(Mutation::of(document, &pointer, name, &[(&pointer, value)]));
        }
    }
    for document in [Document::Config, Document::Update] {
        let at = |pointer: &str| match document {
            Document::Config => format!("/linux/resources{pointer}"),
            _ => pointer.to_owned(),
        };
        for (pointer, name, value) in [
            ("/cpu/cpus", "a range", json!("0-0")),
            ("/cpu/cpus", "a space in front", json!(" 0")),
            ("/cpu/cpus", "a comma behind", json!("0,")),
            ("/cpu/cpus", "no list", json!("moon")),
            ("/cpu/cpus", "backwards", json!("1-0")),
            ("/cpu/cpus", "that do not exist", json!("4000")),
            ("/cpu", "a quota above the period", json!({"quota": 200_000, "period": 100_000})),
            ("/cpu", "a quota of -1 with a period", json!({"quota": -1, "period": 50_000})),
            ("/memory", "swap below the limit", json!({"limit": 67_108_864, "swap": 33_554_432})),
            ("/memory", "swap as the limit", json!({"limit": 67_108_864, "swap": 67_108_864})),
            ("/memory", "swap without a limit", json!({"swap": 67_108_864})),
            ("/memory", "all unlimited", json!({"limit": -1, "swap": -1})),
            (
                "/memory",
                "kernel memory",
                json!({"limit": 67_108_864, "kernel": 33_554_432, "kernelTCP": 33_554_432}),
            ),
            ("/memory", "no killer", json!({"limit": 67_108_864, "disableOOMKiller": true})),
            ("/hugepageLimits", "of a size that does not exist", json!([{"pageSize": "3MB", "limit": 1}])),
            ("/unified", "on version 1", json!({"pids.max": "7"})),
        ] {
            let pointer = at(pointer);
            all.push(Mutation::of(document, &pointer, name, &[(&pointer, value)]));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn there_are_several_hundred_and_each_has_its_own_name() {
        let all = all();
        assert!(all.len() > 600, "{}", all.len());
        let names: BTreeSet<_> = all.iter().map(|m| (m.document, &m.property, &m.name)).collect();
        assert_eq!(names.len(), all.len());
    }

    #[test]
    fn a_change_is_made_where_its_pointer_says() {
        let mut document = json!({"mounts": [{}, {"type": "x"}]});
        let m = Mutation::of(
            Document::Config,
            "/mounts/1/type",
            "n",
            &[("/mounts/1/type", json!("y")), ("/a/b", json!(1))],
        );
        m.apply(&mut document);
        assert_eq!(document, json!({"mounts": [{}, {"type": "y"}], "a": {"b": 1}}));
        assert_eq!(m.property, "mounts[1].type");
    }
}
