//! Every mount option of the spec, set and cleared, and propagation.

use crate::case::T;
use crate::check::{Done, Result, same};
use crate::ensure;
use crate::matrix::Matrix;
use crate::proc::Mount;
use nix::mount::{MsFlags, mount};
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;

const SPEC: &str = "config-linux.md Linux mount options";

/// Option, what the mount shows then, and whether it is a property of the file system rather than of the mount.
const SET: [(&str, &str, bool); 12] = [
    ("ro", "ro", false),
    ("nosuid", "nosuid", false),
    ("nodev", "nodev", false),
    ("noexec", "noexec", false),
    ("noatime", "noatime", false),
    ("nodiratime", "nodiratime", false),
    ("relatime", "relatime", false),
    ("nosymfollow", "nosymfollow", false),
    ("sync", "sync", true),
    ("dirsync", "dirsync", true),
    ("mand", "mand", true),
    ("lazytime", "lazytime", true),
];

/// The option that clears, and the one that it clears.
const CLEAR: [(&str, &str); 9] = [
    ("rw", "ro"),
    ("suid", "nosuid"),
    ("dev", "nodev"),
    ("exec", "noexec"),
    ("atime", "noatime"),
    ("diratime", "nodiratime"),
    ("async", "sync"),
    ("symfollow", "nosymfollow"),
    ("nolazytime", "lazytime"),
];

/// Recursive option and what every mount below shows then.
const RECURSIVE: [(&str, &str); 8] = [
    ("rro", "ro"),
    ("rnosuid", "nosuid"),
    ("rnodev", "nodev"),
    ("rnoexec", "noexec"),
    ("rnoatime", "noatime"),
    ("rnodiratime", "nodiratime"),
    ("rrelatime", "relatime"),
    ("rnosymfollow", "nosymfollow"),
];

/// Recursive option that clears, the flag of the source, and what must not be shown.
const RECURSIVE_CLEAR: [(&str, MsFlags, &str); 8] = [
    ("rrw", MsFlags::MS_RDONLY, "ro"),
    ("rsuid", MsFlags::MS_NOSUID, "nosuid"),
    ("rdev", MsFlags::MS_NODEV, "nodev"),
    ("rexec", MsFlags::MS_NOEXEC, "noexec"),
    ("ratime", MsFlags::MS_NOATIME, "noatime"),
    ("rdiratime", MsFlags::MS_NODIRATIME, "nodiratime"),
    ("rsymfollow", MsFlags::from_bits_retain(256), "nosymfollow"),
    ("rstrictatime", MsFlags::MS_RELATIME, "relatime"),
];

/// Adds the cases of this area.
pub fn register(m: &mut Matrix) {
    on_tmpfs(m);
    on_binds(m);
    recursive(m);
    propagation(m);
    without_effect(m);
    idmapped(m);
}

fn of_tmpfs(t: &T<'_>, options: &[&str]) -> Result<Mount> {
    t.report(&t.bundle()?.mount("/mnt", "tmpfs", "tmpfs", options))?.mount("/mnt")
}

fn shows(mount: &Mount, option: &str) -> bool {
    mount.has(option) || mount.super_has(option)
}

fn on_tmpfs(m: &mut Matrix) {
    for (option, shown, of_fs) in SET {
        m.case(format!("mount-options/tmpfs-{option}"), SPEC, move |t| {
            let mount = of_tmpfs(t, &[option])?;
            let seen = if of_fs { mount.super_has(shown) } else { mount.has(shown) };
            ensure!(seen, "{option}: {:?} {:?}", mount.options, mount.super_options);
            Ok(())
        });
    }
    for (option, cleared) in CLEAR {
        m.case(format!("mount-options/tmpfs-{cleared}-then-{option}"), SPEC, move |t| {
            let mount = of_tmpfs(t, &[cleared, option])?;
            ensure!(!shows(&mount, cleared), "{option}: {:?} {:?}", mount.options, mount.super_options);
            Ok(())
        });
    }
    m.case("mount-options/tmpfs-strictatime", SPEC, |t| {
        let mount = of_tmpfs(t, &["strictatime"])?;
        ensure!(!mount.has("relatime") && !mount.has("noatime"), "{:?}", mount.options);
        Ok(())
    });
    m.case("mount-options/later-option-wins", SPEC, |t| {
        let mount = of_tmpfs(t, &["ro", "rw", "ro", "dev", "nodev"])?;
        ensure!(mount.has("ro") && mount.has("nodev"), "{:?}", mount.options);
        Ok(())
    });
}

