//! From the words of a command line to a verb, as lenient as the callers of runc need: flags may be repeated
//! (the last one counts), global flags may follow the verb, `-flag` is `--flag`, and a switch may carry a
//! value (`--detach=true`).
//!
//! Only the flags of the verb that is called are built: building those of all verbs costs some 600,000
//! instructions, more than most verbs take themselves.

use clap::{Command, FromArgMatches};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use super::args::{self, Global, Invocation};
use super::{examples, quick};
use crate::error::{Error, Kind, Result};

/// A parsed command line.
#[derive(Debug, PartialEq, Eq)]
pub enum Parsed {
    /// To run a verb.
    Verb(Box<Invocation>),
    /// To print the help of all verbs, or of one.
    Help(String),
    /// To print the version.
    Version,
}

/// The global flags that have a value.
const GLOBALS_WITH_VALUE: &[&str] =
    &["root", "log", "log-format", "log-level", "cgroup-manager", "rootless", "criu"];

/// Reads a command line; `words` is without the program's name, which is `program`.
///
/// # Errors
/// [`Kind::Usage`].
pub fn parse(program: &str, words: Vec<OsString>) -> Result<Parsed> {
    if !cfg!(feature = "mutants")
        && let Some(invocation) = quick::parse(&words)
    {
        return Ok(Parsed::Verb(Box::new(invocation)));
    }
    parse_with_clap(program, words)
}

/// As [`parse`], of every command line.
///
/// # Errors
/// As [`parse`].
pub(super) fn parse_with_clap(program: &str, mut words: Vec<OsString>) -> Result<Parsed> {
    let at = match find_verb(&words) {
        Found::Verb(at) => at,
        Found::Version => return Ok(Parsed::Version),
        Found::Help => return Ok(Parsed::Help(overview(program))),
    };
    let name = words.remove(at);
    let name = name.to_string_lossy();
    if name == "help" || name == "h" {
        let topic = words.get(at).map(|w| w.to_string_lossy());
        return match topic {
            Some(topic) => Ok(Parsed::Help(command_of(program, &topic)?.render_help().to_string())),
            None => Ok(Parsed::Help(overview(program))),
        };
    }
    if args::NAMES.iter().all(|n| *n != name) && words.iter().any(|w| w == "--help" || w == "-h") {
        return Err(Error::new(Kind::Usage, format!("No help topic for '{name}'")));
    }
    let mut command = command_of(program, &name)?;
    if name == "spec" {
        // The one verb where --rootless is a switch.
        for word in &mut words[at..] {
            if word == "--rootless" || word == "-rootless" {
                *word = "--rootless=true".into();
            }
        }
    }
    let words = normalize(&command, words);
    #[cfg(feature = "mutants")]
    let words = crate::mutant::without_flag(&command, &name, words);
    #[cfg(feature = "mutants")]
    if crate::mutant::is(&format!("verb {name}")) {
        return Ok(Parsed::Help(String::new()));
    }
    let mut matches = match command.try_get_matches_from_mut(words) {
        Ok(matches) => matches,
        Err(e) if e.kind() == clap::error::ErrorKind::DisplayHelp => return Ok(Parsed::Help(e.to_string())),
        Err(e) => return Err(usage(&name, &e)),
    };
    let global = Global::from_arg_matches_mut(&mut matches).map_err(|e| usage(&name, &e))?;
    let verb = args::from_matches(&name, &mut matches).map_err(|e| usage(&name, &e))?;
    // To take them apart would be a tenth of the cost of reading the command line, which is read once.
    std::mem::forget((command, matches));
    Ok(Parsed::Verb(Box::new(Invocation { global, verb })))
}

/// The values of `--log` and `--log-format` on a command line that may be wrong otherwise, so that its error
/// reaches the log.
pub fn log_flags(words: &[OsString]) -> (Option<String>, Option<String>) {
    let (mut log, mut format) = (None, None);
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let Flag::Long(name, value) = Flag::parse_word(word) else { continue };
        let into = match name {
            b"log" => &mut log,
            b"log-format" => &mut format,
            _ => continue,
        };
        let value = value.map(OsStr::from_bytes).or_else(|| words.next().map(OsString::as_os_str));
        if let Some(value) = value {
            *into = Some(value.to_string_lossy().into_owned());
        }
    }
    (log, format)
}

enum Found {
    /// Position of the verb.
    Verb(usize),
    Help,
    Version,
}

fn find_verb(words: &[OsString]) -> Found {
    let mut at = 0;
    while at < words.len() {
        match Flag::parse_word(&words[at]) {
            Flag::Long(b"version", _) | Flag::Short(b"v" | b"V") => return Found::Version,
            Flag::Long(b"help", _) | Flag::Short(b"h" | b"?") => return Found::Help,
            Flag::Long(name, None) | Flag::Short(name)
                if GLOBALS_WITH_VALUE.iter().any(|g| g.as_bytes() == name) =>
            {
                at += 2;
            }
            Flag::Long(..) | Flag::Short(_) => at += 1,
            Flag::None => return Found::Verb(at),
        }
    }
    Found::Help
}

/// A word of the command line, taken as a flag.
enum Flag<'a> {
    /// `--name` or `--name=value`.
    Long(&'a [u8], Option<&'a [u8]>),
    /// `-abc`, without the dash.
    Short(&'a [u8]),
    None,
}

