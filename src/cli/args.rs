//! The command line as types: one struct per verb, with runc's flags. What is accepted beyond runc (repeated
//! flags, global flags after the verb, `-flag` for `--flag`) is the business of [`super::parse`].
//!
//! Comments on fields are the help texts.

use clap::{Arg, ArgAction, Args, Command, FromArgMatches};
use std::path::PathBuf;

use super::examples;
use super::values::{parse_bytes, parse_duration, parse_signal};

/// Flags of every verb.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// Directory for the state of containers [default: /run/orun, or $XDG_RUNTIME_DIR/orun for a user]
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// Destination of log lines: a file, journald:ID or syslog:ID [default: standard error]
    #[arg(long, value_name = "FILE")]
    pub log: Option<String>,
    /// Format of log lines: text or json
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub log_format: String,
    /// Minimum level of log lines: debug, info, warning or error [default: warning]
    #[arg(long, value_name = "LEVEL")]
    pub log_level: Option<String>,
    /// Log debug messages
    #[arg(long)]
    pub debug: bool,
    /// Manage cgroups through systemd; linux.cgroupsPath is then slice:prefix:name
    #[arg(long)]
    pub systemd_cgroup: bool,
    /// Cgroup manager: cgroupfs, systemd or disabled
    #[arg(long, value_name = "MANAGER")]
    pub cgroup_manager: Option<String>,
    /// Ignore cgroup permission errors: true, false or auto
    #[arg(long, value_name = "BOOL")]
    pub rootless: Option<String>,
}

/// Flags of the verbs that create a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct CreateFlags {
    /// Bundle directory [default: the current directory]
    #[arg(short, long, value_name = "DIR")]
    pub bundle: Option<PathBuf>,
    /// Unix socket that receives the terminal's master as a descriptor
    #[arg(long, value_name = "PATH")]
    pub console_socket: Option<PathBuf>,
    /// File to write the PID of the container's init process to
    #[arg(long, value_name = "FILE")]
    pub pid_file: Option<PathBuf>,
    /// Unix socket that receives a pidfd of the container's init process
    #[arg(long, value_name = "PATH")]
    pub pidfd_socket: Option<PathBuf>,
    /// Move the root file system over / instead of using pivot_root(2), for a ramdisk
    #[arg(long)]
    pub no_pivot: bool,
    /// Keep the caller's session keyring
    #[arg(long)]
    pub no_new_keyring: bool,
    /// Number of additional file descriptors to pass, after the first three and $LISTEN_FDS
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub preserve_fds: u32,
    /// Configuration file to use instead of the bundle's config.json
    #[arg(short = 'f', long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Create a container without starting its program
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Create {
    /// The flags of `create`.
    #[command(flatten)]
    pub flags: CreateFlags,
    /// ID of the container
    #[arg(value_name = "container-id")]
    pub id: String,
}

/// Start the program of a created container
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Start {
    /// ID of the container
    #[arg(value_name = "container-id")]
    pub id: String,
}

/// Create and start a container
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Run {
    /// The flags of `create`.
    #[command(flatten)]
    pub flags: CreateFlags,
    /// Run in the background: exit once the container has started
    #[arg(short, long)]
    pub detach: bool,
    /// Keep the container's state after the container has exited
    #[arg(long)]
    pub keep: bool,
    /// Do not become the subreaper of the container's orphaned processes
    #[arg(long)]
    pub no_subreaper: bool,
    /// Allocate a terminal, regardless of process.terminal in config.json
    #[arg(short, long)]
    pub tty: bool,
    /// ID of the container; or, without --bundle, a bundle directory (the ID is then generated)
    #[arg(value_name = "container-id | BUNDLE")]
    pub target: String,
}

