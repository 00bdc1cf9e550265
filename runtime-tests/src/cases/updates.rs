//! Every flag of `update`, read back from the kernel, the sockets that get a pidfd, and flags that callers use rarely.

use crate::case::T;
use crate::cgroup::{self, Layout};
use crate::check::{Context, Done, same, skip};
use crate::console::FdSocket;
use crate::ensure;
use crate::matrix::Matrix;
use serde_json::json;
use std::fs;
use std::os::fd::AsRawFd;

const UPDATE: &str = "runc contract: update";

/// Adds the cases of this area.
pub fn register(m: &mut Matrix) {
    flags(m);
    others(m);
    pidfds(m);
    subreaper(m);
    flags_of_creation(m);
    global_flags(m);
    statistics(m);
}

/// A file of a v1 controller or of a v2 cgroup, and what it begins with.
type File = (&'static str, &'static str, &'static str);

/// What a flag changes; no file: the hierarchy has no such setting.
struct Flag {
    name: &'static str,
    options: &'static [&'static str],
    v1: Option<File>,
    v2: Option<File>,
}

const FLAGS: [Flag; 11] = [
    Flag {
        name: "memory-swap",
        options: &["--memory", "48m", "--memory-swap", "96m"],
        v1: Some(("memory", "memory.memsw.limit_in_bytes", "100663296")),
        v2: Some(("memory", "memory.swap.max", "50331648")),
    },
    Flag {
        name: "memory-unlimited",
        options: &["--memory", "-1"],
        v1: Some(("memory", "memory.limit_in_bytes", "9223372036854771712")),
        v2: Some(("memory", "memory.max", "max")),
    },
    Flag {
        name: "kernel-memory-is-ignored",
        options: &["--kernel-memory", "16m", "--kernel-memory-tcp", "16m"],
        v1: Some(("memory", "memory.limit_in_bytes", "67108864")),
        v2: Some(("memory", "memory.max", "67108864")),
    },
    Flag {
        name: "blkio-weight",
        options: &["--blkio-weight", "300"],
        v1: Some(("blkio", "blkio.bfq.weight", "300")),
        v2: Some(("io", "io.bfq.weight", "default 300")),
    },
    Flag {
        name: "cpu-period",
        options: &["--cpu-period", "50000"],
        v1: Some(("cpu", "cpu.cfs_period_us", "50000")),
        v2: Some(("cpu", "cpu.max", "max 50000")),
    },
    Flag {
        name: "cpu-burst",
        options: &["--cpu-quota", "40000", "--cpu-burst", "10000"],
        v1: Some(("cpu", "cpu.cfs_burst_us", "10000")),
        v2: Some(("cpu", "cpu.max.burst", "10000")),
    },
    Flag {
        name: "cpu-idle",
        options: &["--cpu-idle", "1"],
        v1: Some(("cpu", "cpu.idle", "1")),
        v2: Some(("cpu", "cpu.idle", "1")),
    },
    Flag {
        name: "cpu-rt-runtime",
        options: &["--cpu-rt-period", "900000", "--cpu-rt-runtime", "9000"],
        v1: Some(("cpu", "cpu.rt_runtime_us", "9000")),
        v2: None,
    },
    Flag {
        name: "cpu-rt-period",
        options: &["--cpu-rt-period", "900000"],
        v1: Some(("cpu", "cpu.rt_period_us", "900000")),
        v2: None,
    },
    Flag {
        name: "cpuset-mems",
        options: &["--cpuset-mems", "0"],
        v1: Some(("cpuset", "cpuset.mems", "0")),
        v2: Some(("cpuset", "cpuset.mems", "0")),
    },
    Flag {
        name: "pids-unlimited",
        options: &["--pids-limit", "-1"],
        v1: Some(("pids", "pids.max", "max")),
        v2: Some(("pids", "pids.max", "max")),
    },
];

