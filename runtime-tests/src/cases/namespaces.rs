//! Namespaces: new, inherited, joined by path; host name; time offsets.

use crate::case::T;
use crate::check::{Done, same, skip};
use crate::command::{VERB_DEADLINE, poll};
use crate::ensure;
use crate::matrix::Matrix;
use crate::proc;
use serde_json::json;

const SPEC: &str = "config-linux.md Namespaces";
const OFFSETS: &str = "config-linux.md Offset for Time Namespace";

/// The spec's type and the name below /proc/PID/ns.
const KINDS: [(&str, &str); 7] = [
    ("pid", "pid"),
    ("network", "net"),
    ("mount", "mnt"),
    ("ipc", "ipc"),
    ("uts", "uts"),
    ("cgroup", "cgroup"),
    ("time", "time"),
];

fn mine(kind: &str) -> String {
    proc::namespace(std::process::id() as i32, kind).unwrap_or_default()
}

/// Adds the cases of this area.
pub fn register(m: &mut Matrix) {
    for (kind, file) in KINDS {
        m.case(format!("namespaces/new-{kind}"), SPEC, move |t| {
            exists(file)?;
            let report = t.report(&t.bundle()?.ns(kind))?;
            ensure!(report.ns(file).starts_with(file), "the probe saw {:?}", report.ns(file));
            ensure!(report.ns(file) != mine(file), "the container shares the {kind} namespace");
            Ok(())
        });
    }
    for (kind, file) in KINDS.into_iter().filter(|(kind, _)| *kind != "mount") {
        m.case(format!("namespaces/inherited-{kind}"), SPEC, move |t| {
            exists(file)?;
            let mut bundle = t.bundle()?.without_ns(kind);
            if kind == "uts" {
                bundle = bundle.unset("/hostname");
            }
            same(kind, t.report(&bundle)?.ns(file), mine(file).as_str())
        });
        m.case(format!("namespaces/join-{kind}-by-path"), SPEC, move |t| join(t, kind, file));
    }
    m.case("namespaces/join-mount-by-path", SPEC, |t| {
        let holder = t.host("unshare").args(["-m", "--propagation", "private", "sleep", "1000"]).spawn()?;
        t.own_process(holder.pid);
        let other = poll("a mount namespace", VERB_DEADLINE, || {
            proc::namespace(holder.pid, "mnt").filter(|ns| *ns != mine("mnt"))
        })?;
        let bundle = t.bundle()?.join_ns("mount", &format!("/proc/{}/ns/mnt", holder.pid));
        same("mount namespace", t.report(&bundle)?.ns("mnt"), other.as_str())
    });
    mismatches(m);
    duplicates_and_unknown(m);
    hostname(m);
    network(m);
    time_offsets(m);
}

/// Leaves the case when the kernel has no such namespaces.
fn exists(file: &str) -> Done {
    if mine(file).is_empty() { skip(format!("no {file} namespaces in this kernel")) } else { Ok(()) }
}

fn join(t: &mut T<'_>, kind: &'static str, file: &str) -> Done {
    exists(file)?;
    let first = t.sleeper(t.bundle()?.ns(kind))?;
    let want = proc::namespace(first.pid()?, file).unwrap_or_default();
    ensure!(want != mine(file), "the first container shares the {kind} namespace");
    let path = format!("/proc/{}/ns/{file}", first.pid()?);
    let mut bundle = t.bundle()?.join_ns(kind, &path);
    if kind == "uts" {
        bundle = bundle.unset("/hostname");
    }
    same(kind, t.report(&bundle)?.ns(file), want.as_str())?;
    first.is("running")
}

fn mismatches(m: &mut Matrix) {
    for (kind, other) in [("network", "uts"), ("ipc", "net"), ("uts", "ipc"), ("pid", "uts")] {
        m.case(format!("namespaces/path-of-{other}-given-as-{kind}"), SPEC, move |t| {
            let path = format!("/proc/self/ns/{other}");
            let bundle = t.bundle()?.join_ns(kind, &path);
            t.refuses(&bundle, &["namespace", "setns"]).map(drop)
        });
    }
    m.case("namespaces/path-missing", SPEC, |t| {
        t.refuses(&t.bundle()?.join_ns("network", "/run/netns/none"), &["no such file"]).map(drop)
    });
    m.case("namespaces/path-is-no-namespace", SPEC, |t| {
        t.refuses(&t.bundle()?.join_ns("network", "/etc/passwd"), &["namespace", "/etc/passwd", "setns"])
            .map(drop)
    });
    m.case("namespaces/path-relative", "config-linux.md: path MUST be absolute", |t| {
        t.refuses(&t.bundle()?.join_ns("network", "proc/self/ns/net"), &["namespace", "path"]).map(drop)
    });
    m.case("namespaces/path-empty-is-absent", "runc contract: engines write \"path\": \"\"", |t| {
        let report = t.report(&t.bundle()?.join_ns("network", ""))?;
        ensure!(report.ns("net") != mine("net"), "the container shares the network namespace");
        Ok(())
    });
    m.case("namespaces/join-pid-makes-a-child", SPEC, |t| {
        let first = t.sleeper(t.bundle()?)?;
        let path = format!("/proc/{}/ns/pid", first.pid()?);
        let report = t.report(&t.bundle()?.join_ns("pid", &path))?;
        ensure!(report.num("/pid")? > 1, "the second container is pid {}", report.at("/pid"));
        first.is("running")
    });
}