/// A directory on the host that is a mount with these flags, with another such mount at `sub`.
fn flagged(t: &mut T<'_>, flags: MsFlags) -> Result<PathBuf> {
    let volume = t.volume()?;
    let make = |path: &PathBuf| mount(Some("tmpfs"), path, Some("tmpfs"), MsFlags::empty(), None::<&str>);
    make(&volume)?;
    let sub = volume.join("sub");
    fs::create_dir(&sub)?;
    make(&sub)?;
    for path in [&sub, &volume] {
        let all = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | flags;
        mount(None::<&str>, path, None::<&str>, all, None::<&str>)?;
    }
    t.settle();
    Ok(volume)
}

fn on_binds(m: &mut Matrix) {
    for (option, shown) in [
        ("ro", "ro"),
        ("nosuid", "nosuid"),
        ("nodev", "nodev"),
        ("noexec", "noexec"),
        ("noatime", "noatime"),
        ("nodiratime", "nodiratime"),
        ("nosymfollow", "nosymfollow"),
    ] {
        m.case(format!("mount-options/bind-{option}"), SPEC, move |t| {
            let volume = t.volume()?;
            let mount = t.report(&t.bundle()?.bind(&volume, "/mnt", &[option]))?.mount("/mnt")?;
            ensure!(mount.has(shown), "{option}: {:?}", mount.options);
            Ok(())
        });
    }
    for (option, flag, shown) in [
        ("rw", MsFlags::MS_RDONLY, "ro"),
        ("suid", MsFlags::MS_NOSUID, "nosuid"),
        ("dev", MsFlags::MS_NODEV, "nodev"),
        ("exec", MsFlags::MS_NOEXEC, "noexec"),
    ] {
        m.case(format!("mount-options/bind-{option}-clears-the-source's-flag"), SPEC, move |t| {
            let volume = flagged(t, flag)?;
            let mount = t.report(&t.bundle()?.bind(&volume, "/mnt", &[option]))?.mount("/mnt")?;
            ensure!(!mount.has(shown), "{option}: {:?}", mount.options);
            Ok(())
        });
    }
    m.case("mount-options/bind-keeps-the-source's-flags", "mount(8): a bind inherits", |t| {
        let volume = flagged(t, MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC)?;
        let mount = t.report(&t.bundle()?.bind(&volume, "/mnt", &[]))?.mount("/mnt")?;
        for flag in ["nosuid", "nodev", "noexec"] {
            ensure!(mount.has(flag), "{flag} is lost: {:?}", mount.options);
        }
        Ok(())
    });
    const DATA: &str = "config.md Mounts: an option that mount(8) knows does what it does there";
    m.case("mount-options/bind-with-parameters-of-a-file-system", DATA, |t| {
        let volume = t.volume()?;
        let bundle = t.bundle()?.bind(&volume, "/mnt", &["ro", "mode=700", "size=1k"]);
        ensure!(t.report(&bundle)?.mount("/mnt")?.has("ro"), "the bind mount is writable");
        Ok(())
    });
    m.case("mount-options/bind-with-an-unknown-word-is-an-error", DATA, |t| {
        let volume = t.volume()?;
        t.refuses(&t.bundle()?.bind(&volume, "/mnt", &["readonly"]), &["readonly"]).map(drop)
    });
    m.case("mount-options/bind-ro-refuses-writes", SPEC, |t| {
        let volume = t.volume()?;
        let bundle = t.bundle()?.bind(&volume, "/mnt", &["ro"]);
        same("create", t.attempt(bundle, &["create", "/mnt/x"])?.as_str(), "EROFS")
    });
    m.case("mount-options/bind-ro-is-not-recursive", SPEC, |t| {
        let volume = flagged(t, MsFlags::empty())?;
        let bundle = t.bundle()?.mount("/mnt", "bind", &volume.to_string_lossy(), &["rbind", "ro"]);
        same("below", t.attempt(bundle.clone(), &["create", "/mnt/sub/x"])?.as_str(), "ok")?;
        same("top", t.attempt(bundle, &["create", "/mnt/x"])?.as_str(), "EROFS")
    });
    m.case("mount-options/bind-ro-leaves-the-host-writable", SPEC, |t| {
        let volume = t.volume()?;
        t.report(&t.bundle()?.bind(&volume, "/mnt", &["ro", "rro"]))?;
        fs::write(volume.join("file"), "x")?;
        Ok(())
    });
}

