//! Containers of images: layers that tests make of busybox, under a supervisor and without one.

use crate::client::ok;
use crate::daemon::{Daemon, can_run, kill, wait_for};
use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// An image layout below the directory of the test: two layers, a user of its own, an entrypoint.
pub fn layout(d: &Daemon, name: &str, word: &str) -> PathBuf {
    layout_with(d, name, word, "SIGKILL")
}

fn layout_with(d: &Daemon, name: &str, word: &str, stop_signal: &str) -> PathBuf {
    layout_of(d, name, word, json!({"StopSignal": stop_signal}))
}

/// With more in its configuration.
fn layout_of(d: &Daemon, name: &str, word: &str, more: Value) -> PathBuf {
    let dir = d.dir.join(name);
    fs::create_dir_all(dir.join("blobs/sha256")).unwrap();
    let root = d.dir.join(format!("{name}-root"));
    for sub in ["bin", "etc", "work", "proc", "dev", "sys"] {
        fs::create_dir_all(root.join(sub)).unwrap();
    }
    fs::copy("/bin/busybox", root.join("bin/busybox")).unwrap();
    for applet in ["sh", "sleep", "cat", "id", "touch", "ls", "rm"] {
        symlink("busybox", root.join("bin").join(applet)).unwrap();
    }
    fs::write(root.join("etc/gone"), "x").unwrap();
    fs::write(root.join("work/first"), "of the image\n").unwrap();
    std::os::unix::fs::chown(root.join("work"), Some(33), Some(34)).unwrap();
    fs::write(root.join("etc/passwd"), "root:x:0:0::/:/bin/sh\nweb:x:33:34::/work:/bin/sh\n").unwrap();
    fs::write(root.join("etc/group"), "root:x:0:\nweb:x:34:\nextra:x:35:web\n").unwrap();
    let above = d.dir.join(format!("{name}-above"));
    fs::create_dir_all(above.join("etc")).unwrap();
    fs::write(above.join("etc/.wh.gone"), "").unwrap();
    fs::write(above.join("word"), word).unwrap();
    let mut layers = Vec::new();
    let mut ids = Vec::new();
    for tree in [&root, &above] {
        // Without an entry for the root itself, as builders write layers.
        let names = fs::read_dir(tree).unwrap().map(|e| e.unwrap().file_name());
        let mut command = Command::new("tar");
        let tar = command.arg("-C").arg(tree).args(["-cf", "-"]).args(names).output().unwrap().stdout;
        ids.push(digest(&tar));
        layers.push(put(&dir, &tar, "layer.v1.tar"));
        fs::remove_dir_all(tree).unwrap();
    }
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let mut config = json!({"architecture": architecture, "os": "linux", "rootfs": {"type": "layers", "diff_ids": ids},
        "config": {"User": "web", "Env": ["PATH=/bin", "FROM=image"], "WorkingDir": "/work",
            "Entrypoint": ["sh", "-c", "echo \"$0 $FROM $(id -u):$(id -g) $(cat /word) $PWD $*\"; exec sleep 1000"],
            "Cmd": ["default"], "Volumes": {"/work": {}, "/made/deep": {}, "/proc/x": {}}}});
    config["config"].as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let config = put(&dir, config.to_string().as_bytes(), "config.v1+json");
    let manifest = json!({"schemaVersion": 2, "config": config, "layers": layers});
    let mut manifest = put(&dir, manifest.to_string().as_bytes(), "manifest.v1+json");
    manifest["annotations"] = json!({"org.opencontainers.image.ref.name": "1"});
    fs::write(dir.join("index.json"), json!({"schemaVersion": 2, "manifests": [manifest]}).to_string())
        .unwrap();
    dir
}

fn digest(bytes: &[u8]) -> String {
    use sha2::Digest;
    let hex: String = sha2::Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect();
    format!("sha256:{hex}")
}

fn put(dir: &Path, bytes: &[u8], kind: &str) -> Value {
    let digest = digest(bytes);
    fs::write(dir.join("blobs").join(digest.replace(':', "/")), bytes).unwrap();
    json!({"mediaType": format!("application/vnd.oci.image.{kind}"), "digest": digest, "size": bytes.len()})
}

fn deployment(name: &str, replicas: u32, container: Value) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": {"terminationGracePeriodSeconds": 0, "containers": [container]}}}})
}

