//! The command line of `orund` as types. Comments on fields are the help texts.

use clap::{Args, Subcommand, ValueEnum};
use std::path::PathBuf;
use std::time::Duration;

use crate::config::quantity;
use crate::orund::client::choose::{Name, ObjectKind, PortName, Selector, any_name, selector, workload_name};
pub use crate::orund::client::create::Create;
pub use crate::orund::client::flags::{
    Builder, Building, Dashboard, Drain, Project, SortBy, Status, StatusOutput, Waiting,
};
use crate::orund::client::flags::{any_duration, duration};
pub use crate::orund::client::keys::Attach;
use crate::orund::client::names;
use crate::orund::examples;

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Create or update the objects in files, all or none
    #[command(after_help = examples::APPLY)]
    Apply(Apply),
    /// Check files without a supervisor
    #[command(after_help = examples::VALIDATE)]
    Validate(Validate),
    /// Describe a field of a file: its type, its default, and whether it is supported
    #[command(after_help = examples::EXPLAIN)]
    Explain {
        /// Kind, path or name, such as deployment.spec.strategy or terminationGracePeriodSeconds; or "image"
        field: String,
        /// After "image": name of an image; prints the config.json of its containers
        #[arg(value_name = "IMAGE")]
        image: Option<String>,
    },
    /// Print files in another format
    #[command(after_help = examples::CONVERT)]
    Convert(Convert),
    /// Make a job of a CronJob
    #[command(after_help = examples::CREATE)]
    Create {
        #[command(subcommand)]
        what: Create,
    },
    /// List workloads, replicas, events or other objects
    #[command(after_help = examples::GET)]
    Get(Get),
    /// Show details of objects, including why a replica restarted
    #[command(after_help = examples::DESCRIBE)]
    Describe(Describe),
    /// Set the number of replicas of workloads
    #[command(after_help = examples::SCALE)]
    Scale(Scale),
    /// Print the logs of a workload or replica
    #[command(after_help = examples::LOGS)]
    Logs(Logs),
    /// Run a command in a container
    #[command(after_help = examples::EXEC)]
    Exec(Exec),
    /// Connect to the standard input and output of a container
    #[command(after_help = examples::ATTACH)]
    Attach(Attach),
    /// List events
    #[command(after_help = examples::EVENTS)]
    Events(Events),
    /// Show the health of all workloads and of the host, with the cause of each problem
    #[command(after_help = examples::STATUS)]
    Status(Status),
    /// Serve a web page with workloads, replicas, events and logs
    #[command(after_help = examples::DASHBOARD)]
    Dashboard(Dashboard),
    /// List published ports and the host addresses they are bound to
    #[command(after_help = examples::PORT)]
    Port(Port),
    /// Show the resource usage of containers
    #[command(after_help = examples::TOP)]
    Top(Top),
    /// Wait for a condition of workloads
    #[command(after_help = examples::WAIT)]
    Wait(Wait),
    /// Replace the replicas of a workload, one after the other
    #[command(after_help = examples::RESTART)]
    Restart(Restart),
    /// Manage the rollout of a workload's revisions
    #[command(after_help = examples::ROLLOUT)]
    Rollout {
        #[command(subcommand)]
        verb: Rollout,
    },
    /// Stop workloads without deleting them, until they are started, applied or scaled
    #[command(after_help = examples::STOP)]
    Stop(StopOrStart),
    /// Start stopped workloads
    #[command(after_help = examples::START)]
    Start(StopOrStart),
    /// Delete workloads and other objects; replicas are stopped
    #[command(after_help = examples::DELETE)]
    Delete(Delete),
    /// Send a signal to the main process of containers
    #[command(after_help = examples::KILL)]
    Kill(Kill),
    /// Stop all replicas gracefully and start none before the next boot
    #[command(after_help = examples::DRAIN)]
    Drain(Drain),
    /// Print the completion script for a shell
    #[command(after_help = examples::COMPLETION)]
    Completion {
        /// Shell to print the script for
        shell: clap_complete::Shell,
    },
    /// Write the man pages to a directory
    #[command(hide = true)]
    Man {
        /// Directory to write to; it is created if it does not exist
        dir: PathBuf,
    },
}

