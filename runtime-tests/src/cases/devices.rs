//! Devices: those of the configuration, the default ones, and the links in /dev.

use crate::check::same;
use crate::ensure;
use crate::matrix::Matrix;
use serde_json::json;
use std::fs;

const SPEC: &str = "config-linux.md Devices";
const DEFAULTS: &str = "config-linux.md Default Devices";
const LINKS: &str = "runtime-linux.md Dev symbolic links";

/// Adds the cases of this area.
pub fn register(m: &mut Matrix) {
    m.case("devices/defaults", DEFAULTS, |t| {
        let report = t.report(&t.bundle()?)?;
        for (name, rdev) in [
            ("null", "1:3"),
            ("zero", "1:5"),
            ("full", "1:7"),
            ("random", "1:8"),
            ("urandom", "1:9"),
            ("tty", "5:0"),
        ] {
            report.is(&format!("/dev/{name}/type"), "char")?;
            report.is(&format!("/dev/{name}/rdev"), rdev)?;
            report.is(&format!("/dev/{name}/mode"), "0666")?;
            report.is(&format!("/dev/{name}/uid"), 0)?;
        }
        Ok(())
    });
    m.case("devices/ptmx-is-of-the-container", DEFAULTS, |t| {
        let report = t.report(&t.bundle()?)?;
        same("link", report.str("/dev/ptmx/link").trim_start_matches("/dev/"), "pts/ptmx")
    });
    m.case("devices/links", LINKS, |t| {
        let report = t.report(&t.bundle()?)?;
        for (name, target) in [
            ("fd", "/proc/self/fd"),
            ("stdin", "/proc/self/fd/0"),
            ("stdout", "/proc/self/fd/1"),
            ("stderr", "/proc/self/fd/2"),
        ] {
            report.is(&format!("/dev/{name}/link"), target)?;
        }
        Ok(())
    });
    m.case("devices/no-console-without-terminal", "config-linux.md: console only with a terminal", |t| {
        let report = t.report(&t.bundle()?)?;
        same("/dev/console", report.at("/dev/console"), &json!(null))
    });
    m.case("devices/nothing-is-made-in-a-bound-dev", "runc contract: a bind on /dev is left as it is", |t| {
        let volume = t.volume()?;
        fs::create_dir(volume.join("pts"))?;
        fs::create_dir(volume.join("shm"))?;
        fs::create_dir(volume.join("mqueue"))?;
        std::os::unix::fs::symlink("/proc/self/fd", volume.join("fd"))?;
        let mode = nix::sys::stat::Mode::from_bits_truncate(0o666);
        let null = nix::sys::stat::makedev(1, 3);
        nix::sys::stat::mknod(&volume.join("null"), nix::sys::stat::SFlag::S_IFCHR, mode, null)?;
        let bundle = t.bundle()?.without_mount("/dev").with(|spec| {
            let mount =
                json!({"destination": "/dev", "source": volume, "type": "bind", "options": ["rbind"]});
            if let Some(mounts) = spec["mounts"].as_array_mut() {
                mounts.insert(1, mount);
            }
        });
        t.report(&bundle)?;
        ensure!(!volume.join("zero").exists(), "a device was made in the volume");
        Ok(())
    });
    configured(m);
    in_the_way(m);
}

