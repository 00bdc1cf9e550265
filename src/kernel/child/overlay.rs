//! The root file system as an overlay of layers, mounted in the container's own mount namespace: the host never sees it.

use super::Failure;
use crate::error::Errno;
use crate::plan::overlay::{MAKING_TMPFS, MOUNTING, OPENING_UPPER, OPENING_WORK, Overlay};
use crate::sys::mount::{self, MountAttr};
use crate::sys::{self, SysResult, file, path};
use std::ffi::CStr;
use std::io::Write;
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd, RawFd};

/// The options of mount(2) are one page.
const OPTIONS: usize = 4096;
/// The directory for relative names of layers: names are numbers there, so that hundreds fit into a page
/// and no path of the host shows in the container's mountinfo.
const DESCRIPTORS: &CStr = c"/proc/self/fd";

/// The warning that goes with [`Opened::in_memory`].
pub(super) const IN_MEMORY: &str = "the upper directory of the root file system is on an overlay, which the kernel \
    does not support: changes by the container are stored in memory (tmpfs), and are lost when it exits";

/// An overlay that is mounted.
pub(super) struct Opened {
    pub root: OwnedFd,
    /// Descriptors that are left open.
    pub pile: usize,
    /// Changes go to a tmpfs, although a directory was named for them.
    pub in_memory: bool,
}

/// Mounts the overlay on the directory `at` and opens it.
pub(super) fn open(at: &CStr, overlay: &Overlay, private: bool) -> Result<Opened, Failure> {
    let failed = |part: i32| move |e: Errno| Failure::with(e, part, &[]);
    let here = directory(sys::CWD, at)?.into_raw_fd();
    let mut options = Options::new();
    let mut pile = 1;
    let mut top = here;
    for (i, layer) in overlay.layers.iter().enumerate() {
        let layer = directory(sys::CWD, layer).map_err(failed(i as i32 + 1))?.into_raw_fd();
        if i == 0 {
            top = layer;
        }
        options.add(if i == 0 { "lowerdir=" } else { ":" }, layer);
        pile += 1;
    }
    let given = match &overlay.writable {
        Some((upper, work)) => {
            let upper = directory(sys::CWD, upper).map_err(failed(OPENING_UPPER))?.into_raw_fd();
            let work = directory(sys::CWD, work).map_err(failed(OPENING_WORK))?.into_raw_fd();
            pile += 2;
            Some((upper, work))
        }
        None => None,
    };
    // An overlay cannot take what another one changes (Documentation/filesystems/overlayfs.rst).
    let usable = |dir| file::filesystem_type(dir).map(|kind| kind != libc::OVERLAYFS_SUPER_MAGIC);
    let (target, (upper, work)) = match given {
        Some((upper, work)) if usable(upper).map_err(failed(OPENING_UPPER))? => (here, (upper, work)),
        _ => {
            pile += 3;
            tmpfs(at, here, top).map_err(failed(MAKING_TMPFS))?
        }
    };
    options.add(",upperdir=", upper);
    options.add(",workdir=", work);
    if overlay.volatile && target == here {
        options.text(",volatile");
    }
    if overlay.user_xattr {
        options.text(",userxattr");
    }
    let root = mount(at, target, &options, private).map_err(failed(MOUNTING))?;
    Ok(Opened { root, pile, in_memory: given.is_some() && target != here })
}

fn directory(dir: RawFd, path: &CStr) -> SysResult<OwnedFd> {
    path::openat(dir, path, libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW, 0)
}

/// A tmpfs with the directories that changes go to; the overlay then covers it. `top` is the topmost layer, whose mode
/// and owner the root has.
fn tmpfs(at: &CStr, here: RawFd, top: RawFd) -> SysResult<(RawFd, (RawFd, RawFd))> {
    let place = path::of_descriptor(here);
    let place = CStr::from_bytes_until_nul(&place).map_err(|_| Errno(libc::ENAMETOOLONG))?;
    mount::mount(c"tmpfs", place, c"tmpfs", 0, c"mode=700")?;
    let tmpfs = directory(sys::CWD, at)?.into_raw_fd();
    let like = file::fstat(top)?;
    file::mkdirat(tmpfs, c"upper", like.mode & 0o7777)?;
    file::mkdirat(tmpfs, c"work", 0o700)?;
    if (like.uid, like.gid) != (0, 0) {
        // In a user namespace the owner may have no number.
        let _ = file::lchownat(tmpfs, c"upper", like.uid, like.gid);
    }
    let upper = directory(tmpfs, c"upper")?.into_raw_fd();
    let work = directory(tmpfs, c"work")?.into_raw_fd();
    Ok((tmpfs, (upper, work)))
}

fn mount(at: &CStr, target: RawFd, options: &Options, private: bool) -> SysResult<OwnedFd> {
    let place = path::of_descriptor(target);
    let place = CStr::from_bytes_until_nul(&place).map_err(|_| Errno(libc::ENAMETOOLONG))?;
    // Nothing relative is looked up before the root is entered, which is a change of directory too.
    file::chdir(DESCRIPTORS)?;
    mount::mount(c"overlay", place, c"overlay", 0, options.as_c()?)?;
    let root = directory(sys::CWD, at)?;
    if file::filesystem_type(root.as_raw_fd())? != libc::OVERLAYFS_SUPER_MAGIC {
        return Err(Errno(libc::ESTALE));
    }
    if private {
        let private = MountAttr { propagation: libc::MS_PRIVATE, ..MountAttr::default() };
        mount::mount_setattr(root.as_raw_fd(), false, &private)?;
    }
    Ok(root)
}

/// Options for mount(2) under construction, without an allocation.
struct Options {
    text: [u8; OPTIONS],
    len: usize,
    fits: bool,
}

impl Options {
    fn new() -> Options {
        Options { text: [0; OPTIONS], len: 0, fits: true }
    }

    fn add(&mut self, before: &str, number: RawFd) {
        let mut rest = &mut self.text[self.len..OPTIONS - 1];
        let room = rest.len();
        self.fits &= write!(rest, "{before}{number}").is_ok();
        self.len += room - rest.len();
    }

    fn text(&mut self, text: &str) {
        let mut rest = &mut self.text[self.len..OPTIONS - 1];
        let room = rest.len();
        self.fits &= rest.write_all(text.as_bytes()).is_ok();
        self.len += room - rest.len();
    }

    fn as_c(&self) -> SysResult<&CStr> {
        if !self.fits {
            return Err(Errno(libc::E2BIG));
        }
        CStr::from_bytes_until_nul(&self.text).map_err(|_| Errno(libc::E2BIG))
    }
}
