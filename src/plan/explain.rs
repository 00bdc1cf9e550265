//! Operations in words: for `orun plan`, and for the error when one fails.

use super::compile::Plan;
use super::op::{
    Filesystem, IsolateOp, Limit, MountOp, MountPart, MountSource, NOT_IN_PATH, OUTSIDE_ROOT, Op, Point,
    ProgramOp, RootOp,
};
use super::overlay::{self, Overlay};
use super::step::Steps;
use super::tables::{capabilities, namespaces::NamespaceKind};
use crate::error::{Errno, Error, Kind};
use std::ffi::{CStr, CString};

fn text(c: &CStr) -> String {
    format!("{:?}", c.to_string_lossy())
}

fn inside(c: &CStr) -> String {
    format!("\"/{}\"", c.to_string_lossy())
}

/// Names of namespaces for `CLONE_NEW*` flags.
pub fn namespace_names(flags: u64) -> String {
    let names: Vec<_> =
        NamespaceKind::ALL.iter().filter(|k| flags & k.clone_flag() != 0).map(|k| k.name()).collect();
    names.join(", ")
}

fn capability_names(mask: u64) -> String {
    let names: Vec<_> = (0..64).filter(|n| mask >> n & 1 == 1).filter_map(capabilities::name).collect();
    if names.is_empty() { "none".into() } else { names.join(" ") }
}

/// The words for an operation, as a phrase that fits behind "failed:" and in a list: "mounting tmpfs on "/dev"".
pub fn words(op: &Op) -> String {
    match op {
        Op::Isolate(op) => isolate_words(op),
        Op::Root(op) => root_words(op),
        Op::Program(op) => program_words(op),
        Op::Sync(Point::Namespaces) => "waiting for the id mappings, time offsets and network devices".into(),
        Op::Sync(Point::Cgroup) => "waiting to be moved into the cgroup".into(),
        Op::Sync(Point::RuntimeHooks) => "waiting for the prestart and createRuntime hooks".into(),
        Op::Sync(Point::Ready) => "waiting for limits to be set and the state to be recorded".into(),
        Op::ContinueInside => "continuing as a new process inside the pid namespace".into(),
        Op::Hook(h) => format!("running the {} hook #{} {}", h.kind, h.index, text(&h.path)),
        Op::OpenOverlay { path, overlay, .. } => {
            format!("mounting the root file system on {} as an overlay: {}", text(path), overlay.words())
        }
        Op::Mount(m) => mount_words(m),
        Op::Remount { target, changes, .. } => {
            let (set, clear) = changes.iter().fold((0, 0), |(s, c), (a, _)| (s | a.set, c | a.clear));
            format!("changing the mount at {}: {}", inside(target), attributes(set, clear))
        }
        Op::Console { .. } => "making the terminal and /dev/console".into(),
        Op::Terminal { .. } => "making the terminal".into(),
        Op::ControllingTerminal => "taking the terminal as the controlling one".into(),
        Op::Sysctl { path, value } => {
            format!("writing {:?} to /proc/{}", String::from_utf8_lossy(value), path.to_string_lossy())
        }
        Op::WaitForStart => "waiting for \"orun start\"".into(),
    }
}