fn flags(m: &mut Matrix) {
    for flag in &FLAGS {
        m.case(format!("verbs/update-{}", flag.name), UPDATE, |t| {
            let (controller, file, want) = match (cgroup::layout(), flag.v1, flag.v2) {
                (Layout::V1, Some(file), _) | (Layout::V2, _, Some(file)) => file,
                _ => return refused(t, flag.options),
            };
            t.controller(controller)?;
            let resources = json!({"memory": {"limit": 67_108_864}, "pids": {"limit": 50}});
            let c = t.sleeper(t.bundle()?.set("/linux/resources", resources))?;
            let dir = super::cgroups::dir(c.pid()?, controller)?;
            if !dir.join(file).exists() {
                c.end()?;
                return skip(format!("this kernel has no {file}"));
            }
            c.verb_with("update", flag.options).ok()?;
            let seen = cgroup::read(&dir, file)?;
            ensure!(seen.starts_with(want), "{file} is {seen:?} instead of {want:?}");
            c.end()
        });
    }
}

/// What version 2 has no setting for is an error, and changes nothing.
fn refused(t: &T<'_>, options: &[&str]) -> Done {
    let c = t.sleeper(t.bundle()?)?;
    c.verb_with("update", options).output()?.fails()?;
    c.is("running")
}

fn others(m: &mut Matrix) {
    for (name, options) in [
        ("l3-cache-schema", ["--l3-cache-schema", "L3:0=f"]),
        ("mem-bw-schema", ["--mem-bw-schema", "MB:0=20"]),
    ] {
        m.case(format!("verbs/update-{name}-without-a-class-is-an-error"), UPDATE, move |t| {
            let c = t.sleeper(t.bundle()?)?;
            c.verb_with("update", &options).output()?.fails_with(&["intelRdt", "Intel RDT"])?;
            c.is("running")
        });
    }
    for (name, options) in [
        ("idle-of-2", ["--cpu-idle", "2"]),
        ("weight-of-5", ["--blkio-weight", "5"]),
        ("cpus-that-are-no-list", ["--cpuset-cpus", "moon"]),
        ("a-period-of-5", ["--cpu-period", "5"]),
        ("too-many-pids", ["--pids-limit", "99999999999999999999"]),
    ] {
        m.case(format!("verbs/update-with-{name}-is-an-error"), UPDATE, move |t| {
            let c = t.sleeper(t.bundle()?)?;
            c.verb_with("update", &options).output()?.fails()?;
            c.is("running")
        });
    }
    m.case("verbs/update-of-a-created-container", UPDATE, |t| {
        t.controller("pids")?;
        let c = t.create(&t.bundle()?.sleeps())?;
        c.verb_with("update", &["--pids-limit", "33"]).ok()?;
        let dir = super::cgroups::dir(c.pid()?, "pids")?;
        same("pids.max", cgroup::read(&dir, "pids.max")?.as_str(), "33")?;
        c.end()
    });
    m.case(
        "verbs/update-below-the-usage-is-refused-where-it-is-to-be-checked",
        "config-linux.md Memory",
        |t| {
            t.controller("memory")?;
            let memory = json!({"limit": 134_217_728, "checkBeforeUpdate": true});
            let bundle = t.bundle()?.set("/linux/resources/memory", memory).args(&["probe", "hold", "64M"]);
            let c = t.start(&bundle)?;
            c.await_output("holding")?;
            c.verb_with("update", &["--memory", "16m"]).output()?.fails()?;
            c.is("running")?;
            let dir = super::cgroups::dir(c.pid()?, "memory")?;
            let file = if cgroup::layout() == Layout::V1 { "memory.limit_in_bytes" } else { "memory.max" };
            same(file, cgroup::read(&dir, file)?.as_str(), "134217728")?;
            c.end()
        },
    );
}

/// Demands that the socket gets a pidfd of this process.
pub(super) fn is_pidfd_of(socket: &FdSocket, pid: i32) -> Done {
    let message = socket.receive()?;
    same("descriptors", message.fds.len(), 1)?;
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", message.fds[0].as_raw_fd()))?;
    ensure!(info.lines().any(|l| l == format!("Pid:\t{pid}")), "no pidfd of {pid}: {info}");
    Ok(())
}

