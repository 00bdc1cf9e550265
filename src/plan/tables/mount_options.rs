//! Mount options (config.md, "Linux mount options"): from the strings of config.json to what mount(2) and
//! mount_setattr(2) take.
//!
//! Later options win. The access time modes are one setting with three values, as in the kernel: an option that
//! sets one replaces the others, and its opposite takes it back to the kernel's default, which is `relatime`.
//! An option that stands in no table is one of the file system's own and goes to [`MountOptions::data`].

use super::namespaces::propagation;
use crate::config::linux::IdMapping;

/// Flags of mount(2). Those that libc has for every target come from there.
const MS_NOSYMFOLLOW: u64 = 1 << 8;
const MS_LAZYTIME: u64 = 1 << 25;

/// `MOUNT_ATTR_*` of linux/mount.h.
pub mod attr {
    pub const RDONLY: u64 = 0x1;
    pub const NOSUID: u64 = 0x2;
    pub const NODEV: u64 = 0x4;
    pub const NOEXEC: u64 = 0x8;
    /// All bits of the access time mode; a change of the mode has to clear them all.
    pub const ATIME: u64 = 0x70;
    pub const RELATIME: u64 = 0x00;
    pub const NOATIME: u64 = 0x10;
    pub const STRICTATIME: u64 = 0x20;
    pub const NODIRATIME: u64 = 0x80;
    pub const NOSYMFOLLOW: u64 = 0x20_0000;
}

/// Effect of one option name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effect {
    /// Sets a flag of mount(2).
    Set(u64),
    /// Clears a flag of mount(2).
    Clear(u64),
    /// Sets an attribute on the mount and all mounts below it.
    RecSet(u64),
    /// Clears an attribute on the mount and all mounts below it.
    RecClear(u64),
    /// Chooses the access time mode.
    Atime {
        mode: Atime,
        recursive: bool,
    },
    /// Goes back to the default if the access time mode is the given one.
    NotAtime {
        mode: Atime,
        recursive: bool,
    },
    Extension(Extension),
    /// Changes nothing.
    Nothing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Extension {
    Idmap { recursive: bool },
    TmpCopyUp,
    SrcNofollow,
}

/// The access time mode of a mount (mount(8)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Atime {
    Noatime,
    Relatime,
    Strictatime,
}

impl Atime {
    fn flag(self) -> u64 {
        match self {
            Atime::Noatime => libc::MS_NOATIME,
            Atime::Relatime => libc::MS_RELATIME,
            Atime::Strictatime => libc::MS_STRICTATIME,
        }
    }

    fn attr(self) -> u64 {
        match self {
            Atime::Noatime => attr::NOATIME,
            Atime::Relatime => attr::RELATIME,
            Atime::Strictatime => attr::STRICTATIME,
        }
    }
}

use Atime::{Noatime, Relatime, Strictatime};
use Effect::{Clear, NotAtime, Nothing, RecClear, RecSet, Set};

const fn atime(mode: Atime, recursive: bool) -> Effect {
    Effect::Atime { mode, recursive }
}

const fn not_atime(mode: Atime, recursive: bool) -> Effect {
    NotAtime { mode, recursive }
}

