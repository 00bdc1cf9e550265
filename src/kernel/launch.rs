//! The parent's side: makes the child, answers it at every point of the plan, and puts its failures into words.

use crate::error::{Errno, Error, Kind, Result};
use crate::kernel::cgroup::{Cgroup, JoinFds};
use crate::kernel::child::{Child, FdSlots};
use crate::kernel::protocol::{self, Message, SETUP_TIMEOUT, Tag};
use crate::kernel::{hooks, idmap, late, netdev, prepare, seccomp_listener};
use crate::log;
use crate::plan::compile::Plan;
use crate::plan::op::{IsolateOp, Op, Point, ProgramOp};
use crate::plan::tables::namespaces::NamespaceKind;
use crate::plan::{cpu_list, explain};
use crate::sys::clone::{self, Clone};
use crate::sys::fd::{self, PollFd};
use crate::sys::wait::{self, Exit};
use crate::sys::{cred, exec, prctl, sched, socket};
use std::cell::Cell;
use std::collections::VecDeque;
use std::os::fd::{AsRawFd, OwnedFd};

/// How long a killed child may take to end, in milliseconds.
const ENDING: i32 = 10_000;
/// How long another process may take to reap it, in milliseconds.
const REAPING: i32 = 100;

/// A child on its way.
#[derive(Debug)]
pub struct Launch {
    pub pid: i32,
    pub pidfd: OwnedFd,
    socket: OwnedFd,
    /// Messages to be read next: they came while another one was waited for.
    early: VecDeque<Message>,
    /// The operation with which another process takes the place of this one, as long as it has not: reports about
    /// later operations are the other's, and may arrive before it is named.
    succession: Option<u16>,
    /// The master of the container's terminal, when there is one.
    pub terminal: Option<OwnedFd>,
    /// Whether a SIGKILL hit the child before the program ran: mostly the kernel's, for want of memory.
    pub killed: Cell<bool>,
    timeout: u64,
}

/// Inputs of a launch besides the plan.
#[derive(Debug, Default)]
pub struct LaunchInputs<'a> {
    pub cgroup: Option<&'a Cgroup>,
    /// The listening socket on which `start` connects.
    pub start: Option<OwnedFd>,
    /// The container that the process joins (exec).
    pub join: Option<Join>,
    /// Fail at this operation (for tests).
    pub fault: Option<usize>,
    /// Descriptors 0, 1 and 2; None: those of the caller.
    pub stdio: Option<[OwnedFd; 3]>,
    /// Detached mounts, for those that the plan has as given.
    pub mounts: Vec<OwnedFd>,
    /// The parent of the process.
    pub reaper: Reaper,
}

/// The process that reaps it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Reaper {
    /// The caller.
    #[default]
    Caller,
    /// The caller's parent (`CLONE_PARENT`), so that the process outlives the caller and its exit status is not lost.
    Keeper,
}

impl Reaper {
    /// For clone3(2).
    fn flag(self) -> u64 {
        match self {
            Reaper::Caller => 0,
            Reaper::Keeper => libc::CLONE_PARENT as u64,
        }
    }
}

/// A container to join.
#[derive(Debug)]
pub struct Join {
    /// A pidfd of its first process.
    pub container: OwnedFd,
    pub cgroups: JoinFds,
}

