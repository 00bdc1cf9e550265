//! The command line as types: one struct per verb, with runc's flags. What is accepted beyond runc (repeated
//! flags, global flags after the verb, `-flag` for `--flag`) is the business of [`super::parse`].
//!
//! Comments on fields are the help texts.

use clap::{Arg, ArgAction, Args, Command, FromArgMatches};
use std::path::PathBuf;

use super::values::{parse_bytes, parse_duration, parse_signal};

/// Flags of every verb.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// Directory of the containers' states [default: /run/orun, or $XDG_RUNTIME_DIR/orun for a user]
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// Where log lines go: a file, journald:ID or syslog:ID [default: standard error]
    #[arg(long, value_name = "FILE")]
    pub log: Option<String>,
    /// Form of log lines: text or json
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub log_format: String,
    /// Least important log lines to write: debug, info, warning or error [default: warning]
    #[arg(long, value_name = "LEVEL")]
    pub log_level: Option<String>,
    /// Write debug lines to the log
    #[arg(long)]
    pub debug: bool,
    /// Let systemd manage the cgroup; linux.cgroupsPath is then slice:prefix:name
    #[arg(long)]
    pub systemd_cgroup: bool,
    /// How cgroups are managed: cgroupfs, systemd or disabled
    #[arg(long, value_name = "MANAGER")]
    pub cgroup_manager: Option<String>,
    /// Ignore what only root may do to cgroups: true, false or auto
    #[arg(long, value_name = "BOOL")]
    pub rootless: Option<String>,
}

/// Flags of the verbs that create a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct CreateFlags {
    /// Bundle directory [default: the current directory]
    #[arg(short, long, value_name = "DIR")]
    pub bundle: Option<PathBuf>,
    /// Unix socket that receives the terminal's master end
    #[arg(long, value_name = "PATH")]
    pub console_socket: Option<PathBuf>,
    /// File to write the process id of the container's init to
    #[arg(long, value_name = "FILE")]
    pub pid_file: Option<PathBuf>,
    /// Unix socket that receives a pidfd of the container's init
    #[arg(long, value_name = "PATH")]
    pub pidfd_socket: Option<PathBuf>,
    /// Move the root over / instead of pivot_root(2), for a root on a ramdisk
    #[arg(long)]
    pub no_pivot: bool,
    /// Keep the caller's session keyring
    #[arg(long)]
    pub no_new_keyring: bool,
    /// Pass this many more open files, beyond the first three and $LISTEN_FDS
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub preserve_fds: u32,
    /// Configuration file to use in place of the bundle's config.json
    #[arg(short = 'f', long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Make a container from a bundle and stop before its program starts
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Create {
    #[command(flatten)]
    pub flags: CreateFlags,
    #[arg(value_name = "container-id")]
    pub id: String,
}

/// Start the program of a created container
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Start {
    #[arg(value_name = "container-id")]
    pub id: String,
}

/// Create and start a container
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Run {
    #[command(flatten)]
    pub flags: CreateFlags,
    /// Do not wait for the container
    #[arg(short, long)]
    pub detach: bool,
    /// Keep the container's state after it has exited
    #[arg(long)]
    pub keep: bool,
    /// Leave processes that lose their parent to the caller's subreaper
    #[arg(long)]
    pub no_subreaper: bool,
    /// Give the container a terminal, whatever process.terminal of config.json says
    #[arg(short, long)]
    pub tty: bool,
    /// Id of the container; or, without --bundle, a bundle directory (the id is then made up)
    #[arg(value_name = "container-id | BUNDLE")]
    pub target: String,
}

/// Run another process in a running container
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct Exec {
    /// Description of the process: the `process` object of the specification as a JSON file
    #[arg(short, long, value_name = "FILE")]
    pub process: Option<PathBuf>,
    /// Do not wait for the process
    #[arg(short, long)]
    pub detach: bool,
    /// File to write the process id to
    #[arg(long, value_name = "FILE")]
    pub pid_file: Option<PathBuf>,
    /// Unix socket that receives the terminal's master end
    #[arg(long, value_name = "PATH")]
    pub console_socket: Option<PathBuf>,
    /// Unix socket that receives a pidfd of the process
    #[arg(long, value_name = "PATH")]
    pub pidfd_socket: Option<PathBuf>,
    /// Give the process a terminal
    #[arg(short, long)]
    pub tty: bool,
    /// Working directory in the container
    #[arg(long, value_name = "DIR")]
    pub cwd: Option<String>,
    /// Environment variable NAME=VALUE; may be repeated
    #[arg(short, long, value_name = "NAME=VALUE")]
    pub env: Vec<String>,
    /// UID or UID:GID
    #[arg(short, long, value_name = "UID[:GID]")]
    pub user: Option<String>,
    /// Additional group id; may be repeated
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
    /// Pass this many more open files, beyond the first three and $LISTEN_FDS
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub preserve_fds: u32,
    /// Sub-cgroup of the container's to run in: [CONTROLLER[,CONTROLLER]:]PATH; may be repeated
    #[arg(long, value_name = "CGROUP")]
    pub cgroup: Vec<String>,
    /// Do not refuse a paused container
    #[arg(long)]
    pub ignore_paused: bool,
    #[arg(value_name = "container-id")]
    pub id: String,
    /// Program and its arguments, without --process
    #[arg(value_name = "COMMAND", trailing_var_arg = true, allow_hyphen_values = true)]
    pub command: Vec<String>,
}

