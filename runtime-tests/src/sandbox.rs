//! The private world of one case.
//!
//! A case runs as pid 1 of its own pid namespace, in its own mount, network, ipc and uts namespaces. Whatever a
//! runtime or a container does to mounts, host name or interfaces is done to this world only, and when pid 1 of it is
//! killed the kernel ends everything that the case has started.

use crate::check::{Context, Result};
use crate::sys;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use std::path::Path;

/// Enters new namespaces. The pid namespace takes effect for the next child; with `on_host` there is none.
pub fn unshare_all(on_host: bool) -> Result<()> {
    let flags = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS;
    let flags = if on_host { flags } else { flags | CloneFlags::CLONE_NEWPID };
    unshare(flags).context("unshare")
}

fn mount_fs(fstype: &str, target: &Path, data: &str) -> Result<()> {
    mount(Some(fstype), target, Some(fstype), MsFlags::empty(), Some(data))
        .context(&format!("mounting {fstype} on {}", target.display()))
}

/// Makes the world of a case, as pid 1 of it: fresh /proc, empty /run, and a tmpfs on `dir`.
///
/// `/` is shared within this world, as it is on a machine that systemd has booted, so that a runtime that lets its
/// mounts propagate is seen. With `on_host` /proc and /run stay the host's.
pub fn build(dir: &Path, hide_unified: bool, on_host: bool) -> Result<()> {
    sys::prctl(libc::PR_SET_CHILD_SUBREAPER, 1)?;
    let all = |flags: MsFlags| mount(None::<&str>, "/", None::<&str>, flags | MsFlags::MS_REC, None::<&str>);
    all(MsFlags::MS_PRIVATE).context("making / private")?;
    private_hierarchies(dir, hide_unified)?;
    all(MsFlags::MS_SHARED).context("making / shared")?;
    if !on_host {
        mount_fs("proc", Path::new("/proc"), "")?;
        mount_fs("tmpfs", Path::new("/run"), "mode=0755")?;
    }
    mount_fs("tmpfs", dir, "mode=0755")?;
    private_dev()?;
    nix::unistd::sethostname("sandbox").context("sethostname")?;
    loopback_up()
}

/// On a v1 host the hierarchies are mounted on a tmpfs that all share, and crun makes directories in it for controllers that
/// are not mounted. The case gets a tmpfs of its own with the same hierarchies.
///
/// Without the v2 hierarchy of a hybrid host crun takes it for a plain v1 one; with it, it refuses to work.
fn private_hierarchies(scratch: &Path, hide_unified: bool) -> Result<()> {
    let top = Path::new("/sys/fs/cgroup");
    if top.join("cgroup.controllers").exists() {
        return Ok(());
    }
    mount_fs("tmpfs", scratch, "mode=0755")?;
    for hierarchy in crate::cgroup::hierarchies() {
        let Ok(name) = hierarchy.strip_prefix(top) else { continue };
        if hide_unified && name == Path::new("unified") {
            continue;
        }
        let target = scratch.join(name);
        std::fs::create_dir(&target)?;
        mount(Some(&hierarchy), &target, None::<&str>, MsFlags::MS_BIND, None::<&str>)
            .context("binding a hierarchy")?;
    }
    // What joined controllers are called: cpu -> cpu,cpuacct.
    for entry in std::fs::read_dir(top)?.flatten().filter(|e| e.file_type().is_ok_and(|t| t.is_symlink())) {
        std::os::unix::fs::symlink(std::fs::read_link(entry.path())?, scratch.join(entry.file_name()))?;
    }
    umount2(top, MntFlags::MNT_DETACH).context("unmounting the hierarchies")?;
    mount(Some(scratch), top, None::<&str>, MsFlags::MS_MOVE, None::<&str>).context("moving the hierarchies")
}

/// A /dev of the case's own: the host's devtmpfs is one file system for everybody.
pub fn private_dev() -> Result<()> {
    let dev = Path::new("/dev");
    mount_fs("tmpfs", dev, "mode=0755")?;
    for (name, major, minor) in [
        ("null", 1, 3),
        ("zero", 1, 5),
        ("full", 1, 7),
        ("random", 1, 8),
        ("urandom", 1, 9),
        ("kmsg", 1, 11),
        ("tty", 5, 0),
        ("fuse", 10, 229),
    ] {
        let node = dev.join(name);
        mknod(&node, SFlag::S_IFCHR, Mode::empty(), makedev(major, minor)).context("making a device")?;
        std::fs::set_permissions(&node, std::os::unix::fs::PermissionsExt::from_mode(0o666))?;
    }
    for name in ["pts", "shm", "mqueue"] {
        std::fs::create_dir(dev.join(name))?;
    }
    mount_fs("devpts", &dev.join("pts"), "newinstance,ptmxmode=0666,mode=0620,gid=5")?;
    mount_fs("tmpfs", &dev.join("shm"), "mode=1777")?;
    for (name, target) in [
        ("ptmx", "pts/ptmx"),
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
    ] {
        std::os::unix::fs::symlink(target, dev.join(name))?;
    }
    Ok(())
}

/// The new network namespace has only `lo`, and it is down.
fn loopback_up() -> Result<()> {
    let status = std::process::Command::new("/bin/busybox").args(["ip", "link", "set", "lo", "up"]).status();
    status.context("busybox ip link set lo up").map(drop)
}
