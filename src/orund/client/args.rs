//! The command line of `orund` as types. Comments on fields are the help texts.

use clap::{Args, Subcommand, ValueEnum};
use std::path::PathBuf;
use std::time::Duration;

use crate::config::quantity;

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Make workloads be as files say
    Apply(Apply),
    /// Check files without a supervisor
    Validate(Files),
    /// List workloads, replicas or events
    Get(Get),
    /// Tell everything about a workload or replica, and why it restarted
    Describe(Describe),
    /// Change how many replicas workloads have
    Scale(Scale),
    /// Print what containers write
    Logs(Logs),
    /// Run a program in a container
    Exec(Exec),
    /// Print what happened
    Events(Events),
    /// Show what containers use
    Top(Top),
    /// Wait until workloads are in some state
    Wait(Wait),
    /// Replace replicas by new ones, one after the other
    Restart(Restart),
    /// Stop workloads and forget them
    Delete(Delete),
    /// Print the script that completes commands for a shell
    Completion { shell: clap_complete::Shell },
    /// Write the manual pages to a directory
    #[command(hide = true)]
    Man { dir: PathBuf },
}

/// Which files.
#[derive(Debug, Clone, Args)]
pub struct Files {
    /// File, directory of .yaml, .yml and .json files, or - for standard input; may be repeated
    #[arg(short = 'f', long = "filename", value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
}

/// How long to wait for the result of a change.
#[derive(Debug, Clone, Args)]
pub struct Waiting {
    /// Wait until it is done
    #[arg(long)]
    pub wait: bool,
    /// How long to wait at most
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = duration)]
    pub timeout: Duration,
}

#[derive(Debug, Args)]
pub struct Apply {
    #[command(flatten)]
    pub files: Files,
    /// Change nothing, and say what would be changed
    #[arg(long)]
    pub dry_run: bool,
    /// Show the lines that change
    #[arg(long)]
    pub diff: bool,
    #[command(flatten)]
    pub waiting: Waiting,
}

/// The form of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    Json,
    Yaml,
    Wide,
    Name,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum What {
    #[value(aliases = ["workload", "w"])]
    Workloads,
    #[value(aliases = ["replica", "r", "pods", "pod"])]
    Replicas,
    #[value(aliases = ["event", "e"])]
    Events,
}

#[derive(Debug, Args)]
pub struct Get {
    /// What to list
    #[arg(value_name = "KIND", default_value = "workloads")]
    pub what: What,
    /// Only this one; of replicas and events also: those of this workload
    pub name: Option<String>,
    /// Form of the output
    #[arg(short, long, value_name = "FORM")]
    pub output: Option<Output>,
    /// Go on with what changes
    #[arg(short, long)]
    pub watch: bool,
}

#[derive(Debug, Args)]
pub struct Describe {
    /// Workload or replica
    pub name: String,
}

#[derive(Debug, Args)]
pub struct Scale {
    /// Workload and number: web=5
    #[arg(value_name = "NAME=N", required = true, value_parser = name_and_number)]
    pub targets: Vec<(String, u32)>,
    #[command(flatten)]
    pub waiting: Waiting,
}

#[derive(Debug, Args)]
pub struct Logs {
    /// Workload or replica
    pub name: String,
    /// Go on with what is written
    #[arg(short, long)]
    pub follow: bool,
    /// What the run before this one wrote
    #[arg(short, long)]
    pub previous: bool,
    /// Only what is not older: 10m, or 2026-01-31T12:00:00Z
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Only so many lines of each container
    #[arg(long, value_name = "N")]
    pub tail: Option<usize>,
    /// Only this container
    #[arg(short, long, value_name = "NAME")]
    pub container: Option<String>,
    /// Print the time of each line
    #[arg(short, long)]
    pub timestamps: bool,
}

#[derive(Debug, Args)]
pub struct Exec {
    /// Pass standard input on
    #[arg(short = 'i', long = "stdin")]
    pub stdin: bool,
    /// Give the program a terminal
    #[arg(short, long)]
    pub tty: bool,
    /// Container of the replica [default: the first one]
    #[arg(short, long, value_name = "NAME")]
    pub container: Option<String>,
    /// Environment variable NAME=VALUE; may be repeated
    #[arg(short, long, value_name = "NAME=VALUE")]
    pub env: Vec<String>,
    /// Working directory in the container
    #[arg(short, long, value_name = "DIR")]
    pub workdir: Option<String>,
    /// UID[:GID], or names of the container's
    #[arg(short, long, value_name = "USER")]
    pub user: Option<String>,
    /// Replica; or a workload, for one of its replicas
    pub name: String,
    /// Program and its arguments
    #[arg(value_name = "COMMAND", trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    pub command: Vec<String>,
}

