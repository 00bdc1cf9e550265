//! Paths inside an untrusted root: found and made without ever leaving it, without allocation.
//!
//! Everything here works on a descriptor of the root. Existing paths are resolved by the kernel with
//! `RESOLVE_IN_ROOT`; missing ones are made component by component, none of which may be a symlink at that
//! moment. A symlink that leads nowhere yet is followed by text, inside the root, and its target made.

use crate::error::Errno;
use crate::sys::{SysResult, file, path};
use std::ffi::CStr;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

const PATH_MAX: usize = 4096;
/// As many symlinks as the kernel follows in one path (path_resolution(7)).
const MAX_LINKS: usize = 40;

/// The kind of file to create when the path is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Make {
    Directory,
    /// An empty regular file, with directories above it.
    File,
}

/// Opens `path` below `root`, as a location only (`O_PATH`).
pub fn open(root: RawFd, path: &CStr) -> SysResult<OwnedFd> {
    let path = if path.is_empty() { c"." } else { path };
    path::openat2(root, path, libc::O_PATH, path::IN_ROOT | path::NO_MAGICLINKS)
}

/// As [`open`], and whether a symlink was followed on the way.
pub fn find(root: RawFd, path: &CStr) -> SysResult<(OwnedFd, bool)> {
    let plain = if path.is_empty() { c"." } else { path };
    match path::openat2(root, plain, libc::O_PATH, path::IN_ROOT | path::NO_SYMLINKS) {
        Err(Errno(libc::ELOOP)) => open(root, path).map(|fd| (fd, true)),
        r => r.map(|fd| (fd, false)),
    }
}

/// Opens `path` below `root` and makes it first when it is missing.
pub fn open_or_make(root: RawFd, path: &CStr, make: Make) -> SysResult<OwnedFd> {
    match open(root, path) {
        Err(Errno(libc::ENOENT)) => make_path(root, path.to_bytes(), make),
        r => r,
    }
}

fn terminate<'a>(bytes: &[u8], buf: &'a mut [u8]) -> SysResult<&'a CStr> {
    if bytes.len() >= buf.len() {
        return Err(Errno(libc::ENAMETOOLONG));
    }
    buf[..bytes.len()].copy_from_slice(bytes);
    buf[bytes.len()] = 0;
    CStr::from_bytes_with_nul(&buf[..=bytes.len()]).map_err(|_| Errno(libc::EINVAL))
}

/// A path as text in a fixed buffer.
struct Text {
    buf: [u8; PATH_MAX],
    len: usize,
}

impl Text {
    fn new(bytes: &[u8]) -> SysResult<Text> {
        let mut t = Text { buf: [0; PATH_MAX], len: 0 };
        t.push(bytes)?;
        Ok(t)
    }

    fn push(&mut self, bytes: &[u8]) -> SysResult<()> {
        let end = self.len + bytes.len();
        if end > PATH_MAX {
            return Err(Errno(libc::ENAMETOOLONG));
        }
        self.buf[self.len..end].copy_from_slice(bytes);
        self.len = end;
        Ok(())
    }

    fn bytes(&self) -> &[u8] {
        &self.buf[..self.len]
    }

    /// Takes out `.` and empty components, and each `..` with the component before it.
    fn clean(&mut self) {
        let mut out = 0;
        let mut at = 0;
        while at < self.len {
            let end = self.buf[at..self.len].iter().position(|b| *b == b'/').map_or(self.len, |i| at + i);
            match &self.buf[at..end] {
                b"" | b"." => {}
                b".." => {
                    out = self.buf[..out].iter().rposition(|b| *b == b'/').unwrap_or(0);
                }
                component => {
                    let n = component.len();
                    if out > 0 {
                        self.buf[out] = b'/';
                        out += 1;
                    }
                    self.buf.copy_within(at..end, out);
                    out += n;
                }
            }
            at = end + 1;
        }
        self.len = out;
    }
}

fn make_path(root: RawFd, path: &[u8], make: Make) -> SysResult<OwnedFd> {
    let mut text = Text::new(path)?;
    for _ in 0..MAX_LINKS {
        text.clean();
        match walk(root, &text, make)? {
            Walk::Done(fd) => return Ok(fd),
            Walk::Link { start, end, target } => {
                let mut next =
                    Text::new(if target.bytes().starts_with(b"/") { b"" } else { &text.bytes()[..start] })?;
                next.push(b"/")?;
                next.push(target.bytes())?;
                next.push(b"/")?;
                next.push(&text.bytes()[end..])?;
                text = next;
            }
        }
    }
    Err(Errno(libc::ELOOP))
}