fn duplicates_and_unknown(m: &mut Matrix) {
    m.case("namespaces/duplicate-is-an-error", SPEC, |t| {
        let bundle = t.bundle()?.push("/linux/namespaces", json!({"type": "ipc"}));
        t.refuses(&bundle, &["duplicate", "malformed"]).map(drop)
    });
    m.case("namespaces/unknown-type-is-an-error", SPEC, |t| {
        t.refuses(&t.bundle()?.ns("moon"), &["moon"]).map(drop)
    });
    m.case("namespaces/none-but-mount", SPEC, |t| {
        let bundle = t.bundle()?.set("/linux/namespaces", json!([{"type": "mount"}])).unset("/hostname");
        // A fresh sysfs or mqueue of the host's own namespaces is fine for root.
        let report = t.report(&bundle)?;
        for kind in ["pid", "net", "ipc", "uts"] {
            same(kind, report.ns(kind), mine(kind).as_str())?;
        }
        Ok(())
    });
}

fn hostname(m: &mut Matrix) {
    const HOST: &str = "config.md Hostname";
    m.case("namespaces/hostname", HOST, |t| {
        let report = t.report(&t.bundle()?.set("/hostname", "some-name"))?;
        report.is("/hostname", "some-name")
    });
    m.case("namespaces/domainname", "config.md Domainname", |t| {
        let report = t.report(&t.bundle()?.set("/domainname", "example.org"))?;
        report.is("/domainname", "example.org")
    });
    m.case("namespaces/hostname-without-uts-is-an-error", HOST, |t| {
        t.refuses(&t.bundle()?.without_ns("uts"), &["uts"]).map(drop)
    });
    m.case("namespaces/hostname-too-long-is-an-error", HOST, |t| {
        t.refuses(&t.bundle()?.set("/hostname", "n".repeat(65)), &["hostname"]).map(drop)
    });
}

fn network(m: &mut Matrix) {
    m.case("namespaces/loopback-is-up", "runc contract: lo of a new network namespace is up", |t| {
        let report = t.report(&t.bundle()?)?;
        let flags = report.str("/interfaces/lo").trim_start_matches("0x").to_owned();
        let flags = u32::from_str_radix(&flags, 16).unwrap_or(0);
        ensure!(flags & 1 == 1, "lo has flags {flags:#x}");
        Ok(())
    });
}

fn time_offsets(m: &mut Matrix) {
    let hour: i64 = 3600;
    m.case("namespaces/time-offsets", OFFSETS, move |t| {
        exists("time")?;
        let before = crate::sys::clock(libc::CLOCK_BOOTTIME)?;
        let offsets =
            json!({"monotonic": {"secs": 100 * hour}, "boottime": {"secs": 200 * hour, "nanosecs": 5}});
        let report = t.report(&t.bundle()?.ns("time").set("/linux/timeOffsets", offsets))?;
        let seen = (report.num("/boottime")? - before) / 1_000_000_000;
        ensure!(seen >= 200 * hour && seen < 201 * hour, "boottime is {seen} s ahead");
        let lines = report.list("/time_offsets");
        let monotonic = lines.iter().find(|l| l.starts_with("monotonic")).cloned().unwrap_or_default();
        let fields: Vec<&str> = monotonic.split_whitespace().collect();
        same("monotonic offset", fields, vec!["monotonic", "360000", "0"])
    });
    m.case("namespaces/time-offsets-negative", OFFSETS, move |t| {
        exists("time")?;
        let bundle = t.bundle()?.ns("time").set("/linux/timeOffsets", json!({"boottime": {"secs": -1}}));
        let lines = t.report(&bundle)?.list("/time_offsets");
        let boottime = lines.iter().find(|l| l.starts_with("boottime")).cloned().unwrap_or_default();
        same("boottime offset", boottime.split_whitespace().nth(1), Some("-1"))
    });
    m.case("namespaces/time-offsets-in-exec", OFFSETS, move |t| {
        exists("time")?;
        let offsets = json!({"boottime": {"secs": 200 * hour}});
        let c = t.sleeper(t.bundle()?.ns("time").set("/linux/timeOffsets", offsets))?;
        let before = crate::sys::clock(libc::CLOCK_BOOTTIME)?;
        let seen = (c.exec_report(&[])?.num("/boottime")? - before) / 1_000_000_000;
        ensure!(seen >= 200 * hour, "boottime is {seen} s ahead in exec");
        Ok(())
    });
    m.case("namespaces/time-offsets-without-time-namespace-is-an-error", OFFSETS, |t| {
        let bundle = t.bundle()?.set("/linux/timeOffsets", json!({"boottime": {"secs": 5}}));
        t.refuses(&bundle, &["time"]).map(drop)
    });
    m.case("namespaces/time-offsets-with-joined-namespace-is-an-error", OFFSETS, |t| {
        let bundle = t.bundle()?.join_ns("time", "/proc/self/ns/time");
        let bundle = bundle.set("/linux/timeOffsets", json!({"boottime": {"secs": 5}}));
        t.refuses(&bundle, &["time"]).map(drop)
    });
    m.case("namespaces/time-offsets-unknown-clock-is-an-error", OFFSETS, |t| {
        let bundle = t.bundle()?.ns("time").set("/linux/timeOffsets", json!({"sidereal": {"secs": 5}}));
        t.refuses(&bundle, &["sidereal", "timeOffsets", "clock"]).map(drop)
    });
}
