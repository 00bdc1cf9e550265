//! Operations in words: for `orun plan`, and for the error when one fails.

use super::compile::Plan;
use super::op::{Filesystem, Limit, MountOp, MountSource, Op, Point};
use super::overlay::{self, Overlay};
use super::step::Steps;
use super::tables::{capabilities, namespaces::Kind};
use crate::error::{Errno, Error, Kind as Class};
use std::ffi::{CStr, CString};

fn text(c: &CStr) -> String {
    format!("{:?}", c.to_string_lossy())
}

fn inside(c: &CStr) -> String {
    format!("\"/{}\"", c.to_string_lossy())
}

/// Names of namespaces for `CLONE_NEW*` flags.
pub fn namespace_names(flags: u64) -> String {
    let names: Vec<_> = Kind::ALL.iter().filter(|k| flags & k.clone_flag() != 0).map(|k| k.name()).collect();
    names.join(", ")
}

fn capability_names(mask: u64) -> String {
    let names: Vec<_> = (0..64).filter(|n| mask >> n & 1 == 1).filter_map(capabilities::name).collect();
    if names.is_empty() { "none".into() } else { names.join(" ") }
}

/// What an operation does, as a phrase that fits behind "failed:" and in a list: "mounting tmpfs on "/dev"".
pub fn words(op: &Op) -> String {
    match op {
        Op::Sync(Point::Namespaces) => "waiting for the id mappings, time offsets and network devices".into(),
        Op::Sync(Point::Cgroup) => "waiting to be moved into the cgroup".into(),
        Op::Sync(Point::RuntimeHooks) => "waiting for the prestart and createRuntime hooks".into(),
        Op::Sync(Point::Ready) => "waiting for limits to be set and the state to be recorded".into(),
        Op::EnterNamespace { kind, .. } => {
            format!("entering the {} namespace", namespace_names(*kind as u64))
        }
        Op::EnterContainer { kinds } => {
            format!("entering the container's namespaces ({})", namespace_names(*kinds as u64))
        }
        Op::Unshare { kinds } => format!("making a new {} namespace", namespace_names(*kinds as u64)),
        Op::EnterTimeNamespace => "entering the new time namespace".into(),
        Op::BecomeRoot => "becoming user and group 0 of the user namespace".into(),
        Op::NotDumpable => "making the process non-dumpable".into(),
        Op::EndAtSignals => "preparing to end at SIGTERM, SIGINT and SIGHUP".into(),
        Op::EndWithCreator => "preparing to end with the process that creates the container".into(),
        Op::JoinCgroups => "joining the container's cgroups".into(),
        Op::NewSession => "starting a new session".into(),
        Op::ContinueInside => "continuing as a new process inside the pid namespace".into(),
        Op::SessionKeyring { name, .. } => format!("joining the new session keyring {}", text(name)),
        Op::LoopbackUp => "bringing up the loopback interface".into(),
        Op::Hostname(n) => format!("setting the hostname to {:?}", String::from_utf8_lossy(n)),
        Op::Domainname(n) => format!("setting the domain name to {:?}", String::from_utf8_lossy(n)),
        Op::Affinity { .. } => "choosing the CPUs".into(),
        Op::ResetAffinity { .. } => "allowing all CPUs".into(),
        Op::Hook(h) => format!("running the {} hook #{} {}", h.kind, h.index, text(&h.path)),
        _ => root_words(op).unwrap_or_else(|| process_words(op)),
    }
}

fn root_words(op: &Op) -> Option<String> {
    Some(match op {
        Op::Propagation { flags } => format!("making all mounts {}", propagation(*flags)),
        Op::PrivateParent { mountpoint } => format!("making the mount at {} private", text(mountpoint)),
        Op::OpenRoot { path, .. } => format!("mounting the root file system {}", text(path)),
        Op::OpenOverlay { path, overlay, .. } => {
            format!("mounting the root file system on {} as an overlay: {}", text(path), overlay.words())
        }
        Op::Mount(m) => mount_words(m),
        Op::Remount { target, changes, .. } => {
            let (set, clear) = changes.iter().fold((0, 0), |(s, c), (a, _)| (s | a.set, c | a.clear));
            format!("changing the mount at {}: {}", inside(target), attributes(set, clear))
        }
        Op::Directory { path } => format!("making sure that the directory {} exists", inside(path)),
        Op::Symlink { target, path, .. } => format!("linking {} to {}", inside(path), text(target)),
        Op::Device(d) => match &d.bind {
            Some(host) => format!("binding the device {} on {}", text(host), inside(&d.path)),
            None => format!(
                "making the device {} ({}:{})",
                inside(&d.path),
                libc::major(d.rdev),
                libc::minor(d.rdev)
            ),
        },
        Op::Console { .. } => "making the terminal and /dev/console".into(),
        Op::Terminal { .. } => "making the terminal".into(),
        Op::ControllingTerminal => "taking the terminal as the controlling one".into(),
        Op::Sysctl { path, value } => {
            format!("writing {:?} to /proc/{}", String::from_utf8_lossy(value), path.to_string_lossy())
        }
        Op::Mask { path } => format!("masking {}", inside(path)),
        Op::Readonly { path } => format!("making {} read-only", inside(path)),
        Op::ReadonlyRoot => "making the root file system read-only".into(),
        Op::PivotRoot { .. } => "entering the root file system (pivot_root)".into(),
        Op::CoverMount { path } => format!("covering the host's mount at {}", text(path)),
        Op::MoveRoot => "entering the root file system (by moving its mount)".into(),
        Op::Chroot { path } => format!("changing the root directory to {}", text(path)),
        Op::RootPropagation { flags } => format!("making the root mount {}", propagation(*flags)),
        _ => return None,
    })
}

