//! Whatever a document holds, it is parsed or refused, and checked, without a panic.

use super::testing::facts;
use super::*;
use crate::config::{defaults, parse};
use crate::plan::tables::mount_options::parse_options;
use proptest::prelude::*;
use serde_json::{Value, json};

/// Texts that mean something somewhere.
const WORDS: [&str; 24] = [
    "",
    "/",
    "..",
    "\0",
    "user",
    "network",
    "/proc",
    "bind",
    "idmap",
    "ridmap",
    "tmpfs",
    "0-3",
    "4294967295",
    "%d",
    "A=B",
    "=",
    "SCHED_DEADLINE",
    "MPOL_BIND",
    "RLIMIT_CORE",
    "CAP_KILL",
    "1.0.0",
    "net.ipv4.x",
    "2MB",
    "é\n",
];

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        prop_oneof![Just(-1_i64), Just(0), Just(4294967295), Just(4294967296)].prop_map(Value::from),
        proptest::sample::select(&WORDS[..]).prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map(proptest::sample::select(&WORDS[..]), inner, 0..4)
                .prop_map(|m| Value::Object(m.into_iter().map(|(k, v)| (k.to_owned(), v)).collect())),
        ]
    })
}

/// A configuration that has something in every section.
fn full() -> Value {
    let mut v = defaults::spec();
    let hook = json!([{"path": "/h", "args": ["h"], "env": ["A=B"], "timeout": 3}]);
    let map = json!([{"containerID": 0, "hostID": 1, "size": 10}]);
    v["hooks"] = json!({"prestart": hook, "createRuntime": hook, "createContainer": hook, "startContainer": hook,
                        "poststart": hook, "poststop": hook});
    v["annotations"] = json!({"a": "b"});
    v["mounts"].as_array_mut().unwrap().push(json!({
        "destination": "/m", "source": "/s", "options": ["rbind", "idmap", "rro"], "uidMappings": map, "gidMappings": map,
    }));
    for (key, value) in [
        ("scheduler", json!({"policy": "SCHED_FIFO", "priority": 1, "flags": ["SCHED_FLAG_RECLAIM"]})),
        ("ioPriority", json!({"class": "IOPRIO_CLASS_BE", "priority": 1})),
        ("execCPUAffinity", json!({"initial": "0", "final": "1"})),
        ("consoleSize", json!({"height": 1, "width": 2})),
        ("oomScoreAdj", json!(1)),
        ("user", json!({"uid": 1, "gid": 1, "umask": 18, "additionalGids": [2]})),
    ] {
        v["process"][key] = value;
    }
    for kind in ["user", "time"] {
        v["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": kind}));
    }
    for (key, value) in [
        ("uidMappings", map.clone()),
        ("gidMappings", map),
        ("timeOffsets", json!({"monotonic": {"secs": 1, "nanosecs": 2}})),
        (
            "devices",
            json!([{"path": "/d", "type": "c", "major": 1, "minor": 3, "fileMode": 438, "uid": 0, "gid": 0}]),
        ),
        ("netDevices", json!({"eth0": {"name": "x"}})),
        ("sysctl", json!({"net.ipv4.ip_forward": "1"})),
        (
            "intelRdt",
            json!({"closID": "a", "schemata": ["L3:0=1"], "memBwSchema": "MB:0=1", "l3CacheSchema": "L3:0=1"}),
        ),
        ("memoryPolicy", json!({"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]})),
        ("personality", json!({"domain": "LINUX", "flags": []})),
        ("rootfsPropagation", json!("slave")),
        ("cgroupsPath", json!("/a")),
        (
            "resources",
            json!({
                "devices": [{"allow": true, "type": "c", "major": 1, "minor": 3, "access": "rw"}], "memory": {"limit": 1},
                "pids": {"limit": 1}, "cpu": {"cpus": "0"}, "unified": {"a.b": "c"},
                "blockIO": {"weightDevice": [{"major": 1, "minor": 1, "weight": 10}],
                            "throttleReadBpsDevice": [{"major": 1, "minor": 1, "rate": 1}]},
                "hugepageLimits": [{"pageSize": "2MB", "limit": 1}], "rdma": {"a": {"hcaHandles": 1}},
                "network": {"classID": 1, "priorities": [{"name": "a", "priority": 1}]},
            }),
        ),
    ] {
        v["linux"][key] = value;
    }
    v
}

/// Pointers (RFC 6901) to every value below `v`.
fn pointers(v: &Value, at: &str, out: &mut Vec<String>) {
    out.push(at.to_owned());
    let escape = |k: &str| k.replace('~', "~0").replace('/', "~1");
    match v {
        Value::Object(m) => m.iter().for_each(|(k, v)| pointers(v, &format!("{at}/{}", escape(k)), out)),
        Value::Array(a) => a.iter().enumerate().for_each(|(i, v)| pointers(v, &format!("{at}/{i}"), out)),
        _ => {}
    }
}

fn all_pointers() -> Vec<String> {
    let mut out = Vec::new();
    pointers(&full(), "", &mut out);
    out
}

fn compile(document: &Value) {
    let bytes = document.to_string().into_bytes();
    if let Ok(spec) = parse::json::<Spec>(&bytes, "config.json") {
        for facts in [facts(), HostFacts { euid: 1000, ..HostFacts::default() }] {
            let (violations, _) = validate(&spec, &facts);
            for v in violations {
                assert!(!v.property.is_empty() && !v.message.is_empty());
                // One violation is one line, whatever the document put into it.
                assert!(!v.to_string().contains(['\n', '\0']), "{v:?}");
            }
        }
    }
    if let Ok(process) = parse::json::<Process>(&bytes, "process.json") {
        let _ = validate_process(&process, &facts(), ProcessUse::Exec);
    }
}

#[test]
fn the_full_configuration_breaks_nothing() {
    let spec = parse::json::<Spec>(full().to_string().as_bytes(), "config.json").unwrap();
    assert_eq!(validate(&spec, &facts()).0, []);
    assert!(all_pointers().len() > 200);
}

#[test]
fn violations_are_found_all_at_once() {
    let document = br#"{"ociVersion": "x", "mounts": [{}], "process": {"args": [], "cwd": "a"},
        "linux": {"namespaces": [{"type": "x"}], "sysctl": {"kernel.core_pattern": "|x"}, "maskedPaths": [""]}}"#;
    let spec = parse::json::<Spec>(document, "config.json").unwrap();
    let at: Vec<_> = validate(&spec, &facts()).0.into_iter().map(|v| v.property).collect();
    assert_eq!(
        at,
        [
            "ociVersion",
            "root",
            "mounts[0].destination",
            "mounts[0].type",
            "process.args",
            "process.cwd",
            "linux.namespaces[0].type",
            "linux.sysctl[\"kernel.core_pattern\"]",
            "linux.maskedPaths",
            "linux.maskedPaths[0]",
        ]
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn any_document_is_answered(document in any_json()) {
        compile(&document);
    }

    /// One value of a full configuration replaced by any other.
    #[test]
    fn any_change_of_a_configuration_is_answered(
        changes in proptest::collection::vec((proptest::sample::select(all_pointers()), any_json()), 1..4),
    ) {
        let mut document = full();
        for (pointer, value) in changes {
            if let Some(place) = document.pointer_mut(&pointer) {
                *place = value;
            }
        }
        compile(&document);
    }

    #[test]
    fn any_bytes_are_answered(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        let _ = parse::json::<Spec>(&bytes, "config.json");
    }

    #[test]
    fn options_that_pass_hold_no_null_bytes(option in "[\\x00a,=]{0,6}") {
        let mut document = defaults::spec();
        document["mounts"][1]["options"] = json!([option]);
        let spec = parse::json::<Spec>(document.to_string().as_bytes(), "config.json").unwrap();
        if validate(&spec, &facts()).0.is_empty() {
            prop_assert!(!parse_options(&spec.mounts[1].options).data.join(",").contains('\0'));
        }
    }
}