impl Launch {
    /// Makes the child. It stops at its first point.
    ///
    /// # Errors
    /// A namespace or mount that cannot be opened, and what clone3(2) refuses.
    pub fn begin(plan: &Plan, mut means: LaunchInputs) -> Result<Launch> {
        let mut slots = prepare::slots(plan, std::mem::take(&mut means.mounts))?;
        slots.start = means.start;
        slots.stdio = means.stdio;
        // In a pid namespace of its own nobody else of that user sees it.
        let own = (libc::CLONE_NEWUSER | libc::CLONE_NEWPID) as u64;
        slots.dumpable = cred::geteuid() != 0 && plan.namespaces.clone & own == own;
        let mut into = means.cgroup.and_then(Cgroup::dir_fd_v2).map(|fd| fd.as_raw_fd());
        if let Some(join) = means.join {
            slots.cgroups = join.cgroups;
            slots.container = Some(join.container);
            into = slots.cgroups.into.as_ref().map(AsRawFd::as_raw_fd);
        }
        if let Some(c) = means.cgroup {
            slots.cgroups = c.procs_fds()?;
        }
        tell_setup(plan);
        let sys = |e: Errno| Error::sys("making a socket pair", e);
        let (ours, theirs) = socket::seqpacket_pair().map_err(sys)?;
        let mut env = plan.env.clone();
        let child = Child {
            ops: &plan.steps.ops,
            slots: &slots,
            parent: ours.as_raw_fd(),
            socket: theirs.as_raw_fd(),
            argv: &plan.argv,
            env: &mut env,
            fault: means.fault,
            caller: prepare::caller(plan),
        };
        if cred::geteuid() == 0 {
            // Nobody in the container may look into the child before it is the program (CVE-2016-9962). Without
            // privileges this waits until the child has its user namespace, whose mapping would else be refused.
            prctl::set_dumpable(false).map_err(|e| Error::sys("making the process non-dumpable", e))?;
        }
        let (pid, pidfd, early) = if plan.namespaces.staged && !slots.pid_entered {
            staged(plan, child, ours.as_raw_fd(), theirs, into, means.reaper)?
        } else {
            let (pid, pidfd) = direct(plan, child, into, means.cgroup, means.reaper)?;
            (pid, pidfd, VecDeque::new())
        };
        let succession = plan.steps.ops.iter().position(|op| *op == Op::ContinueInside).map(|i| i as u16);
        let hooks: u64 =
            plan.steps.ops.iter().map(|op| if let Op::Hook(h) = op { h.timeout.into() } else { 0 }).sum();
        Ok(Launch {
            pid,
            pidfd,
            socket: ours,
            early,
            succession,
            terminal: None,
            killed: Cell::new(false),
            timeout: SETUP_TIMEOUT + hooks,
        })
    }

    /// Answers the child until it waits to be moved into its cgroup.
    ///
    /// # Errors
    /// The child's failure in words, a deadline. The caller kills the child.
    pub fn until_cgroup(&mut self, plan: &Plan) -> Result<()> {
        loop {
            let m = self.next("the container process to be made")?.ok_or_else(|| self.died())?;
            match (m.tag, protocol::point(m.number)) {
                (Tag::Sync, Some(Point::Cgroup)) => return Ok(()),
                (Tag::Sync, _) => {
                    return Err(Error::sys("waiting for the container process", Errno(libc::EPROTO)));
                }
                _ => self.other(plan, m)?,
            }
        }
    }

    /// Answers the child until it is ready to run the program: all is set up, limits are set.
    ///
    /// # Errors
    /// The child's failure in words, a failing hook, a deadline. The caller kills the child.
    pub fn until_ready(&mut self, plan: &Plan) -> Result<()> {
        loop {
            let m = self.next("the container process to be set up")?.ok_or_else(|| self.died())?;
            match m.tag {
                Tag::Sync => match protocol::point(m.number) {
                    Some(Point::Namespaces) => {
                        if let Some(maps) = &plan.id_maps {
                            idmap::write(self.pid, maps)?;
                        }
                        if let Some(offsets) = &plan.time_offsets {
                            self.write_offsets(offsets)?;
                        }
                        netdev::move_all(&plan.net_devices, self.pid)?;
                        self.resume_child()?;
                    }
                    Some(Point::RuntimeHooks) => {
                        hooks::run_all(plan, self.pid, &self.pidfd)?;
                        self.resume_child()?;
                    }
                    Some(Point::Ready) => {
                        log::debug(|| format!("child process in init(): {} is ready", self.pid));
                        return self.limits(plan);
                    }
                    Some(Point::Cgroup) | None => {
                        return Err(Error::sys(
                            "reading a message of the container process",
                            Errno(libc::EPROTO),
                        ));
                    }
                },
                _ => self.other(plan, m)?,
            }
        }
    }

