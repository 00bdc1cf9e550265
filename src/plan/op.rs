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

/// The operations of the child between `clone3` and `execve`, in order.
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
        /// Absolute path of an existing directory.
        path: CString,
        /// The layers and options.
        overlay: Box<Overlay>,
        /// The mounts of the host below the directory stay out.
        private: bool,
    },
    /// Make a mount.
    Mount(Box<MountOp>),
    /// Change the attributes of the mount at `target`, or of the one that was held when it was made.
    Remount {
        /// Below the root, without a leading slash.
        target: CString,
        /// The mount that an [`Op::Mount`] holds open.
        held: Option<Hold>,
        /// The flag says whether the mounts below change too.
        changes: Vec<(MountAttr, bool)>,
    },
    /// Make a pseudo-terminal in the container, send its master away, and put it on 0, 1, 2 and /dev/console.
    /// [`Op::ControllingTerminal`] follows.
    Console {
        /// Owner of the terminal.
        uid: u32,
        /// Rows and columns.
        size: Option<(u16, u16)>,
    },
    /// Make a pseudo-terminal in the container that is entered already (exec), and put it on 0, 1 and 2.
    /// [`Op::ControllingTerminal`] follows.
    Terminal {
        /// Owner of the terminal.
        uid: u32,
        /// Rows and columns.
        size: Option<(u16, u16)>,
    },
    /// Make the terminal on descriptor 0 the controlling one of the session.
    ControllingTerminal,
    /// Write a kernel parameter.
    Sysctl {
        /// Path in /proc, without a leading slash.
        path: CString,
        /// Content of the file.
        value: Vec<u8>,
    },
    /// Run a hook in the container.
    Hook(Box<HookOp>),
    /// Wait until `orun start` connects.
    WaitForStart,
}

/// Operations that separate the process from the host: namespaces, cgroups, session, names and processors.
#[derive(Debug, Clone, PartialEq)]
pub enum IsolateOp {
    /// Enter the namespaces that the configuration names by path, in this order; `kind` is a `CLONE_NEW*`.
    EnterNamespace {
        /// Index of the descriptor of the namespace, among those that the parent opened.
        slot: usize,
        /// `CLONE_NEW*`.
        kind: i32,
    },
    /// Enter all these namespaces (`CLONE_NEW*`) of the container's first process. Of a pid namespace it is for
    /// children: see [`Op::ContinueInside`].
    EnterContainer {
        /// A combination of `CLONE_NEW*`.
        kinds: i32,
    },
    /// Move into new namespaces.
    Unshare {
        /// A combination of `CLONE_NEW*`.
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
        /// The key's description.
        name: CString,
        /// SELinux label of the key; empty: none.
        label: Vec<u8>,
    },
    /// Bring the loopback interface up.
    LoopbackUp,
    /// Set the host name.
    Hostname(Vec<u8>),
    /// Set the NIS domain name.
    Domainname(Vec<u8>),
    /// Run on these CPUs.
    Affinity {
        /// Bits by CPU number, as in sched_setaffinity(2).
        mask: Vec<u64>,
    },
    /// Allow every CPU again, whatever the caller of orun was bound to.
    ResetAffinity {
        /// Bits by CPU number, as in sched_setaffinity(2).
        mask: Vec<u64>,
    },
}

/// Operations that create, fill, seal and enter the root file system.
#[derive(Debug, Clone, PartialEq)]
pub enum RootOp {
    /// Propagation (`MS_*`) of every mount of the new mount namespace.
    Propagation {
        /// `MS_*`.
        flags: u64,
    },
    /// Make the mount that the root lies on private, so that nothing done below reaches the host.
    PrivateParent {
        /// Mount point on the host.
        mountpoint: CString,
    },
    /// Make the root file system a mount of its own and open it.
    /// `private`: nothing mounted on the host below it later shows up inside.
    OpenRoot {
        /// Absolute path on the host.
        path: CString,
        /// Keep out what the host mounts below it.
        private: bool,
    },
    /// Make a directory, with those above it, when it is missing.
    Directory {
        /// Below the root, without a leading slash.
        path: CString,
    },
    /// Make a symlink where nothing is.
    Symlink {
        /// Target of the link.
        target: CString,
        /// Where it is made, below the root, without a leading slash.
        path: CString,
        /// Replace a file that exists.
        replace: bool,
    },
    /// Make a device node.
    Device(Box<DeviceOp>),
    /// Make a path unreadable.
    Mask {
        /// Below the root, without a leading slash.
        path: CString,
    },
    /// Make a path, with the mounts below it, read-only.
    Readonly {
        /// Below the root, without a leading slash.
        path: CString,
    },
    /// Make the root mount read-only.
    ReadonlyRoot,
    /// Cover a mount of the host, so that nothing of it shows in the container's mount namespace.
    CoverMount {
        /// Absolute path on the host.
        path: CString,
    },
    /// Make the opened root the root of the mount namespace and let the old one go. `shared`: the old one's mounts
    /// are those of the host, which must not see them go.
    PivotRoot {
        /// The old root's mounts are those of the host.
        shared: bool,
    },
    /// The same without pivot_root(2), which an initramfs refuses.
    MoveRoot,
    /// Only change the root directory.
    Chroot {
        /// Absolute path on the host.
        path: CString,
    },
    /// Propagation (`MS_*`) of the new root.
    RootPropagation {
        /// `MS_*`.
        flags: u64,
    },
}

