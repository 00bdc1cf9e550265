//! The runtime under test: a path, and what its `--version` says it is.

use crate::check::{Context, Result, fail};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A runtime that is driven through its command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Runtime {
    /// The program.
    pub path: PathBuf,
    /// The first word of the first line of `--version`: `orun`, `runc`, `crun`, `youki`.
    pub name: String,
    /// The whole first line of `--version`.
    pub version: String,
    /// Every call has `--systemd-cgroup`, and containers are in scopes.
    pub systemd_cgroup: bool,
}

impl Runtime {
    /// Finds the program, by path or in PATH, and asks what it is.
    pub fn find(name: &str) -> Result<Runtime> {
        let path = which(name).context(&format!("the runtime {name:?}"))?;
        let out = Command::new(&path).arg("--version").stdin(Stdio::null()).output();
        let out = out.context(&format!("{} --version", path.display()))?;
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        let version = text.lines().next().unwrap_or("").trim().to_owned();
        let word = version.split([' ', ':']).next().unwrap_or("").to_owned();
        let file = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        Ok(Runtime { path, name: if word.is_empty() { file } else { word }, version, systemd_cgroup: false })
    }

    /// Whether `--version` names this runtime.
    pub fn is(&self, name: &str) -> bool {
        self.name == name
    }
}

fn which(name: &str) -> Result<PathBuf> {
    if name.contains('/') {
        return Ok(Path::new(name).canonicalize()?);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|dir| dir.join(name)).find(|p| p.is_file());
    match found {
        Some(path) => Ok(path),
        None => fail("no such program in PATH"),
    }
}
