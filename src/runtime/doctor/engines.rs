//! The installed engines, and whether their configuration names orun.

use super::Finding;
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Where programs are looked for, whatever $PATH says.
const PATHS: [&str; 6] = ["usr/local/sbin", "usr/local/bin", "usr/sbin", "usr/bin", "sbin", "bin"];

/// An engine: its name, its program, the files and folders of its configuration, and their readers.
struct Engine {
    name: &'static str,
    program: &'static str,
    configuration: &'static [&'static str],
    /// The path of the program that the configuration gives for `orun`, if it names it.
    registered: fn(&str) -> Option<String>,
}

const ENGINES: [Engine; 4] = [
    Engine {
        name: "docker",
        program: "dockerd",
        configuration: &["etc/docker/daemon.json"],
        registered: in_docker,
    },
    Engine {
        name: "containerd",
        program: "containerd",
        configuration: &["etc/containerd/config.toml", "etc/containerd/conf.d"],
        registered: |text| in_table(text, "runtimes.orun", "BinaryName"),
    },
    Engine {
        name: "podman",
        program: "podman",
        configuration: &[
            "usr/share/containers/containers.conf",
            "etc/containers/containers.conf",
            "etc/containers/containers.conf.d",
        ],
        registered: |text| in_table(text, "engine.runtimes", "orun"),
    },
    Engine {
        name: "cri-o",
        program: "crio",
        configuration: &["etc/crio/crio.conf", "etc/crio/crio.conf.d"],
        registered: |text| in_table(text, "crio.runtime.runtimes.orun", "runtime_path"),
    },
];

/// Findings about the engines whose files are below `root`.
pub(super) fn findings(root: &Path) -> Vec<Finding> {
    let found: Vec<Finding> = ENGINES.iter().filter_map(|e| engine(root, e)).collect();
    if found.is_empty() {
        return vec![Finding::works("engines", "none is installed; orun does not need one")];
    }
    found
}

fn engine(root: &Path, engine: &Engine) -> Option<Finding> {
    PATHS.iter().find(|dir| root.join(dir).join(engine.program).exists())?;
    let files = engine.configuration.iter().flat_map(|path| files(&root.join(path)));
    let registered =
        files.filter_map(|f| fs::read_to_string(f).ok()).filter_map(|t| (engine.registered)(&t)).next_back();
    Some(match registered {
        None => {
            let advice = format!("scripts/register --engine {} registers it, after asking", engine.name);
            Finding::limited(engine.name, "installed; orun is not registered", advice)
        }
        Some(path) if runs(root, &path) => {
            Finding::works(engine.name, format!("orun is registered as {path}"))
        }
        Some(path) => {
            let text = format!("is configured to run {path:?}, which does not exist");
            let advice = format!("install orun, or take it out of {}", list(engine));
            Finding::broken(engine.name, text, advice)
        }
    })
}

fn list(engine: &Engine) -> String {
    engine.configuration.iter().map(|c| format!("/{c}")).collect::<Vec<_>>().join(", ")
}

/// The file itself, or the files of a folder, in the order in which engines read them.
fn files(path: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(path) else { return vec![path.to_owned()] };
    let mut all: Vec<PathBuf> = entries.flatten().map(|e| e.path()).collect();
    all.sort();
    all
}

/// Whether `path` is a program; a bare name is looked for.
fn runs(root: &Path, path: &str) -> bool {
    let is_program =
        |p: PathBuf| fs::metadata(p).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0);
    match path.strip_prefix('/') {
        Some(rest) => is_program(root.join(rest)),
        None => PATHS.iter().any(|dir| is_program(root.join(dir).join(path))),
    }
}

fn in_docker(text: &str) -> Option<String> {
    let document: Value = serde_json::from_str(text).ok()?;
    Some(document["runtimes"]["orun"]["path"].as_str()?.to_owned())
}

/// The value of `key` in the table of a TOML file whose name ends with `table`: `key = "value"` or
/// `key = ["value", ...]`. Engines write no other form.
fn in_table(text: &str, table: &str, key: &str) -> Option<String> {
    let mut inside = false;
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
            let name = name.trim();
            inside =
                name.ends_with(table) || name.strip_suffix(".options").is_some_and(|n| n.ends_with(table));
        } else if inside
            && let Some((name, value)) = line.split_once('=')
            && name.trim().trim_matches('"') == key
        {
            return Some(value.split(['"', '\'']).nth(1)?.to_owned());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn each_engine_in_turn() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        let write = |path: &str, text: &str| {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        };
        assert_eq!(findings(root)[0].subject, "engines");
        for (name, program, file, text) in [
            (
                "docker",
                "dockerd",
                "etc/docker/daemon.json",
                r#"{"runtimes": {"orun": {"path": "/opt/orun"}}}"#,
            ),
            (
                "containerd",
                "containerd",
                "etc/containerd/config.toml",
                "[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.orun]\n  runtime_type = \"x\"\n  \
                 [plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.orun.options]\n    BinaryName = \"/opt/orun\"\n",
            ),
            (
                "podman",
                "podman",
                "etc/containers/containers.conf.d/o.conf",
                "[engine.runtimes]\norun = [\"/opt/orun\"]\n",
            ),
            (
                "cri-o",
                "crio",
                "etc/crio/crio.conf.d/o.conf",
                "[crio.runtime.runtimes.orun]\nruntime_path = '/opt/orun'\n",
            ),
        ] {
            write(&format!("usr/bin/{program}"), "");
            let verdict = || findings(root).into_iter().find(|f| f.subject == name).unwrap().verdict;
            assert_eq!(verdict(), Verdict::Limited, "{name}");
            write(file, text);
            assert_eq!(verdict(), Verdict::Broken, "{name}");
            write("opt/orun", "");
            assert_eq!(verdict(), Verdict::Works, "{name}");
            fs::remove_file(root.join("opt/orun")).unwrap();
        }
    }

    #[test]
    fn a_key_of_another_table_does_not_count() {
        assert_eq!(in_table("[engine]\norun = \"/x\"\n[engine.runtimes]\n", "engine.runtimes", "orun"), None);
        assert_eq!(in_table("[engine.runtimes]\norun = 3\n", "engine.runtimes", "orun"), None);
    }
}