    fn other(&mut self, plan: &Plan, m: Message) -> Result<()> {
        match m.tag {
            Tag::Failed => Err(explain::failure(plan, m.op.into(), Errno(m.number), m.extra, &m.text)),
            Tag::Terminal => {
                self.terminal = m.fd;
                self.resume_child()
            }
            Tag::Listener => {
                let agent = plan
                    .listener
                    .as_ref()
                    .ok_or_else(|| Error::sys("finding the seccomp agent", Errno(libc::EPROTO)))?;
                let process = (self.pid, self.pidfd.as_raw_fd());
                let socket = self.socket.as_raw_fd();
                if seccomp_listener::hand_over(agent, &plan.id, &plan.hook_state, process, m.number, socket)?
                {
                    return Ok(());
                }
                match self.next("the seccomp filter to be loaded")? {
                    Some(m @ Message { tag: Tag::Failed, .. }) => self.other(plan, m),
                    Some(_) => {
                        Err(Error::sys("taking the listener of the seccomp filter", Errno(libc::EBADF)))
                    }
                    None => Err(self.died()),
                }
            }
            Tag::Source => {
                let wanted = plan.late.get(m.number as usize);
                let wanted = wanted.ok_or_else(|| Error::sys("finding a mount", Errno(libc::EPROTO)))?;
                let tree = late::mount(wanted, &self.pidfd)?;
                protocol::send(self.socket.as_raw_fd(), Tag::Go, 0, 0, 0, &[], Some(tree.as_raw_fd()))
                    .map_err(|_| self.died())
            }
            Tag::Warning => {
                log::warn(String::from_utf8_lossy(&m.text));
                Ok(())
            }
            Tag::NotMade => Err(not_made(plan, m.op.into(), Errno(m.number), None)),
            Tag::Sync | Tag::Process | Tag::Go => {
                Err(Error::sys("reading a message of the container process", Errno(libc::EPROTO)))
            }
        }
    }

    fn write_offsets(&self, offsets: &str) -> Result<()> {
        let file = format!("/proc/{}/timens_offsets", self.pid);
        std::fs::write(&file, offsets).map_err(|e| {
            let what = format!("setting the time offsets {:?}", offsets.trim_end().replace('\n', ", "));
            let e = Error::sys(what, e).property("linux.timeOffsets");
            if e.errno() == Some(Errno(libc::ERANGE)) {
                e.hint("the offset must keep the clock between 0 and about 146 years")
            } else {
                e
            }
        })
    }

    /// Settings that only the host may change.
    fn limits(&self, plan: &Plan) -> Result<()> {
        for l in &plan.limits {
            sched::prlimit(self.pid, l.resource, l.soft, l.hard).map_err(|e| {
                let error = Error::sys(l.words(), e).property(l.property.as_str());
                if e.0 == libc::EPERM { error.hint(explain::RAISE_HINT) } else { error }
            })?;
        }
        if let Some(adj) = plan.oom_score_adj {
            let file = format!("/proc/{}/oom_score_adj", self.pid);
            std::fs::write(&file, adj.to_string()).map_err(|e| {
                let e = Error::sys(format!("writing {adj} to {file}"), e).property("process.oomScoreAdj");
                let denied = matches!(e.errno(), Some(Errno(libc::EACCES | libc::EPERM)));
                if denied { e.hint("only a process with CAP_SYS_RESOURCE may lower it") } else { e }
            })?;
        }
        Ok(())
    }

    /// Lets the child continue.
    ///
    /// # Errors
    /// The child is gone.
    pub fn resume_child(&self) -> Result<()> {
        protocol::send(self.socket.as_raw_fd(), Tag::Go, 0, 0, 0, &[], None).map_err(|_| self.died())
    }