/// Operations that turn a process of the runtime into the container's program.
#[derive(Debug, Clone, PartialEq)]
pub enum ProgramOp {
    /// Write an LSM label to the first of `files` (below /proc) that there is.
    Label {
        /// Below /proc, in the order of preference.
        files: Vec<CString>,
        /// The label as the module expects it.
        text: Vec<u8>,
    },
    /// Set no_new_privs (prctl(2)).
    NoNewPrivileges,
    /// Set a resource limit.
    Limit(Limit),
    /// Set policy and parameters of the scheduler.
    Scheduler(SchedAttr),
    /// ioprio_set(2)'s value.
    IoPriority(i32),
    /// Set the memory policy.
    MemoryPolicy {
        /// `MPOL_*` with `MPOL_F_*` (set_mempolicy(2)).
        mode: i32,
        /// Bits by node number.
        nodes: Vec<u64>,
    },
    /// Set the execution domain (personality(2)).
    Personality(u32),
    /// Load the system call filter.
    Seccomp {
        /// The program of classic BPF.
        filter: Vec<SockFilter>,
        /// `SECCOMP_FILTER_FLAG_*` (seccomp(2)).
        flags: u32,
        /// Send the listener of the filter to the parent.
        notify: bool,
    },
    /// Have capabilities follow the user id as they do by default, whatever the caller has set (`SECBIT_*`).
    DefaultSecurebits,
    /// Take these capabilities (bits) out of the bounding set.
    DropBounding {
        /// Bits by capability number.
        mask: u64,
    },
    /// Give the user the pipes, sockets and writable files among the standard streams.
    ChownStdio {
        /// User ID of the program.
        uid: u32,
    },
    /// Set groups (unless absent), group id and user id.
    Credentials {
        /// User ID.
        uid: u32,
        /// Group ID.
        gid: u32,
        /// Supplementary group IDs; `None`: unchanged.
        groups: Option<Vec<u32>>,
        /// Set `SECBIT_KEEP_CAPS` for the change.
        keep_capabilities: bool,
    },
    /// Set the thread's capability sets (bits).
    Capabilities {
        /// Effective set.
        effective: u64,
        /// Permitted set.
        permitted: u64,
        /// Inheritable set.
        inheritable: u64,
        /// Ambient set.
        ambient: u64,
    },
    /// Set the file mode creation mask.
    Umask(u32),
    /// Change to the working directory; `last` means that a refusal is final.
    WorkingDirectory {
        /// Absolute path in the container.
        path: CString,
        /// No later attempt follows.
        last: bool,
    },
    /// Set HOME from the container's /etc/passwd.
    Home {
        /// User whose entry counts.
        uid: u32,
    },
    /// Find the program among these paths; `searched` says that they come from PATH.
    FindProgram {
        /// Paths in the container, in the order of preference.
        candidates: Vec<CString>,
        /// They come from PATH.
        searched: bool,
    },
    /// Close every descriptor but 0 to 2 and those that were asked for.
    CloseDescriptors {
        /// How many descriptors from 3 on stay open.
        keep: u32,
    },
    /// Run the program.
    Execute,
}

/// Where a mount comes from.
#[derive(Debug, Clone, PartialEq)]
pub enum MountSource {
    /// A copy of a mount: bind, with those below it when `recursive`.
    Bind {
        /// File or directory on the host.
        path: CString,
        /// With the mounts below it.
        recursive: bool,
        /// Do not follow a symlink at the end of the path.
        nofollow: bool,
    },
    /// A mount that the parent has opened and prepared.
    Prepared {
        /// Index of the mount among those that the parent prepared.
        slot: usize,
    },
    /// A mount that the parent opens and prepares now, in the container's mount namespace.
    Late {
        /// Index of the mount among those that are prepared late.
        slot: usize,
    },
    /// A new file system.
    Filesystem(Filesystem),
}

/// A file system to configure with fsconfig(2).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Filesystem {
    /// Type, as in /proc/filesystems.
    pub kind: CString,
    /// The arguments of mount(2): source, `MS_*` flags, and the parameters in one text.
    pub source: CString,
    /// `MS_*`.
    pub flags: u64,
    /// Parameters, separated by commas.
    pub data: CString,
    /// The same parameters for fsconfig(2): flags without a value, the others with one.
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
    /// Where it comes from.
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
    /// Device number, as in `st_rdev`.
    pub rdev: u64,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Bind this node of the host instead: a user namespace may not make device nodes.
    pub bind: Option<CString>,
}

/// A hook that runs in the container.
#[derive(Debug, Clone, PartialEq)]
pub struct HookOp {
    /// `createContainer` or `startContainer`.
    pub kind: &'static str,
    /// Index in the list of its kind.
    pub index: usize,
    /// Program, a path in the container.
    pub path: CString,
    /// Arguments, the first being the name.
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
    /// `RLIMIT_*`.
    pub resource: u32,
    /// The soft limit.
    pub soft: u64,
    /// The hard limit.
    pub hard: u64,
    /// Property of config.json, for errors.
    pub property: String,
}
