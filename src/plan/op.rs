//! The operations that a plan is made of, each with its inputs already in the form the kernel takes.

use super::overlay::Overlay;
use crate::sys::exec::StringArray;
use crate::sys::mount::MountAttr;
use crate::sys::prctl::SockFilter;
use crate::sys::sched::SchedAttr;
use std::ffi::CString;

/// A point where the child waits until the parent has done its part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Point {
    /// The namespaces exist: the parent writes the id mappings and the time offsets and moves network devices.
    Namespaces = 1,
    /// The root is set up and not entered: the parent runs the prestart and createRuntime hooks.
    RuntimeHooks = 2,
    /// Everything is done except to run the program: the parent sets limits and records the state.
    Ready = 3,
    /// Nothing is done yet: the parent has the process moved into its cgroup.
    Cgroup = 4,
}

/// What the child does between `clone3` and `execve`, in order.
#[derive(Debug, Clone, PartialEq)]
pub enum Op {
    /// Take the process out of the host's namespaces.
    Isolate(IsolateOp),
    /// Make, fill or enter the root file system.
    Root(RootOp),
    /// Become the container's program.
    Program(ProgramOp),
    /// Notify the parent and wait for its answer.
    Sync(Point),
    /// Continue as a new process in the pid namespace that was entered: setns(2) takes only children into one. The
    /// processes in there see this one from now on, so that it must hold nothing of the host.
    ContinueInside,
    /// Mount an overlay of layers on the directory `path` and open it as the root file system.
    OpenOverlay {
        path: CString,
        overlay: Box<Overlay>,
        private: bool,
    },
    Mount(Box<MountOp>),
    /// Change the attributes of the mount at `target`, or of the one that was held when it was made.
    Remount {
        target: CString,
        held: Option<Hold>,
        /// The flag says whether the mounts below change too.
        changes: Vec<(MountAttr, bool)>,
    },
    /// Make a pseudo-terminal in the container, send its master away, and put it on 0, 1, 2 and /dev/console.
    /// [`Op::ControllingTerminal`] follows.
    Console {
        uid: u32,
        size: Option<(u16, u16)>,
    },
    /// Make a pseudo-terminal in the container that is entered already (exec), and put it on 0, 1 and 2.
    /// [`Op::ControllingTerminal`] follows.
    Terminal {
        uid: u32,
        size: Option<(u16, u16)>,
    },
    /// Make the terminal on descriptor 0 the controlling one of the session.
    ControllingTerminal,
    Sysctl {
        path: CString,
        value: Vec<u8>,
    },
    /// Run a hook in the container.
    Hook(Box<HookOp>),
    /// Wait until `orun start` connects.
    WaitForStart,
}

/// What takes the process out of the host: its namespaces, cgroups, session, names and processors.
#[derive(Debug, Clone, PartialEq)]
pub enum IsolateOp {
    /// Enter the namespaces that the configuration names by path, in this order; `kind` is a `CLONE_NEW*`.
    EnterNamespace {
        slot: usize,
        kind: i32,
    },
    /// Enter all these namespaces (`CLONE_NEW*`) of the container's first process. Of a pid namespace it is for
    /// children: see [`Op::ContinueInside`].
    EnterContainer {
        kinds: i32,
    },
    /// Move into new namespaces.
    Unshare {
        kinds: i32,
    },
    /// Move into the time namespace that was made for children, once it has its offsets.
    EnterTimeNamespace,
    /// Become user and group 0 of the user namespace.
    BecomeRoot,
    /// Forbid tracing until the program runs.
    NotDumpable,
    /// End at the signals that ask for it, until the program runs: the first process of a pid namespace gets none
    /// that it does not handle (pid_namespaces(7)), and a created container should exit when asked to.
    ExitOnSignals,
    /// End when the process that creates the container ends, until it has done its part: who finds that process
    /// killed unmounts and removes the root file system, and nothing may be created there afterwards.
    ParentDeathSignal,
    /// Write itself into the container's cgroups.
    JoinCgroups,
    /// Become leader of a new session.
    NewSession,
    /// Join a new session keyring.
    SessionKeyring {
        name: CString,
        label: Vec<u8>,
    },
    /// Bring the loopback interface up.
    LoopbackUp,
    Hostname(Vec<u8>),
    Domainname(Vec<u8>),
    /// Run on these CPUs.
    Affinity {
        mask: Vec<u64>,
    },
    /// Allow every CPU again, whatever the caller of orun was bound to.
    ResetAffinity {
        mask: Vec<u64>,
    },
}

