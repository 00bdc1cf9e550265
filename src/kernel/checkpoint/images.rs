//! The directories that CRIU works in. Whoever made a checkpoint also made these files: nothing in them is followed or
//! trusted.

use super::Directory;
use crate::error::{Errno, Error, Kind, Result};
use crate::kernel::output;
use crate::kernel::path::cpath;
use crate::plan::checkpoint::{self, DESCRIPTORS};
use crate::sys::{copy, fd, file, path};
use std::ffi::{CStr, CString, OsStr};
use std::io::Read;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::{Path, PathBuf};

/// A larger file is not a list of three names.
const DESCRIPTORS_LIMIT: u64 = 64 << 10;
/// How much of the end of a log is looked at.
const LOG_LIMIT: u64 = 1 << 20;
/// How many of CRIU's errors are reported.
const ERRORS: usize = 4;

/// The image directory and, when there is one, CRIU's work directory.
#[derive(Debug)]
pub struct Images {
    dir: OwnedFd,
    path: PathBuf,
    work: Option<OwnedFd>,
    work_path: PathBuf,
    log: &'static str,
}

impl Images {
    /// Opens the directories for a checkpoint, and makes those that are missing; only their owner reaches them.
    ///
    /// # Errors
    /// They cannot be made.
    pub fn make(images: &Path, work: Option<&Path>) -> Result<Images> {
        make_directory(images, "the image directory (--image-path)")?;
        let found = Images::open(images, work, checkpoint::DUMP_LOG)?;
        output::only_ours(found.dir.as_raw_fd(), images)?;
        found.clear()?;
        Ok(found)
    }

    /// Opens the directories for a restore; with a user namespace (`other_user`) the images must be readable for all,
    /// anybody with access to them.
    ///
    /// # Errors
    /// [`Kind::NotFound`] when there is no checkpoint; [`Kind::Config`] when it has files that cannot be those of one.
    pub fn find(images: &Path, work: Option<&Path>, other_user: bool) -> Result<Images> {
        let found = Images::open(images, work, checkpoint::RESTORE_LOG)?;
        found.check(other_user)?;
        found.clear()?;
        Ok(found)
    }

    fn open(images: &Path, work: Option<&Path>, log: &'static str) -> Result<Images> {
        let open = |dir: &Path, what: &str| {
            let flags = libc::O_RDONLY | libc::O_DIRECTORY;
            output::open(dir, flags, 0, &format!("opening {what} {dir:?}")).map_err(|e| {
                if e.errno() == Some(Errno(libc::ENOENT)) { e.kind_is(Kind::NotFound) } else { e }
            })
        };
        let dir = open(images, "the image directory (--image-path)")?;
        let work_dir = match work {
            Some(work) => {
                make_directory(work, "the work directory (--work-path)")?;
                Some(open(work, "the work directory (--work-path)")?)
            }
            None => None,
        };
        let work_path = work.unwrap_or(images).to_owned();
        Ok(Images { dir, path: images.to_owned(), work: work_dir, work_path, log })
    }

    /// The descriptors, for CRIU.
    pub fn fds(&self) -> (RawFd, Option<RawFd>) {
        (self.dir.as_raw_fd(), self.work.as_ref().map(AsRawFd::as_raw_fd))
    }

