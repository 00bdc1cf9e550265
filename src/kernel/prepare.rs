//! Descriptors that the parent opens before the clone: the child finds them in numbered slots.

use crate::error::{Errno, Error, Kind, Result};
use crate::kernel::child::{Caller, FdSlots};
use crate::kernel::path::cpath;
use crate::kernel::{idmap, procfs};
use crate::plan::compile::Plan;
use crate::plan::mounts::{MapFrom, Prepared};
use crate::plan::namespaces::{IdMaps, Join};
use crate::plan::op::{Filesystem, IsolateOp, Op, ProgramOp};
use crate::plan::tables::namespaces::NamespaceKind;
use crate::sys::mount::{self, MountAttr};
use crate::sys::{self, clone, exec, file, path};
use std::os::fd::{AsRawFd, OwnedFd};

/// Opens everything that `plan` needs. `given` are the detached mounts that come with it.
///
/// # Errors
/// A file that cannot be opened, with the property that names it.
pub fn slots(plan: &Plan, given: Vec<OwnedFd>) -> Result<FdSlots> {
    let mut slots = FdSlots::default();
    if plan.steps.ops.iter().any(uses_proc) {
        slots.proc = Some(open_proc()?);
    }
    for join in &plan.namespaces.joins {
        slots.namespaces.push(open_namespace(join)?);
    }
    check_joined(plan, &slots)?;
    let mut given: Vec<Option<OwnedFd>> = given.into_iter().map(Some).collect();
    for p in &plan.prepared {
        let given = p.given.and_then(|n| given.get_mut(n)?.take());
        slots.mounts.push(prepared(p, given, plan, &slots).map_err(|e| e.property(p.property.as_str()))?);
    }
    slots.pid_entered = pid_before_user(plan, &slots)?;
    Ok(slots)
}

/// Whether the pid namespace to join must be entered before the user namespace, from where it is out of reach: it does
/// not belong to that one.
fn pid_before_user(plan: &Plan, slots: &FdSlots) -> Result<bool> {
    let joined = |kind| plan.namespaces.joins.iter().position(|j| j.kind == kind);
    let Some(pid) = joined(NamespaceKind::Pid).filter(|_| plan.namespaces.other_user()) else {
        return Ok(false);
    };
    if let Some(user) = joined(NamespaceKind::User) {
        let inode = |fd: &OwnedFd| file::fstat(fd.as_raw_fd()).map(|st| st.ino).ok();
        // EPERM: the owner is a user namespace that orun itself does not see.
        let owner = clone::owning_user_namespace(slots.namespaces[pid].as_raw_fd());
        if owner.is_ok_and(|owner| inode(&owner) == inode(&slots.namespaces[user])) {
            return Ok(false);
        }
    }
    let hook = |op: &Op| matches!(op, Op::Hook(h) if h.kind == "createContainer");
    if plan.steps.ops.iter().any(hook) {
        // It would run in there with the host's root directory.
        let what = "cannot run in a pid namespace that does not belong to the container's user namespace";
        return Err(Error::new(Kind::Config, what)
            .property("hooks.createContainer")
            .hint("in linux.namespaces, give the path of the user namespace that owns the pid namespace"));
    }
    Ok(true)
}

/// Descriptors of the caller that the cloned process inherits and must not pass on.
pub fn caller(plan: &Plan) -> Caller {
    let inside = plan
        .steps
        .ops
        .iter()
        .filter_map(|op| if let Op::Program(ProgramOp::Limit(l)) = op { Some(l) } else { None });
    let own_limits = inside.chain(&plan.limits).fold(0, |all, l| all | 1 << l.resource);
    Caller { ignored: exec::ignored_signals(), own_limits }
}

/// Checks that are only possible once the namespaces are open.
fn check_joined(plan: &Plan, slots: &FdSlots) -> Result<()> {
    for (join, fd) in plan.namespaces.joins.iter().zip(&slots.namespaces) {
        let net =
            plan.steps.ops.iter().position(
                |op| matches!(op, Op::Sysctl { path, .. } if path.to_bytes().starts_with(b"sys/net/")),
            );
        if let (NamespaceKind::Network, Some(op)) = (join.kind, net)
            && is_own(fd.as_raw_fd(), c"/proc/self/ns/net")?
        {
            let property = plan.steps.properties[op].as_str();
            let what = "a net.* parameter is not allowed in host network namespace";
            return Err(Error::new(Kind::Config, what).property(property));
        }
        if let (NamespaceKind::User, Some(expected)) = (join.kind, &plan.joined_maps) {
            let found = idmap::of_namespace(fd)?;
            if found != *expected {
                let what =
                    "user namespaces enabled, but both namespace path and non-matching mapping specified";
                return Err(Error::new(Kind::Config, what).property("linux.uidMappings"));
            }
        }
    }
    Ok(())
}

