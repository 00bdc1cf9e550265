//! Files at paths that the caller gives: the pid file, the log, images of a checkpoint.
//!
//! The directory of such a path may belong to a user with fewer rights than orun. A symlink of that user in it would lead
//! orun to any file of the host, so that links are followed only when they belong to root or to orun's own user. A path
//! without links costs one system call.

use crate::error::{Errno, Error, Kind, Result};
use crate::kernel::path::cpath;
use crate::kernel::probe;
use crate::sys::{self, SysResult, cred, fd, file, path};
use std::ffi::{CString, OsStr};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

/// As many symlinks as the kernel follows in one path (path_resolution(7)).
const LINKS: usize = 40;
/// How many names of temporary files are tried.
const NAMES: u32 = 100;
const DIRECTORY: i32 = libc::O_PATH | libc::O_DIRECTORY;

/// Opens `path`; `doing` is what the error says was being done: `opening the log file "/x"`. `flags` and `mode` as for
/// open(2).
///
/// # Errors
/// As of open(2); a symlink on the way that belongs to another user.
pub fn open(path: &Path, flags: i32, mode: u32, doing: &str) -> Result<OwnedFd> {
    let fail = |e| Error::sys(doing, e);
    match path::create(sys::CWD, &cpath(path)?, flags, mode, path::NO_SYMLINKS) {
        // An outer seccomp filter may not know openat2(2).
        Err(Errno(libc::ELOOP | libc::ENOSYS | libc::EPERM)) => {}
        r => return r.map_err(fail),
    }
    match Walk::new(path).and_then(|mut w| w.open(flags, mode)) {
        Ok(Found::File(f)) => Ok(f),
        Ok(Found::Foreign { link, owner }) => Err(foreign(doing, &link, owner)),
        Err(e) => Err(fail(e)),
    }
}

/// Opens the directory `path` to find files in it.
///
/// # Errors
/// As [`open`].
pub fn directory(path: &Path, doing: &str) -> Result<OwnedFd> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    open(path, DIRECTORY, 0, doing)
}

/// Opens `path` to append to it; it is made with `mode` when it is missing. A FIFO without a reader is an error.
///
/// # Errors
/// As [`open`]; a hard link in a directory of another user, which may be any file.
pub fn append(path: &Path, mode: u32, doing: &str) -> Result<OwnedFd> {
    let flags = libc::O_WRONLY | libc::O_APPEND | libc::O_CREAT | libc::O_NOCTTY | libc::O_NONBLOCK;
    let f = open(path, flags, mode, doing)?;
    let fail = |e: Errno| Error::sys(doing, e);
    let st = file::fstat(f.as_raw_fd()).map_err(fail)?;
    if st.kind() == libc::S_IFREG && st.links > 1 {
        let dir = directory(path.parent().unwrap_or(Path::new("/")), doing)?;
        let owner = file::fstat(dir.as_raw_fd()).map_err(fail)?.uid;
        if !trusted(owner) {
            return Err(Error::sys(
                format!("{doing}: it is a hard link in a directory of user {owner}"),
                Errno(libc::EPERM),
            )
            .hint("it may be any file of the host: use a directory that belongs to you"));
        }
    }
    Ok(f)
}

/// Writes `bytes` to a new file that is then renamed to `path`: readers see all of it or nothing. An existing file is
/// replaced; of a symlink, the link itself.
///
/// # Errors
/// As [`open`]; the disk is full. Nothing new is left then.
pub fn replace(path: &Path, bytes: &[u8], mode: u32, doing: &str) -> Result<()> {
    let fail = |e: Errno| Error::sys(doing, e);
    let name = match path.file_name() {
        Some(name) if !path.as_os_str().as_bytes().ends_with(b"/") => cpath(Path::new(name))?,
        _ => return Err(fail(Errno(libc::EISDIR))),
    };
    let dir = directory(path.parent().unwrap_or(Path::new("/")), doing)?;
    let dir = dir.as_raw_fd();
    let (temporary, f) = temporary(dir, mode).map_err(fail)?;
    let done = fd::write_all(f.as_raw_fd(), bytes).and_then(|()| file::renameat(dir, &temporary, &name));
    if done.is_err() {
        // The first error is the one to report.
        let _ = file::unlinkat(dir, &temporary, 0);
    }
    done.map_err(fail)
}

/// A new file in `dir`: never an existing one, which another user may have put there.
fn temporary(dir: i32, mode: u32) -> SysResult<(CString, OwnedFd)> {
    let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW;
    let mut last = Errno(libc::EEXIST);
    for n in 0..NAMES {
        let name = CString::new(format!(".orun.{}.{n}", std::process::id())).unwrap_or_default();
        match path::openat(dir, &name, flags, mode) {
            Err(e @ Errno(libc::EEXIST)) => last = e,
            r => return r.map(|f| (name, f)),
        }
    }
    Err(last)
}

