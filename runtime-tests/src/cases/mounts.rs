//! Mounts: types, sources, data, order, copy-up, and what is refused.

use crate::check::{has, same};
use crate::ensure;
use crate::matrix::Matrix;
use crate::proc;
use serde_json::json;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};

const SPEC: &str = "config.md Mounts";

/// Adds the cases of this area.
pub fn register(m: &mut Matrix) {
    on_the_root(m);
    binds(m);
    filesystems(m);
    tmpfs(m);
    order(m);
    special(m);
    refusals(m);
}

fn on_the_root(m: &mut Matrix) {
    m.case("mounts/destination-root-is-the-root", "config.md Mounts: each mount has an effect", |t| {
        for (destination, link) in [("/", None), ("/etc/..", None), ("/up", Some("etc/.."))] {
            let other = t.bundle()?.file("/etc/other", "other", 0o644)?.rootfs();
            let bundle = t.bundle()?;
            let bundle = match link {
                Some(target) => bundle.link(destination, target)?,
                None => bundle,
            };
            let own = bundle.rootfs();
            let bundle = bundle
                .with(|spec| {
                    let root = json!({"destination": destination, "type": "bind", "source": &other, "options": ["rbind"]});
                    if let Some(list) = spec["mounts"].as_array_mut() {
                        list.insert(0, root);
                    }
                })
                .shell("cat /etc/other && echo made > /made && grep -c ' /proc ' /proc/self/mountinfo");
            let out = t.run(&bundle)?.ok()?;
            same("output", out.stdout.as_str(), "other1\n")?;
            ensure!(other.join("made").exists() && !own.join("made").exists(), "the program wrote below the first root");
        }
        t.nothing_left()
    });
    m.case("mounts/destination-root-and-a-read-only-root", "config.md Root: readonly", |t| {
        let other = t.bundle()?.rootfs();
        let bundle = t.bundle()?.set("/root/readonly", true).bind(&other, "/", &[]);
        let bundle =
            bundle.with(|spec| spec["mounts"].as_array_mut().map_or((), |list| list.rotate_right(1)));
        same("create", t.attempt(bundle, &["create", "/new"])?.as_str(), "EROFS")
    });
}

fn binds(m: &mut Matrix) {
    m.case("mounts/bind-directory", SPEC, |t| {
        let volume = t.volume()?;
        fs::write(volume.join("file"), "text")?;
        let bundle = t.bundle()?.bind(&volume, "/mnt", &[]);
        same("read", t.attempt(bundle, &["read", "/mnt/file"])?.as_str(), "ok text")
    });
    m.case("mounts/bind-file-makes-its-target", SPEC, |t| {
        let volume = t.volume()?;
        fs::write(volume.join("file"), "text")?;
        let bundle = t.bundle()?.bind(&volume.join("file"), "/etc/deep/er/file", &["ro"]);
        same("read", t.attempt(bundle, &["read", "/etc/deep/er/file"])?.as_str(), "ok text")
    });
    m.case("mounts/bind-source-relative-to-bundle", SPEC, |t| {
        let bundle = t.bundle()?.mount("/mnt", "bind", "data", &["bind"]);
        fs::create_dir(bundle.dir.join("data"))?;
        fs::write(bundle.dir.join("data/file"), "text")?;
        same("read", t.attempt(bundle, &["read", "/mnt/file"])?.as_str(), "ok text")
    });
    m.case("mounts/bind-is-decided-by-the-option", "config.md Mounts: type of a bind is ignored", |t| {
        let volume = t.volume()?;
        fs::write(volume.join("file"), "text")?;
        let bundle = t.bundle()?.mount("/mnt", "none", &volume.to_string_lossy(), &["rbind"]);
        same("read", t.attempt(bundle.clone(), &["read", "/mnt/file"])?.as_str(), "ok text")?;
        let bundle = bundle.with(|spec| {
            let last = spec["mounts"].as_array().map_or(0, |m| m.len() - 1);
            spec["mounts"][last].as_object_mut().map(|m| m.remove("type"));
        });
        same("without type", t.attempt(bundle, &["read", "/mnt/file"])?.as_str(), "ok text")
    });
    for (option, seen) in [("bind", "ENOENT"), ("rbind", "ok below")] {
        m.case(format!("mounts/{option}-and-mounts-below-the-source"), SPEC, move |t| {
            let volume = t.volume()?;
            fs::create_dir(volume.join("sub"))?;
            let (sub, none) = (volume.join("sub"), None::<&str>);
            nix::mount::mount(Some("tmpfs"), &sub, Some("tmpfs"), nix::mount::MsFlags::empty(), none)?;
            fs::write(sub.join("file"), "below")?;
            t.settle();
            let bundle = t.bundle()?.mount("/mnt", "bind", &volume.to_string_lossy(), &[option]);
            same("read", t.attempt(bundle, &["read", "/mnt/sub/file"])?.as_str(), seen)
        });
    }
    m.case("mounts/bind-of-fifo-and-socket", SPEC, |t| {
        let volume = t.volume()?;
        nix::unistd::mkfifo(&volume.join("fifo"), nix::sys::stat::Mode::from_bits_truncate(0o600))?;
        let _listener = std::os::unix::net::UnixListener::bind(volume.join("socket"))?;
        let bundle = t.bundle()?.bind(&volume.join("fifo"), "/mnt/fifo", &["ro", "nosuid"]);
        let bundle = bundle.bind(&volume.join("socket"), "/mnt/socket", &["ro"]);
        let probe = ["probe", "report", "--path", "/mnt/fifo", "--path", "/mnt/socket"];
        let report = t.report(&bundle.args(&probe))?;
        report.path_is("/mnt/fifo", "type", "fifo")?;
        report.path_is("/mnt/socket", "type", "socket")
    });
    m.case("mounts/bind-source-through-symlink", SPEC, |t| {
        let volume = t.volume()?;
        fs::create_dir(volume.join("real"))?;
        fs::write(volume.join("real/file"), "text")?;
        symlink("real", volume.join("link"))?;
        let bundle = t.bundle()?.bind(&volume.join("link"), "/mnt", &[]);
        same("read", t.attempt(bundle, &["read", "/mnt/file"])?.as_str(), "ok text")
    });
}

