//! The root file system as an overlay of layers, which the annotations `run.orun.rootfs.*` ask for
//! (docs/annotations.md).

use super::Violation;
use super::text::absolute;
use super::text::cstring;
use crate::config::spec::Spec;
use std::ffi::CString;
use std::path::Path;

/// Common prefix of the annotations.
pub const PREFIX: &str = "run.orun.rootfs.";
/// The read-only layers, topmost first, with colons in between; without it `root.path` is the only layer.
pub const LOWER: &str = "run.orun.rootfs.lower";
/// The directory that takes what the container changes; without it a tmpfs does.
pub const UPPER: &str = "run.orun.rootfs.upper";
/// An empty directory on the same file system as the upper one, for the kernel.
pub const WORK: &str = "run.orun.rootfs.work";
/// `true`: the upper directory is not needed after the container. Without it the kernel writes the whole file system to its disk
/// when the container ends.
pub const VOLATILE: &str = "run.orun.rootfs.volatile";

/// The step that failed in the child; the numbers below are those of the layers, from 1 on.
pub const OPENING_UPPER: i32 = 1001;
pub const OPENING_WORK: i32 = 1002;
pub const MAKING_TMPFS: i32 = 1003;
pub const MOUNTING: i32 = 1004;

/// OVL_MAX_STACK of the kernel.
const MOST_LAYERS: usize = 500;

/// Directories of the host that become one root file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overlay {
    /// Topmost first.
    pub layers: Vec<CString>,
    /// The upper directory and the one for work. `None`: a tmpfs.
    pub writable: Option<(CString, CString)>,
    /// The upper directory is not written to the disk when the container ends (overlayfs, "Volatile mount", Linux 5.10).
    pub volatile: bool,
    /// Attributes of overlayfs are in the namespace `user.`: those in `trusted.` are out of a user namespace's reach.
    pub user_xattr: bool,
}

impl Overlay {
    /// The overlay from the annotations of `spec`, which must be valid. `rootfs` is `root.path`.
    pub fn compile(spec: &Spec, bundle: &Path, rootfs: &Path, user_xattr: bool) -> Option<Overlay> {
        let value = |key| spec.annotations.get(key).map(String::as_str);
        if ![LOWER, UPPER, WORK].iter().any(|key| spec.annotations.contains_key(*key)) {
            return None;
        }
        let path = |text: &str| cstring(absolute(bundle, text).into_os_string().into_encoded_bytes());
        let layers = match value(LOWER) {
            Some(lower) => split(lower).iter().map(|layer| path(layer)).collect(),
            None => vec![cstring(rootfs.as_os_str().as_encoded_bytes())],
        };
        let writable = value(UPPER).zip(value(WORK)).map(|(upper, work)| (path(upper), path(work)));
        let volatile = writable.is_some() && value(VOLATILE) == Some("true");
        Some(Overlay { layers, writable, volatile, user_xattr })
    }

    /// The layers and where changes go, in words.
    pub fn words(&self) -> String {
        let layers: Vec<_> = self.layers.iter().map(|l| format!("{:?}", l.to_string_lossy())).collect();
        let changes = match &self.writable {
            Some((upper, _)) if self.volatile => {
                format!("changes go to {:?}, for as long as the container runs", upper.to_string_lossy())
            }
            Some((upper, _)) => format!("changes go to {:?}", upper.to_string_lossy()),
            None => "changes go to a tmpfs".into(),
        };
        format!("{} on each other, topmost first: {}; {changes}", count(layers.len()), layers.join(", "))
    }
}

fn count(layers: usize) -> String {
    if layers == 1 { "one layer".into() } else { format!("{layers} layers") }
}

/// The rules of the annotations.
pub(super) fn check(spec: &Spec, own_mounts: bool, found: &mut Vec<Violation>) {
    let mut used = spec.annotations.iter().filter(|(key, _)| key.starts_with(PREFIX)).peekable();
    let Some((first, _)) = used.peek() else { return };
    let of = |key: &str| format!("annotations[{key:?}]");
    if !own_mounts {
        let what = "an overlay needs a mount namespace of the container's own";
        found.push(Violation::new(of(first), what).hint("add {\"type\": \"mount\"} to linux.namespaces"));
    }
    for (key, value) in used {
        match key.as_str() {
            LOWER => lower(value, found),
            UPPER | WORK if value.is_empty() => found.push(Violation::new(of(key), "the path is empty")),
            UPPER | WORK if value.contains('\0') => {
                found.push(Violation::new(of(key), format!("{value:?} contains a null byte")));
            }
            UPPER | WORK => {}
            VOLATILE if matches!(value.as_str(), "true" | "false") => {}
            VOLATILE => {
                found.push(Violation::new(of(key), format!("{value:?} is neither \"true\" nor \"false\"")))
            }
            _ => found.push(
                Violation::new(of(key), "is not an annotation of orun")
                    .hint(format!("one of {LOWER}, {UPPER}, {WORK}, {VOLATILE}")),
            ),
        }
    }
    for (key, other) in [(UPPER, WORK), (WORK, UPPER), (VOLATILE, UPPER)] {
        if spec.annotations.contains_key(key) && !spec.annotations.contains_key(other) {
            let what = format!("{other} is missing");
            let way = "set both the upper and the work directory, on one file system";
            found.push(Violation::new(of(key), what).hint(way));
        }
    }
}

