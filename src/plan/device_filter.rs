//! Which devices a container may use: the rules of `linux.resources.devices` and the defaults, for version 1 as
//! writes and for version 2 as a program.
//!
//! The meaning of a list of rules: for each device and each of read, write and mknod, the last rule that matches
//! decides; without one the access is denied. An access that asks for several of them needs all of them.

mod program;

#[cfg(any(test, fuzzing))]
mod model;
#[cfg(test)]
mod tests;
#[cfg(any(test, fuzzing))]
pub(crate) use model::fuzz;

pub use program::{Instruction, program};

use super::Violation;
use super::cgroup::Write;
use crate::config::resources::DeviceRule;
use std::collections::BTreeMap;

/// mknod(2) of a device: `BPF_DEVCG_ACC_MKNOD`.
pub const MKNOD: u8 = 1;
/// Opening for reading: `BPF_DEVCG_ACC_READ`.
pub const READ: u8 = 2;
/// Opening for writing: `BPF_DEVCG_ACC_WRITE`.
pub const WRITE: u8 = 4;
/// All three.
pub const ALL: u8 = MKNOD | READ | WRITE;

/// Type of a device node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DeviceKind {
    /// `BPF_DEVCG_DEV_BLOCK`
    Block = 1,
    /// `BPF_DEVCG_DEV_CHAR`
    Char = 2,
}

/// The devices that a rule is about; `None` is every number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Devices {
    pub kind: DeviceKind,
    pub major: Option<u32>,
    pub minor: Option<u32>,
}

impl Devices {
    /// Whether every device of `other` is one of these.
    fn covers(self, other: Devices) -> bool {
        let number = |a: Option<u32>, b: Option<u32>| a.is_none() || a == b;
        self.kind == other.kind && number(self.major, other.major) && number(self.minor, other.minor)
    }

    /// Whether some device is one of both.
    fn meets(self, other: Devices) -> bool {
        let number = |a: Option<u32>, b: Option<u32>| a.is_none() || b.is_none() || a == b;
        self.kind == other.kind && number(self.major, other.major) && number(self.minor, other.minor)
    }
}

/// One rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    pub allow: bool,
    /// `None` is every device, with every access (`type` is `a`).
    pub devices: Option<Devices>,
    /// Bits of [`ALL`].
    pub access: u8,
    /// Index in `linux.resources.devices`; `None` is a default.
    pub index: Option<usize>,
}

