//! `probe report`: one JSON document of what this process sees.

use nix::fcntl::readlink;
use nix::unistd;
use runtime_tests::{proc, sys};
use serde_json::{Map, Value, json};
use std::fs;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

const CAPABILITIES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

const LIMITS: [(&str, u32); 16] = [
    ("RLIMIT_CPU", libc::RLIMIT_CPU),
    ("RLIMIT_FSIZE", libc::RLIMIT_FSIZE),
    ("RLIMIT_DATA", libc::RLIMIT_DATA),
    ("RLIMIT_STACK", libc::RLIMIT_STACK),
    ("RLIMIT_CORE", libc::RLIMIT_CORE),
    ("RLIMIT_RSS", libc::RLIMIT_RSS),
    ("RLIMIT_NPROC", libc::RLIMIT_NPROC),
    ("RLIMIT_NOFILE", libc::RLIMIT_NOFILE),
    ("RLIMIT_MEMLOCK", libc::RLIMIT_MEMLOCK),
    ("RLIMIT_AS", libc::RLIMIT_AS),
    ("RLIMIT_LOCKS", libc::RLIMIT_LOCKS),
    ("RLIMIT_SIGPENDING", libc::RLIMIT_SIGPENDING),
    ("RLIMIT_MSGQUEUE", libc::RLIMIT_MSGQUEUE),
    ("RLIMIT_NICE", libc::RLIMIT_NICE),
    ("RLIMIT_RTPRIO", libc::RLIMIT_RTPRIO),
    ("RLIMIT_RTTIME", libc::RLIMIT_RTTIME),
];

/// Everything, plus facts about the given paths and sysctls.
pub fn document(paths: &[&str], sysctls: &[&str]) -> Value {
    let mut all = Map::new();
    // First of all the descriptors, while the probe itself has opened nothing.
    all.insert("fds".into(), descriptors());
    for part in [identity(), environment(), kernel_view(), files(paths, sysctls)] {
        if let Value::Object(part) = part {
            all.extend(part);
        }
    }
    Value::Object(all)
}

fn text(path: &str) -> Option<String> {
    fs::read_to_string(path).ok().map(|s| s.trim_end_matches(['\n', '\0']).to_owned())
}

fn lines(path: &str) -> Vec<String> {
    text(path).map(|t| t.lines().map(str::to_owned).collect()).unwrap_or_default()
}

/// What each open descriptor is, without the one that the listing itself needs.
fn descriptors() -> Value {
    let Ok(entries) = fs::read_dir("/proc/self/fd") else { return Value::Null };
    let numbers: Vec<String> =
        entries.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    let open = numbers.into_iter().filter_map(|number| {
        let target = readlink(format!("/proc/self/fd/{number}").as_str()).ok()?;
        Some((number, Value::String(target.to_string_lossy().into_owned())))
    });
    Value::Object(open.collect())
}

fn status_fields() -> Map<String, Value> {
    let fields = lines("/proc/self/status").into_iter();
    fields.filter_map(|l| l.split_once(':').map(|(k, v)| (k.to_owned(), json!(v.trim())))).collect()
}

fn capability_names(hex: &Value) -> Value {
    let Some(bits) = hex.as_str().and_then(|h| u64::from_str_radix(h, 16).ok()) else { return Value::Null };
    let known = (0..64).filter(|bit| bits >> bit & 1 == 1);
    let name = |bit: usize| CAPABILITIES.get(bit).map_or_else(|| format!("CAP_{bit}"), |n| (*n).to_owned());
    json!(known.map(name).collect::<Vec<_>>())
}

fn numbers(field: &Value) -> Vec<u64> {
    field.as_str().unwrap_or("").split_whitespace().filter_map(|n| n.parse().ok()).collect()
}