fn is_own(ns: i32, own: &std::ffi::CStr) -> Result<bool> {
    let fail = |e: Errno| Error::sys("comparing namespaces", e);
    Ok(file::fstat(ns).map_err(fail)?.ino == file::fstatat(sys::CWD, own, 0).map_err(fail)?.ino)
}

fn uses_proc(op: &Op) -> bool {
    if let Op::Isolate(IsolateOp::SessionKeyring { label, .. }) = op {
        return !label.is_empty();
    }
    matches!(
        op,
        Op::Sysctl { .. } | Op::Program(ProgramOp::Label { .. }) | Op::Isolate(IsolateOp::EnterTimeNamespace)
    )
}

/// The host's procfs, and nothing else that may lie on /proc.
pub fn open_proc() -> Result<OwnedFd> {
    let fail = |e: Errno| Error::sys("opening /proc", e);
    let fd = path::openat(sys::CWD, c"/proc", libc::O_PATH | libc::O_DIRECTORY, 0).map_err(fail)?;
    if file::filesystem_type(fd.as_raw_fd()).map_err(fail)? != libc::PROC_SUPER_MAGIC {
        return Err(Error::new(Kind::Unsupported, "/proc is not a procfs").hint("mount procfs there"));
    }
    Ok(fd)
}

fn open_namespace(join: &Join) -> Result<OwnedFd> {
    let name = join.kind.name();
    let fail = |e: Errno| {
        Error::sys(format!("opening the {name} namespace {:?}", join.path), e)
            .kind_is(Kind::Config)
            .property(join.property.as_str())
    };
    let fd =
        path::openat(sys::CWD, &cpath(&join.path)?, libc::O_RDONLY | libc::O_NONBLOCK, 0).map_err(fail)?;
    match clone::namespace_kind(fd.as_raw_fd()) {
        Ok(kind) if kind as u64 == join.kind.clone_flag() => Ok(fd),
        Ok(_) | Err(Errno(libc::ENOTTY | libc::EINVAL)) => {
            Err(Error::new(Kind::Config, format!("{:?} is not a {name} namespace", join.path))
                .property(join.property.as_str())
                .hint("give a file such as /proc/PID/ns/... or a bind mount of one"))
        }
        Err(e) => Err(fail(e)),
    }
}

fn prepared(p: &Prepared, given: Option<OwnedFd>, plan: &Plan, slots: &FdSlots) -> Result<OwnedFd> {
    let tree = match (&p.filesystem, given) {
        (_, Some(tree)) => tree,
        (Some(fs), None) => match p.pid_namespace {
            Some(slot) => match context_of_pid_namespace(fs, &slots.namespaces[slot]) {
                Some(context) => filesystem(fs, context)?,
                None => procfs::mount(fs, &plan.namespaces.joins, &slots.namespaces, slot)?,
            },
            None => filesystem(fs, open_context(fs)?)?,
        },
        (None, None) => mount::clone_tree(sys::CWD, &cpath(&p.source)?, p.recursive, p.nofollow)
            .map_err(|e| Error::sys(format!("opening the mount source {:?}", p.source), e))?,
    };
    change(&tree, p)?;
    Ok(tree)
}

fn open_context(fs: &Filesystem) -> Result<OwnedFd> {
    mount::fsopen(&fs.kind).map_err(|e| Error::sys(format!("mounting {}", fs.kind.to_string_lossy()), e))
}

/// A procfs of the pid namespace `pid`, without a process in it that the others there would see. None: the kernel cannot
/// (before Linux 6.17), or it is not for this user.
fn context_of_pid_namespace(fs: &Filesystem, pid: &OwnedFd) -> Option<OwnedFd> {
    let context = mount::fsopen(&fs.kind).ok()?;
    mount::fsconfig_set_fd(context.as_raw_fd(), c"pidns", pid.as_raw_fd()).ok()?;
    Some(context)
}