fn configured(m: &mut Matrix) {
    m.case("devices/mode-and-owner", SPEC, |t| {
        let device = json!({"path": "/dev/mine", "type": "c", "major": 1, "minor": 5, "fileMode": 0o640,
                            "uid": 1000, "gid": 1001});
        let report = t.report(&t.bundle()?.push("/linux/devices", device))?;
        report.is("/dev/mine/rdev", "1:5")?;
        report.is("/dev/mine/mode", "0640")?;
        report.is("/dev/mine/uid", 1000)?;
        report.is("/dev/mine/gid", 1001)
    });
    m.case("devices/mode-is-not-masked", SPEC, |t| {
        let device = json!({"path": "/dev/mine", "type": "c", "major": 1, "minor": 5, "fileMode": 0o666});
        let bundle = t.bundle()?.push("/linux/devices", device);
        let out = t.run_cmd(&bundle)?.umask(0o077).ok()?;
        crate::report::Report::parse(&out.stdout)?.is("/dev/mine/mode", "0666")
    });
    for (kind, seen) in [("c", "char"), ("u", "char"), ("b", "block"), ("p", "fifo")] {
        m.case(format!("devices/type-{kind}"), SPEC, move |t| {
            let device = match kind {
                "p" => json!({"path": "/dev/mine", "type": "p"}),
                _ => json!({"path": "/dev/mine", "type": kind, "major": 7, "minor": 0}),
            };
            let report = t.report(&t.bundle()?.push("/linux/devices", device))?;
            report.is("/dev/mine/type", seen)
        });
    }
    m.case("devices/outside-dev-in-a-new-directory", SPEC, |t| {
        let device = json!({"path": "/opt/deep/node", "type": "c", "major": 1, "minor": 3});
        let bundle = t.bundle()?.push("/linux/devices", device);
        let report = t.report(&bundle.args(&["probe", "report", "--path", "/opt/deep/node"]))?;
        report.path_is("/opt/deep/node", "rdev", "1:3")
    });
    m.case("devices/repeating-a-default-one", "runc contract: engines list /dev/tty and /dev/ptmx", |t| {
        let bundle = t.bundle()?;
        let bundle =
            bundle.push("/linux/devices", json!({"path": "/dev/null", "type": "c", "major": 1, "minor": 3}));
        let bundle =
            bundle.push("/linux/devices", json!({"path": "/dev/tty", "type": "c", "major": 5, "minor": 0}));
        let bundle =
            bundle.push("/linux/devices", json!({"path": "/dev/ptmx", "type": "c", "major": 5, "minor": 2}));
        t.report(&bundle)?.is("/dev/tty/rdev", "5:0")
    });
    m.case("devices/unknown-type-is-an-error", SPEC, |t| {
        let device = json!({"path": "/dev/mine", "type": "z", "major": 1, "minor": 5});
        t.refuses(&t.bundle()?.push("/linux/devices", device), &["type", "device"]).map(drop)
    });
    m.case("devices/relative-path-is-below-root-or-an-error", SPEC, |t| {
        let device = json!({"path": "../../../../tmp/escaped", "type": "c", "major": 1, "minor": 3});
        let bundle = t.bundle()?.push("/linux/devices", device).args(&["true"]);
        t.run(&bundle)?;
        ensure!(!std::path::Path::new("/tmp/escaped").exists(), "a device was made on the host");
        Ok(())
    });
}

fn in_the_way(m: &mut Matrix) {
    const MATCH: &str = "config-linux.md Devices: a file that does not match is an error";
    m.case("devices/other-file-at-the-path-is-an-error", MATCH, |t| {
        let bundle = t.bundle()?.without_mount("/dev").without_mount("/dev/pts").without_mount("/dev/shm");
        let bundle = bundle.without_mount("/dev/mqueue").file("/opt/node", "x", 0o644)?;
        let device = json!({"path": "/opt/node", "type": "c", "major": 1, "minor": 3});
        t.refuses(&bundle.push("/linux/devices", device), &["/opt/node", "device", "opt/node"]).map(drop)
    });
    m.case("devices/same-device-at-the-path-is-fine", SPEC, |t| {
        let bundle = t.bundle()?.dir("/opt")?;
        nix::sys::stat::mknod(
            &bundle.rootfs().join("opt/node"),
            nix::sys::stat::SFlag::S_IFCHR,
            nix::sys::stat::Mode::from_bits_truncate(0o666),
            nix::sys::stat::makedev(1, 3),
        )?;
        let device = json!({"path": "/opt/node", "type": "c", "major": 1, "minor": 3});
        let bundle = bundle.push("/linux/devices", device).args(&["probe", "report", "--path", "/opt/node"]);
        t.report(&bundle)?.path_is("/opt/node", "rdev", "1:3")
    });
    m.case("devices/without-a-mount-on-dev-they-are-in-the-root-file-system", DEFAULTS, |t| {
        let bundle = t.bundle()?.without_mount("/dev").without_mount("/dev/pts").without_mount("/dev/shm");
        let report = t.report(&bundle.without_mount("/dev/mqueue"))?;
        report.is("/dev/null/rdev", "1:3")
    });
}
