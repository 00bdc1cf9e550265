//! A bundle: a root file system with the probe and busybox, and a configuration that cases change a little.

use crate::check::{Context, Done, Result};
use crate::readers::reads_with_oci_spec;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// The names under which busybox is in the container's /bin.
const APPLETS: [&str; 10] = ["sh", "true", "false", "cat", "echo", "id", "ls", "sleep", "stat", "touch"];

/// A bundle on disk whose configuration is still in memory.
#[derive(Debug, Clone)]
pub struct Bundle {
    /// The bundle directory.
    pub dir: PathBuf,
    /// The configuration; [`Bundle::save`] writes it.
    pub spec: Value,
    raw: Option<Vec<u8>>,
}

impl Bundle {
    /// Makes a bundle in `dir`. `programs` holds the probe and busybox on the same file system.
    pub fn make(dir: &Path, programs: &Path, cgroup: &str) -> Result<Bundle> {
        let rootfs = dir.join("rootfs");
        for name in ["bin", "dev", "etc", "proc", "sys", "tmp", "root", "run", "var", "mnt", "home"] {
            fs::create_dir_all(rootfs.join(name))?;
        }
        fs::set_permissions(rootfs.join("tmp"), fs::Permissions::from_mode(0o1777))?;
        for program in ["probe", "busybox"] {
            fs::hard_link(programs.join(program), rootfs.join("bin").join(program))
                .context("linking programs")?;
        }
        for applet in APPLETS {
            symlink("busybox", rootfs.join("bin").join(applet))?;
        }
        let passwd = "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000:user:/home:/bin/sh\n";
        fs::write(rootfs.join("etc/passwd"), passwd)?;
        fs::write(rootfs.join("etc/group"), "root:x:0:\nuser:x:1000:\n")?;
        Ok(Bundle { dir: dir.to_owned(), spec: default_spec(cgroup), raw: None })
    }

    /// The root file system.
    pub fn rootfs(&self) -> PathBuf {
        self.dir.join("rootfs")
    }

    /// Sets a property by JSON pointer and makes the objects on the way to it.
    pub fn set(mut self, pointer: &str, value: impl Into<Value>) -> Bundle {
        *slot(&mut self.spec, pointer) = value.into();
        self
    }

    /// Appends to the list that a JSON pointer means; the list is made when it is missing.
    pub fn push(mut self, pointer: &str, value: impl Into<Value>) -> Bundle {
        let list = slot(&mut self.spec, pointer);
        if !list.is_array() {
            *list = json!([]);
        }
        if let Some(list) = list.as_array_mut() {
            list.push(value.into());
        }
        self
    }

    /// Removes a property.
    pub fn unset(mut self, pointer: &str) -> Bundle {
        let (parent, name) = pointer.rsplit_once('/').unwrap_or(("", pointer));
        if let Some(object) = self.spec.pointer_mut(parent).and_then(Value::as_object_mut) {
            object.remove(name);
        }
        self
    }

    /// Changes the configuration by hand.
    pub fn with(mut self, change: impl FnOnce(&mut Value)) -> Bundle {
        change(&mut self.spec);
        self
    }

    /// These bytes are the config.json, whatever they are.
    pub fn raw(mut self, bytes: impl Into<Vec<u8>>) -> Bundle {
        self.raw = Some(bytes.into());
        self
    }

    /// The program and its arguments.
    pub fn args(self, args: &[&str]) -> Bundle {
        self.set("/process/args", json!(args))
    }

    /// A program that reports what it sees and ends.
    pub fn reports(self) -> Bundle {
        self.args(&["probe", "report"])
    }

    /// A program that waits for SIGTERM.
    pub fn sleeps(self) -> Bundle {
        self.args(&["probe", "sleep"])
    }

    /// A shell command.
    pub fn shell(self, command: &str) -> Bundle {
        self.args(&["sh", "-c", command])
    }

    /// One more mount.
    pub fn mount(self, destination: &str, fstype: &str, source: &str, options: &[&str]) -> Bundle {
        let mount = json!({"destination": destination, "type": fstype, "source": source, "options": options});
        self.push("/mounts", mount)
    }

    /// A bind mount of a host path.
    pub fn bind(self, source: &Path, destination: &str, options: &[&str]) -> Bundle {
        let mut all = vec!["bind"];
        all.extend(options);
        self.mount(destination, "bind", &source.to_string_lossy(), &all)
    }

    /// Without the default mount on `destination`.
    pub fn without_mount(self, destination: &str) -> Bundle {
        self.with(|spec| retain(&mut spec["mounts"], |m| m["destination"] != destination))
    }