    /// Waits until the program runs.
    ///
    /// # Errors
    /// The operation that failed in the child, in words.
    pub fn until_running(&mut self, plan: &Plan) -> Result<()> {
        while let Some(m) = self.next("the program to be run")? {
            self.other(plan, m)?;
        }
        log::debug(|| match plan.exec {
            true => format!("setns_init: about to exec: {} has run its program", self.pid),
            false => "init: closing the pipe to signal completion: the program runs".to_owned(),
        });
        Ok(())
    }

    fn next(&mut self, what: &str) -> Result<Option<Message>> {
        let mut later = VecDeque::new();
        loop {
            let m = match self.early.pop_front() {
                Some(m) => m,
                None => match protocol::receive_within(self.socket.as_raw_fd(), self.timeout, what) {
                    Ok(Some(m)) => m,
                    // It exited without having read the last answer.
                    Err(e) if e.errno() == Some(Errno(libc::ECONNRESET)) => return Ok(None),
                    r => return r,
                },
            };
            match self.succession {
                Some(at) if m.op == at && m.tag == Tag::Process => {
                    self.succeed(m)?;
                    later.append(&mut self.early);
                    self.early = std::mem::take(&mut later);
                }
                Some(at) if m.op > at && m.tag != Tag::NotMade => later.push_back(m),
                _ => return Ok(Some(m)),
            }
        }
    }

    /// From here on the process of `m` is the child.
    fn succeed(&mut self, m: Message) -> Result<()> {
        let successor = m.fd.ok_or_else(|| Error::sys("taking over the process", Errno(libc::EBADF)))?;
        // The predecessor has said all it had to say; it ends by itself. A keeper reaps what is its own.
        let _ = wait::wait_pidfd(self.pidfd.as_raw_fd(), true);
        (self.pid, self.pidfd, self.succession) = (m.number, successor, None);
        Ok(())
    }

    /// The child exited without reporting an error.
    fn died(&self) -> Error {
        let how = match self.ended() {
            Some(Exit::Signal(libc::SIGKILL)) => {
                self.killed.set(true);
                "the container process was killed during its setup (possibly OOM-killed)".to_owned()
            }
            Some(Exit::Signal(s)) => {
                format!("the container process was killed by signal {s} during its setup")
            }
            Some(Exit::Code(c)) => {
                format!("the container process exited with status {c} during its setup")
            }
            _ => "the container process exited during its setup".to_owned(),
        };
        Error::new(Kind::System, how)
    }

    /// Kills the child and reaps it, or waits until it has exited when the keeper reaps it.
    pub fn kill(&self) {
        // It fails only when the child is gone and reaped already.
        let _ = wait::pidfd_send_signal(self.pidfd.as_raw_fd(), libc::SIGKILL);
        self.ended();
    }

    /// Waits for the child to exit; its status, when that can be known.
    fn ended(&self) -> Option<Exit> {
        let pidfd = self.pidfd.as_raw_fd();
        match wait::wait_pidfd(pidfd, true) {
            // Another process reaps it: the end shows at once, the status only after that.
            Err(Errno(libc::ECHILD)) => {}
            r => return r.ok().flatten(),
        }
        // With no events asked for the second one waits for POLLHUP, which comes with the reaping (Linux 6.15).
        for (events, timeout) in [(libc::POLLIN, ENDING), (0, REAPING)] {
            let _ = fd::poll(&mut [PollFd::new(pidfd, events)], timeout);
        }
        wait::pidfd_exit(pidfd).ok().flatten()
    }
}

// The words of the debug lines are those that users of runc look for.

fn tell_setup(plan: &Plan) {
    log::debug(|| {
        let names = explain::namespace_names(plan.namespaces.clone);
        format!("nsexec container setup: {} operations, new namespaces: {names}", plan.steps.ops.len())
    });
    for (op, property) in plan.steps.ops.iter().zip(&plan.steps.properties) {
        if let Op::Program(ProgramOp::Seccomp { flags, .. }) = op {
            log::debug(|| format!("seccomp filter flags: {flags}"));
        }
        if let Op::Isolate(IsolateOp::Affinity { mask }) = op {
            log::debug(|| format!("nsexec, {property}: affinity: {}", cpu_list::hex(mask)));
        }
    }
}