fn process_words(op: &Op) -> String {
    match op {
        Op::Label { files, text: label } => {
            format!("writing {:?} to /proc/{}", String::from_utf8_lossy(label), files[0].to_string_lossy())
        }
        Op::Limit(l) => l.words(),
        Op::NoNewPrivileges => "setting no_new_privs".into(),
        Op::Scheduler(a) => {
            format!("setting scheduling policy {} (nice {}, priority {})", a.policy, a.nice, a.priority)
        }
        Op::IoPriority(v) => format!("setting I/O class {} and priority {}", v >> 13, v & 0x1fff),
        Op::MemoryPolicy { mode, .. } => format!("setting the memory policy {mode:#x}"),
        Op::Personality(p) => format!("setting the execution domain {p:#x}"),
        Op::Seccomp { filter, notify, .. } => {
            let agent = if *notify { ", with a listener" } else { "" };
            format!("loading the seccomp filter ({} instructions{agent})", filter.len())
        }
        Op::DefaultSecurebits => "resetting the securebits of the caller".into(),
        Op::DropBounding { mask } => {
            format!("dropping {} capabilities from the bounding set", mask.count_ones())
        }
        Op::OwnStreams { uid } => format!("giving the standard streams to user {uid}"),
        Op::Ids { uid, gid, groups, .. } => {
            let more = groups.as_ref().filter(|g| !g.is_empty()).map(|g| format!(" and groups {g:?}"));
            format!("becoming user {uid}, group {gid}{}", more.unwrap_or_default())
        }
        Op::Capabilities { permitted, .. } => {
            format!("setting capabilities: {}", capability_names(*permitted))
        }
        Op::Umask(m) => format!("setting the umask {m:04o}"),
        Op::WorkingDirectory { path, last: false } => {
            format!("changing to the working directory {}", text(path))
        }
        Op::WorkingDirectory { path, last: true } => {
            format!(
                "changing to the working directory {} as the container's user, if it was refused before",
                text(path)
            )
        }
        Op::Home { uid } => format!("looking up HOME of user {uid} in /etc/passwd of the container"),
        Op::FindProgram { candidates, .. } => {
            let all: Vec<_> = candidates.iter().map(|c| c.to_string_lossy()).collect();
            format!("looking for the program: {}", all.join(", "))
        }
        Op::CloseDescriptors { keep } => format!("closing all file descriptors from {} on", 3 + keep),
        Op::WaitForStart => "waiting for \"orun start\"".into(),
        Op::Execute => "running the program".into(),
        other => format!("{other:?}"),
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
    match op {
        Op::FindProgram { .. } => not_found(program, errno, extra),
        Op::Execute => execute(program, errno),
        Op::Hook(h) => hook(h.kind, h.index, errno, extra, &detail),
        Op::WorkingDirectory { path, .. } if extra == 1 => Error::new(
            Class::Config,
            format!("current working directory {} is outside of the container mount namespace root -- possible container breakout detected", text(path)),
        )
        .property("process.cwd"),
        _ => {
            let mut e = Error::sys(format!("{}{}", words(op), part(op, extra, &detail)), errno);
            if let Some(p) = steps.properties.get(index).filter(|p| !p.is_empty()) {
                e = e.property(p.as_str());
            }
            match hint(op, errno, extra) {
                Some(h) => e.hint(h),
                None => e,
            }
        }
    }
}

/// Which part of a mount failed (the numbers are the child's), and the kernel's own words.
fn part(op: &Op, extra: i32, detail: &str) -> String {
    let what = match (op, extra) {
        (Op::Mount(m), 1) => match &m.source {
            MountSource::Bind { path, .. } => format!(": opening the source {}", text(path)),
            _ => ": opening the source".into(),
        },
        (Op::OpenOverlay { overlay, .. }, n) => overlay_part(overlay, n),
        (Op::Mount(_), 2) => ": setting an option".into(),
        (Op::Mount(_), 3) => ": making the file system".into(),
        (Op::Mount(_) | Op::Remount { .. }, 4) => ": setting the mount's attributes".into(),
        (Op::Mount(m), 5) => format!(": opening or making the destination {}", inside(&m.target)),
        (Op::Mount(_), 6) => ": attaching".into(),
        (Op::Mount(_), 7) => ": copying the directory's content".into(),
        (Op::Mount(m), 8) => format!(
            ": {} cannot be mounted because a symlink of the root file system leads inside /proc",
            inside(&m.target)
        ),
        _ => String::new(),
    };
    // The kernel's messages begin with their severity: "e tmpfs: Bad value for 'size'".
    let words = detail.strip_prefix("e ").unwrap_or(detail);
    if words.is_empty() { what } else { format!("{what} ({words})") }
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

fn hint(op: &Op, errno: Errno, extra: i32) -> Option<&'static str> {
    match (op, errno.0) {
        (Op::Mount(m), libc::ELOOP) if extra == 5 && m.plain_destination => {
            Some("procfs and sysfs must be mounted on ordinary directory, not through a symlink")
        }
        (Op::Mount(m), libc::ENOTDIR) if extra == 5 && m.plain_destination => {
            Some("procfs and sysfs must be mounted on ordinary directory")
        }
        (Op::Mount(_), libc::ENOTDIR) if extra == 5 => {
            Some("a directory can only be mounted on a directory and a file on a file")
        }
        (Op::Mount(_), libc::ENOTDIR | libc::EISDIR) if extra == 6 => {
            Some("a directory can only be mounted on a directory and a file on a file")
        }
        (Op::Mount(m), libc::EPERM) if extra == 1 && m.procfs_only => {
            Some("only a procfs can be mounted on /proc")
        }
        (Op::Mount(_), libc::ENODEV) if extra == 3 => {
            Some("the kernel does not know this type of file system")
        }
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
        (Op::OpenRoot { .. }, libc::EACCES) => Some(
            "every directory above the root file system must be searchable for the container's root user",
        ),
        (Op::OpenRoot { .. }, libc::ELOOP | libc::ENOTDIR) => {
            Some("root.path must be a directory, not a symlink")
        }
        (Op::Ids { .. } | Op::BecomeRoot, libc::EINVAL) => {
            Some("the id has no mapping in linux.uidMappings or linux.gidMappings")
        }
        // sched_setattr(2): the affinity of such a thread must hold all CPUs of its root domain.
        (Op::Scheduler(a), libc::EPERM) if a.policy == libc::SCHED_DEADLINE as u32 => {
            Some("process scheduler can't be used together with AllowedCPUs (linux.resources.cpu.cpus)")
        }
        (Op::Limit(_), libc::EPERM) => Some(RAISE_HINT),
        (Op::DropBounding { .. }, libc::EPERM) => Some(
            "without CAP_SETPCAP the program would keep capabilities that the configuration does not give",
        ),
        (Op::DefaultSecurebits, libc::EPERM) => Some(
            "the caller has locked them, or orun lacks CAP_SETPCAP; with them the program would have other capabilities \
             than the configuration says",
        ),
        (Op::Capabilities { .. }, libc::EPERM) => {
            Some("what is inheritable must be in the bounding set, too (capabilities(7))")
        }
        (Op::PivotRoot { .. }, libc::EINVAL) => Some("on an initramfs, use --no-pivot"),
        (Op::Mask { .. }, libc::ENODEV) => {
            Some("neither the container nor the host has a null device (character device 1:3) at /dev/null")
        }
        (Op::Mask { .. }, libc::EBUSY) => Some("the path leads to the root directory of the container"),
        (Op::Device(_), libc::EEXIST) => Some("there is a file of another kind"),
        (Op::Sync(_), libc::EPIPE) => Some("orun itself was killed"),
        _ => None,
    }
}

/// Why a system call may be missing.
pub const HIDDEN: &str = "this kernel lacks a system call (orun needs Linux 5.12), or a seccomp filter around orun hides it, \
                          as that of an outer container may";

/// Why a limit may be refused.
pub const RAISE_HINT: &str = "orun may not raise a hard limit above its own without CAP_SYS_RESOURCE";

impl Limit {
    /// What setting it is called in errors.
    pub fn words(&self) -> String {
        format!("setting {} to soft {} hard {}", self.name, self.soft, self.hard)
    }
}

/// runc's words: engines read the exit code that they report from them.
fn not_found(program: &str, errno: Errno, searched: i32) -> Error {
    let message = if searched == 1 {
        format!("exec: {program:?}: executable file not found in $PATH")
    } else if errno.0 == libc::ENOENT || errno.0 == libc::ENOTDIR {
        format!("exec: {program:?}: stat {program}: {errno}")
    } else if errno.0 == libc::EISDIR {
        // What execve(2) says of a directory, and what all engines know.
        format!("exec: {program:?}: {errno}: {}", Errno(libc::EACCES))
    } else {
        format!("exec: {program:?}: {errno}")
    };
    Error::new(Class::Program, message).property("process.args")
}

/// The error of a program that execve(2) refused.
pub fn execute(program: &str, errno: Errno) -> Error {
    let e = Error::sys(format!("exec {program}"), errno).kind_is(Class::Program);
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
    let e = Error::new(Class::Hook, format!("error running {kind} hook #{index}: {why}{output}"))
        .property(format!("hooks.{kind}[{index}]"));
    if errno.0 == libc::ENOSYS { e.hint(HIDDEN) } else { e }
}
