//! One directory of a cgroup file system and the files in it.

use crate::error::{Errno, Error, Result};
use crate::plan::cgroup::Version;
use crate::sys::{self, SysResult, fd, file, path};
use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

/// A cgroup in one hierarchy.
///
/// Version 2 keeps a descriptor of the directory, which is needed for clone3(2) and bpf(2) anyhow. Version 1 has a
/// dozen hierarchies with hardly more than one access each, so there a file is opened by its path: the path is
/// orun's own, lies on a cgroup file system, and such a file system has no symlinks that could lead elsewhere.
#[derive(Debug)]
pub(super) struct Dir {
    pub version: Version,
    /// Version 1: controllers or `name=...`. Version 2: empty.
    pub controllers: Vec<String>,
    pub path: String,
    pub fd: Option<OwnedFd>,
    /// Made by this process.
    pub fresh: bool,
}

pub(super) fn c_string(s: String) -> SysResult<CString> {
    CString::new(s).map_err(|_| Errno(libc::EINVAL))
}

impl Dir {
    pub fn new(version: Version, controllers: Vec<String>, path: String) -> Dir {
        Dir { version, controllers, path, fd: None, fresh: false }
    }

    pub fn has(&self, controller: &str) -> bool {
        self.controllers.iter().any(|c| c == controller)
    }

    /// The path of `file` in it, for messages.
    pub fn file(&self, file: &str) -> String {
        format!("{}/{file}", self.path)
    }

    /// The error of an operation on `file`.
    pub fn error(&self, doing: &str, file: &str, errno: Errno) -> Error {
        Error::sys(format!("{doing} {:?}", self.file(file)), errno)
    }

    pub fn open(&self, file: &str, flags: i32) -> SysResult<OwnedFd> {
        let (dir, name) = match &self.fd {
            Some(fd) => (fd.as_raw_fd(), file.to_owned()),
            None => (sys::CWD, self.file(file)),
        };
        path::openat(dir, &c_string(name)?, flags | libc::O_NOFOLLOW, 0)
    }

    /// Opens the directory itself, as a handle.
    pub fn open_self(&self) -> SysResult<OwnedFd> {
        let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW;
        path::openat(sys::CWD, &c_string(self.path.clone())?, flags, 0)
    }

    /// All of a file.
    pub fn read(&self, file: &str) -> SysResult<String> {
        let fd = self.open(file, libc::O_RDONLY)?;
        read_all(fd.as_raw_fd())
    }

    /// A file that is one record, such as a number or a list of CPUs, without white space around it.
    pub fn value(&self, file: &str) -> SysResult<String> {
        let fd = self.open(file, libc::O_RDONLY)?;
        Ok(read_record(fd.as_raw_fd())?.trim().to_owned())
    }

    /// A number; `max` is the largest one.
    pub fn number(&self, file: &str) -> SysResult<u64> {
        let text = self.value(file)?;
        number(&text).ok_or(Errno(libc::EPROTO))
    }

    /// The number after `key` in a file of lines `KEY NUMBER`.
    pub fn keyed(&self, file: &str, key: &str) -> SysResult<Option<u64>> {
        let text = self.read(file)?;
        Ok(pairs(&text).find(|(k, _)| *k == key).map(|(_, v)| v))
    }

    pub fn write(&self, file: &str, value: &str) -> SysResult<()> {
        let fd = self.open(file, libc::O_WRONLY)?;
        fd::write_all(fd.as_raw_fd(), value.as_bytes())
    }

    /// The names of the cgroups directly below this one.
    pub fn children(&self) -> SysResult<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.path)? {
            let entry = entry?;
            // The kernel returns the type with the name, so this makes no further call.
            if entry.file_type()?.is_dir() {
                names.extend(entry.file_name().into_string());
            }
        }
        Ok(names)
    }

    /// The cgroup `name` below this one.
    pub fn child(&self, name: &str) -> Dir {
        Dir::new(self.version, self.controllers.clone(), self.file(name))
    }

    /// The processes in it, in the order of the kernel.
    pub fn pids(&self) -> SysResult<Vec<i32>> {
        let text = match self.read("cgroup.procs") {
            // A threaded cgroup has no processes, only threads (cgroups(7)).
            Err(Errno(libc::EOPNOTSUPP)) => self.read("cgroup.threads")?,
            r => r?,
        };
        // A process of another PID namespace is a 0.
        Ok(text.lines().filter_map(|l| l.parse().ok()).filter(|pid| *pid != 0).collect())
    }

    /// The processes in it and below it. A cgroup below that goes away meanwhile is passed over.
    pub fn pids_recursive(&self) -> SysResult<Vec<i32>> {
        let mut pids = self.pids()?;
        let mut todo: Vec<Dir> = self.children()?.iter().map(|n| self.child(n)).collect();
        while let Some(d) = todo.pop() {
            match d.pids().and_then(|p| Ok((p, d.children()?))) {
                Ok((more, names)) => {
                    pids.extend(more);
                    todo.extend(names.iter().map(|n| d.child(n)));
                }
                Err(Errno(libc::ENOENT | libc::ENODEV)) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(pids)
    }

    /// Moves a process into it; `0` is the caller.
    pub fn attach(&self, pid: i32) -> Result<()> {
        let fail = |e| self.error(&format!("moving process {pid} into"), "cgroup.procs", e);
        let fd = self.open("cgroup.procs", libc::O_WRONLY).map_err(fail)?;
        let mut tries = 0;
        loop {
            match fd::write_all(fd.as_raw_fd(), pid.to_string().as_bytes()) {
                // A process that is still being made cannot be moved.
                Err(Errno(libc::EINVAL)) if tries < 5 => {
                    tries += 1;
                    std::thread::sleep(std::time::Duration::from_millis(10));
                }
                r => return r.map_err(fail),
            }
        }
    }
}

/// mkdir(2) with the mode of cgroup directories.
pub(super) fn mkdir(path: &str) -> SysResult<()> {
    file::mkdirat(sys::CWD, &c_string(path.to_owned())?, 0o755)
}

/// rmdir(2).
pub(super) fn rmdir(path: &str) -> SysResult<()> {
    file::unlinkat(sys::CWD, &c_string(path.to_owned())?, libc::AT_REMOVEDIR)
}

/// Reads a file that the kernel writes in one go: a read that does not fill its buffer has got all of it, so that
/// the one that finds the end is saved.
pub(super) fn read_record(fd: RawFd) -> SysResult<String> {
    let mut out = Vec::with_capacity(4096);
    loop {
        fd::append(fd, &mut out)?;
        if out.len() < out.capacity() {
            return Ok(text(out));
        }
        out.reserve(out.len());
    }
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned())
}

/// Reads from the position of `fd` to the end.
pub(super) fn read_all(fd: RawFd) -> SysResult<String> {
    let mut out = Vec::with_capacity(4096);
    while fd::append(fd, &mut out)? > 0 {
        if out.len() == out.capacity() {
            out.reserve(out.len());
        }
    }
    Ok(text(out))
}

/// A number of a cgroup file; `max` is the largest one, and so is version 1's -1.
pub(super) fn number(text: &str) -> Option<u64> {
    match text {
        "max" | "-1" => Some(u64::MAX),
        _ => text.parse().ok(),
    }
}

/// The lines `KEY NUMBER` of a file.
pub(super) fn pairs(text: &str) -> impl Iterator<Item = (&str, u64)> {
    text.lines().filter_map(|l| {
        let (key, value) = l.split_once([' ', '\t'])?;
        Some((key, number(value.trim())?))
    })
}
