//! The child between `clone3` and `execve`: an interpreter over a plan's operations.
//!
//! It allocates nothing, takes no lock, writes no log and never unwinds: every input was made ready before the
//! clone. A failed operation is reported as its index and errno; the parent puts it into words.

// A failure carries its text by value, because a boxed one would allocate.
#![allow(clippy::result_large_err)]

mod console;
mod copy_up;
mod hook;
mod mounts;
mod overlay;
mod places;
mod process;
mod root;

use crate::error::Errno;
use crate::kernel::cgroup::JoinFds;
use crate::kernel::protocol::{self, DETAIL, Tag};
use crate::plan::op::{IsolateOp, Op, Point, ProgramOp};
use crate::sys::clone::Clone;
use crate::sys::exec::StringArray;
use crate::sys::{self, SysResult, clone, entry, exec, fd, file, prctl, sched, socket, tty};
use places::Places;
pub(super) use root::{NODE, NULL_DEVICE};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

/// Descriptors that the parent opened for the child before the clone.
#[derive(Debug, Default)]
pub struct FdSlots {
    /// The host's /proc.
    pub proc: Option<OwnedFd>,
    /// Namespaces to enter.
    pub namespaces: Vec<OwnedFd>,
    /// Prepared mounts.
    pub mounts: Vec<OwnedFd>,
    /// The cgroups to join.
    pub cgroups: JoinFds,
    /// The listening socket on which `start` connects.
    pub start: Option<OwnedFd>,
    /// The first process of the container to join (exec).
    pub container: Option<OwnedFd>,
    /// The standard descriptors; None: those of the parent.
    pub stdio: Option<[OwnedFd; 3]>,
    /// The pid namespace to enter is entered already, while that was still allowed.
    pub pid_entered: bool,
    /// The user, who is not root, may look into the process once it is as good as the program: `exec` does before
    /// `start`, and who hands a seccomp listener over.
    pub dumpable: bool,
}

/// All that the child needs.
pub struct Child<'a> {
    pub ops: &'a [Op],
    pub slots: &'a FdSlots,
    /// The parent's end of the socket, which the child has a copy of.
    pub parent: RawFd,
    /// To the parent, later to `start`.
    pub socket: RawFd,
    pub argv: &'a StringArray,
    pub env: &'a mut StringArray,
    /// Fault injection for tests: fail at this operation.
    pub fault: Option<usize>,
    pub caller: Caller,
}

/// Settings inherited from the caller of orun that the program must not inherit, or that are restored for it.
#[derive(Debug, Clone, Copy)]
pub struct Caller {
    /// The signals that are ignored.
    pub ignored: u64,
    /// Resource limits (a bit is the number of one) that the configuration sets: those of the caller are not put back.
    pub own_limits: u32,
}

/// Results of operations for later ones.
#[derive(Default)]
struct Progress {
    /// The root file system, once it is opened.
    places: Option<Places>,
    /// The connection from `start`.
    started: Option<OwnedFd>,
    /// The working directory could not be entered yet.
    cwd_pending: bool,
    /// The working directory is the container's root, which was just entered.
    in_root: bool,
    /// See [`Child::make_dumpable`].
    dumpable: bool,
    /// Which candidate for the program was found.
    program: usize,
}

/// Why an operation failed: the errno, a second number and free text for the parent's message.
struct Failure {
    errno: Errno,
    extra: i32,
    text: [u8; DETAIL],
    len: usize,
}

impl From<Errno> for Failure {
    fn from(errno: Errno) -> Failure {
        Failure { errno, extra: 0, text: [0; DETAIL], len: 0 }
    }
}

impl Failure {
    fn with(errno: Errno, extra: i32, text: &[u8]) -> Failure {
        let mut f = Failure::from(errno);
        f.extra = extra;
        f.len = text.len().min(DETAIL);
        f.text[..f.len].copy_from_slice(&text[..f.len]);
        f
    }
}

type StepResult = Result<(), Failure>;

