//! Copying files: getdents64(2), sendfile(2), extended attributes (xattr(7)).

use super::{SysResult, check, unit};
use std::ffi::CStr;
use std::os::fd::RawFd;

/// Reads directory entries into `buf`; the number of bytes, 0 at the end: getdents64(2).
pub fn getdents(dir: RawFd, buf: &mut [u8]) -> SysResult<usize> {
    // SAFETY: buf is valid for its length.
    check(unsafe { libc::syscall(libc::SYS_getdents64, dir, buf.as_mut_ptr(), buf.len()) })
        .map(|n| n as usize)
}

/// The names in what [`getdents`] read, without `.` and `..`.
pub fn names(mut entries: &[u8]) -> impl Iterator<Item = &CStr> {
    // struct linux_dirent64: inode 8, offset 8, length 2, type 1, name.
    const LENGTH: usize = 16;
    const NAME: usize = 19;
    std::iter::from_fn(move || {
        loop {
            let length = u16::from_ne_bytes([*entries.get(LENGTH)?, *entries.get(LENGTH + 1)?]) as usize;
            let entry = entries.get(..length)?;
            entries = &entries[length..];
            let name = CStr::from_bytes_until_nul(entry.get(NAME..)?).ok()?;
            if name != c"." && name != c".." {
                return Some(name);
            }
        }
    })
}

/// Copies at most `count` bytes from one file to another; the number copied: sendfile(2).
pub fn sendfile(from: RawFd, to: RawFd, count: usize) -> SysResult<usize> {
    // SAFETY: no offset is passed.
    check(unsafe { libc::sendfile(to, from, std::ptr::null_mut(), count) } as _).map(|n| n as usize)
}

/// Copies every extended attribute of `from` to `to`. File systems without them count as empty.
pub fn xattrs(from: RawFd, to: RawFd) -> SysResult<()> {
    let mut list = [0u8; 4096];
    // SAFETY: list is valid for its length.
    let n = match check(unsafe { libc::flistxattr(from, list.as_mut_ptr().cast(), list.len()) } as _) {
        Err(crate::error::Errno(libc::ENOTSUP)) => return Ok(()),
        r => r? as usize,
    };
    let mut rest = &list[..n];
    while let Ok(name) = CStr::from_bytes_until_nul(rest) {
        rest = &rest[name.count_bytes() + 1..];
        let mut value = [0u8; 4096];
        // SAFETY: name is a C string, value is valid for its length.
        let n = check(
            unsafe { libc::fgetxattr(from, name.as_ptr(), value.as_mut_ptr().cast(), value.len()) } as _,
        )?;
        // SAFETY: name is a C string, value holds n bytes.
        let set =
            unit(unsafe { libc::fsetxattr(to, name.as_ptr(), value.as_ptr().cast(), n as usize, 0) }.into());
        match set {
            // tmpfs takes user.* only since Linux 6.6, and security.* only with the right label.
            Ok(()) | Err(crate::error::Errno(libc::ENOTSUP | libc::EPERM)) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    #[test]
    fn directory_entries_are_read_whole() {
        let dir = tempfile::tempdir().unwrap();
        for i in 0..100 {
            std::fs::write(dir.path().join(format!("file-{i}")), "").unwrap();
        }
        let f = std::fs::File::open(dir.path()).unwrap();
        let mut seen = 0;
        let mut buf = [0u8; 512];
        loop {
            let n = getdents(f.as_raw_fd(), &mut buf).unwrap();
            if n == 0 {
                break;
            }
            seen += names(&buf[..n]).filter(|n| n.to_bytes().starts_with(b"file-")).count();
        }
        assert_eq!(seen, 100);
    }
}
