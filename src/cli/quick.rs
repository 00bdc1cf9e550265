//! The command lines that engines write, read without clap: building its tables and matching with them takes more
//! instructions than most verbs.
//!
//! Only what is certain is read here. Whatever is unusual, wrong or asks for help is left to [`super::parse`], which has the
//! words for it, so this file has none. A test compares the two.

use std::ffi::OsString;
use std::path::PathBuf;

use super::args::{
    Create, CreateFlags, Delete, Exec, Global, Invocation, Kill, List, Run, Start, State, Verb,
};
use super::values::parse_signal;

/// Where the value of a flag goes.
enum Slot<'a> {
    Switch(&'a mut bool),
    Text(&'a mut String),
    MaybeText(&'a mut Option<String>),
    Path(&'a mut Option<PathBuf>),
    Number(&'a mut u32),
    Texts(&'a mut Vec<String>),
    Numbers(&'a mut Vec<u32>),
}

/// Something with flags.
trait Flags {
    /// Where the value of `flag` goes, dashes included; `None` when there is no such flag, or it is rare.
    fn slot(&mut self, flag: &[u8]) -> Option<Slot<'_>>;
}

/// A verb with global flags alone.
struct NoFlags;

/// The verb and its flags of a command line without the program's name; `None` when clap is to read it.
pub(super) fn parse(words: &[OsString]) -> Option<Invocation> {
    let words: Vec<&str> = words.iter().map(|w| w.to_str()).collect::<Option<_>>()?;
    let mut words = words.as_slice();
    let mut global = Global { log_format: "text".to_owned(), ..Global::default() };
    flags(&mut words, &mut NoFlags, &mut global)?;
    let (name, rest) = words.split_first()?;
    let verb = verb(name, rest, &mut global)?;
    Some(Invocation { global, verb })
}

fn verb(name: &str, mut words: &[&str], global: &mut Global) -> Option<Verb> {
    Some(match name {
        "create" => {
            let mut flags_of_create = CreateFlags::default();
            flags(&mut words, &mut flags_of_create, global)?;
            Verb::Create(Create { flags: flags_of_create, id: only(words)? })
        }
        "run" => {
            let mut v = Run {
                flags: CreateFlags::default(),
                detach: false,
                keep: false,
                no_subreaper: false,
                tty: false,
                target: String::new(),
            };
            flags(&mut words, &mut v, global)?;
            Verb::Run(Run { target: only(words)?, ..v })
        }
        "exec" => {
            let mut v = Exec::default();
            flags(&mut words, &mut v, global)?;
            let (id, command) = words.split_first()?;
            // A flag may still follow the ID; behind the program's name nothing is one.
            if let Some(program) = command.first() {
                argument(program)?;
            }
            Verb::Exec(Exec {
                id: argument(id)?,
                command: command.iter().map(|w| (*w).to_owned()).collect(),
                ..v
            })
        }
        "start" => {
            flags(&mut words, &mut NoFlags, global)?;
            Verb::Start(Start { id: only(words)? })
        }
        "state" => {
            flags(&mut words, &mut NoFlags, global)?;
            Verb::State(State { id: only(words)? })
        }
        "delete" => {
            let mut v = Delete { force: false, id: String::new() };
            flags(&mut words, &mut v, global)?;
            Verb::Delete(Delete { id: only(words)?, ..v })
        }
        "kill" => {
            let mut v = Kill { all: false, id: String::new(), signal: libc::SIGTERM };
            flags(&mut words, &mut v, global)?;
            let (id, signal) = match words {
                [id] => (id, None),
                [id, signal] => (id, Some(signal)),
                _ => return None,
            };
            if let Some(signal) = signal {
                v.signal = parse_signal(&argument(signal)?).ok()?;
            }
            Verb::Kill(Kill { id: argument(id)?, ..v })
        }
        "list" => {
            let mut v = List { format: "table".to_owned(), quiet: false };
            flags(&mut words, &mut v, global)?;
            if !words.is_empty() || !matches!(v.format.as_str(), "table" | "json") {
                return None;
            }
            Verb::List(v)
        }
        _ => return None,
    })
}

impl Flags for NoFlags {
    fn slot(&mut self, _flag: &[u8]) -> Option<Slot<'_>> {
        None
    }
}

impl Flags for Global {
    fn slot(&mut self, flag: &[u8]) -> Option<Slot<'_>> {
        Some(match flag {
            b"--root" => Slot::Path(&mut self.root),
            b"--log" => Slot::MaybeText(&mut self.log),
            b"--log-format" => Slot::Text(&mut self.log_format),
            b"--log-level" => Slot::MaybeText(&mut self.log_level),
            b"--debug" => Slot::Switch(&mut self.debug),
            b"--systemd-cgroup" => Slot::Switch(&mut self.systemd_cgroup),
            b"--cgroup-manager" => Slot::MaybeText(&mut self.cgroup_manager),
            b"--rootless" => Slot::MaybeText(&mut self.rootless),
            _ => return None,
        })
    }
}

impl Flags for CreateFlags {
    fn slot(&mut self, flag: &[u8]) -> Option<Slot<'_>> {
        Some(match flag {
            b"--bundle" | b"-b" => Slot::Path(&mut self.bundle),
            b"--console-socket" => Slot::Path(&mut self.console_socket),
            b"--pid-file" => Slot::Path(&mut self.pid_file),
            b"--pidfd-socket" => Slot::Path(&mut self.pidfd_socket),
            b"--no-pivot" => Slot::Switch(&mut self.no_pivot),
            b"--no-new-keyring" => Slot::Switch(&mut self.no_new_keyring),
            b"--preserve-fds" => Slot::Number(&mut self.preserve_fds),
            b"--config" | b"-f" => Slot::Path(&mut self.config),
            _ => return None,
        })
    }
}

impl Flags for Exec {
    fn slot(&mut self, flag: &[u8]) -> Option<Slot<'_>> {
        Some(match flag {
            b"--process" | b"-p" => Slot::Path(&mut self.process),
            b"--detach" | b"-d" => Slot::Switch(&mut self.detach),
            b"--pid-file" => Slot::Path(&mut self.pid_file),
            b"--console-socket" => Slot::Path(&mut self.console_socket),
            b"--pidfd-socket" => Slot::Path(&mut self.pidfd_socket),
            b"--tty" | b"-t" => Slot::Switch(&mut self.tty),
            b"--cwd" => Slot::MaybeText(&mut self.cwd),
            b"--env" | b"-e" => Slot::Texts(&mut self.env),
            b"--user" | b"-u" => Slot::MaybeText(&mut self.user),
            b"--additional-gids" | b"-g" => Slot::Numbers(&mut self.additional_gids),
            b"--preserve-fds" => Slot::Number(&mut self.preserve_fds),
            b"--cgroup" => Slot::Texts(&mut self.cgroup),
            b"--ignore-paused" => Slot::Switch(&mut self.ignore_paused),
            _ => return None,
        })
    }
}

impl Flags for Run {
    fn slot(&mut self, flag: &[u8]) -> Option<Slot<'_>> {
        Some(match flag {
            b"--detach" | b"-d" => Slot::Switch(&mut self.detach),
            b"--keep" => Slot::Switch(&mut self.keep),
            b"--no-subreaper" => Slot::Switch(&mut self.no_subreaper),
            b"--tty" | b"-t" => Slot::Switch(&mut self.tty),
            _ => return self.flags.slot(flag),
        })
    }
}

impl Flags for Kill {
    fn slot(&mut self, flag: &[u8]) -> Option<Slot<'_>> {
        matches!(flag, b"--all" | b"-a").then_some(Slot::Switch(&mut self.all))
    }
}

