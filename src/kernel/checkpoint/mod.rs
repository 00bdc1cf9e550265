//! CRIU as a process that is talked to (criu(8), `criu swrk`), and what it needs to know and to find.

mod hierarchy;
pub mod images;
pub mod inside;
pub mod root;
pub mod streams;

use crate::error::{Errno, Error, Kind, Result};
use crate::kernel::protocol::{self, Tag};
use crate::plan::checkpoint::rpc::{self, Feature, Response};
use crate::plan::checkpoint::{OLDEST_CRIU, version_text};
use crate::sys::clone::{self, Clone};
use crate::sys::exec::{self, StringArray};
use crate::sys::fd::{self, PollFd};
use crate::sys::{self, SysResult, file, limits, memfd, path, socket, wait};
use root::Root;
use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// The descriptor on which CRIU talks.
const SOCKET: RawFd = 3;
/// The first descriptor that is passed on to it, for [`Restore::inherit`](crate::plan::checkpoint::Restore).
pub const FIRST_INHERITED: RawFd = SOCKET + 1;
/// Descriptors from here on are not in the way of those.
const ABOVE: RawFd = 64;
/// How long CRIU may take to start, and to end once it has done its work, in milliseconds.
const TIMEOUT: u64 = 10_000;
/// More than CRIU's longest message.
const LONGEST: usize = 64 << 10;

/// A running CRIU.
#[derive(Debug)]
pub struct Criu {
    pub pid: i32,
    pidfd: OwnedFd,
    socket: OwnedFd,
    /// Its standard error, unless that is orun's own.
    errors: Option<OwnedFd>,
    /// The directories of [`Place::directories`] as CRIU's mount namespace has them.
    pub directories: Vec<OwnedFd>,
    /// State that is restored when it has exited.
    _options: Option<hierarchy::Options>,
}

/// Where CRIU runs.
#[derive(Debug, Default)]
pub struct CriuSettings<'a> {
    /// In a mount namespace of its own, with this root file system as a mount.
    pub root: Option<Root<'a>>,
    /// Directories that are opened again in that namespace.
    pub directories: &'a [Directory],
    /// Descriptors that are passed on, from [`FIRST_INHERITED`] on.
    pub inherit: &'a [RawFd],
    /// Standard input and outputs are orun's, because the container gets them.
    pub own_stdio: bool,
}

/// A directory that is opened again in CRIU's mount namespace: CRIU mounts things below it, which it can only do there.
#[derive(Debug)]
pub struct Directory {
    pub path: CString,
    /// The one that is meant.
    pub fd: RawFd,
    /// Every user may look for files in it, as far as it is reached through this descriptor.
    pub for_all: bool,
}

impl Criu {
    /// Starts the `criu` of $PATH.
    ///
    /// # Errors
    /// [`Kind::Unsupported`] when there is none.
    pub fn start(place: &CriuSettings) -> Result<Criu> {
        let fail = |e: Errno| Error::sys("starting criu", e);
        let program = program()?;
        let (ours, theirs) = socket::seqpacket_pair().map_err(fail)?;
        let (status, status_end) = socket::seqpacket_pair().map_err(fail)?;
        let errors = if place.own_stdio { None } else { Some(memfd::create(c"criu-errors").map_err(fail)?) };
        let null = path::openat(sys::CWD, c"/dev/null", libc::O_RDWR, 0).map_err(fail)?;
        // The child puts them into their places, none of which is above.
        let above = |fd: RawFd| fd::dup_above(fd, ABOVE).map_err(fail);
        let stdio = errors.as_ref().map(|errors| [&null, errors, errors].map(|fd| above(fd.as_raw_fd())));
        let stdio = stdio.map(|[a, b, c]| Ok::<_, Error>([a?, b?, c?])).transpose()?;
        let mut passed = vec![above(theirs.as_raw_fd())?];
        for fd in place.inherit {
            passed.push(above(*fd)?);
        }
        let tell = above(status_end.as_raw_fd())?;
        let options = hierarchy::Options::note();
        let argv = StringArray::new(vec![c"criu".into(), c"swrk".into(), c"3".into()]);
        let env = environment();
        match clone::clone3(0, None).map_err(fail)? {
            Clone::Child => {
                let tell = tell.as_raw_fd();
                let (number, e) = become_criu(&program, &argv, &env, place, tell, stdio.as_ref(), &passed);
                // Without its parent no process reads the error.
                let _ = protocol::send(tell, Tag::Failed, number, e.0, 0, &[], None);
                exec::exit(127)
            }
            Clone::Parent { pid, pidfd } => {
                drop((theirs, status_end, tell, passed));
                let criu =
                    Criu { pid, pidfd, socket: ours, errors, directories: Vec::new(), _options: options };
                criu.until_it_runs(&status, &program)
            }
        }
    }

