//! `features`: what this runtime implements (features.md). It tells of the program, not of the host.

use serde_json::{Value, json};

use crate::config::defaults::OCI_VERSION;
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
            "cgroup": { "v1": true, "v2": true, "systemd": false, "systemdUser": false, "rdma": true },
            "seccomp": seccomp(),
            "apparmor": { "enabled": true },
            "selinux": { "enabled": true },
            "intelRdt": { "enabled": false, "schemata": false, "monitoring": false },
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
        "potentiallyUnsafeConfigAnnotations": ["bundle", "org.systemd.property.", "org.criu.config"],
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

/// What config-linux.md, "Seccomp" names, in its order.
fn seccomp() -> Value {
    json!({
        "enabled": true,
        "actions": [
            "SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_KILL_THREAD",
            "SCMP_ACT_LOG", "SCMP_ACT_NOTIFY", "SCMP_ACT_TRACE", "SCMP_ACT_TRAP",
        ],
        "operators": [
            "SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_LE", "SCMP_CMP_LT", "SCMP_CMP_MASKED_EQ",
            "SCMP_CMP_NE",
        ],
        "archs": [
            "SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM", "SCMP_ARCH_LOONGARCH64", "SCMP_ARCH_M68K", "SCMP_ARCH_MIPS",
            "SCMP_ARCH_MIPS64", "SCMP_ARCH_MIPS64N32", "SCMP_ARCH_MIPSEL", "SCMP_ARCH_MIPSEL64",
            "SCMP_ARCH_MIPSEL64N32", "SCMP_ARCH_PARISC", "SCMP_ARCH_PARISC64", "SCMP_ARCH_PPC",
            "SCMP_ARCH_PPC64", "SCMP_ARCH_PPC64LE", "SCMP_ARCH_RISCV64", "SCMP_ARCH_S390", "SCMP_ARCH_S390X",
            "SCMP_ARCH_SH", "SCMP_ARCH_SHEB", "SCMP_ARCH_X32", "SCMP_ARCH_X86", "SCMP_ARCH_X86_64",
        ],
        "knownFlags": [
            "SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_TSYNC",
            "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
        ],
        "supportedFlags": [
            "SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_TSYNC",
            "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
        ],
    })
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
        assert!(strings(&f["linux"]["seccomp"]["archs"]).contains(&"SCMP_ARCH_X86_64"));
    }
}
