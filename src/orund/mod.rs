//! The command line of `orund`: the supervisor itself, and its clients.

pub(crate) mod client;
mod examples;
mod foreign;
pub mod image;
mod journal;
mod places;
mod publish;
mod rootless;
mod run;
mod serve;

use crate::cli::log::Log;
use crate::error::{Error, Kind, Result};
use crate::kernel::{protect, sandbox, surroundings};
use crate::log::Level;
use crate::supervisor::shell::outside;
use crate::sys::{fd, signalfd};
use clap::{Parser, Subcommand};
use rootless::Use;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Supervisor for OCI containers: keeps replicas of bundles running on one host
#[derive(Debug, Parser)]
#[command(name = "orund", version, about, max_term_width = 100)]
#[command(after_help = examples::ORUND)]
pub struct Arguments {
    /// Log debug messages
    #[arg(long, global = true, help_heading = "Global options")]
    pub debug: bool,
    /// Socket of the supervisor [default: $ORUND_SOCKET, else /run/orund/orund.sock, or $XDG_RUNTIME_DIR/orund/orund.sock for a user]
    #[arg(long, global = true, value_name = "PATH", help_heading = "Global options")]
    pub socket: Option<PathBuf>,
    /// The command.
    #[command(subcommand)]
    pub verb: Verb,
}

/// The verbs of `orund`.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Run the daemon
    #[command(after_help = examples::SERVE)]
    Serve(serve::Serve),
    /// Run replicas of an image or a bundle in the foreground, without a daemon
    #[command(after_help = examples::RUN)]
    Run(run::Run),
    /// Inspect the journals of a daemon
    Journal(journal::Arguments),
    /// Pull, load, list and remove images
    Image(image::Arguments),
    /// Verbs that talk to a daemon.
    #[command(flatten)]
    Client(client::args::Verb),
}

/// Runs the command `words` (without the program's name) and returns the exit code.
pub fn main(words: Vec<OsString>) -> u8 {
    match words.first().and_then(|w| w.to_str()) {
        // The runtime, for what must be done by a process of its own.
        Some("oci") => return crate::cli::main_of_orund(words[1..].to_vec()),
        Some("keeper") => return finish(keeper(&words[1..])),
        Some("proxy") => return finish(proxy()),
        Some(rootless::VERB) => return finish(holder(&words[1..])),
        Some(sandbox::INIT) => return finish(sandbox::init().map(|()| 0)),
        Some("cleaner") => return finish(cleaner(&words[1..])),
        Some(crate::image::unpack::VERB) => return finish(crate::image::unpack::main(&words[1..])),
        Some(crate::image::fetch::VERB) => {
            return finish(crate::image::fetch::main(&crate::supervisor::shell::program(), &words[1..]));
        }
        _ => {}
    }
    let given = std::iter::once("orund".into()).chain(words.iter().cloned());
    let arguments = match Arguments::try_parse_from(given) {
        Ok(arguments) => arguments,
        Err(e) => {
            let typed: Vec<String> = words.iter().map(|w| w.to_string_lossy().into_owned()).collect();
            if let Some(e) = foreign::hint(&typed) {
                log_to_stderr(Level::Warning);
                return finish(Err(e));
            }
            // Help goes to standard output, which may be closed.
            let _ = e.print();
            return e.exit_code() as u8;
        }
    };
    log_to_stderr(if arguments.debug { Level::Debug } else { Level::Warning });
    finish(match arguments.verb {
        Verb::Serve(serve) => within(Use::Serve, &words, serve.run_dir.as_ref(), || {
            alone().and_then(|()| serve.run(arguments.socket, &words))
        }),
        Verb::Run(run) => within(Use::Run, &words, run.run_dir.as_ref(), || alone().and_then(|()| run.run())),
        Verb::Journal(journal) => journal.run(),
        Verb::Image(image) => within(Use::Images, &words, None, || image.run()),
        Verb::Client(verb) => client::run(arguments.socket, verb),
    })
}

/// Does `work`: for an ordinary user in a process of its own, which is root of a user namespace.
fn within(
    what: Use,
    words: &[OsString],
    run_dir: Option<&PathBuf>,
    work: impl FnOnce() -> Result<u8>,
) -> Result<u8> {
    match rootless::enter(what, words, run_dir)? {
        Some(code) => Ok(code),
        None => work(),
    }
}

/// Makes a long-running process independent of its caller: its executable, the open files of the caller, and the
/// signals that its caller, or the keeper, has blocked.
fn alone() -> Result<()> {
    signalfd::unblock_all().map_err(|e| Error::sys("unblocking signals", e))?;
    surroundings::check_limits(true)?;
    protect::executable()?;
    let passed = serve::passed_sockets();
    fd::cloexec_from(passed.saturating_add(3))
        .map_err(|e| surroundings::explain(Error::sys("closing the files of the caller", e)))?;
    outside::take_over()
}

fn log_to_stderr(least: Level) {
    let log = Log::stderr("orund");
    crate::log::to(least, move |level, message| log.write(level, message));
}

fn finish(result: Result<u8>) -> u8 {
    result.unwrap_or_else(|e| {
        crate::log::error(&e);
        if e.kind() == Kind::Usage { 2 } else { 1 }
    })
}

/// `orund cleaner RUN_DIR CGROUP_PARENT`: how `run` starts what cleans up after it.
fn cleaner(words: &[OsString]) -> Result<u8> {
    log_to_stderr(Level::Warning);
    let [run_dir, parent] = words else {
        return Err(Error::new(Kind::Usage, "cleaner is for orund itself").hint("use \"orund run\""));
    };
    crate::supervisor::shell::cleaner::run(Path::new(run_dir), &parent.to_string_lossy()).map(|()| 0)
}

/// `orund proxy`, with a connection to the supervisor as standard input: how `serve` leads connections to replicas.
fn proxy() -> Result<u8> {
    log_to_stderr(Level::Warning);
    let copied =
        fd::dup_above(0, 3).map_err(|e| Error::sys("taking over the connection to the supervisor", e))?;
    crate::network::proxy::run(copied).map(|()| 0)
}

/// `orund holder FD [RESOLV_CONF]`: the process that holds the namespaces of an ordinary user's supervisor.
fn holder(words: &[OsString]) -> Result<u8> {
    log_to_stderr(Level::Warning);
    rootless::main(words).map(|()| 0)
}

/// `orund keeper RUN_DIR ARGUMENTS...`: how `serve` starts itself.
fn keeper(words: &[OsString]) -> Result<u8> {
    log_to_stderr(Level::Warning);
    let [run_dir, arguments @ ..] = words else {
        return Err(Error::new(Kind::Usage, "keeper is for orund itself").hint("use \"orund serve\""));
    };
    crate::supervisor::shell::keeper::run(Path::new(run_dir), arguments.to_vec())
}