/// What makes the root file system, fills and seals it, and enters it.
#[derive(Debug, Clone, PartialEq)]
pub enum RootOp {
    /// Propagation (`MS_*`) of every mount of the new mount namespace.
    Propagation { flags: u64 },
    /// Make the mount that the root lies on private, so that nothing done below reaches the host.
    PrivateParent { mountpoint: CString },
    /// Make the root file system a mount of its own and open it.
    /// `private`: nothing mounted on the host below it later shows up inside.
    OpenRoot { path: CString, private: bool },
    /// Make a directory, with those above it, when it is missing.
    Directory { path: CString },
    /// Make a symlink where nothing is.
    Symlink { target: CString, path: CString, replace: bool },
    /// Make a device node.
    Device(Box<DeviceOp>),
    /// Make a path unreadable.
    Mask { path: CString },
    /// Make a path, with the mounts below it, read-only.
    Readonly { path: CString },
    /// Make the root mount read-only.
    ReadonlyRoot,
    /// Cover a mount of the host, so that nothing of it shows in the container's mount namespace.
    CoverMount { path: CString },
    /// Make the opened root the root of the mount namespace and let the old one go. `shared`: the old one's mounts
    /// are those of the host, which must not see them go.
    PivotRoot { shared: bool },
    /// The same without pivot_root(2), which an initramfs refuses.
    MoveRoot,
    /// Only change the root directory.
    Chroot { path: CString },
    /// Propagation (`MS_*`) of the new root.
    RootPropagation { flags: u64 },
}

/// What turns a process of the runtime into the container's program.
#[derive(Debug, Clone, PartialEq)]
pub enum ProgramOp {
    /// Write an LSM label to the first of `files` (below /proc) that there is.
    Label {
        files: Vec<CString>,
        text: Vec<u8>,
    },
    NoNewPrivileges,
    Limit(Limit),
    Scheduler(SchedAttr),
    /// ioprio_set(2)'s value.
    IoPriority(i32),
    MemoryPolicy {
        mode: i32,
        nodes: Vec<u64>,
    },
    Personality(u32),
    /// Load the system call filter.
    Seccomp {
        filter: Vec<SockFilter>,
        flags: u32,
        notify: bool,
    },
    /// Have capabilities follow the user id as they do by default, whatever the caller has set (`SECBIT_*`).
    DefaultSecurebits,
    /// Take these capabilities (bits) out of the bounding set.
    DropBounding {
        mask: u64,
    },
    /// Give the user the pipes, sockets and writable files among the standard streams.
    ChownStdio {
        uid: u32,
    },
    /// Set groups (unless absent), group id and user id.
    Credentials {
        uid: u32,
        gid: u32,
        groups: Option<Vec<u32>>,
        keep_capabilities: bool,
    },
    /// Set the thread's capability sets (bits).
    Capabilities {
        effective: u64,
        permitted: u64,
        inheritable: u64,
        ambient: u64,
    },
    Umask(u32),
    /// Change to the working directory; `last` means that a refusal is final.
    WorkingDirectory {
        path: CString,
        last: bool,
    },
    /// Set HOME from the container's /etc/passwd.
    Home {
        uid: u32,
    },
    /// Find the program among these paths; `searched` says that they come from PATH.
    FindProgram {
        candidates: Vec<CString>,
        searched: bool,
    },
    /// Close every descriptor but 0 to 2 and those that were asked for.
    CloseDescriptors {
        keep: u32,
    },
    /// Run the program.
    Execute,
}

/// Where a mount comes from.
#[derive(Debug, Clone, PartialEq)]
pub enum MountSource {
    /// A copy of a mount: bind, with those below it when `recursive`.
    Bind { path: CString, recursive: bool, nofollow: bool },
    /// A mount that the parent has opened and prepared.
    Prepared { slot: usize },
    /// A mount that the parent opens and prepares now, in the container's mount namespace.
    Late { slot: usize },
    /// A new file system.
    Filesystem(Filesystem),
}