fn recursive(m: &mut Matrix) {
    for (option, shown) in RECURSIVE {
        m.case(format!("mount-options/recursive-{option}"), SPEC, move |t| {
            let volume = flagged(t, MsFlags::empty())?;
            let bundle = t.bundle()?.mount("/mnt", "bind", &volume.to_string_lossy(), &["rbind", option]);
            let report = t.report(&bundle)?;
            for target in ["/mnt", "/mnt/sub"] {
                let mount = report.mount(target)?;
                ensure!(mount.has(shown), "{target} lacks {shown}: {:?}", mount.options);
            }
            Ok(())
        });
    }
    for (option, flag, shown) in RECURSIVE_CLEAR {
        m.case(format!("mount-options/recursive-{option}"), SPEC, move |t| {
            let volume = flagged(t, flag)?;
            let bundle = t.bundle()?.mount("/mnt", "bind", &volume.to_string_lossy(), &["rbind", option]);
            let report = t.report(&bundle)?;
            for target in ["/mnt", "/mnt/sub"] {
                let mount = report.mount(target)?;
                ensure!(!mount.has(shown), "{target} has {shown}: {:?}", mount.options);
            }
            Ok(())
        });
    }
    m.case("mount-options/recursive-rro-on-a-file", SPEC, |t| {
        let volume = t.volume()?;
        fs::write(volume.join("file"), "text")?;
        let bundle = t.bundle()?.bind(&volume.join("file"), "/etc/file", &["rro"]);
        same("write", t.attempt(bundle, &["write", "/etc/file", "x"])?.as_str(), "EROFS")
    });
    m.case("mount-options/recursive-rro-with-rw-top", SPEC, |t| {
        let volume = flagged(t, MsFlags::empty())?;
        let options = ["rbind", "rro", "rnosuid"];
        let report = t.report(&t.bundle()?.mount("/mnt", "bind", &volume.to_string_lossy(), &options))?;
        for target in ["/mnt", "/mnt/sub"] {
            let mount = report.mount(target)?;
            ensure!(mount.has("ro") && mount.has("nosuid"), "{target}: {:?}", mount.options);
        }
        Ok(())
    });
}

fn propagation(m: &mut Matrix) {
    for (option, shared, slave, unbindable) in [
        ("private", false, false, false),
        ("rprivate", false, false, false),
        ("shared", true, false, false),
        ("rshared", true, false, false),
        ("slave", false, true, false),
        ("rslave", false, true, false),
        ("unbindable", false, false, true),
        ("runbindable", false, false, true),
    ] {
        m.case(format!("mount-options/propagation-{option}"), SPEC, move |t| -> Done {
            let volume = flagged(t, MsFlags::empty())?;
            let options = ["rbind", option];
            let bundle = t.bundle()?.mount("/mnt", "bind", &volume.to_string_lossy(), &options);
            let report = t.report(&bundle)?;
            let targets = if option.starts_with('r') { &["/mnt", "/mnt/sub"][..] } else { &["/mnt"] };
            for target in targets {
                let mount = report.mount(target)?;
                same(&format!("{target} shared"), mount.is_shared(), shared)?;
                // A shared mount may receive from the host as well.
                same(&format!("{target} slave"), mount.is_slave() && !shared, slave)?;
                same(&format!("{target} unbindable"), mount.is_unbindable(), unbindable)?;
            }
            Ok(())
        });
    }
    m.case("mount-options/propagation-rshared-reaches-the-host", SPEC, |t| {
        let volume = flagged(t, MsFlags::empty())?;
        let bundle = t.bundle()?.mount("/mnt", "bind", &volume.to_string_lossy(), &["rbind", "rshared"]);
        let bundle = bundle.set("/linux/rootfsPropagation", "shared").capabilities(&["CAP_SYS_ADMIN"]);
        fs::create_dir(volume.join("new"))?;
        same("mount", t.attempt(bundle, &["mount", "tmpfs", "tmpfs", "/mnt/new"])?.as_str(), "ok")?;
        let target = volume.join("new");
        let seen = crate::proc::mounts("self").iter().any(|m| std::path::Path::new(&m.target) == target);
        ensure!(seen, "the container's mount did not reach the host");
        nix::mount::umount2(&target, nix::mount::MntFlags::MNT_DETACH)?;
        Ok(())
    });
    m.case("mount-options/propagation-rslave-follows-the-host", SPEC, |t| {
        let volume = flagged(t, MsFlags::empty())?;
        fs::create_dir(volume.join("new"))?;
        let bundle = t.bundle()?.mount("/mnt", "bind", &volume.to_string_lossy(), &["rbind", "rslave"]);
        let c = t.sleeper(bundle.set("/linux/rootfsPropagation", "slave"))?;
        mount(Some("tmpfs"), &volume.join("new"), Some("tmpfs"), MsFlags::empty(), None::<&str>)?;
        let seen = c.exec_report(&[])?.mount("/mnt/new");
        nix::mount::umount2(&volume.join("new"), nix::mount::MntFlags::MNT_DETACH)?;
        seen.map(drop)
    });
    m.case("mount-options/propagation-default-is-private-to-the-container", SPEC, |t| {
        let volume = flagged(t, MsFlags::empty())?;
        let bundle = t.bundle()?.mount("/mnt", "bind", &volume.to_string_lossy(), &["rbind"]);
        let bundle = bundle.capabilities(&["CAP_SYS_ADMIN"]);
        same("mount", t.attempt(bundle, &["mount", "tmpfs", "tmpfs", "/mnt/sub"])?.as_str(), "ok")?;
        t.nothing_left()
    });
}

