//! The bundles: one root file system for all peers, and for each peer its own config.json and cgroup.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::profile;

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// What `runc spec` writes: seven mounts, masked paths, three capabilities, a read-only root.
    Plain,
    /// What Docker asks for in addition or instead: a seccomp profile, limits, fourteen capabilities, three bound files.
    Docker,
}

impl Kind {
    pub const ALL: [Kind; 2] = [Kind::Plain, Kind::Docker];

    pub fn name(self) -> &'static str {
        match self {
            Kind::Plain => "plain",
            Kind::Docker => "docker",
        }
    }
}

const NAMESPACES: [&str; 6] = ["pid", "network", "ipc", "uts", "mount", "cgroup"];
const FILES: [&str; 3] = ["resolv.conf", "hostname", "hosts"];
const HARD: [&str; 3] = ["nosuid", "noexec", "nodev"];

/// A directory of bundles that goes away with this value.
pub struct Workshop {
    pub directory: PathBuf,
}

impl Drop for Workshop {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
        let _ = fs::remove_dir_all(states());
    }
}

fn states() -> PathBuf {
    PathBuf::from(format!("/run/orun-bench-{}", std::process::id()))
}

impl Workshop {
    /// Makes the root file system from a static busybox, and what the Docker-like bundle adds.
    pub fn new(busybox: &Path) -> std::io::Result<Workshop> {
        let directory = std::env::temp_dir().join(format!("orun-bench-{}", std::process::id()));
        let workshop = Workshop { directory };
        let rootfs = workshop.rootfs();
        for name in ["bin", "dev", "etc", "proc", "sys", "tmp"] {
            fs::create_dir_all(rootfs.join(name))?;
        }
        fs::copy(busybox, rootfs.join("bin/busybox"))?;
        for applet in ["sh", "sleep", "true"] {
            symlink("busybox", rootfs.join("bin").join(applet))?;
        }
        fs::write(rootfs.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n")?;
        fs::write(rootfs.join("etc/group"), "root:x:0:\n")?;
        fs::create_dir_all(workshop.extras())?;
        for name in FILES {
            fs::write(rootfs.join("etc").join(name), "")?;
            fs::write(workshop.extras().join(name), "bench\n")?;
        }
        fs::write(workshop.extras().join("filter"), profile::filter())?;
        Ok(workshop)
    }

    pub fn rootfs(&self) -> PathBuf {
        self.directory.join("rootfs")
    }

    /// What the floor's `--docker` takes.
    pub fn extras(&self) -> PathBuf {
        self.directory.join("docker")
    }

    /// The state directory of a peer: below /run, where runtimes have it by default.
    pub fn state(&self, peer: &str) -> PathBuf {
        states().join(peer)
    }

    /// Writes a bundle and returns its directory.
    pub fn bundle(
        &self,
        peer: &str,
        kind: Kind,
        cgroup: &str,
        args: &[&str],
        v2: bool,
    ) -> std::io::Result<PathBuf> {
        let directory = self.directory.join(format!("{peer}-{}-{}", kind.name(), args[0].replace('/', "")));
        fs::create_dir_all(&directory)?;
        let config = self.config(kind, cgroup, args, v2);
        fs::write(directory.join("config.json"), serde_json::to_vec_pretty(&config)?)?;
        Ok(directory)
    }

    fn config(&self, kind: Kind, cgroup: &str, args: &[&str], v2: bool) -> Value {
        let docker = kind == Kind::Docker;
        let capabilities = if docker { DOCKER_CAPABILITIES } else { PLAIN_CAPABILITIES };
        let namespaces = NAMESPACES.map(|kind| json!({ "type": kind }));
        let mut config = json!({
            // Debian 12's crun knows no later one.
            "ociVersion": "1.0.2",
            "hostname": "bench",
            "root": { "path": self.rootfs(), "readonly": !docker },
            "process": {
                "args": args,
                "cwd": "/",
                "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
                "user": { "uid": 0, "gid": 0 },
                "capabilities": { "bounding": capabilities, "effective": capabilities, "permitted": capabilities },
                "rlimits": [{ "type": "RLIMIT_NOFILE", "soft": 1024, "hard": 1024 }],
            },
            "mounts": self.mounts(kind),
            "linux": {
                "cgroupsPath": format!("/{cgroup}"),
                "namespaces": namespaces,
                "resources": { "devices": [{ "allow": false, "access": "rwm" }] },
                "maskedPaths": ["/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
                    "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware"],
                "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
            },
        });
        if docker {
            config["linux"]["seccomp"] = profile::json();
            config["linux"]["resources"]["devices"] = devices();
            // A cgroup2 mount beside v1 hierarchies has none of these controllers.
            if !v2 || has_controllers() {
                config["linux"]["resources"]["memory"] = json!({ "limit": 268_435_456 });
                config["linux"]["resources"]["pids"] = json!({ "limit": 100 });
                config["linux"]["resources"]["cpu"] =
                    json!({ "shares": 512, "quota": 200_000, "period": 100_000 });
            }
        } else {
            config["process"]["noNewPrivileges"] = json!(true);
        }
        config
    }

    fn mounts(&self, kind: Kind) -> Value {
        let mount = |destination: &str, kind: &str, source: &str, options: &[&str]| json!({ "destination": destination, "type": kind, "source": source, "options": options });
        let read_only: Vec<&str> = HARD.into_iter().chain(["ro"]).collect();
        let mut mounts = vec![
            mount("/proc", "proc", "proc", &HARD),
            mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
            mount(
                "/dev/pts",
                "devpts",
                "devpts",
                &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
            ),
            mount("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
            mount("/dev/mqueue", "mqueue", "mqueue", &HARD),
            mount("/sys", "sysfs", "sysfs", &read_only),
            mount("/sys/fs/cgroup", "cgroup", "cgroup", &[&read_only[..], &["relatime"]].concat()),
        ];
        if kind == Kind::Docker {
            for name in FILES {
                let source = self.extras().join(name);
                let source = source.to_str().expect("a temporary directory's name is text");
                mounts.push(mount(&format!("/etc/{name}"), "bind", source, &["rbind", "rprivate"]));
            }
        }
        Value::from(mounts)
    }
}

const PLAIN_CAPABILITIES: &[&str] = &["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"];
const DOCKER_CAPABILITIES: &[&str] = &[
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

/// Deny all, then what a container may use: the standard character devices and terminals.
fn devices() -> Value {
    let mut rules = vec![json!({ "allow": false, "access": "rwm" })];
    for (major, minor) in [(1, 3), (1, 5), (1, 8), (1, 9), (5, 0), (5, 1)] {
        rules.push(json!({ "allow": true, "type": "c", "major": major, "minor": minor, "access": "rwm" }));
    }
    rules.push(json!({ "allow": false, "type": "c", "major": 10, "minor": 229, "access": "rwm" }));
    Value::from(rules)
}

/// Whether the cgroup2 tree has the controllers that the limits need.
fn has_controllers() -> bool {
    let controllers = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
    ["cpu", "memory", "pids"].iter().all(|wanted| controllers.split_whitespace().any(|c| c == *wanted))
}