fn isolate_words(op: &IsolateOp) -> String {
    match op {
        IsolateOp::EnterNamespace { kind, .. } => {
            format!("entering the {} namespace", namespace_names(*kind as u64))
        }
        IsolateOp::EnterContainer { kinds } => {
            format!("entering the container's namespaces ({})", namespace_names(*kinds as u64))
        }
        IsolateOp::Unshare { kinds } => format!("making a new {} namespace", namespace_names(*kinds as u64)),
        IsolateOp::EnterTimeNamespace => "entering the new time namespace".into(),
        IsolateOp::BecomeRoot => "becoming user and group 0 of the user namespace".into(),
        IsolateOp::NotDumpable => "making the process non-dumpable".into(),
        IsolateOp::ExitOnSignals => "restoring the default action of SIGTERM, SIGINT and SIGHUP".into(),
        IsolateOp::ParentDeathSignal => "setting the parent death signal".into(),
        IsolateOp::JoinCgroups => "joining the container's cgroups".into(),
        IsolateOp::NewSession => "starting a new session".into(),
        IsolateOp::SessionKeyring { name, .. } => format!("joining the new session keyring {}", text(name)),
        IsolateOp::LoopbackUp => "bringing up the loopback interface".into(),
        IsolateOp::Hostname(n) => format!("setting the hostname to {:?}", String::from_utf8_lossy(n)),
        IsolateOp::Domainname(n) => format!("setting the domain name to {:?}", String::from_utf8_lossy(n)),
        IsolateOp::Affinity { .. } => "setting the CPU affinity".into(),
        IsolateOp::ResetAffinity { .. } => "allowing all CPUs".into(),
    }
}

fn root_words(op: &RootOp) -> String {
    match op {
        RootOp::Propagation { flags } => format!("making all mounts {}", propagation(*flags)),
        RootOp::PrivateParent { mountpoint } => format!("making the mount at {} private", text(mountpoint)),
        RootOp::OpenRoot { path, .. } => format!("mounting the root file system {}", text(path)),
        RootOp::Directory { path } => format!("making sure that the directory {} exists", inside(path)),
        RootOp::Symlink { target, path, .. } => format!("linking {} to {}", inside(path), text(target)),
        RootOp::Device(d) => match &d.bind {
            Some(host) => format!("binding the device {} on {}", text(host), inside(&d.path)),
            None => format!(
                "making the device {} ({}:{})",
                inside(&d.path),
                libc::major(d.rdev),
                libc::minor(d.rdev)
            ),
        },
        RootOp::Mask { path } => format!("masking {}", inside(path)),
        RootOp::Readonly { path } => format!("making {} read-only", inside(path)),
        RootOp::ReadonlyRoot => "making the root file system read-only".into(),
        RootOp::PivotRoot { .. } => "entering the root file system (pivot_root)".into(),
        RootOp::CoverMount { path } => format!("covering the host's mount at {}", text(path)),
        RootOp::MoveRoot => "entering the root file system (by moving its mount)".into(),
        RootOp::Chroot { path } => format!("changing the root directory to {}", text(path)),
        RootOp::RootPropagation { flags } => format!("making the root mount {}", propagation(*flags)),
    }
}

fn program_words(op: &ProgramOp) -> String {
    match op {
        ProgramOp::Label { files, text: label } => {
            format!("writing {:?} to /proc/{}", String::from_utf8_lossy(label), files[0].to_string_lossy())
        }
        ProgramOp::Limit(l) => l.words(),
        ProgramOp::NoNewPrivileges => "setting no_new_privs".into(),
        ProgramOp::Scheduler(a) => {
            format!("setting scheduling policy {} (nice {}, priority {})", a.policy, a.nice, a.priority)
        }
        ProgramOp::IoPriority(v) => format!("setting I/O class {} and priority {}", v >> 13, v & 0x1fff),
        ProgramOp::MemoryPolicy { mode, .. } => format!("setting the memory policy {mode:#x}"),
        ProgramOp::Personality(p) => format!("setting the execution domain {p:#x}"),
        ProgramOp::Seccomp { filter, notify, .. } => {
            let agent = if *notify { ", with a listener" } else { "" };
            format!("loading the seccomp filter ({} instructions{agent})", filter.len())
        }
        ProgramOp::DefaultSecurebits => "resetting the securebits of the caller".into(),
        ProgramOp::DropBounding { mask } => {
            format!("dropping {} capabilities from the bounding set", mask.count_ones())
        }
        ProgramOp::ChownStdio { uid } => format!("changing the owner of the standard streams to user {uid}"),
        ProgramOp::Credentials { uid, gid, groups, .. } => {
            let more = groups.as_ref().filter(|g| !g.is_empty()).map(|g| format!(" and groups {g:?}"));
            format!("becoming user {uid}, group {gid}{}", more.unwrap_or_default())
        }
        ProgramOp::Capabilities { permitted, .. } => {
            format!("setting capabilities: {}", capability_names(*permitted))
        }
        ProgramOp::Umask(m) => format!("setting the umask {m:04o}"),
        ProgramOp::WorkingDirectory { path, last: false } => {
            format!("changing to the working directory {}", text(path))
        }
        ProgramOp::WorkingDirectory { path, last: true } => {
            format!(
                "changing to the working directory {} as the container's user, if it was refused before",
                text(path)
            )
        }
        ProgramOp::Home { uid } => format!("looking up HOME of user {uid} in /etc/passwd of the container"),
        ProgramOp::FindProgram { candidates, .. } => {
            let all: Vec<_> = candidates.iter().map(|c| c.to_string_lossy()).collect();
            format!("looking for the program: {}", all.join(", "))
        }
        ProgramOp::CloseDescriptors { keep } => format!("closing all file descriptors from {} on", 3 + keep),
        ProgramOp::Execute => "running the program".into(),
    }
}