    /// The directories for a restore: CRIU's work directory, when it is another one, and last that of the images. The
    /// root of another user namespace is let into those of the images, and not into where CRIU works.
    ///
    /// # Errors
    /// /proc is not there.
    pub fn directories(&self, other_user: bool) -> Result<Vec<Directory>> {
        let one = |fd: &OwnedFd, for_all| {
            let path = std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()))
                .map_err(|e| Error::sys("looking for the image directory", e))?;
            Ok(Directory { path: cpath(&path)?, fd: fd.as_raw_fd(), for_all })
        };
        let work = self.work.as_ref().or(other_user.then_some(&self.dir));
        let work = work.map(|fd| one(fd, false)).into_iter();
        work.chain([one(&self.dir, other_user)]).collect()
    }

    /// Whether the directory `parent`, relative to the images, exists.
    ///
    /// # Errors
    /// [`Kind::Usage`], naming the flag.
    pub fn check_parent(&self, parent: &Path) -> Result<()> {
        if parent.is_absolute() {
            return Err(Error::new(Kind::Usage, format!("--parent-path must be relative: {parent:?}"))
                .hint("it is relative to the directory of --image-path"));
        }
        let fail = |e: Errno| {
            Error::sys(format!("invalid --parent-path: {:?}", self.path.join(parent)), e).kind_is(Kind::Usage)
        };
        let flags = libc::O_PATH | libc::O_DIRECTORY;
        path::openat(self.dir.as_raw_fd(), &cpath(parent)?, flags, 0).map(drop).map_err(fail)
    }

    /// Everything that CRIU reads must be a regular file: a FIFO would stop it forever, a symlink lead it elsewhere. Only
    /// an earlier memory image is linked to (`parent`).
    fn check(&self, other_user: bool) -> Result<()> {
        let fail = |e: Errno| Error::sys(format!("reading the image directory {:?}", self.path), e);
        let mut buf = [0; 4096];
        loop {
            let n = copy::getdents(self.dir.as_raw_fd(), &mut buf).map_err(fail)?;
            if n == 0 {
                return Ok(());
            }
            for name in copy::names(&buf[..n]) {
                let st =
                    file::fstatat(self.dir.as_raw_fd(), name, libc::AT_SYMLINK_NOFOLLOW).map_err(fail)?;
                let fine = match st.kind() {
                    // A socket is that of a process that serves pages; it cannot be opened.
                    libc::S_IFREG | libc::S_IFDIR | libc::S_IFSOCK => true,
                    libc::S_IFLNK => name == c"parent",
                    _ => false,
                };
                if !fine {
                    let what =
                        format!("{name:?} in the image directory {:?} is not a regular file", self.path);
                    return Err(Error::new(Kind::Config, what).hint("a checkpoint holds plain files only"));
                }
                if other_user && st.kind() == libc::S_IFREG && st.mode & 0o004 == 0 && is_image(name) {
                    let what = format!("{:?} can be read by its owner only", self.path.join(os_str(name)));
                    return Err(Error::new(Kind::Config, what).hint(
                        "CRIU reads images as the root of the container's user namespace, which is another user on the host: \
                         set mode 0644; the directory can stay inaccessible",
                    ));
                }
            }
        }
    }

    /// Removes what CRIU is going to write over, whatever it is: CRIU would follow a symlink, so that nobody else may put
    /// one there.
    fn clear(&self) -> Result<()> {
        let dir = self.work.as_ref().unwrap_or(&self.dir).as_raw_fd();
        output::only_ours(dir, &self.work_path)?;
        let log = CString::new(self.log).unwrap_or_default();
        let names: [&CStr; 3] = [&log, c"stats-dump", c"stats-restore"];
        names.iter().try_for_each(|name| match file::unlinkat(dir, name, 0) {
            Ok(()) | Err(Errno(libc::ENOENT)) => Ok(()),
            Err(e) => Err(Error::sys(format!("removing the old {name:?} in {:?}", self.work_path), e)),
        })
    }

    /// Notes what the first three descriptors of the container are.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write_descriptors(&self, names: &[String]) -> Result<()> {
        let fail = |e: Errno| Error::sys(format!("writing {:?}", self.path.join(DESCRIPTORS)), e);
        let name = CString::new(DESCRIPTORS).unwrap_or_default();
        match file::unlinkat(self.dir.as_raw_fd(), &name, 0) {
            Ok(()) | Err(Errno(libc::ENOENT)) => {}
            Err(e) => return Err(fail(e)),
        }
        let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW;
        let f = path::openat(self.dir.as_raw_fd(), &name, flags, 0o600).map_err(fail)?;
        fd::write_all(f.as_raw_fd(), serde_json::json!(names).to_string().as_bytes()).map_err(fail)
    }

    /// The first three descriptors of the container.
    ///
    /// # Errors
    /// There is no such file, or it holds something else.
    pub fn descriptors(&self) -> Result<Vec<String>> {
        let shown = self.path.join(DESCRIPTORS);
        let fail = |e: Errno| {
            let error = Error::sys(format!("reading {shown:?}"), e);
            match e.0 {
                libc::ENOENT => error
                    .kind_is(Kind::NotFound)
                    .hint("the image directory holds no checkpoint of a container, or only a pre-dump"),
                _ => error,
            }
        };
        let name = CString::new(DESCRIPTORS).unwrap_or_default();
        let flags = libc::O_RDONLY | libc::O_NONBLOCK;
        let f = path::openat2(self.dir.as_raw_fd(), &name, flags, path::BENEATH | path::NO_SYMLINKS)
            .map_err(fail)?;
        let damaged = |why: String| Error::new(Kind::Config, format!("{shown:?} is damaged: {why}"));
        if file::fstat(f.as_raw_fd()).map_err(fail)?.size > DESCRIPTORS_LIMIT {
            return Err(damaged(format!("it is over {} KiB", DESCRIPTORS_LIMIT >> 10)));
        }
        let mut text = Vec::new();
        let mut file = std::fs::File::from(f).take(DESCRIPTORS_LIMIT);
        file.read_to_end(&mut text).map_err(|e| fail(e.into()))?;
        let names: Vec<String> = serde_json::from_slice(&text).map_err(|e| damaged(e.to_string()))?;
        if names.len() > 3 {
            return Err(damaged(format!("it names {} descriptors, not three", names.len())));
        }
        Ok(names)
    }

    /// Where CRIU's log is, for people.
    pub fn log_path(&self) -> PathBuf {
        self.work_path.join(self.log)
    }

    /// The message of CRIU's log about a failure; empty without a log.
    pub fn log_errors(&self) -> Vec<String> {
        let dir = self.work.as_ref().unwrap_or(&self.dir).as_raw_fd();
        let name = CString::new(self.log).unwrap_or_default();
        let flags = libc::O_RDONLY | libc::O_NONBLOCK;
        let Ok(f) = path::openat2(dir, &name, flags, path::BENEATH | path::NO_SYMLINKS) else {
            return Vec::new();
        };
        let size = file::fstat(f.as_raw_fd()).map_or(0, |st| st.size);
        let f = std::fs::File::from(f);
        let length = size.min(LOG_LIMIT);
        let mut end = vec![0; length as usize];
        let n = f.read_at(&mut end, size - length).unwrap_or(0);
        checkpoint::log_errors(&String::from_utf8_lossy(&end[..n]), ERRORS)
    }
}

fn is_image(name: &CStr) -> bool {
    name.to_bytes().ends_with(b".img")
}

fn os_str(name: &CStr) -> &OsStr {
    OsStr::from_bytes(name.to_bytes())
}

fn make_directory(dir: &Path, what: &str) -> Result<()> {
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.map_err(|e| Error::sys(format!("making {what} {dir:?}"), e))
}
