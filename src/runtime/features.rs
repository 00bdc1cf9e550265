//! `features`: what this runtime implements (features.md). It describes the program, not the host.

use serde_json::{Value, json};

use crate::config::defaults::OCI_VERSION;
use crate::plan::cgroup::systemd::annotation;
use crate::plan::seccomp::{Arch, names};
use crate::plan::tables::{capabilities, mempolicy, mount_options, namespaces};
use crate::plan::{checkpoint, mounts, overlay, process};

/// The annotations of config.json, or what they begin with, that change what is done with a bundle.
const UNSAFE_ANNOTATIONS: [&str; 5] = [
    // It names a file of the host with options for CRIU, which runs as root there.
    checkpoint::CONFIG_ANNOTATION,
    // The annotation sets a property of the unit, for instance a program that systemd runs.
    annotation::PREFIX,
    // The program keeps the groups of the runtime's caller.
    process::KEEP_GROUPS,
    // The label of the mounts means something else.
    mounts::CONTEXT_TYPE,
    // The annotation names directories of the host that become the root file system.
    overlay::PREFIX,
];

/// The features document.
pub fn features() -> Value {
    json!({
        // The oldest version that containers are still made for.
        "ociVersionMin": "1.0.0",
        "ociVersionMax": OCI_VERSION,
        "hooks": ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"],
        "mountOptions": mount_options::names(),
        "linux": {
            "namespaces": namespaces::NamespaceKind::ALL.map(namespaces::NamespaceKind::name),
            "capabilities": capabilities::names().collect::<Vec<_>>(),
            "cgroup": { "v1": true, "v2": true, "systemd": true, "systemdUser": true, "rdma": true },
            "seccomp": seccomp(),
            "apparmor": { "enabled": true },
            "selinux": { "enabled": true },
            "intelRdt": { "enabled": true, "schemata": true, "monitoring": true },
            "memoryPolicy": {
                "modes": mempolicy::modes().collect::<Vec<_>>(),
                "flags": mempolicy::flags().collect::<Vec<_>>(),
            },
            "mountExtensions": { "idmap": { "enabled": true } },
            "netDevices": { "enabled": true },
        },
        "annotations": {
            "org.opencontainers.runc.checkpoint.enabled": "true",
            "run.orun.version": env!("CARGO_PKG_VERSION"),
            "run.orun.commit": COMMIT,
        },
        "potentiallyUnsafeConfigAnnotations": UNSAFE_ANNOTATIONS,
    })
}

/// The commit that this binary was built from.
pub const COMMIT: &str = match option_env!("ORUN_COMMIT") {
    Some(commit) => commit,
    None => "unknown",
};

fn seccomp() -> Value {
    let flags = sorted(names::FLAGS.map(|(name, _)| name));
    json!({
        "enabled": true,
        "actions": sorted(names::ACTIONS.map(|(name, _)| name)),
        "operators": sorted(names::OPERATORS.map(|(name, _)| name)),
        "archs": sorted(Arch::ALL.map(Arch::name)),
        "knownFlags": flags.clone(),
        "supportedFlags": flags,
    })
}