    /// With a new namespace of this type.
    pub fn ns(self, kind: &str) -> Bundle {
        self.without_ns(kind).push("/linux/namespaces", json!({"type": kind}))
    }

    /// Joins the namespace at `path`.
    pub fn join_ns(self, kind: &str, path: &str) -> Bundle {
        self.without_ns(kind).push("/linux/namespaces", json!({"type": kind, "path": path}))
    }

    /// Inherits the runtime's namespace of this type.
    pub fn without_ns(self, kind: &str) -> Bundle {
        self.with(|spec| retain(&mut spec["linux"]["namespaces"], |n| n["type"] != kind))
    }

    /// A user namespace in which container id 0 is host id `host`, for `size` ids.
    pub fn userns(self, host: u32, size: u32) -> Bundle {
        let map = json!([{"containerID": 0, "hostID": host, "size": size}]);
        self.ns("user").set("/linux/uidMappings", map.clone()).set("/linux/gidMappings", map)
    }

    /// These capabilities in all five sets but the inheritable and ambient ones.
    pub fn capabilities(self, names: &[&str]) -> Bundle {
        let sets = json!({"bounding": names, "effective": names, "permitted": names});
        self.set("/process/capabilities", sets)
    }

    /// Writes a file below the root file system, with the directories on the way to it.
    pub fn file(self, path: &str, content: &str, mode: u32) -> Result<Bundle> {
        let path = self.rootfs().join(path.trim_start_matches('/'));
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&path, content).context(&format!("writing {}", path.display()))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
        Ok(self)
    }

    /// Makes a directory below the root file system.
    pub fn dir(self, path: &str) -> Result<Bundle> {
        fs::create_dir_all(self.rootfs().join(path.trim_start_matches('/')))?;
        Ok(self)
    }

    /// Puts a symbolic link where `path` is, replacing any file.
    pub fn link(self, path: &str, target: &str) -> Result<Bundle> {
        let path = self.rootfs().join(path.trim_start_matches('/'));
        if path.symlink_metadata().is_ok_and(|m| m.is_dir()) {
            fs::remove_dir_all(&path)?;
        } else {
            let _ = fs::remove_file(&path);
        }
        symlink(target, &path).context(&format!("linking {}", path.display()))?;
        Ok(self)
    }

    /// Demands that a reader of others understands this configuration, which the runtime has accepted.
    pub fn is_read_by_others(&self) -> Done {
        match self.raw {
            None => reads_with_oci_spec(&self.spec),
            Some(_) => Ok(()),
        }
    }

    /// Writes config.json.
    pub fn save(&self) -> Result<()> {
        let bytes = match &self.raw {
            Some(raw) => raw.clone(),
            None => serde_json::to_vec_pretty(&self.spec)?,
        };
        fs::write(self.dir.join("config.json"), bytes).context("writing config.json")
    }
}

/// Keeps the entries of a list that satisfy a condition.
pub fn retain(list: &mut Value, keep: impl Fn(&Value) -> bool) {
    if let Some(list) = list.as_array_mut() {
        list.retain(keep);
    }
}

/// The place a JSON pointer means; missing objects on the way are made.
fn slot<'a>(spec: &'a mut Value, pointer: &str) -> &'a mut Value {
    let mut at = spec;
    for part in pointer.split('/').skip(1) {
        let part = part.replace("~1", "/").replace("~0", "~");
        at = match part.parse::<usize>() {
            Ok(index) if at.is_array() => &mut at[index],
            _ => {
                if !at.is_object() {
                    *at = json!({});
                }
                &mut at[part]
            }
        };
    }
    at
}

/// A configuration as engines write it, kept small: five namespaces, the usual mounts, masked and read-only paths.
fn default_spec(cgroup: &str) -> Value {
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false,
            "user": {"uid": 0, "gid": 0},
            "args": ["probe", "report"],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            "cwd": "/",
            "capabilities": {
                "bounding": ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"],
                "effective": ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"],
                "permitted": ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"],
            },
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": true,
        },
        "root": {"path": "rootfs", "readonly": false},
        "hostname": "container",
        "mounts": default_mounts(),
        "linux": {
            "cgroupsPath": cgroup,
            "resources": {"devices": [{"allow": false, "access": "rwm"}]},
            "namespaces": [
                {"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"},
            ],
            "maskedPaths": ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
    })
}

fn default_mounts() -> Value {
    json!([
        {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
         "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
        {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
         "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
        {"destination": "/dev/shm", "type": "tmpfs", "source": "shm",
         "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]},
        {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
         "options": ["nosuid", "noexec", "nodev"]},
        {"destination": "/sys", "type": "sysfs", "source": "sysfs",
         "options": ["nosuid", "noexec", "nodev", "ro"]},
    ])
}