/// Demands that only root and orun's own user may make files in the directory `dir`, whose path is `shown`: programs
/// that follow links are to write there.
///
/// # Errors
/// [`Kind::Usage`], with the way out.
pub fn only_ours(dir: RawFd, shown: &Path) -> Result<()> {
    let st = file::fstat(dir).map_err(|e| Error::sys(format!("looking at the directory {shown:?}"), e))?;
    let refuse = |why: String| {
        Err(Error::new(Kind::Usage, format!("the directory {shown:?} {why}, who could put symlinks there"))
            .hint("give a directory that only orun's own user may write to"))
    };
    if !trusted(st.uid) && (st.uid != OVERFLOW_UID || probe::in_initial_userns()) {
        return refuse(format!("belongs to user {}", st.uid));
    }
    if st.mode & 0o002 != 0 {
        return refuse("may be written to by every user".to_owned());
    }
    if st.mode & 0o020 != 0 && st.gid != 0 && st.gid != cred::getegid() {
        return refuse(format!("may be written to by group {}", st.gid));
    }
    Ok(())
}

/// Whether this owner has orun's rights anyway: root, or the user that runs orun.
fn trusted(owner: u32) -> bool {
    owner == 0 || owner == cred::geteuid()
}

fn foreign(doing: &str, link: &Path, owner: u32) -> Error {
    Error::sys(format!("{doing}: the symlink {link:?} belongs to user {owner}"), Errno(libc::ELOOP))
        .hint("it may lead to any file of the host: only links of root and of orun's own user are followed")
}

enum Found {
    File(OwnedFd),
    Foreign { link: PathBuf, owner: u32 },
}

/// A lookup, component by component.
struct Walk {
    dir: OwnedFd,
    /// Where that is, for errors.
    shown: PathBuf,
    /// Components still to be resolved; the next one is the last of the list.
    rest: Vec<CString>,
    links: usize,
}

impl Walk {
    fn new(path: &Path) -> SysResult<Walk> {
        let start = if path.is_absolute() { c"/" } else { c"." };
        let dir = path::openat(sys::CWD, start, DIRECTORY, 0)?;
        let mut walk = Walk { dir, shown: PathBuf::new(), rest: Vec::new(), links: 0 };
        walk.push(path)?;
        Ok(walk)
    }

    fn push(&mut self, path: &Path) -> SysResult<()> {
        if path.is_absolute() {
            self.dir = path::openat(sys::CWD, c"/", DIRECTORY, 0)?;
            self.shown = PathBuf::from("/");
        }
        let name = |c: &OsStr| CString::new(c.as_bytes()).map_err(|_| Errno(libc::EINVAL));
        for c in path.components().rev() {
            match c {
                Component::Normal(c) => self.rest.push(name(c)?),
                Component::ParentDir => self.rest.push(c"..".into()),
                _ => {}
            }
        }
        Ok(())
    }

    fn open(&mut self, flags: i32, mode: u32) -> SysResult<Found> {
        while let Some(name) = self.rest.pop() {
            let last = self.rest.is_empty();
            let dir = self.dir.as_raw_fd();
            let plain = if last { flags } else { DIRECTORY } | libc::O_NOFOLLOW;
            // A symlink fails with ELOOP, or with ENOTDIR where O_DIRECTORY is set.
            match path::openat(dir, &name, plain, mode) {
                Ok(f) if last && flags & libc::O_PATH == 0 => return Ok(Found::File(f)),
                Ok(f) if file::fstat(f.as_raw_fd())?.kind() != libc::S_IFLNK => {
                    if last {
                        return Ok(Found::File(f));
                    }
                    self.dir = f;
                    self.shown.push(OsStr::from_bytes(name.to_bytes()));
                    continue;
                }
                Ok(_) | Err(Errno(libc::ELOOP | libc::ENOTDIR)) => {}
                Err(e) => return Err(e),
            }
            if let Some(found) = self.link(&name, if last { flags } else { DIRECTORY }, mode)? {
                return Ok(found);
            }
        }
        // The last component was the directory itself: `/`, `.`, `..`.
        path::openat(self.dir.as_raw_fd(), c".", flags, mode).map(Found::File)
    }