impl Flags for Delete {
    fn slot(&mut self, flag: &[u8]) -> Option<Slot<'_>> {
        matches!(flag, b"--force" | b"-f").then_some(Slot::Switch(&mut self.force))
    }
}

impl Flags for List {
    fn slot(&mut self, flag: &[u8]) -> Option<Slot<'_>> {
        Some(match flag {
            b"--format" | b"-f" => Slot::Text(&mut self.format),
            b"--quiet" | b"-q" => Slot::Switch(&mut self.quiet),
            _ => return None,
        })
    }
}

/// Takes flags from the front of `words`, up to the first word that is not a flag. `None`: one that is not plain.
fn flags(words: &mut &[&str], own: &mut dyn Flags, global: &mut Global) -> Option<()> {
    while let Some((word, rest)) = words.split_first()
        && word.starts_with('-')
    {
        let (name, value) = match word.split_once('=') {
            // A short flag has its value in other ways, too.
            Some((name, value)) if name.starts_with("--") => (name, Some(value)),
            Some(_) => return None,
            None => (*word, None),
        };
        *words = rest;
        let slot = own.slot(name.as_bytes()).or_else(|| global.slot(name.as_bytes()))?;
        if let Slot::Switch(on) = slot {
            if value.is_some() {
                return None;
            }
            *on = true;
            continue;
        }
        let value = match value {
            Some(value) => value,
            None => {
                let (value, rest) = words.split_first()?;
                *words = rest;
                value
            }
        };
        fill(slot, value)?;
    }
    Some(())
}

fn fill(slot: Slot, value: &str) -> Option<()> {
    if value.is_empty() || value.starts_with('-') {
        return None;
    }
    match slot {
        Slot::Switch(_) => return None,
        Slot::Text(text) => *text = value.to_owned(),
        Slot::MaybeText(text) => *text = Some(value.to_owned()),
        Slot::Path(path) => *path = Some(PathBuf::from(value)),
        Slot::Number(number) => *number = decimal(value)?,
        Slot::Texts(texts) => texts.push(value.to_owned()),
        Slot::Numbers(numbers) => numbers.push(decimal(value)?),
    }
    Some(())
}

fn decimal(text: &str) -> Option<u32> {
    if text.bytes().all(|b| b.is_ascii_digit()) { text.parse().ok() } else { None }
}

/// The one argument of a verb.
fn only(words: &[&str]) -> Option<String> {
    match words {
        [word] => argument(word),
        _ => None,
    }
}

fn argument(word: &str) -> Option<String> {
    (!word.is_empty() && !word.starts_with('-')).then(|| word.to_owned())
}

#[cfg(test)]
mod tests;
