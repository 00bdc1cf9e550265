use super::super::testing::*;
use super::super::validate_process;
use super::*;
use crate::config::parse;
use serde_json::{Value, json};

/// Changes one property of `process`.
fn set(property: &'static str, value: Value) -> impl FnOnce(&mut Value) {
    move |v| v["process"][property] = value
}

#[test]
fn a_process_is_needed_at_create() {
    breaks("process: process property must not be empty", |v| v["process"] = Value::Null);
}

#[test]
fn arguments() {
    breaks("process.args: args must not be empty", set("args", json!([])));
    breaks("process.args: args must not be empty", set("args", Value::Null));
    breaks("process.args[0]: exec: \"\": executable file not found in $PATH", set("args", json!([""])));
    breaks("process.args[1]: \"a\\0\" contains a null byte", set("args", json!(["sh", "a\0"])));
    passes(set("args", json!(["sh", "", "-c", "a\nb"])));
}

#[test]
fn working_directories() {
    breaks("process.cwd: Cwd property must not be empty", set("cwd", json!("")));
    breaks("process.cwd: Cwd must be an absolute path, not \"a/b\"", set("cwd", json!("a/b")));
    breaks("process.cwd: \"/a\\0\" contains a null byte", set("cwd", json!("/a\0")));
    passes(set("cwd", json!("/a/../b")));
}

#[test]
fn environments() {
    breaks("process.env[1]: invalid environment variable \"A\": missing '='", set("env", json!(["B=", "A"])));
    breaks(
        "process.env[0]: invalid environment variable \"=x\": name cannot be empty",
        set("env", json!(["=x"])),
    );
    breaks("process.env[0]: invalid environment variable \"\": missing", set("env", json!([""])));
    breaks(
        "process.env[0]: invalid environment variable \"A=\\0\": contains nul",
        set("env", json!(["A=\0"])),
    );
    passes(set("env", json!(["A=1", "A=2", "B=x\ny=z", "HOME="])));
}

fn caps(sets: Value) -> Vec<String> {
    let change = || set("capabilities", sets.clone());
    assert!(broken(change()).is_empty(), "a capability is never a violation");
    warned(change())
}

#[test]
fn unknown_capabilities_are_warned_about_once() {
    let w = caps(json!({"bounding": ["CAP_ZZZ", "CAP_KILL", "kill\n"], "effective": ["CAP_ZZZ"]}));
    assert_eq!(w, ["ignoring unknown or unavailable capabilities: [CAP_ZZZ kill\\n] (process.capabilities)"]);
    assert!(caps(json!({"bounding": ["CAP_KILL"]})).is_empty());
    assert!(caps(Value::Null).is_empty());
}

#[test]
fn effective_capabilities_are_permitted_ones() {
    let w = caps(json!({"permitted": ["CAP_KILL"], "effective": ["CAP_KILL", "CAP_CHOWN"]}));
    assert_eq!(w, ["process.capabilities.effective: ignoring CAP_CHOWN, not among the permitted ones"]);
}

#[test]
fn resource_limits() {
    let limit = |kind: &str, soft: u64, hard: u64| json!({"type": kind, "soft": soft, "hard": hard});
    passes(set("rlimits", json!([limit("RLIMIT_CORE", 0, u64::MAX), limit("RLIMIT_NOFILE", 5, 5)])));
    breaks(
        "process.rlimits[0].type: invalid rlimit type \"NOFILE\" (hint: one of RLIMIT_AS, ",
        set("rlimits", json!([limit("NOFILE", 1, 1)])),
    );
    breaks(
        "process.rlimits[1].type: duplicate rlimit type \"RLIMIT_CPU\"",
        set("rlimits", json!([limit("RLIMIT_CPU", 1, 1), limit("RLIMIT_CPU", 1, 1)])),
    );
    breaks(
        "process.rlimits[0].soft: the soft limit 2 of \"RLIMIT_CPU\" is over the hard limit 1",
        set("rlimits", json!([limit("RLIMIT_CPU", 2, 1)])),
    );
}

