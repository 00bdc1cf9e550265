//! Attacks on the supervisor: by strangers on the host, by containers, by objects. Each is made beside the same without the attack, which
//! works: what is refused is the attack.

use crate::client::{command, fails, ok};
use crate::daemon::{Daemon, can_run, exits, wait_for};
use crate::pods::{apply, container, logged, try_apply, wait_logged};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

const NOBODY: u32 = 65534;
/// Starts beside an attacker that exchanges a directory and a link.
const STARTS: u64 = 200;

/// What a shell prints as this user.
fn shell(user: u32, script: &str) -> String {
    let mut command = Command::new("/bin/busybox");
    let out = command.args(["sh", "-c", script]).uid(user).gid(user).output().unwrap();
    String::from_utf8_lossy(&out.stdout).into_owned()
}

/// What a verb prints, whatever its exit code.
fn said(d: &Daemon, words: &str) -> String {
    let out = crate::client::run(d, words);
    [out.stdout, out.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat()
}

#[test]
fn a_stranger_on_the_host_reads_nothing_and_is_not_served() {
    if !can_run() {
        return;
    }
    let d = Daemon::start("stranger", &[]);
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "key"}, "stringData": {"key": "hidden-word"}});
    fs::write(d.dir.join("secret.json"), secret.to_string()).unwrap();
    ok(&d, "apply -f secret.json");
    let from = json!({"secretKeyRef": {"name": "key", "key": "key"}});
    let env = json!([{"name": "KEY", "valueFrom": from}]);
    let volume = json!([{"name": "v", "secret": {"secretName": "key"}}]);
    let mounts = json!([{"name": "v", "mountPath": "/key"}]);
    let main =
        container(&d, "main", "cat /key/key; exec sleep 1000", json!({"env": env, "volumeMounts": mounts}));
    apply(&d, "web", 1, json!({"terminationGracePeriodSeconds": 0, "volumes": volume, "containers": [main]}));
    d.wait_running("web-0");
    let dir = d.dir.display();
    let search = format!(
        "busybox find {dir}/data {dir}/run {dir}/logs -type f -exec busybox grep -l -e hidden-word -e aGlkZGVuLXdvcmQ {{}} +"
    );
    assert!(shell(0, &search).contains("journal"), "root finds it");
    assert_eq!(shell(NOBODY, &search), "");
    let list = format!("busybox find {dir}/data {dir}/logs -type f");
    assert_eq!(shell(NOBODY, &list), "", "not even the names of files");
    let mut get = command(&d, "get");
    assert!(get.output().unwrap().status.success());
    // The file of the program is in a directory of root's, perhaps.
    let connect =
        "import socket,sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); print('connected')";
    let socket = d.socket();
    let connected = |user: u32| {
        let out = Command::new("python3").args(["-c", connect]).arg(&socket).uid(user).gid(user).output();
        out.map(|o| (o.status.success(), String::from_utf8_lossy(&o.stderr).into_owned()))
    };
    if let (Ok((true, _)), Ok((other, why))) = (connected(0), connected(NOBODY)) {
        assert!(!other && why.contains("PermissionError"), "{why}");
    }
    d.delete("web", None);
}

#[test]
fn neither_socket_nor_journal_are_followed_through_links() {
    if !can_run() {
        return;
    }
    let mut d = Daemon::start("links", &[]);
    apply(&d, "web", 0, json!({"containers": [container(&d, "main", "true", json!({}))]}));
    d.stop();
    let victim = d.dir.join("victim");
    let journal = d.dir.join("data/journal.0");
    for (link, kept) in [(d.socket(), "socket"), (journal.clone(), "journal")] {
        let aside = d.dir.join("aside");
        let had = fs::rename(&link, &aside).is_ok();
        fs::write(&victim, "the victim's").unwrap();
        fs::set_permissions(&victim, fs::Permissions::from_mode(0o600)).unwrap();
        symlink(&victim, &link).unwrap();
        d.spawn();
        assert_eq!(d.exit_code(), Some(1), "{kept}: {}", d.output());
        let meta = fs::metadata(&victim).unwrap();
        assert_eq!(
            (fs::read_to_string(&victim).unwrap().as_str(), meta.mode() & 0o7777),
            ("the victim's", 0o600),
            "{kept}"
        );
        fs::remove_file(&link).unwrap();
        if had && kept == "journal" {
            fs::rename(&aside, &link).unwrap();
        }
    }
    d.start_again();
    assert_eq!(d.workload("web")["metadata"]["name"], "web");
}