/// A detached mount of a new file system, from its configuration `context`.
fn filesystem(fs: &Filesystem, context: OwnedFd) -> Result<OwnedFd> {
    let kind = fs.kind.to_string_lossy();
    let fd = context.as_raw_fd();
    // The kernel's own words about a refusal stand in the context.
    let fail = |doing: &str, e: Errno| {
        let mut buf = [0u8; 256];
        let n = mount::fs_message(fd, &mut buf);
        let said = String::from_utf8_lossy(&buf[..n]);
        let said = said.trim_end().strip_prefix("e ").unwrap_or(said.trim_end());
        let said = if said.is_empty() { String::new() } else { format!(" ({said})") };
        Error::sys(format!("mounting {kind}: {doing}{said}"), e)
    };
    for (key, value) in &fs.parameters {
        mount::fsconfig_set(fd, key, value.as_deref())
            .map_err(|e| fail(&format!("setting the option {key:?}"), e))?;
    }
    mount::fsconfig_create(fd).map_err(|e| fail("making it", e))?;
    mount::fsmount(fd, fs.attributes).map_err(|e| fail("making it", e))
}

/// EPERM when `change` takes something from the mount `tree` that a user namespace may not take from it:
/// ro, nosuid, nodev, noexec, and any change of the access time mode.
fn refuse_unlocking(tree: &OwnedFd, change: &MountAttr) -> Result<(), Errno> {
    let flags = file::mount_flags(tree.as_raw_fd())?;
    let cleared = |attr, flag| change.clear & attr != 0 && flags & flag != 0;
    let plain = cleared(libc::MOUNT_ATTR_RDONLY, libc::ST_RDONLY)
        || cleared(libc::MOUNT_ATTR_NOSUID, libc::ST_NOSUID)
        || cleared(libc::MOUNT_ATTR_NODEV, libc::ST_NODEV)
        || cleared(libc::MOUNT_ATTR_NOEXEC, libc::ST_NOEXEC);
    let mode = match flags & (libc::ST_NOATIME | libc::ST_RELATIME) {
        0 => libc::MOUNT_ATTR_STRICTATIME,
        f if f & libc::ST_NOATIME != 0 => libc::MOUNT_ATTR_NOATIME,
        _ => libc::MOUNT_ATTR_RELATIME,
    };
    let directories = if flags & libc::ST_NODIRATIME != 0 { libc::MOUNT_ATTR_NODIRATIME } else { 0 };
    let wanted = change.set & (libc::MOUNT_ATTR__ATIME | libc::MOUNT_ATTR_NODIRATIME);
    let atime = change.clear & libc::MOUNT_ATTR__ATIME != 0 && wanted != mode | directories;
    if plain || atime { Err(Errno(libc::EPERM)) } else { Ok(()) }
}

/// Gives a detached mount the attributes and the mapping of `p`.
pub(super) fn change(tree: &OwnedFd, p: &Prepared) -> Result<()> {
    let what = |doing: &str| format!("{doing} {:?}", p.source);
    for (attr, recursive) in &p.changes {
        if p.locked && attr.clear != 0 {
            refuse_unlocking(tree, attr).map_err(|e| {
                Error::sys(what("clearing options of the mount of"), e)
                    .hint("a container with a user namespace cannot lift restrictions of the host's mount")
            })?;
        }
        mount::mount_setattr(tree.as_raw_fd(), *recursive, attr)
            .map_err(|e| Error::sys(what("setting the attributes of the mount of"), e))?;
    }
    if let Some(map) = &p.idmap {
        let userns = match &map.map {
            MapFrom::Ranges { uids, gids } => {
                idmap::user_namespace(&IdMaps { uids: uids.clone(), gids: gids.clone() })?
            }
            MapFrom::Joined(path) => path::openat(sys::CWD, &cpath(path)?, libc::O_RDONLY, 0)
                .map_err(|e| Error::sys(format!("opening the user namespace {path:?}"), e))?,
        };
        let attr = MountAttr {
            set: libc::MOUNT_ATTR_IDMAP,
            userns_fd: userns.as_raw_fd() as u64,
            ..MountAttr::default()
        };
        mount::mount_setattr(tree.as_raw_fd(), map.recursive, &attr).map_err(|e| {
            let e = Error::sys(what("id-mapping the mount of"), e);
            if e.errno() == Some(Errno(libc::EINVAL)) {
                e.kind_is(Kind::Unsupported)
                    .hint("the file system does not support id-mapped mounts on this kernel")
            } else {
                e
            }
        })?;
    }
    Ok(())
}
