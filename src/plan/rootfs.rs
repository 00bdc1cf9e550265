//! The root file system around its mounts: propagation, devices, masked and read-only paths, pivot_root.

use super::mounts::MountContext;
use super::op::{DeviceOp, Hold, Op, RootOp};
use super::options::Options;
use super::overlay::Overlay;
use super::step::Steps;
use super::tables::mount_options::attr;
use super::tables::namespaces;
use super::text::{cstring, in_root};
use crate::config::linux::Device;
use crate::config::spec::Spec;
use crate::sys::mount::MountAttr;
use std::collections::BTreeSet;
use std::ffi::CString;
use std::path::Path;

/// Devices that every container has (config-linux.md, "Default Devices").
const DEFAULT_DEVICES: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];
/// Links that every container has (runtime-linux.md, "Dev symbolic links").
const DEFAULT_LINKS: [(&str, &str); 5] = [
    ("/proc/self/fd", "dev/fd"),
    ("/proc/self/fd/0", "dev/stdin"),
    ("/proc/self/fd/1", "dev/stdout"),
    ("/proc/self/fd/2", "dev/stderr"),
    ("/proc/kcore", "dev/core"),
];

/// Makes the root a mount of its own. `mountpoint` is where the root's file system is mounted on the host; it is
/// needed when the configuration asks for shared propagation only.
pub(super) fn open(cx: &MountContext, mountpoint: &Path, steps: &mut Steps) {
    let (spec, rootfs) = (cx.spec, cx.rootfs);
    let asked = namespaces::propagation(&spec.linux.rootfs_propagation);
    let flags = asked.unwrap_or(libc::MS_SLAVE | libc::MS_REC);
    steps.push(Op::Root(RootOp::Propagation { flags: first_propagation(flags) }), "linux.rootfsPropagation");
    if flags & libc::MS_SHARED != 0 {
        let mountpoint = cstring(mountpoint.as_os_str().as_encoded_bytes());
        steps.push(Op::Root(RootOp::PrivateParent { mountpoint }), "linux.rootfsPropagation");
    }
    let path = cstring(rootfs.as_os_str().as_encoded_bytes());
    let private = flags & libc::MS_SLAVE == 0 || asked.is_none();
    // A user namespace, also one around orun, has no access to attributes in `trusted.`.
    match Overlay::compile(spec, cx.bundle, rootfs, cx.locked) {
        Some(overlay) => {
            steps.push(Op::OpenOverlay { path, overlay: Box::new(overlay), private }, "annotations");
        }
        None => steps.push(Op::Root(RootOp::OpenRoot { path, private }), "root.path"),
    }
}

/// Propagation of the host's mounts in the new namespace: shared if the container's mounts must reach the host, otherwise
/// slave or private. Unbindable mounts could not be bind-mounted.
fn first_propagation(flags: u64) -> u64 {
    if flags & libc::MS_UNBINDABLE != 0 { libc::MS_PRIVATE | libc::MS_REC } else { flags | libc::MS_REC }
}

/// Devices and links, after the mounts.
pub(super) fn devices(cx: &MountContext, steps: &mut Steps) {
    let spec = cx.spec;
    let listed: Vec<_> = spec.linux.devices.iter().map(|d| in_root(&d.path)).collect();
    let dev_is_bound = spec.mounts.iter().any(|m| {
        in_root(&m.destination).as_c_str() == c"dev" && m.options.iter().any(|o| o == "bind" || o == "rbind")
    });
    let bind = cx.namespaces.other_user();
    if !dev_is_bound {
        for (name, major, minor) in DEFAULT_DEVICES {
            let path = cstring(format!("dev/{name}"));
            if listed.contains(&path) {
                continue;
            }
            let op = DeviceOp {
                bind: bind.then(|| cstring(format!("/dev/{name}"))),
                path,
                mode: libc::S_IFCHR | 0o666,
                rdev: libc::makedev(major, minor),
                uid: 0,
                gid: 0,
            };
            steps.push(Op::Root(RootOp::Device(Box::new(op))), "");
        }
    }
    for (i, d) in spec.linux.devices.iter().enumerate() {
        let path = in_root(&d.path);
        // These are made anyway, as what they must be.
        if !dev_is_bound && (path.as_c_str() == c"dev/ptmx" || path.as_c_str() == c"dev/console") {
            continue;
        }
        steps.push(Op::Root(RootOp::Device(Box::new(device(d, bind)))), format!("linux.devices[{i}]"));
    }
    if !dev_is_bound {
        let ptmx =
            Op::Root(RootOp::Symlink { target: c"pts/ptmx".into(), path: c"dev/ptmx".into(), replace: true });
        steps.push(ptmx, "");
        for (target, path) in DEFAULT_LINKS {
            steps.push(
                Op::Root(RootOp::Symlink { target: cstring(target), path: cstring(path), replace: false }),
                "",
            );
        }
    }
}

