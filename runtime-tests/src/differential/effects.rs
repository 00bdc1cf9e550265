//! What a container's program sees, as facts that can be compared between runtimes and between runs.

use crate::proc::Mount;
use serde_json::Value;
use std::collections::BTreeMap;

/// What differs from container to container, or does not depend on the runtime.
const VOLATILE: [&str; 16] = [
    "/boottime",
    "/monotonic",
    "/pid",
    "/ppid",
    "/pgid",
    "/sid",
    "/cgroup",
    "/keyring",
    "/fds",
    "/ns",
    "/mountinfo",
    "/exe",
    "/lsm",
    "/tty",
    "/last_cap",
    "/environ",
];

/// Facts by name.
pub type Facts = BTreeMap<String, String>;

/// The facts of a probe's report. `own` are the namespaces of the runtime's caller.
pub fn facts(report: &Value, own: &dyn Fn(&str) -> String) -> Facts {
    let mut facts = Facts::new();
    flatten("", report, &mut facts);
    facts.retain(|name, _| !VOLATILE.iter().any(|v| name == v || name.starts_with(&format!("{v}/"))));
    // Processes, of which the runtimes have different numbers.
    let numbers = |name: &str| name.starts_with("/paths/") && name.ends_with("/entries");
    for (_, list) in facts.iter_mut().filter(|(name, _)| numbers(name)) {
        let names: Vec<String> = serde_json::from_str(list).unwrap_or_default();
        let names: Vec<_> = names.into_iter().filter(|n| n.parse::<u32>().is_err()).collect();
        *list = format!("{names:?}");
    }
    for (kind, ns) in report["ns"].as_object().into_iter().flatten() {
        let new = ns.as_str().unwrap_or("") != own(kind);
        facts.insert(format!("/ns/{kind}"), if new { "its own" } else { "the caller's" }.into());
    }
    let lines = report["mountinfo"].as_array().into_iter().flatten().filter_map(Value::as_str);
    for (at, mount) in lines.filter_map(Mount::parse).enumerate() {
        // What is mounted twice at one place has two facts.
        let same = facts.keys().filter(|k| **k == format!("/mounts{}", mount.target)).count();
        let name = if same == 0 {
            format!("/mounts{}", mount.target)
        } else {
            format!("/mounts{}#{at}", mount.target)
        };
        let mut options = mount.options.clone();
        options.sort();
        if name.starts_with("/mounts/home/") {
            // A directory of the host: what is mounted below it is the host's.
            continue;
        }
        facts.insert(name, format!("{} {}", mount.fstype, options.join(",")));
    }
    facts
}

fn flatten(at: &str, value: &Value, facts: &mut Facts) {
    match value {
        Value::Object(object) => object.iter().for_each(|(k, v)| flatten(&format!("{at}/{k}"), v, facts)),
        other => drop(facts.insert(at.to_owned(), other.to_string())),
    }
}

/// What a change has changed: the facts that are not those of the unchanged document. A fact that is gone is empty.
pub fn changed(base: &Facts, facts: &Facts) -> Facts {
    let new = facts.iter().filter(|(k, v)| base.get(*k) != Some(v)).map(|(k, v)| (k.clone(), v.clone()));
    let gone = base.keys().filter(|k| !facts.contains_key(*k)).map(|k| (k.clone(), String::new()));
    new.chain(gone).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn facts_are_what_can_be_compared() {
        let report = json!({"umask": 1, "boottime": 77, "env": {"A": "1"}, "ns": {"pid": "pid:[1]", "net": "net:[2]"},
            "mountinfo": ["66 65 0:40 / /proc rw,nosuid - proc proc rw", "67 66 0:40 / /proc ro - tmpfs a rw"]});
        let facts = facts(&report, &|kind| format!("{kind}:[1]"));
        let want = [
            ("/env/A", "\"1\""),
            ("/mounts/proc", "proc nosuid,rw"),
            ("/mounts/proc#1", "tmpfs ro"),
            ("/ns/net", "its own"),
            ("/ns/pid", "the caller's"),
            ("/umask", "1"),
        ];
        let want: Facts = want.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
        assert_eq!(facts, want);
        let mut other = facts.clone();
        other.remove("/umask");
        other.insert("/env/A".into(), "\"2\"".into());
        let change = changed(&facts, &other);
        assert_eq!(
            change.into_iter().collect::<Vec<_>>(),
            [("/env/A".into(), "\"2\"".into()), ("/umask".into(), String::new())]
        );
    }
}