/// All options but the propagation ones, sorted by name.
const TABLE: [(&str, Effect); 55] = [
    ("async", Clear(libc::MS_SYNCHRONOUS)),
    ("atime", not_atime(Noatime, false)),
    ("bind", Set(libc::MS_BIND)),
    ("defaults", Nothing),
    ("dev", Clear(libc::MS_NODEV)),
    ("diratime", Clear(libc::MS_NODIRATIME)),
    ("dirsync", Set(libc::MS_DIRSYNC)),
    ("exec", Clear(libc::MS_NOEXEC)),
    ("idmap", Effect::Extension(Extension::Idmap { recursive: false })),
    ("iversion", Set(libc::MS_I_VERSION)),
    ("lazytime", Set(MS_LAZYTIME)),
    ("loud", Clear(libc::MS_SILENT)),
    ("mand", Set(libc::MS_MANDLOCK)),
    ("noatime", atime(Noatime, false)),
    ("nodev", Set(libc::MS_NODEV)),
    ("nodiratime", Set(libc::MS_NODIRATIME)),
    ("noexec", Set(libc::MS_NOEXEC)),
    ("noiversion", Clear(libc::MS_I_VERSION)),
    ("nolazytime", Clear(MS_LAZYTIME)),
    ("nomand", Clear(libc::MS_MANDLOCK)),
    ("norelatime", not_atime(Relatime, false)),
    ("nostrictatime", not_atime(Strictatime, false)),
    ("nosuid", Set(libc::MS_NOSUID)),
    ("nosymfollow", Set(MS_NOSYMFOLLOW)),
    ("ratime", not_atime(Noatime, true)),
    ("rbind", Set(libc::MS_BIND | libc::MS_REC)),
    ("rdev", RecClear(attr::NODEV)),
    ("rdiratime", RecClear(attr::NODIRATIME)),
    ("relatime", atime(Relatime, false)),
    ("remount", Set(libc::MS_REMOUNT)),
    ("rexec", RecClear(attr::NOEXEC)),
    ("ridmap", Effect::Extension(Extension::Idmap { recursive: true })),
    ("rnoatime", atime(Noatime, true)),
    ("rnodev", RecSet(attr::NODEV)),
    ("rnodiratime", RecSet(attr::NODIRATIME)),
    ("rnoexec", RecSet(attr::NOEXEC)),
    ("rnorelatime", not_atime(Relatime, true)),
    ("rnostrictatime", not_atime(Strictatime, true)),
    ("rnosuid", RecSet(attr::NOSUID)),
    ("rnosymfollow", RecSet(attr::NOSYMFOLLOW)),
    ("ro", Set(libc::MS_RDONLY)),
    ("rrelatime", atime(Relatime, true)),
    ("rro", RecSet(attr::RDONLY)),
    ("rrw", RecClear(attr::RDONLY)),
    ("rstrictatime", atime(Strictatime, true)),
    ("rsuid", RecClear(attr::NOSUID)),
    ("rsymfollow", RecClear(attr::NOSYMFOLLOW)),
    ("rw", Clear(libc::MS_RDONLY)),
    ("silent", Set(libc::MS_SILENT)),
    ("src-nofollow", Effect::Extension(Extension::SrcNofollow)),
    ("strictatime", atime(Strictatime, false)),
    ("suid", Clear(libc::MS_NOSUID)),
    ("symfollow", Clear(MS_NOSYMFOLLOW)),
    ("sync", Set(libc::MS_SYNCHRONOUS)),
    ("tmpcopyup", Effect::Extension(Extension::TmpCopyUp)),
];

/// Which flags of mount(2) are attributes of the single mount, apart from the access time mode.
const PER_MOUNT: [(u64, u64); 6] = [
    (libc::MS_RDONLY, attr::RDONLY),
    (libc::MS_NOSUID, attr::NOSUID),
    (libc::MS_NODEV, attr::NODEV),
    (libc::MS_NOEXEC, attr::NOEXEC),
    (libc::MS_NODIRATIME, attr::NODIRATIME),
    (MS_NOSYMFOLLOW, attr::NOSYMFOLLOW),
];

/// The flags that belong to the super block, and the name of each for `FSCONFIG_SET_FLAG` (fsconfig(2)).
const SUPER_BLOCK: [(u64, &str); 5] = [
    (libc::MS_RDONLY, "ro"),
    (libc::MS_SYNCHRONOUS, "sync"),
    (libc::MS_MANDLOCK, "mand"),
    (libc::MS_DIRSYNC, "dirsync"),
    (MS_LAZYTIME, "lazytime"),
];

/// An id mapping asked for by an option.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Idmap {
    /// The mapping holds for all mounts below too (`ridmap`).
    pub recursive: bool,
    /// Ranges given in the option itself (`idmap=uids=0-1000-10#20-30-1;gids=...`), if any.
    pub uids: Vec<IdRange>,
    pub gids: Vec<IdRange>,
}

/// A range of an `idmap=` option: `container_id` is the first id in the file system, `host_id` the first it is
/// shown as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdRange {
    pub mapping: IdMapping,
    /// `host_id` is one of the container's user namespace (written with a leading `@`).
    pub relative: bool,
}

impl IdRange {
    /// The range with `host_id` as one of the host, where `container` is the mapping of the container's user
    /// namespace; `None` for a relative range that no single range of it holds.
    pub fn absolute(&self, container: &[IdMapping]) -> Option<IdMapping> {
        let IdMapping { host_id, size, .. } = self.mapping;
        if !self.relative {
            return Some(self.mapping);
        }
        let holder = container.iter().find(|m| {
            let offset = host_id.checked_sub(m.container_id);
            offset.and_then(|o| o.checked_add(size)).is_some_and(|end| end <= m.size)
        })?;
        let host_id = holder.host_id.checked_add(host_id - holder.container_id)?;
        Some(IdMapping { host_id, ..self.mapping })
    }
}

