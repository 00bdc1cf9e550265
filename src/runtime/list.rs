//! `list`: all containers of the state directory.

use std::collections::BTreeMap;

use super::Runtime;
use super::container::{Container, status};
use super::state::State;
use crate::error::{Errno, Error, Kind, Result};
use crate::log;
use crate::state::id::ContainerId;

/// The states of all containers, sorted by id. One that cannot be read is left out with a warning; one that goes
/// away while the list is made is left out.
///
/// # Errors
/// When the state directory cannot be read, or the caller named one that does not exist: the usual one is only made
/// with the first container.
pub fn list(runtime: &Runtime) -> Result<Vec<State>> {
    let root = runtime.store.root();
    if runtime.root_given && !root.exists() {
        let what = format!("opening the state directory {root:?}");
        return Err(Error::sys(what, Errno(libc::ENOENT)).kind_is(Kind::NotFound));
    }
    let mut owners = Owners::default();
    let mut states = Vec::new();
    for id in runtime.store.ids()? {
        match look(runtime, &id) {
            Ok(Some(container)) => {
                let owner = owners.name(container.record.owner);
                states.push(State { owner, ..State::from_container(container) });
            }
            Ok(None) => {}
            Err(e) => log::warn(e),
        }
    }
    Ok(states)
}

fn look(runtime: &Runtime, id: &ContainerId) -> Result<Option<Container>> {
    let Some(entry) = runtime.store.find(id)? else { return Ok(None) };
    let Some(record) = entry.find_record()? else { return Ok(None) };
    let status = status(&record)?;
    Ok(Some(Container { entry, record, status }))
}

/// The names of users (passwd(5)). A static binary must not ask the C library for them: it would load modules.
#[derive(Default)]
struct Owners {
    names: Option<BTreeMap<u32, String>>,
}

impl Owners {
    /// The name of user `uid`, or `#UID` for one without.
    fn name(&mut self, uid: u32) -> String {
        let names = self.names.get_or_insert_with(|| {
            let passwd = std::fs::read("/etc/passwd").unwrap_or_default();
            parse_passwd(&String::from_utf8_lossy(&passwd))
        });
        names.get(&uid).cloned().unwrap_or_else(|| format!("#{uid}"))
    }
}

fn parse_passwd(text: &str) -> BTreeMap<u32, String> {
    let mut names = BTreeMap::new();
    for line in text.lines() {
        let mut fields = line.split(':');
        let (Some(name), Some(uid)) = (fields.next(), fields.nth(1)) else { continue };
        if let Ok(uid) = uid.parse() {
            names.entry(uid).or_insert_with(|| name.to_owned());
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_name_of_a_user_counts() {
        let names = parse_passwd(
            "root:x:0:0::/:/bin/sh\ntoor:x:0:0:::\n\n# x\nme:x:1000:1:::\nbad:x:-1:0\nshort:x\n",
        );
        assert_eq!(names.get(&0).map(String::as_str), Some("root"));
        assert_eq!(names.get(&1000).map(String::as_str), Some("me"));
        assert_eq!(names.len(), 2);
    }
}
