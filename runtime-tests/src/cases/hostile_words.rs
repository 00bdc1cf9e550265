//! Words of a configuration that are made to confuse: terminals obey them, or there are too many.

use crate::check::{Done, same};
use crate::ensure;
use crate::matrix::Matrix;
use serde_json::{Value, json};
use std::fs;
use std::time::Duration;

const SOURCE: &str = "no word of the input reaches a terminal as a control character";
/// Clears a screen, sets a title, changes the line, turns the order of the text around.
const NASTY: &str = "a\u{1b}[2J\u{1b}]0;title\u{7}\nlevel=error\r\u{9b}1m\u{202e}b";

/// Adds the cases of this area.
pub fn register(m: &mut Matrix) {
    for (name, pointer, value) in [
        ("mount-type", "/mounts/0/type", json!(NASTY)),
        (
            "mount-source",
            "/mounts/-/source",
            json!({"destination": "/x", "source": format!("/{NASTY}"), "options": ["bind"]}),
        ),
        ("mount-destination", "/mounts/-", json!({"destination": format!("/proc/{NASTY}"), "type": "tmpfs"})),
        (
            "mount-option",
            "/mounts/-",
            json!({"destination": "/x", "source": "/", "options": ["bind", NASTY]}),
        ),
        ("capability", "/process/capabilities/bounding", json!([NASTY])),
        ("program", "/process/args", json!([NASTY])),
        ("program-path", "/process/args", json!([format!("/{NASTY}")])),
        ("namespace", "/linux/namespaces/0/type", json!(NASTY)),
        ("namespace-path", "/linux/namespaces/0/path", json!(format!("/{NASTY}"))),
        ("seccomp-action", "/linux/seccomp", json!({"defaultAction": NASTY})),
        (
            "seccomp-architecture",
            "/linux/seccomp",
            json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": [NASTY]}),
        ),
        (
            "seccomp-operator",
            "/linux/seccomp",
            json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ERRNO",
                   "args": [{"index": 0, "value": 1, "op": NASTY}]}]}),
        ),
        ("seccomp-flag", "/linux/seccomp", json!({"defaultAction": "SCMP_ACT_ALLOW", "flags": [NASTY]})),
        ("sysctl", "/linux/sysctl", json!({NASTY: "1"})),
        ("propagation", "/linux/rootfsPropagation", json!(NASTY)),
        ("rlimit", "/process/rlimits", json!([{"type": NASTY, "soft": 1, "hard": 1}])),
        ("hook", "/hooks", json!({"createRuntime": [{"path": format!("/{NASTY}")}]})),
        ("root", "/root/path", json!(NASTY)),
        ("cgroup", "/linux/cgroupsPath", json!(format!("/{NASTY}/../..\0"))),
        (
            "device-path",
            "/linux/devices",
            json!([{"path": format!("/proc/{NASTY}/x"), "type": "c", "major": 1, "minor": 3}]),
        ),
        ("type-of-a-value", "/process/cwd", json!({NASTY: 1})),
    ] {
        m.case(format!("security/control-characters-in-the-{name}"), SOURCE, move |t| {
            let bundle = match pointer.strip_suffix("/-").or(pointer.strip_suffix("/-/source")) {
                Some(list) => t.bundle()?.push(list, value.clone()),
                None => t.bundle()?.set(pointer, value.clone()),
            };
            let out = t.run(&bundle)?;
            // What is unknown and does no harm is warned about.
            let word = if out.status.success() { "warning" } else { "error" };
            plain(word, &out.stderr)?;
            same("lines with that word", out.stderr.lines().filter(|l| l.contains(word)).count(), 1)?;
            t.nothing_left()
        });
    }
    m.case("security/control-characters-in-the-plan", SOURCE, |t| {
        t.only("orun")?;
        let bundle = t.bundle()?.mount(&format!("/{NASTY}"), "tmpfs", NASTY, &[]);
        let bundle = bundle
            .set("/linux/maskedPaths", json!([format!("/{NASTY}")]))
            .set("/process/cwd", format!("/{NASTY}"));
        bundle.save()?;
        plain("the plan", &t.verb("plan").arg(&bundle.dir).output()?.ok()?.stdout)
    });
    m.case("security/control-characters-in-the-list", SOURCE, |t| {
        let mut bundle = t.bundle()?.sleeps();
        let strange = bundle.dir.with_file_name("b\u{1b}[2J\u{7}x");
        fs::rename(&bundle.dir, &strange)?;
        bundle.dir = strange;
        let c = t.start(&bundle)?;
        plain("the list", &t.verb("list").ok()?.stdout)?;
        c.end()
    });
    m.case("security/many-device-rules-are-refused-in-time", "a configuration cannot keep the runtime", |t| {
        t.only("orun")?;
        let rule = |n: u32| json!({"allow": n & 1 == 0, "type": "c", "major": n >> 8, "minor": n & 255, "access": "rw"});
        let many: Vec<Value> = (0..200_000).map(rule).collect();
        let bundle = t.bundle()?.set("/linux/resources/devices", json!(many));
        bundle.save()?;
        let cmd = t.verb("run").arg("--bundle").arg(&bundle.dir).arg(t.id()).deadline(Duration::from_secs(20));
        cmd.output()?.fails_with(&["device rules"])?;
        // As many as an engine may write, and more, still work.
        let some: Vec<Value> = (0..2000).map(rule).collect();
        t.run(&t.bundle()?.set("/linux/resources/devices", json!(some)).args(&["true"]))?.ok()?;
        t.nothing_left()
    });
}

/// Demands text of lines without control characters and marks of direction.
fn plain(what: &str, text: &str) -> Done {
    let bad = text.chars().find(|c| (c.is_control() && *c != '\n') || ('\u{202a}'..='\u{202e}').contains(c));
    ensure!(bad.is_none() && !text.is_empty(), "{what} holds {bad:?}: {text:?}");
    Ok(())
}