fn pidfds(m: &mut Matrix) {
    const PIDFD: &str = "runc contract: --pidfd-socket";
    m.case("cli/pidfd-socket-of-create", PIDFD, |t| {
        let path = t.path("pidfd");
        let socket = FdSocket::listen(&path)?;
        let c = t.create_with(&t.bundle()?.sleeps(), |cmd| cmd.arg("--pidfd-socket").arg(&path))?;
        is_pidfd_of(&socket, c.pid()?)
    });
    m.case("cli/pidfd-socket-of-detached-run", PIDFD, |t| {
        let path = t.path("pidfd");
        let socket = FdSocket::listen(&path)?;
        let bundle = t.bundle()?.sleeps();
        bundle.save()?;
        let id = t.id();
        let run = t.verb("run").args(["-d", "--pidfd-socket"]).arg(&path).arg("--bundle").arg(&bundle.dir);
        run.arg(&id).ok()?;
        let state = t.verb("state").arg(&id).ok()?.stdout;
        let state: serde_json::Value = serde_json::from_str(&state)?;
        is_pidfd_of(&socket, state["pid"].as_i64().unwrap_or_default() as i32)
    });
    m.case("cli/pidfd-socket-of-exec", PIDFD, |t| {
        let c = t.sleeper(t.bundle()?)?;
        let (path, pid_file) = (t.path("pidfd"), t.path("pid"));
        let socket = FdSocket::listen(&path)?;
        let exec =
            t.verb("exec").args(["--detach", "--pidfd-socket"]).arg(&path).arg("--pid-file").arg(&pid_file);
        exec.args([&c.id, "probe", "sleep"]).ok()?;
        let pid = fs::read_to_string(&pid_file)?.parse().context("the pid file")?;
        is_pidfd_of(&socket, pid)
    });
    m.case("cli/pidfd-socket-that-is-missing-is-an-error", PIDFD, |t| {
        let bundle = t.bundle()?.sleeps();
        bundle.save()?;
        let create = t.verb("create").arg("--pidfd-socket").arg(t.path("none"));
        let out = create.arg("--bundle").arg(&bundle.dir).arg(t.id()).output()?;
        out.fails_with(&["no such file"])?;
        t.nothing_left()
    });
}

/// Who becomes the parent of an orphan in a container without a pid namespace of its own.
fn subreaper(m: &mut Matrix) {
    const SUBREAPER: &str = "runc contract: --no-subreaper, also with one dash";
    const SCRIPT: &str =
        "(busybox sh -c 'busybox sleep 0.4; busybox cut -d\" \" -f4 /proc/$$/stat' &); busybox sleep 1";
    m.case("cli/run-takes-in-orphans", SUBREAPER, |t| {
        let run = t.run_cmd(&t.bundle()?.without_ns("pid").shell(SCRIPT))?.spawn()?;
        let pid = run.pid;
        same("parent of the orphan", run.wait()?.ok()?.stdout.trim(), pid.to_string().as_str())
    });
    for flag in ["--no-subreaper", "-no-subreaper"] {
        m.case(format!("cli/run-with{flag}"), SUBREAPER, move |t| {
            let bundle = t.bundle()?.without_ns("pid").shell(SCRIPT);
            bundle.save()?;
            let out = t.verb("run").args([flag, "--bundle"]).arg(&bundle.dir).arg(t.id()).ok()?;
            same("parent of the orphan", out.stdout.trim(), std::process::id().to_string().as_str())
        });
    }
}

