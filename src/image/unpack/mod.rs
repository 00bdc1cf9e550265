//! Unpacking layers. The archive of a layer is read in a process of its own (`orund image-layer`), which is confined to the
//! directory that it fills ([`confine`]); the caller gets digests and figures, or one error.

mod confine;
mod tree;
mod walk;

use super::child::{self, Answer};
use super::stream::{Hashing, Unpacked as Plain};
use super::tar::{self, Entries};
use crate::error::{Error, Kind, Result};
use crate::kernel::probe::in_initial_userns;
use crate::log;
use crate::sys::clone::{self, Clone};
use crate::sys::{exec, file, path, prctl, wait};
use serde::{Deserialize, Serialize};
use std::ffi::{CStr, CString, OsString};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The hidden verb.
pub const VERB: &str = "image-layer";
/// How long a layer may take: the largest one on the slowest disk.
const DEADLINE: Duration = Duration::from_secs(3600);
/// Bytes that a layer may have whatever it is compressed to.
const FLOOR: u64 = 1 << 30;
/// How much larger than compressed it may be beyond that.
const RATIO: u64 = 200;

/// The compressed bytes of a layer: a part of a file.
#[derive(Debug)]
pub struct Blob {
    pub file: File,
    pub offset: u64,
    pub length: u64,
}

/// How much of everything a layer may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    pub entries: u64,
    /// Bytes of the archive, and of all files in it.
    pub bytes: u64,
}

impl Limits {
    /// Those of a layer of `compressed` bytes.
    pub fn of(compressed: u64) -> Limits {
        Limits { entries: 1_000_000, bytes: compressed.saturating_mul(RATIO).max(FLOOR) }
    }
}

/// The budget of all layers of an image together: as much as one layer of their size. Otherwise a hundred tiny layers could
/// fill a disk.
#[derive(Debug)]
pub struct Budget {
    all: u64,
    left: Mutex<u64>,
}

impl Budget {
    /// That of layers of so many compressed bytes together.
    pub fn of(compressed: u64) -> Budget {
        let all = Limits::of(compressed).bytes;
        Budget { all, left: Mutex::new(all) }
    }

    pub fn left(&self) -> u64 {
        *self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// # Errors
    /// The layers have more bytes together than they may.
    pub fn take(&self, bytes: u64) -> Result<()> {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        *left = left.checked_sub(bytes).ok_or_else(|| {
            tar::bad(format!("the layers of the image exceed the limit of {} bytes together", self.all))
        })?;
        Ok(())
    }
}

/// Result for a layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    /// The digest of the compressed bytes.
    pub digest: String,
    /// The digest of the archive.
    pub diff_id: String,
    pub entries: u64,
    pub bytes: u64,
    /// The archive sets owner and permissions of the root.
    pub has_root: bool,
    pub opaque: Vec<Vec<u8>>,
    /// Devices that a user namespace cannot make.
    #[serde(default)]
    pub left_out: u64,
}

/// The attribute of an opaque directory (overlayfs.txt, "Whiteouts and opaque directories"): of the host, and in a user namespace.
pub const OPAQUE: [&CStr; 2] = [c"trusted.overlay.opaque", c"user.overlay.opaque"];

/// Unpacks `blob` into the empty directory `dir`, at most `most` bytes. `cancelled` is asked now and then.
///
/// # Errors
/// The archive is damaged or hostile; the disk is full. What has been made in `dir` is the caller's to remove.
pub fn unpack(
    program: &Path,
    blob: Blob,
    dir: &Path,
    most: u64,
    cancelled: &dyn Fn() -> bool,
) -> Result<Layer> {
    let mut limits = Limits::of(blob.length);
    limits.bytes = limits.bytes.min(most);
    let Blob { mut file, offset, length } = blob;
    file.seek(SeekFrom::Start(offset)).map_err(|e| Error::sys("reading a layer", e))?;
    let mut command = Command::new(program);
    let numbers = [length, limits.entries, limits.bytes].map(|n| n.to_string());
    command.arg(VERB).arg(dir).args(numbers).stdin(Stdio::from(file)).stderr(Stdio::null());
    let layer: Layer = child::run(command, "unpacking a layer", DEADLINE, cancelled)?;
    mark_opaque(dir, &layer.opaque)?;
    if layer.left_out > 0 {
        log::warn(format!(
            "{} devices of a layer are left out: a user namespace cannot make devices",
            layer.left_out
        ));
    }
    Ok(layer)
}

