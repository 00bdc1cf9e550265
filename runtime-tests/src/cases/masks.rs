//! Masked and read-only paths.

use crate::check::same;
use crate::ensure;
use crate::matrix::Matrix;
use serde_json::json;

const MASKED: &str = "config-linux.md Masked Paths";
const READONLY: &str = "config-linux.md Readonly Paths";

/// Adds the cases of this area.
pub fn register(m: &mut Matrix) {
    m.case("masks/file-reads-as-empty", MASKED, |t| {
        let bundle = t.bundle()?.file("/etc/secret", "secret", 0o644)?;
        let bundle = bundle.set("/linux/maskedPaths", json!(["/etc/secret"]));
        same("read", t.attempt(bundle, &["read", "/etc/secret"])?.as_str(), "ok")
    });
    m.case("masks/file-is-dev-null", MASKED, |t| {
        let bundle = t.bundle()?.set("/linux/maskedPaths", json!(["/proc/keys"]));
        let report = t.report(&bundle.args(&["probe", "report", "--path", "/proc/keys"]))?;
        report.path_is("/proc/keys", "type", "char")?;
        report.path_is("/proc/keys", "rdev", "1:3")
    });
    m.case("masks/directory-is-empty-and-read-only", MASKED, |t| {
        let bundle = t.bundle()?.file("/etc/private/key", "secret", 0o644)?;
        let bundle = bundle.set("/linux/maskedPaths", json!(["/etc/private"]));
        let report = t.report(&bundle.clone().args(&["probe", "report", "--path", "/etc/private"]))?;
        report.path_is("/etc/private", "entries", json!([]))?;
        same("create", t.attempt(bundle, &["create", "/etc/private/x"])?.as_str(), "EROFS")
    });
    m.case("masks/missing-path-is-ignored", MASKED, |t| {
        t.report(&t.bundle()?.set("/linux/maskedPaths", json!(["/proc/none", "/none/at/all"]))).map(drop)
    });
    m.case("masks/many-directories", MASKED, |t| {
        let mut bundle = t.bundle()?;
        let mut paths = Vec::new();
        for n in 0..100 {
            bundle = bundle.file(&format!("/var/{n}/key"), "secret", 0o644)?;
            paths.push(format!("/var/{n}"));
        }
        let bundle = bundle.set("/linux/maskedPaths", json!(paths));
        let report = t.report(&bundle.args(&["probe", "report", "--path", "/var/57"]))?;
        report.path_is("/var/57", "entries", json!([]))
    });
    m.case("masks/container-root-cannot-unmount-without-capability", MASKED, |t| {
        let bundle = t.bundle()?.file("/etc/secret", "secret", 0o644)?;
        let bundle = bundle.set("/linux/maskedPaths", json!(["/etc/secret"]));
        same("umount", t.attempt(bundle, &["umount", "/etc/secret"])?.as_str(), "EPERM")
    });
    m.case("masks/relative-path-is-below-the-root", "runc contract: relative paths are taken", |t| {
        let bundle = t.bundle()?.set("/linux/maskedPaths", json!(["proc/keys"]));
        let report = t.report(&bundle.args(&["probe", "report", "--path", "/proc/keys"]))?;
        report.path_is("/proc/keys", "rdev", "1:3")
    });
    m.case("masks/empty-path-is-an-error", "config-linux.md: values MUST be absolute paths", |t| {
        t.refuses(&t.bundle()?.set("/linux/maskedPaths", json!([""])), &["maskedPaths"]).map(drop)
    });
    m.case("masks/without-mount-namespace-is-an-error", MASKED, |t| {
        let bundle = t.bundle()?.without_ns("mount").set("/mounts", json!([]));
        t.refuses(&bundle, &["mount namespace", "mnt namespace"]).map(drop)
    });
    readonly(m);
}