fn mount_words(m: &MountOp) -> String {
    let what = match &m.source {
        MountSource::Bind { path, recursive, .. } => {
            format!("bind-mounting {}{}", text(path), if *recursive { " and what is below it" } else { "" })
        }
        MountSource::Prepared { slot } => format!("attaching the prepared mount #{slot}"),
        MountSource::Late { slot } => format!("asking for the mount #{slot} and attaching it"),
        MountSource::Filesystem(Filesystem { kind, .. }) => format!("mounting {}", kind.to_string_lossy()),
    };
    format!("{what} on {}", inside(&m.target))
}

fn propagation(flags: u64) -> String {
    let name = [
        (libc::MS_PRIVATE, "private"),
        (libc::MS_SHARED, "shared"),
        (libc::MS_SLAVE, "slave"),
        (libc::MS_UNBINDABLE, "unbindable"),
    ]
    .into_iter()
    .find(|(f, _)| flags & f != 0)
    .map_or("unchanged", |(_, n)| n);
    if flags & libc::MS_REC != 0 { format!("{name}, recursively") } else { name.into() }
}

fn attributes(set: u64, clear: u64) -> String {
    let names = [
        (1u64, "read-only"),
        (2, "nosuid"),
        (4, "nodev"),
        (8, "noexec"),
        (0x10, "noatime"),
        (0x80, "nodiratime"),
    ];
    let list = |bits: u64| {
        let all: Vec<_> = names.iter().filter(|(b, _)| bits & b != 0).map(|(_, n)| *n).collect();
        all.join(" ")
    };
    match (list(set), list(clear & !set)) {
        (s, c) if c.is_empty() => s,
        (s, c) => format!("{s} not {c}").trim_start().to_owned(),
    }
}

/// The error for operation `op` of `plan` that failed in the child with `errno`.
pub fn failure(plan: &Plan, op: usize, errno: Errno, extra: i32, detail: &[u8]) -> Error {
    let program = plan.argv.strings().first().map_or(String::new(), |p| p.to_string_lossy().into_owned());
    of_step(&plan.steps, &program, op, errno, extra, detail)
}

/// As [`failure`], for a list of operations alone.
pub fn of_step(steps: &Steps, program: &str, index: usize, errno: Errno, extra: i32, detail: &[u8]) -> Error {
    let Some(op) = steps.ops.get(index) else {
        return Error::sys("setting up the container process", errno);
    };
    let extra = extra & 0xffff;
    let detail = String::from_utf8_lossy(detail).trim_end_matches(['\n', '\0']).to_owned();
    if let Some(own) = own_error(op, program, errno, extra, &detail) {
        return own;
    }
    let mut e = Error::sys(format!("{}{}", words(op), part(op, extra, &detail)), errno);
    if let Some(p) = steps.properties.get(index).filter(|p| !p.is_empty()) {
        e = e.property(p.as_str());
    }
    match hint(op, errno, extra) {
        Some(h) => e.hint(h),
        None => e,
    }
}

