//! The scripts as their users call them, in a world of their own: what they write to `/etc`, `/usr/local`, `/var/lib` and the
//! repository goes to an overlay, and the network is empty. Every script below `scripts/` is found, so a new one is tested too.

#[path = "../common/skip.rs"]
mod skip;
mod world;

use skip::is_root;
use std::path::{Path, PathBuf};
use world::{World, one_line};

/// Everything that can be called: `scripts/NAME` and `scripts/vm/NAME`.
fn scripts() -> Vec<String> {
    let mut found = Vec::new();
    for dir in ["scripts", "scripts/vm"] {
        for entry in std::fs::read_dir(top().join(dir)).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() && path.extension().is_none() {
                found.push(path.strip_prefix(top()).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    found.sort();
    assert!(found.len() > 10, "{found:?}");
    found
}

fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

#[test]
fn every_script_has_help_and_changes_nothing_then() {
    if !is_root() {
        return;
    }
    for script in scripts() {
        for flag in ["--help", "-h"] {
            let world = World::new();
            let out = world.run(&[&script, flag]);
            assert_eq!((out.status, out.stderr.as_str()), (0, ""), "{script} {flag}");
            let name = script.rsplit('/').next().unwrap();
            assert!(out.stdout.starts_with(name), "{script} {flag}: {}", out.stdout);
            assert!(out.stdout.len() > 60, "{script} {flag}: {}", out.stdout);
            assert_eq!(out.changed, Vec::<String>::new(), "{script} {flag}");
        }
    }
}

#[test]
fn a_wrong_option_changes_nothing() {
    if !is_root() {
        return;
    }
    for script in scripts() {
        misused(&[&script, "--no-such-option"]);
        misused(&[&script, "--no-such\u{1b}[31m"]);
    }
    for words in [
        "install --engine",
        "install --engine nope",
        "install --no-engines --default",
        "install --yes --no-such-option",
        "install here",
        "uninstall --force",
        "uninstall --yes now",
        "register --runtime",
        "register --runtime relative",
        "register --engine",
        "register --engine nope",
        "register --remove --default",
        "register docker",
        "setup everything",
        "setup tests engines",
        "build release",
        "package deb",
        "demo --runtime",
        "test fast",
        "lint scripts",
        "manual",
        "manual /bin/true",
        "manual /bin/true /tmp /tmp",
        "bench --view",
        "bench --view v3",
        "bench --rounds",
        "bench supervisor --steps 3",
        "bench --replicas 3",
        "bench faster",
        "bench images --rounds soon",
        "bench images --view v1",
        "test-images --again",
        "test-images here there",
        "test-vm --slow",
        "test-vm --qemu --no-such-option",
        "test-vm quickly",
        "vm/run",
        "vm/run --timeout",
        "vm/run --timeout soon true",
        "vm/build --force --force",
        "vm/kernel now",
        "vm/arm64 --jobs",
        "vm/inside now",
        "vm/rootless now",
    ] {
        let words = format!("scripts/{words}");
        misused(&words.split(' ').collect::<Vec<_>>());
    }
}

/// One line with the error and a hint to the help, exit status 2, and no change.
fn misused(words: &[&str]) {
    let out = World::new().run(words);
    assert_eq!((out.status, out.stdout.as_str()), (2, ""), "{words:?}: {}", out.stderr);
    let line = one_line(&out);
    assert!(line.contains("error: ") && line.contains("--help"), "{words:?}: {line:?}");
    assert!(!line.chars().any(char::is_control), "{words:?}: {line:?}");
    assert_eq!(out.changed, Vec::<String>::new(), "{words:?}");
}

#[test]
fn the_scripts_of_the_guest_do_nothing_on_the_host() {
    if !is_root() {
        return;
    }
    for script in
        ["scripts/vm/inside", "scripts/vm/rootless", "scripts/vm/shutdown", "scripts/vm/guest/command"]
    {
        let out = World::new().run(&[script]);
        assert_ne!(out.status, 0, "{script}");
        assert!(one_line(&out).contains("runs only in the guest"), "{script}: {}", out.stderr);
        assert_eq!(out.changed, Vec::<String>::new(), "{script}");
    }
}

/// As systemd reads them on this machine: a key that it does not know, a program that does not exist, a cycle in the order.
#[test]
fn the_units_that_install_puts_in_place_are_valid() {
    if !is_root() {
        return;
    }
    let analyze = ["/usr/bin/systemd-analyze", "/bin/systemd-analyze"].iter().any(|p| Path::new(p).exists());
    if !analyze || !Path::new("/etc/systemd/system").is_dir() {
        return skip::skip("needs systemd-analyze (the package systemd)");
    }
    let world = World::new();
    let out = world.run(&["scripts/install", "--no-engines"]);
    assert_eq!(out.status, 0, "{}", out.stderr);
    let units: Vec<&str> = out
        .changed
        .iter()
        .filter(|c| c.starts_with("/etc/systemd/system/orund"))
        .map(String::as_str)
        .collect();
    assert_eq!(units.len(), std::fs::read_dir(top().join("scripts/systemd")).unwrap().count(), "{units:?}");
    assert!(units.contains(&"/etc/systemd/system/orund-shutdown.service"), "{units:?}");
    let of_user = "/usr/local/lib/systemd/user/orund.service";
    assert!(out.changed.iter().any(|c| c == of_user), "{:?}", out.changed);
    let verified = world.run(&["systemd-analyze", "--user", "--man=no", "verify", of_user]);
    assert!(!verified.stderr.contains(of_user), "{}", verified.stderr);
    let out = world.run(&[&["systemd-analyze", "--man=no", "verify"][..], &units[..]].concat());
    assert_eq!((out.status, out.stderr.as_str()), (0, ""), "{}", out.stdout);
}

#[test]
fn install_twice_and_uninstall_leave_nothing() {
    if !is_root() {
        return;
    }
    let world = World::new();
    for _ in 0..2 {
        let out = world.run(&["scripts/install", "--no-engines"]);
        assert_eq!((out.status, out.stderr.as_str()), (0, ""), "{}", out.stdout);
        for file in ["/usr/local/bin/orun", "/usr/local/bin/orund", "/usr/local/share/man/man8/orun.8"] {
            assert!(out.changed.iter().any(|c| c == file), "{file} is not in {:?}", out.changed);
        }
    }
    let out = world.run(&["scripts/uninstall"]);
    assert_eq!((out.status, out.stderr.as_str()), (0, ""));
    assert_eq!(out.stdout, "removed /usr/local/bin/orun /usr/local/bin/orund\n");
    assert_eq!(out.changed, Vec::<String>::new());
    let out = world.run(&["scripts/uninstall"]);
    assert_eq!(out.stdout, "nothing to remove: orun is not installed in /usr/local/bin\n");
    assert_eq!((out.status, out.changed), (0, Vec::new()));
}

/// An engine, its file, what may be in it before, and a word of it with orun as the default.
const ENGINES: [(&str, &str, &str, &str); 4] = [
    (
        "docker",
        "/etc/docker/daemon.json",
        "{\n\t\"debug\": false,  \"runtimes\": {\"other\": {\"path\": \"/bin/true\"}}\n}\n",
        "\"default-runtime\": \"orun\"",
    ),
    ("containerd", "/etc/containerd/config.toml", "version = 2\n# mine\n", "default_runtime_name = \"orun\""),
    ("podman", "/etc/containers/containers.conf.d/50-orun.conf", "# mine\n[engine]\n", "runtime = \"orun\""),
    ("cri-o", "/etc/crio/crio.conf.d/50-orun.conf", "# mine\n[crio.runtime]\n", "default_runtime = \"orun\""),
];

#[test]
fn register_can_be_repeated_and_undone() {
    if !is_root() {
        return;
    }
    for (engine, file, text, default) in ENGINES {
        for before in [None, Some(text), Some("")] {
            let world = World::new();
            match before {
                Some(text) => world.write(file, text),
                None => world.hide(file),
            }
            let place = format!("{engine}, before: {before:?}");
            let start = world.tree();
            let register = |words: &[&str]| {
                let common = ["scripts/register", "--engine", engine, "--yes"];
                let out = world.run(&[&common[..], words].concat());
                assert_eq!((out.status, out.stderr.as_str()), (0, ""), "{place} {words:?}");
                out.stdout
            };
            let plain = ["--runtime", "/bin/true"];
            register(&plain);
            assert!(world.read(file).contains("/bin/true"), "{place}");
            assert!(!world.read(file).contains(default), "{place}: {}", world.read(file));
            let second = register(&plain);
            assert!(second.contains("nothing to change"), "{place}: {second}");
            assert!(!second.contains("default"), "{place}: {second}");
            register(&["--default", "--runtime", "/bin/true"]);
            let registered = world.read(file);
            assert!(registered.contains(default), "{place}: {registered}");
            // A default stays, whether it is asked for again or not.
            for again in [&plain[..], &["--default", "--runtime", "/bin/true"]] {
                let out = register(again);
                assert!(
                    out.contains("nothing to change") && out.contains("is the default"),
                    "{place}: {out}"
                );
                assert_eq!(world.read(file), registered, "{place}");
            }
            let out = register(&["--remove"]);
            assert!(out.contains("no longer registered"), "{place}: {out}");
            assert_eq!(world.tree(), start, "{place}");
            register(&["--remove"]);
            assert_eq!(world.tree(), start, "{place}");
        }
    }
}

#[test]
fn what_somebody_changed_between_two_calls_survives() {
    if !is_root() {
        return;
    }
    let world = World::new();
    let file = ENGINES[1].1;
    world.write(file, "version = 2\n");
    let words = ["scripts/register", "--engine", "containerd", "--yes", "--runtime"];
    world.run(&[&words[..], &["/bin/true"]].concat());
    let text = world.read(file).replace("version = 2\n", "version = 2\n# changed\n");
    world.write(file, &text);
    world.run(&[&words[..], &["/bin/sh"]].concat());
    assert!(world.read(file).contains("/bin/sh"));
    world.run(&["scripts/register", "--remove", "--yes"]);
    assert_eq!(world.read(file), "version = 2\n# changed\n");
}

#[test]
fn register_without_a_terminal_or_with_a_broken_file_changes_no_engine() {
    if !is_root() {
        return;
    }
    let words = ["scripts/register", "--runtime", "/bin/true", "--engine", "podman", "--engine", "docker"];
    let world = World::new();
    world.write(ENGINES[0].1, "{\n");
    let start = world.tree();
    let out = world.run(&[&words[..], &["--yes"]].concat());
    assert_eq!(out.status, 1);
    let line = one_line(&out);
    assert!(line.contains("error: /etc/docker/daemon.json"), "{line}");
    assert_eq!(world.tree(), start);

    world.write(ENGINES[0].1, "{}\n");
    let start = world.tree();
    let out = world.run(&words);
    assert_eq!(out.status, 1);
    let line = one_line(&out);
    assert!(line.contains("error: ") && line.contains("--yes") && !line.contains("/dev/tty"), "{line}");
    assert_eq!(world.tree(), start);
}

#[test]
fn the_scripts_pass_shellcheck() {
    if !is_root() {
        return;
    }
    let out = World::new().run(&["scripts/lint"]);
    assert_eq!(out.status, 0, "{}{}", out.stdout, out.stderr);
}
