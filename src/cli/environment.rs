//! Inputs of the verbs from the global flags and from the environment.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::args::Global;
use crate::error::{Error, Kind, Result};
use crate::runtime::Runtime;
use crate::state::model::CgroupManager;
use crate::state::store::Store;

/// The runtime that the flags ask for.
///
/// # Errors
/// [`Kind::Usage`] for invalid values.
pub fn runtime(global: &Global) -> Result<Runtime> {
    let root = match &global.root {
        Some(root) => std::path::absolute(root).map_err(|e| {
            Error::sys(format!("resolving the state directory {root:?}"), e).kind_is(Kind::Usage)
        })?,
        None => {
            let user = User {
                euid: crate::sys::cred::geteuid(),
                runtime_dir: std::env::var_os("XDG_RUNTIME_DIR"),
                name: std::env::var_os("USER"),
            };
            default_root(&user, in_initial_user_namespace)
        }
    };
    if root == Path::new("/") {
        return Err(Error::new(Kind::Usage, "the state directory (--root) cannot be /"));
    }
    Ok(Runtime {
        store: Store::new(root),
        root_given: global.root.is_some(),
        cgroup_manager: manager(global)?,
        rootless: rootless(global)?,
        listen_fds: listen_fds(),
        notify_socket: std::env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()),
    })
}

/// How many descriptors the service manager passed to this very process (sd_listen_fds(3)).
fn listen_fds() -> u32 {
    let number = |name: &str| std::env::var(name).ok().and_then(|v| v.parse::<u32>().ok());
    let ours = number("LISTEN_PID").is_some_and(|pid| pid == std::process::id());
    if ours { number("LISTEN_FDS").unwrap_or(0) } else { 0 }
}

struct User {
    euid: u32,
    runtime_dir: Option<OsString>,
    name: Option<OsString>,
}

/// `/run/orun` for root, `$XDG_RUNTIME_DIR/orun` for others, and for a root that is one in its user namespace only.
fn default_root(user: &User, initial_namespace: impl FnOnce() -> bool) -> PathBuf {
    let of_system = || PathBuf::from("/run/orun");
    match (&user.runtime_dir, user.euid) {
        (Some(dir), 0) if !dir.is_empty() => {
            let real_root = user.name.as_deref() == Some("root".as_ref()) || initial_namespace();
            if real_root { of_system() } else { Path::new(dir).join("orun") }
        }
        (Some(dir), _) if !dir.is_empty() => Path::new(dir).join("orun"),
        (_, 0) => of_system(),
        // Where systemd makes the directory that the variable names.
        (_, uid) => PathBuf::from(format!("/run/user/{uid}/orun")),
    }
}

/// Whether ids are mapped one to one for all of the 32 bits (user_namespaces(7)).
fn in_initial_user_namespace() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    map.is_empty() || map.split_ascii_whitespace().eq(["0", "0", "4294967295"])
}

fn manager(global: &Global) -> Result<CgroupManager> {
    match global.cgroup_manager.as_deref() {
        _ if global.systemd_cgroup => Ok(CgroupManager::Systemd),
        None | Some("cgroupfs") => Ok(CgroupManager::Cgroupfs),
        Some("systemd") => Ok(CgroupManager::Systemd),
        Some("disabled") => Ok(CgroupManager::Disabled),
        Some(other) => {
            let e = Error::new(Kind::Usage, format!("invalid cgroup-manager: {other}"));
            Err(e.hint("the managers are cgroupfs, systemd and disabled"))
        }
    }
}

fn rootless(global: &Global) -> Result<Option<bool>> {
    match global.rootless.as_deref().map(str::to_ascii_lowercase).as_deref() {
        None | Some("auto") => Ok(None),
        Some("true" | "t" | "1") => Ok(Some(true)),
        Some("false" | "f" | "0") => Ok(Some(false)),
        Some(other) => Err(Error::new(Kind::Usage, format!("invalid rootless: {other}"))
            .hint("expected true, false or auto")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(euid: u32, runtime_dir: Option<&str>, name: Option<&str>, initial: bool) -> PathBuf {
        let user = User { euid, runtime_dir: runtime_dir.map(Into::into), name: name.map(Into::into) };
        default_root(&user, || initial)
    }

    #[test]
    fn the_state_directory_of_each_kind_of_user() {
        let xdg = Some("/run/user/1000");
        for (found, expected) in [
            (root(0, None, None, true), "/run/orun"),
            (root(0, xdg, None, true), "/run/orun"),
            (root(0, xdg, Some("root"), false), "/run/orun"),
            (root(0, Some(""), None, false), "/run/orun"),
            (root(0, xdg, Some("me"), false), "/run/user/1000/orun"),
            (root(1000, xdg, Some("me"), true), "/run/user/1000/orun"),
            (root(1000, None, None, true), "/run/user/1000/orun"),
        ] {
            assert_eq!(found, Path::new(expected));
        }
    }

    #[test]
    fn values_of_global_flags() {
        let global = |f: fn(&mut Global)| {
            let mut g = Global { root: Some("/r".into()), ..Global::default() };
            f(&mut g);
            runtime(&g)
        };
        let rt = global(|_| {}).unwrap();
        assert_eq!((rt.cgroup_manager, rt.rootless), (CgroupManager::Cgroupfs, None));
        let rt = global(|g| g.root = Some("rel/./ative".into())).unwrap();
        assert!(rt.store.root().is_absolute());
        let rt = global(|g| g.cgroup_manager = Some("disabled".into())).unwrap();
        assert_eq!(rt.cgroup_manager, CgroupManager::Disabled);
        assert_eq!(global(|g| g.systemd_cgroup = true).unwrap().cgroup_manager, CgroupManager::Systemd);
        assert_eq!(global(|g| g.rootless = Some("True".into())).unwrap().rootless, Some(true));
        for bad in [
            global(|g| g.root = Some("/".into())),
            global(|g| g.root = Some("".into())),
            global(|g| g.cgroup_manager = Some("x".into())),
            global(|g| g.rootless = Some("x".into())),
        ] {
            assert_eq!(bad.unwrap_err().kind(), Kind::Usage);
        }
    }
}
