//! `linux.devices` (config-linux.md, "Devices").

use super::Findings;
use crate::config::linux::{Device, Linux};
use crate::plan::user::MAX_ID;

/// The kernel's device numbers have 12 bits for the major and 20 for the minor.
const MAX_MAJOR: i64 = (1 << 12) - 1;
const MAX_MINOR: i64 = (1 << 20) - 1;

pub fn check(linux: &Linux, f: &mut Findings) {
    for (i, d) in linux.devices.iter().enumerate() {
        kind(i, d, f);
        path(i, d, f);
        owner_and_mode(i, d, f);
        if let Some(j) = linux.devices[..i].iter().position(|e| e.path == d.path && differ(e, d)) {
            f.violation(
                format!("linux.devices[{i}].path"),
                format!("{:?} is another device in linux.devices[{j}]", d.path),
            );
        }
    }
}

/// The type is known, and has the numbers that it needs.
fn kind(i: usize, d: &Device, f: &mut Findings) {
    let at = |property: &str| format!("linux.devices[{i}].{property}");
    if !matches!(d.kind.as_str(), "c" | "b" | "u" | "p") {
        f.hinted(at("type"), format!("invalid device type {:?}", d.kind), "one of c, b, u, p");
        return;
    }
    if d.kind == "p" {
        return;
    }
    for (name, number, max) in [("major", d.major, MAX_MAJOR), ("minor", d.minor, MAX_MINOR)] {
        match number {
            None => f.violation(at(name), format!("it is required for a device of type {}", d.kind)),
            Some(n) if !(0..=max).contains(&n) => {
                f.violation(at(name), format!("{n} is not in the range 0 to {max}"))
            }
            Some(_) => {}
        }
    }
}

fn path(i: usize, d: &Device, f: &mut Findings) {
    let at = || format!("linux.devices[{i}].path");
    if d.path.is_empty() {
        f.violation(at(), "it is required");
    } else if !d.path.starts_with('/') {
        f.violation(at(), format!("path {:?} is not absolute", d.path));
    }
    f.no_nul(at, &d.path);
}

/// The mode may hold the bits of the file type too, as stat(2) returns them: Docker writes it so.
fn owner_and_mode(i: usize, d: &Device, f: &mut Findings) {
    if let Some(mode) = d.file_mode.filter(|m| *m > 0o177_777) {
        f.hinted(
            format!("linux.devices[{i}].fileMode"),
            format!("{mode} is not a valid file mode"),
            "JSON numbers are decimal: octal 0666 is 438",
        );
    }
    for (name, id) in [("uid", d.uid), ("gid", d.gid)] {
        if id.is_some_and(|id| id > MAX_ID) {
            f.violation(
                format!("linux.devices[{i}].{name}"),
                format!("{} is not a valid ID, the highest is {MAX_ID}", u32::MAX),
            );
        }
    }
}

/// Two conflicting entries for one path. The same device twice is harmless, and tools write it.
fn differ(a: &Device, b: &Device) -> bool {
    let class = |d: &Device| if d.kind == "u" { "c".to_owned() } else { d.kind.clone() };
    let numbers = |d: &Device| if d.kind == "p" { None } else { Some((d.major, d.minor)) };
    class(a) != class(b) || numbers(a) != numbers(b)
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use serde_json::{Value, json};

    fn with(devices: Value) -> impl FnOnce(&mut Value) {
        move |v| v["linux"]["devices"] = devices
    }

    fn fuse() -> Value {
        json!({"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 438, "uid": 0, "gid": 0})
    }

    fn fuse_with(property: &str, value: Value) -> impl FnOnce(&mut Value) {
        let mut d = fuse();
        d[property] = value;
        with(json!([d]))
    }

    #[test]
    fn types_and_numbers() {
        passes(with(
            json!([fuse(), {"path": "/run/fifo", "type": "p"}, {"path": "/b", "type": "b", "major": 0, "minor": 0}]),
        ));
        passes(fuse_with("type", json!("u")));
        breaks("linux.devices[0].type: invalid device type \"a\"", fuse_with("type", json!("a")));
        breaks("linux.devices[0].type: invalid device type \"\"", fuse_with("type", Value::Null));
        breaks(
            "linux.devices[0].major: it is required for a device of type c",
            fuse_with("major", Value::Null),
        );
        breaks(
            "linux.devices[0].minor: it is required for a device of type c",
            fuse_with("minor", Value::Null),
        );
        breaks("linux.devices[0].major: -1 is not in the range 0 to 4095", fuse_with("major", json!(-1)));
        breaks("linux.devices[0].minor: 1048576 is not in", fuse_with("minor", json!(1 << 20)));
    }

    #[test]
    fn paths() {
        breaks("linux.devices[0].path: path \"dev/x\" is not absolute", fuse_with("path", json!("dev/x")));
        breaks("linux.devices[0].path: it is required", fuse_with("path", Value::Null));
        breaks("linux.devices[0].path: \"/dev/\\0\"", fuse_with("path", json!("/dev/\0")));
        passes(fuse_with("path", json!("/anywhere/fuse/")));
    }

    #[test]
    fn modes_and_owners() {
        passes(fuse_with("fileMode", json!(0o20666)));
        breaks(
            "linux.devices[0].fileMode: 65536 is not a valid file mode",
            fuse_with("fileMode", json!(0o200000)),
        );
        breaks("linux.devices[0].uid: 4294967295 is not a valid ID", fuse_with("uid", json!(u32::MAX)));
        breaks("linux.devices[0].gid: 4294967295 is not a valid ID", fuse_with("gid", json!(u32::MAX)));
    }

    #[test]
    fn one_path_is_one_device() {
        passes(with(json!([fuse(), fuse()])));
        passes(with(json!([{"path": "/dev/tty", "type": "c", "major": 5, "minor": 0}])));
        let mut other = fuse();
        other["minor"] = json!(1);
        breaks(
            "linux.devices[1].path: \"/dev/fuse\" is another device in linux.devices[0]",
            with(json!([fuse(), other])),
        );
    }
}
