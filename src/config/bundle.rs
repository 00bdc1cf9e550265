//! A bundle: a directory with a config.json.

use crate::config::{parse, spec::Spec};
use crate::error::{Error, Kind, Result};
use crate::sys::fd::{self, PollFd};
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// config.json may be this large; the largest seen in the field is some hundred kilobytes.
const MAX_CONFIG: u64 = 32 << 20;
/// How long the writer of a pipe may take from one piece to the next, in milliseconds.
const PIPE_TIMEOUT_MS: i32 = 10_000;

/// A bundle that has been read.
#[derive(Debug, Clone)]
pub struct Bundle {
    /// The bundle directory, absolute.
    pub path: PathBuf,
    /// config.json as it was read, byte for byte.
    pub raw: Vec<u8>,
    pub spec: Spec,
}

impl Bundle {
    /// Reads `dir`/config.json once.
    ///
    /// # Errors
    /// [`Kind::Config`] when the file is missing, unreadable, over 32 MiB or not a valid document.
    pub fn load(dir: &Path) -> Result<Bundle> {
        let path = real_path(dir)?;
        let file = path.join("config.json");
        Bundle::read(path, &file, "config.json")
    }

    /// Reads `file` instead of `dir`/config.json.
    ///
    /// # Errors
    /// As [`Bundle::load`].
    pub fn load_from(dir: &Path, file: &Path) -> Result<Bundle> {
        Bundle::read(real_path(dir)?, file, "the configuration (--config)")
    }

    /// The bundle in `dir` with `raw` instead of its config.json.
    ///
    /// # Errors
    /// As [`Bundle::load`].
    pub fn with_config(dir: &Path, raw: Vec<u8>) -> Result<Bundle> {
        Bundle::parse(real_path(dir)?, raw)
    }

    fn read(path: PathBuf, file: &Path, what: &str) -> Result<Bundle> {
        Bundle::parse(path, read_limited(file, what)?)
    }

    fn parse(path: PathBuf, raw: Vec<u8>) -> Result<Bundle> {
        #[cfg(feature = "mutants")]
        let raw = crate::mutant::without_property(raw);
        let spec = parse::json(&raw, "config.json").map_err(|e| e.context(format!("bundle {path:?}")))?;
        Ok(Bundle { path, raw, spec })
    }
}

/// The directory's absolute path without symlinks, as the kernel reports it.
fn real_path(dir: &Path) -> Result<PathBuf> {
    let fail = |e: std::io::Error| {
        Error::sys(format!("opening the bundle directory {dir:?}"), e)
            .kind_is(Kind::Config)
            .hint("a bundle is a directory with a config.json; \"orun spec\" writes one")
    };
    let f = std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_PATH | libc::O_DIRECTORY)
        .open(dir)
        .map_err(fail)?;
    std::fs::read_link(format!("/proc/self/fd/{}", f.as_raw_fd())).map_err(fail)
}

/// Reads a configuration document: a regular file of at most 32 MiB.
///
/// # Errors
/// [`Kind::Config`], naming `what` and the path.
pub fn read_limited(file: &Path, what: &str) -> Result<Vec<u8>> {
    read(file, what, false)
}

/// As [`read_limited`] for a document that a pipe may bring, such as that of a shell's `<(...)`.
///
/// # Errors
/// As [`read_limited`], and [`Kind::Timeout`] when the other end says nothing for 10 seconds.
pub fn read_document(file: &Path, what: &str) -> Result<Vec<u8>> {
    read(file, what, true)
}

fn read(file: &Path, what: &str, pipe: bool) -> Result<Vec<u8>> {
    let fail = |doing: &str, e: std::io::Error| {
        let missing = e.kind() == std::io::ErrorKind::NotFound;
        let e = Error::sys(format!("{doing} {what} at {file:?}"), e).kind_is(Kind::Config);
        if missing && what == "config.json" {
            e.hint("a bundle is a directory with a config.json; \"orun spec\" writes one")
        } else {
            e
        }
    };
    // Without O_NONBLOCK the open of a FIFO would wait for a writer forever.
    let f = std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(file)
        .map_err(|e| fail("opening", e))?;
    let meta = f.metadata().map_err(|e| fail("looking at", e))?;
    let wanted = meta.is_file() || pipe && meta.file_type().is_fifo();
    if !wanted {
        let kind = file_kind(meta.file_type());
        return Err(Error::new(Kind::Config, format!("{what} at {file:?} is not a regular file but {kind}")));
    }
    let too_large =
        || Error::new(Kind::Config, format!("{what} at {file:?} is over {} MiB", MAX_CONFIG >> 20));
    if meta.len() > MAX_CONFIG {
        return Err(too_large());
    }
    let mut raw = Vec::with_capacity(meta.len() as usize + 1);
    // Files of procfs and pipes have no length.
    let mut rest = (&f).take(if meta.len() > 0 { meta.len() } else { MAX_CONFIG + 1 });
    loop {
        match rest.read_to_end(&mut raw) {
            Ok(_) => break,
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => wait_for_more(&f, what, file)?,
            Err(e) => return Err(fail("reading", e)),
        }
    }
    if raw.len() as u64 > MAX_CONFIG {
        return Err(too_large());
    }
    Ok(raw)
}

/// Waits until there is more to read from a pipe.
fn wait_for_more(f: &std::fs::File, what: &str, file: &Path) -> Result<()> {
    let mut fds = [PollFd::new(f.as_raw_fd(), libc::POLLIN)];
    match fd::poll(&mut fds, PIPE_TIMEOUT_MS) {
        Ok(0) => Err(Error::new(
            Kind::Timeout,
            format!("waited {} s for more of {what} from the pipe {file:?}", PIPE_TIMEOUT_MS / 1000),
        )),
        Ok(_) => Ok(()),
        Err(e) => Err(Error::sys(format!("waiting for {what} from the pipe {file:?}"), e)),
    }
}

fn file_kind(t: std::fs::FileType) -> &'static str {
    if t.is_dir() {
        "a directory"
    } else if t.is_fifo() {
        "a FIFO"
    } else if t.is_socket() {
        "a socket"
    } else {
        "a device"
    }
}

#[cfg(test)]
mod tests;