fn apply(d: &Daemon, object: &Value) {
    let (status, answer) = d.api("POST", "/v1/apply", &object.to_string());
    assert_eq!(status, 200, "{answer}\n{}", d.output());
}

/// The first line of each run of container `app` in a slot.
fn logged(d: &Daemon, workload: &str, slot: u32) -> String {
    crate::client::run(d, &format!("logs {workload}-{slot}")).stdout.iter().map(|b| *b as char).collect()
}

#[test]
fn a_deployment_of_an_image_runs_as_the_image_says() {
    if !can_run() {
        return;
    }
    let d = Daemon::start("image", &[]);
    let dir = layout(&d, "web", "one");
    let image = format!("oci:{}:1", dir.display());
    let args = json!({"name": "app", "image": image, "args": ["given", "$(X)"], "env": [{"name": "X", "value": "y"}]});
    apply(&d, &deployment("web", 3, args));
    apply(&d, &deployment("plain", 1, json!({"name": "app", "image": image})));
    let root = json!({"name": "app", "image": image, "command": ["sh", "-c", "id -u; ls /etc; touch /new; exec sleep 1000"],
        "securityContext": {"runAsUser": 0}});
    apply(&d, &deployment("root", 2, root));
    for slot in 0..3 {
        wait_for("the arguments", || {
            logged(&d, "web", slot).contains("given image 33:34 one /work y").then_some(())
        });
    }
    wait_for("the default", || {
        logged(&d, "plain", 0).contains("default image 33:34 one /work").then_some(())
    });
    wait_for("root", || {
        let text = logged(&d, "root", 0);
        (text.lines().next() == Some("0") && text.contains("passwd") && !text.contains("gone")).then_some(())
    });
    // What a container writes is its own, and the layers stay as they are.
    assert!(ok(&d, "exec root-1 -- ls /").contains("new"));
    let layers = d.dir.join("data/images/layers");
    for layer in fs::read_dir(&layers).unwrap().flatten() {
        assert!(!layer.path().join("fs/new").exists());
    }
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(
        !mounts.contains(&*d.dir.join("data/images").to_string_lossy()),
        "nothing is mounted on the host"
    );
    let events = ok(&d, "events");
    assert!(events.contains("Pulling") && events.contains("Pulled"), "{events}");
}

#[test]
fn a_name_is_resolved_once_for_a_revision() {
    if !can_run() {
        return;
    }
    let mut d = Daemon::start("image-once", &[]);
    let dir = layout(&d, "web", "one");
    let image = format!("oci:{}", dir.display());
    let container = |more: &str| json!({"name": "app", "image": image, "args": [more]});
    apply(&d, &deployment("web", 1, container("a")));
    wait_for("the first", || logged(&d, "web", 0).contains("one").then_some(()));
    fs::remove_dir_all(&dir).unwrap();
    layout(&d, "web", "two");
    d.stop();
    d.start_again();
    ok(&d, "scale web --replicas 2");
    wait_for("the second", || logged(&d, "web", 1).contains("one").then_some(()));
    apply(&d, &deployment("web", 2, container("b")));
    wait_for("the new revision", || logged(&d, "web", 1).contains("two").then_some(()));
}

#[test]
fn an_image_goes_some_time_after_its_last_workload() {
    if !can_run() {
        return;
    }
    let d = Daemon::start("image-age", &["--image-max-age", "1s"]);
    let (dir, kept) = (layout(&d, "web", "one"), layout(&d, "kept", "two"));
    let store = d.dir.join("data/images");
    let layers = || fs::read_dir(store.join("layers")).map_or(0, Iterator::count);
    ok(&d, &format!("image --dir {} pull oci:{}", store.display(), kept.display()));
    apply(&d, &deployment("web", 1, json!({"name": "app", "image": format!("oci:{}", dir.display())})));
    wait_for("the container", || logged(&d, "web", 0).contains("one").then_some(()));
    let before = layers();
    let nobodys = store.join("layers").join("0".repeat(64));
    fs::create_dir(&nobodys).unwrap();
    wait_for("a layer that nobody has used to go", || (!nobodys.exists()).then_some(()));
    assert_eq!(layers(), before, "the others are in use");
    ok(&d, "delete deployment/web --wait");
    wait_for("the layer of the deleted workload to go", || (layers() == before - 1).then_some(()));
    // They share a layer, and one was pulled by hand.
    assert!(ok(&d, &format!("image --dir {} ls", store.display())).contains("kept"));
}

