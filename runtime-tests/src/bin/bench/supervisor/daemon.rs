//! `orund` with directories of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A daemon and its keeper, which end with this value. Its containers have to be gone by then.
pub struct Daemon {
    program: PathBuf,
    directory: PathBuf,
    keeper: Child,
}

/// What a daemon and its keeper have, in kB.
#[derive(Clone, Copy)]
pub struct Memory {
    pub private_dirty: u64,
    pub pss: u64,
}

impl Daemon {
    /// Starts one that keeps its things in `directory`, which should be on tmpfs.
    pub fn start(program: &Path, directory: &Path) -> Result<Daemon, String> {
        fs::create_dir_all(directory).map_err(|e| format!("making {}: {e}", directory.display()))?;
        let log = fs::File::create(directory.join("stderr")).map_err(|e| e.to_string())?;
        let keeper = Command::new(program)
            .arg("--socket")
            .arg(directory.join("socket"))
            .arg("serve")
            .args(["--cgroup-parent", "/orun-bench"])
            .arg("--run-dir")
            .arg(directory.join("run"))
            .arg("--data-dir")
            .arg(directory.join("data"))
            .arg("--log-dir")
            .arg(directory.join("logs"))
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .map_err(|e| format!("starting {}: {e}", program.display()))?;
        let daemon = Daemon { program: program.into(), directory: directory.into(), keeper };
        let begin = Instant::now();
        while daemon.client(&["get"]).is_err() {
            if begin.elapsed() > Duration::from_secs(10) {
                return Err("orund does not answer".to_owned());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(daemon)
    }

    /// Runs a verb to its end; what it printed.
    pub fn client(&self, words: &[&str]) -> Result<String, String> {
        let output = Command::new(&self.program)
            .arg("--socket")
            .arg(self.directory.join("socket"))
            .args(words)
            .stdin(Stdio::null())
            .output()
            .map_err(|e| e.to_string())?;
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        } else {
            Err(format!("orund {}: {}", words[0], String::from_utf8_lossy(&output.stderr).trim()))
        }
    }

    /// Has `replicas` of a bundle, which are started again at once whenever they end.
    pub fn apply(&self, name: &str, bundle: &Path, replicas: usize) -> Result<(), String> {
        self.apply_with(name, bundle, replicas, "")
    }

    /// The same, each with a container that waits to take over.
    pub fn apply_with_spares(&self, name: &str, bundle: &Path) -> Result<(), String> {
        self.apply_with(name, bundle, 1, "  spares: 1\n")
    }

    fn apply_with(&self, name: &str, bundle: &Path, replicas: usize, more: &str) -> Result<(), String> {
        let text = format!(
            "apiVersion: orun.dev/v1\nkind: Workload\nmetadata: {{name: {name}}}\nspec:\n  replicas: {replicas}\n  \
             bundle: {}\n  backoff: {{initial: 0, max: 0}}\n{more}",
            bundle.display()
        );
        let file = self.directory.join(format!("{name}.yaml"));
        fs::write(&file, text).map_err(|e| format!("writing {}: {e}", file.display()))?;
        self.client(&["apply", "-f", &file.to_string_lossy()]).map(drop)
    }

    /// Stops a workload, and waits until nothing is left of it.
    pub fn delete(&self, name: &str) -> Result<(), String> {
        self.client(&["delete", name, "--wait", "--timeout", "120"]).map(drop)
    }

    /// The keeper and the supervisor.
    fn pids(&self) -> Vec<u32> {
        let keeper = self.keeper.id();
        let children =
            fs::read_to_string(format!("/proc/{keeper}/task/{keeper}/children")).unwrap_or_default();
        let program = fs::read_link(format!("/proc/{keeper}/exe")).ok();
        let same = |pid: &u32| fs::read_link(format!("/proc/{pid}/exe")).ok() == program;
        // The containers are its children, too.
        let supervisor = children.split_whitespace().filter_map(|pid| pid.parse().ok()).find(same);
        std::iter::once(keeper).chain(supervisor).collect()
    }

    /// See /proc/PID/smaps_rollup in proc(5).
    pub fn memory(&self) -> Memory {
        let mut memory = Memory { private_dirty: 0, pss: 0 };
        for pid in self.pids() {
            let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
            let of = |name: &str| -> u64 {
                let line = text.lines().find_map(|l| l.strip_prefix(name));
                line.and_then(|l| l.split_whitespace().next()?.parse().ok()).unwrap_or(0)
            };
            memory.private_dirty += of("Private_Dirty:");
            memory.pss += of("Pss:");
        }
        memory
    }

    /// CPU time that all their threads have had (the first number of /proc/PID/schedstat).
    pub fn cpu(&self) -> Duration {
        let tasks = self.pids().into_iter().filter_map(|pid| fs::read_dir(format!("/proc/{pid}/task")).ok());
        let spent = tasks.flatten().flatten().filter_map(|task| {
            let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
            text.split_whitespace().next()?.parse::<u64>().ok()
        });
        Duration::from_nanos(spent.sum())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let pid = nix::unistd::Pid::from_raw(self.keeper.id() as i32);
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        let _ = self.keeper.wait();
        let _ = fs::remove_dir_all(&self.directory);
    }
}