#[derive(Debug, Clone, Args)]
pub struct Port {
    /// Workload or Service [default: all]
    pub name: Option<String>,
    /// Port of the replicas, such as 80 or 53/udp: print only its host addresses
    pub port: Option<PortName>,
    /// Print the ports as JSON, with the replicas behind them
    #[arg(long)]
    pub json: bool,
}

/// Which files.
#[derive(Debug, Clone, Args)]
pub struct Files {
    /// File, directory (all .yaml, .yml and .json files in it), or - for standard input; may be repeated
    #[arg(short = 'f', long = "filename", value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
    #[command(flatten)]
    pub project: Project,
}

#[derive(Debug, Args)]
pub struct Validate {
    #[command(flatten)]
    pub files: Files,
    /// Print the files with all unambiguous corrections
    #[arg(long, conflicts_with = "json")]
    pub fix: bool,
    /// Print objects and findings as JSON
    #[arg(long)]
    pub json: bool,
    /// Treat kinds without effect on one host as errors
    #[arg(long)]
    pub strict_kinds: bool,
}

#[derive(Debug, Args)]
pub struct Convert {
    #[command(flatten)]
    pub files: Files,
    /// Format to print
    #[arg(long, value_name = "FORMAT", default_value = "orun")]
    pub to: Format,
}

/// A format that workloads are written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Kubernetes,
    Orun,
}

#[derive(Debug, Args)]
pub struct Apply {
    #[command(flatten)]
    pub files: Files,
    /// Print the changes without applying them
    #[arg(long)]
    pub dry_run: bool,
    /// Print the changed lines without applying the changes (exit status 1 if there are any)
    #[arg(long, conflicts_with = "wait")]
    pub diff: bool,
    /// Print the corrected files without applying them
    #[arg(long, conflicts_with_all = ["dry_run", "diff"])]
    pub fix: bool,
    /// Delete objects of the Compose project that are no longer in the files, except volumes
    #[arg(long, conflicts_with_all = ["diff", "fix"])]
    pub prune: bool,
    #[command(flatten)]
    pub building: Building,
    #[command(flatten)]
    pub waiting: Waiting,
}

/// The output format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    Json,
    Yaml,
    Wide,
    Name,
}

#[derive(Debug, Args)]
pub struct Get {
    /// Kind (workloads, deployments, jobs ..., replicas, events, configmaps, secrets, pvc, services or all) and names, such as `web`,
    /// `replicas web` or `replica/web-0`; replicas and events are also found by the name of their workload
    #[arg(value_name = "KIND|NAME")]
    pub words: Vec<String>,
    /// Show only objects with these labels, such as app=web,tier!=test
    #[arg(short = 'l', long, value_name = "LABELS", value_parser = selector)]
    pub selector: Option<Selector>,
    /// Output format
    #[arg(short, long, value_name = "FORMAT")]
    pub output: Option<Output>,
    /// Watch for changes
    #[arg(short, long)]
    pub watch: bool,
}

impl Get {
    /// The kind, and the names, if any.
    pub fn objects(&self) -> (ObjectKind, Vec<String>) {
        let default = ObjectKind::Workloads;
        let Some((first, rest)) = self.words.split_first() else { return (default, Vec::new()) };
        if let Some(what) = names::kind(first) {
            return (what, rest.iter().map(|n| names::bare(n).to_owned()).collect());
        }
        let what = first.split_once('/').and_then(|(kind, _)| names::kind(kind)).unwrap_or(default);
        (what, self.words.iter().map(|n| names::bare(n).to_owned()).collect())
    }
}

#[derive(Debug, Args)]
pub struct Describe {
    /// Kind and names, or names alone, such as web, web-0, configmap/web or secret web
    #[arg(value_name = "KIND|NAME", required = true)]
    pub words: Vec<String>,
}

#[derive(Debug, Args)]
pub struct Scale {
    /// Workload and number of replicas, such as web=5 or web 5
    #[arg(value_name = "NAME=N", required = true)]
    pub words: Vec<String>,
    /// Number of replicas of all named workloads
    #[arg(long, value_name = "N")]
    pub replicas: Option<u32>,
    #[command(flatten)]
    pub waiting: Waiting,
}

