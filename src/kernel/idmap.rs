//! Id mappings of user namespaces (user_namespaces(7)), written by root or by newuidmap(1).

use crate::config::linux::IdMapping;
use crate::error::{Errno, Error, Kind, Result};
use crate::plan::namespaces::IdMaps;
use crate::sys::clone::{self, Clone};
use crate::sys::{self, cred, exec, fd, path, wait};
use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::Command;

/// Writes the mappings of process `pid`'s user namespace.
///
/// # Errors
/// An error of the kernel or of newuidmap, with a hint.
pub fn write(pid: i32, maps: &IdMaps) -> Result<()> {
    if cred::geteuid() != 0 {
        return write_unprivileged(pid, maps);
    }
    write_file(pid, "uid_map", &maps.uids, "linux.uidMappings")?;
    write_file(pid, "gid_map", &maps.gids, "linux.gidMappings")
}

fn write_file(pid: i32, file: &str, map: &[IdMapping], property: &str) -> Result<()> {
    put(pid, file, &IdMaps::text(map)).map_err(|e| {
        let e = e.property(property);
        match e.errno() {
            Some(Errno(libc::EINVAL)) => {
                e.hint("ranges must not overlap, and a host id must exist in orun's own user namespace")
            }
            Some(Errno(libc::EPERM)) => e.hint("orun may not map these host ids"),
            _ => e,
        }
    })
}

fn put(pid: i32, file: &str, text: &str) -> Result<()> {
    let path = format!("/proc/{pid}/{file}");
    let fail = |e: Errno| Error::sys(format!("writing {:?} to {path}", text.trim_end()), e);
    let c = CString::new(path.as_str()).map_err(|_| fail(Errno(libc::EINVAL)))?;
    let f = path::openat(sys::CWD, &c, libc::O_WRONLY, 0).map_err(fail)?;
    // The kernel takes a mapping in one write only.
    fd::write(f.as_raw_fd(), text.as_bytes()).map_err(fail).map(drop)
}

/// Without privileges, only the own ID can be mapped; for more IDs there are the set-user-ID helpers, which check
/// /etc/subuid and /etc/subgid.
fn write_unprivileged(pid: i32, maps: &IdMaps) -> Result<()> {
    if single(&maps.uids, cred::geteuid()) {
        write_file(pid, "uid_map", &maps.uids, "linux.uidMappings")?;
    } else {
        helper("newuidmap", "subuid", pid, &maps.uids, "linux.uidMappings")?;
    }
    if single(&maps.gids, cred::getegid()) {
        put(pid, "setgroups", "deny")?;
        write_file(pid, "gid_map", &maps.gids, "linux.gidMappings")
    } else {
        helper("newgidmap", "subgid", pid, &maps.gids, "linux.gidMappings")
    }
}

fn single(map: &[IdMapping], own: u32) -> bool {
    matches!(map, [m] if m.size == 1 && m.host_id == own)
}

fn helper(program: &str, file: &str, pid: i32, map: &[IdMapping], property: &str) -> Result<()> {
    let mut c = Command::new(program);
    c.arg(pid.to_string());
    for m in map {
        c.args([m.container_id.to_string(), m.host_id.to_string(), m.size.to_string()]);
    }
    let out = exec::clean(&mut c).output().map_err(|e| {
        Error::sys(format!("running {program}"), e).kind_is(Kind::Unsupported).property(property).hint(
            "more than one's own id is mapped by newuidmap and newgidmap; install the package \"uidmap\"",
        )
    })?;
    if out.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&out.stderr).trim().replace('\n', "; ");
    Err(Error::new(Kind::System, format!("{program} failed ({}): {said}", out.status))
        .property(property)
        .hint(format!("/etc/{file} must grant these ids to the user")))
}

/// A user namespace with these mappings without processes, for id-mapped mounts.
pub fn user_namespace(maps: &IdMaps) -> Result<OwnedFd> {
    let fail = |e: Errno| Error::sys("making a user namespace for an id-mapped mount", e);
    let (wait_end, hold) = fd::pipe().map_err(fail)?;
    match clone::clone3(libc::CLONE_NEWUSER as u64, None).map_err(fail)? {
        Clone::Child => {
            // Lives until the parent has opened its namespace.
            let _ = fd::close_range(hold.as_raw_fd() as u32, hold.as_raw_fd() as u32);
            let _ = fd::read(wait_end.as_raw_fd(), &mut [0]);
            exec::exit(0)
        }
        Clone::Parent { pid, pidfd } => {
            let made = write(pid, maps).and_then(|()| {
                let ns = CString::new(format!("/proc/{pid}/ns/user")).unwrap_or_default();
                path::openat(sys::CWD, &ns, libc::O_RDONLY, 0).map_err(fail)
            });
            drop(hold);
            wait::wait_pidfd(pidfd.as_raw_fd(), true).map_err(fail)?;
            made
        }
    }
}

/// The mappings of an existing user namespace: a child enters it, so that its files in /proc show them.
///
/// # Errors
/// The namespace cannot be entered.
pub fn of_namespace(ns: &OwnedFd) -> Result<IdMaps> {
    let fail = |e: Errno| Error::sys("reading the mappings of a user namespace", e);
    let (told, tell) = fd::pipe().map_err(fail)?;
    let (wait_end, hold) = fd::pipe().map_err(fail)?;
    match clone::clone3(0, None).map_err(fail)? {
        Clone::Child => {
            let _ = fd::close_range(hold.as_raw_fd() as u32, hold.as_raw_fd() as u32);
            let e = clone::setns(ns.as_raw_fd(), libc::CLONE_NEWUSER).err().map_or(0, |e| e.0);
            let _ = fd::write(tell.as_raw_fd(), &e.to_ne_bytes());
            let _ = fd::read(wait_end.as_raw_fd(), &mut [0]);
            exec::exit(0)
        }
        Clone::Parent { pid, pidfd } => {
            drop(tell);
            let mut answer = [0u8; 4];
            let n = fd::read(told.as_raw_fd(), &mut answer).map_err(fail)?;
            let errno = if n == 4 { i32::from_ne_bytes(answer) } else { libc::ECHILD };
            let read = |file: &str| {
                let text =
                    std::fs::read_to_string(format!("/proc/{pid}/{file}")).map_err(|e| fail(e.into()))?;
                Ok(parse(&text))
            };
            let maps = match errno {
                0 => read("uid_map").and_then(|uids| Ok(IdMaps { uids, gids: read("gid_map")? })),
                e => Err(fail(Errno(e))),
            };
            drop(hold);
            wait::wait_pidfd(pidfd.as_raw_fd(), true).map_err(fail)?;
            maps
        }
    }
}

fn parse(text: &str) -> Vec<IdMapping> {
    let line = |l: &str| {
        let n: Vec<u32> = l.split_ascii_whitespace().filter_map(|w| w.parse().ok()).collect();
        match n.as_slice() {
            [container_id, host_id, size] => {
                Some(IdMapping { container_id: *container_id, host_id: *host_id, size: *size })
            }
            _ => None,
        }
    };
    text.lines().filter_map(line).collect()
}