/// The error of an operation that has other words for its failure than for what it does.
fn own_error(op: &Op, program: &str, errno: Errno, extra: i32, detail: &str) -> Option<Error> {
    if let Op::Hook(h) = op {
        return Some(hook(h.kind, h.index, errno, extra, detail));
    }
    let Op::Program(op) = op else { return None };
    if let ProgramOp::WorkingDirectory { path, .. } = op
        && extra == OUTSIDE_ROOT
    {
        let what = format!(
            "current working directory {} is outside of the container mount namespace root",
            text(path)
        );
        let message = format!("{what} -- possible container breakout detected");
        return Some(Error::new(Kind::Config, message).property("process.cwd"));
    }
    if matches!(op, ProgramOp::FindProgram { .. }) {
        return Some(not_found(program, errno, extra));
    }
    matches!(op, ProgramOp::Execute).then(|| execute(program, errno))
}

/// Which part of a mount failed, and the kernel's own words.
fn part(op: &Op, extra: i32, detail: &str) -> String {
    let what = match op {
        Op::OpenOverlay { overlay, .. } => overlay_part(overlay, extra),
        Op::Mount(m) => MountPart::from_number(extra).map_or(String::new(), |part| mount_part(m, part)),
        Op::Remount { target, .. } => match MountPart::from_number(extra) {
            Some(MountPart::Target) => format!(": opening {}", inside(target)),
            Some(_) => ": setting the mount's attributes".into(),
            None => String::new(),
        },
        Op::Isolate(_)
        | Op::Root(_)
        | Op::Program(_)
        | Op::Sync(_)
        | Op::ContinueInside
        | Op::Console { .. } => String::new(),
        Op::Terminal { .. }
        | Op::ControllingTerminal
        | Op::Sysctl { .. }
        | Op::Hook(_)
        | Op::WaitForStart => String::new(),
    };
    // The kernel's messages begin with their severity: "e tmpfs: Bad value for 'size'".
    let words = detail.strip_prefix("e ").unwrap_or(detail);
    if words.is_empty() { what } else { format!("{what} ({words})") }
}

fn mount_part(m: &MountOp, part: MountPart) -> String {
    match part {
        MountPart::Source => match &m.source {
            MountSource::Bind { path, .. } => format!(": opening the source {}", text(path)),
            MountSource::Prepared { .. } | MountSource::Late { .. } | MountSource::Filesystem(_) => {
                ": opening the source".into()
            }
        },
        MountPart::Option => ": setting an option".into(),
        MountPart::Create => ": making the file system".into(),
        MountPart::Attributes => ": setting the mount's attributes".into(),
        MountPart::Target => format!(": opening or making the destination {}", inside(&m.target)),
        MountPart::Attach => ": attaching".into(),
        MountPart::CopyUp => ": copying the directory's content".into(),
        MountPart::InsideProc => format!(
            ": {} cannot be mounted because a symlink of the root file system leads inside /proc",
            inside(&m.target)
        ),
    }
}

/// Which part of an overlay failed: the number of a layer, from 1 on, or one of [`overlay`]'s.
fn overlay_part(o: &Overlay, extra: i32) -> String {
    let opening = |what: &str, path: Option<&CString>| {
        path.map_or(String::new(), |p| format!(": opening the {what} {}", text(p)))
    };
    match extra {
        0 => ": opening the mount point".into(),
        overlay::OPENING_UPPER => opening("upper directory", o.writable.as_ref().map(|w| &w.0)),
        overlay::OPENING_WORK => opening("work directory", o.writable.as_ref().map(|w| &w.1)),
        overlay::MAKING_TMPFS => ": making the tmpfs for changes".into(),
        overlay::MOUNTING => ": mounting".into(),
        n => opening("layer", o.layers.get((n - 1) as usize)),
    }
}