fn sorted<const N: usize>(mut names: [&str; N]) -> Vec<&str> {
    names.sort_unstable();
    names.to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(v: &Value) -> Vec<&str> {
        v.as_array().unwrap().iter().map(|s| s.as_str().unwrap()).collect()
    }

    /// The names at `pointer`.
    fn named<'a>(features: &'a Value, pointer: &str) -> Vec<&'a str> {
        strings(features.pointer(pointer).unwrap_or_else(|| panic!("no {pointer}")))
    }

    #[test]
    fn everything_that_is_named_is_recognised() {
        let f = features();
        let all = |pointer: &str, known: &dyn Fn(&str) -> bool| {
            let names = named(&f, pointer);
            assert!(!names.is_empty(), "{pointer} is empty");
            for name in names {
                assert!(known(name), "{pointer}: {name:?} is not recognised");
                assert!(!known(&format!("{name}_")), "{pointer}: anything is recognised");
            }
        };
        all("/linux/namespaces", &|n| namespaces::NamespaceKind::from_name(n).is_some());
        all("/linux/capabilities", &|n| capabilities::number(n).is_some());
        all("/linux/memoryPolicy/modes", &|n| mempolicy::mode(n).is_some());
        all("/linux/memoryPolicy/flags", &|n| mempolicy::flag(n).is_some());
        all("/mountOptions", &|n| mount_options::parse_options(&[n.to_owned()]).data.is_empty());
        let profile = |change: &dyn Fn(&mut Value)| {
            let mut profile = json!({
                "defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/run/agent",
                "syscalls": [{"names": ["getpid"], "action": "SCMP_ACT_ERRNO", "args": []}]
            });
            change(&mut profile);
            let profile = serde_json::from_value(profile).unwrap();
            crate::plan::seccomp::compile(&profile, &crate::plan::facts::SeccompFacts::default()).is_ok()
        };
        all("/linux/seccomp/actions", &|n| profile(&|p| p["syscalls"][0]["action"] = json!(n)));
        all("/linux/seccomp/operators", &|n| {
            profile(&|p| p["syscalls"][0]["args"] = json!([{"index": 0, "value": 1, "op": n}]))
        });
        all("/linux/seccomp/archs", &|n| profile(&|p| p["architectures"] = json!([n])));
        all("/linux/seccomp/knownFlags", &|n| profile(&|p| p["flags"] = json!([n])));
        assert_eq!(f["linux"]["seccomp"]["knownFlags"], f["linux"]["seccomp"]["supportedFlags"]);
        for version in ["ociVersionMin", "ociVersionMax"] {
            let mut spec: crate::config::spec::Spec =
                serde_json::from_value(crate::config::defaults::spec()).unwrap();
            spec.oci_version = f[version].as_str().unwrap().to_owned();
            let facts = crate::plan::facts::HostFacts::default();
            let (violations, _) = crate::plan::validate::validate(&spec, &facts);
            assert!(violations.iter().all(|v| v.property != "ociVersion"), "{violations:?}");
        }
    }

    #[test]
    fn only_properties_of_the_specification() {
        let f = features();
        let keys =
            |v: &Value| v.as_object().unwrap().keys().cloned().collect::<std::collections::BTreeSet<_>>();
        let set =
            |names: &[&str]| names.iter().map(ToString::to_string).collect::<std::collections::BTreeSet<_>>();
        let top = [
            "ociVersionMin",
            "ociVersionMax",
            "hooks",
            "mountOptions",
            "linux",
            "annotations",
            "potentiallyUnsafeConfigAnnotations",
        ];
        assert_eq!(keys(&f), set(&top));
        let linux = [
            "namespaces",
            "capabilities",
            "cgroup",
            "seccomp",
            "apparmor",
            "selinux",
            "intelRdt",
            "memoryPolicy",
            "mountExtensions",
            "netDevices",
        ];
        assert_eq!(keys(&f["linux"]), set(&linux));
        assert_eq!(keys(&f["linux"]["cgroup"]), set(&["v1", "v2", "systemd", "systemdUser", "rdma"]));
        let seccomp = ["enabled", "actions", "operators", "archs", "knownFlags", "supportedFlags"];
        assert_eq!(keys(&f["linux"]["seccomp"]), set(&seccomp));
        assert_eq!(keys(&f["linux"]["intelRdt"]), set(&["enabled", "schemata", "monitoring"]));
        assert!(f["annotations"].as_object().unwrap().iter().all(|(k, v)| !k.is_empty() && v.is_string()));
    }

    #[test]
    fn what_engines_look_for() {
        let f = features();
        assert_eq!((&f["ociVersionMin"], &f["ociVersionMax"]), (&json!("1.0.0"), &json!("1.3.0")));
        // Recursive read-only mounts and id-mapped mounts are refused by engines unless they are named here.
        assert!(strings(&f["mountOptions"]).contains(&"rro"));
        assert_eq!(f["linux"]["mountExtensions"]["idmap"]["enabled"], true);
        assert_eq!(strings(&f["linux"]["namespaces"]).len(), 8);
        assert!(strings(&f["linux"]["namespaces"]).contains(&"time"));
        assert!(strings(&f["linux"]["capabilities"]).contains(&"CAP_CHECKPOINT_RESTORE"));
        assert!(strings(&f["linux"]["memoryPolicy"]["modes"]).contains(&"MPOL_BIND"));
        assert_eq!(strings(&f["hooks"]).len(), 6);
        assert_eq!(f["linux"]["cgroup"]["systemd"], true);
        assert_eq!(
            f["potentiallyUnsafeConfigAnnotations"],
            json!([
                "org.criu.config",
                "org.systemd.property.",
                "run.oci.keep_original_groups",
                "run.oci.mount_context_type",
                "run.orun.rootfs."
            ])
        );
        let seccomp = &f["linux"]["seccomp"];
        assert!(strings(&seccomp["archs"]).contains(&"SCMP_ARCH_X86_64"));
        assert!(strings(&seccomp["actions"]).contains(&"SCMP_ACT_NOTIFY"));
        assert!(strings(&seccomp["operators"]).contains(&"SCMP_CMP_MASKED_EQ"));
        assert!(strings(&seccomp["knownFlags"]).contains(&"SECCOMP_FILTER_FLAG_LOG"));
    }
}