    /// `name` should be a symlink.
    fn link(&mut self, name: &CString, flags: i32, mode: u32) -> SysResult<Option<Found>> {
        let dir = self.dir.as_raw_fd();
        let link = path::openat(dir, name, libc::O_PATH | libc::O_NOFOLLOW, 0)?;
        let st = file::fstat(link.as_raw_fd())?;
        if st.kind() != libc::S_IFLNK {
            return Err(Errno(libc::ENOTDIR));
        }
        self.links += 1;
        if self.links > LINKS {
            return Err(Errno(libc::ELOOP));
        }
        if file::filesystem_type(link.as_raw_fd())? == libc::PROC_SUPER_MAGIC {
            // A link of procfs, such as /proc/self/fd/2: its text need not be a path.
            let f = path::openat(dir, name, flags, mode)?;
            if self.rest.is_empty() {
                return Ok(Some(Found::File(f)));
            }
            self.dir = f;
            return Ok(None);
        }
        // In a user namespace the host's root has the overflow ID.
        if !trusted(st.uid) && (st.uid != OVERFLOW_UID || probe::in_initial_userns()) {
            let link = self.shown.join(OsStr::from_bytes(name.to_bytes()));
            return Ok(Some(Found::Foreign { link, owner: st.uid }));
        }
        let mut text = [0; libc::PATH_MAX as usize];
        let n = file::readlinkat(link.as_raw_fd(), c"", &mut text)?;
        self.push(Path::new(OsStr::from_bytes(&text[..n])))?;
        Ok(None)
    }
}

/// Owner of files whose user has no number in the user namespace (/proc/sys/kernel/overflowuid).
const OVERFLOW_UID: u32 = 65534;

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn read(f: OwnedFd) -> String {
        std::io::read_to_string(fs::File::from(f)).unwrap()
    }

    fn dir() -> tempfile::TempDir {
        let d = tempfile::tempdir().unwrap();
        fs::create_dir_all(d.path().join("a/b")).unwrap();
        fs::write(d.path().join("a/b/file"), "text").unwrap();
        d
    }

    #[test]
    fn links_of_ones_own_are_followed_as_the_kernel_does() {
        let d = dir();
        let at = |name: &str| d.path().join(name);
        for (name, target) in [
            ("relative", "a/b"),
            ("absolute", at("a").to_str().unwrap()),
            ("last", "relative/file"),
            ("up", "a/b/../b/file"),
            ("loop1", "loop2"),
            ("loop2", "loop1"),
            ("dangling", "a/new"),
        ] {
            symlink(target, at(name)).unwrap();
        }
        for path in ["a/b/file", "relative/file", "absolute/b/file", "last", "up", "absolute/../last"] {
            assert_eq!(read(open(&at(path), libc::O_RDONLY, 0, "").unwrap()), "text", "{path}");
        }
        for (path, errno) in [
            ("loop1", libc::ELOOP),
            ("loop1/x", libc::ELOOP),
            ("last/x", libc::ENOTDIR),
            ("relative/no", libc::ENOENT),
            ("no/x", libc::ENOENT),
        ] {
            let e = open(&at(path), libc::O_RDONLY, 0, "opening").unwrap_err();
            assert_eq!(e.errno(), Some(Errno(errno)), "{path}");
        }
        append(&at("dangling"), 0o600, "").unwrap();
        assert!(at("a/new").exists());
        let same = directory(&at("relative"), "").unwrap();
        assert_eq!(
            file::fstat(same.as_raw_fd()).unwrap().ino,
            std::os::unix::fs::MetadataExt::ino(&fs::metadata(at("a/b")).unwrap())
        );
    }

    #[test]
    fn links_of_the_kernel_are_followed() {
        let d = dir();
        let f = fs::File::open(d.path().join("a/b/file")).unwrap();
        let path = format!("/proc/self/fd/{}", f.as_raw_fd());
        assert_eq!(read(open(Path::new(&path), libc::O_RDONLY, 0, "").unwrap()), "text");
        let dir = fs::File::open(d.path().join("a")).unwrap();
        let path = format!("/dev/fd/{}/b/file", dir.as_raw_fd());
        assert_eq!(read(open(Path::new(&path), libc::O_RDONLY, 0, "").unwrap()), "text");
    }

    #[test]
    fn a_file_is_replaced_whole_and_never_followed() {
        let d = dir();
        let (victim, link) = (d.path().join("a/b/file"), d.path().join("pid"));
        symlink(&victim, &link).unwrap();
        // Nor is what bears the name of the temporary file.
        symlink(&victim, d.path().join(format!(".orun.{}.0", std::process::id()))).unwrap();
        replace(&link, b"42", 0o644, "writing").unwrap();
        assert_eq!(fs::read_to_string(&victim).unwrap(), "text");
        assert!(!link.is_symlink());
        assert_eq!(fs::read_to_string(&link).unwrap(), "42");
        let long = "n".repeat(255);
        replace(&d.path().join(&long), b"7", 0o644, "writing").unwrap();
        for bad in ["a", "a/", "..", "no/pid"] {
            let e = replace(&d.path().join(bad), b"42", 0o644, "writing").unwrap_err().to_string();
            assert!(e.starts_with("writing: "), "{e}");
        }
        let left = fs::read_dir(d.path()).unwrap().count();
        assert_eq!(left, 4, "a, pid, the long name and the old link");
    }

    #[test]
    fn a_fifo_without_a_reader_is_an_error() {
        let d = dir();
        let fifo = d.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_eq!(append(&fifo, 0o600, "opening").unwrap_err().errno(), Some(Errno(libc::ENXIO)));
    }
}
