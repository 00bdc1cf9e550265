//! Hostile root file systems, volumes and programs: nothing of the container may be resolved on the host.

use crate::bundle::Bundle;
use crate::case::T;
use crate::check::{Done, Result, same};
use crate::command::Output;
use crate::ensure;
use crate::matrix::Matrix;
use serde_json::json;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

/// Adds the cases of this area.
pub fn register(m: &mut Matrix) {
    destinations(m);
    evil_roots(m);
    working_directories(m);
    masks(m);
    executable(m);
    races(m);
    sysctls(m);
    rest(m);
}

/// A directory on the host that must stay as it is: one file in it.
pub(super) fn bait(t: &T<'_>) -> Result<std::path::PathBuf> {
    let bait = t.volume()?;
    fs::write(bait.join("only"), "untouched")?;
    Ok(bait)
}

/// Demands that the bait is as it was, and that nothing is mounted on it.
pub(super) fn untouched(bait: &Path) -> Done {
    let names: Vec<_> = fs::read_dir(bait)?.flatten().map(|e| e.file_name()).collect();
    same("entries of the host's directory", names.len(), 1)?;
    same("content", fs::read_to_string(bait.join("only"))?.as_str(), "untouched")?;
    let mounted = crate::proc::mounts("self").into_iter().any(|m| Path::new(&m.target).starts_with(bait));
    ensure!(!mounted, "something is mounted on the host's directory");
    Ok(())
}

/// What a refusal of a hostile path may name: the link, or what it would have led to.
const REFUSED: &[&str] = &[
    "symlink",
    "symbolic link",
    "not a directory",
    "must be mounted on ordinary directory",
    "no such file or directory",
    "file exists",
    "exists already",
    "cross-device link",
    "outside",
    "unsafe",
];

/// Runs a bundle with an attack, and first the same bundle without it, which must work. The attack may be led into the
/// container, so that all works, or refused by name; the bait must be untouched, and nothing may be left.
fn harmless(t: &T<'_>, bundle: &Bundle, attack: impl FnOnce(Bundle) -> Result<Bundle>, bait: &Path) -> Done {
    t.report(bundle).map_err(|e| e.context("without the attack"))?;
    let out = t.run(&attack(bundle.clone())?)?;
    untouched(bait).map_err(|e| e.context(&out.describe()))?;
    worked_or_refused(out)?;
    t.nothing_left()
}

/// Demands the probe's report, or a refusal that names the path's trouble.
fn worked_or_refused(out: Output) -> Done {
    match out.status.success() {
        true => crate::report::Report::parse(&out.stdout).map(drop),
        false => out.fails_with(REFUSED).map(drop),
    }
}