fn flags_of_creation(m: &mut Matrix) {
    m.case("cli/create-with-another-configuration", "crun contract: --config", |t| {
        t.only("orun")?;
        let bundle = t.bundle()?.args(&["probe", "exit", "4"]);
        bundle.save()?;
        let other = t.path("other.json");
        fs::rename(bundle.dir.join("config.json"), &other)?;
        let run = t.verb("run").arg("--config").arg(&other).arg("--bundle").arg(&bundle.dir);
        run.arg(t.id()).output()?.exits(4)?;
        let create = t.verb("create").arg("-f").arg(&other).arg("-b").arg(&bundle.dir);
        create.arg(t.id()).ok().map(drop)
    });
    m.case("cli/create-accepts-no-subreaper", "crun contract: create --no-subreaper", |t| {
        t.only("orun")?;
        let c = t.create_with(&t.bundle()?.sleeps(), |cmd| cmd.arg("--no-subreaper"))?;
        c.is("created")
    });
    m.case("cli/detached-run-with-a-console-socket", "runc contract: run --detach --console-socket", |t| {
        let path = t.path("console");
        let socket = FdSocket::listen(&path)?;
        let bundle = t.bundle()?.set("/process/terminal", true).sleeps();
        bundle.save()?;
        let run = t.verb("run").args(["--detach", "--console-socket"]).arg(&path);
        run.arg("--bundle").arg(&bundle.dir).arg(t.id()).ok()?;
        same("descriptors", socket.receive()?.fds.len(), 1)
    });
    m.case(
        "terminal/run-with-a-terminal-that-the-configuration-does-not-ask-for",
        "orun --help: run -t",
        |t| {
            t.only("orun")?;
            let bundle = t.bundle()?.set("/process/terminal", false);
            bundle.save()?;
            let out = t.verb("run").arg("-it").arg("--bundle").arg(&bundle.dir).arg(t.id()).ok()?;
            let report = crate::report::Report::parse(&out.stdout)?;
            ensure!(!report.at("/tty/0").is_null(), "no terminal: {}", report.at("/tty"));
            Ok(())
        },
    );
    m.case("orun/plan-with-an-id", "orun --help", |t| {
        t.only("orun")?;
        let bundle = t.bundle()?.unset("/linux/cgroupsPath");
        bundle.save()?;
        let out = t.verb("plan").args(["--id", "moon"]).arg(&bundle.dir).ok()?;
        ensure!(out.stdout.contains("moon"), "{}", out.describe());
        t.verb("plan").args(["--id", "a/b"]).arg(&bundle.dir).output()?.fails().map(drop)
    });
}

fn global_flags(m: &mut Matrix) {
    m.case("cli/log-level-of-another-name-is-an-error", "crun contract: --log-level", |t| {
        t.only("orun")?;
        t.runtime().args(["--log-level", "moon", "list"]).output()?.fails_with(&["moon"])?;
        t.runtime().args(["--log-level", "error", "list"]).ok().map(drop)
    });
    m.case("cli/cgroup-manager-disabled", "crun contract: --cgroup-manager", |t| {
        t.only("orun")?;
        let bundle = t.bundle()?.unset("/linux/resources").args(&["cat", "/proc/self/cgroup"]);
        bundle.save()?;
        let run = t.runtime().args(["--cgroup-manager", "disabled", "run", "--bundle"]).arg(&bundle.dir);
        let inside = run.arg(t.id()).ok()?.stdout;
        same("cgroups", inside, fs::read_to_string("/proc/self/cgroup")?)?;
        let run = t.runtime().args(["--cgroup-manager", "moon", "list"]);
        run.output()?.fails_with(&["cgroup-manager"]).map(drop)
    });
    m.case("cli/criu-flag-is-accepted", "runc contract before 1.4: --criu", |t| {
        t.only("orun")?;
        t.runtime().args(["--criu", "/usr/sbin/criu", "list"]).ok().map(drop)
    });
}

fn statistics(m: &mut Matrix) {
    m.case("verbs/events-stats-have-every-part", "runc contract: events --stats", |t| {
        let limits = json!({"memory": {"limit": 67_108_864}, "cpu": {"quota": 50_000, "period": 100_000}});
        let c = t.sleeper(t.bundle()?.set("/linux/resources", limits))?;
        let out = t.verb("events").args(["--stats", &c.id]).ok()?;
        let event: serde_json::Value = serde_json::from_str(out.stdout.trim()).context(&out.describe())?;
        let data = &event["data"];
        same("memory limit", &data["memory"]["usage"]["limit"], &json!(67_108_864))?;
        ensure!(data["memory"]["raw"].as_object().is_some_and(|m| m.len() > 10), "{}", data["memory"]["raw"]);
        for part in ["cpu", "cpuset", "memory", "pids", "blkio", "hugetlb", "intel_rdt"] {
            ensure!(data[part].is_object(), "no {part} in {data}");
        }
        let pressure = |file: &str| super::cgroups::dir(c.pid()?, "memory").map(|d| d.join(file).exists());
        if cgroup::layout() == Layout::V2 && pressure("memory.pressure")? {
            for part in ["cpu", "memory", "blkio"] {
                let some = &data[part]["psi"]["some"];
                ensure!(
                    some["total"].is_u64() && some["avg10"].is_number(),
                    "no pressure of {part}: {}",
                    data[part]
                );
            }
        }
        c.end()
    });
}
