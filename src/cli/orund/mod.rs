//! The command line of `orund`: the verbs that talk to a supervisor, and those that need none.

pub mod args;
mod change;
mod client;
mod exec;
mod files;
mod get;
mod logs;
mod render;
mod scripts;
mod top;
mod yaml;

use clap::Parser;
use std::ffi::OsString;
use std::io::Write;

use crate::cli::print;
use crate::error::{Error, Kind, Result};
use args::{Cli, Verb};
use client::Client;

/// The exit code of a wait that took too long.
const TOO_LATE: u8 = 3;

/// Runs the command `words` (without the program's name) and returns the exit code.
pub fn main(words: Vec<OsString>) -> u8 {
    // The runtime's own verbs, for processes that the supervisor has started in containers.
    if words.first().is_some_and(|w| w == "oci") {
        return crate::cli::main(words[1..].to_vec());
    }
    let cli = match Cli::try_parse_from(std::iter::once("orund".into()).chain(words)) {
        Ok(cli) => cli,
        Err(e) => {
            // Help and version are no errors, and go to standard output.
            let _ = e.print();
            return u8::try_from(e.exit_code()).unwrap_or(2);
        }
    };
    let failure = if matches!(cli.verb, Verb::Exec(_)) { 255 } else { 1 };
    run(cli).unwrap_or_else(|e| {
        report(&e);
        if e.kind() == Kind::Timeout { TOO_LATE } else { failure }
    })
}

fn report(e: &Error) {
    // Where even this cannot be written, the exit code remains.
    let _ = writeln!(std::io::stderr(), "orund: {e}");
}

fn run(cli: Cli) -> Result<u8> {
    let client = Client::new(cli.global.socket);
    match cli.verb {
        Verb::Validate(files) => files::validate(&files),
        Verb::Completion { shell } => scripts::completion(shell),
        Verb::Man { dir } => scripts::man(&dir),
        verb => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.map_err(|e| Error::sys("preparing to talk to the supervisor", e))?;
            let done = runtime.block_on(talk(&client, verb));
            // A thread that reads standard input would be waited for.
            runtime.shutdown_background();
            done
        }
    }
}

async fn talk(client: &Client, verb: Verb) -> Result<u8> {
    match verb {
        Verb::Apply(a) => files::apply(client, &a).await,
        Verb::Get(a) => get::get(client, &a).await,
        Verb::Events(a) => get::events(client, &a).await,
        Verb::Describe(a) => get::describe(client, &a.name).await,
        Verb::Scale(a) => change::scale(client, &a).await,
        Verb::Restart(a) => change::restart(client, &a).await,
        Verb::Delete(a) => change::delete(client, &a).await,
        Verb::Wait(a) => change::wait(client, &a).await,
        Verb::Logs(a) => logs::logs(client, &a).await,
        Verb::Exec(a) => exec::exec(client, &a).await,
        Verb::Top(a) => top::top(client, &a).await,
        Verb::Validate(_) | Verb::Completion { .. } | Verb::Man { .. } => Ok(0),
    }
}
