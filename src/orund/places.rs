//! Where `orund` has its files: in the system's directories for root, in the user's own ones for others, as the XDG base directory
//! specification (0.8) names them.

use crate::error::{Errno, Error, Result};
use crate::supervisor::shell::outside;
use crate::sys::cred;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Where the supervisor of root listens.
const SOCKET: &str = "/run/orund/orund.sock";

/// The user of the host that this process belongs to, unless that is root.
pub fn user() -> Option<u32> {
    match cred::geteuid() {
        0 if outside::is_inside() => host_id(),
        0 => None,
        uid => Some(uid),
    }
}

/// The ID that root of this user namespace has outside of it.
fn host_id() -> Option<u32> {
    let text = std::fs::read_to_string("/proc/self/uid_map").ok()?;
    let of_root = text.lines().map(str::split_ascii_whitespace).find(|line| line.clone().next() == Some("0"));
    of_root?.nth(1)?.parse().ok()
}

/// For the desired state.
pub fn data(given: Option<&PathBuf>) -> Result<PathBuf> {
    absolute(given, || match user() {
        None => Ok("/var/lib/orund".into()),
        Some(_) => Ok(base("XDG_DATA_HOME", ".local/share")?.join("orund")),
    })
}

/// For the images of [`data`]'s user.
pub fn images(given: Option<&PathBuf>) -> Result<PathBuf> {
    absolute(given, || Ok(data(None)?.join("images")))
}

/// For the logs of containers.
pub fn logs(given: Option<&PathBuf>) -> Result<PathBuf> {
    absolute(given, || match user() {
        None => Ok("/var/log/orund".into()),
        Some(_) => Ok(base("XDG_STATE_HOME", ".local/state")?.join("orund/log")),
    })
}

/// For runtime state.
pub fn run(given: Option<&PathBuf>) -> Result<PathBuf> {
    absolute(given, || match user() {
        None => Ok("/run/orund".into()),
        Some(uid) => Ok(runtime(uid).join("orund")),
    })
}

/// The directory of a user that is gone after a reboot: pam_systemd(8).
fn runtime(uid: u32) -> PathBuf {
    let of_login = || Some(PathBuf::from(format!("/run/user/{uid}"))).filter(|dir| dir.is_dir());
    let given = std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| Path::new(dir).is_absolute());
    given.map(PathBuf::from).or_else(of_login).unwrap_or_else(|| format!("/tmp/orund-{uid}").into())
}

/// The socket of the supervisor: root's, or the user's own. A client uses root's, to which its group may have access, if the user
/// has none.
pub fn socket(serves: bool) -> PathBuf {
    let Some(uid) = user() else { return SOCKET.into() };
    let dir = runtime(uid);
    let own = dir.join("orund/orund.sock");
    // In /tmp anybody may have made a directory of that name, with a socket of theirs.
    let usable = own.exists() && is_trusted(&dir, uid) && is_trusted(&dir.join("orund"), uid);
    if !serves && !usable { SOCKET.into() } else { own }
}

/// Whether only the user, or root, decides what the directory is.
fn is_trusted(dir: &Path, uid: u32) -> bool {
    std::fs::symlink_metadata(dir).is_ok_and(|found| found.uid() == uid || found.uid() == 0)
}

/// Makes the directory for runtime state of a user, which nobody else may have made.
///
/// # Errors
/// It cannot be made, or belongs to another user.
pub fn make_run(dir: &Path, uid: u32) -> Result<()> {
    let fail = |e: std::io::Error| Error::sys(format!("making the directory {dir:?}"), e);
    for dir in dir.parent().into_iter().chain([dir]) {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(fail)?;
    }
    let found = std::fs::symlink_metadata(dir).map_err(fail)?;
    // The owner of the directory above could put another one in its place.
    let above = dir.parent().is_none_or(|above| is_trusted(above, uid));
    if found.uid() != uid || !found.is_dir() || !above {
        let e = Error::sys(format!("using the directory {dir:?} for runtime state"), Errno(libc::EPERM));
        return Err(e.hint(
            "it belongs to another user; set XDG_RUNTIME_DIR or --run-dir to a directory of your own",
        ));
    }
    Ok(())
}

fn absolute(given: Option<&PathBuf>, default: impl FnOnce() -> Result<PathBuf>) -> Result<PathBuf> {
    let path = given.map_or_else(default, |path| Ok(path.clone()))?;
    std::path::absolute(&path).map_err(|e| Error::sys(format!("resolving {path:?}"), e))
}

/// A base directory: that of the variable, or `below` the home directory.
fn base(variable: &str, below: &str) -> Result<PathBuf> {
    let set = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|dir| dir.is_absolute());
    set(variable).or_else(|| Some(set("HOME")?.join(below))).ok_or_else(|| {
        Error::sys(format!("finding the directory for {below}"), Errno(libc::ENOENT))
            .hint(format!("set HOME or {variable}, or name the directories with flags"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_of_the_host_has_the_directories_of_the_system() {
        if cred::geteuid() != 0 {
            return eprintln!("SKIP: not root");
        }
        assert_eq!(data(None).unwrap(), Path::new("/var/lib/orund"));
        assert_eq!(images(None).unwrap(), Path::new("/var/lib/orund/images"));
        assert_eq!(run(None).unwrap(), Path::new("/run/orund"));
        assert_eq!(logs(None).unwrap(), Path::new("/var/log/orund"));
        assert_eq!(socket(true), Path::new(SOCKET));
        assert_eq!(data(Some(&"/x/../y".into())).unwrap(), Path::new("/x/../y"));
    }

    #[test]
    fn a_directory_of_another_user_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let own = cred::geteuid();
        make_run(&dir.path().join("a/b"), own).unwrap();
        if own == 0 {
            // In a directory of somebody else, however it may be written to.
            std::os::unix::fs::chown(dir.path().join("a"), Some(7), None).unwrap();
            assert!(make_run(&dir.path().join("a/b"), own).is_err());
            std::os::unix::fs::chown(dir.path().join("a"), Some(0), None).unwrap();
        }
        let error = make_run(&dir.path().join("a/b"), own + 1).unwrap_err().to_string();
        assert!(error.contains("for runtime state"), "{error}");
        std::os::unix::fs::symlink("/", dir.path().join("link")).unwrap();
        assert!(make_run(&dir.path().join("link"), own).is_err());
    }
}
