//! Looks at the host as far as a configuration needs it: every look costs a system call.

use crate::config::spec::{Process, Spec};
use crate::error::{Error, Result};
use crate::plan::facts::{HostFacts, SeccompFacts};
use crate::plan::seccomp::names;
use crate::sys::{self, SysResult, cred, file, prctl};
use std::path::{Path, PathBuf};

/// Inode of the initial user namespace (PROC_USER_INIT_INO of the kernel).
const INITIAL_USER_NAMESPACE: u64 = 0xeffffffd;
/// The highest capability of Linux 5.9 and later.
const CAP_CHECKPOINT_RESTORE: u8 = 40;

/// Facts for compiling `spec`.
///
/// # Errors
/// /proc cannot be read.
pub fn facts(spec: &Spec) -> Result<HostFacts> {
    let userns = userns().map_err(|e| Error::sys("looking at /proc/self/ns/user", e))?;
    let of_process = facts_of_process(spec, spec.process.as_ref())?;
    Ok(HostFacts {
        initial_userns: userns == INITIAL_USER_NAMESPACE,
        selinux: of_process.selinux || (!spec.linux.mount_label.is_empty() && selinux()),
        resctrl: if spec.linux.intel_rdt.is_some() { resctrl()? } else { None },
        cgroup: super::cgroup::probe()?,
        ..of_process
    })
}

/// Facts for one more process in a container of `spec`, which exists: nothing is asked about cgroups, or what else only
/// the making of a container depends on.
///
/// # Errors
/// When orun's capabilities cannot be read.
pub fn facts_of_process(spec: &Spec, process: Option<&Process>) -> Result<HostFacts> {
    let caps = cred::capget().map_err(|e| Error::sys("reading orun's capabilities", e))?;
    let asks = |f: fn(&Process) -> bool| process.is_some_and(f);
    Ok(HostFacts {
        euid: cred::geteuid(),
        egid: cred::getegid(),
        capabilities: caps.permitted,
        // A filter may forbid to ask.
        securebits: prctl::securebits().unwrap_or(0),
        cap_last: cap_last(),
        apparmor: asks(|p| !p.apparmor_profile.is_empty()) && apparmor(),
        selinux: asks(|p| !p.selinux_label.is_empty()) && selinux(),
        seccomp: seccomp(spec),
        ..HostFacts::default()
    })
}

/// The inode of orun's user namespace.
fn userns() -> SysResult<u64> {
    file::fstatat(sys::CWD, c"/proc/self/ns/user", 0).map(|st| st.ino)
}

/// Whether orun runs in the initial user namespace, or that cannot be found out.
pub fn in_initial_userns() -> bool {
    userns().map_or(true, |inode| inode == INITIAL_USER_NAMESPACE)
}

/// The highest capability that the kernel knows.
fn cap_last() -> u8 {
    let mut last = CAP_CHECKPOINT_RESTORE;
    while prctl::is_capability(last + 1) {
        last += 1;
    }
    last
}

fn apparmor() -> bool {
    std::fs::read("/sys/module/apparmor/parameters/enabled").is_ok_and(|t| t.starts_with(b"Y"))
}

fn selinux() -> bool {
    Path::new("/sys/fs/selinux/enforce").exists()
}

/// Flags are only asked about where the profile names some.
fn seccomp(spec: &Spec) -> SeccompFacts {
    let mut facts = SeccompFacts::default();
    let named = spec.linux.seccomp.as_ref().and_then(|s| s.flags.as_ref()).is_some_and(|f| !f.is_empty());
    if named {
        facts.flags =
            (0..32).map(|n| 1u32 << n).filter(|f| f & names::ALL_FLAGS != 0 && knows_flag(*f)).sum();
    }
    facts
}

fn knows_flag(flag: u32) -> bool {
    // How to wait for an agent is a question only where there is one.
    let beside = if flag == names::FLAG_WAIT_KILLABLE_RECV { names::FLAG_NEW_LISTENER } else { 0 };
    prctl::seccomp_knows(flag | beside)
}

/// The mount point that `path` lies on, from /proc/self/mountinfo.
///
/// # Errors
/// /proc cannot be read.
pub fn mount_point_of(path: &Path) -> Result<PathBuf> {
    let points = mount_points(&mountinfo()?, |_| true);
    Ok(points
        .into_iter()
        .filter(|p| path.starts_with(p))
        .max_by_key(|p| p.as_os_str().len())
        .unwrap_or_else(|| "/".into()))
}

/// Where procfs and sysfs are mounted.
///
/// # Errors
/// /proc cannot be read.
pub fn kernel_mount_points() -> Result<Vec<PathBuf>> {
    Ok(mount_points(&mountinfo()?, |kind| matches!(kind, "proc" | "sysfs")))
}

fn resctrl() -> Result<Option<String>> {
    let all = mount_points(&mountinfo()?, |kind| kind == "resctrl");
    Ok(all.into_iter().find_map(|p| p.into_os_string().into_string().ok()))
}

fn mountinfo() -> Result<String> {
    std::fs::read_to_string("/proc/self/mountinfo").map_err(|e| Error::sys("reading /proc/self/mountinfo", e))
}

/// The mount points of file systems whose type is the given one (proc_pid_mountinfo(5)).
fn mount_points(mountinfo: &str, wanted: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let point = |line: &str| {
        let (of_mount, of_file_system) = line.split_once(" - ")?;
        wanted(of_file_system.split(' ').next()?)
            .then(|| of_mount.split(' ').nth(4))
            .flatten()
            .map(|p| unescape(p).into())
    };
    mountinfo.lines().filter_map(point).collect()
}

/// The number and the mount point of each mount of a mountinfo file (proc_pid_mountinfo(5)).
pub fn mounts(mountinfo: &str) -> Vec<(u64, String)> {
    let one = |line: &str| {
        let mut fields = line.split(' ');
        Some((fields.next()?.parse().ok()?, unescape(fields.nth(3)?)))
    };
    mountinfo.lines().filter_map(one).collect()
}

/// Undoes the octal escapes of proc_pid_mountinfo(5).
fn unescape(text: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(text.to_owned(), |t, (from, to)| t.replace(from, to))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_by_type() {
        let text = "22 1 0:20 / /proc rw,nosuid shared:5 - proc proc rw\n\
                    23 1 0:21 / /a\\040b rw - sysfs sys - x rw\n\
                    24 1 8:1 / / rw shared:1 master:2 - ext4 /dev/sda1 rw\n";
        assert_eq!(mount_points(text, |k| k != "ext4"), ["/proc", "/a b"].map(PathBuf::from));
        assert_eq!(mount_points(text, |k| k == "ext4"), [PathBuf::from("/")]);
        let all = [(22, "/proc"), (23, "/a b"), (24, "/")];
        assert_eq!(mounts(text), all.map(|(n, p)| (n, p.to_owned())));
    }
}