fn identity() -> Value {
    let status = status_fields();
    let field = |name: &str| status.get(name).cloned().unwrap_or(Value::Null);
    let limits: Map<String, Value> = LIMITS
        .iter()
        .filter_map(|(name, number)| {
            let (soft, hard) = sys::getrlimit(*number).ok()?;
            Some(((*name).to_owned(), json!([soft, hard])))
        })
        .collect();
    json!({
        "pid": std::process::id(),
        "ppid": unistd::getppid().as_raw(),
        "sid": unistd::getsid(None).map(|p| p.as_raw()).unwrap_or(-1),
        "pgid": unistd::getpgrp().as_raw(),
        "uids": numbers(&field("Uid")),
        "gids": numbers(&field("Gid")),
        "groups": unistd::getgroups().unwrap_or_default().iter().map(|g| g.as_raw()).collect::<Vec<_>>(),
        "umask": field("Umask"),
        "caps": {
            "effective": capability_names(&field("CapEff")),
            "permitted": capability_names(&field("CapPrm")),
            "inheritable": capability_names(&field("CapInh")),
            "bounding": capability_names(&field("CapBnd")),
            "ambient": capability_names(&field("CapAmb")),
        },
        "last_cap": text("/proc/sys/kernel/cap_last_cap"),
        "no_new_privs": sys::prctl(libc::PR_GET_NO_NEW_PRIVS, 0).ok(),
        "seccomp": field("Seccomp"),
        "seccomp_filters": field("Seccomp_filters"),
        "threads": field("Threads"),
        "signals": {"blocked": field("SigBlk"), "ignored": field("SigIgn"), "pending": field("ShdPnd")},
        "rlimits": limits,
        "oom_score_adj": text("/proc/self/oom_score_adj"),
        "uid_map": lines("/proc/self/uid_map"),
        "gid_map": lines("/proc/self/gid_map"),
        "setgroups": text("/proc/self/setgroups"),
        "securebits": sys::prctl(libc::PR_GET_SECUREBITS, 0).ok(),
        "dumpable": sys::prctl(libc::PR_GET_DUMPABLE, 0).ok(),
        "parent_death_signal": sys::parent_death_signal().ok(),
        "lsm": {"current": text("/proc/self/attr/current"), "exec": text("/proc/self/attr/exec")},
        "keyring": keyring(),
    })
}

/// The session keyring: its number, and `type;uid;gid;perm;description`.
fn keyring() -> Value {
    match sys::key_id(libc::KEY_SPEC_SESSION_KEYRING) {
        Ok(id) => json!({"id": id, "description": sys::key_description(id).ok()}),
        Err(e) => json!({"error": e.to_string()}),
    }
}

fn environment() -> Value {
    let environ = fs::read("/proc/self/environ").unwrap_or_default();
    let raw: Vec<String> = environ
        .split(|b| *b == 0)
        .filter(|v| !v.is_empty())
        .map(|v| String::from_utf8_lossy(v).into_owned())
        .collect();
    let env: Map<String, Value> = std::env::vars_os()
        .map(|(k, v)| (k.to_string_lossy().into_owned(), json!(v.to_string_lossy())))
        .collect();
    json!({
        "argv": std::env::args_os().map(|a| a.to_string_lossy().into_owned()).collect::<Vec<_>>(),
        "environ": raw,
        "env": env,
        "cwd": unistd::getcwd().map(|p| p.to_string_lossy().into_owned()).ok(),
        "root": readlink("/proc/self/root").map(|p| p.to_string_lossy().into_owned()).ok(),
        "exe": readlink("/proc/self/exe").map(|p| p.to_string_lossy().into_owned()).ok(),
        "tty": terminals(),
    })
}

fn terminals() -> Value {
    let mut all = Map::new();
    for number in 0..3 {
        // SAFETY: the descriptor is only used for questions; when it is closed they answer EBADF.
        let fd = unsafe { BorrowedFd::borrow_raw(number) };
        let is_terminal = unistd::isatty(fd).unwrap_or(false);
        let facts = is_terminal.then(|| {
            let (rows, columns) = sys::winsize(fd).unwrap_or_default();
            json!({
                "name": unistd::ttyname(fd).map(|n| n.to_string_lossy().into_owned()).ok(),
                "rows": rows,
                "columns": columns,
                "session": sys::terminal_session(fd).ok(),
            })
        });
        all.insert(number.to_string(), facts.unwrap_or(Value::Null));
    }
    Value::Object(all)
}