/// Run a process in a running container
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct Exec {
    /// JSON file with the `process` object of the runtime specification
    #[arg(short, long, value_name = "FILE")]
    pub process: Option<PathBuf>,
    /// Run in the background: exit once the process has started
    #[arg(short, long)]
    pub detach: bool,
    /// File to write the PID of the process to
    #[arg(long, value_name = "FILE")]
    pub pid_file: Option<PathBuf>,
    /// Unix socket that receives the terminal's master as a descriptor
    #[arg(long, value_name = "PATH")]
    pub console_socket: Option<PathBuf>,
    /// Unix socket that receives a pidfd of the process
    #[arg(long, value_name = "PATH")]
    pub pidfd_socket: Option<PathBuf>,
    /// Allocate a terminal
    #[arg(short, long)]
    pub tty: bool,
    /// Working directory in the container
    #[arg(long, value_name = "DIR")]
    pub cwd: Option<String>,
    /// Environment variable; may be repeated
    #[arg(short, long, value_name = "NAME=VALUE")]
    pub env: Vec<String>,
    /// User ID and, optionally, group ID to run as
    #[arg(short, long, value_name = "UID[:GID]")]
    pub user: Option<String>,
    /// Supplementary group ID; may be repeated
    #[arg(short = 'g', long, value_name = "GID")]
    pub additional_gids: Vec<u32>,
    /// Capability to add; may be repeated
    #[arg(short, long, value_name = "CAP")]
    pub cap: Vec<String>,
    /// SELinux label of the process
    #[arg(long, value_name = "LABEL")]
    pub process_label: Option<String>,
    /// AppArmor profile of the process
    #[arg(long, value_name = "PROFILE")]
    pub apparmor: Option<String>,
    /// Set no_new_privs on the process
    #[arg(long)]
    pub no_new_privs: bool,
    /// Number of additional file descriptors to pass, after the first three and $LISTEN_FDS
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub preserve_fds: u32,
    // Not a link: the text has brackets.
    #[allow(rustdoc::broken_intra_doc_links)]
    /// Cgroup to run in, below that of the container: [CONTROLLER[,CONTROLLER]:]PATH; may be repeated
    #[arg(long, value_name = "CGROUP")]
    pub cgroup: Vec<String>,
    /// Allow exec in a paused container; the process is frozen until the container is resumed
    #[arg(long)]
    pub ignore_paused: bool,
    /// ID of the container
    #[arg(value_name = "container-id")]
    pub id: String,
    /// Program and its arguments; not with --process
    #[arg(value_name = "COMMAND", trailing_var_arg = true, allow_hyphen_values = true)]
    pub command: Vec<String>,
}

/// Send a signal to the init process of a container
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Kill {
    /// Send the signal to all processes of the container
    #[arg(short, long, hide = true)]
    pub all: bool,
    /// ID of the container
    #[arg(value_name = "container-id")]
    pub id: String,
    /// Signal name or number: TERM, SIGTERM, 15
    #[arg(value_name = "SIGNAL", default_value = "TERM", value_parser = parse_signal)]
    pub signal: i32,
}

/// Delete a container and everything it holds on the host
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Delete {
    /// Kill the container if it is running, and ignore a container that does not exist
    #[arg(short, long)]
    pub force: bool,
    /// ID of the container
    #[arg(value_name = "container-id")]
    pub id: String,
}

/// Print the state of a container as JSON
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct State {
    /// ID of the container
    #[arg(value_name = "container-id")]
    pub id: String,
}

/// List containers
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct List {
    /// Output format: table or json
    #[arg(short, long, value_name = "FORMAT", default_value = "table", value_parser = ["table", "json"])]
    pub format: String,
    /// Print only container IDs
    #[arg(short, long)]
    pub quiet: bool,
}

/// List the processes of a container
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Ps {
    /// Output format: table or json
    #[arg(short, long, value_name = "FORMAT", default_value = "table", value_parser = ["table", "json"])]
    pub format: String,
    /// ID of the container
    #[arg(value_name = "container-id")]
    pub id: String,
    /// Options for ps(1), which prints the table [default: -ef]
    #[arg(value_name = "PS-OPTIONS", trailing_var_arg = true, allow_hyphen_values = true)]
    pub options: Vec<String>,
}

