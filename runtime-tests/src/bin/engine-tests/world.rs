//! The world that one engine runs in: a root that shows the host's files and keeps every change to itself, cgroups
//! below one directory, and mount, pid, network, ipc, uts and cgroup namespaces of its own.
//!
//! When pid 1 of the world is killed, the kernel ends everything that the engine has started; the cgroup directories
//! are all that remains, and [`Cgroups::remove`] knows where they are.

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use runtime_tests::cgroup::{self, Layout};
use runtime_tests::check::{Context, Done, Result};
use runtime_tests::command::poll;
use runtime_tests::sandbox;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// What the world's network card is called by: engines advertise it.
pub const ADDRESS: &str = "10.201.0.2";

/// What cgroup2 may be asked to control for the engine.
const CONTROLLERS: [&str; 6] = ["cpu", "cpuset", "io", "memory", "pids", "hugetlb"];

/// One directory of the same name in every hierarchy of the host.
#[derive(Debug)]
pub struct Cgroups {
    dirs: Vec<PathBuf>,
}

impl Cgroups {
    /// Makes the directories.
    pub fn make(name: &str) -> Result<Cgroups> {
        let mut dirs = Vec::new();
        for top in cgroup::hierarchies() {
            for controller in CONTROLLERS {
                // Those that the kernel lacks or that are in a v1 hierarchy are refused, one by one.
                let _ = fs::write(top.join("cgroup.subtree_control"), format!("+{controller}"));
            }
            let dir = top.join(name);
            fs::create_dir(&dir).context(&format!("making the cgroup {}", dir.display()))?;
            // A new cpuset of version 1 is empty, and nobody can enter an empty one.
            for file in ["cpuset.cpus", "cpuset.mems"] {
                if let Ok(value) = fs::read(top.join(file)) {
                    let _ = fs::write(dir.join(file), value);
                }
            }
            dirs.push(dir);
        }
        Ok(Cgroups { dirs })
    }

    /// Moves the calling process.
    pub fn enter(&self) -> Done {
        for dir in &self.dirs {
            fs::write(dir.join("cgroup.procs"), "0").context(&format!("entering {}", dir.display()))?;
        }
        Ok(())
    }

    /// Removes the directories and all below them; their processes have been killed.
    pub fn remove(&self) -> Done {
        let gone = || {
            for dir in cgroup::dirs_below(&self.dirs) {
                // A frozen cgroup of version 1 keeps killed processes from dying.
                let _ = fs::write(dir.join("freezer.state"), "THAWED");
            }
            cgroup::remove(self.dirs.clone());
            (!self.dirs.iter().any(|d| d.exists())).then_some(())
        };
        poll("the cgroups of a finished world", Duration::from_secs(20), gone)
    }
}

/// Enters new namespaces. The pid namespace takes effect for the next child.
pub fn enter_namespaces() -> Done {
    sandbox::unshare_all(false)?;
    unshare(CloneFlags::CLONE_NEWCGROUP).context("unshare of the cgroup namespace")
}

fn mount_on(fstype: &str, target: &str, data: &str) -> Done {
    fs::create_dir_all(target)?;
    mount(Some(fstype), target, Some(fstype), MsFlags::empty(), Some(data))
        .context(&format!("mounting {fstype} on {target}"))
}