#[derive(Debug, Args)]
pub struct Events {
    /// Only those of this workload or replica
    pub name: Option<String>,
    /// Go on with what happens
    #[arg(short, long)]
    pub watch: bool,
    /// Form of the output
    #[arg(short, long, value_name = "FORM")]
    pub output: Option<Output>,
}

#[derive(Debug, Args)]
pub struct Top {
    /// Only this workload
    pub name: Option<String>,
    /// Print once and exit, as without a terminal
    #[arg(long)]
    pub once: bool,
    /// Time between two looks
    #[arg(short = 'd', long, value_name = "DURATION", default_value = "2s", value_parser = duration)]
    pub interval: Duration,
}

#[derive(Debug, Args)]
pub struct Wait {
    /// Workloads
    #[arg(required = true)]
    pub names: Vec<String>,
    /// ready, complete, stopped, delete, or replicas=N
    #[arg(long = "for", value_name = "STATE", default_value = "ready", value_parser = goal)]
    pub goal: Goal,
    /// How long to wait at most
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = duration)]
    pub timeout: Duration,
}

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goal {
    /// All replicas serve, none is on its way; or all have ended well.
    Ready,
    Complete,
    Stopped,
    /// It is gone.
    Delete,
    /// So many replicas serve.
    Replicas(u32),
}

#[derive(Debug, Args)]
pub struct Restart {
    /// Workload, or one replica of it
    pub name: String,
    #[command(flatten)]
    pub waiting: Waiting,
}

#[derive(Debug, Args)]
pub struct Delete {
    /// Workloads
    #[arg(value_name = "NAME", required = true)]
    pub names: Vec<String>,
    /// Time to end in place of the workload's own; 0 kills at once
    #[arg(long, value_name = "DURATION", value_parser = any_duration, conflicts_with = "now")]
    pub grace_period: Option<Duration>,
    /// Kill at once
    #[arg(long)]
    pub now: bool,
    #[command(flatten)]
    pub waiting: Waiting,
}

fn duration(text: &str) -> Result<Duration, String> {
    any_duration(text).and_then(|d| if d.is_zero() { Err("must be more than 0".to_owned()) } else { Ok(d) })
}

fn any_duration(text: &str) -> Result<Duration, String> {
    quantity::duration(text).ok_or_else(|| "not a duration such as 30, 500ms or 1m30s".to_owned())
}

fn name_and_number(text: &str) -> Result<(String, u32), String> {
    let (name, number) = text.split_once('=').ok_or("write NAME=N, as web=5")?;
    let number = number.parse().map_err(|_| format!("{number:?} is not a number of replicas"))?;
    Ok((name.to_owned(), number))
}

fn goal(text: &str) -> Result<Goal, String> {
    let word = text.strip_prefix("condition=").unwrap_or(text).to_lowercase();
    match word.as_str() {
        "ready" | "available" => Ok(Goal::Ready),
        "complete" | "completed" => Ok(Goal::Complete),
        "stopped" => Ok(Goal::Stopped),
        "delete" | "deleted" => Ok(Goal::Delete),
        other => match other.strip_prefix("replicas=").and_then(|n| n.parse().ok()) {
            Some(n) => Ok(Goal::Replicas(n)),
            None => Err("must be ready, complete, stopped, delete or replicas=N".to_owned()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::orund::{self, Arguments};
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
    fn verbs_take_what_the_help_says() {
        let Ok(Verb::Scale(scale)) = parse("orund scale web=5 api=0 --wait") else { panic!() };
        assert_eq!(scale.targets, [("web".to_owned(), 5), ("api".to_owned(), 0)]);
        assert!(scale.waiting.wait && scale.waiting.timeout == Duration::from_secs(300));
        let Ok(Verb::Exec(exec)) = parse("orund exec -it web-0 -- sh -c x") else { panic!() };
        assert!(exec.stdin && exec.tty);
        assert_eq!((exec.name.as_str(), exec.command.join(" ").as_str()), ("web-0", "sh -c x"));
        let Ok(Verb::Exec(exec)) = parse("orund exec web-0 ls -l") else { panic!() };
        assert_eq!(exec.command, ["ls", "-l"]);
        for (text, expected) in
            [("condition=Ready", Goal::Ready), ("delete", Goal::Delete), ("replicas=3", Goal::Replicas(3))]
        {
            let Ok(Verb::Wait(w)) = parse(&format!("orund wait web --for={text}")) else { panic!("{text}") };
            assert_eq!(w.goal, expected);
        }
        let Ok(Verb::Get(get)) = parse("orund get pods web -o wide -w --socket /s") else { panic!() };
        assert_eq!((get.what, get.output, get.watch), (What::Replicas, Some(Output::Wide), true));
        for bad in [
            "orund",
            "orund scale web",
            "orund scale web=x",
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