#[derive(Debug, Args)]
pub struct Logs {
    /// Name of a workload or replica
    #[arg(value_parser = any_name)]
    pub name: Name,
    /// Follow the log output
    #[arg(short, long)]
    pub follow: bool,
    /// Show the logs of the previous run
    #[arg(short, long)]
    pub previous: bool,
    /// Show lines newer than a duration (10m) or an RFC 3339 time (2026-01-31T12:00:00Z)
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Show the last N lines of each container
    #[arg(long, value_name = "N")]
    pub tail: Option<usize>,
    /// Show only this container
    #[arg(short, long, value_name = "NAME")]
    pub container: Option<String>,
    /// Print a timestamp on each line
    #[arg(short, long)]
    pub timestamps: bool,
}

#[derive(Debug, Args)]
pub struct Exec {
    /// Pass standard input to the command
    #[arg(short = 'i', long = "stdin")]
    pub stdin: bool,
    /// Allocate a terminal
    #[arg(short, long)]
    pub tty: bool,
    /// Container of the replica [default: the first one]
    #[arg(short, long, value_name = "NAME")]
    pub container: Option<String>,
    /// Environment variable; may be repeated
    #[arg(short, long, value_name = "NAME=VALUE")]
    pub env: Vec<String>,
    /// Working directory in the container
    #[arg(long, value_name = "DIR")]
    pub workdir: Option<String>,
    /// User to run as: UID[:GID], or names from the container's /etc/passwd and /etc/group
    #[arg(short, long, value_name = "USER")]
    pub user: Option<String>,
    /// Replica, or a workload for any of its replicas
    #[arg(value_parser = any_name)]
    pub name: Name,
    /// Command and its arguments
    #[arg(value_name = "COMMAND", trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    pub command: Vec<String>,
}

#[derive(Debug, Args)]
pub struct Events {
    /// Show only events of this workload or replica
    #[arg(value_parser = any_name)]
    pub name: Option<Name>,
    /// Watch for new events
    #[arg(short, long)]
    pub watch: bool,
    /// Output format
    #[arg(short, long, value_name = "FORMAT")]
    pub output: Option<Output>,
}

#[derive(Debug, Args)]
pub struct Top {
    /// Show only this workload
    #[arg(value_parser = workload_name)]
    pub name: Option<String>,
    /// Sort by this column: names from A to Z, numbers from the largest
    #[arg(long, value_name = "COLUMN", default_value = "name")]
    pub sort_by: SortBy,
    /// Show only rows whose replica or container name contains this text
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub filter: String,
    /// Print once and exit; the CPU usage is the average since the start of the container, or with --interval of one interval
    #[arg(long)]
    pub once: bool,
    /// Refresh interval [default: 2s]
    #[arg(short = 'd', long, value_name = "DURATION", value_parser = duration)]
    pub interval: Option<Duration>,
}

#[derive(Debug, Args)]
pub struct Wait {
    /// Names of workloads
    #[arg(required = true, value_parser = workload_name)]
    pub names: Vec<String>,
    /// Condition: ready, complete, failed, stopped, delete or replicas=N
    #[arg(long = "for", value_name = "STATE", default_value = "ready", value_parser = goal)]
    pub goal: Goal,
    /// Maximum time to wait
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = duration)]
    pub timeout: Duration,
}

/// The condition of `wait`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goal {
    /// All replicas are ready and none is changing; or all have exited successfully.
    Ready,
    Complete,
    /// A replica has failed and will not be restarted.
    Failed,
    Stopped,
    /// It is deleted.
    Delete,
    /// This number of replicas is ready.
    Replicas(u32),
}

#[derive(Debug, Args)]
pub struct Restart {
    /// Name of a workload, or of one of its replicas
    #[arg(value_parser = any_name)]
    pub name: Name,
    #[command(flatten)]
    pub waiting: Waiting,
}