    fn until_it_runs(mut self, status: &OwnedFd, program: &CStr) -> Result<Criu> {
        loop {
            match protocol::receive_within(status.as_raw_fd(), TIMEOUT, "criu to start")? {
                None => return Ok(self),
                Some(protocol::Message { tag: Tag::Source, fd: Some(fd), .. }) => self.directories.push(fd),
                Some(m) => {
                    self.finish()?;
                    let what = match root::STEPS.get(m.op as usize) {
                        Some(step) => (*step).to_owned(),
                        None => format!("running {program:?}"),
                    };
                    return Err(Error::sys(what, Errno(m.number)));
                }
            }
        }
    }

    /// Sends a request or the answer to a notification.
    ///
    /// # Errors
    /// CRIU has exited.
    pub fn send(&self, message: &[u8]) -> Result<()> {
        socket::send(self.socket.as_raw_fd(), message, None).map_err(|e| self.exited_early(e))
    }

    /// The next thing that CRIU says, with the descriptor that came with it. It is waited for as long as CRIU runs: how long
    /// memory takes to be written, or to be fetched by another host, is not known.
    ///
    /// # Errors
    /// CRIU has exited, or sends an invalid response.
    pub fn next(&self) -> Result<(Response, Option<OwnedFd>)> {
        let mut buf = vec![0; LONGEST];
        let (n, fd) = socket::receive(self.socket.as_raw_fd(), &mut buf).map_err(|e| self.exited_early(e))?;
        if n == 0 {
            return Err(self.exited_early(Errno(libc::EPIPE)));
        }
        match Response::parse(&buf[..n]) {
            Some(r) => Ok((r, fd)),
            None => Err(Error::sys("reading a message of criu", Errno(libc::EPROTO))),
        }
    }

    /// It exited without a response; perhaps its log has the reason.
    fn exited_early(&self, e: Errno) -> Error {
        let said = self.stderr_text();
        match said.lines().last() {
            Some(line) => Error::new(Kind::System, format!("criu failed: it exited early: {line}")),
            None => Error::sys("criu failed: it exited early", e),
        }
    }

    /// The text on CRIU's standard error.
    pub fn stderr_text(&self) -> String {
        let Some(errors) = &self.errors else { return String::new() };
        let mut buf = [0; 4096];
        // If it exists: it is only shown in errors.
        let n = nix::sys::uio::pread(errors, &mut buf, 0).unwrap_or(0);
        String::from_utf8_lossy(&buf[..n]).into_owned()
    }

    /// Lets CRIU exit, and kills it when it does not; whether it succeeded.
    ///
    /// # Errors
    /// A system call fails that cannot.
    pub fn finish(self) -> Result<bool> {
        let fail = |e: Errno| Error::sys("waiting for criu to exit", e);
        drop(self.socket);
        let fd = self.pidfd.as_raw_fd();
        if fd::poll(&mut [PollFd::new(fd, libc::POLLIN)], TIMEOUT as i32).map_err(fail)? == 0 {
            // It may end at this moment.
            let _ = wait::pidfd_send_signal(fd, libc::SIGKILL);
        }
        Ok(wait::wait_pidfd(fd, true).map_err(fail)? == Some(wait::Exit::Code(0)))
    }
}

/// Instead of the number of a step: the program could not be run.
const NOT_RUN: u16 = u16::MAX;

/// The child's part, up to the program. Returns the failed step.
fn become_criu(
    program: &CStr,
    argv: &StringArray,
    env: &StringArray,
    place: &CriuSettings,
    tell: RawFd,
    stdio: Option<&[OwnedFd; 3]>,
    passed: &[OwnedFd],
) -> (u16, Errno) {
    if let Some(root) = &place.root
        && let Err(failed) =
            root.enter_namespace(|| place.directories.iter().try_for_each(|d| reopen(d, tell)))
    {
        return failed;
    }
    let arrange = || -> SysResult<()> {
        exec::reset_signals(exec::ALL_SIGNALS)?;
        limits::restore(0)?;
        for (fd, to) in stdio.into_iter().flatten().zip(0..) {
            fd::dup2(fd.as_raw_fd(), to)?;
        }
        for (fd, to) in passed.iter().zip(SOCKET..) {
            fd::dup2(fd.as_raw_fd(), to)?;
        }
        fd::cloexec_from((SOCKET + passed.len() as RawFd) as u32)
    };
    match arrange() {
        Ok(()) => (NOT_RUN, exec::execve(program, argv, env)),
        Err(e) => (NOT_RUN, e),
    }
}

