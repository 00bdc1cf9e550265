//! `tmpcopyup`: what a directory holds is copied into the tmpfs that will cover it.

use crate::error::Errno;
use crate::sys::{SysResult, copy, file, path};
use std::ffi::CStr;
use std::os::fd::{AsRawFd, RawFd};

/// Directories below each other; the tree is the image's to choose.
const MAX_DEPTH: u32 = 64;

/// Copies the tree below `from` into the directory `to`, with owners, modes, links and extended attributes.
/// Nothing is followed: every entry is opened by name in its directory, without symlinks.
pub(super) fn copy(from: RawFd, to: RawFd) -> SysResult<()> {
    tree(from, to, MAX_DEPTH)
}

fn tree(from: RawFd, to: RawFd, depth: u32) -> SysResult<()> {
    if depth == 0 {
        return Err(Errno(libc::ELOOP));
    }
    let from = path::openat(from, c".", libc::O_RDONLY | libc::O_DIRECTORY, 0)?;
    let to = path::openat(to, c".", libc::O_RDONLY | libc::O_DIRECTORY, 0)?;
    let st = file::fstat(from.as_raw_fd())?;
    file::fchown(to.as_raw_fd(), st.uid, st.gid)?;
    file::fchmod(to.as_raw_fd(), st.mode & 0o7777)?;
    copy::xattrs(from.as_raw_fd(), to.as_raw_fd())?;
    let mut buf = [0u8; 4096];
    loop {
        let n = copy::getdents(from.as_raw_fd(), &mut buf)?;
        if n == 0 {
            return Ok(());
        }
        for name in copy::names(&buf[..n]) {
            entry(from.as_raw_fd(), to.as_raw_fd(), name, depth)?;
        }
    }
}

/// One entry. It is opened once, as a location only, which neither follows a symlink nor disturbs a device; what it is
/// is read from there, whatever its name means later.
fn entry(from: RawFd, to: RawFd, name: &CStr, depth: u32) -> SysResult<()> {
    let a = path::openat(from, name, libc::O_PATH | libc::O_NOFOLLOW, 0)?;
    let st = file::fstat(a.as_raw_fd())?;
    match st.kind() {
        libc::S_IFDIR => {
            file::mkdirat(to, name, 0o700)?;
            let b = path::openat(to, name, libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW, 0)?;
            tree(a.as_raw_fd(), b.as_raw_fd(), depth - 1)
        }
        libc::S_IFREG => {
            let a = path::reopen(a.as_raw_fd(), libc::O_RDONLY)?;
            let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW;
            let b = path::openat(to, name, flags, 0o600)?;
            while copy::sendfile(a.as_raw_fd(), b.as_raw_fd(), 1 << 30)? > 0 {}
            file::fchown(b.as_raw_fd(), st.uid, st.gid)?;
            // Behind the owner: a change of owner takes the set-id bits away.
            file::fchmod(b.as_raw_fd(), st.mode & 0o7777)?;
            copy::xattrs(a.as_raw_fd(), b.as_raw_fd())
        }
        libc::S_IFLNK => {
            let mut buf = [0u8; 4097];
            let n = file::readlinkat(a.as_raw_fd(), c"", &mut buf[..4096])?;
            buf[n] = 0;
            let target = CStr::from_bytes_until_nul(&buf).map_err(|_| Errno(libc::EINVAL))?;
            file::symlinkat(target, to, name)?;
            file::lchownat(to, name, st.uid, st.gid)
        }
        _ => {
            file::mknodat(to, name, st.mode, st.rdev)?;
            file::lchownat(to, name, st.uid, st.gid)
        }
    }
}