/// Print statistics and out-of-memory events of a container, one JSON object per line
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Events {
    /// Interval between statistics, such as 5s, 500ms or 1m30s
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = parse_duration)]
    pub interval: std::time::Duration,
    /// Print statistics once and exit
    #[arg(long)]
    pub stats: bool,
    /// ID of the container
    #[arg(value_name = "container-id")]
    pub id: String,
}

/// Pause all processes of a container
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Pause {
    /// ID of the container
    #[arg(value_name = "container-id")]
    pub id: String,
}

/// Resume a paused container
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Resume {
    /// ID of the container
    #[arg(value_name = "container-id")]
    pub id: String,
}

/// Change the resource limits of a container
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct Update {
    /// JSON file with the `linux.resources` object of the runtime specification, or - for standard input; other flags
    /// are then ignored
    #[arg(short, long, value_name = "FILE", allow_hyphen_values = true)]
    pub resources: Option<PathBuf>,
    /// Block I/O weight, 10 to 1000
    #[arg(long, value_name = "N")]
    pub blkio_weight: Option<u16>,
    /// CPU period in microseconds
    #[arg(long, value_name = "US")]
    pub cpu_period: Option<u64>,
    /// CPU time per period in microseconds; negative for no limit
    #[arg(long, value_name = "US", allow_negative_numbers = true)]
    pub cpu_quota: Option<i64>,
    /// CPU time beyond the quota that may accumulate, in microseconds
    #[arg(long, value_name = "US")]
    pub cpu_burst: Option<u64>,
    /// CPU shares: relative weight; 1024 is the default of the kernel
    #[arg(long, visible_alias = "cpu-shares", value_name = "N")]
    pub cpu_share: Option<u64>,
    /// Period of real-time scheduling in microseconds (cgroup v1)
    #[arg(long, value_name = "US")]
    pub cpu_rt_period: Option<u64>,
    /// Real-time CPU time per period in microseconds (cgroup v1)
    #[arg(long, value_name = "US", allow_negative_numbers = true)]
    pub cpu_rt_runtime: Option<i64>,
    /// CPUs to use, such as 0-2,7
    #[arg(long, value_name = "LIST")]
    pub cpuset_cpus: Option<String>,
    /// Memory nodes to use, such as 0-1
    #[arg(long, value_name = "LIST")]
    pub cpuset_mems: Option<String>,
    /// 1 for SCHED_IDLE, 0 for the normal scheduling policy
    #[arg(long, value_name = "0|1")]
    pub cpu_idle: Option<i64>,
    /// Memory limit: bytes, or with a unit such as 512m; -1 for no limit
    #[arg(long, value_name = "BYTES", allow_negative_numbers = true, value_parser = parse_bytes)]
    pub memory: Option<i64>,
    /// Memory reservation (soft limit): bytes, or with a unit
    #[arg(long, value_name = "BYTES", allow_negative_numbers = true, value_parser = parse_bytes)]
    pub memory_reservation: Option<i64>,
    /// Limit of memory plus swap: bytes, or with a unit; -1 for no limit
    #[arg(long, value_name = "BYTES", allow_negative_numbers = true, value_parser = parse_bytes)]
    pub memory_swap: Option<i64>,
    /// Maximum number of processes and threads; negative for no limit
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub pids_limit: Option<i64>,
    /// Intel RDT L3 cache schema
    #[arg(long, value_name = "SCHEMA")]
    pub l3_cache_schema: Option<String>,
    /// Intel RDT memory bandwidth schema
    #[arg(long, value_name = "SCHEMA")]
    pub mem_bw_schema: Option<String>,
    /// ID of the container
    #[arg(value_name = "container-id")]
    pub id: String,
}

