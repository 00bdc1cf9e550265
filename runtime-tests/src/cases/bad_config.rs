//! Bad bundles, one by one: each ends in one clear error and leaves nothing.

use crate::check::{Done, has_not};
use crate::ensure;
use crate::matrix::Matrix;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::symlink;

const SPEC: &str = "runtime.md Errors; config.md";

/// Adds the cases of this area.
pub fn register(m: &mut Matrix) {
    documents(m);
    wrong_types(m);
    wrong_values(m);
    missing(m);
    tolerated(m);
    bundles(m);
}

/// config.json as bytes that are not a configuration.
fn documents(m: &mut Matrix) {
    let valid = || json!({"ociVersion": "1.0.2", "root": {"path": "rootfs"}}).to_string();
    let documents: Vec<(&str, Vec<u8>)> = vec![
        ("empty", Vec::new()),
        ("spaces", b"  \n ".to_vec()),
        ("truncated", br#"{"ociVersion": "1.0.2", "process": {"#.to_vec()),
        ("null", b"null".to_vec()),
        ("a-number", b"42".to_vec()),
        ("a-list", b"[]".to_vec()),
        ("a-string", b"\"config\"".to_vec()),
        ("not-utf-8", b"{\"ociVersion\": \"1.0.2\", \"hostname\": \"\xff\xfe\"}".to_vec()),
        ("trailing-garbage", format!("{} garbage", valid()).into_bytes()),
        ("two-documents", format!("{}{}", valid(), valid()).into_bytes()),
        ("deeply-nested", format!("{}{}", "[".repeat(200_000), "]".repeat(200_000)).into_bytes()),
        (
            "deeply-nested-inside",
            format!("{{\"x\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000)).into_bytes(),
        ),
        ("single-quotes", b"{'ociVersion': '1.0.2'}".to_vec()),
        ("nul-bytes", vec![0; 4096]),
        ("binary", (0..=255).cycle().take(10_000).collect()),
    ];
    for (name, bytes) in documents {
        m.case(format!("bad-config/document-{name}"), SPEC, move |t| {
            let out = t.refuses(&t.bundle()?.raw(bytes.clone()), &["config.json"])?;
            has_not("message", &out.stderr, "panicked")?;
            ensure!(out.status.signal().is_none(), "{}", out.describe());
            Ok(())
        });
    }
    m.case("bad-config/document-of-100-MB", SPEC, |t| {
        let mut bytes = b"{\"ociVersion\": \"1.0.2\", \"hostname\": \"".to_vec();
        bytes.resize(100 << 20, b'x');
        let out = t.refuses(&t.bundle()?.raw(bytes), &["config.json", "hostname", "process"])?;
        ensure!(out.stderr.len() < 100_000, "the message has {} bytes", out.stderr.len());
        Ok(())
    });
}

fn wrong_types(m: &mut Matrix) {
    // The message names the property, in whatever notation.
    for (pointer, value) in [
        ("/ociVersion", json!(1)),
        ("/process", json!("sh")),
        ("/process/args", json!("sh")),
        ("/process/args/0", json!(7)),
        ("/process/env", json!({"A": "b"})),
        ("/process/cwd", json!(["/"])),
        ("/process/terminal", json!("yes")),
        ("/process/user", json!("root")),
        ("/process/user/uid", json!("0")),
        ("/process/user/additionalGids", json!(5)),
        ("/process/capabilities", json!(["CAP_KILL"])),
        ("/process/capabilities/bounding", json!("CAP_KILL")),
        ("/process/rlimits", json!({"type": "RLIMIT_NOFILE"})),
        ("/process/oomScoreAdj", json!("5")),
        ("/process/noNewPrivileges", json!("true")),
        ("/root", json!("rootfs")),
        ("/root/path", json!(7)),
        ("/root/readonly", json!("no")),
        ("/hostname", json!(5)),
        ("/mounts", json!({})),
        ("/mounts/0", json!("proc")),
        ("/mounts/0/destination", json!(1)),
        ("/mounts/0/options", json!("ro")),
        ("/hooks", json!([])),
        ("/hooks/createRuntime", json!({"path": "/bin/true"})),
        ("/annotations", json!(["a"])),
        ("/annotations/key", json!(1)),
        ("/linux", json!([])),
        ("/linux/namespaces", json!({"type": "pid"})),
        ("/linux/namespaces/0", json!("pid")),
        ("/linux/devices", json!({"path": "/dev/x"})),
        ("/linux/resources", json!([])),
        ("/linux/resources/memory/limit", json!("64M")),
        ("/linux/resources/cpu/shares", json!(-5)),
        ("/linux/resources/devices", json!("all")),
        ("/linux/seccomp", json!([])),
        ("/linux/sysctl", json!(["a=b"])),
        ("/linux/maskedPaths", json!("/proc/keys")),
        ("/linux/uidMappings", json!("0 0 1")),
        ("/linux/cgroupsPath", json!(5)),
    ] {
        let name = pointer.trim_start_matches('/').replace('/', "-").to_lowercase();
        let property = pointer.split('/').rfind(|part| part.parse::<usize>().is_err()).unwrap_or("");
        m.case(format!("bad-config/type-of-{name}"), SPEC, move |t| {
            t.refuses(&t.bundle()?.set(pointer, value.clone()), &[property]).map(drop)
        });
    }
}

fn wrong_values(m: &mut Matrix) {
    for (name, pointer, value) in [
        ("version-empty", "/ociVersion", json!("")),
        ("version-no-number", "/ociVersion", json!("latest")),
        ("version-2", "/ociVersion", json!("2.0.0")),
        ("annotation-empty-key", "/annotations", json!({"": "x"})),
        ("uid-fraction", "/process/user/uid", json!(1.5)),
        ("gid-too-large", "/process/user/gid", json!(4_294_967_296_u64)),
        ("scheduler-policy", "/process/scheduler", json!({"policy": "SCHED_MOON"})),
        ("io-priority-class", "/process/ioPriority", json!({"class": "IOPRIO_CLASS_MOON", "priority": 1})),
        ("io-priority-level", "/process/ioPriority", json!({"class": "IOPRIO_CLASS_BE", "priority": 9})),
        ("personality", "/linux/personality", json!({"domain": "MOON"})),
        ("cgroups-path-nul", "/linux/cgroupsPath", json!("/a\u{0}b")),
        ("hostname-nul", "/hostname", json!("a\u{0}b")),
        ("argument-nul", "/process/args", json!(["true", "a\u{0}b"])),
        ("rootfs-nul", "/root/path", json!("rootfs\u{0}")),
        ("negative-memory", "/linux/resources/memory/limit", json!(-2)),
        ("umask-too-large", "/process/user/umask", json!(4_294_967_296_u64)),
    ] {
        let property = pointer.rsplit('/').next().unwrap_or("");
        m.case(format!("bad-config/value-{name}"), SPEC, move |t| {
            t.refuses(&t.bundle()?.set(pointer, value.clone()), &[property]).map(drop)
        });
    }
}

fn missing(m: &mut Matrix) {
    for (pointer, name) in [
        ("/ociVersion", "version"),
        ("/root", "root"),
        ("/root/path", "root-path"),
        ("/process", "process"),
        ("/process/args", "args"),
        ("/process/cwd", "cwd"),
    ] {
        let property = pointer.rsplit('/').next().unwrap_or("");
        m.case(format!("bad-config/without-{name}"), SPEC, move |t| {
            t.refuses(&t.bundle()?.unset(pointer), &[property]).map(drop)
        });
    }
    for (name, pointer, entry) in [
        ("namespace-without-type", "/linux/namespaces", json!({"path": "/proc/self/ns/net"})),
        ("device-without-path", "/linux/devices", json!({"type": "c", "major": 1, "minor": 3})),
        ("device-without-type", "/linux/devices", json!({"path": "/dev/x", "major": 1, "minor": 3})),
        ("rlimit-without-type", "/process/rlimits", json!({"soft": 1, "hard": 1})),
        ("mount-without-destination", "/mounts", json!({"type": "tmpfs", "source": "tmpfs"})),
        ("hook-without-path", "/hooks/createRuntime", json!({"args": ["x"]})),
    ] {
        let property = name.rsplit('-').next().unwrap_or("");
        m.case(format!("bad-config/{name}"), SPEC, move |t| {
            t.refuses(&t.bundle()?.push(pointer, entry.clone()), &[property]).map(drop)
        });
    }
}

/// What looks wrong and must nevertheless be accepted.
fn tolerated(m: &mut Matrix) {
    const EXTENSIBLE: &str = "config.md Extensibility: unknown properties MUST be ignored";
    for (name, pointer, value) in [
        ("unknown-top-level-property", "/moon", json!({"full": true})),
        ("unknown-process-property", "/process/moon", json!(1)),
        ("unknown-linux-property", "/linux/moon", json!([1, 2, 3])),
        ("unknown-resource-property", "/linux/resources/moon", json!({})),
        ("other-platforms", "/windows", json!({"layerFolders": ["x"]})),
        ("newer-minor-version", "/ociVersion", json!("1.99.0")),
        ("null-hooks", "/hooks", Value::Null),
        ("null-annotations", "/annotations", Value::Null),
        ("null-devices", "/linux/devices", Value::Null),
        ("empty-mount-options", "/mounts/0/options", json!([])),
    ] {
        m.case(format!("bad-config/tolerates-{name}"), EXTENSIBLE, move |t| -> Done {
            t.report(&t.bundle()?.set(pointer, value.clone())).map(drop)
        });
    }
    m.case(
        "bad-config/tolerates-a-byte-order-of-properties",
        "JSON: the order of properties means nothing",
        |t| {
            let bundle = t.bundle()?;
            let mut text = bundle.spec.to_string();
            text = format!("\n\t{}\n\n", text);
            t.report(&bundle.raw(text)).map(drop)
        },
    );
}

fn bundles(m: &mut Matrix) {
    m.case("bad-config/bundle-missing", SPEC, |t| {
        t.verb("run")
            .args(["--bundle", "/none/such"])
            .arg(t.id())
            .output()?
            .fails_with(&["no such file", "/none/such"])?;
        t.nothing_left()
    });
    m.case("bad-config/bundle-is-a-file", SPEC, |t| {
        let file = t.path("file");
        fs::write(&file, "")?;
        t.verb("run").arg("--bundle").arg(file).arg(t.id()).output()?.fails_with(&["not a directory"])?;
        t.nothing_left()
    });
    m.case("bad-config/config-json-missing", SPEC, |t| {
        let bundle = t.bundle()?;
        let out = t.verb("run").arg("--bundle").arg(&bundle.dir).arg(t.id()).output()?;
        out.fails_with(&["config.json"])?;
        t.nothing_left()
    });
    m.case("bad-config/config-json-is-a-directory", SPEC, |t| {
        let bundle = t.bundle()?;
        fs::create_dir(bundle.dir.join("config.json"))?;
        t.verb("run").arg("--bundle").arg(&bundle.dir).arg(t.id()).output()?.fails_with(&["config.json"])?;
        t.nothing_left()
    });
    m.case("bad-config/config-json-is-a-fifo", "no wait for ever", |t| {
        let bundle = t.bundle()?;
        let mode = nix::sys::stat::Mode::from_bits_truncate(0o644);
        nix::unistd::mkfifo(&bundle.dir.join("config.json"), mode)?;
        t.verb("run").arg("--bundle").arg(&bundle.dir).arg(t.id()).output()?.fails_with(&["config.json"])?;
        t.nothing_left()
    });
    m.case("bad-config/config-json-is-dev-zero", "no endless reading", |t| {
        let bundle = t.bundle()?;
        symlink("/dev/zero", bundle.dir.join("config.json"))?;
        t.verb("run").arg("--bundle").arg(&bundle.dir).arg(t.id()).output()?.fails_with(&["config.json"])?;
        t.nothing_left()
    });
    m.case("bad-config/config-json-is-a-dangling-link", SPEC, |t| {
        let bundle = t.bundle()?;
        symlink("/none/such", bundle.dir.join("config.json"))?;
        t.verb("run").arg("--bundle").arg(&bundle.dir).arg(t.id()).output()?.fails_with(&["config.json"])?;
        t.nothing_left()
    });
}