impl<'a> Flag<'a> {
    fn parse_word(word: &'a OsStr) -> Flag<'a> {
        let bytes = word.as_bytes();
        match bytes {
            [b'-', b'-', long @ ..] if !long.is_empty() => {
                let (name, value) = split_value(long);
                Flag::Long(name, value)
            }
            [b'-', short @ ..] if !short.is_empty() && short[0] != b'-' => Flag::Short(short),
            _ => Flag::None,
        }
    }
}

fn split_value(flag: &[u8]) -> (&[u8], Option<&[u8]>) {
    match flag.iter().position(|b| *b == b'=') {
        Some(at) => (&flag[..at], Some(&flag[at + 1..])),
        None => (flag, None),
    }
}

/// Rewrites what Go's flag parsers accept and clap does not: `-flag` becomes `--flag`, a value may look like a
/// flag, and a switch with a value becomes the switch alone, or is dropped. Nothing is rewritten after the first word that is
/// not a flag: what follows it may be the words of a program.
fn normalize(command: &Command, words: Vec<OsString>) -> Vec<OsString> {
    let mut out = Vec::with_capacity(words.len());
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        let (name, value) = match Flag::parse_word(&word) {
            Flag::Long(name, value) => (name, value),
            Flag::Short(short) => match split_value(short) {
                (name, value) if name.len() > 1 && takes_value(command, name).is_some() => (name, value),
                _ => {
                    let value = if short_takes_next(command, short) { words.next() } else { None };
                    out.push(with_value(word.clone(), value.as_deref()));
                    continue;
                }
            },
            Flag::None => {
                out.push(word);
                break;
            }
        };
        let long = OsString::from_vec([b"--", name].concat());
        let value = value.map(OsStr::from_bytes);
        match (takes_value(command, name), value.and_then(OsStr::to_str)) {
            (Some(true), _) => {
                let next = if value.is_none() { words.next() } else { None };
                out.push(with_value(long, value.or(next.as_deref())));
            }
            (Some(false), Some("true" | "t" | "1")) => out.push(long),
            (Some(false), Some("false" | "f" | "0")) => {}
            _ => out.push(with_value(long, value)),
        }
    }
    out.extend(words);
    out
}

fn with_value(mut flag: OsString, value: Option<&OsStr>) -> OsString {
    if let Some(value) = value {
        flag.push("=");
        flag.push(value);
    }
    flag
}

/// Whether the flag `--name` has a value; `None` when there is no such flag.
fn takes_value(command: &Command, name: &[u8]) -> Option<bool> {
    let is = |long: &str| long.as_bytes() == name;
    let arg = command.get_arguments().find(|a| {
        a.get_long().is_some_and(is) || a.get_all_aliases().is_some_and(|all| all.into_iter().any(is))
    })?;
    Some(arg.get_action().takes_values())
}

/// Whether the value of the cluster of short flags `-abc` is the next word.
fn short_takes_next(command: &Command, cluster: &[u8]) -> bool {
    let takes_value = |b: u8| {
        let arg = command.get_arguments().find(|a| a.get_short() == Some(char::from(b)));
        arg.is_some_and(|a| a.get_action().takes_values())
    };
    // The first flag that has a value takes the rest of the word, if there is a rest.
    cluster.iter().position(|b| takes_value(*b)).is_some_and(|at| at + 1 == cluster.len())
}

/// The form of all helps, which begin as those of runc do.
fn template(name: &str) -> String {
    format!("NAME:\n   {name} - {{about}}\n\n{{usage-heading}} {{usage}}\n\n{{all-args}}{{after-help}}")
}

/// The command of the verb `name` with all of its flags, the global ones included, as clap knows it.
///
/// # Errors
/// [`Kind::Usage`]: there is no such verb.
pub fn command_of(program: &str, name: &str) -> Result<Command> {
    let command = Command::new("orun")
        .bin_name(format!("{program} {name}"))
        .help_template(template(&format!("{program} {name}")))
        .no_binary_name(true)
        .args_override_self(true);
    args::augment(name, command).ok_or_else(|| {
        Error::new(Kind::Usage, format!("unknown command {name:?}")).hint("\"orun --help\" lists them")
    })
}

/// The help of all verbs.
fn overview(program: &str) -> String {
    let mut command = Command::new("orun")
        .bin_name(program)
        .help_template(template(program))
        .about("Open Container Initiative runtime (runtime-spec 1.3)");
    for name in args::NAMES {
        let verb = args::augment(name, Command::new(*name)).expect("NAMES are those of the verbs");
        command =
            command.subcommand(Command::new(*name).about(verb.get_about().cloned().unwrap_or_default()));
    }
    args::globals(command).after_help(examples::OVERVIEW).render_help().to_string()
}

/// The first paragraph of clap's message on one line.
fn usage(verb: &str, e: &clap::Error) -> Error {
    let text = e.to_string();
    let first = text.split("\n\n").next().unwrap_or_default();
    let first = first.strip_prefix("error: ").unwrap_or(first);
    let line = first.split_whitespace().collect::<Vec<_>>().join(" ");
    Error::new(Kind::Usage, format!("{verb}: {line}")).hint(format!("see \"orun {verb} --help\""))
}

#[cfg(test)]
mod tests;