fn cloning(plan: &Plan, into: Option<i32>) -> impl Fn(Errno) -> Error + '_ {
    move |e| {
        // These are said of the cgroup alone; the words are those that callers of runc look for.
        if into.is_some() && matches!(e.0, libc::EBUSY | libc::EACCES | libc::ENODEV | libc::EOPNOTSUPP) {
            let e = Error::sys("adding pid of the new process to cgroups", e);
            return match e.errno() {
                Some(Errno(libc::EBUSY)) => e.hint(
                    "the cgroup gives controllers to its children (cgroup.subtree_control), so that it may have no \
                     processes of its own; choose one of its children with --cgroup",
                ),
                _ => e,
            };
        }
        let names = explain::namespace_names(plan.namespaces.clone);
        let e = Error::sys(format!("making the container process with new namespaces ({names})"), e)
            .property("linux.namespaces");
        match e.errno() {
            Some(Errno(libc::EPERM)) if cred::geteuid() != 0 => {
                e.hint("new namespaces need root or a user namespace; see \"orun spec --rootless\"")
            }
            Some(Errno(libc::EAGAIN)) => e.hint(
                "no more processes: the user's limit (RLIMIT_NPROC, \"ulimit -u\") or that of a cgroup (pids.max) is \
                 reached",
            ),
            Some(Errno(libc::ENOSPC | libc::EUSERS)) => {
                e.hint("a limit in /proc/sys/user/max_*_namespaces is reached")
            }
            Some(Errno(libc::EINVAL)) => e.hint("the kernel lacks one of these namespaces"),
            _ => e,
        }
    }
}

fn direct(
    plan: &Plan,
    child: Child,
    into: Option<i32>,
    cgroup: Option<&Cgroup>,
    reaper: Reaper,
) -> Result<(i32, OwnedFd)> {
    let mut first = true;
    // In a pid namespace that is entered already a second child would be seen.
    let alone = child.slots.pid_entered;
    let namespaces = if alone { 0 } else { plan.namespaces.clone };
    loop {
        match (clone::clone3(namespaces | reaper.flag(), into), into, cgroup) {
            (Ok(Clone::Child), ..) if alone => only_child(plan, child),
            (Ok(Clone::Child), ..) => child.run(),
            (Ok(Clone::Parent { pid, pidfd }), ..) => return Ok((pid, pidfd)),
            // The cgroup may have to become threaded first, or is not to be joined at all.
            (Err(e @ Errno(libc::EBUSY | libc::EOPNOTSUPP)), Some(_), Some(c)) if first => {
                c.after_failed_join(&plan.cgroup, e)?;
                first = false;
            }
            (Err(e), ..) => return Err(cloning(plan, into)(e)),
        }
    }
}