/// Options of CRIU for checkpoint and restore.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct CriuFlags {
    /// Directory for the image files [default: ./checkpoint]
    #[arg(long, value_name = "DIR")]
    pub image_path: Option<PathBuf>,
    /// Directory for CRIU's work files and logs [default: that of the image files]
    #[arg(long, value_name = "DIR")]
    pub work_path: Option<PathBuf>,
    /// Allow established TCP connections
    #[arg(long)]
    pub tcp_established: bool,
    /// Allow external unix sockets
    #[arg(long)]
    pub ext_unix_sk: bool,
    /// Allow shell jobs
    #[arg(long)]
    pub shell_job: bool,
    /// Copy memory pages on demand (userfaultfd(2))
    #[arg(long)]
    pub lazy_pages: bool,
    /// Allow file locks
    #[arg(long)]
    pub file_locks: bool,
    /// Allow links to removed files
    #[arg(long)]
    pub link_remap: bool,
    /// Cgroup mode of CRIU: soft, full, strict or ignore [default: soft]
    #[arg(long, value_name = "MODE")]
    pub manage_cgroups_mode: Option<String>,
    /// Create this namespace without restoring its content; "network" is the only value and always applies
    #[arg(long, value_name = "NAMESPACE")]
    pub empty_ns: Vec<String>,
    /// Remove pages from parent images once newer images contain them
    #[arg(long)]
    pub auto_dedup: bool,
}

/// Save a running container to files (checkpoint)
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct Checkpoint {
    /// The flags about CRIU.
    #[command(flatten)]
    pub criu: CriuFlags,
    /// Directory of an earlier pre-dump, relative to the image directory
    #[arg(long, value_name = "DIR")]
    pub parent_path: Option<PathBuf>,
    /// Leave the container running after the checkpoint
    #[arg(long)]
    pub leave_running: bool,
    /// Skip TCP connections that are being established
    #[arg(long)]
    pub tcp_skip_in_flight: bool,
    /// Save only memory and leave the container running
    #[arg(long)]
    pub pre_dump: bool,
    /// File descriptor to write a NUL byte to once pages can be fetched
    #[arg(long, value_name = "FD", allow_negative_numbers = true)]
    pub status_fd: Option<i32>,
    /// Address of the page server
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub page_server: Option<String>,
    /// ID of the container
    #[arg(value_name = "container-id")]
    pub id: String,
}

/// Restore a container from a checkpoint
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct Restore {
    /// Bundle directory [default: the current directory]
    #[arg(short, long, value_name = "DIR")]
    pub bundle: Option<PathBuf>,
    /// Unix socket that receives the terminal's master as a descriptor
    #[arg(long, value_name = "PATH")]
    pub console_socket: Option<PathBuf>,
    /// File to write the PID of the container's init process to
    #[arg(long, value_name = "FILE")]
    pub pid_file: Option<PathBuf>,
    /// Unix socket that receives a pidfd of the container's init process
    #[arg(long, value_name = "PATH")]
    pub pidfd_socket: Option<PathBuf>,
    /// Configuration file to use instead of the bundle's config.json
    #[arg(short = 'f', long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Accepted for compatibility with create; CRIU enters the root in its own way
    #[arg(long)]
    pub no_pivot: bool,
    /// Do not become the subreaper of the container's orphaned processes
    #[arg(long)]
    pub no_subreaper: bool,
    /// The flags about CRIU.
    #[command(flatten)]
    pub criu: CriuFlags,
    /// Run in the background: exit once the container has started
    #[arg(short, long)]
    pub detach: bool,
    /// Close TCP connections instead of restoring them
    #[arg(long)]
    pub tcp_close: bool,
    /// LSM profile of the restored processes
    #[arg(long, value_name = "TYPE:NAME")]
    pub lsm_profile: Option<String>,
    /// SELinux context of the restored mounts
    #[arg(long, value_name = "CONTEXT")]
    pub lsm_mount_context: Option<String>,
    /// ID of the container
    #[arg(value_name = "container-id")]
    pub id: String,
}