// Both variants live on the stack for a moment; boxing would allocate.
#[allow(clippy::large_enum_variant)]
enum Walk {
    Done(OwnedFd),
    /// The component from `start` to `end` is a symlink to `target`.
    Link {
        start: usize,
        end: usize,
        target: Text,
    },
}

fn walk(root: RawFd, text: &Text, make: Make) -> SysResult<Walk> {
    let mut dir: Option<OwnedFd> = None;
    let mut at = 0;
    let bytes = text.bytes();
    while at < bytes.len() {
        let end = bytes[at..].iter().position(|b| *b == b'/').map_or(bytes.len(), |i| at + i);
        let mut buf = [0u8; 256];
        let name = terminate(&bytes[at..end], &mut buf)?;
        let here = dir.as_ref().map_or(root, AsRawFd::as_raw_fd);
        let made = if end == bytes.len() && make == Make::File {
            file::mknodat(here, name, libc::S_IFREG | 0o755, 0)
        } else {
            file::mkdirat(here, name, 0o755)
        };
        match made {
            // EROFS: a read-only file system still has what exists.
            Ok(()) | Err(Errno(libc::EEXIST | libc::EROFS)) => {}
            Err(e) => return Err(e),
        }
        let next = path::openat2(here, name, libc::O_PATH | libc::O_NOFOLLOW, path::BENEATH).map_err(
            |e| match made {
                Err(first) if e.0 == libc::ENOENT => first,
                _ => e,
            },
        )?;
        // One that was made may have been replaced since.
        if file::fstat(next.as_raw_fd())?.kind() == libc::S_IFLNK {
            let mut target = Text { buf: [0; PATH_MAX], len: 0 };
            target.len = file::readlinkat(next.as_raw_fd(), c"", &mut target.buf)?;
            return Ok(Walk::Link { start: at, end, target });
        }
        dir = Some(next);
        at = end + 1;
    }
    match dir {
        Some(fd) => Ok(Walk::Done(fd)),
        None => open(root, c".").map(Walk::Done),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn root() -> (tempfile::TempDir, std::fs::File) {
        let dir = tempfile::tempdir().unwrap();
        let f = std::fs::File::open(dir.path()).unwrap();
        (dir, f)
    }

    fn make(f: &std::fs::File, p: &CStr, m: Make) -> SysResult<std::path::PathBuf> {
        let fd = open_or_make(f.as_raw_fd(), p, m)?;
        Ok(std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).unwrap())
    }

    #[test]
    fn missing_components_are_made_inside() {
        let (d, f) = root();
        assert_eq!(make(&f, c"a/b/c", Make::Directory).unwrap(), d.path().join("a/b/c"));
        assert_eq!(make(&f, c"a/x/file", Make::File).unwrap(), d.path().join("a/x/file"));
        assert!(d.path().join("a/x/file").is_file());
        assert_eq!(make(&f, c"", Make::Directory).unwrap(), d.path());
    }

    #[test]
    fn links_never_lead_outside() {
        let (d, f) = root();
        let outside = tempfile::tempdir().unwrap();
        symlink(outside.path(), d.path().join("abs")).unwrap();
        symlink("../../../../..", d.path().join("up")).unwrap();
        symlink("dangling/target", d.path().join("rel")).unwrap();
        let inside = d.path().join(outside.path().strip_prefix("/").unwrap());
        assert_eq!(make(&f, c"abs/made", Make::Directory).unwrap(), inside.join("made"));
        assert_eq!(make(&f, c"up/made", Make::File).unwrap(), d.path().join("made"));
        assert_eq!(make(&f, c"rel/made", Make::Directory).unwrap(), d.path().join("dangling/target/made"));
        assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0, "nothing was made outside");
    }

    #[test]
    fn loops_and_files_in_the_way_are_errors() {
        let (d, f) = root();
        symlink("loop2", d.path().join("loop1")).unwrap();
        symlink("loop1", d.path().join("loop2")).unwrap();
        assert_eq!(make(&f, c"loop1/x", Make::Directory), Err(Errno(libc::ELOOP)));
        std::fs::write(d.path().join("plain"), "").unwrap();
        assert_eq!(make(&f, c"plain/x", Make::Directory), Err(Errno(libc::ENOTDIR)));
        assert_eq!(
            make(&f, &std::ffi::CString::new("n".repeat(300)).unwrap(), Make::File),
            Err(Errno(libc::ENAMETOOLONG))
        );
    }
}