/// Options that the spec demands and that a tmpfs does not show.
fn without_effect(m: &mut Matrix) {
    for option in [
        "iversion",
        "noiversion",
        "silent",
        "loud",
        "nomand",
        "norelatime",
        "nostrictatime",
        "defaults",
        "acl",
        "noacl",
    ] {
        m.case(format!("mount-options/{option}-is-known"), SPEC, move |t| {
            let bundle = match option {
                // noacl is data of file systems with ACLs only; on a bind it means nothing.
                "acl" | "noacl" => {
                    let volume = t.volume()?;
                    if option == "noacl" {
                        return crate::check::skip("data of file systems that are not here");
                    }
                    t.bundle()?.bind(&volume, "/mnt", &[])
                }
                _ => t.bundle()?.mount("/mnt", "tmpfs", "tmpfs", &[option]),
            };
            t.report(&bundle)?.mount("/mnt").map(drop)
        });
    }
    m.case("mount-options/remount-of-an-earlier-mount", SPEC, |t| {
        let bundle = t.bundle()?.mount("/mnt", "tmpfs", "tmpfs", &["size=64k"]);
        let bundle = bundle.mount("/mnt", "tmpfs", "tmpfs", &["remount", "ro"]);
        let report = t.report(&bundle)?;
        same("mounts on /mnt", report.mounts().iter().filter(|m| m.target == "/mnt").count(), 1)?;
        ensure!(shows(&report.mount("/mnt")?, "ro"), "{:?}", report.mount("/mnt")?);
        Ok(())
    });
}

fn idmapped(m: &mut Matrix) {
    const IDMAP: &str = "config-linux.md: idmap, mounts[].uidMappings";
    let map = json!([{"containerID": 0, "hostID": 300_000, "size": 1000}]);
    for option in ["idmap", "ridmap"] {
        let map = map.clone();
        m.case(format!("mount-options/{option}-with-own-mappings"), IDMAP, move |t| {
            t.kernel(6, 3)?;
            let volume = t.volume()?;
            fs::write(volume.join("file"), "x")?;
            std::os::unix::fs::chown(volume.join("file"), Some(5), Some(6))?;
            let mount = json!({"destination": "/mnt", "source": volume, "options": ["rbind", option],
                               "uidMappings": map, "gidMappings": map});
            let bundle = t.bundle()?.push("/mounts", mount);
            let report = t.report(&bundle.args(&["probe", "report", "--path", "/mnt/file"]))?;
            report.path_is("/mnt/file", "uid", 300_005)?;
            report.path_is("/mnt/file", "gid", 300_006)
        });
    }
    m.case("mount-options/idmap-of-the-container's-user-namespace", IDMAP, |t| {
        t.kernel(6, 3)?;
        let volume = t.volume()?;
        fs::write(volume.join("file"), "x")?;
        let mount = json!({"destination": "/mnt", "source": volume, "options": ["bind", "idmap"]});
        let bundle = t.bundle()?.userns(100_000, 65_536).push("/mounts", mount);
        let report = t.report(&bundle.args(&["probe", "report", "--path", "/mnt/file"]))?;
        report.path_is("/mnt/file", "uid", 0)
    });
    new_file_systems(m, &map);
    m.case("mount-options/idmap-without-any-mapping-is-an-error", IDMAP, |t| {
        let volume = t.volume()?;
        t.refuses(&t.bundle()?.bind(&volume, "/mnt", &["idmap"]), &["idmap", "mapping", "mapped"]).map(drop)
    });
    m.case("mount-options/idmap-with-one-kind-of-mapping-is-an-error", IDMAP, move |t| {
        let volume = t.volume()?;
        let mount = json!({"destination": "/mnt", "source": volume, "options": ["bind", "idmap"], "uidMappings": map});
        t.refuses(&t.bundle()?.push("/mounts", mount), &["idmap", "mapping", "mapped"]).map(drop)
    });
}