#[derive(Debug, Subcommand)]
pub enum Rollout {
    /// Wait until the rollout is complete, or report why it is not (exit status 1: failed, 3: timeout)
    Status {
        /// Name of a workload
        #[arg(value_parser = workload_name)]
        name: String,
        /// Print the state and exit: 0 complete, 1 failed, 3 not complete
        #[arg(long)]
        no_wait: bool,
        /// Maximum time to wait
        #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = duration)]
        timeout: Duration,
    },
    /// List the stored revisions
    History {
        /// Name of a workload
        #[arg(value_parser = workload_name)]
        name: String,
    },
    /// Go back to an earlier revision
    Undo {
        /// Name of a workload
        #[arg(value_parser = workload_name)]
        name: String,
        /// Number of the revision [default: the one before the current one]
        #[arg(long, value_name = "N")]
        to_revision: Option<u32>,
        #[command(flatten)]
        waiting: Waiting,
    },
    /// Pause a rollout: every replica stays at its revision
    Pause {
        /// Name of a workload
        #[arg(value_parser = workload_name)]
        name: String,
    },
    /// Continue a paused rollout
    Resume {
        /// Name of a workload
        #[arg(value_parser = workload_name)]
        name: String,
    },
    /// Replace all replicas with new ones of the same revision
    Restart {
        /// Name of a workload
        #[arg(value_parser = workload_name)]
        name: String,
        #[command(flatten)]
        waiting: Waiting,
    },
}

#[derive(Debug, Args)]
pub struct StopOrStart {
    /// Names of workloads
    #[arg(value_name = "NAME", required = true, value_parser = workload_name)]
    pub names: Vec<String>,
    #[command(flatten)]
    pub waiting: Waiting,
}

#[derive(Debug, Args)]
pub struct Delete {
    /// Kind and names, or names alone, such as web, deployment/web or configmap web
    #[arg(value_name = "KIND|NAME", required_unless_present_any = ["files", "all", "selector"])]
    pub names: Vec<String>,
    /// Delete the objects of this file, directory, or - for standard input; may be repeated
    #[arg(short = 'f', long = "filename", value_name = "FILE", conflicts_with_all = ["names", "all", "selector"])]
    pub files: Vec<PathBuf>,
    #[command(flatten)]
    pub project: Project,
    /// Delete all workloads
    #[arg(long, conflicts_with_all = ["names", "selector"])]
    pub all: bool,
    /// Delete the workloads with these labels, such as app=web
    #[arg(short = 'l', long, value_name = "LABELS", value_parser = selector, conflicts_with = "names")]
    pub selector: Option<Selector>,
    /// Grace period instead of the workload's own; 0 kills immediately
    #[arg(long, value_name = "DURATION", value_parser = any_duration, conflicts_with = "now")]
    pub grace_period: Option<Duration>,
    /// Kill immediately, as with --grace-period 0
    #[arg(long)]
    pub now: bool,
    #[command(flatten)]
    pub waiting: Waiting,
}

#[derive(Debug, Args)]
pub struct Kill {
    /// Signal, by name or number
    #[arg(short, long, value_name = "SIGNAL", default_value = "SIGKILL", value_parser = signal)]
    pub signal: String,
    /// Container of the replica [default: the first one]
    #[arg(short, long, value_name = "NAME")]
    pub container: Option<String>,
    /// Replicas, or workloads for all of their replicas; the restart policy decides whether they start again
    #[arg(value_name = "NAME", required = true, value_parser = any_name)]
    pub names: Vec<Name>,
}

fn signal(text: &str) -> Result<String, String> {
    quantity::Signal::parse(text)
        .map(|s| s.to_string())
        .ok_or_else(|| "expected a signal such as HUP, SIGHUP or 1".to_owned())
}