#[test]
fn a_container_is_stopped_by_the_signal_of_its_image() {
    if !can_run() {
        return;
    }
    let mut d = Daemon::start("image-signal", &[]);
    let image = format!("oci:{}", layout_with(&d, "web", "one", "SIGUSR1").display());
    let script = "for s in USR1 USR2 TERM; do trap \"echo by $s; exit 0\" $s; done; echo up; while :; do sleep 0.1; done";
    let pod = |name: &str, more: Value| {
        let mut container = json!({"name": "app", "image": image, "command": ["sh", "-c", script]});
        container.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let mut all = deployment(name, 1, container);
        all["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = json!(20);
        all
    };
    apply(&d, &pod("web", json!({})));
    apply(&d, &pod("own", json!({"lifecycle": {"stopSignal": "SIGUSR2"}})));
    for name in ["web", "own"] {
        wait_for("the container", || logged(&d, name, 0).contains("up").then_some(()));
    }
    assert!(ok(&d, "describe deployment/web").contains("the image's stop signal, killed after"));
    // The next supervisor has never seen the image.
    d.stop();
    d.start_again();
    ok(&d, "stop web own");
    // The replicas are gone, their logs stay.
    let log =
        |name: &str| fs::read_to_string(d.dir.join(format!("logs/{name}/0/app/0.log"))).unwrap_or_default();
    wait_for("the signal of the image", || log("web").contains("by USR1").then_some(()));
    wait_for("the signal of the container", || log("own").contains("by USR2").then_some(()));
}

#[test]
fn an_image_that_is_not_there_is_the_reason() {
    if !can_run() {
        return;
    }
    let d = Daemon::start("image-missing", &[]);
    let dir = d.dir.join("later");
    let reason = |w: &str, reason: &str| {
        wait_for(reason, || {
            ok(&d, "get pods").lines().any(|l| l.starts_with(w) && l.contains(reason)).then_some(())
        });
    };
    let never = json!({"name": "app", "image": "web:1", "imagePullPolicy": "Never"});
    apply(&d, &deployment("never", 1, never));
    reason("never", "ErrImageNeverPull");
    apply(&d, &deployment("later", 2, json!({"name": "app", "image": format!("oci:{}", dir.display())})));
    reason("later", "ImagePull");
    let text = ok(&d, "describe later");
    assert!(text.contains(&format!("directory {dir:?} does not exist")), "{text}");
    // Nothing waits for the image when the workload is gone.
    ok(&d, "delete never");
    layout(&d, "later", "late");
    wait_for("the next attempt", || logged(&d, "later", 1).contains("late").then_some(()));
    let bad = deployment("bad", 1, json!({"name": "app", "image": "Bad:name:x"}));
    let (status, answer) = d.api("POST", "/v1/apply", &bad.to_string());
    assert!(status == 422 && answer.to_string().contains("invalid image reference"), "{status} {answer}");
    assert!(!answer["message"].to_string().contains("hint:"), "the hint is a field of its own: {answer}");
}

#[test]
fn run_takes_an_image() {
    if !can_run() {
        return;
    }
    let d = Daemon::prepare("image-run", &[]);
    let dir = layout(&d, "web", "one");
    let cgroup = format!("/{}", d.dir.file_name().unwrap().to_str().unwrap());
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_orund"));
        command.args(["run", "--cgroup-parent", &cgroup, "--images"]).arg(d.dir.join("images"));
        command.arg("--run-dir").arg(d.dir.join("run")).current_dir(&d.dir).args(arguments);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    };
    let mut child = run(&["oci:web:1", "a", "b"]);
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.contains("a image 33:34 one /work b"), "{line}");
    kill(child.id() as i32, libc::SIGTERM);
    let out = child.wait_with_output().unwrap();
    // The image's stop signal ends it at once; nothing but the store is left.
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    assert_eq!(fs::read_dir(d.dir.join("run")).unwrap().count(), 0);
    assert!(dir.exists() && d.processes().is_empty());
    let out = run(&["oci:nowhere"]).wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.code() == Some(1) && text.contains("nowhere\" does not exist"), "{text}");
    fs::create_dir(d.dir.join("empty")).unwrap();
    let out = run(&["oci:empty"]).wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.code() == Some(1) && text.contains("the file \"index.json\" is missing"), "{text}");
    let out = run(&["--pull", "never", "web:2"]).wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.code() == Some(1) && text.contains("is not on this host"), "{text}");
}