/// Makes the world, as its pid 1. `dir` is an empty directory of the host. Afterwards `/keep` of the world holds
/// copies of `files` by their base names (folders with all that is in them).
pub fn build(dir: &Path, files: &[PathBuf]) -> Done {
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_PRIVATE | MsFlags::MS_REC, none).context("making / private")?;
    mount(Some("tmpfs"), dir, Some("tmpfs"), MsFlags::empty(), Some("mode=0755")).context("a tmpfs")?;
    for name in ["upper", "work", "root"] {
        fs::create_dir(dir.join(name))?;
    }
    let keep = dir.join("upper/keep");
    fs::create_dir(&keep)?;
    for file in files {
        let status = Command::new("cp").arg("-a").arg(file).arg(&keep).status()?;
        runtime_tests::ensure!(status.success(), "cp of {}", file.display());
    }
    let root = dir.join("root");
    let options =
        format!("lowerdir=/,upperdir={},workdir={}", dir.join("upper").display(), dir.join("work").display());
    mount(Some("overlay"), &root, Some("overlay"), MsFlags::empty(), Some(options.as_str()))
        .context("an overlay over /")?;
    // The host's procfs and devices stay until the new ones are mounted.
    nix::unistd::chdir(&root)?;
    fs::create_dir_all("old")?;
    nix::unistd::pivot_root(".", "old").context("pivot_root")?;
    nix::unistd::chdir("/")?;
    mount_on("proc", "/proc", "")?;
    mount_on("sysfs", "/sys", "")?;
    mount_on("tmpfs", "/run", "mode=0755")?;
    mount_on("tmpfs", "/tmp", "mode=1777")?;
    // An overlay cannot lie on another one's changes: what engines keep their layers in is a tmpfs.
    for store in ["docker", "containerd", "containers"] {
        mount_on("tmpfs", &format!("/var/lib/{store}"), "mode=0755")?;
    }
    // Left over from engines that may run on the host itself.
    for config in ["/etc/docker", "/etc/containerd", "/etc/containers/containers.conf.d", "/etc/cni/net.d"] {
        mount_on("tmpfs", config, "mode=0755")?;
    }
    hierarchies(Path::new("/old/sys/fs/cgroup"))?;
    umount2("/old", MntFlags::MNT_DETACH).context("leaving the host's root")?;
    sandbox::private_dev()?;
    mount_on("mqueue", "/dev/mqueue", "")?;
    mount(none, "/", none, MsFlags::MS_SHARED | MsFlags::MS_REC, none).context("making / shared")?;
    nix::unistd::sethostname("world").context("sethostname")?;
    network()
}

/// The hierarchies of the host, each with the world's own cgroup as its root.
fn hierarchies(host: &Path) -> Done {
    let top = "/sys/fs/cgroup";
    if cgroup_layout(host) == Layout::V2 {
        mount_on("cgroup2", top, "")?;
        // What has children with controllers cannot have processes of its own.
        fs::create_dir(format!("{top}/world"))?;
        for pid in fs::read_to_string(format!("{top}/cgroup.procs"))?.split_whitespace() {
            fs::write(format!("{top}/world/cgroup.procs"), pid)?;
        }
        return Ok(());
    }
    mount_on("tmpfs", top, "mode=0755")?;
    // /proc/self/cgroup: ID:NAMES:PATH; cgroup2 has no names. crun 1.8 refuses the mixture, so it is left out.
    for line in fs::read_to_string("/proc/self/cgroup")?.lines() {
        let names = line.split(':').nth(1).unwrap_or("");
        if names.is_empty() {
            continue;
        }
        let (dir, option) = match names.strip_prefix("name=") {
            Some(name) => (name, format!("none,{names}")),
            None => (names, names.to_owned()),
        };
        mount_on("cgroup", &format!("{top}/{dir}"), &option)?;
        for alias in names.split(',').filter(|n| *n != dir && !n.contains('=')) {
            std::os::unix::fs::symlink(dir, format!("{top}/{alias}"))?;
        }
    }
    Ok(())
}

fn cgroup_layout(top: &Path) -> Layout {
    if top.join("cgroup.controllers").exists() { Layout::V2 } else { Layout::V1 }
}

/// `lo`, and one card with an address, whose other end is in the same namespace.
fn network() -> Done {
    let script = format!(
        "ip link set lo up && ip link add eth0 type veth peer name eth0p && ip addr add {ADDRESS}/24 dev eth0 && \
         ip link set eth0 up && ip link set eth0p up && ip route add default via 10.201.0.1 dev eth0"
    );
    let status = Command::new("sh").args(["-ec", &script]).status()?;
    runtime_tests::ensure!(status.success(), "the world's network could not be made");
    Ok(())
}
