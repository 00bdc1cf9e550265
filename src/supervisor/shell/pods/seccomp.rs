//! Seccomp profiles of the host: files that an administrator puts where the daemon looks for them.

use crate::error::{Error, Kind, Result};
use serde_json::{Map, Value};
use std::fs;
use std::path::Path;

/// Where `orund` looks when nothing else is configured.
pub const DIRECTORY: &str = "/etc/orun/seccomp";
/// The most bytes of a profile: Docker's has 20 kB.
const LONGEST: u64 = 1 << 20;

/// `linux.seccomp` of the runtime specification, from the file `name` below `dir`.
///
/// # Errors
/// There is no such file, or it is not a profile; the message names its path.
pub fn load(dir: &Path, name: &str) -> Result<Value> {
    let path = dir.join(name);
    let what = || format!("reading the seccomp profile {path:?}");
    let meta = fs::metadata(&path).map_err(|e| {
        let missing = e.kind() == std::io::ErrorKind::NotFound;
        let error = Error::sys(what(), e);
        if missing { error.hint(format!("localhostProfile names a file below {dir:?}")) } else { error }
    })?;
    if !meta.is_file() || meta.len() > LONGEST {
        return Err(Error::new(Kind::Config, format!("{}: not a file of at most 1 MiB", what())));
    }
    let bytes = fs::read(&path).map_err(|e| Error::sys(what(), e))?;
    profile(&bytes).map_err(|e| Error::new(Kind::Config, format!("{}: {e}", what())))
}

fn profile(bytes: &[u8]) -> std::result::Result<Value, String> {
    let mut profile: Map<String, Value> = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
    if !profile.contains_key("defaultAction") {
        return Err("the field \"defaultAction\" is missing".to_owned());
    }
    // Engines' profiles: other architectures are worked out by the runtime, and conditions are not kept.
    profile.remove("archMap");
    let rules = profile.get_mut("syscalls").and_then(Value::as_array_mut);
    for (n, rule) in rules.into_iter().flatten().enumerate() {
        let Some(rule) = rule.as_object_mut() else { continue };
        let empty = |v: &Value| v.is_null() || v.as_object().is_some_and(Map::is_empty);
        for name in ["includes", "excludes"] {
            if rule.remove(name).is_some_and(|v| !empty(&v)) {
                return Err(format!(
                    "syscalls[{n}].{name} is a condition that only container engines know: write the profile for one \
                     set of capabilities"
                ));
            }
        }
        rule.remove("comment");
    }
    Ok(Value::Object(profile))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn profiles_of_engines_become_those_of_the_specification() {
        let text = json!({
            "defaultAction": "SCMP_ACT_ERRNO",
            "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": []}],
            "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ALLOW", "comment": "", "includes": {}, "excludes": {}}],
        });
        let expected = json!({
            "defaultAction": "SCMP_ACT_ERRNO",
            "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ALLOW"}],
        });
        assert_eq!(profile(text.to_string().as_bytes()), Ok(expected));
        let conditional = json!({
            "defaultAction": "SCMP_ACT_ERRNO",
            "syscalls": [{"names": ["bpf"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_BPF"]}}],
        });
        let e = profile(conditional.to_string().as_bytes()).unwrap_err();
        assert!(e.starts_with("syscalls[0].includes is a condition"), "{e}");
        assert!(profile(b"{}").unwrap_err().contains("defaultAction"));
        assert!(profile(b"[]").is_err());
    }

    #[test]
    fn a_missing_profile_is_named() {
        let e = load(Path::new("/nowhere"), "profiles/a.json").unwrap_err();
        let text = format!("{e} {:?}", e.hint_text());
        assert!(
            text.contains("\"/nowhere/profiles/a.json\"") && text.contains("names a file below"),
            "{text}"
        );
    }
}