/// The parsed options of a mount.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MountOptions {
    /// `MS_*` flags for mount(2) that are asked for.
    pub flags_set: u64,
    /// `MS_*` flags that are explicitly unwanted.
    pub flags_cleared: u64,
    /// The part of `flags_set` that concerns the one mount, as `MOUNT_ATTR_*`.
    pub attr_set: u64,
    /// The part of `flags_cleared` that concerns the one mount, as `MOUNT_ATTR_*`. Holds all of [`attr::ATIME`]
    /// when an access time mode was given.
    pub attr_clear: u64,
    /// An access time mode was asked for, and not taken back.
    pub atime_given: bool,
    /// As `attr_set`, for the mount and all below it (`AT_RECURSIVE`).
    pub rec_attr_set: u64,
    /// As `attr_clear`, for the mount and all below it (`AT_RECURSIVE`).
    pub rec_attr_clear: u64,
    /// Propagations in the order they were given, as `MS_*` flags, each for a mount(2) call of its own.
    pub propagation: Vec<u64>,
    /// `bind` or `rbind` was given.
    pub bind: bool,
    /// `rbind` was given.
    pub recursive: bool,
    pub remount: bool,
    pub idmap: Option<Idmap>,
    /// The content that the tmpfs covers is copied into it.
    pub tmpcopyup: bool,
    /// A source that is a symbolic link is mounted as such.
    pub src_nofollow: bool,
    /// Options of the file system, `KEY` or `KEY=VALUE`, one each. A comma stands in one only after a backslash or
    /// between double quotes; [`key_value`] resolves both, and joined by commas they are the data of mount(2).
    pub data: Vec<String>,
    /// Options that name a known extension and do not parse, with the reason.
    pub invalid: Vec<String>,
}

impl MountOptions {
    /// Names for `FSCONFIG_SET_FLAG` of the super block flags that are asked for. `silent` and `iversion` are not
    /// among them: the first only concerns kernel messages, the second the file systems set by themselves.
    pub fn super_block_flags(&self) -> impl Iterator<Item = &'static str> {
        let set = self.flags_set;
        SUPER_BLOCK.iter().filter(move |(f, _)| set & f != 0).map(|(_, n)| *n)
    }

    /// An attribute of the mount is asked for or explicitly unwanted.
    pub fn changes_attributes(&self) -> bool {
        self.attr_set | self.attr_clear != 0
    }

    /// An attribute of the mount and all below it is asked for or explicitly unwanted.
    pub fn changes_attributes_recursively(&self) -> bool {
        self.rec_attr_set | self.rec_attr_clear != 0
    }
}

/// Reads the options of a mount.
pub fn parse_options(options: &[String]) -> MountOptions {
    let mut m = MountOptions::default();
    let mut modes = Modes::default();
    for option in options {
        // Mostly it is a single one.
        if option.as_bytes().contains(&b',') {
            split(option).for_each(|part| apply_option(&mut m, &mut modes, part));
        } else if !option.is_empty() {
            apply_option(&mut m, &mut modes, option);
        }
    }
    for (flag, attr) in PER_MOUNT {
        m.attr_set |= if m.flags_set & flag != 0 { attr } else { 0 };
        m.attr_clear |= if m.flags_cleared & flag != 0 { attr } else { 0 };
    }
    m.atime_given = modes.given;
    if let Some(mode) = modes.mount {
        m.attr_set |= mode.attr();
        m.attr_clear |= attr::ATIME;
        m.flags_set |= mode.flag();
        m.flags_cleared |= (libc::MS_NOATIME | libc::MS_RELATIME | libc::MS_STRICTATIME) & !mode.flag();
    }
    if let Some(mode) = modes.recursive {
        m.rec_attr_set |= mode.attr();
        m.rec_attr_clear |= attr::ATIME;
    }
    m.bind = m.flags_set & libc::MS_BIND != 0;
    m.recursive = m.flags_set & libc::MS_REC != 0;
    m.remount = m.flags_set & libc::MS_REMOUNT != 0;
    m
}

/// All names of options that orun knows itself, sorted (for `orun features`).
pub fn names() -> Vec<&'static str> {
    let mut all: Vec<&str> = TABLE.iter().map(|(n, _)| *n).collect();
    all.extend(super::namespaces::propagation_names());
    all.sort_unstable();
    all
}

#[derive(Default)]
struct Modes {
    mount: Option<Atime>,
    recursive: Option<Atime>,
    /// That of the mount was set by its own name.
    given: bool,
}