/// Marks directories for overlayfs. The process that made them may not: attributes in `trusted.` need CAP_SYS_ADMIN of the host. In a
/// user namespace overlayfs reads those in `user.`.
fn mark_opaque(dir: &Path, paths: &[Vec<u8>]) -> Result<()> {
    let fail = |e| Error::sys(format!("marking the opaque directories of {dir:?}"), e);
    let root = File::open(dir).map_err(|e| Error::sys(format!("opening {dir:?}"), e))?;
    for name in paths {
        let name = if name.is_empty() { b".".to_vec() } else { name.clone() };
        let name =
            CString::new(name).map_err(|_| tar::bad("an opaque directory has a null byte in its name"))?;
        let rules = path::BENEATH | path::NO_SYMLINKS;
        match path::openat2(root.as_raw_fd(), &name, libc::O_DIRECTORY, rules) {
            Ok(at) => file::setxattr(at.as_raw_fd(), OPAQUE[usize::from(!in_initial_userns())], b"y")
                .map_err(fail)?,
            // A later entry has taken its place: nothing below it is seen anyway.
            Err(e) if matches!(e.0, libc::ENOENT | libc::ENOTDIR | libc::ELOOP) => {}
            Err(e) => return Err(fail(e)),
        }
    }
    Ok(())
}

/// `orund image-layer DIR LENGTH ENTRIES BYTES`, with the blob on standard input: unpacks it and answers on standard output.
///
/// # Errors
/// The arguments are wrong, or there can be no child.
pub fn main(words: &[OsString]) -> Result<u8> {
    let numbers: Vec<u64> = words.iter().skip(1).filter_map(|w| w.to_str()?.parse().ok()).collect();
    let ([dir, _, _, _], [length, entries, bytes]) = (words, &numbers[..]) else {
        return Err(Error::new(Kind::Usage, format!("{VERB} is for orund itself")));
    };
    let limits = Limits { entries: *entries, bytes: *bytes };
    let dir = CString::new(dir.as_bytes()).map_err(|_| Error::new(Kind::Usage, "a path with a null byte"))?;
    let _ = prctl::set_name(c"orund-layer");
    prctl::set_parent_death_signal(libc::SIGKILL).map_err(|e| Error::sys("preparing to unpack", e))?;
    // This process has one thread, so that the child may do anything.
    match clone::clone3(confine::NAMESPACES, None) {
        Err(e) => {
            let e = Error::sys("making namespaces to unpack a layer in", e);
            let answered = Answer::<Layer>::of(Err(e.hint("CAP_SYS_ADMIN is needed"))).write();
            answered.map(|()| 1).map_err(|e| Error::sys("writing the answer", e))
        }
        Ok(Clone::Parent { pidfd, .. }) => {
            let exit = wait::wait_pidfd(pidfd.as_raw_fd(), true);
            let exit = exit.map_err(|e| Error::sys("waiting for the unpacking of a layer", e))?;
            Ok(exit.map_or(1, |e| e.code() as u8))
        }
        Ok(Clone::Child) => {
            let answer = Answer::of(inside(&dir, *length, &limits));
            exec::exit(i32::from(answer.write().is_err()))
        }
    }
}

fn inside(dir: &CString, length: u64, limits: &Limits) -> Result<Layer> {
    let may_make_devices = in_initial_userns();
    let root = confine::confine(dir, limits)?;
    let compressed = Hashing::new(io::stdin().lock().take(length), u64::MAX);
    let archive = Hashing::new(Plain::new(compressed)?, limits.bytes);
    let mut entries = Entries::new(archive);
    let made = tree::unpack(&mut entries, root, (limits, may_make_devices))?;
    // The digests are those of all bytes, also of what fills the archive at its end.
    let mut archive = entries.into_inner();
    let fail = |e: io::Error| match e.raw_os_error() {
        Some(_) => Error::sys("reading the end of the layer", e),
        None => tar::bad(format!("reading the end of the layer: {e}")),
    };
    io::copy(&mut archive, &mut io::sink()).map_err(fail)?;
    let (diff_id, plain) = archive.finish();
    let mut compressed = plain.into_inner();
    io::copy(&mut compressed, &mut io::sink()).map_err(fail)?;
    if compressed.length != length {
        return Err(tar::bad(format!("the layer has {} bytes instead of {length}", compressed.length)));
    }
    let (digest, _) = compressed.finish();
    let tree::UnpackSummary { entries, bytes, opaque, has_root, left_out } = made;
    Ok(Layer { digest, diff_id, entries, bytes, has_root, opaque, left_out })
}
