//! User namespaces: mappings, ownership, devices and mounts in them, and joining them.

use crate::bundle::Bundle;
use crate::case::T;
use crate::check::{Done, Result, same};
use crate::ensure;
use crate::matrix::Matrix;
use crate::proc;
use serde_json::json;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;

const SPEC: &str = "config-linux.md User namespace mappings";
const HOST_ID: u32 = 100_000;
const COUNT: u32 = 65_536;

/// A bundle whose root file system belongs to the container's root.
fn bundle(t: &T<'_>) -> Result<Bundle> {
    let bundle = t.bundle()?.userns(HOST_ID, COUNT);
    own(&bundle.rootfs(), HOST_ID)?;
    Ok(bundle)
}

fn own(path: &Path, id: u32) -> Result<()> {
    // The programs are hard links that all bundles of the case share; they stay the host's.
    if path.symlink_metadata()?.is_dir() {
        chown(path, Some(id), Some(id))?;
        for entry in std::fs::read_dir(path)? {
            own(&entry?.path(), id)?;
        }
    }
    Ok(())
}

fn words(lines: &[String]) -> Vec<Vec<String>> {
    lines.iter().map(|l| l.split_whitespace().map(str::to_owned).collect()).collect()
}

/// Adds the cases of this area.
pub fn register(m: &mut Matrix) {
    maps(m);
    inside(m);
    locked_options(m);
    refusals(m);
    joining(m);
}

fn maps(m: &mut Matrix) {
    m.case("userns/maps", SPEC, |t| {
        let report = t.report(&bundle(t)?)?;
        for map in ["/uid_map", "/gid_map"] {
            same(map, words(&report.list(map)), vec![vec!["0".into(), "100000".into(), "65536".to_owned()]])?;
        }
        report.is("/uids", json!([0, 0, 0, 0]))?;
        report.is("/gids", json!([0, 0, 0, 0]))
    });
    m.case("userns/several-maps", SPEC, |t| {
        let map = json!([{"containerID": 0, "hostID": 100_000, "size": 1000},
                         {"containerID": 1000, "hostID": 200_000, "size": 1},
                         {"containerID": 1001, "hostID": 101_001, "size": 64_000}]);
        let bundle = bundle(t)?.set("/linux/uidMappings", map.clone()).set("/linux/gidMappings", map);
        let report = t.report(&bundle)?;
        same("lines of uid_map", report.list("/uid_map").len(), 3)?;
        same("second line", words(&report.list("/uid_map"))[1].join(" ").as_str(), "1000 200000 1")
    });
    for count in [100, 340] {
        m.case(format!("userns/{count}-maps"), "user_namespaces(7): up to 340 lines", move |t| {
            // Short numbers: the kernel takes at most one page.
            let line = |n| json!({"containerID": n, "hostID": 1000 + 2 * n, "size": 1});
            let map: Vec<_> = (0..count).map(line).collect();
            let bundle = t.bundle()?.userns(1000, 1);
            own(&bundle.rootfs(), 1000)?;
            let bundle = bundle.set("/linux/uidMappings", map.clone()).set("/linux/gidMappings", map);
            same("lines of uid_map", t.report(&bundle)?.list("/uid_map").len(), count)
        });
    }
    m.case("userns/program-belongs-to-mapped-id-on-the-host", SPEC, |t| {
        let c = t.sleeper(bundle(t)?.set("/process/user", json!({"uid": 1000, "gid": 1000})))?;
        let owner = std::fs::metadata(format!("/proc/{}", c.pid()?))?.uid();
        same("host uid", owner, HOST_ID + 1000)
    });
    m.case("userns/full-identity-map", SPEC, |t| {
        let report = t.report(&t.bundle()?.userns(0, 4_294_967_295))?;
        same("uid_map", words(&report.list("/uid_map"))[0].join(" ").as_str(), "0 0 4294967295")
    });
}