fn filesystems(m: &mut Matrix) {
    m.case("mounts/default-types", SPEC, |t| {
        let report = t.report(&t.bundle()?)?;
        for (target, fstype) in [
            ("/proc", "proc"),
            ("/dev", "tmpfs"),
            ("/dev/pts", "devpts"),
            ("/dev/shm", "tmpfs"),
            ("/dev/mqueue", "mqueue"),
            ("/sys", "sysfs"),
        ] {
            same(target, report.mount(target)?.fstype.as_str(), fstype)?;
        }
        Ok(())
    });
    m.case("mounts/proc-shows-the-container's-pids", SPEC, |t| {
        let report = t.report(&t.bundle()?.args(&["probe", "report", "--path", "/proc/1/comm"]))?;
        report.path_is("/proc/1/comm", "content", "probe\n")
    });
    m.case("mounts/overlay", SPEC, |t| {
        if !proc::has_filesystem("overlay") {
            return crate::check::skip("no overlay");
        }
        let volume = t.volume()?;
        for name in ["lower", "upper", "work"] {
            fs::create_dir(volume.join(name))?;
        }
        fs::write(volume.join("lower/file"), "lower")?;
        let at = |name: &str| format!("{name}dir={}/{name}", volume.display());
        let options = [at("lower"), at("upper"), at("work")];
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        let bundle = t.bundle()?.mount("/mnt", "overlay", "overlay", &options);
        same("read", t.attempt(bundle.clone(), &["read", "/mnt/file"])?.as_str(), "ok lower")?;
        same("create", t.attempt(bundle, &["create", "/mnt/new"])?.as_str(), "ok")?;
        ensure!(volume.join("upper/new").exists(), "the file is not in the upper directory");
        Ok(())
    });
    m.case("mounts/ramfs-as-any-other-type", SPEC, |t| {
        let report = t.report(&t.bundle()?.mount("/mnt", "ramfs", "ramfs", &["nosuid"]))?;
        same("type", report.mount("/mnt")?.fstype.as_str(), "ramfs")
    });
    m.case("mounts/source-is-shown", SPEC, |t| {
        let report = t.report(&t.bundle()?.mount("/mnt", "tmpfs", "my-source", &[]))?;
        same("source", report.mount("/mnt")?.source.as_str(), "my-source")
    });
    m.case("mounts/mqueue-belongs-to-the-ipc-namespace", SPEC, |t| {
        let report = t.report(&t.bundle()?.args(&["probe", "report", "--path", "/dev/mqueue"]))?;
        report.path_is("/dev/mqueue", "entries", json!([]))
    });
    m.case("mounts/devpts-options", SPEC, |t| {
        let pts = t.report(&t.bundle()?)?.mount("/dev/pts")?;
        for option in ["gid=5", "mode=620", "ptmxmode=666"] {
            ensure!(pts.super_has(option), "{option} is not in {:?}", pts.super_options);
        }
        Ok(())
    });
}