/// Path, type, major, minor, access.
type Default = (&'static str, DeviceKind, Option<u32>, Option<u32>, u8);

/// Accesses that every container has, as with runc: creating any node, and the pseudo devices in its /dev. The paths name
/// the default nodes that `linux.devices` can replace.
const DEFAULTS: &[Default] = &[
    ("", DeviceKind::Char, None, None, MKNOD),
    ("", DeviceKind::Block, None, None, MKNOD),
    ("/dev/null", DeviceKind::Char, Some(1), Some(3), ALL),
    ("/dev/random", DeviceKind::Char, Some(1), Some(8), ALL),
    ("/dev/full", DeviceKind::Char, Some(1), Some(7), ALL),
    ("/dev/tty", DeviceKind::Char, Some(5), Some(0), ALL),
    ("/dev/zero", DeviceKind::Char, Some(1), Some(5), ALL),
    ("/dev/urandom", DeviceKind::Char, Some(1), Some(9), ALL),
    ("", DeviceKind::Char, Some(136), None, ALL),
    ("", DeviceKind::Char, Some(5), Some(2), ALL),
    // /dev/net/tun: engines have always been able to count on it.
    ("", DeviceKind::Char, Some(10), Some(200), ALL),
];

/// How many rules a configuration may have. The kernel looks at all exceptions of a version 1 cgroup at each write and
/// each opening of a device, and version 2 takes a program of a million instructions at most.
const MAX_RULES: usize = 10_000;

/// The rules of a configuration, followed by the defaults. A default whose path is among `device_paths` (the paths
/// of `linux.devices`) is left out.
///
/// # Errors
/// One violation for each rule that has an unknown type, number or access.
pub fn rules(config: &[DeviceRule], device_paths: &[&str]) -> Result<Vec<Rule>, Vec<Violation>> {
    if config.len() > MAX_RULES {
        let what = format!("{} device rules, of which {MAX_RULES} are supported", config.len());
        let hint = "combine them: a rule without a major or minor number applies to all of them";
        return Err(vec![Violation::new("linux.resources.devices", what).hint(hint)]);
    }
    let mut out = Vec::with_capacity(config.len() + DEFAULTS.len());
    let mut violations = Vec::new();
    for (i, r) in config.iter().enumerate() {
        match rule(i, r) {
            Ok(r) => out.push(r),
            Err(v) => violations.push(v),
        }
    }
    for &(path, kind, major, minor, access) in DEFAULTS {
        if path.is_empty() || !device_paths.contains(&path) {
            let devices = Some(Devices { kind, major, minor });
            out.push(Rule { allow: true, devices, access, index: None });
        }
    }
    if violations.is_empty() { Ok(out) } else { Err(violations) }
}

fn rule(i: usize, r: &DeviceRule) -> Result<Rule, Violation> {
    let at = |name: &str| format!("linux.resources.devices[{i}].{name}");
    let number = |name: &str, value: Option<i64>| match value {
        None | Some(-1) => Ok(None),
        Some(n) => u32::try_from(n)
            .map(Some)
            .map_err(|_| Violation::new(at(name), format!("{n} is not a valid device number"))),
    };
    let mut access = 0;
    for letter in r.access.chars() {
        access |= match letter {
            'r' => READ,
            'w' => WRITE,
            'm' => MKNOD,
            // Validation has warned.
            'a' => 0,
            c => return Err(Violation::new(at("access"), format!("{c:?} is not of \"rwm\""))),
        };
    }
    let kind = match r.kind.as_str() {
        "" | "a" => None,
        "c" => Some(DeviceKind::Char),
        "b" => Some(DeviceKind::Block),
        other => return Err(Violation::new(at("type"), format!("{other:?} is not of a, b, c"))),
    };
    let (major, minor) = (number("major", r.major)?, number("minor", r.minor)?);
    let devices = kind.map(|kind| Devices { kind, major, minor });
    // The kernel takes no notice of the numbers and the access of an `a` rule, and neither do engines.
    let access = if access == 0 || devices.is_none() { ALL } else { access };
    Ok(Rule { allow: r.allow, devices, access, index: Some(i) })
}

/// The default decision, and the rules after the last one about all devices.
fn split(rules: &[Rule]) -> (bool, Vec<(Devices, &Rule)>) {
    let reset = rules.iter().rposition(|r| r.devices.is_none());
    let default = reset.is_some_and(|i| rules[i].allow);
    let rest = rules[reset.map_or(0, |i| i + 1)..].iter();
    (default, rest.filter_map(|r| r.devices.map(|d| (d, r))).collect())
}

/// The exceptions of a version 1 devices cgroup: what differs from its default.
type Exceptions = BTreeMap<Devices, u8>;

/// The writes that bring a version 1 devices cgroup from any state to `rules`. Such a cgroup is a default and a
/// list of exceptions of the opposite kind (Documentation/admin-guide/cgroup-v1/devices.rst).
///
/// # Errors
/// A rule that takes part of an earlier, wider rule back: version 1 ignores it silently.
pub fn v1_writes(rules: &[Rule]) -> Result<Vec<Write>, Violation> {
    let (default, rest) = split(rules);
    let mut exceptions = Exceptions::new();
    for (devices, r) in rest {
        if r.allow == default {
            take_back(&mut exceptions, devices, r)?
        } else {
            add(&mut exceptions, devices, r)
        }
    }
    let file = |allow| if allow { "devices.allow" } else { "devices.deny" };
    let property = "linux.resources.devices";
    let mut out = vec![Write::new(file(default), "a", property)];
    for (devices, access) in &exceptions {
        let access = if default { *access } else { *access | covered(&exceptions, *devices) };
        out.push(Write::new(file(!default), text(*devices, access), property));
    }
    Ok(out)
}

fn add(exceptions: &mut Exceptions, devices: Devices, r: &Rule) {
    *exceptions.entry(devices).or_default() |= r.access;
}

fn take_back(exceptions: &mut Exceptions, devices: Devices, r: &Rule) -> Result<(), Violation> {
    // Rules within this rule are removed; a mere overlap cannot be expressed.
    for (have, access) in exceptions.iter_mut() {
        if devices.covers(*have) {
            *access &= !r.access;
        } else if devices.meets(*have) && *access & r.access != 0 {
            let property = r
                .index
                .map_or("linux.resources.devices".to_owned(), |i| format!("linux.resources.devices[{i}]"));
            let what = format!(
                "cgroup v1 cannot punch a hole in an existing wildcard rule: \"{}\" is part of \"{}\"",
                text(devices, r.access),
                text(*have, *access)
            );
            return Err(
                Violation::new(property, what).hint("list the wider rule without it, or use cgroup v2")
            );
        }
    }
    exceptions.retain(|_, access| *access != 0);
    Ok(())
}

/// Accesses for opening `devices` that wider exceptions already allow. The kernel requires one exception that has all of an
/// access: reading by one and writing by another does not add up.
fn covered(exceptions: &Exceptions, devices: Devices) -> u8 {
    let Devices { kind, major, minor } = devices;
    let wider = [(major, minor), (major, None), (None, minor), (None, None)];
    let access = wider.map(|(major, minor)| exceptions.get(&Devices { kind, major, minor }).copied());
    access.into_iter().flatten().fold(0, |sum, access| sum | access) & (READ | WRITE)
}

/// A line for `devices.allow` and `devices.deny`.
fn text(d: Devices, access: u8) -> String {
    let number = |n: Option<u32>| n.map_or("*".to_owned(), |n| n.to_string());
    let mut s = format!(
        "{} {}:{} ",
        if d.kind == DeviceKind::Char { 'c' } else { 'b' },
        number(d.major),
        number(d.minor)
    );
    for (bit, letter) in [(READ, 'r'), (WRITE, 'w'), (MKNOD, 'm')] {
        if access & bit != 0 {
            s.push(letter);
        }
    }
    s
}