/// Send a signal to a container's init
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Kill {
    /// Signal every process of the container
    #[arg(short, long, hide = true)]
    pub all: bool,
    #[arg(value_name = "container-id")]
    pub id: String,
    /// Name or number
    #[arg(value_name = "SIGNAL", default_value = "TERM", value_parser = parse_signal)]
    pub signal: i32,
}

/// Delete what a container holds
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Delete {
    /// Kill the container if it still runs; a container that does not exist is no error
    #[arg(short, long)]
    pub force: bool,
    #[arg(value_name = "container-id")]
    pub id: String,
}

/// Print the state of a container as JSON
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct State {
    #[arg(value_name = "container-id")]
    pub id: String,
}

/// List the containers of the state directory
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct List {
    /// table or json
    #[arg(short, long, value_name = "FORMAT", default_value = "table", value_parser = ["table", "json"])]
    pub format: String,
    /// Print ids only
    #[arg(short, long)]
    pub quiet: bool,
}

/// List the processes of a container
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Ps {
    /// table or json
    #[arg(short, long, value_name = "FORMAT", default_value = "table", value_parser = ["table", "json"])]
    pub format: String,
    #[arg(value_name = "container-id")]
    pub id: String,
    /// Options of ps(1) for the table [default: -ef]
    #[arg(value_name = "PS-OPTIONS", trailing_var_arg = true, allow_hyphen_values = true)]
    pub options: Vec<String>,
}

/// Print statistics and out-of-memory events of a container as lines of JSON
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Events {
    /// Time between statistics: 5s, 500ms, 1m30s
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = parse_duration)]
    pub interval: std::time::Duration,
    /// Print the statistics once and exit
    #[arg(long)]
    pub stats: bool,
    #[arg(value_name = "container-id")]
    pub id: String,
}

/// Freeze all processes of a container
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Pause {
    #[arg(value_name = "container-id")]
    pub id: String,
}

/// Let the processes of a paused container go on
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Resume {
    #[arg(value_name = "container-id")]
    pub id: String,
}

/// Change the limits of a container
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct Update {
    /// The `linux.resources` object of the specification as a JSON file, or - for standard input; other flags
    /// are then ignored
    #[arg(short, long, value_name = "FILE", allow_hyphen_values = true)]
    pub resources: Option<PathBuf>,
    /// Weight of block I/O, 10 to 1000
    #[arg(long, value_name = "N")]
    pub blkio_weight: Option<u16>,
    /// Microseconds
    #[arg(long, value_name = "US")]
    pub cpu_period: Option<u64>,
    /// CPU time in a period, microseconds; negative for no limit
    #[arg(long, value_name = "US", allow_negative_numbers = true)]
    pub cpu_quota: Option<i64>,
    /// CPU time beyond the quota that may be saved up, microseconds
    #[arg(long, value_name = "US")]
    pub cpu_burst: Option<u64>,
    /// Relative weight of the container (1024 is usual)
    #[arg(long, visible_alias = "cpu-shares", value_name = "N")]
    pub cpu_share: Option<u64>,
    /// Microseconds
    #[arg(long, value_name = "US")]
    pub cpu_rt_period: Option<u64>,
    /// Microseconds
    #[arg(long, value_name = "US", allow_negative_numbers = true)]
    pub cpu_rt_runtime: Option<i64>,
    /// CPUs to use: 0-2,7
    #[arg(long, value_name = "LIST")]
    pub cpuset_cpus: Option<String>,
    /// Memory nodes to use
    #[arg(long, value_name = "LIST")]
    pub cpuset_mems: Option<String>,
    /// 1 for SCHED_IDLE, 0 for the usual policy
    #[arg(long, value_name = "0|1")]
    pub cpu_idle: Option<i64>,
    /// Bytes, or with a unit: 512m; -1 for no limit
    #[arg(long, value_name = "BYTES", allow_negative_numbers = true, value_parser = parse_bytes)]
    pub memory: Option<i64>,
    /// Bytes, or with a unit
    #[arg(long, value_name = "BYTES", allow_negative_numbers = true, value_parser = parse_bytes)]
    pub memory_reservation: Option<i64>,
    /// Memory plus swap: bytes, or with a unit; -1 for no limit
    #[arg(long, value_name = "BYTES", allow_negative_numbers = true, value_parser = parse_bytes)]
    pub memory_swap: Option<i64>,
    /// Largest number of processes and threads; negative for no limit
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub pids_limit: Option<i64>,
    /// Intel RDT L3 cache schema
    #[arg(long, value_name = "SCHEMA")]
    pub l3_cache_schema: Option<String>,
    /// Intel RDT memory bandwidth schema
    #[arg(long, value_name = "SCHEMA")]
    pub mem_bw_schema: Option<String>,
    #[arg(value_name = "container-id")]
    pub id: String,
}