impl Modes {
    fn slot(&mut self, recursive: bool) -> &mut Option<Atime> {
        if recursive { &mut self.recursive } else { &mut self.mount }
    }
}

/// Applies one option.
fn apply_option(m: &mut MountOptions, modes: &mut Modes, option: &str) {
    let Ok(i) = TABLE.binary_search_by(|(n, _)| (*n).cmp(option)) else {
        match propagation(option) {
            Some(flags) => m.propagation.push(flags),
            None => apply_other_option(m, option),
        }
        return;
    };
    match TABLE[i].1 {
        Set(f) => {
            m.flags_set |= f;
            m.flags_cleared &= !f;
        }
        Clear(f) => {
            m.flags_set &= !f;
            m.flags_cleared |= f;
        }
        RecSet(a) => {
            m.rec_attr_set |= a;
            m.rec_attr_clear &= !a;
        }
        RecClear(a) => {
            m.rec_attr_set &= !a;
            m.rec_attr_clear |= a;
        }
        Effect::Atime { mode, recursive } => {
            *modes.slot(recursive) = Some(mode);
            modes.given |= !recursive;
        }
        NotAtime { mode, recursive } => {
            let current = modes.slot(recursive);
            if current.is_none_or(|c| c == mode) {
                *current = Some(Relatime);
                modes.given &= recursive;
            }
        }
        Effect::Extension(e) => extension(m, e),
        Nothing => {}
    }
}

fn extension(m: &mut MountOptions, e: Extension) {
    match e {
        Extension::Idmap { recursive } => m.idmap = Some(Idmap { recursive, ..Idmap::default() }),
        Extension::TmpCopyUp => m.tmpcopyup = true,
        Extension::SrcNofollow => m.src_nofollow = true,
    }
}

/// An option that is in no table: an id mapping with ranges, or one of the file system.
fn apply_other_option(m: &mut MountOptions, option: &str) {
    let (key, ranges) = option.split_once('=').unwrap_or((option, ""));
    match key {
        "idmap" | "ridmap" => match parse_idmap(ranges, key == "ridmap") {
            Ok(map) => m.idmap = Some(map),
            Err(why) => m.invalid.push(format!("{option:?}: {why}")),
        },
        _ => m.data.push(option.to_owned()),
    }
}

/// Reads `uids=A-B-C#A-B-C;gids=A-B-C`: C ids from A on in the file system are shown as B and following.
fn parse_idmap(text: &str, recursive: bool) -> Result<Idmap, String> {
    let mut map = Idmap { recursive, ..Idmap::default() };
    for list in text.split(';') {
        let (target, ranges) = match list.split_once('=') {
            Some(("uids", r)) => (&mut map.uids, r),
            Some(("gids", r)) => (&mut map.gids, r),
            _ => return Err(format!("{list:?} is neither uids=... nor gids=...")),
        };
        for range in ranges.split('#') {
            target.push(parse_range(range).ok_or_else(|| format!("{range:?} is not FIRST-SHOWN-COUNT"))?);
        }
    }
    if map.uids.is_empty() || map.gids.is_empty() {
        return Err("it needs both uids and gids".to_owned());
    }
    Ok(map)
}

fn parse_range(text: &str) -> Option<IdRange> {
    let (relative, text) = match text.strip_prefix('@') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let mut numbers = text.split('-').map(|n| {
        let plain = !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit());
        plain.then(|| n.parse::<u32>().ok()).flatten()
    });
    let mapping =
        IdMapping { container_id: numbers.next()??, host_id: numbers.next()??, size: numbers.next()?? };
    numbers.next().is_none().then_some(IdRange { mapping, relative })
}

/// Splits at commas that are neither escaped by a backslash nor between double quotes; leaves out empty parts.
fn split(option: &str) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    let mut escaped = false;
    option
        .split(move |c| {
            let cut = c == ',' && !quoted && !escaped;
            quoted ^= c == '"' && !escaped;
            escaped = c == '\\' && !escaped;
            cut
        })
        .filter(|p| !p.is_empty())
}

/// An entry of [`MountOptions::data`] as fsconfig(2) takes it: the key, and the value without the quotes and
/// backslashes that only protected its commas from mount(2). `None` as value is a flag.
pub fn key_value(entry: &str) -> (&str, Option<String>) {
    match entry.split_once('=') {
        None => (entry, None),
        Some((key, v)) => {
            let bare = v.strip_prefix('"').and_then(|v| v.strip_suffix('"')).unwrap_or(v);
            (key, Some(bare.replace("\\,", ",")))
        }
    }
}

#[cfg(test)]
mod tests;