fn mount_hint(m: &MountOp, errno: Errno, part: MountPart) -> Option<&'static str> {
    const ONLY_ITS_KIND: &str = "a directory can only be mounted on a directory and a file on a file";
    match (part, errno.0) {
        (MountPart::Target, libc::ELOOP) if m.plain_destination => {
            Some("procfs and sysfs must be mounted on ordinary directory, not through a symlink")
        }
        (MountPart::Target, libc::ENOTDIR) if m.plain_destination => {
            Some("procfs and sysfs must be mounted on ordinary directory")
        }
        (MountPart::Target, libc::ENOTDIR) => Some(ONLY_ITS_KIND),
        (MountPart::Attach, libc::ENOTDIR | libc::EISDIR) => Some(ONLY_ITS_KIND),
        (MountPart::Source, libc::EPERM) if m.procfs_only => Some("only a procfs can be mounted on /proc"),
        (MountPart::Create, libc::ENODEV) => Some("the kernel does not know this type of file system"),
        _ => None,
    }
}

fn hint(op: &Op, errno: Errno, extra: i32) -> Option<&'static str> {
    match (op, errno.0) {
        (Op::Mount(m), _) => mount_hint(m, errno, MountPart::from_number(extra)?),
        (Op::OpenOverlay { .. }, libc::ENOTDIR) => Some("it must be a directory, not a symlink"),
        (Op::OpenOverlay { .. }, libc::EACCES) => Some(
            "every directory above it must be searchable for the container's root user, and changes go to a directory \
             that is this user's",
        ),
        (Op::OpenOverlay { .. }, libc::EINVAL) if extra == overlay::MOUNTING => Some(
            "the upper and the work directory must be on one file system that overlayfs can write to, and outside of \
             the layers (the kernel's log says more)",
        ),
        (Op::OpenOverlay { .. }, libc::EBUSY) if extra == overlay::MOUNTING => {
            Some("another container uses the upper or the work directory")
        }
        (Op::Terminal { .. }, libc::ENOENT | libc::ENODEV | libc::ENOTTY | libc::ENXIO) => Some(
            "the container has no file system for terminals: mount one of type devpts at /dev/pts, with the options \
             newinstance and ptmxmode=0666",
        ),
        (Op::Root(RootOp::OpenRoot { .. }), libc::EACCES) => Some(
            "every directory above the root file system must be searchable for the container's root user",
        ),
        (Op::Root(RootOp::OpenRoot { .. }), libc::ELOOP | libc::ENOTDIR) => {
            Some("root.path must be a directory, not a symlink")
        }
        (Op::Program(ProgramOp::Credentials { .. }) | Op::Isolate(IsolateOp::BecomeRoot), libc::EINVAL) => {
            Some("the id has no mapping in linux.uidMappings or linux.gidMappings")
        }
        // sched_setattr(2): the affinity of such a thread must hold all CPUs of its root domain.
        (Op::Program(ProgramOp::Scheduler(a)), libc::EPERM) if a.policy == libc::SCHED_DEADLINE as u32 => {
            Some("process scheduler can't be used together with AllowedCPUs (linux.resources.cpu.cpus)")
        }
        (Op::Program(ProgramOp::Limit(_)), libc::EPERM) => Some(RAISE_HINT),
        (Op::Program(ProgramOp::DropBounding { .. }), libc::EPERM) => Some(
            "without CAP_SETPCAP the program would keep capabilities that the configuration does not give",
        ),
        (Op::Program(ProgramOp::DefaultSecurebits), libc::EPERM) => Some(
            "the caller has locked them, or orun lacks CAP_SETPCAP; with them the program would have other capabilities \
             than the configuration says",
        ),
        (Op::Program(ProgramOp::Capabilities { .. }), libc::EPERM) => {
            Some("inheritable capabilities must also be in the bounding set (capabilities(7))")
        }
        (Op::Root(RootOp::PivotRoot { .. }), libc::EINVAL) => Some("on an initramfs, use --no-pivot"),
        (Op::Root(RootOp::Mask { .. }), libc::ENODEV) => {
            Some("neither the container nor the host has a null device (character device 1:3) at /dev/null")
        }
        (Op::Root(RootOp::Mask { .. }), libc::EBUSY) => {
            Some("the path leads to the root directory of the container")
        }
        (Op::Root(RootOp::Device(_)), libc::EEXIST) => Some("a file of another type exists there"),
        (Op::Sync(_), libc::EPIPE) => Some("orun itself was killed"),
        _ => None,
    }
}