#[test]
fn a_container_holds_nothing_of_the_supervisor() {
    if !can_run() {
        return;
    }
    let mut d = Daemon::prepare("holds", &[]);
    d.environment =
        vec![("OF_THE_CALLER".into(), "hidden-word".into()), ("NOTIFY_SOCKET".into(), "/nowhere".into())];
    d.start_again();
    let script = "for f in /proc/self/fd/*; do [ -e $f ] && echo fd ${f##*/}; done; set; cat /proc/net/unix; echo end; exec sleep 1000";
    let env = json!([{"name": "GIVEN", "value": "given-word"}]);
    let main = container(&d, "main", script, json!({"env": env}));
    let spec = json!({"terminationGracePeriodSeconds": 0, "hostNetwork": true, "containers": [main]});
    apply(&d, "web", 1, spec);
    wait_logged(&d, 0, "main", "end");
    let seen = logged(&d, "web", 0, "main");
    let has = |part: &str| seen.iter().any(|l| l.contains(part));
    assert!(has("given-word") && !has("hidden-word") && !has("NOTIFY_SOCKET") && !has("LISTEN_"), "{seen:?}");
    let fds: Vec<&str> = seen.iter().filter_map(|l| l.strip_prefix("fd ")).collect();
    assert_eq!(fds, ["0", "1", "2"]);
    // Whoever has the host's network could connect to a socket without a file.
    let own = |l: &&String| l.contains('@') && (l.contains("orun") || l.contains(&*d.dir.to_string_lossy()));
    assert_eq!(seen.iter().find(own), None);
    d.delete("web", None);
}

#[test]
fn last_words_are_no_way_to_read_the_host() {
    if !can_run() {
        return;
    }
    let d = Daemon::start("words", &[]);
    fs::write(d.dir.join("secret"), "hidden-word").unwrap();
    let at = "/dev/termination-log";
    let secret = d.dir.join("secret");
    let scripts = [
        format!("printf 'well' > {at}"),
        format!("busybox rm -f {at}; busybox ln -s {} {at}; echo hidden-link", secret.display()),
        format!("busybox rm -f {at}; busybox mkfifo {at}; busybox rm -rf {at}.x"),
        format!("busybox rm -f {at}; busybox mkdir {at}"),
        format!(
            "busybox head -c 1000000 /dev/zero | busybox tr '\\000' 'x' > {at}; printf '\\033[2Jred' >> {at}"
        ),
        format!("printf '\\033[2J\\033]0;title\\007red' > {at}"),
    ];
    for (n, script) in scripts.iter().enumerate() {
        let main = container(&d, "main", &format!("{script}; exit 3"), json!({}));
        apply(&d, &format!("w{n}"), 1, json!({"restartPolicy": "Never", "containers": [main]}));
    }
    for n in 0..scripts.len() {
        let r = d.wait(&format!("w{n}-0"), "its end", |r| !exits(r).is_empty());
        let exit = &exits(&r)[0];
        let message = exit["message"].as_str().unwrap_or_default();
        assert_eq!(exit["exitCode"], 3, "{r:#}");
        assert_eq!(message == "well", n == 0, "{n}: {message:?}");
        assert!(
            !message.contains("hidden-word") && message.len() <= 4096 + 64,
            "{n}: {} bytes",
            message.len()
        );
        for words in [
            format!("describe replica/w{n}-0"),
            format!("describe w{n}"),
            format!("events w{n}-0"),
            "status".into(),
        ] {
            let shown = said(&d, &words);
            assert!(
                !shown.contains('\x1b') && !shown.contains('\x07') && !shown.contains("hidden-word"),
                "{words}: {shown:?}"
            );
        }
    }
}

#[test]
fn output_forges_neither_log_lines_nor_the_screen() {
    if !can_run() {
        return;
    }
    let d = Daemon::start("forged", &[]);
    let forged = "2026-01-01T00:00:00.000000000Z stdout F forged";
    let script = format!(
        "echo first; printf 'x\\n{forged}\\n'; printf '\\033[2J\\033[31mred\\r\\n'; busybox head -c 300000 /dev/zero | busybox tr '\\000' y; echo; \
         printf 'no end\\033[2J' >&2; exit 3"
    );
    let main = container(&d, "main", &script, json!({}));
    apply(&d, "web", 1, json!({"restartPolicy": "Never", "containers": [main]}));
    d.wait("web-0", "its end", |r| r["phase"] == "Error");
    let shown = wait_for("the logs", || Some(ok(&d, "logs web-0")).filter(|t| t.contains("yyy\n")));
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(lines[..3], ["first", "x", forged], "as it was written, and as text");
    assert!(
        lines.iter().any(|l| l.len() == 300_000 && l.bytes().all(|b| b == b'y')),
        "one line, however long"
    );
    // The times are those of the supervisor, whatever a container says.
    let times = ok(&d, "logs web-0 --timestamps");
    let forger = times.lines().find(|l| l.contains("forged")).unwrap();
    assert!(!forger.starts_with("2026-01-01T00:00:00"), "{forger}");
    for words in ["describe web", "describe replica/web-0", "events", "status", "get replicas -o wide"] {
        let shown = said(&d, words);
        assert!(!shown.contains('\x1b'), "{words}: {shown:?}");
    }
    let (_, said) = fails(&d, "wait web --for=ready --timeout 2");
    assert!(!said.contains('\x1b'), "{said:?}");
}