fn kernel_view() -> Value {
    let ns: Map<String, Value> = [
        "pid",
        "net",
        "mnt",
        "ipc",
        "uts",
        "user",
        "cgroup",
        "time",
        "pid_for_children",
        "time_for_children",
    ]
    .iter()
    .map(|kind| ((*kind).to_owned(), json!(proc::namespace(std::process::id() as i32, kind))))
    .collect();
    // sched_getscheduler, getpriority (which returns 20 - nice) and ioprio_get answer with plain numbers.
    let ask = |number, args| sys::syscall(number, args).ok();
    json!({
        "ns": ns,
        "hostname": text("/proc/sys/kernel/hostname"),
        "domainname": text("/proc/sys/kernel/domainname"),
        "mountinfo": lines("/proc/self/mountinfo"),
        "cgroup": lines("/proc/self/cgroup"),
        "time_offsets": lines("/proc/self/timens_offsets"),
        "monotonic": sys::clock(libc::CLOCK_MONOTONIC).ok(),
        "boottime": sys::clock(libc::CLOCK_BOOTTIME).ok(),
        "scheduler": {
            "policy": ask(libc::SYS_sched_getscheduler, [0; 6]),
            "nice": ask(libc::SYS_getpriority, [0; 6]).map(|n| 20 - n),
            "priority": lines("/proc/self/sched").iter().find_map(|l| {
                l.strip_prefix("prio").and_then(|r| r.trim_start_matches([' ', ':']).parse::<i64>().ok())
            }),
        },
        "io_priority": ask(libc::SYS_ioprio_get, [1, 0, 0, 0, 0, 0]),
        "affinity": sys::affinity().ok(),
        "personality": ask(libc::SYS_personality, [0xffff_ffff, 0, 0, 0, 0, 0]),
        "interfaces": interfaces(),
    })
}

/// Interface name to flags (netdevice(7)), from sysfs if mounted, else from /proc/net/dev without flags.
fn interfaces() -> Value {
    let names = lines("/proc/self/net/dev").into_iter().skip(2);
    let names = names.filter_map(|l| l.split(':').next().map(|n| n.trim().to_owned()));
    let flags = |name: &str| text(&format!("/sys/class/net/{name}/flags"));
    Value::Object(names.map(|n| (n.clone(), json!(flags(&n)))).collect())
}

fn files(paths: &[&str], sysctls: &[&str]) -> Value {
    let path_facts: Map<String, Value> =
        paths.iter().map(|p| ((*p).to_owned(), facts(Path::new(p)))).collect();
    let values: Map<String, Value> = sysctls
        .iter()
        .map(|n| ((*n).to_owned(), json!(text(&format!("/proc/sys/{}", n.replace('.', "/"))))))
        .collect();
    let mut dev = Map::new();
    for name in list(Path::new("/dev")) {
        let path = Path::new("/dev").join(&name);
        dev.insert(name.clone(), facts(&path));
    }
    json!({"paths": path_facts, "sysctls": values, "dev": dev})
}

fn list(dir: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let mut names: Vec<String> =
        entries.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// Type, mode, owner, device number, link target, entries and the beginning of the content of a path.
fn facts(path: &Path) -> Value {
    let Ok(meta) = fs::symlink_metadata(path) else { return Value::Null };
    let kind = meta.file_type();
    let name = match () {
        () if kind.is_file() => "file",
        () if kind.is_dir() => "dir",
        () if kind.is_symlink() => "link",
        () if kind.is_char_device() => "char",
        () if kind.is_block_device() => "block",
        () if kind.is_fifo() => "fifo",
        () => "socket",
    };
    let link = fs::read_link(path).ok().map(|l| l.to_string_lossy().into_owned());
    let content = (kind.is_file()).then(|| fs::read(path).ok()).flatten();
    json!({
        "type": name,
        "mode": format!("{:04o}", meta.mode() & 0o7777),
        "uid": meta.uid(),
        "gid": meta.gid(),
        "rdev": format!("{}:{}", libc::major(meta.rdev()), libc::minor(meta.rdev())),
        "link": link,
        "size": meta.size(),
        "entries": kind.is_dir().then(|| list(path)),
        "content": content.map(|c| String::from_utf8_lossy(&c[..c.len().min(4096)]).into_owned()),
    })
}