/// How a hostile link names a directory of the host.
fn spellings(bait: &Path) -> [(&'static str, String); 4] {
    let absolute = bait.to_string_lossy().into_owned();
    [
        ("absolute", absolute.clone()),
        ("dot-dot", format!("../../../../../../../..{absolute}")),
        ("proc-root", format!("/proc/self/root{absolute}")),
        ("proc-1-root", format!("/proc/1/root{absolute}")),
    ]
}

fn destinations(m: &mut Matrix) {
    const RESOLVE: &str = "config.md Mounts: destinations are inside the container; CVE-2021-30465";
    for (index, name) in ["absolute", "dot-dot", "proc-root", "proc-1-root"].into_iter().enumerate() {
        m.case(format!("security/mount-below-a-link-{name}"), RESOLVE, move |t| {
            let bait = bait(t)?;
            let volume = t.volume()?;
            let bundle = t.bundle()?.bind(&volume, "/data/sub", &[]);
            harmless(t, &bundle, |b| b.link("/data", &spellings(&bait)[index].1), &bait)
        });
        m.case(format!("security/mount-on-a-link-{name}"), RESOLVE, move |t| {
            let bait = bait(t)?;
            let bundle = t.bundle()?.mount("/data", "tmpfs", "tmpfs", &[]);
            harmless(t, &bundle, |b| b.link("/data", &spellings(&bait)[index].1), &bait)
        });
        m.case(format!("security/file-mount-below-a-link-{name}"), RESOLVE, move |t| {
            let bait = bait(t)?;
            let volume = t.volume()?;
            fs::write(volume.join("file"), "x")?;
            let bundle = t.bundle()?.bind(&volume.join("file"), "/data/file", &[]);
            harmless(t, &bundle, |b| b.link("/data", &spellings(&bait)[index].1), &bait)
        });
    }
    m.case("security/destination-with-dot-dot", RESOLVE, |t| {
        let bait = bait(t)?;
        let destination = format!("/../../../../../..{}/new", bait.display());
        let attack = |b: Bundle| Ok(b.mount(&destination, "tmpfs", "tmpfs", &[]));
        harmless(t, &t.bundle()?, attack, &bait)
    });
    m.case("security/link-inside-the-root-is-followed-inside", RESOLVE, |t| {
        let bundle =
            t.bundle()?.dir("/real")?.link("/data", "/real")?.mount("/data/sub", "tmpfs", "tmpfs", &[]);
        t.report(&bundle)?.mount("/real/sub").map(drop)
    });
    m.case(
        "security/dangling-link-is-made-inside",
        "runc contract: missing targets are made in the root",
        |t| {
            let bundle = t.bundle()?.link("/data", "/not/there")?.mount("/data", "tmpfs", "tmpfs", &[]);
            t.report(&bundle)?.mount("/not/there").map(drop)
        },
    );
    m.case("security/loop-of-links-is-an-error", RESOLVE, |t| {
        let bundle = t.bundle()?.link("/a", "/b")?.link("/b", "/a")?.mount("/a/x", "tmpfs", "tmpfs", &[]);
        t.refuses(&bundle, &["symbolic links", "symlink"]).map(drop)
    });
    m.case("security/volume-link-to-the-host", RESOLVE, |t| {
        let bait = bait(t)?;
        let volume = t.volume()?;
        symlink(&bait, volume.join("out"))?;
        let bundle = t.bundle()?.bind(&volume, "/mnt", &[]);
        harmless(t, &bundle, |b| Ok(b.mount("/mnt/out/new", "tmpfs", "tmpfs", &[])), &bait)
    });
}

/// The places that a runtime itself touches, each replaced by something that leads elsewhere.
fn evil_roots(m: &mut Matrix) {
    const DEV: &str = "CVE-2026-41579, CVE-2026-47766";
    for (path, source) in
        [("/dev", DEV), ("/dev/pts", DEV), ("/dev/shm", DEV), ("/etc", "passwd is the container's")]
    {
        let name = path.trim_start_matches('/').replace('/', "-");
        m.case(format!("security/root-with-{name}-as-a-link"), source, move |t| {
            let bait = bait(t)?;
            harmless(t, &t.bundle()?, |b| b.link(path, &bait.to_string_lossy()), &bait)
        });
        m.case(format!("security/root-with-{name}-as-a-link-and-no-mount"), source, move |t| {
            let bait = bait(t)?;
            let mut bundle = t.bundle()?;
            for destination in ["/dev", "/dev/pts", "/dev/shm", "/dev/mqueue"] {
                bundle = bundle.without_mount(destination);
            }
            let device = json!({"path": "/dev/mine", "type": "c", "major": 1, "minor": 3});
            let bundle = bundle.push("/linux/devices", device);
            harmless(t, &bundle, |b| b.link(path, &bait.to_string_lossy()), &bait)
        });
    }
    for (path, name) in [("/proc", "proc"), ("/sys", "sys")] {
        m.case(
            format!("security/root-with-{name}-as-a-link-is-refused"),
            "CVE-2019-19921, CVE-2023-27561",
            move |t| {
                let bundle = t.bundle()?.dir("/elsewhere")?.link(path, "/elsewhere")?;
                t.refuses(&bundle, &["must be mounted on ordinary directory", "symlink", "not a directory"])
                    .map(drop)
            },
        );
    }
    for name in ["null", "zero", "tty", "ptmx", "console", "fd", "stdin"] {
        m.case(format!("security/device-{name}-as-a-link"), DEV, move |t| {
            let bait = bait(t)?;
            let mut bundle = t.bundle()?;
            for destination in ["/dev", "/dev/pts", "/dev/shm", "/dev/mqueue"] {
                bundle = bundle.without_mount(destination);
            }
            let target = format!("{}/made", bait.display());
            harmless(t, &bundle, |b| b.link(&format!("/dev/{name}"), &target), &bait)
        });
    }
    for (kind, make) in [("fifo", 0), ("file", 1), ("unreadable-directory", 2)] {
        m.case(
            format!("security/passwd-is-a-{kind}"),
            "reading passwd must neither hang nor fail",
            move |t| {
                let bundle = t.bundle()?;
                let passwd = bundle.rootfs().join("etc/passwd");
                fs::remove_file(&passwd)?;
                match make {
                    0 => nix::unistd::mkfifo(&passwd, nix::sys::stat::Mode::from_bits_truncate(0o644))?,
                    1 => fs::write(&passwd, [0xff, 0xfe, 0, b':', b':', b'\n'])?,
                    _ => fs::create_dir(&passwd)?,
                }
                worked_or_refused(t.run(&bundle)?)?;
                t.nothing_left()
            },
        );
    }
    m.case("security/passwd-leads-to-the-host", "CVE-2025 class: files are read in the root", |t| {
        let secret = t.volume()?.join("passwd");
        fs::write(&secret, "root:x:0:0::/home-of-the-host:/bin/sh\n")?;
        let bundle = t.bundle()?.link("/etc/passwd", &secret.to_string_lossy())?;
        let home = t.report(&bundle)?.env("HOME").unwrap_or_default();
        ensure!(home != "/home-of-the-host", "the host's file was read");
        Ok(())
    });
}

fn working_directories(m: &mut Matrix) {
    const CWD: &str = "CVE-2024-21626";
    for number in [3, 4, 5, 6, 7, 8, 9, 10, 12, 15, 20] {
        m.case(format!("security/cwd-proc-self-fd-{number}"), CWD, move |t| {
            let bundle = t.bundle()?.set("/process/cwd", format!("/proc/self/fd/{number}"));
            // If it starts at all, it must not see the host from there.
            let bundle = bundle.args(&["/bin/probe", "report", "--path", "../../../../etc/debian_version"]);
            let cmd = t.run_cmd(&bundle)?.fd(fs::File::open("/")?.into(), 30);
            let out = cmd.output()?;
            if out.status.success() {
                let report = crate::report::Report::parse(&out.stdout)?;
                let cwd = report.str("/cwd").to_owned();
                ensure!(cwd.starts_with('/'), "the working directory is {cwd:?}");
                ensure!(report.path("../../../../etc/debian_version").is_err(), "the host is visible");
            } else {
                out.fails_with(&["cwd", "chdir", "working directory", "/proc/self/fd"])?;
            }
            t.nothing_left()
        });
    }
    m.case("security/exec-cwd-proc-self-fd", CWD, |t| {
        let c = t.sleeper(t.bundle()?)?;
        for number in 3..14 {
            let cwd = format!("/proc/self/fd/{number}");
            let cmd = c.exec_cmd(
                &["--cwd", &cwd],
                &["/bin/probe", "report", "--path", "../../../etc/debian_version"],
            );
            let out = cmd.fd(fs::File::open("/")?.into(), 30).output()?;
            if out.status.success() {
                let report = crate::report::Report::parse(&out.stdout)?;
                ensure!(
                    report.path("../../../etc/debian_version").is_err(),
                    "the host is visible from {cwd}"
                );
            }
        }
        c.is("running")
    });
    m.case("security/program-through-proc-self-fd", CWD, |t| {
        for number in 3..12 {
            let program = format!("/proc/self/fd/{number}/bin/busybox");
            let cmd = t.run_cmd(&t.bundle()?.args(&[&program, "true"]))?;
            let out = cmd.fd(fs::File::open("/")?.into(), 30).output()?;
            ensure!(!out.status.success(), "a program of the host was run through {program}");
        }
        t.nothing_left()
    });
    m.case("security/cwd-link-to-the-host-stays-inside", CWD, |t| {
        let bait = bait(t)?;
        let bundle = t.bundle()?.set("/process/cwd", "/work/new");
        harmless(t, &bundle, |b| b.link("/work", &bait.to_string_lossy()), &bait)
    });
}

fn masks(m: &mut Matrix) {
    m.case("security/masking-with-dev-null-as-a-link", "CVE-2025-31133", |t| {
        let volume = t.volume()?;
        fs::write(volume.join("target"), "through-the-link")?;
        let mut bundle = t.bundle()?;
        for destination in ["/dev", "/dev/pts", "/dev/shm", "/dev/mqueue"] {
            bundle = bundle.without_mount(destination);
        }
        let bundle = bundle.bind(&volume, "/vol", &[]).link("/dev/null", "/vol/target")?;
        let bundle =
            bundle.file("/etc/secret", "secret", 0o644)?.set("/linux/maskedPaths", json!(["/etc/secret"]));
        let out = t.run(&bundle.args(&["cat", "/etc/secret"]))?;
        ensure!(
            !out.stdout.contains("through-the-link"),
            "the mask is the link's target: {}",
            out.describe()
        );
        ensure!(!out.stdout.contains("secret"), "nothing was masked");
        t.nothing_left()
    });
    m.case("security/masked-path-through-a-link", "maskedPaths are resolved in the root", |t| {
        let bait = bait(t)?;
        let bundle = t.bundle()?.set("/linux/maskedPaths", json!(["/etc/private"]));
        harmless(t, &bundle, |b| b.link("/etc/private", &bait.to_string_lossy()), &bait)
    });
    m.case("security/readonly-path-through-a-link", "readonlyPaths are resolved in the root", |t| {
        let bait = bait(t)?;
        let bundle = t.bundle()?.set("/linux/readonlyPaths", json!(["/etc/private"]));
        harmless(t, &bundle, |b| b.link("/etc/private", &bait.to_string_lossy()), &bait)?;
        fs::write(bait.join("only"), "still writable")?;
        Ok(())
    });
}

fn executable(m: &mut Matrix) {
    const EXE: &str = "CVE-2019-5736";
    m.case("security/own-executable-cannot-be-overwritten", EXE, |t| {
        // A copy, so that a runtime that can be overwritten does no harm to the host.
        let copy = t.volume()?.join("runtime");
        fs::copy(&t.runtime.path, &copy)?;
        let before = fs::read(&copy)?;
        let bundle = t
            .bundle()?
            .args(&["probe", "overwrite-exe"])
            .capabilities(&["CAP_SYS_PTRACE", "CAP_DAC_OVERRIDE"]);
        bundle.save()?;
        let c = crate::container::Container::new(t, t.id(), &bundle);
        let runtime = || t.program_at(&copy).arg("--root").arg(&t.root);
        let cmd = runtime().arg("run").arg("--detach").arg("--bundle").arg(&bundle.dir);
        cmd.streams(&c.stdout, &c.stderr).arg(&c.id).ok()?;
        c.await_output("ready")?;
        for _ in 0..30 {
            let _ = runtime().args(["exec", &c.id, "/proc/self/exe"]).output()?;
        }
        ensure!(!c.output().contains("overwrote"), "the program in the container could write to the runtime");
        ensure!(fs::read(&copy)? == before, "the runtime's file has changed");
        c.end()
    });
    m.case("security/program-that-is-proc-self-exe", EXE, |t| {
        let bundle = t.bundle()?.file("/bin/evil", "#!/proc/self/exe\n", 0o755)?;
        let copy = t.volume()?.join("runtime");
        fs::copy(&t.runtime.path, &copy)?;
        let before = fs::read(&copy)?;
        bundle.clone().args(&["/bin/evil"]).save()?;
        t.program_at(&copy)
            .arg("--root")
            .arg(&t.root)
            .arg("run")
            .arg("--bundle")
            .arg(&bundle.dir)
            .arg(t.id())
            .output()?;
        ensure!(fs::read(&copy)? == before, "the runtime's file has changed");
        t.nothing_left()
    });
}

fn races(m: &mut Matrix) {
    const RACE: &str = "CVE-2021-30465, CVE-2024-45310: a volume changes while a container starts";
    m.case("security/racing-exchange-of-directory-and-link", RACE, |t| {
        let bait = bait(t)?;
        let volume = t.volume()?;
        fs::create_dir(volume.join("dir"))?;
        symlink(&bait, volume.join("link"))?;
        let (a, b) = (volume.join("dir"), volume.join("link"));
        let racer = t.host(t.host_probe()).arg("exchange").arg(&a).arg(&b).arg("100000").spawn()?;
        t.own_process(racer.pid);
        let bundle = t
            .bundle()?
            .bind(&volume, "/vol", &[])
            .mount("/vol/dir/sub", "tmpfs", "tmpfs", &[])
            .args(&["true"]);
        let source = t.volume()?;
        fs::write(source.join("file"), "x")?;
        let bundle = bundle.bind(&source.join("file"), "/vol/link/file", &[]);
        let end = std::time::Instant::now() + std::time::Duration::from_secs(4);
        let mut rounds = 0;
        while rounds < 60 && std::time::Instant::now() < end {
            t.run(&bundle)?;
            untouched(&bait)?;
            rounds += 1;
        }
        racer.signal(libc::SIGKILL)?;
        racer.wait()?;
        ensure!(rounds > 2, "only {rounds} rounds");
        t.nothing_left()
    });
    m.case("security/racing-exchange-below-a-masked-path", RACE, |t| {
        let bait = bait(t)?;
        let volume = t.volume()?;
        fs::create_dir(volume.join("dir"))?;
        symlink(&bait, volume.join("link"))?;
        let (a, b) = (volume.join("dir"), volume.join("link"));
        let racer = t.host(t.host_probe()).arg("exchange").arg(&a).arg(&b).arg("100000").spawn()?;
        t.own_process(racer.pid);
        let bundle = t
            .bundle()?
            .bind(&volume, "/vol", &[])
            .set("/linux/maskedPaths", json!(["/vol/dir", "/vol/link"]));
        let bundle = bundle.set("/linux/readonlyPaths", json!(["/vol/dir", "/vol/link"])).args(&["true"]);
        let end = std::time::Instant::now() + std::time::Duration::from_secs(3);
        while std::time::Instant::now() < end {
            t.run(&bundle)?;
            untouched(&bait)?;
            fs::write(bait.join("only"), "untouched")?;
        }
        racer.signal(libc::SIGKILL)?;
        racer.wait()?;
        t.nothing_left()
    });
}

fn sysctls(m: &mut Matrix) {
    const SYSCTL: &str = "config-linux.md Sysctl: only namespaced ones";
    for (name, key) in [
        ("core-pattern", "kernel.core_pattern"),
        ("vm", "vm.swappiness"),
        ("fs", "fs.file-max"),
        ("climbing", "net/../kernel/core_pattern"),
        ("dots-climbing", "kernel.shm_rmid_forced/../core_pattern"),
        ("hostname", "kernel.hostname"),
    ] {
        m.case(format!("security/sysctl-{name}-is-refused"), SYSCTL, move |t| {
            t.refuses(&t.bundle()?.set("/linux/sysctl", json!({key: "1"})), &["sysctl", "/proc/sys/net/"])
                .map(drop)
        });
    }
    m.case("security/sysctl-of-the-host's-network-is-refused", SYSCTL, |t| {
        let bundle =
            t.bundle()?.without_ns("network").set("/linux/sysctl", json!({"net.ipv4.ip_forward": "1"}));
        t.refuses(&bundle, &["net"]).map(drop)
    });
    m.case("security/sysctl-of-the-host's-ipc-is-refused", SYSCTL, |t| {
        let bundle = t.bundle()?.without_ns("ipc").set("/linux/sysctl", json!({"kernel.msgmax": "65536"}));
        t.refuses(&bundle, &["ipc", "kernel.msgmax"]).map(drop)
    });
}

fn rest(m: &mut Matrix) {
    m.case("security/exe-of-the-first-process-is-its-own", "no host path shows", |t| {
        let c = t.sleeper(t.bundle()?)?;
        let exe = fs::read_link(format!("/proc/{}/exe", c.pid()?))?;
        ensure!(exe.ends_with("bin/probe"), "exe is {}", exe.display());
        Ok(())
    });
    m.case("security/created-process-is-not-dumpable", "CVE-2016-9962", |t| {
        let first = t.sleeper(t.bundle()?)?;
        let path = format!("/proc/{}/ns/pid", first.pid()?);
        // A container that shares the pid namespace waits for start; its neighbour must not read its descriptors.
        let waiting = t.create(&t.bundle()?.join_ns("pid", &path).sleeps())?;
        let script = "for p in /proc/[0-9]*; do [ $p = /proc/1 ] || ls -l $p/fd 2>/dev/null; done | cat";
        let out = first.exec(&["sh", "-c", script])?;
        for line in out.stdout.lines().filter(|l| l.contains("->")) {
            let target = line.rsplit("-> ").next().unwrap_or("");
            let host = ["/state", "/bundle", "/sys/fs/cgroup"].iter().any(|p| target.contains(p));
            ensure!(!host, "a neighbour sees {target}");
        }
        waiting.end().or_else(|_| first.is("running"))
    });
}