/// A file system to configure with fsconfig(2).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Filesystem {
    pub kind: CString,
    /// What mount(2) takes: source, `MS_*` flags, and the parameters in one text.
    pub source: CString,
    pub flags: u64,
    pub data: CString,
    pub parameters: Vec<(CString, Option<CString>)>,
    /// `MOUNT_ATTR_*` for fsmount(2).
    pub attributes: u32,
    /// Give its root the mode of the directory it covers.
    pub inherit_mode: bool,
    /// Copy what the directory holds into it first.
    pub copy_up: bool,
}

/// A mount.
#[derive(Debug, Clone, PartialEq)]
pub struct MountOp {
    pub source: MountSource,
    /// Below the root, without a leading slash.
    pub target: CString,
    /// Changes of the detached mount before it is attached; the flag says whether those below it change too.
    pub changes: Vec<(MountAttr, bool)>,
    /// Only a procfs may come here.
    pub procfs_only: bool,
    /// The destination must be a directory that no symlink leads to.
    pub plain_destination: bool,
    /// The source is known to be a directory.
    pub directory: bool,
    /// A later [`Op::Remount`] changes this mount.
    pub hold: Option<Hold>,
}

/// Which part of an [`Op::Mount`] or [`Op::Remount`] failed; the child sends the number with the errno.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub enum MountPart {
    /// Opening the source.
    Source = 1,
    /// Setting an option of a file system.
    Option = 2,
    /// Making the file system.
    Create = 3,
    /// Setting the attributes of the mount.
    Attributes = 4,
    /// Opening or making the destination.
    Target = 5,
    /// Attaching the mount.
    Attach = 6,
    /// Copying what the destination holds.
    CopyUp = 7,
    /// The destination lies inside /proc.
    InsideProc = 8,
}

impl MountPart {
    const ALL: [MountPart; 8] = [
        MountPart::Source,
        MountPart::Option,
        MountPart::Create,
        MountPart::Attributes,
        MountPart::Target,
        MountPart::Attach,
        MountPart::CopyUp,
        MountPart::InsideProc,
    ];

    /// The part with this number.
    pub fn from_number(number: i32) -> Option<MountPart> {
        MountPart::ALL.into_iter().find(|part| *part as i32 == number)
    }
}

/// The number that the child sends with the errno of a [`ProgramOp::WorkingDirectory`] outside of the root.
pub const OUTSIDE_ROOT: i32 = 1;

/// The number that the child sends with the errno of a [`ProgramOp::FindProgram`] that is in no directory of PATH.
pub const NOT_IN_PATH: i32 = 1;

/// A mount that stays open until it is changed: its path may lead elsewhere by then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// `/dev`, which becomes read-only when the devices are made.
    Devices = 0,
    /// The directory of the cgroup hierarchies.
    Cgroups = 1,
}

/// A device node.
#[derive(Debug, Clone, PartialEq)]
pub struct DeviceOp {
    /// Below the root, without a leading slash.
    pub path: CString,
    /// Type and permissions (inode(7)).
    pub mode: u32,
    pub rdev: u64,
    pub uid: u32,
    pub gid: u32,
    /// Bind this node of the host instead: a user namespace may not make device nodes.
    pub bind: Option<CString>,
}

/// A hook that runs in the container.
#[derive(Debug, Clone, PartialEq)]
pub struct HookOp {
    /// `createContainer` or `startContainer`.
    pub kind: &'static str,
    pub index: usize,
    pub path: CString,
    pub args: StringArray,
    /// None: that of the program.
    pub env: Option<StringArray>,
    /// Starts in the root directory of the container, which is not entered yet.
    pub at_root: bool,
    /// Milliseconds.
    pub timeout: u32,
    /// The state document for its standard input, before and behind the pid.
    pub state: (Vec<u8>, Vec<u8>),
}

/// A resource limit in the kernel's numbers (prlimit(2)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limit {
    /// `RLIMIT_NOFILE` and so on.
    pub name: &'static str,
    pub resource: u32,
    pub soft: u64,
    pub hard: u64,
    pub property: String,
}
