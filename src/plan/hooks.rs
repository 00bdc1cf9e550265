//! `hooks`: the state document they get, and those that run in the container.

use super::op::HookOp;
use super::text::cstring;
use crate::config::spec::Hook;
use crate::sys::exec::StringArray;
use std::collections::BTreeMap;
use std::path::Path;

/// The version of the runtime specification that orun follows.
pub const SPEC_VERSION: &str = "1.3.0";
/// How long a hook without a time-out of its own may take, in seconds: no wait is forever.
const DEFAULT_TIMEOUT: i64 = 600;

/// How long a hook may take, in milliseconds.
pub fn timeout_ms(hook: &Hook) -> u32 {
    let seconds = hook.timeout.filter(|t| *t > 0).unwrap_or(DEFAULT_TIMEOUT);
    u32::try_from(seconds.saturating_mul(1000)).unwrap_or(u32::MAX)
}

/// The state document (runtime.md, "State") for hooks, in two parts: the pid goes between them.
pub fn state_document(
    annotations: &BTreeMap<String, String>,
    id: &str,
    bundle: &Path,
    status: &str,
) -> (Vec<u8>, Vec<u8>) {
    let text = |s: &str| serde_json::Value::from(s).to_string();
    let before =
        format!("{{\"ociVersion\":\"{SPEC_VERSION}\",\"id\":{},\"status\":\"{status}\",\"pid\":", text(id));
    let mut after = format!(",\"bundle\":{}", text(&bundle.to_string_lossy()));
    if !annotations.is_empty() {
        after += &format!(",\"annotations\":{}", serde_json::json!(annotations));
    }
    after.push('}');
    (before.into_bytes(), after.into_bytes())
}

/// When a hook in the container runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moment {
    /// `createContainer`.
    BeforeRoot,
    /// `startContainer`.
    BeforeProgram,
}

/// Hooks of one kind that run in the container. One without an environment has that of the program.
pub(super) fn in_container(moment: Moment, hooks: &[Hook], state: &(Vec<u8>, Vec<u8>)) -> Vec<HookOp> {
    let early = moment == Moment::BeforeRoot;
    let one = |(index, h): (usize, &Hook)| {
        let args = if h.args.is_empty() { vec![h.path.clone()] } else { h.args.clone() };
        let array = |v: Vec<String>| StringArray::new(v.into_iter().map(cstring).collect());
        HookOp {
            kind: if early { "createContainer" } else { "startContainer" },
            index,
            path: cstring(h.path.as_str()),
            args: array(args),
            env: h.env.clone().map(array),
            at_root: early,
            timeout: timeout_ms(h),
            state: state.clone(),
        }
    };
    hooks.iter().enumerate().map(one).collect()
}