#[test]
fn the_verbs_of_the_store() {
    if !can_run() {
        return;
    }
    let d = Daemon::start("image-verbs", &[]);
    let dir = layout(&d, "web", "one");
    let image = |arguments: &[&str], stdin: Stdio| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_orund"));
        command.arg("image").args(arguments).arg("--dir").arg(d.dir.join("data/images")).stdin(stdin);
        let out = command.current_dir(&d.dir).output().unwrap();
        let text = [out.stdout, out.stderr].concat();
        (out.status.code(), String::from_utf8_lossy(&text).into_owned())
    };
    let ok = |arguments: &[&str]| {
        let (code, text) = image(arguments, Stdio::null());
        assert_eq!(code, Some(0), "{arguments:?}: {text}");
        text
    };
    assert!(ok(&["pull", "oci:web:1"]).contains("pulled image \"oci:/"));
    let tar = d.dir.join("web.tar");
    assert!(
        Command::new("tar").arg("-C").arg(&dir).arg("-cf").arg(&tar).arg(".").status().unwrap().success()
    );
    let archive = || Stdio::from(fs::File::open(&tar).unwrap());
    let (code, text) = image(&["load"], archive());
    assert!(code == Some(1) && text.contains("has no name") && text.contains("--name"), "{text}");
    let (code, text) = image(&["load", "--name", "team/web:1"], archive());
    assert!(code == Some(0) && text.contains("docker.io/team/web:1"), "{text}");
    let listed = ok(&["ls"]);
    assert!(listed.lines().count() == 3 && listed.contains("docker.io/team/web:1"), "{listed}");
    let found: Value = serde_json::from_str(&ok(&["inspect", "team/web:1"])).unwrap();
    assert_eq!(found["configuration"]["config"]["User"], "web");
    assert_eq!(found["names"].as_array().unwrap().len(), 2);
    // A loaded image needs no registry.
    apply(&d, &deployment("web", 1, json!({"name": "app", "image": "team/web:1"})));
    wait_for("the container", || logged(&d, "web", 0).contains("one").then_some(()));
    ok(&["rm", "team/web:1"]);
    assert_eq!(ok(&["ls"]).lines().count(), 2, "the other name is kept");
    let layers = || fs::read_dir(d.dir.join("data/images/layers")).unwrap().count();
    ok(&["prune", "--all"]);
    assert_eq!(layers(), 2, "a revision uses them");
    assert!(ok(&["df"]).contains("LAYERS"));
    crate::client::ok(&d, "delete web --timeout 60s");
    wait_for("the end of the layers", || {
        ok(&["prune", "--all"]);
        (layers() == 0).then_some(())
    });
    let (code, text) = image(&["inspect", "nothing"], Stdio::null());
    assert!(code == Some(1) && text.contains("no such image"), "{text}");
}

