//! Bundles that together need every kind of step, for cases that go through all of them.

use crate::bundle::Bundle;
use crate::case::T;
use crate::check::{Context, Result};
use crate::command::{Cmd, VERB_DEADLINE, poll};
use crate::console::FdSocket;
use crate::proc;
use serde_json::json;
use std::os::unix::fs::chown;

/// The names of the bundles.
pub const NAMES: [&str; 4] = ["plain", "userns", "hooks-and-terminal", "joined"];

/// A bundle with what its container needs on the host.
pub struct Sample {
    pub bundle: Bundle,
    console: Option<FdSocket>,
}

impl Sample {
    /// The bundle of this name, saved. Its program waits for a signal.
    pub fn make(t: &T<'_>, name: &str) -> Result<Sample> {
        let bundle = t.bundle()?.sleeps();
        let mut console = None;
        let bundle = match name {
            "userns" => userns(bundle)?,
            "hooks-and-terminal" => {
                console = Some(FdSocket::listen(&t.path("console"))?);
                hooks_and_terminal(bundle)
            }
            "joined" => joined(t, bundle)?,
            _ => bundle,
        };
        bundle.save()?;
        Ok(Sample { bundle, console })
    }

    /// `VERB --bundle B [--console-socket S]`, for create and run.
    pub fn verb(&self, cmd: Cmd, verb: &str) -> Cmd {
        let cmd = cmd.arg(verb).arg("--bundle").arg(&self.bundle.dir);
        match &self.console {
            Some(socket) => {
                socket.drain();
                cmd.arg("--console-socket").arg(&socket.path)
            }
            None => cmd,
        }
    }
}

fn userns(bundle: Bundle) -> Result<Bundle> {
    let bundle = bundle.userns(100_000, 65_536).ns("cgroup");
    for dir in ["", "dev", "proc", "sys"] {
        chown(bundle.rootfs().join(dir), Some(100_000), Some(100_000))?;
    }
    let bundle = bundle.mount("/sys/fs/cgroup", "cgroup", "cgroup", &["ro", "nosuid", "noexec", "nodev"]);
    Ok(bundle.mount("/tmp", "tmpfs", "tmpfs", &["mode=1777", "tmpcopyup"]))
}

/// Also a system call filter that is loaded with privileges, a read-only root, sysctls, and a time namespace.
fn hooks_and_terminal(mut bundle: Bundle) -> Bundle {
    for kind in ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"] {
        bundle = bundle.set(&format!("/hooks/{kind}"), json!([{"path": "/bin/true", "timeout": 10}]));
    }
    let filter = json!({"defaultAction": "SCMP_ACT_ALLOW",
                        "syscalls": [{"names": ["kexec_load"], "action": "SCMP_ACT_ERRNO"}]});
    // Not every kernel has time namespaces (CONFIG_TIME_NS).
    if std::path::Path::new("/proc/self/ns/time").exists() {
        bundle = bundle.ns("time").set("/linux/timeOffsets", json!({"boottime": {"secs": 3600}}));
    }
    bundle
        .set("/process/terminal", true)
        .set("/process/noNewPrivileges", false)
        .set("/process/cwd", "/var/work")
        .set("/root/readonly", true)
        .set("/linux/seccomp", filter)
        .set("/linux/sysctl", json!({"net.ipv4.ip_forward": "1"}))
}

/// In the user, network and ipc namespaces of another process, which a first child must enter.
fn joined(t: &T<'_>, bundle: Bundle) -> Result<Bundle> {
    let mine = proc::namespace(std::process::id() as i32, "ipc");
    let holder = t.host("unshare").args(["-U", "-n", "-i", "sleep", "1000"]).spawn()?;
    t.own_process(holder.pid);
    poll("namespaces to join", VERB_DEADLINE, || {
        let name = proc::process(holder.pid)?.name;
        (name == "sleep" && proc::namespace(holder.pid, "ipc") != mine).then_some(())
    })?;
    for map in ["uid_map", "gid_map"] {
        std::fs::write(format!("/proc/{}/{map}", holder.pid), "0 0 65536").context("mapping ids")?;
    }
    let path = |file: &str| format!("/proc/{}/ns/{file}", holder.pid);
    Ok(bundle.join_ns("user", &path("user")).join_ns("network", &path("net")).join_ns("ipc", &path("ipc")))
}