fn tmpfs(m: &mut Matrix) {
    m.case("mounts/tmpfs-size", SPEC, |t| {
        let mount = t.report(&t.bundle()?.mount("/mnt", "tmpfs", "tmpfs", &["size=64k"]))?.mount("/mnt")?;
        ensure!(mount.super_has("size=64k"), "{:?}", mount.super_options);
        Ok(())
    });
    for mode in ["0700", "1777", "0711"] {
        m.case(format!("mounts/tmpfs-mode-{mode}"), SPEC, move |t| {
            let bundle = t.bundle()?.mount("/mnt", "tmpfs", "tmpfs", &[&format!("mode={mode}")]);
            let report = t.report(&bundle.args(&["probe", "report", "--path", "/mnt"]))?;
            report.path_is("/mnt", "mode", mode)
        });
    }
    m.case(
        "mounts/tmpfs-mode-of-the-covered-directory",
        "runc contract: the default mode is inherited",
        |t| {
            let bundle = t.bundle()?.dir("/covered")?.mount("/covered", "tmpfs", "tmpfs", &[]);
            fs::set_permissions(bundle.rootfs().join("covered"), fs::Permissions::from_mode(0o710))?;
            let report = t.report(&bundle.args(&["probe", "report", "--path", "/covered"]))?;
            report.path_is("/covered", "mode", "0710")
        },
    );
    m.case("mounts/tmpcopyup", "config-linux.md: tmpcopyup", |t| {
        let bundle = t.bundle()?.file("/data/sub/file", "text", 0o644)?.link("/data/link", "sub/file")?;
        chown(bundle.rootfs().join("data/sub/file"), Some(1000), Some(1001))?;
        let bundle = bundle.mount("/data", "tmpfs", "tmpfs", &["tmpcopyup"]);
        let probe = ["probe", "report", "--path", "/data/sub/file", "--path", "/data/link"];
        let report = t.report(&bundle.clone().args(&probe))?;
        same("type", report.mount("/data")?.fstype.as_str(), "tmpfs")?;
        report.path_is("/data/sub/file", "content", "text")?;
        report.path_is("/data/sub/file", "mode", "0644")?;
        report.path_is("/data/sub/file", "uid", 1000)?;
        report.path_is("/data/sub/file", "gid", 1001)?;
        report.path_is("/data/link", "link", "sub/file")?;
        same("unlink", t.attempt(bundle.clone(), &["unlink", "/data/sub/file"])?.as_str(), "ok")?;
        ensure!(bundle.rootfs().join("data/sub/file").exists(), "the file below has gone");
        Ok(())
    });
    m.case("mounts/tmpcopyup-read-only", "config-linux.md: tmpcopyup", |t| {
        let bundle = t.bundle()?.file("/data/file", "text", 0o644)?;
        let bundle = bundle.mount("/data", "tmpfs", "tmpfs", &["tmpcopyup", "ro"]);
        same("read", t.attempt(bundle.clone(), &["read", "/data/file"])?.as_str(), "ok text")?;
        same("create", t.attempt(bundle, &["create", "/data/x"])?.as_str(), "EROFS")
    });
}

fn order(m: &mut Matrix) {
    m.case("mounts/in-the-listed-order", "config.md Mounts: MUST be mounted in the listed order", |t| {
        let (first, second) = (t.volume()?, t.volume()?);
        fs::write(first.join("file"), "first")?;
        fs::write(second.join("file"), "second")?;
        let bundle = t.bundle()?.bind(&first, "/mnt", &[]).bind(&second, "/mnt", &[]);
        same("read", t.attempt(bundle, &["read", "/mnt/file"])?.as_str(), "ok second")
    });
    m.case("mounts/below-an-earlier-mount", SPEC, |t| {
        let volume = t.volume()?;
        fs::write(volume.join("file"), "text")?;
        let bundle = t.bundle()?.mount("/mnt", "tmpfs", "tmpfs", &[]).bind(&volume, "/mnt/a/b", &[]);
        same("read", t.attempt(bundle, &["read", "/mnt/a/b/file"])?.as_str(), "ok text")
    });
    m.case("mounts/hidden-by-a-later-mount", SPEC, |t| {
        let volume = t.volume()?;
        fs::write(volume.join("file"), "text")?;
        let bundle = t.bundle()?.bind(&volume, "/mnt/sub", &[]).mount("/mnt", "tmpfs", "tmpfs", &[]);
        same("read", t.attempt(bundle, &["read", "/mnt/sub/file"])?.as_str(), "ENOENT")
    });
    m.case("mounts/source-below-the-root-file-system", SPEC, |t| {
        let bundle = t.bundle()?.file("/data/file", "text", 0o644)?;
        let source = bundle.rootfs().join("data");
        let bundle = bundle.bind(&source, "/mnt", &[]);
        same("read", t.attempt(bundle, &["read", "/mnt/file"])?.as_str(), "ok text")
    });
    m.case("mounts/no-mounts-at-all", SPEC, |t| {
        let bundle =
            t.bundle()?.set("/mounts", json!([])).unset("/linux/maskedPaths").unset("/linux/readonlyPaths");
        t.run(&bundle.args(&["true"]))?.ok().map(drop)
    });
    m.case("mounts/two-hundred", SPEC, |t| {
        let volume = t.volume()?;
        let mut bundle = t.bundle()?;
        for n in 0..200 {
            bundle = bundle.bind(&volume, &format!("/mnt/{n}"), &["ro"]);
        }
        let report = t.report(&bundle)?;
        same("mounts", report.mounts().iter().filter(|m| m.target.starts_with("/mnt/")).count(), 200)
    });
}

