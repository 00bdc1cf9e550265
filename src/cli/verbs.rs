//! From the arguments of a verb to the verb, and from its result to text and exit code.

use serde::Serialize;

use super::args::{Global, Verb};
use super::{launch, print};
use crate::error::{Error, Kind, Result};
use crate::kernel::protect;
use crate::runtime::{Runtime, start, state};

/// Runs `verb` and returns the exit code.
///
/// # Errors
/// Those of the verb.
pub fn run(rt: &Runtime, _global: &Global, verb: &Verb) -> Result<u8> {
    if matches!(verb, Verb::Create(_) | Verb::Run(_) | Verb::Exec(_) | Verb::Restore(_)) {
        protect::executable()?;
    }
    match verb {
        Verb::State(args) => print_json(&state::state(rt, &args.id)?)?,
        Verb::Create(args) => return launch::create(rt, args),
        Verb::Run(args) => return launch::run(rt, args),
        Verb::Exec(args) => return launch::exec(rt, args),
        Verb::Plan(args) => return launch::plan(rt, args),
        Verb::Start(args) => start::start(rt, &args.id)?,
        _ => return Err(Error::new(Kind::Unsupported, "not supported yet")),
    }
    Ok(0)
}

/// Prints a document, indented as runc does.
pub(super) fn print_json(value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|e| Error::new(Kind::Config, format!("the result is no JSON: {e}")))?;
    print(&(text + "\n"))
}
