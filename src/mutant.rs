//! Ways to be wrong on purpose, for tests of the tests: a test that no mutant fails proves nothing. One build has them all;
//! `$ORUN_MUTANT` chooses one:
//!
//! - `without linux.maskedPaths`: the property of config.json is ignored (`[]` stands for every element of a list);
//! - `option nosuid`: the option of mounts is ignored;
//! - `flag create --pid-file`: the flag of the verb is ignored, of any verb for `flag global --log`;
//! - `verb kill`: the verb does nothing and exits with 0;
//! - `output pid`: the property is missing in JSON on standard output;
//! - `mounts reversed`, `message`, `exit status`, `output line`: see the code that asks;
//! - a name that code asks for with [`is`].

use clap::Command;
use serde_json::Value;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

/// The mutant that `$ORUN_MUTANT` names.
fn chosen() -> Option<String> {
    std::env::var("ORUN_MUTANT").ok()
}

/// Whether to be wrong in the way `name`.
pub fn is(name: &str) -> bool {
    chosen().is_some_and(|chosen| chosen == name)
}

/// config.json without the property that is to be ignored; as it is when that is not there.
pub fn without_property(raw: Vec<u8>) -> Vec<u8> {
    let (Some(mutant), Ok(mut config)) = (chosen(), serde_json::from_slice(&raw)) else { return raw };
    let changed = match mutant.split_once(' ') {
        Some(("without", path)) => remove(&mut config, &path.split('.').collect::<Vec<_>>()),
        Some(("option", name)) => without_option(&mut config, name),
        Some(("mounts", "reversed")) => config["mounts"].as_array_mut().map(|m| m.reverse()).is_some(),
        _ => false,
    };
    if changed { config.to_string().into_bytes() } else { raw }
}

fn without_option(config: &mut Value, name: &str) -> bool {
    let mounts = config["mounts"].as_array_mut().into_iter().flatten();
    let lists = mounts.filter_map(|m| m.get_mut("options")?.as_array_mut());
    lists.fold(false, |changed, options| {
        let before = options.len();
        options.retain(|o| o != name);
        changed || options.len() != before
    })
}

fn remove(value: &mut Value, steps: &[&str]) -> bool {
    let (Some((step, rest)), Some(object)) = (steps.split_first(), value.as_object_mut()) else {
        return false;
    };
    if let Some(key) = step.strip_suffix("[]")
        && let Some(list) = object.get_mut(key).and_then(Value::as_array_mut)
    {
        return list.iter_mut().fold(false, |removed, element| remove(element, rest) || removed);
    }
    if let Some(key) = step.strip_suffix("{}")
        && let Some(map) = object.get_mut(key).and_then(Value::as_object_mut)
    {
        return map.values_mut().fold(false, |removed, element| remove(element, rest) || removed);
    }
    match rest {
        [] => object.remove(*step).is_some(),
        _ => object.get_mut(*step).is_some_and(|inner| remove(inner, rest)),
    }
}

/// The words of a command line without the flag that is to be ignored; flags have their value after `=`.
pub fn without_flag(command: &Command, verb: &str, mut words: Vec<OsString>) -> Vec<OsString> {
    let Some(mutant) = chosen() else { return words };
    let flag = mutant.strip_prefix("flag ").and_then(|f| f.split_once(' '));
    if let Some((of, flag)) = flag
        && (of == verb || of == "global")
    {
        let arg = command.get_arguments().find(|a| a.get_long() == flag.strip_prefix("--"));
        let short = arg.and_then(|a| a.get_short()).map(|c| format!("-{c}")).unwrap_or_default();
        let name = |w: &OsString| w.as_bytes().split(|b| *b == b'=').next().map(<[u8]>::to_vec);
        words.retain(|w| name(w).is_none_or(|n| n != flag.as_bytes() && n != short.as_bytes()));
    }
    words
}

/// Text for standard output without the property that is to be missing, or without its last line.
pub fn output(text: &str) -> String {
    let Some(mutant) = chosen() else { return text.to_owned() };
    match mutant.split_once(' ') {
        Some(("output", "line")) => {
            let lines: Vec<_> = text.lines().collect();
            lines[..lines.len().saturating_sub(1)].iter().flat_map(|l| [l, "\n"]).collect()
        }
        Some(("output", path)) => {
            let Ok(mut value) = serde_json::from_str(text) else { return text.to_owned() };
            if remove_from_each(&mut value, path) { format!("{value}\n") } else { text.to_owned() }
        }
        _ => text.to_owned(),
    }
}

fn remove_from_each(value: &mut Value, path: &str) -> bool {
    let steps: Vec<_> = path.split('.').collect();
    match value {
        Value::Array(all) => all.iter_mut().fold(false, |removed, v| remove(v, &steps) || removed),
        one => remove(one, &steps),
    }
}