#[test]
fn users() {
    passes(set("user", json!({"uid": 4294967294_u32, "gid": 1, "umask": 511, "additionalGids": [0, 5, 5]})));
    breaks(
        "process.user.uid: 4294967295 is not a valid ID, the highest is 4294967294",
        set("user", json!({"uid": u32::MAX, "gid": 0})),
    );
    breaks("process.user.gid: 4294967295 is not a valid ID", set("user", json!({"uid": 0, "gid": u32::MAX})));
    breaks(
        "process.user.additionalGids[1]: 4294967295 is not a valid ID",
        set("user", json!({"additionalGids": [1, u32::MAX]})),
    );
    breaks("process.user.umask: 512 (octal 1000) is over 511", set("user", json!({"umask": 512})));
}

#[test]
fn oom_scores() {
    for n in [-1000, 0, 1000] {
        passes(set("oomScoreAdj", json!(n)));
    }
    breaks("process.oomScoreAdj: 1001 is not in the range", set("oomScoreAdj", json!(1001)));
    breaks("process.oomScoreAdj: -1001 is not in the range", set("oomScoreAdj", json!(-1001)));
}

#[test]
fn labels_need_their_security_module() {
    passes(set("apparmorProfile", json!("p")));
    passes(set("selinuxLabel", json!("u:r:t:s0")));
    breaks("process.apparmorProfile: \"a\\0\" contains a null byte", set("apparmorProfile", json!("a\0")));
    breaks("process.selinuxLabel: \"a\\0\" contains a null byte", set("selinuxLabel", json!("a\0")));
    let bare = HostFacts { apparmor: false, selinux: false, ..facts() };
    let all = broken_on(&bare, set("apparmorProfile", json!("p")));
    assert!(all.len() == 1, "{all:?}");
    assert!(
        all[0].starts_with("process.apparmorProfile: apparmor: config provided but apparmor not supported")
    );
    let all = broken_on(&bare, set("selinuxLabel", json!("l")));
    assert!(all.len() == 1, "{all:?}");
    assert!(
        all[0].contains("selinux label is specified in config, but selinux is disabled or not supported")
    );
    assert!(broken_on(&bare, set("selinuxLabel", json!(""))).is_empty());
}

#[test]
fn cpu_affinities() {
    passes(set("execCPUAffinity", json!({"initial": "7", "final": "0-3,7"})));
    passes(set("execCPUAffinity", json!({"initial": ""})));
    breaks(
        "process.execCPUAffinity.initial: bad CPUAffinity.Initial: invalid range: 3-1",
        set("execCPUAffinity", json!({"initial": "3-1"})),
    );
    breaks(
        "process.execCPUAffinity.final: bad CPUAffinity.Final: \"x\" is not a number",
        set("execCPUAffinity", json!({"final": "x"})),
    );
}

fn exec(document: Value) -> (Vec<String>, Vec<String>) {
    let p: Process = parse::json(document.to_string().as_bytes(), "process.json").unwrap();
    let (violations, warnings) = validate_process(&p, &facts(), ProcessUse::Exec);
    (violations.iter().map(ToString::to_string).collect(), warnings)
}

#[test]
fn one_more_process_needs_no_working_directory() {
    assert!(exec(json!({"args": ["sh"]})).0.is_empty());
    assert_eq!(exec(json!({"args": ["sh"], "cwd": "x"})).0, ["cwd: Cwd must be an absolute path, not \"x\""]);
}

#[test]
fn one_more_process_is_a_document_of_its_own() {
    let (violations, warnings) = exec(json!({
        "cwd": "/", "user": {"uid": u32::MAX}, "env": ["A"], "oomScoreAdj": 5000, "capabilities": {"bounding": ["CAP_X"]},
        "ioPriority": {"class": "x", "priority": 9}, "scheduler": {"policy": ""},
    }));
    let at: Vec<_> = violations.iter().map(|v| v.split(':').next().unwrap()).collect();
    assert_eq!(
        at,
        [
            "args",
            "env[0]",
            "user.uid",
            "oomScoreAdj",
            "scheduler.policy",
            "ioPriority.class",
            "ioPriority.priority"
        ],
        "all of them at once"
    );
    assert_eq!(warnings, ["ignoring unknown or unavailable capabilities: [CAP_X] (capabilities)"]);
}