fn readonly(m: &mut Matrix) {
    m.case("masks/readonly-file", READONLY, |t| {
        let bundle = t.bundle()?.file("/etc/fixed", "text", 0o666)?;
        let bundle = bundle.set("/linux/readonlyPaths", json!(["/etc/fixed"]));
        same("read", t.attempt(bundle.clone(), &["read", "/etc/fixed"])?.as_str(), "ok text")?;
        same("write", t.attempt(bundle, &["write", "/etc/fixed", "x"])?.as_str(), "EROFS")
    });
    m.case("masks/readonly-directory", READONLY, |t| {
        let bundle = t.bundle()?.file("/etc/fixed/inner", "text", 0o666)?;
        let bundle = bundle.set("/linux/readonlyPaths", json!(["/etc/fixed"]));
        same("write", t.attempt(bundle.clone(), &["write", "/etc/fixed/inner", "x"])?.as_str(), "EROFS")?;
        same("create", t.attempt(bundle, &["create", "/etc/other"])?.as_str(), "ok")
    });
    m.case("masks/readonly-proc-sys", READONLY, |t| {
        let words = ["write", "/proc/sys/kernel/hostname", "x"];
        same("write", t.attempt(t.bundle()?, &words)?.as_str(), "EROFS")
    });
    m.case("masks/readonly-keeps-the-mount's-flags", READONLY, |t| {
        let report = t.report(&t.bundle()?)?;
        let mount = report.mount("/proc/sys")?;
        for flag in ["ro", "nosuid", "nodev", "noexec"] {
            ensure!(mount.has(flag), "/proc/sys lacks {flag}: {:?}", mount.options);
        }
        Ok(())
    });
    m.case("masks/readonly-covers-mounts-below", READONLY, |t| {
        let bundle =
            t.bundle()?.mount("/mnt", "tmpfs", "tmpfs", &[]).mount("/mnt/sub", "tmpfs", "tmpfs", &[]);
        let bundle = bundle.set("/linux/readonlyPaths", json!(["/mnt"]));
        let report = t.report(&bundle.clone())?;
        // runc binds recursively and remounts only the top; the spec says the path is read-only.
        ensure!(report.mount("/mnt")?.has("ro"), "/mnt is writable");
        same("create", t.attempt(bundle, &["create", "/mnt/x"])?.as_str(), "EROFS")
    });
    m.case("masks/readonly-missing-path-is-ignored", READONLY, |t| {
        t.report(&t.bundle()?.set("/linux/readonlyPaths", json!(["/proc/none"]))).map(drop)
    });
    m.case(
        "masks/readonly-relative-path-is-below-the-root",
        "runc contract: relative paths are taken",
        |t| {
            let bundle = t.bundle()?.set("/linux/readonlyPaths", json!(["proc/sys"]));
            let words = ["write", "/proc/sys/kernel/hostname", "x"];
            same("write", t.attempt(bundle, &words)?.as_str(), "EROFS")
        },
    );
    m.case("masks/readonly-root-by-its-path", READONLY, |t| {
        for (path, mode) in [("/", "EROFS"), ("/etc/..", "EROFS"), ("/up/..", "EROFS"), ("/etc", "ok")] {
            let bundle = t.bundle()?.set("/linux/readonlyPaths", json!([path]));
            same(path, t.attempt(bundle, &["create", "/new"])?.as_str(), mode)?;
        }
        let bundle = t.bundle()?.link("/up", "etc/..")?.set("/linux/readonlyPaths", json!(["/up"]));
        same("through a link", t.attempt(bundle, &["create", "/new"])?.as_str(), "EROFS")
    });
    m.case("masks/masking-the-root-is-an-error", MASKED, |t| {
        t.refuses(&t.bundle()?.set("/linux/maskedPaths", json!(["/"])), &["root", "maskedPaths"])?;
        let bundle = t.bundle()?.link("/up", "etc/..")?.set("/linux/maskedPaths", json!(["/up"]));
        t.refuses(&bundle, &["root", "maskedPaths"]).map(drop)
    });
    m.case("masks/readonly-empty-path-is-an-error", "config-linux.md: values MUST be absolute paths", |t| {
        t.refuses(&t.bundle()?.set("/linux/readonlyPaths", json!([""])), &["readonlyPaths"]).map(drop)
    });
    m.case("masks/exec-sees-them-too", MASKED, |t| {
        let c = t.sleeper(t.bundle()?.set("/linux/maskedPaths", json!(["/proc/keys"])))?;
        let out = c.exec(&["probe", "try", "read", "/proc/keys"])?.ok()?;
        same("read", out.stdout.trim(), "ok")
    });
}