#[test]
fn volumes_of_an_image_outlive_the_containers_of_a_service() {
    if !can_run() {
        return;
    }
    let d = Daemon::start("image-volumes", &[]);
    let image = format!("oci:{}", layout(&d, "db", "one").display());
    // The first container writes and ends, the second one sees it; the root is read-only.
    let script = "cat first; cat second; echo kept > second && ls /made/deep && exec cat /proc/x/none";
    let project = json!({"name": "p", "services": {
        "db": {"image": image, "read_only": true, "restart": "always", "entrypoint": ["sh", "-c", script]},
        "own": {"image": image, "read_only": true, "tmpfs": ["/work"],
            "entrypoint": ["sh", "-c", "ls first; id -u; exec sleep 1000"]},
    }});
    fs::write(d.dir.join("compose.yaml"), project.to_string()).unwrap();
    ok(&d, &format!("apply -f {}", d.dir.join("compose.yaml").display()));
    let log = |name: &str| {
        let files = fs::read_dir(d.dir.join(format!("logs/{name}/0/{name}"))).into_iter().flatten().flatten();
        files.map(|f| fs::read_to_string(f.path()).unwrap_or_default()).collect::<String>()
    };
    wait_for("the second container", || log("db").contains("kept").then_some(()));
    let text = log("db");
    assert!(text.contains("of the image") && text.contains("can't open 'second'"), "{text}");
    assert!(!text.contains("Read-only") && !text.contains("Permission denied"), "{text}");
    // What the file mounts there goes before.
    wait_for("the other service", || log("own").contains("33").then_some(()));
    assert!(log("own").contains("first: No such file"), "{}", log("own"));
    ok(&d, "delete workload/db workload/own --wait --timeout 60s");
    wait_for("the volumes to go", || {
        fs::read_dir(d.dir.join("data/pods")).unwrap().flatten().next().is_none().then_some(())
    });
    // Kubernetes ignores them.
    apply(
        &d,
        &deployment(
            "pod",
            1,
            json!({"name": "app", "image": image, "securityContext": {"readOnlyRootFilesystem": true},
        "command": ["sh", "-c", "touch /work/x 2>&1; exec sleep 1000"]}),
        ),
    );
    wait_for("the pod", || logged(&d, "pod", 0).contains("Read-only file system").then_some(()));
    // What it changes ends with it: the kernel need not write it to the disk.
    let pid = d.wait_running("pod-0")["containers"][0]["pid"].as_i64().unwrap();
    let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap();
    assert!(mounts.lines().any(|l| l.contains(" / / ") && l.contains("volatile")), "{mounts}");
}

#[test]
fn the_health_check_of_an_image_is_that_of_its_service() {
    if !can_run() {
        return;
    }
    let mut d = Daemon::start("image-health", &[]);
    let check =
        json!({"Test": ["CMD-SHELL", "test -e /dev/shm/up"], "Interval": 1_000_000_000, "Retries": 2});
    let ports = json!({"80/tcp": {}, "9000/udp": {}});
    let image = layout_of(&d, "web", "one", json!({"Healthcheck": check, "ExposedPorts": ports}));
    let image = format!("oci:{}", image.display());
    let broken = layout_of(&d, "broken", "two", json!({"Healthcheck": {"Test": ["curl"], "Interval": -1}}));
    let service = |more: Value| {
        let mut service = json!({"image": image, "restart": "always", "stop_grace_period": "0s",
            "entrypoint": ["sleep", "1000"]});
        service.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        service
    };
    let project = json!({"name": "p", "services": {
        "web": service(json!({})),
        "after": service(json!({"healthcheck": {"disable": true}, "depends_on": {"web": {"condition": "service_healthy"}}})),
        "none": service(json!({"healthcheck": {"test": ["NONE"]}})),
        "longer": service(json!({"healthcheck": {"retries": 70, "timeout": "3s"}})),
        "own": service(json!({"healthcheck": {"test": ["CMD", "ls", "/word"]}})),
        "broken": service(json!({"image": format!("oci:{}", broken.display())})),
    }});
    fs::write(d.dir.join("compose.yaml"), project.to_string()).unwrap();
    ok(&d, &format!("apply -f {}", d.dir.join("compose.yaml").display()));
    let described = |name: &str, text: &str| {
        wait_for(text, || ok(&d, &format!("describe pod/{name}-0")).contains(text).then_some(()));
    };
    let line = "exec [/bin/sh -c test -e /dev/shm/up] delay=0s timeout=30s period=1s #success=1 #failure=2";
    described("web", &format!("Readiness: {line}"));
    described("web", &format!("Liveness: {line}"));
    described("web", "Exposes:  80/tcp, 9000/udp");
    described("longer", "up] delay=0s timeout=3s period=1s #success=1 #failure=70");
    described("own", "exec [ls /word] delay=0s timeout=30s period=1s #success=1 #failure=2");
    for name in ["none", "own", "broken"] {
        ok(&d, &format!("wait {name} --for=ready --timeout 60s"));
    }
    for name in ["none", "broken"] {
        assert!(!ok(&d, &format!("describe pod/{name}-0")).contains("Readiness:"), "{name}");
    }
    assert!(d.output().contains("its HEALTHCHECK is ignored: invalid value"), "{}", d.output());
    assert!(ok(&d, "describe after").contains("waiting for workload \"web\""));
    // It is unhealthy and is restarted, until it is healthy; then the other one begins, also under the next supervisor.
    wait_for("a restart", || (d.replica("web-0")["restarts"].as_u64() > Some(0)).then_some(()));
    assert!(ok(&d, "describe pod/web-0").contains("Unhealthy"));
    d.stop();
    d.start_again();
    wait_for("health", || {
        crate::client::run(&d, "exec web-0 -- touch /dev/shm/up");
        crate::client::run(&d, "wait web --for=ready --timeout 1s").status.success().then_some(())
    });
    ok(&d, "wait after --for=ready --timeout 60s");
    // Kubernetes ignores it.
    let container = json!({"name": "app", "image": image, "command": ["sleep", "1000"]});
    apply(&d, &deployment("pod", 1, container));
    ok(&d, "wait deployment/pod --for=ready --timeout 60s");
    assert!(!ok(&d, "describe pod/pod-0").contains("Readiness"));
}

