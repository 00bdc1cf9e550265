//! Users by name or number, their home directories, and the environment of a process.
//!
//! The files are the *container's* passwd(5) and group(5), handed in as bytes: they are as hostile as the rest of
//! its root, so a line that is not well formed is skipped and never read as something else. No shortcut of the
//! parsers ends at user 0: what is not a number in full is an error.

use crate::error::{Error, Kind, Result};

/// The highest id: the next one, -1, means "leave unchanged" to setresuid(2).
pub const MAX_ID: u32 = u32::MAX - 1;

/// A user or group as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Id {
    Number(u32),
    Name(String),
}

/// `USER[:GROUP]` of `exec --user`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserSpec {
    pub user: Id,
    pub group: Option<Id>,
}

/// The ids that a [`UserSpec`] stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    pub uid: u32,
    /// `None` when the user was given by number and no group with it: the container's own group stays.
    pub gid: Option<u32>,
    /// Groups that list the user as a member; empty for a user given by number.
    pub additional_gids: Vec<u32>,
}

/// A decimal number of digits alone, from 0 to [`MAX_ID`].
fn number(text: &[u8]) -> Option<u32> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok().filter(|n| *n <= MAX_ID)
}

/// Reads `UID[:GID]`, `NAME[:GROUP]` or a mix of both. What begins with a digit has to be a number.
///
/// # Errors
/// [`Kind::Usage`]: an empty part, a number out of range, a name with characters that none has.
pub fn parse(text: &str) -> Result<UserSpec> {
    let fail = |what: &str| {
        Error::new(Kind::Usage, format!("invalid user {text:?}: {what}"))
            .hint("give UID[:GID] or NAME[:GROUP], for example 1000:1000")
    };
    let part = |part: &str, what: &str| -> Result<Id> {
        if let Some(n) = number(part.as_bytes()) {
            return Ok(Id::Number(n));
        }
        match part.bytes().next() {
            None => Err(fail(&format!("the {what} is empty"))),
            Some(b'0'..=b'9') => Err(fail(&format!("the {what} is not an ID between 0 and {MAX_ID}"))),
            Some(b'-' | b'+') => Err(fail(&format!("the {what} begins with a sign"))),
            _ if part.chars().any(|c| c == ':' || c.is_control() || c.is_whitespace()) => {
                Err(fail(&format!("the {what} is not a name")))
            }
            _ => Ok(Id::Name(part.to_owned())),
        }
    };
    match text.split_once(':') {
        Some((user, group)) => Ok(UserSpec { user: part(user, "user")?, group: Some(part(group, "group")?) }),
        None => Ok(UserSpec { user: part(text, "user")?, group: None }),
    }
}

/// A line of passwd(5).
struct Passwd<'a> {
    name: &'a [u8],
    uid: u32,
    gid: u32,
}

fn passwd(text: &[u8]) -> impl Iterator<Item = Passwd<'_>> {
    text.split(|b| *b == b'\n').filter_map(|line| {
        let f: Vec<&[u8]> = line.split(|b| *b == b':').collect();
        match f.as_slice() {
            [name, _, uid, gid, _, _, ..] if !name.is_empty() => {
                Some(Passwd { name, uid: number(uid)?, gid: number(gid)? })
            }
            _ => None,
        }
    })
}

/// A line of group(5).
struct Group<'a> {
    name: &'a [u8],
    gid: u32,
    members: &'a [u8],
}

fn groups(text: &[u8]) -> impl Iterator<Item = Group<'_>> {
    text.split(|b| *b == b'\n').filter_map(|line| {
        let f: Vec<&[u8]> = line.split(|b| *b == b':').collect();
        match f.as_slice() {
            [name, _, gid, members @ ..] if !name.is_empty() => {
                Some(Group { name, gid: number(gid)?, members: members.first().copied().unwrap_or_default() })
            }
            _ => None,
        }
    })
}

/// The group of `uid` in the passwd file `text`.
pub fn primary_group(text: &[u8], uid: u32) -> Option<u32> {
    passwd(text).find(|p| p.uid == uid).map(|p| p.gid)
}

/// Looks the names of `spec` up in the container's files. A spec of numbers needs no file.
///
/// # Errors
/// [`Kind::Program`]: the files do not list the name.
pub fn resolve(spec: &UserSpec, passwd_file: &[u8], group_file: &[u8]) -> Result<Resolved> {
    let missing = |what: &str, name: &str| {
        Error::new(Kind::Program, format!("unable to find {what} {name:?}: no matching entries in its file"))
            .hint(format!("the {what} has to be in the container's /etc, or be given by number"))
    };
    let by_name = match &spec.user {
        Id::Number(_) => None,
        Id::Name(n) => {
            Some(passwd(passwd_file).find(|p| p.name == n.as_bytes()).ok_or_else(|| missing("user", n))?)
        }
    };
    let gid = match &spec.group {
        Some(Id::Number(n)) => Some(*n),
        Some(Id::Name(n)) => {
            Some(groups(group_file).find(|g| g.name == n.as_bytes()).ok_or_else(|| missing("group", n))?.gid)
        }
        None => by_name.as_ref().map(|p| p.gid),
    };
    // As in initgroups(3): a group given explicitly replaces the memberships.
    let mut additional_gids = Vec::new();
    if let (Some(p), None) = (&by_name, &spec.group) {
        for g in groups(group_file) {
            let member = g.members.split(|b| *b == b',').any(|m| m == p.name);
            if member && g.gid != p.gid && !additional_gids.contains(&g.gid) {
                additional_gids.push(g.gid);
            }
        }
    }
    let uid = match (&spec.user, &by_name) {
        (Id::Number(n), _) => *n,
        (Id::Name(_), Some(p)) => p.uid,
        (Id::Name(n), None) => return Err(missing("user", n)),
    };
    Ok(Resolved { uid, gid, additional_gids })
}

/// A process's environment, ready for execve(2) but for a missing HOME.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Environment {
    /// `NAME=VALUE`, each name once.
    pub vars: Vec<String>,
    /// A HOME that is not empty is among them. Without one, [`home`] gives it, and `/` where that has none.
    pub home: bool,
}

impl Environment {}

/// Prepares `process.env`: of a name given more than once the last value stays, at its place; an empty HOME counts
/// as none. Entries without a name or a `=` are left out: `validate` refuses them.
pub fn environment(env: &[String]) -> Environment {
    let name = |var: &'_ String| var.find('=').filter(|i| *i > 0);
    let mut seen = std::collections::BTreeSet::new();
    let mut vars = Vec::with_capacity(env.len() + 1);
    let mut home = false;
    for var in env.iter().rev() {
        let Some(end) = name(var) else { continue };
        if !seen.insert(&var[..end]) || var == "HOME=" {
            continue;
        }
        home |= &var[..end] == "HOME";
        vars.push(var.clone());
    }
    vars.reverse();
    Environment { vars, home }
}

#[cfg(test)]
mod tests;