/// Generate a default config.json; with --rootless, one for an unprivileged user
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Spec {
    /// Bundle directory to write it to [default: the current directory]
    #[arg(short, long, value_name = "DIR")]
    pub bundle: Option<PathBuf>,
}

/// Print the features of this runtime as JSON
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Features {}

/// Check the host and the container engines: what works, what does not, and how to fix it
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Doctor {}

/// Show what creating a container would do, step by step, without doing it
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Plan {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Container ID to use in the plan
    #[arg(long, value_name = "container-id", default_value = "plan")]
    pub id: String,
    /// Bundle directory
    #[arg(value_name = "BUNDLE", default_value = ".")]
    pub bundle: PathBuf,
}

/// Wait for a container to exit and print its exit status
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Wait {
    /// ID of the container
    #[arg(value_name = "container-id")]
    pub id: String,
}

macro_rules! verbs {
    ($($name:literal => $verb:ident),* $(,)?) => {
        /// A verb with its flags and arguments.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum Verb {
            $(#[doc = concat!("`", $name, "`")] $verb($verb)),*
        }

        /// The names of all verbs, in the order of the help.
        pub const NAMES: &[&str] = &[$($name),*];

        fn augment_verb(name: &str, command: Command) -> Option<Command> {
            match name {
                $($name => Some($verb::augment_args(command)),)*
                _ => None,
            }
        }

        /// The verb `name` from what clap matched.
        pub(super) fn from_matches(name: &str, matches: &mut clap::ArgMatches) -> Result<Verb, clap::Error> {
            match name {
                $($name => Ok(Verb::$verb($verb::from_arg_matches_mut(matches)?)),)*
                _ => unreachable!("augment() knows the verb"),
            }
        }
    };
}

verbs! {
    "create" => Create,
    "start" => Start,
    "run" => Run,
    "exec" => Exec,
    "kill" => Kill,
    "delete" => Delete,
    "state" => State,
    "list" => List,
    "ps" => Ps,
    "events" => Events,
    "pause" => Pause,
    "resume" => Resume,
    "update" => Update,
    "wait" => Wait,
    "checkpoint" => Checkpoint,
    "restore" => Restore,
    "spec" => Spec,
    "features" => Features,
    "plan" => Plan,
    "doctor" => Doctor,
}

/// Flags that are accepted and ignored: verb, short form, long form, has a value.
const IGNORED: &[(&str, Option<char>, &str, bool)] = &[
    // Only a command that stays with its container takes in orphans.
    ("create", None, "no-subreaper", false),
    // Standard input is always passed on.
    ("run", Some('i'), "interactive", false),
    ("exec", Some('i'), "interactive", false),
    // Linux 5.11 dropped limits of kernel memory.
    ("update", None, "kernel-memory", true),
    ("update", None, "kernel-memory-tcp", true),
];

/// `command` with the global flags behind its own.
pub(super) fn globals(command: Command) -> Command {
    // Adding flags also replaces what the command is about.
    // The path of CRIU was a flag of runc before 1.4; callers that still pass it mean criu(8) in $PATH.
    let criu = Arg::new("criu").long("criu").hide(true).action(ArgAction::Set);
    let about = command.get_about().cloned().unwrap_or_default();
    Global::augment_args(command).arg(criu).about(about)
}

/// `command` with the global flags and the flags of the verb `name`; `None` when there is no such verb.
pub(super) fn augment(name: &str, command: Command) -> Option<Command> {
    let mut command = globals(augment_verb(name, command)?);
    for (_, short, long, value) in IGNORED.iter().filter(|(verb, ..)| *verb == name) {
        let action = if *value { ArgAction::Set } else { ArgAction::SetTrue };
        command = command.arg(Arg::new(*long).short(*short).long(*long).hide(true).action(action));
    }
    Some(command.after_help(examples::examples_of(name)))
}

/// A verb with the global flags.
#[derive(Debug, PartialEq, Eq)]
pub struct Invocation {
    /// The flags before the verb.
    pub global: Global,
    /// The verb with its own flags and arguments.
    pub verb: Verb,
}