fn special(m: &mut Matrix) {
    m.case("mounts/lxcfs-file-over-proc", "runc contract: /proc/meminfo may be covered", |t| {
        let volume = t.volume()?;
        fs::write(volume.join("meminfo"), "MemTotal: 1 kB\n")?;
        let bundle = t.bundle()?.bind(&volume.join("meminfo"), "/proc/meminfo", &[]);
        has("meminfo", &t.attempt(bundle, &["read", "/proc/meminfo"])?, "MemTotal: 1 kB")
    });
    m.case("mounts/over-other-proc-file-is-an-error", "runc contract: nothing else may cover /proc", |t| {
        let volume = t.volume()?;
        fs::write(volume.join("environ"), "")?;
        let bundle = t.bundle()?.bind(&volume.join("environ"), "/proc/1/environ", &[]);
        t.refuses(&bundle, &["proc"]).map(drop)
    });
    m.case("mounts/tmpfs-on-proc-is-an-error", "CVE-2019-16884", |t| {
        let bundle = t.bundle()?.without_mount("/proc").mount("/proc", "tmpfs", "tmpfs", &[]);
        t.refuses(&bundle, &["proc"]).map(drop)
    });
    m.case("mounts/bind-of-directory-on-proc-is-an-error", "CVE-2019-16884", |t| {
        let volume = t.volume()?;
        let bundle = t.bundle()?.without_mount("/proc").bind(&volume, "/proc", &[]);
        t.refuses(&bundle, &["proc"]).map(drop)
    });
    m.case(
        "mounts/relative-destination-is-below-root",
        "config.md Mounts: relative is deprecated, means /",
        |t| {
            let report = t.report(&t.bundle()?.mount("mnt/rel", "tmpfs", "tmpfs", &[]))?;
            report.mount("/mnt/rel").map(drop)
        },
    );
    m.case("mounts/destination-with-setgid-parent", "runc contract: made directories are 0755", |t| {
        let bundle = t.bundle()?.dir("/group")?;
        fs::set_permissions(bundle.rootfs().join("group"), fs::Permissions::from_mode(0o2755))?;
        t.report(&bundle.mount("/group/a/b", "tmpfs", "tmpfs", &[]))?.mount("/group/a/b").map(drop)
    });
}

fn refusals(m: &mut Matrix) {
    m.case("mounts/source-missing-is-an-error", SPEC, |t| {
        let bundle = t.bundle()?.mount("/mnt", "bind", "/none/at/all", &["bind"]);
        t.refuses(&bundle, &["no such file"]).map(drop)
    });
    m.case("mounts/type-unknown-is-an-error", SPEC, |t| {
        t.refuses(&t.bundle()?.mount("/mnt", "nonefs", "none", &[]), &["no such device", "nonefs"]).map(drop)
    });
    m.case("mounts/data-unknown-is-an-error", SPEC, |t| {
        t.refuses(&t.bundle()?.mount("/mnt", "tmpfs", "tmpfs", &["moon=full"]), &["invalid argument", "moon"])
            .map(drop)
    });
    m.case("mounts/directory-on-file-is-an-error", SPEC, |t| {
        let volume = t.volume()?;
        t.refuses(&t.bundle()?.bind(&volume, "/etc/passwd", &[]), &["not a directory"]).map(drop)
    });
    m.case("mounts/file-on-directory-is-an-error", SPEC, |t| {
        let volume = t.volume()?;
        fs::write(volume.join("file"), "")?;
        t.refuses(
            &t.bundle()?.bind(&volume.join("file"), "/mnt", &[]),
            &["not a directory", "is a directory"],
        )
        .map(drop)
    });
    m.case("mounts/destination-missing-is-an-error", SPEC, |t| {
        let bundle = t.bundle()?.push("/mounts", json!({"type": "tmpfs", "source": "tmpfs"}));
        t.refuses(&bundle, &["destination"]).map(drop)
    });
    m.case("mounts/second-of-three-fails-and-nothing-is-left", SPEC, |t| {
        let volume = t.volume()?;
        let bundle = t.bundle()?.bind(&volume, "/mnt/a", &[]).mount("/mnt/b", "nonefs", "none", &[]);
        t.refuses(&bundle.bind(&volume, "/mnt/c", &[]), &["nonefs", "no such device"]).map(drop)
    });
}