#[test]
fn objects_name_no_path_outside_of_their_volume() {
    if !can_run() {
        return;
    }
    let d = Daemon::start("paths", &[]);
    let config = |key: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {key: "x"}});
    let post = |object: &Value| d.api("POST", "/v1/workloads", &object.to_string());
    let (status, answer) = post(&config("a.txt"));
    assert_eq!(status, 200, "{answer}");
    for key in ["../a", "a/b", "..", ".", "/a", "", "a\0b", "a\nb"] {
        let (status, answer) = post(&config(key));
        assert_eq!(status, 422, "{key:?}: {answer}");
    }
    let pod = |volume: Value| {
        let main = container(&d, "main", "true", json!({"volumeMounts": [{"name": "v", "mountPath": "/v"}]}));
        try_apply(&d, "web", 0, json!({"volumes": [volume], "containers": [main]}))
    };
    let item = |path: &str| json!([{"key": "a.txt", "path": path}]);
    for (path, expected) in [("b/a.txt", 200), ("../a", 422), ("/a", 422), ("a/../../b", 422), ("", 422)] {
        let volumes = [
            json!({"name": "v", "configMap": {"name": "c", "items": item(path)}}),
            json!({"name": "v", "secret": {"secretName": "c", "optional": true, "items": item(path)}}),
            json!({"name": "v", "projected": {"sources": [{"configMap": {"name": "c", "items": item(path)}}]}}),
            json!({"name": "v", "downwardAPI": {"items": [{"path": path, "fieldRef": {"fieldPath": "metadata.name"}}]}}),
        ];
        for volume in volumes {
            let (status, answer) = pod(volume.clone());
            assert_eq!(status, expected, "{volume}: {answer}");
        }
    }
    for (claim, expected) in [("data", 200), ("../data", 422), ("a/b", 422), ("..", 422)] {
        let (status, answer) = pod(json!({"name": "v", "persistentVolumeClaim": {"claimName": claim}}));
        assert_eq!(status, expected, "{claim}: {answer}");
    }
    let main = container(&d, "main", "true", json!({}));
    for name in ["../web", "a/b", "..", "", "web\0", "Web"] {
        let (status, answer) = try_apply(&d, name, 0, json!({"containers": [main.clone()]}));
        assert_eq!(status, 422, "{name:?}: {answer}");
    }
    for path in [
        "/v1/workloads/..%2f..%2fetc",
        "/v1/replicas/..%2fweb-0",
        "/v1/logs?workload=..%2f..%2fetc",
        "/v1/logs?replica=%00",
    ] {
        let (status, answer) = d.api("GET", path, "");
        assert!([400, 404].contains(&status), "{path}: {status} {answer}");
    }
}

#[test]
fn a_race_of_a_directory_and_a_link_wins_no_sub_path() {
    if !can_run() {
        return;
    }
    let d = Daemon::start("race", &[]);
    let (volume, secret) = (d.dir.join("volume"), d.dir.join("secret"));
    fs::create_dir_all(volume.join("x")).unwrap();
    fs::create_dir_all(&secret).unwrap();
    fs::write(volume.join("x/key"), "mine\n").unwrap();
    fs::write(secret.join("key"), "hidden-word\n").unwrap();
    symlink(&secret, volume.join("y")).unwrap();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let dir = fs::File::open(&volume).unwrap();
            let flags = nix::fcntl::RenameFlags::RENAME_EXCHANGE;
            while !over.load(Ordering::Relaxed) {
                nix::fcntl::renameat2(&dir, "x", &dir, "y", flags).unwrap();
            }
        });
        let mounts = json!([{"name": "v", "mountPath": "/a", "subPath": "x"}]);
        let main = container(&d, "main", "cat /a/key; echo made > /a/new", json!({"volumeMounts": mounts}));
        let spec = json!({
            "terminationGracePeriodSeconds": 0, "backoff": {"initial": 0, "factor": 1, "max": 0},
            "volumes": [{"name": "v", "hostPath": {"path": volume, "type": "Directory"}}], "containers": [main],
        });
        apply(&d, "web", 8, spec);
        let starts =
            || (0..8).map(|n| d.replica(&format!("web-{n}"))["restarts"].as_u64().unwrap_or(0)).sum::<u64>();
        wait_for("the starts", || (starts() >= STARTS).then_some(()));
        d.delete("web", None);
        over.store(true, Ordering::Relaxed);
    });
    let lines: Vec<String> = (0..8).flat_map(|n| logged(&d, "web", n, "main")).collect();
    assert!(lines.iter().any(|l| l == "mine"), "some starts won honestly: {lines:?}");
    assert!(!lines.iter().any(|l| l.contains("hidden-word")), "{lines:?}");
    assert_eq!(fs::read_dir(&secret).unwrap().count(), 1, "nothing was written outside of the volume");
}
