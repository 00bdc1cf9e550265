//! `features`: what this runtime implements (features.md). It tells of the program, not of the host.

use serde_json::{Value, json};

use crate::config::defaults::OCI_VERSION;
use crate::plan::seccomp::{Arch, names};
use crate::plan::tables::{capabilities, mempolicy, mount_options, namespaces};

/// The features document.
pub fn features() -> Value {
    json!({
        // The oldest version that containers are still made for.
        "ociVersionMin": "1.0.0",
        "ociVersionMax": OCI_VERSION,
        "hooks": ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"],
        "mountOptions": mount_options::names(),
        "linux": {
            "namespaces": namespaces::Kind::ALL.map(namespaces::Kind::name),
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
            "org.opencontainers.runc.checkpoint.enabled": "false",
            "io.github.seccomp.libseccomp.version": libseccomp_version(),
            "run.orun.version": env!("CARGO_PKG_VERSION"),
            "run.orun.commit": COMMIT,
        },
        // Properties of the unit, where systemd manages the cgroups.
        "potentiallyUnsafeConfigAnnotations": ["org.systemd.property."],
    })
}

/// The commit that this binary was built from.
pub const COMMIT: &str = match option_env!("ORUN_COMMIT") {
    Some(commit) => commit,
    None => "unknown",
};

/// The version of libseccomp.
pub fn libseccomp_version() -> String {
    libseccomp::ScmpVersion::current().map_or_else(|_| "unknown".to_owned(), |v| v.to_string())
}

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
        assert_eq!(f["potentiallyUnsafeConfigAnnotations"], json!(["org.systemd.property."]));
        let seccomp = &f["linux"]["seccomp"];
        assert!(strings(&seccomp["archs"]).contains(&"SCMP_ARCH_X86_64"));
        assert!(strings(&seccomp["actions"]).contains(&"SCMP_ACT_NOTIFY"));
        assert!(strings(&seccomp["operators"]).contains(&"SCMP_CMP_MASKED_EQ"));
        assert!(strings(&seccomp["knownFlags"]).contains(&"SECCOMP_FILTER_FLAG_LOG"));
    }
}