/// Two children: the first enters namespaces and makes the second, as a sibling, in them. Also returns what the
/// second has said meanwhile: the two do not wait for each other.
fn staged(
    plan: &Plan,
    child: Child,
    ours: i32,
    theirs: OwnedFd,
    into: Option<i32>,
    reaper: Reaper,
) -> Result<(i32, OwnedFd, VecDeque<Message>)> {
    let pidfd = match clone::clone3(reaper.flag(), None).map_err(cloning(plan, None))? {
        Clone::Child => first_child(plan, child, into),
        Clone::Parent { pidfd, .. } => pidfd,
    };
    // Only the children have it now, so that their death is seen.
    drop(theirs);
    let mut early = VecDeque::new();
    let m = loop {
        match protocol::receive_within(ours, SETUP_TIMEOUT, "the container's namespaces to be entered") {
            Ok(Some(m)) if m.tag == Tag::NotMade || (m.tag == Tag::Process && m.op == FIRST) => {
                break Ok(Some(m));
            }
            Ok(Some(m)) => early.push_back(m),
            r => break r,
        }
    };
    if m.is_err() {
        // It did not come to an end in time.
        let _ = wait::pidfd_send_signal(pidfd.as_raw_fd(), libc::SIGKILL);
    }
    // The first child has said all it had to say; it ends by itself. A keeper reaps what is its own.
    let _ = wait::wait_pidfd(pidfd.as_raw_fd(), true);
    match m? {
        Some(Message { tag: Tag::Process, number, .. }) => {
            let pidfd = wait::pidfd_open(number)
                .map_err(|e| Error::sys(format!("opening a descriptor of process {number}"), e))?;
            Ok((number, pidfd, early))
        }
        Some(Message { op, number, .. }) => Err(not_made(plan, op.into(), Errno(number), into)),
        None => {
            Err(Error::new(Kind::System, "the first container process exited without reporting an error"))
        }
    }
}

/// Why the first child made no second one.
fn not_made(plan: &Plan, index: usize, errno: Errno, into: Option<i32>) -> Error {
    match index {
        CLONE => cloning(plan, into)(errno),
        _ => {
            let join = &plan.namespaces.joins[index];
            let what = format!("entering the {} namespace {:?}", join.kind.name(), join.path);
            Error::sys(what, errno).property(join.property.as_str())
        }
    }
}

fn first_child(plan: &Plan, child: Child, into: Option<i32>) -> ! {
    let socket = child.socket;
    let tell = |tag, op: usize, number| {
        // The parent may be gone; nobody else reads the error.
        let _ = protocol::send(socket, tag, op as u16, number, 0, &[], None);
    };
    if let Err((index, e)) = enter_namespaces(plan, child.slots) {
        tell(Tag::NotMade, index, e.0);
        exec::exit(1);
    }
    match clone::clone3(plan.namespaces.clone | libc::CLONE_PARENT as u64, into) {
        Ok(Clone::Child) => child.run(),
        Ok(Clone::Parent { pid, .. }) => {
            tell(Tag::Process, FIRST.into(), pid);
            exec::exit(0)
        }
        Err(e) => {
            tell(Tag::NotMade, CLONE, e.0);
            exec::exit(1)
        }
    }
}

/// One child does it all: it enters the namespaces and makes the new ones for itself.
fn only_child(plan: &Plan, child: Child) -> ! {
    let entered = enter_namespaces(plan, child.slots)
        .and_then(|()| clone::unshare(plan.namespaces.clone as i32).map_err(|e| (CLONE, e)));
    match entered {
        Ok(()) => child.run(),
        Err((index, e)) => {
            // The parent may be gone; nobody else reads the error.
            let _ = protocol::send(child.socket, Tag::NotMade, index as u16, e.0, 0, &[], None);
            exec::exit(1)
        }
    }
}

/// Instead of the index of an operation: what the first child of two says.
const FIRST: u16 = 0xffff;
/// Instead of the index of a namespace: making the second child.
const CLONE: usize = 0xfffe;

/// Enters the namespaces that are named by path. One that the user namespace owns opens only from inside it. A pid
/// namespace comes last (see [`Op::ContinueInside`]), if that is not too late.
fn enter_namespaces(plan: &Plan, slots: &FdSlots) -> Result<(), (usize, Errno)> {
    let mut entered = [false; 8];
    for round in 0..2 {
        for (i, join) in plan.namespaces.joins.iter().enumerate() {
            if entered[i] || (join.kind == NamespaceKind::Pid && !slots.pid_entered) {
                continue;
            }
            match clone::setns(slots.namespaces[i].as_raw_fd(), join.kind.clone_flag() as i32) {
                Ok(()) => entered[i] = true,
                Err(Errno(libc::EPERM)) if round == 0 => {}
                Err(e) => return Err((i, e)),
            }
        }
    }
    Ok(())
}