fn new_file_systems(m: &mut Matrix, map: &Value) {
    const IDMAP: &str = "config.md Mounts: uidMappings, on file systems that are not bind mounts";
    let with = |options: &'static [&'static str], map: Value| {
        json!({"destination": "/mnt", "type": "tmpfs", "source": "tmpfs", "options": options,
               "uidMappings": map, "gidMappings": map})
    };
    let own = with(&["idmap", "mode=755", "nosuid"], map.clone());
    m.case("mount-options/idmap-on-a-tmpfs", IDMAP, move |t| {
        t.kernel(6, 3)?;
        let bundle = t.bundle()?.push("/mounts", own.clone());
        let report = t.report(&bundle.args(&["probe", "report", "--path", "/mnt"]))?;
        report.path_is("/mnt", "uid", 300_000)?;
        report.path_is("/mnt", "gid", 300_000)?;
        let mount = report.mount("/mnt")?;
        ensure!(
            mount.has("nosuid") && mount.super_has("mode=755"),
            "{:?} {:?}",
            mount.options,
            mount.super_options
        );
        Ok(())
    });
    m.case("mount-options/idmap-on-a-tmpfs-of-the-container's-user-namespace", IDMAP, |t| {
        t.kernel(6, 3)?;
        let mount = json!({"destination": "/mnt", "type": "tmpfs", "source": "tmpfs", "options": ["idmap"]});
        let bundle = t.bundle()?.userns(100_000, 65_536).push("/mounts", mount);
        let report = t.report(&bundle.clone().args(&["probe", "report", "--path", "/mnt"]))?;
        report.path_is("/mnt", "uid", 0)?;
        same("write", t.attempt(bundle, &["create", "/mnt/file"])?.as_str(), "ok")
    });
    m.case("mount-options/idmap-of-a-joined-user-namespace", IDMAP, |t| {
        t.kernel(6, 3)?;
        let first = t.sleeper(t.bundle()?.userns(100_000, 65_536))?;
        let volume = t.volume()?;
        fs::write(volume.join("file"), "x")?;
        let mount = json!({"destination": "/mnt", "source": volume, "options": ["bind", "idmap"]});
        let bundle =
            t.bundle()?.join_ns("user", &format!("/proc/{}/ns/user", first.pid()?)).push("/mounts", mount);
        let report = t.report(&bundle.args(&["probe", "report", "--path", "/mnt/file"]))?;
        report.path_is("/mnt/file", "uid", 0)
    });
    let copied = with(&["idmap", "tmpcopyup"], map.clone());
    let mut proc = with(&["idmap"], map.clone());
    (proc["type"], proc["destination"]) = (json!("proc"), json!("/mnt"));
    let mut cgroup = proc.clone();
    cgroup["type"] = json!("cgroup");
    let overlapping = with(
        &["idmap"],
        json!([{"containerID": 0, "hostID": 300_000, "size": 10}, {"containerID": 5, "hostID": 400_000, "size": 10}]),
    );
    let option = with(&["idmap", "size=moon"], map.clone());
    for (name, mount) in [
        ("idmap-with-tmpcopyup", copied),
        ("idmap-on-proc", proc),
        ("idmap-on-cgroup", cgroup),
        ("idmap-with-overlapping-mappings", overlapping),
        ("idmap-on-a-tmpfs-with-a-bad-option", option),
    ] {
        m.case(format!("mount-options/{name}-is-an-error"), IDMAP, move |t| {
            t.refuses(&t.bundle()?.push("/mounts", mount.clone()), &["idmap", "mapping", "mounts"]).map(drop)
        });
    }
}