/// What CRIU is asked to take care of, at a checkpoint and at a restore.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct CriuFlags {
    /// Directory of the image files [default: ./checkpoint]
    #[arg(long, value_name = "DIR")]
    pub image_path: Option<PathBuf>,
    /// Directory of CRIU's work files and logs [default: that of the image files]
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
    /// How CRIU treats cgroups: soft, full, strict or ignore [default: soft]
    #[arg(long, value_name = "MODE")]
    pub manage_cgroups_mode: Option<String>,
    /// Make this namespace, but do not restore its content; always so for "network", the only one there is
    #[arg(long, value_name = "NAMESPACE")]
    pub empty_ns: Vec<String>,
    /// Remove pages from older images as newer ones hold them
    #[arg(long)]
    pub auto_dedup: bool,
}

/// Save a running container to files
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct Checkpoint {
    #[command(flatten)]
    pub criu: CriuFlags,
    /// Directory of an earlier pre-dump, relative to that of the image files
    #[arg(long, value_name = "DIR")]
    pub parent_path: Option<PathBuf>,
    /// Let the container go on
    #[arg(long)]
    pub leave_running: bool,
    /// Leave out TCP connections that are being established
    #[arg(long)]
    pub tcp_skip_in_flight: bool,
    /// Save memory only, and let the container go on
    #[arg(long)]
    pub pre_dump: bool,
    /// Open file to write a NUL byte to once pages can be fetched
    #[arg(long, value_name = "FD", allow_negative_numbers = true)]
    pub status_fd: Option<i32>,
    /// ADDRESS:PORT of the page server
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub page_server: Option<String>,
    #[arg(value_name = "container-id")]
    pub id: String,
}

/// Restore a container from the files of a checkpoint
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct Restore {
    /// Bundle directory [default: the current directory]
    #[arg(short, long, value_name = "DIR")]
    pub bundle: Option<PathBuf>,
    /// Unix socket that receives the terminal's master end
    #[arg(long, value_name = "PATH")]
    pub console_socket: Option<PathBuf>,
    /// File to write the process id of the container's init to
    #[arg(long, value_name = "FILE")]
    pub pid_file: Option<PathBuf>,
    /// Unix socket that receives a pidfd of the container's init
    #[arg(long, value_name = "PATH")]
    pub pidfd_socket: Option<PathBuf>,
    /// Configuration file to use in place of the bundle's config.json
    #[arg(short = 'f', long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Accepted as for create; CRIU enters the root in its own way
    #[arg(long)]
    pub no_pivot: bool,
    /// Leave processes that lose their parent to the caller's subreaper
    #[arg(long)]
    pub no_subreaper: bool,
    #[command(flatten)]
    pub criu: CriuFlags,
    /// Do not wait for the container
    #[arg(short, long)]
    pub detach: bool,
    /// Close TCP connections
    #[arg(long)]
    pub tcp_close: bool,
    /// LSM profile: TYPE:NAME
    #[arg(long, value_name = "TYPE:NAME")]
    pub lsm_profile: Option<String>,
    /// SELinux context of the mounts
    #[arg(long, value_name = "CONTEXT")]
    pub lsm_mount_context: Option<String>,
    #[arg(value_name = "container-id")]
    pub id: String,
}

/// Write a default config.json; with --rootless, one that a user without privileges can run
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Spec {
    /// Directory to write it to [default: the current directory]
    #[arg(short, long, value_name = "DIR")]
    pub bundle: Option<PathBuf>,
}

/// Print what this runtime supports, as JSON
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Features {}

/// Look at the host and the engines and say what works, what does not, and what to do
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Doctor {}

/// Show what creating a container would do, in order, without doing it
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Plan {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Id of the container that is not created
    #[arg(long, value_name = "container-id", default_value = "plan")]
    pub id: String,
    /// Bundle directory
    #[arg(value_name = "BUNDLE", default_value = ".")]
    pub bundle: PathBuf,
}

/// Wait until a container's init has exited and print its exit status
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Wait {
    #[arg(value_name = "container-id")]
    pub id: String,
}

macro_rules! verbs {
    ($($name:literal => $verb:ident),* $(,)?) => {
        /// A verb with its flags and arguments.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum Verb { $($verb($verb)),* }

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

/// Flags that callers pass and that change nothing here: verb, short form, long form, has a value.
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
    Some(command)
}