impl Child<'_> {
    /// Executes the plan. Does not return.
    pub fn run(mut self) -> ! {
        let mut made = Progress::default();
        file::umask(0);
        // With a copy of the other end open nobody would see that the parent is gone, and wait for it forever. It
        // cannot fail: the descriptor is open.
        let _ = fd::close_range(self.parent as u32, self.parent as u32);
        for (n, fd) in self.slots.stdio.iter().flatten().enumerate() {
            // It cannot fail either: both are open.
            let _ = fd::dup2(fd.as_raw_fd(), n as RawFd);
        }
        let ops = self.ops;
        for (i, op) in ops.iter().enumerate() {
            let done = if self.fault == Some(i) {
                Err(Errno(libc::EIO).into())
            } else {
                self.step(i, op, &mut made)
            };
            if let Err(f) = done {
                let to = made.started.as_ref().map_or(self.socket, AsRawFd::as_raw_fd);
                let status = if made.started.is_some() { self.fail_as_program(op, f.errno) } else { 1 };
                // The parent may be gone; nobody else reads the error.
                let extra = f.extra & 0xffff | protocol::late_mark(op) << 16;
                let _ = protocol::send(to, Tag::Failed, i as u16, f.errno.0, extra, &f.text[..f.len], None);
                exec::exit(status);
            }
        }
        exec::exit(1)
    }

    fn step(&mut self, index: usize, op: &Op, made: &mut Progress) -> StepResult {
        match op {
            Op::Sync(point) => {
                if *point == Point::Ready {
                    // From here on the container lives by itself, and its program finds no such signal.
                    prctl::set_parent_death_signal(0)?;
                }
                protocol::send(self.socket, Tag::Sync, index as u16, *point as i32, 0, &[], None)?;
                protocol::wait_go(self.socket)?;
            }
            Op::ContinueInside => self.continue_inside(index)?,
            Op::Isolate(op) => self.isolate(op)?,
            Op::Root(op) => root::step(op, self.base(), made)?,
            Op::Program(op) => self.become_program(index, op, made)?,
            Op::OpenOverlay { path, overlay, private } => {
                let opened = overlay::open(path, overlay, *private)?;
                self.take_overlay(index, opened, made)?;
            }
            Op::Mount(m) => mounts::mount(m, self.slots, made, |slot| {
                protocol::send(self.socket, Tag::Source, index as u16, slot as i32, 0, &[], None)?;
                protocol::wait_fd(self.socket)
            })?,
            Op::Remount { target, held, changes } => mounts::remount(target, *held, changes, made)?,
            Op::Console { uid, size } => console::make(self.socket, index, *uid, *size, made)?,
            Op::Terminal { uid, size } => console::take(self.socket, index, *uid, *size)?,
            Op::ControllingTerminal => tty::set_controlling(0)?,
            Op::Sysctl { path, value } => self.write_proc(path, value)?,
            Op::Hook(h) => {
                let root = made.places.as_ref().filter(|_| h.at_root).map(Places::root);
                // Behind the limits of the configuration nothing of the caller's is put back over them.
                let (kept, own_limits) =
                    if h.at_root { (None, 0) } else { (Some(self.kept()), self.caller.own_limits) };
                let caller = Caller { own_limits, ..self.caller };
                hook::run(h, &hook::With { env: self.env, dir: root, kept, caller })?;
            }
            Op::WaitForStart => made.started = Some(self.wait_for_start(made)?),
        }
        match made.places.as_mut() {
            Some(places) => places.sweep().map_err(Failure::from),
            None => Ok(()),
        }
    }

    fn take_overlay(&self, index: usize, opened: overlay::Opened, made: &mut Progress) -> StepResult {
        if opened.in_memory {
            let text = overlay::IN_MEMORY.as_bytes();
            protocol::send(self.socket, Tag::Warning, index as u16, 0, 0, text, None)?;
        }
        made.places = Some(Places::with_pile(opened.root, self.base(), opened.pile));
        Ok(())
    }

    /// Operations that take the process out of the host.
    fn isolate(&self, op: &IsolateOp) -> StepResult {
        match op {
            IsolateOp::EnterNamespace { kind: libc::CLONE_NEWPID, .. } if self.slots.pid_entered => {}
            IsolateOp::EnterNamespace { slot, kind } => {
                clone::setns(self.slots.namespaces[*slot].as_raw_fd(), *kind)?
            }
            IsolateOp::EnterContainer { kinds } => {
                let pidfd = self.slots.container.as_ref().ok_or(Errno(libc::EBADF))?;
                clone::setns(pidfd.as_raw_fd(), *kinds)?;
            }
            IsolateOp::Unshare { kinds } => clone::unshare(*kinds)?,
            IsolateOp::EnterTimeNamespace => {
                let ns = self.open_proc(c"self/ns/time_for_children", libc::O_RDONLY)?;
                clone::setns(ns.as_raw_fd(), libc::CLONE_NEWTIME)?;
            }
            IsolateOp::BecomeRoot => {
                sys::cred::setresgid(0)?;
                sys::cred::setresuid(0)?;
            }
            IsolateOp::NotDumpable => prctl::set_dumpable(false)?,
            // execve(2) takes the handlers away.
            IsolateOp::ExitOnSignals => exec::exit_on(&[libc::SIGTERM, libc::SIGINT, libc::SIGHUP])?,
            IsolateOp::ParentDeathSignal => {
                prctl::set_parent_death_signal(libc::SIGKILL)?;
                // A process that was gone before that sends no signal; it closes its files before it does.
                if socket::is_closed(self.socket)? {
                    return Err(Errno(libc::EPIPE).into());
                }
            }
            IsolateOp::JoinCgroups => {
                for procs in &self.slots.cgroups.procs {
                    fd::write(procs.as_raw_fd(), b"0")?;
                }
            }
            IsolateOp::NewSession => prctl::setsid()?,
            IsolateOp::SessionKeyring { name, label } => self.join_keyring(name, label)?,
            IsolateOp::LoopbackUp => sys::netif::loopback_up()?,
            IsolateOp::Hostname(name) => prctl::sethostname(name)?,
            IsolateOp::Domainname(name) => prctl::setdomainname(name)?,
            IsolateOp::Affinity { mask } => sched::sched_setaffinity(0, mask)?,
            // Not every CPU of the mask need be allowed; the kernel takes what is.
            IsolateOp::ResetAffinity { mask } => drop(sched::sched_setaffinity(0, mask)),
        }
        Ok(())
    }

    /// Ends this process, which the container does not see, after making its successor, which it does see.
    fn continue_inside(&self, index: usize) -> SysResult<()> {
        entry::forget_environment();
        match clone::clone3(libc::CLONE_PARENT as u64, None)? {
            Clone::Child => Ok(()),
            Clone::Parent { pid, pidfd } => {
                // The parent may be gone; then the new process ends by itself.
                let _ = protocol::send(
                    self.socket,
                    Tag::Process,
                    index as u16,
                    pid,
                    0,
                    &[],
                    Some(pidfd.as_raw_fd()),
                );
                exec::exit(0)
            }
        }
    }

    /// How many descriptors from 3 on the program gets.
    fn kept(&self) -> u32 {
        let kept = |op: &Op| {
            if let Op::Program(ProgramOp::CloseDescriptors { keep }) = op { Some(*keep) } else { None }
        };
        self.ops.iter().find_map(kept).unwrap_or(0)
    }

    /// The first descriptor that is the child's own: all that the parent opened are below.
    fn base(&self) -> RawFd {
        let s = self.slots;
        let lists = s.namespaces.iter().chain(&s.mounts).chain(&s.cgroups.procs);
        let single = [&s.proc, &s.start, &s.container, &s.cgroups.into];
        let all = lists.chain(single.into_iter().flatten()).map(AsRawFd::as_raw_fd);
        all.max().unwrap_or(2).max(self.socket) + 1
    }

    fn join_keyring(&self, name: &std::ffi::CStr, label: &[u8]) -> StepResult {
        if !label.is_empty() {
            self.write_proc(c"self/attr/keycreate", label)?;
        }
        match sys::cred::join_session_keyring(name) {
            // A kernel without keyrings, or a sandbox around orun that forbids them.
            Err(Errno(libc::ENOSYS | libc::EPERM)) => Ok(()),
            Err(e) => Err(e.into()),
            // The owner may search the keyring, so that the container's user can use what it holds.
            Ok(serial) => match sys::cred::set_key_permissions(serial, KEYRING_PERMISSIONS) {
                Ok(()) | Err(Errno(libc::ENOSYS | libc::EPERM | libc::EACCES)) => Ok(()),
                Err(e) => Err(e.into()),
            },
        }
    }

    /// Opens a file of the host's procfs. Its symlinks (`self`) are the kernel's own; nothing of the container
    /// can lie over it, because this descriptor was opened before there was a container.
    fn open_proc(&self, path: &std::ffi::CStr, flags: i32) -> SysResult<OwnedFd> {
        let proc = self.slots.proc.as_ref().ok_or(Errno(libc::EBADF))?;
        // A namespace file is itself a magic link, which only O_PATH-free opening of `ns/` follows.
        let resolve = if flags & libc::O_ACCMODE == libc::O_RDONLY { 0 } else { sys::path::BENEATH };
        sys::path::openat2(proc.as_raw_fd(), path, flags, resolve)
    }

    fn write_proc(&self, path: &std::ffi::CStr, value: &[u8]) -> StepResult {
        let f = self.open_proc(path, libc::O_WRONLY)?;
        let n = fd::write(f.as_raw_fd(), value)?;
        if n == value.len() { Ok(()) } else { Err(Errno(libc::EIO).into()) }
    }

    /// All that the process still has of the host is sockets, and nobody but `exec` comes into its pid namespace.
    fn make_dumpable(&self, made: &mut Progress) -> SysResult<()> {
        if self.slots.dumpable && !made.dumpable {
            prctl::set_dumpable(true)?;
            made.dumpable = true;
        }
        Ok(())
    }

    fn wait_for_start(&self, made: &mut Progress) -> SysResult<OwnedFd> {
        self.make_dumpable(made)?;
        let listener = self.slots.start.as_ref().ok_or(Errno(libc::EBADF))?;
        let connection = socket::accept(listener.as_raw_fd())?;
        // `create` is done; its end of the first socket is closed. Nothing of it may reach the program.
        Ok(connection)
    }
}

/// possessor: all, user: all but setattr would be the kernel's default; `user: all` lets the container's user
/// search the session keyring after a change of user id (keyrings(7)).
const KEYRING_PERMISSIONS: u32 = 0x3f1b_0000;

/// The root, which must be open by now.
fn places(made: &mut Progress) -> SysResult<&mut Places> {
    made.places.as_mut().ok_or(Errno(libc::EBADF))
}