fn lower(value: &str, found: &mut Vec<Violation>) {
    let property = format!("annotations[{LOWER:?}]");
    let layers = split(value);
    if layers.iter().any(String::is_empty) {
        found.push(
            Violation::new(&*property, format!("{value:?} has an empty layer"))
                .hint("use directory paths separated by colons, topmost first; \\: is a colon in a path"),
        );
    }
    if layers.len() > MOST_LAYERS {
        let what = format!("{} layers are too many: the kernel takes {MOST_LAYERS}", layers.len());
        found.push(Violation::new(&*property, what));
    }
    if value.contains('\0') {
        found.push(Violation::new(property, format!("{value:?} contains a null byte")));
    }
}

/// The paths of a list; a backslash takes the meaning from what follows it.
fn split(list: &str) -> Vec<String> {
    let mut paths = vec![String::new()];
    let mut chars = list.chars();
    while let Some(c) = chars.next() {
        let last = paths.len() - 1;
        match c {
            ':' => paths.push(String::new()),
            '\\' => paths[last].push(chars.next().unwrap_or('\\')),
            c => paths[last].push(c),
        }
    }
    paths
}

/// A list of paths as [`LOWER`] has it.
pub fn join<'a>(paths: impl IntoIterator<Item = &'a str>) -> String {
    let quoted: Vec<_> = paths.into_iter().map(|p| p.replace('\\', "\\\\").replace(':', "\\:")).collect();
    quoted.join(":")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::defaults;
    use serde_json::json;

    fn spec(annotations: serde_json::Value) -> Spec {
        let mut v = defaults::spec();
        v["annotations"] = annotations;
        serde_json::from_value(v).unwrap()
    }

    fn compiled(annotations: serde_json::Value) -> Option<Overlay> {
        Overlay::compile(&spec(annotations), Path::new("/b"), Path::new("/b/rootfs"), false)
    }

    fn problems(annotations: serde_json::Value) -> Vec<String> {
        let mut found = Vec::new();
        check(&spec(annotations), true, &mut found);
        found.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn annotations_become_directories() {
        assert_eq!(compiled(json!({"other": "x"})), None);
        let paths = |list: &[&str]| list.iter().map(|p| cstring(*p)).collect::<Vec<_>>();
        let o = compiled(json!({LOWER: "/a:b\\:c:/d\\\\e"})).unwrap();
        assert_eq!((o.layers, o.writable), (paths(&["/a", "/b/b:c", "/d\\e"]), None));
        let o = compiled(json!({UPPER: "u", WORK: "/w"})).unwrap();
        assert_eq!(o.layers, paths(&["/b/rootfs"]));
        assert_eq!((o.writable, o.volatile), (Some((cstring("/b/u"), cstring("/w"))), false));
        let o = compiled(json!({UPPER: "u", WORK: "/w", VOLATILE: "true"})).unwrap();
        assert!(
            o.volatile && o.words().ends_with("\"/b/u\", for as long as the container runs"),
            "{}",
            o.words()
        );
    }

    #[test]
    fn lists_are_read_as_they_are_written() {
        for paths in [&["/a"][..], &["/a:b", "c\\d", "\\", ":"], &["/x", "/y", "/z"]] {
            assert_eq!(split(&join(paths.iter().copied())), paths, "{paths:?}");
        }
    }

    #[test]
    fn what_is_refused() {
        let one = |annotations, text: &str| {
            let all = problems(annotations);
            assert!(all.len() == 1 && all[0].contains(text), "{all:?}");
        };
        assert!(problems(json!({LOWER: "/a:/b", UPPER: "/u", WORK: "/w"})).is_empty());
        one(json!({LOWER: ""}), "\"\" has an empty layer");
        one(json!({LOWER: "/a::/b"}), "\"/a::/b\" has an empty layer");
        one(json!({LOWER: "/a\0b"}), "null byte");
        one(json!({LOWER: vec!["/a"; 501].join(":")}), "501 layers are too many");
        one(json!({UPPER: "/u"}), "run.orun.rootfs.work is missing");
        one(json!({WORK: "/u", LOWER: "/a"}), "run.orun.rootfs.upper is missing");
        one(json!({UPPER: "", WORK: "/w"}), "the path is empty");
        one(json!({UPPER: "/u", WORK: "/w", VOLATILE: "yes"}), "\"yes\" is neither \"true\" nor");
        one(json!({VOLATILE: "true"}), "run.orun.rootfs.upper is missing");
        one(json!({"run.orun.rootfs.lowerdir": "/a"}), "is not an annotation of orun (hint: one of run.orun");
        let mut found = Vec::new();
        check(&spec(json!({LOWER: "/a"})), false, &mut found);
        assert!(found[0].to_string().contains("needs a mount namespace"), "{found:?}");
    }
}