fn goal(text: &str) -> Result<Goal, String> {
    let word = text.strip_prefix("condition=").unwrap_or(text).to_lowercase();
    match word.as_str() {
        "ready" | "available" => Ok(Goal::Ready),
        "complete" | "completed" => Ok(Goal::Complete),
        "failed" => Ok(Goal::Failed),
        "stopped" => Ok(Goal::Stopped),
        "delete" | "deleted" => Ok(Goal::Delete),
        other => match other.strip_prefix("replicas=").and_then(|n| n.parse().ok()) {
            Some(n) => Ok(Goal::Replicas(n)),
            None => Err("must be ready, complete, failed, stopped, delete or replicas=N".to_owned()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::orund::{self, Arguments};
    use crate::workload::KeptKind;
    use clap::{CommandFactory, Parser};

    fn parse(words: &str) -> Result<Verb, clap::Error> {
        Arguments::try_parse_from(words.split(' ')).map(|a| match a.verb {
            orund::Verb::Client(verb) => verb,
            other => panic!("{other:?}"),
        })
    }

    #[test]
    fn the_definition_holds_together() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_heading_has_only_its_own_flags() {
        let command = Arguments::command();
        let under = |verb: &str, heading: &str| -> Vec<String> {
            let verb = command.find_subcommand(verb).unwrap();
            let args = verb.get_arguments().filter(|a| a.get_help_heading() == Some(heading));
            args.filter_map(|a| a.get_long().map(str::to_owned)).collect()
        };
        let compose = ["project-name", "profile", "env-file"];
        for verb in ["apply", "delete", "validate", "convert"] {
            assert_eq!(under(verb, "Compose files"), compose, "{verb}");
        }
        assert_eq!(under("apply", "Images of Compose files"), ["build", "builder", "image-dir"]);
    }

    #[test]
    fn names_are_taken_as_they_are_printed_and_typed() {
        let get = |words: &str| match parse(format!("orund get {words}").trim()) {
            Ok(Verb::Get(get)) => get.objects(),
            other => panic!("{other:?}"),
        };
        for (words, what, names) in [
            ("", ObjectKind::Workloads, &[][..]),
            ("web", ObjectKind::Workloads, &["web"]),
            ("pods", ObjectKind::Replicas, &[]),
            ("po web-0 web-1", ObjectKind::Replicas, &["web-0", "web-1"]),
            ("replica/web-0", ObjectKind::Replicas, &["web-0"]),
            ("deploy/web", ObjectKind::Of("deployment"), &["web"]),
            ("jobs", ObjectKind::Of("job"), &[]),
            ("ev web", ObjectKind::Events, &["web"]),
            ("cm/web", ObjectKind::Kept(KeptKind::ConfigMap), &["web"]),
            ("svc", ObjectKind::Kept(KeptKind::Service), &[]),
            ("all", ObjectKind::All, &[]),
        ] {
            let (got, got_names) = get(words.trim());
            assert_eq!(
                (got, got_names.iter().map(String::as_str).collect::<Vec<_>>()),
                (what, names.to_vec()),
                "{words}"
            );
        }
        let scale = |words: &str| match parse(&format!("orund scale {words}")) {
            Ok(Verb::Scale(scale)) => scale.targets(),
            other => panic!("{other:?}"),
        };
        for words in ["web=5", "web 5", "workload/web=5", "deploy/web --replicas 5", "web --replicas=5"] {
            assert_eq!(scale(words).unwrap(), [("web".to_owned(), 5)], "{words}");
        }
        for words in ["web", "web x", "web=x", "web=5 --replicas 3", "replica/web-0=3"] {
            assert!(scale(words).is_err(), "{words}");
        }
    }

    #[test]
    fn verbs_take_what_the_help_says() {
        let Ok(Verb::Scale(scale)) = parse("orund scale web=5 api=0 --wait") else { panic!() };
        assert_eq!(scale.targets().unwrap(), [("web".to_owned(), 5), ("api".to_owned(), 0)]);
        assert!(scale.waiting.wait && scale.waiting.timeout == Duration::from_secs(300));
        let Ok(Verb::Exec(exec)) = parse("orund exec -it web-0 -- sh -c x") else { panic!() };
        assert!(exec.stdin && exec.tty);
        assert_eq!((exec.name.name.as_str(), exec.command.join(" ").as_str()), ("web-0", "sh -c x"));
        let Ok(Verb::Exec(exec)) = parse("orund exec web-0 ls -l") else { panic!() };
        assert_eq!(exec.command, ["ls", "-l"]);
        for (text, expected) in
            [("condition=Ready", Goal::Ready), ("delete", Goal::Delete), ("replicas=3", Goal::Replicas(3))]
        {
            let Ok(Verb::Wait(w)) = parse(&format!("orund wait web --for={text}")) else { panic!("{text}") };
            assert_eq!(w.goal, expected);
        }
        let Ok(Verb::Get(get)) = parse("orund get pods web -o wide -w --socket /s") else { panic!() };
        assert_eq!(get.objects().0, ObjectKind::Replicas);
        assert_eq!((get.output, get.watch), (Some(Output::Wide), true));
        for bad in [
            "orund",
            "orund scale",
            "orund delete",
            "orund delete web --all",
            "orund get -l =x",
            "orund delete web --now --grace-period 3",
            "orund wait web --for=x",
            "orund apply",
            "orund get -o xml",
            "orund wait web --timeout 0",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