fn device(d: &Device, bind: bool) -> DeviceOp {
    let kind = match d.kind.as_str() {
        "b" => libc::S_IFBLK,
        "p" => libc::S_IFIFO,
        _ => libc::S_IFCHR,
    };
    let number = |n: Option<i64>| n.unwrap_or(0) as u32;
    let rdev = if kind == libc::S_IFIFO { 0 } else { libc::makedev(number(d.major), number(d.minor)) };
    DeviceOp {
        path: in_root(&d.path),
        mode: kind | (d.file_mode.unwrap_or(0o666) & 0o7777),
        rdev,
        uid: d.uid.unwrap_or(0),
        gid: d.gid.unwrap_or(0),
        bind: (bind && kind != libc::S_IFIFO).then(|| cstring(d.path.as_str())),
    }
}

/// Steps that make the root safe to enter, after the hooks that may still write to it.
pub(super) fn seal(cx: &MountContext, steps: &mut Steps) {
    let linux = &cx.spec.linux;
    for (i, path) in distinct(&linux.readonly_paths) {
        steps.push(Op::Root(RootOp::Readonly { path }), format!("linux.readonlyPaths[{i}]"));
    }
    for (i, path) in distinct(&linux.masked_paths) {
        steps.push(Op::Root(RootOp::Mask { path }), format!("linux.maskedPaths[{i}]"));
    }
    if cx.dev_readonly {
        let attr = MountAttr { set: attr::RDONLY, ..MountAttr::default() };
        let held = Some(Hold::Devices);
        steps.push(Op::Remount { target: c"dev".into(), held, changes: vec![(attr, false)] }, "mounts");
    }
    if cx.spec.root.as_ref().is_some_and(|r| r.readonly) {
        steps.push(Op::Root(RootOp::ReadonlyRoot), "root.readonly");
    }
}

/// The paths below the root, each once, with their place in the list.
fn distinct(paths: &[String]) -> impl Iterator<Item = (usize, CString)> + '_ {
    let mut seen = BTreeSet::new();
    let all = paths.iter().enumerate().map(|(i, path)| (i, in_root(path)));
    all.filter(move |(_, path)| seen.insert(path.clone()))
}

/// Enters the root.
pub(super) fn push_enter_root(spec: &Spec, rootfs: &Path, options: &Options, steps: &mut Steps) {
    if options.no_pivot {
        // The host's mounts stay in the mount namespace: a procfs or sysfs among them that is visible as a whole
        // would entitle a user namespace in the container to a new one without masks.
        for path in options.kernel_mountpoints.iter().filter(|p| !p.starts_with(rootfs)) {
            let path = cstring(path.as_os_str().as_encoded_bytes());
            steps.push(Op::Root(RootOp::CoverMount { path }), "root.path");
        }
    }
    let asked = namespaces::propagation(&spec.linux.rootfs_propagation);
    let shared = asked.is_some_and(|f| f & libc::MS_SHARED != 0);
    steps.push(
        if options.no_pivot { Op::Root(RootOp::MoveRoot) } else { Op::Root(RootOp::PivotRoot { shared }) },
        "root.path",
    );
    if let Some(flags) = asked
        && flags & (libc::MS_SHARED | libc::MS_UNBINDABLE) != 0
    {
        steps.push(Op::Root(RootOp::RootPropagation { flags }), "linux.rootfsPropagation");
    }
}
