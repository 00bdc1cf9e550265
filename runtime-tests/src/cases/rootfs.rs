//! The root file system: where it comes from, what is left of the host's, read-only, propagation.

use crate::check::same;
use crate::ensure;
use crate::matrix::Matrix;
use nix::mount::{MsFlags, mount};
use std::fs;
use std::os::unix::fs::symlink;

const SPEC: &str = "config.md Root";
const PROPAGATION: &str = "config-linux.md Rootfs Mount Propagation";

/// Adds the cases of this area.
pub fn register(m: &mut Matrix) {
    paths(m);
    contents(m);
    readonly(m);
    propagation(m);
}

fn paths(m: &mut Matrix) {
    m.case("rootfs/relative-path", SPEC, |t| t.report(&t.bundle()?.set("/root/path", "./rootfs")).map(drop));
    m.case("rootfs/absolute-path", SPEC, |t| {
        let bundle = t.bundle()?;
        let path = bundle.rootfs().to_string_lossy().into_owned();
        t.report(&bundle.set("/root/path", path)).map(drop)
    });
    m.case("rootfs/dot", SPEC, |t| {
        let mut bundle = t.bundle()?.set("/root/path", ".");
        bundle.dir = bundle.rootfs();
        t.report(&bundle).map(drop)
    });
    m.case("rootfs/bundle-by-symlink", "runc contract: engines keep bundles behind links", |t| {
        let mut bundle = t.bundle()?;
        let link = t.path("link");
        symlink(&bundle.dir, &link)?;
        bundle.dir = link;
        t.report(&bundle).map(drop)
    });
    m.case("rootfs/bundle-is-the-working-directory", "runtime command line: bundle defaults to .", |t| {
        let bundle = t.bundle()?;
        bundle.save()?;
        t.verb("run").arg(t.id()).cwd(&bundle.dir).ok().map(drop)
    });
    m.case("rootfs/missing-is-an-error", SPEC, |t| {
        t.refuses(&t.bundle()?.set("/root/path", "nowhere"), &["no such file", "does not exist", "nowhere"])
            .map(drop)
    });
    m.case("rootfs/is-a-file-is-an-error", SPEC, |t| {
        let bundle = t.bundle()?.set("/root/path", "file");
        fs::write(bundle.dir.join("file"), "")?;
        t.refuses(&bundle, &["not a directory", "root"]).map(drop)
    });
    m.case("rootfs/root-property-missing-is-an-error", SPEC, |t| {
        t.refuses(&t.bundle()?.unset("/root"), &["root"]).map(drop)
    });
    m.case("rootfs/root-path-empty-is-an-error", SPEC, |t| {
        t.refuses(&t.bundle()?.set("/root/path", ""), &["root"]).map(drop)
    });
    m.case("rootfs/symlink-is-an-error", "runc contract: the rootfs must be a real directory", |t| {
        let bundle = t.bundle()?.set("/root/path", "link");
        symlink("rootfs", bundle.dir.join("link"))?;
        t.refuses(&bundle, &["symlink", "symbolic link", "invalid rootfs", "rootfs"]).map(drop)
    });
    m.case("rootfs/is-a-mount-point", SPEC, |t| {
        let bundle = t.bundle()?;
        let root = bundle.rootfs();
        mount(Some(&root), &root, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
        mount(None::<&str>, &root, None::<&str>, MsFlags::MS_SHARED, None::<&str>)?;
        t.settle();
        t.report(&bundle).map(drop)
    });
}

fn contents(m: &mut Matrix) {
    m.case("rootfs/old-root-is-gone", "runtime.md Lifecycle: the root file system is the container's", |t| {
        let report = t.report(&t.bundle()?)?;
        let on_root = report.mounts().into_iter().filter(|m| m.target == "/").count();
        same("mounts on /", on_root, 1)?;
        let host = report.mounts().into_iter().find(|m| m.target.contains("runtime-tests"));
        ensure!(host.is_none(), "a mount of the host is visible: {host:?}");
        report.is("/root", "/")
    });
    m.case("rootfs/dot-dot-stays-inside", SPEC, |t| {
        let report = t.report(&t.bundle()?.args(&["probe", "report", "--path", "/../../../etc/passwd"]))?;
        let content = report.path("/../../../etc/passwd")?["content"].as_str().unwrap_or("").to_owned();
        ensure!(content.contains("user:x:1000"), "the probe read {content:?}");
        Ok(())
    });
    m.case("rootfs/writes-reach-the-bundle", SPEC, |t| {
        let bundle = t.bundle()?;
        same("create", t.attempt(bundle.clone(), &["create", "/etc/new"])?.as_str(), "ok")?;
        ensure!(bundle.rootfs().join("etc/new").exists(), "the file is not in the root file system");
        Ok(())
    });
    m.case("rootfs/mounts-do-not-reach-the-host", "config.md Mounts", |t| {
        let c = t.sleeper(t.bundle()?.mount("/mnt", "tmpfs", "tmpfs", &[]))?;
        let seen = crate::proc::mounts("self").into_iter().find(|m| m.target.ends_with("/rootfs/mnt"));
        ensure!(seen.is_none(), "the container's mount is on the host: {seen:?}");
        c.end()
    });
    m.case("rootfs/no-pivot", "runc contract: --no-pivot", |t| {
        let bundle = t.bundle()?;
        bundle.save()?;
        let out = t.verb("run").args(["--no-pivot", "--bundle"]).arg(&bundle.dir).arg(t.id()).ok()?;
        crate::report::Report::parse(&out.stdout)?.is("/pid", 1)
    });
}

fn readonly(m: &mut Matrix) {
    m.case("rootfs/readonly", SPEC, |t| {
        let bundle = t.bundle()?.set("/root/readonly", true);
        same("create", t.attempt(bundle, &["create", "/etc/new"])?.as_str(), "EROFS")
    });
    m.case("rootfs/readonly-leaves-mounts-writable", SPEC, |t| {
        let bundle = t.bundle()?.set("/root/readonly", true).mount("/mnt", "tmpfs", "tmpfs", &[]);
        same("create", t.attempt(bundle, &["create", "/mnt/new"])?.as_str(), "ok")
    });
    m.case("rootfs/readonly-leaves-the-bundle-writable", SPEC, |t| {
        let bundle = t.bundle()?.set("/root/readonly", true);
        t.report(&bundle)?;
        fs::write(bundle.rootfs().join("etc/after"), "x")?;
        Ok(())
    });
    m.case("rootfs/writable-by-default", SPEC, |t| {
        let bundle = t.bundle()?.unset("/root/readonly");
        same("create", t.attempt(bundle, &["create", "/etc/new"])?.as_str(), "ok")
    });
}

fn propagation(m: &mut Matrix) {
    for (mode, shared, slave, unbindable) in [
        ("private", false, false, false),
        ("shared", true, false, false),
        ("slave", false, true, false),
        ("unbindable", false, false, true),
    ] {
        m.case(format!("rootfs/propagation-{mode}"), PROPAGATION, move |t| {
            let root = t.report(&t.bundle()?.set("/linux/rootfsPropagation", mode))?.mount("/")?;
            same("shared", root.is_shared(), shared)?;
            same("slave", root.is_slave(), slave)?;
            same("unbindable", root.is_unbindable(), unbindable)
        });
    }
    m.case("rootfs/propagation-unknown-is-an-error", PROPAGATION, |t| {
        t.refuses(&t.bundle()?.set("/linux/rootfsPropagation", "sideways"), &["sideways", "propagation"])
            .map(drop)
    });
}