/// A registry that serves a layout to those who know the password; how often it was asked with it.
fn private_registry(layout: &Path) -> (u16, Arc<AtomicU32>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let granted = Arc::new(AtomicU32::new(0));
    let (layout, count) = (layout.to_owned(), Arc::clone(&granted));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
            let path = lines.next().unwrap_or_default().split(' ').nth(1).unwrap_or_default().to_owned();
            let known = "authorization: basic dxnlcjpzzwnyzxq=";
            let may = lines.take_while(|l| !l.is_empty()).any(|l| l.to_lowercase() == known);
            let index = || serde_json::from_slice(&fs::read(layout.join("index.json")).unwrap());
            let digest = match path.rsplit('/').next() {
                Some("1") => index().map(|i: Value| i["manifests"][0]["digest"].clone()).unwrap(),
                last => json!(last),
            };
            let blob = layout.join("blobs").join(digest.as_str().unwrap().replace(':', "/"));
            let (head, body) = match may {
                false => ("401 Unauthorized\r\nwww-authenticate: Basic realm=\"r\"", Vec::new()),
                true => ("200 OK", fs::read(blob).unwrap()),
            };
            count.fetch_add(u32::from(may), Ordering::Relaxed);
            let head =
                format!("HTTP/1.1 {head}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
            // The client may have seen enough.
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
        }
    });
    (port, granted)
}

#[test]
fn secrets_of_a_pod_are_for_its_registry() {
    if !can_run() {
        return;
    }
    let d = Daemon::start("image-secrets", &[]);
    let (port, granted) = private_registry(&layout(&d, "web", "one"));
    let pod = |name: &str, secret: &str| {
        let image = format!("127.0.0.1:{port}/team/web:1");
        let mut pod = deployment(name, 1, json!({"name": "app", "image": image}));
        pod["spec"]["template"]["spec"]["imagePullSecrets"] = json!([{"name": secret}]);
        pod
    };
    let secret = |name: &str, key: &str, user: &str| {
        let auth = json!({format!("127.0.0.1:{port}"): {"username": user, "password": "secret"}});
        let text = if key == ".dockercfg" { auth } else { json!({"auths": auth}) };
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": {key: text.to_string()}})
    };
    // Applied before its secret, as a file may be.
    apply(&d, &pod("web", "login"));
    wait_for("the reason", || {
        let text = ok(&d, "describe deployment/web");
        (text.contains("secret \"login\" of imagePullSecrets not found")
            && text.contains("needs credentials"))
        .then_some(())
    });
    apply(&d, &secret("login", ".dockerconfigjson", "user"));
    wait_for("the image", || logged(&d, "web", 0).contains("one").then_some(()));
    assert!(granted.load(Ordering::Relaxed) > 0);
    // What the secret holds does not belong to the revision.
    apply(&d, &secret("login", ".dockerconfigjson", "other"));
    apply(&d, &pod("web", "login"));
    assert_eq!(
        ok(&d, "rollout history deployment/web").lines().filter(|l| l.starts_with(char::is_numeric)).count(),
        1
    );
    apply(&d, &secret("old", ".dockercfg", "user"));
    ok(&d, "delete deployment/web --wait");
    ok(&d, &format!("image --dir {} prune --all", d.dir.join("data/images").display()));
    let before = granted.load(Ordering::Relaxed);
    apply(&d, &pod("again", "old"));
    wait_for("the image", || logged(&d, "again", 0).contains("one").then_some(()));
    assert!(granted.load(Ordering::Relaxed) > before);
}