/// Opens a directory by its path and hands it over, if it is the one that is meant.
/// On failure: the step and why.
fn reopen(directory: &Directory, tell: RawFd) -> std::result::Result<(), (u16, Errno)> {
    let open = || path::openat(sys::CWD, &directory.path, libc::O_RDONLY | libc::O_DIRECTORY, 0);
    let the_same = || -> SysResult<OwnedFd> {
        let fd = open()?;
        let (here, meant) = (file::fstat(fd.as_raw_fd())?, file::fstat(directory.fd)?);
        if (here.dev, here.ino) == (meant.dev, meant.ino) { Ok(fd) } else { Err(Errno(libc::ESTALE)) }
    };
    let mut fd = the_same().map_err(|e| (root::OPEN_DIRECTORY, e))?;
    if directory.for_all {
        let covered = root::cover_for_all(fd.as_raw_fd(), &directory.path).and_then(|()| open());
        fd = covered.map_err(|e| (root::COVER_DIRECTORY, e))?;
    }
    let sent = protocol::send(tell, Tag::Source, 0, 0, 0, &[], Some(fd.as_raw_fd()));
    sent.map_err(|e| (root::OPEN_DIRECTORY, e))
}

fn environment() -> StringArray {
    let one = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
        let mut text = name.into_vec();
        text.push(b'=');
        text.extend(value.into_vec());
        CString::new(text).ok()
    };
    StringArray::new(std::env::vars_os().filter_map(one).collect())
}

/// The `criu` of $PATH.
fn program() -> Result<CString> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).find_map(|dir| {
        let file = CString::new(dir.join("criu").as_os_str().as_bytes()).ok()?;
        let regular = file::fstatat(sys::CWD, &file, 0).is_ok_and(|st| st.kind() == libc::S_IFREG);
        (regular && file::access(sys::CWD, &file, libc::X_OK).is_ok()).then_some(file)
    });
    found.ok_or_else(|| {
        let what = format!("CRIU is not installed: there is no \"criu\" in $PATH ({})", path.display());
        Error::new(Kind::Unsupported, what)
            .hint("criu(8) saves and restores the processes: install the package \"criu\"")
    })
}

/// Looks whether there is a CRIU, and one that is new enough.
///
/// # Errors
/// [`Kind::Unsupported`], with what was found and what is needed.
pub fn check_version() -> Result<()> {
    let criu = Criu::start(&CriuSettings::default())?;
    let answer = criu.send(&rpc::version_request()).and_then(|()| criu.next());
    let (answer, _) = match answer {
        Ok(r) => r,
        Err(e) => {
            criu.finish()?;
            return Err(e);
        }
    };
    criu.finish()?;
    match answer.version {
        Some(v) if v >= OLDEST_CRIU => Ok(()),
        found => {
            let found = found.map_or_else(|| "before 3.0".to_owned(), version_text);
            let what = format!(
                "CRIU is too old: version {found}, and at least {} is needed",
                version_text(OLDEST_CRIU)
            );
            Err(Error::new(Kind::Unsupported, what).hint("install a newer package \"criu\""))
        }
    }
}

/// Looks whether the kernel and CRIU have a feature.
///
/// # Errors
/// [`Kind::Unsupported`], naming the flag that needs it.
pub fn check_feature(feature: Feature, flag: &str) -> Result<()> {
    let criu = Criu::start(&CriuSettings::default())?;
    let answer = criu.send(&rpc::feature_request(feature)).and_then(|()| criu.next());
    let said = criu.stderr_text();
    criu.finish()?;
    let (answer, _) = answer?;
    if answer.features.contains(&(feature as u32)) {
        return Ok(());
    }
    let what = match feature {
        Feature::MemoryTracking => "track memory writes",
        Feature::LazyPages => "fill in memory pages later (userfaultfd)",
    };
    let e = Error::new(Kind::Unsupported, format!("{flag}: CRIU reports that this kernel cannot {what}"));
    Err(match said.lines().last() {
        Some(line) => e.hint(format!("criu wrote: {line}")),
        None => e.hint("\"criu check --all\" shows the details"),
    })
}
