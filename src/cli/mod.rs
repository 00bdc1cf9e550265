//! The command line of `orun`: arguments in, text and exit code out.

pub mod args;
pub(crate) mod columns;
mod environment;
mod examples;
mod launch;
pub(crate) mod log;
pub mod parse;
mod quick;
mod render;
mod values;
mod verbs;

use std::ffi::OsString;
use std::io::Write;

use crate::error::{Error, Kind, Result};
use crate::kernel::{protect, surroundings};
use crate::runtime::features;
use args::Verb;
use log::Log;
use parse::Parsed;

/// Runs the command `words` (without the program's name) and returns the exit code.
pub fn main(words: Vec<OsString>) -> u8 {
    run(words, |_| EXEC_FAILED)
}

/// As [`main`], for `orund`, whose users are not engines: an `exec` whose program cannot be run ends as in a shell, with 127
/// when it does not exist and 126 when it cannot be executed.
pub fn main_of_orund(words: Vec<OsString>) -> u8 {
    run(words, |e| match e.kind() {
        Kind::Program if e.to_string().contains("not found") || e.to_string().contains("no such file") => 127,
        Kind::Program => 126,
        _ => EXEC_FAILED,
    })
}

/// The exit code of an `exec` that failed itself: others are the program's.
const EXEC_FAILED: u8 = 255;

fn run(words: Vec<OsString>, failed_exec: fn(&Error) -> u8) -> u8 {
    let (log_to, log_format) = parse::log_flags(&words);
    // Before anything else is done: it may all be done again.
    let enters = |w: &OsString| ["create", "run", "exec", "restore"].iter().any(|verb| w == verb);
    let enters_container = words.iter().any(enters);
    let protected = if enters_container { protect::executable() } else { Ok(()) };
    let able = surroundings::check_limits(enters_container);
    match able.and(protected).map_err(surroundings::explain).and_then(|()| parse::parse(&program(), words)) {
        Ok(Parsed::Verb(invocation)) => {
            let global = &invocation.global;
            if let Err(e) = open_log(global) {
                Log::stderr("orun").write(crate::log::Level::Error, &e.to_string());
                return failure(Some(&invocation.verb));
            }
            match environment::runtime(global).and_then(|rt| verbs::run(&rt, &invocation.verb)) {
                Ok(code) => code,
                Err(e) => {
                    let code = match &invocation.verb {
                        Verb::Exec(_) => failed_exec(&e),
                        other => failure(Some(other)),
                    };
                    crate::log::error(surroundings::explain(e));
                    code
                }
            }
        }
        Ok(Parsed::Help(text)) => printed(&text),
        Ok(Parsed::Version) => printed(&version()),
        Err(e) => {
            let log =
                Log::open(log_to.as_deref(), log_format.as_deref()).unwrap_or_else(|_| Log::stderr("orun"));
            log.write(crate::log::Level::Error, &e.to_string());
            failure(None)
        }
    }
}

fn open_log(global: &args::Global) -> Result<()> {
    let log = Log::open(global.log.as_deref(), Some(&global.log_format))?;
    let least = match &global.log_level {
        _ if global.debug => crate::log::Level::Debug,
        Some(name) => log::level(name)?,
        None => crate::log::Level::Warning,
    };
    crate::log::to(least, move |level, message| log.write(level, message));
    Ok(())
}

/// The exit code of a verb that failed itself: 255 for `exec`, whose other codes are the program's.
fn failure(verb: Option<&Verb>) -> u8 {
    match verb {
        #[cfg(feature = "mutants")]
        _ if crate::mutant::is("exit status") => 0,
        Some(Verb::Exec(_)) => EXEC_FAILED,
        _ => 1,
    }
}

fn printed(text: &str) -> u8 {
    match print(text) {
        Ok(()) => 0,
        Err(e) => {
            Log::stderr("orun").write(crate::log::Level::Error, &e.to_string());
            1
        }
    }
}

/// Writes `text` to standard output. A closed reader, as in `orun list | head -1`, is not a failure.
///
/// # Errors
/// When the output cannot be written, as to a full disk.
pub(crate) fn print(text: &str) -> Result<()> {
    print_while_read(text).map(drop)
}

/// As [`print`]; `false` when there is no reader any more.
pub(crate) fn print_while_read(text: &str) -> Result<bool> {
    #[cfg(feature = "mutants")]
    let text = &crate::mutant::output(text);
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
        Err(e) => Err(Error::sys("writing to standard output", e)),
    }
}

/// The name that the program was called by: that of a link, where it stands in for another runtime.
fn program() -> String {
    let path = std::env::args_os().next().unwrap_or_default();
    let name = std::path::Path::new(&path).file_name().and_then(|n| n.to_str()).unwrap_or_default();
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-+".contains(c);
    if name.is_empty() || !name.chars().all(plain) { "orun".to_owned() } else { name.to_owned() }
}

/// The text of `--version`, in the form that engines take apart: the name, the word `version` and the number on
/// the first line, `commit:` and `spec:` below.
fn version() -> String {
    format!(
        "{} version {}\ncommit: {}\nspec: {}\n",
        program(),
        env!("CARGO_PKG_VERSION"),
        features::COMMIT,
        crate::config::defaults::OCI_VERSION,
    )
}