/// Why a system call may be missing.
pub const HIDDEN: &str = "this kernel lacks a system call (orun needs Linux 5.12), or a seccomp filter, such as that of an \
                          outer container, blocks it";

/// Why a limit may be refused.
pub const RAISE_HINT: &str = "orun may not raise a hard limit above its own without CAP_SYS_RESOURCE";

impl Limit {
    /// The words for setting it, in errors.
    pub fn words(&self) -> String {
        format!("setting {} to soft {} hard {}", self.name, self.soft, self.hard)
    }
}

/// runc's words: engines read the exit code that they report from them.
fn not_found(program: &str, errno: Errno, searched: i32) -> Error {
    let message = if searched == NOT_IN_PATH {
        format!("exec: {program:?}: executable file not found in $PATH")
    } else if errno.0 == libc::ENOENT || errno.0 == libc::ENOTDIR {
        format!("exec: {program:?}: stat {program}: {errno}")
    } else if errno.0 == libc::EISDIR {
        // The message of execve(2) for a directory, which all engines know.
        format!("exec: {program:?}: {errno}: {}", Errno(libc::EACCES))
    } else {
        format!("exec: {program:?}: {errno}")
    };
    Error::new(Kind::Program, message).property("process.args")
}

/// The error of a program that execve(2) refused.
pub fn execute(program: &str, errno: Errno) -> Error {
    let e = Error::sys(format!("exec {program}"), errno).kind_is(Kind::Program);
    match errno.0 {
        libc::ENOEXEC => e.hint("the file is not a program for this machine, or a script without a #! line"),
        libc::ENOENT => {
            e.hint("the program's interpreter (the dynamic loader, or the one of its #! line) is missing")
        }
        _ => e,
    }
}

/// The exit of a process, in the words of strsignal(3) for those signals that show what went wrong.
fn signal_words(signal: i32) -> String {
    let words = match signal {
        libc::SIGSYS => ": bad system call",
        libc::SIGKILL => ": killed",
        libc::SIGSEGV => ": segmentation fault",
        libc::SIGBUS => ": bus error",
        libc::SIGILL => ": illegal instruction",
        libc::SIGABRT => ": aborted",
        libc::SIGTERM => ": terminated",
        _ => "",
    };
    format!("signal {signal}{words}")
}

/// The error of a hook that failed: `errno` when it could not be run or timed out, else its exit status.
pub fn hook(kind: &str, index: usize, errno: Errno, status: i32, output: &str) -> Error {
    let why = match errno.0 {
        0 if status > 128 => signal_words(status - 128),
        0 => format!("exit status {status}"),
        libc::ETIME => "timed out and was killed".to_owned(),
        _ => errno.to_string(),
    };
    let output = if output.is_empty() { String::new() } else { format!(", output: {output:?}") };
    let e = Error::new(Kind::Hook, format!("error running {kind} hook #{index}: {why}{output}"))
        .property(format!("hooks.{kind}[{index}]"));
    if errno.0 == libc::ENOSYS { e.hint(HIDDEN) } else { e }
}
