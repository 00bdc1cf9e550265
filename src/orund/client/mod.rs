//! The verbs that talk to a supervisor, and those that need none.

pub mod args;
mod attach;
mod build;
mod change;
pub mod choose;
pub mod connection;
mod create;
mod crons;
mod dashboard;
mod drain;
mod exec;
mod files;
mod flags;
mod get;
mod kept;
mod keys;
mod kinds;
mod logs;
mod lookup;
mod manifest;
mod manifests;
mod names;
mod port;
mod projects;
mod render;
mod rollout;
mod screen;
mod scripts;
mod status;
mod streams;
mod top;
mod wait;
mod yaml;

use std::path::PathBuf;

use crate::cli::{print, print_while_read};
use crate::error::{Error, Kind, Result};
use args::Verb;
use connection::Client;
pub use render::table;

/// The exit code of a wait that took too long.
const TOO_LATE: u8 = 3;
/// The exit code of an `exec` that failed itself: others are the program's.
const NO_EXEC: u8 = 255;

/// The exit code of an `apply --diff` that failed: 1 is that there is a difference.
const NO_DIFF: u8 = 2;

/// Runs a verb. `socket`: where the supervisor is, when it was named.
///
/// # Errors
/// Printed by the caller; with another exit code than that of errors, the error is printed here.
pub fn run(socket: Option<PathBuf>, verb: Verb) -> Result<u8> {
    let own = match &verb {
        Verb::Exec(_) | Verb::Attach(_) => Some(NO_EXEC),
        Verb::Apply(a) if a.diff => Some(NO_DIFF),
        _ => None,
    };
    match run_verb(socket, verb) {
        Err(e) if own.is_some() || e.kind() == Kind::Timeout => {
            crate::log::error(&e);
            Ok(own.unwrap_or(TOO_LATE))
        }
        r => r,
    }
}

fn run_verb(socket: Option<PathBuf>, verb: Verb) -> Result<u8> {
    let client = Client::new(socket);
    match verb {
        Verb::Validate(a) => manifests::validate(&a),
        Verb::Explain { field, image: None } => manifests::explain(&field),
        Verb::Explain { field, image: Some(name) } if field == "image" => crate::orund::image::explain(&name),
        Verb::Explain { field, image: Some(name) } => {
            let what = format!("unexpected argument {name:?} after {field:?}");
            Err(Error::new(Kind::Usage, what).hint("orund explain image NAME, or one path with dots"))
        }
        Verb::Convert(a) => manifests::convert(&a),
        Verb::Completion { shell } => scripts::completion(shell),
        Verb::Man { dir } => scripts::man(&dir),
        verb => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.map_err(|e| Error::sys("preparing the connection to the supervisor", e))?;
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
        Verb::Create { what } => create::create(client, &what).await,
        Verb::Get(a) => get::get(client, &a).await,
        Verb::Events(a) => get::events(client, &a).await,
        Verb::Describe(a) => get::describe(client, &a).await,
        Verb::Scale(a) => change::scale(client, &a).await,
        Verb::Restart(a) => change::restart(client, &a).await,
        Verb::Rollout { verb } => rollout::rollout(client, &verb).await,
        Verb::Stop(a) => rollout::stop(client, &a, true).await,
        Verb::Start(a) => rollout::stop(client, &a, false).await,
        Verb::Delete(a) => change::delete(client, &a).await,
        Verb::Wait(a) => change::wait(client, &a).await,
        Verb::Logs(a) => logs::logs(client, &a).await,
        Verb::Exec(a) => exec::exec(client, &a).await,
        Verb::Attach(a) => attach::attach(client, &a).await,
        Verb::Dashboard(a) => dashboard::dashboard(client, &a).await,
        Verb::Status(a) => status::status(client, &a).await,
        Verb::Top(a) => top::top(client, &a).await,
        Verb::Kill(a) => change::kill(client, &a).await,
        Verb::Drain(a) => drain::drain(client, &a).await,
        Verb::Port(a) => port::port(client, &a).await,
        Verb::Validate(_)
        | Verb::Explain { .. }
        | Verb::Convert(_)
        | Verb::Completion { .. }
        | Verb::Man { .. } => Ok(0),
    }
}
