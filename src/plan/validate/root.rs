//! The top level of config.json: version, root, names, annotations.

use super::namespaces::is_listed;
use super::{Findings, Spec};
use crate::plan::mounts::{CONTEXT_TYPE, CONTEXT_TYPES};
use crate::plan::overlay;
use crate::plan::process::KEEP_GROUPS;
use crate::plan::tables::namespaces::NamespaceKind;

pub fn check(spec: &Spec, f: &mut Findings) {
    oci_version(&spec.oci_version, f);
    root(spec, f);
    uts_name("hostname", &spec.hostname, spec, f);
    uts_name("domainname", &spec.domainname, spec, f);
    annotations(spec, f);
}

/// config.md, "Specification version": SemVer 2.0.0. A newer minor version only adds, so any 1.x is taken.
fn oci_version(version: &str, f: &mut Findings) {
    match semver_major(version) {
        Some("1") => {}
        Some(_) => f.violation("ociVersion", format!("version {version:?} is not supported, only 1.x is")),
        None if version.is_empty() => f.hinted("ociVersion", "it is required", "for example \"1.3.0\""),
        None => {
            f.hinted("ociVersion", format!("{version:?} is not a semantic version"), "for example \"1.3.0\"")
        }
    }
}

/// The major version of a semantic version (semver.org, 2.0.0).
fn semver_major(version: &str) -> Option<&str> {
    let (version, build) = version.split_once('+').map_or((version, None), |(v, b)| (v, Some(b)));
    let (core, pre) = version.split_once('-').map_or((version, None), |(v, p)| (v, Some(p)));
    let word = |w: &str| !w.is_empty() && w.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let digits = |w: &str| w.bytes().all(|b| b.is_ascii_digit());
    let number = |w: &str| !w.is_empty() && digits(w) && (w == "0" || !w.starts_with('0'));
    let words = |list: Option<&str>, ok: &dyn Fn(&str) -> bool| list.is_none_or(|l| l.split('.').all(ok));
    let parts: Vec<&str> = core.split('.').collect();
    let valid = parts.len() == 3
        && parts.iter().all(|p| number(p))
        && words(pre, &|w| word(w) && (!digits(w) || number(w)))
        && words(build, &word);
    valid.then(|| parts[0])
}

/// config.md, "Root": required, with a path.
fn root(spec: &Spec, f: &mut Findings) {
    match &spec.root {
        None => f.hinted("root", "root must be specified", "for example {\"path\": \"rootfs\"}"),
        Some(r) if r.path.is_empty() => {
            f.hinted("root.path", "it is required", "an absolute path, or one relative to the bundle")
        }
        Some(r) => f.no_nul(|| "root.path".into(), &r.path),
    }
}

/// config.md, "Hostname" and "Domainname": a name can only be set in a UTS namespace, and has at most 64 bytes
/// (sethostname(2)).
fn uts_name(property: &str, name: &str, spec: &Spec, f: &mut Findings) {
    if name.is_empty() {
        return;
    }
    if !is_listed(&spec.linux, NamespaceKind::Uts) {
        f.hinted(
            property,
            format!("unable to set {property} without a private UTS namespace"),
            "add {\"type\": \"uts\"} to linux.namespaces",
        );
    }
    if name.len() > 64 {
        f.violation(property, format!("{name:?} has {} bytes, the kernel takes 64", name.len()));
    }
    f.no_nul(|| property.into(), name);
}

/// config.md, "Annotations": keys must not be empty. Of crun's, those that engines send have an effect.
fn annotations(spec: &Spec, f: &mut Findings) {
    if spec.annotations.contains_key("") {
        f.violation("annotations", "a key is empty");
    }
    let own_mounts = is_listed(&spec.linux, NamespaceKind::Mount);
    overlay::check(spec, own_mounts, &mut f.violations);
    for (key, value) in spec.annotations.iter().filter(|(key, _)| key.starts_with("run.oci.")) {
        match key.as_str() {
            KEEP_GROUPS => {}
            CONTEXT_TYPE if CONTEXT_TYPES.contains(&value.as_str()) => {}
            CONTEXT_TYPE => f.hinted(
                format!("annotations[{key:?}]"),
                format!("{value:?} is not an option for a label"),
                format!("one of {}", CONTEXT_TYPES.join(", ")),
            ),
            _ => f.warning(format!("annotations[{key:?}] is an extension of crun and has no effect")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::semver_major;
    use serde_json::{Value, json};

    #[test]
    fn the_default_configuration_breaks_nothing() {
        passes(|_| {});
    }

    #[test]
    fn versions() {
        for ok in ["1.0.0", "1.3.0", "1.99.7", "1.0.2-dev", "1.1.0-rc.2+build.5", "1.2.1-0a", "1.0.0-x-y"] {
            passes(|v| v["ociVersion"] = json!(ok));
        }
        breaks("ociVersion: it is required", |v| v["ociVersion"] = Value::Null);
        breaks("ociVersion: version \"2.0.0\" is not supported", |v| v["ociVersion"] = json!("2.0.0"));
        breaks("ociVersion: version \"0.5.0\"", |v| v["ociVersion"] = json!("0.5.0"));
        for bad in [
            "1", "1.0", "1.0.0.0", "v1.0.0", "1.0.x", "1.00.0", "1.0.0-", "1.0.0-01", "1.0.0+", " 1.0.0",
            "1..0",
        ] {
            assert_eq!(semver_major(bad), None, "{bad}");
            breaks("ociVersion: ", |v| v["ociVersion"] = json!(bad));
        }
    }

    #[test]
    fn a_root_is_required() {
        breaks("root: root must be specified", |v| v["root"] = Value::Null);
        breaks("root.path: it is required", |v| v["root"] = json!({"readonly": true}));
        breaks("root.path: \"a\\0b\" contains a null byte", |v| v["root"]["path"] = json!("a\0b"));
        passes(|v| v["root"]["path"] = json!("/abs/dir/../x"));
    }

    #[test]
    fn names_need_a_uts_namespace() {
        breaks("hostname: unable to set hostname without a private UTS namespace", |v| {
            remove_namespace(v, "uts")
        });
        breaks("domainname: unable to set domainname without a private UTS namespace", |v| {
            remove_namespace(v, "uts");
            v["hostname"] = Value::Null;
            v["domainname"] = json!("example.org");
        });
        passes(|v| {
            remove_namespace(v, "uts");
            v["hostname"] = json!("");
        });
        passes(|v| v["domainname"] = json!("example.org"));
        passes(|v| v["hostname"] = json!("x".repeat(64)));
        breaks("hostname: \"xxx", |v| v["hostname"] = json!("x".repeat(65)));
        breaks("hostname: \"a\\0\"", |v| v["hostname"] = json!("a\0"));
    }

    #[test]
    fn annotations_have_keys() {
        breaks("annotations: a key is empty", |v| v["annotations"] = json!({"": "x"}));
        passes(|v| v["annotations"] = json!({"org.example": ""}));
        passes(|v| v["annotations"] = json!({"run.oci.mount_context_type": "rootcontext"}));
        breaks("annotations[\"run.oci.mount_context_type\"]: \"moon\" is not an option for a label", |v| {
            v["annotations"] = json!({"run.oci.mount_context_type": "moon"});
        });
        passes(|v| v["annotations"] = json!({"run.oci.keep_original_groups": "1"}));
        let warned = warned(|v| v["annotations"] = json!({"run.oci.handler": "krun", "run.ocify": "x"}));
        assert_eq!(warned.len(), 1, "{warned:?}");
        assert!(warned[0].contains("run.oci.handler"), "{warned:?}");
    }
}
