//! `hooks` (config.md, "POSIX-platform Hooks").

use super::{Findings, process};
use crate::config::spec::{Hook, Hooks};

pub fn check(hooks: &Hooks, f: &mut Findings) {
    let kinds = [
        ("prestart", &hooks.prestart),
        ("createRuntime", &hooks.create_runtime),
        ("createContainer", &hooks.create_container),
        ("startContainer", &hooks.start_container),
        ("poststart", &hooks.poststart),
        ("poststop", &hooks.poststop),
    ];
    for (kind, list) in kinds {
        for (i, hook) in list.iter().enumerate() {
            check_one(&|property: &str| format!("hooks.{kind}[{i}].{property}"), hook, f);
        }
    }
}

/// A path that is absolute, an environment of `NAME=VALUE`, a timeout of at least a second.
fn check_one(at: &dyn Fn(&str) -> String, hook: &Hook, f: &mut Findings) {
    if hook.path.is_empty() {
        f.violation(at("path"), "it is required");
    } else if !hook.path.starts_with('/') {
        f.violation(at("path"), format!("path {:?} is not absolute", hook.path));
    }
    f.no_nul(|| at("path"), &hook.path);
    for (i, arg) in hook.args.iter().enumerate() {
        f.no_nul(|| at(&format!("args[{i}]")), arg);
    }
    process::env(hook.env.as_deref().unwrap_or_default(), || at("env"), f);
    if let Some(t) = hook.timeout.filter(|t| *t <= 0) {
        f.hinted(at("timeout"), format!("{t} is not greater than zero"), "leave it out for no limit");
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use serde_json::{Value, json};

    fn with(kind: &'static str, hook: Value) -> impl FnOnce(&mut Value) {
        move |v| v["hooks"] = json!({kind: [{"path": "/ok"}, hook]})
    }

    #[test]
    fn each_kind_is_checked() {
        for kind in
            ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"]
        {
            breaks(
                &format!("hooks.{kind}[1].path: path \"bin/x\" is not absolute"),
                with(kind, json!({"path": "bin/x"})),
            );
        }
    }

    #[test]
    fn the_rules_of_a_hook() {
        passes(with("poststop", json!({"path": "/x", "args": ["x", ""], "env": ["A="], "timeout": 1})));
        passes(with("poststop", json!({"path": "/x", "env": []})));
        breaks("hooks.poststop[1].path: it is required", with("poststop", json!({"timeout": 5})));
        breaks("hooks.poststop[1].path: \"/a\\0\"", with("poststop", json!({"path": "/a\0"})));
        breaks("hooks.poststop[1].args[1]: ", with("poststop", json!({"path": "/a", "args": ["a", "\0"]})));
        breaks(
            "hooks.poststop[1].env[0]: invalid environment variable \"A\"",
            with("poststop", json!({"path": "/a", "env": ["A"]})),
        );
        for t in [0, -1] {
            breaks("hooks.poststop[1].timeout: ", with("poststop", json!({"path": "/a", "timeout": t})));
        }
    }
}