fn inside(m: &mut Matrix) {
    m.case("userns/capabilities-are-relative", SPEC, |t| {
        let report = t.report(&bundle(t)?.capabilities(&["CAP_SYS_ADMIN", "CAP_CHOWN"]))?;
        crate::check::same_set("effective", &report.list("/caps/effective"), &["CAP_SYS_ADMIN", "CAP_CHOWN"])
    });
    m.case("userns/files-belong-to-container-root", SPEC, |t| {
        let probe = ["probe", "report", "--path", "/etc", "--path", "/dev/shm", "--path", "/proc/1"];
        let report = t.report(&bundle(t)?.args(&probe))?;
        for path in ["/etc", "/dev/shm", "/proc/1"] {
            report.path_is(path, "uid", 0)?;
        }
        Ok(())
    });
    m.case("userns/default-devices-are-bound", "config-linux.md Default Devices", |t| {
        let report = t.report(&bundle(t)?)?;
        for (name, rdev) in
            [("null", "1:3"), ("zero", "1:5"), ("full", "1:7"), ("random", "1:8"), ("tty", "5:0")]
        {
            report.is(&format!("/dev/{name}/type"), "char")?;
            report.is(&format!("/dev/{name}/rdev"), rdev)?;
        }
        report.mount("/dev/null").map(drop)
    });
    m.case("userns/dev-null-can-be-written", "config-linux.md Default Devices", |t| {
        same("write", t.attempt(bundle(t)?, &["write", "/dev/null", "x"])?.as_str(), "ok")
    });
    m.case("userns/device-of-config-is-bound", "config-linux.md Devices", |t| {
        let device = json!({"path": "/dev/kmsg", "type": "c", "major": 1, "minor": 11});
        let report = t.report(&bundle(t)?.push("/linux/devices", device))?;
        report.is("/dev/kmsg/rdev", "1:11")?;
        report.mount("/dev/kmsg").map(drop)
    });
    m.case("userns/read-only-root", "config.md Root", |t| {
        let bundle = bundle(t)?.set("/root/readonly", true);
        same("create", t.attempt(bundle, &["create", "/x"])?.as_str(), "EROFS")
    });
    m.case("userns/read-only-root-on-nosuid-nodev", "mount(2): locked flags must be kept", |t| {
        let bundle = bundle(t)?.set("/root/readonly", true);
        let rootfs = bundle.rootfs();
        nix::mount::mount(Some(&rootfs), &rootfs, None::<&str>, nix::mount::MsFlags::MS_BIND, None::<&str>)?;
        let flags = nix::mount::MsFlags::MS_BIND
            | nix::mount::MsFlags::MS_REMOUNT
            | nix::mount::MsFlags::MS_NODEV
            | nix::mount::MsFlags::MS_NOSUID;
        nix::mount::mount(None::<&str>, &rootfs, None::<&str>, flags, None::<&str>)?;
        t.settle();
        same("create", t.attempt(bundle, &["create", "/x"])?.as_str(), "EROFS")
    });
    m.case("userns/exec", SPEC, |t| {
        let c = t.sleeper(bundle(t)?)?;
        let report = c.exec_report(&[])?;
        same(
            "user namespace",
            report.ns("user"),
            proc::namespace(c.pid()?, "user").unwrap_or_default().as_str(),
        )?;
        report.is("/uids", json!([0, 0, 0, 0]))
    });
    m.case("userns/hostname-sysctl-and-tmpfs-work", SPEC, |t| {
        let bundle =
            bundle(t)?.set("/hostname", "mapped").mount("/mnt", "tmpfs", "tmpfs", &["mode=700", "uid=7"]);
        let report = t.report(&bundle.args(&["probe", "report", "--path", "/mnt"]))?;
        report.is("/hostname", "mapped")?;
        report.path_is("/mnt", "uid", 7)
    });
    m.case(
        "userns/source-that-container-root-cannot-reach",
        "config.md Mounts: sources are the runtime's",
        |t| {
            let volume = t.volume()?;
            let hidden = volume.join("private");
            std::fs::create_dir(&hidden)?;
            std::fs::write(hidden.join("file"), "seen")?;
            std::fs::set_permissions(&volume, std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
            let bundle = bundle(t)?.bind(&hidden, "/mnt", &["rw"]);
            same("read", t.attempt(bundle, &["read", "/mnt/file"])?.as_str(), "ok seen")
        },
    );
}

/// A directory that is bound onto itself with these mount options; it goes with the case.
fn guarded_volume(t: &mut T<'_>, options: nix::mount::MsFlags) -> Result<std::path::PathBuf> {
    use nix::mount::{MsFlags, mount};
    let volume = t.volume()?;
    mount(Some(&volume), &volume, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
    mount(
        None::<&str>,
        &volume,
        None::<&str>,
        MsFlags::MS_BIND | MsFlags::MS_REMOUNT | options,
        None::<&str>,
    )?;
    t.settle();
    Ok(volume)
}

fn locked_options(m: &mut Matrix) {
    const LOCKED: &str = "mount_namespaces(7): Restrictions on mount namespaces";
    use nix::mount::MsFlags;
    let refused = [
        ("rw", MsFlags::MS_RDONLY),
        ("dev", MsFlags::MS_NODEV),
        ("suid", MsFlags::MS_NOSUID),
        ("exec", MsFlags::MS_NOEXEC),
        ("strictatime", MsFlags::MS_NOATIME),
    ];
    for (option, flag) in refused {
        m.case(format!("userns/bind-cannot-take-off-what-the-host-forbids-{option}"), LOCKED, move |t| {
            let volume = guarded_volume(t, flag)?;
            let bundle = bundle(t)?.bind(&volume, "/mnt", &[option]);
            t.refuses(&bundle, &["not permitted"]).map(drop)
        });
    }
    m.case("userns/bind-keeps-what-the-host-forbids", LOCKED, |t| {
        let volume = guarded_volume(t, MsFlags::MS_RDONLY)?;
        let bundle = bundle(t)?.bind(&volume, "/mnt", &["nosuid"]);
        same("create", t.attempt(bundle, &["create", "/mnt/x"])?.as_str(), "EROFS")
    });
}

fn refusals(m: &mut Matrix) {
    m.case("userns/unmapped-user-is-an-error", "config.md User", |t| {
        let bundle = bundle(t)?.set("/process/user", json!({"uid": 70_000, "gid": 0}));
        t.refuses(&bundle, &["uid", "user", "mapp"]).map(drop)
    });
    m.case("userns/unmapped-group-is-an-error", "config.md User", |t| {
        let bundle = bundle(t)?.set("/process/user", json!({"uid": 0, "gid": 70_000}));
        t.refuses(&bundle, &["gid", "group", "mapp"]).map(drop)
    });
    m.case("userns/overlapping-maps-is-an-error", SPEC, |t| {
        let map = json!([{"containerID": 0, "hostID": 100_000, "size": 10},
                         {"containerID": 5, "hostID": 200_000, "size": 10}]);
        t.refuses(&bundle(t)?.set("/linux/uidMappings", map), &["mapping"]).map(drop)
    });
    m.case("userns/too-many-maps-is-an-error", "user_namespaces(7): up to 340 lines", |t| {
        let map: Vec<_> =
            (0..341).map(|n| json!({"containerID": n * 2, "hostID": 100_000 + n * 3, "size": 2})).collect();
        t.refuses(&bundle(t)?.set("/linux/uidMappings", map), &["mapping"]).map(drop)
    });
    m.case("userns/map-without-size-is-an-error", SPEC, |t| {
        let map = json!([{"containerID": 0, "hostID": 100_000, "size": 0}]);
        t.refuses(&bundle(t)?.set("/linux/uidMappings", map), &["mapping", "size"]).map(drop)
    });
}

fn joining(m: &mut Matrix) {
    m.case("userns/join-by-path", "config-linux.md Namespaces", |t| -> Done {
        let first = t.sleeper(bundle(t)?)?;
        let path = format!("/proc/{}/ns/user", first.pid()?);
        let want = proc::namespace(first.pid()?, "user").unwrap_or_default();
        let second = t.bundle()?.join_ns("user", &path);
        let report = t.report(&second)?;
        same("user namespace", report.ns("user"), want.as_str())?;
        report.is("/uids", json!([0, 0, 0, 0]))?;
        ensure!(
            report.ns("net") != proc::namespace(first.pid()?, "net").unwrap_or_default(),
            "net is shared"
        );
        Ok(())
    });
    m.case("userns/join-user-and-network-of-it", "config-linux.md Namespaces", |t| -> Done {
        let first = t.sleeper(bundle(t)?)?;
        let pid = first.pid()?;
        let second = t.bundle()?.join_ns("user", &format!("/proc/{pid}/ns/user"));
        let second = second.join_ns("network", &format!("/proc/{pid}/ns/net"));
        let report = t.report(&second)?;
        for kind in ["user", "net"] {
            same(kind, report.ns(kind), proc::namespace(pid, kind).unwrap_or_default().as_str())?;
        }
        Ok(())
    });
}
