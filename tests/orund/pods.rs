//! Pods: containers that share namespaces and volumes, on the real kernel.

use crate::client::ok;
use crate::daemon::{Daemon, can_run, kill, wait_for};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// A container that runs `script`.
pub fn container(d: &Daemon, name: &str, script: &str, more: Value) -> Value {
    let mut c = json!({"name": name, "bundle": d.dir.join("bundle"), "command": ["sh", "-c", script]});
    for (key, value) in more.as_object().unwrap() {
        c[key] = value.clone();
    }
    c
}

pub fn apply(d: &Daemon, name: &str, replicas: u32, spec: Value) {
    let (status, answer) = try_apply(d, name, replicas, spec);
    assert_eq!(status, 200, "{answer}\n{}", d.output());
}

pub fn try_apply(d: &Daemon, name: &str, replicas: u32, mut spec: Value) -> (u16, Value) {
    spec["replicas"] = replicas.into();
    spec["pod"] = json!({"labels": {"app": name}});
    let metadata = json!({"name": name});
    let w = json!({"apiVersion": "orun.dev/v1", "kind": "Workload", "metadata": metadata, "spec": spec});
    d.api("POST", "/v1/workloads", &w.to_string())
}

/// What a container has written, all of its runs.
pub fn logged(d: &Daemon, workload: &str, slot: u32, container: &str) -> Vec<String> {
    let dir = d.dir.join("logs").join(workload).join(slot.to_string()).join(container);
    let mut files =
        fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path()).collect::<BTreeSet<_>>();
    // Beside them is the number of the workload.
    files.retain(|f| f.file_name().is_some_and(|n| n.to_string_lossy().contains(".log")));
    let text: String = files.iter().map(|f| fs::read_to_string(f).unwrap_or_default()).collect();
    text.lines().map(|l| l.splitn(4, ' ').nth(3).unwrap_or_default().to_owned()).collect()
}

pub fn wait_logged(d: &Daemon, slot: u32, container: &str, line: &str) {
    let begun = std::time::Instant::now();
    while !logged(d, "web", slot, container).iter().any(|l| l == line) {
        let got = logged(d, "web", slot, container);
        let replica = d.replica(&format!("web-{slot}"));
        assert!(
            begun.elapsed().as_secs() < 60,
            "{line:?} of {container}: {got:?} {replica:#}\n{}",
            d.output()
        );
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

/// Everything below the supervisor's directories that belongs to pods.
fn left(d: &Daemon) -> Vec<PathBuf> {
    let dirs = ["data/pods", "run/pods", "data/roots"].map(|dir| d.dir.join(dir));
    dirs.iter().flat_map(|dir| fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path())).collect()
}

/// The network namespaces that processes or descriptors of this test keep.
fn namespaces(d: &Daemon) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let own = fs::read_link("/proc/self/ns/net").unwrap();
    for pid in [d.main(), d.supervisor().unwrap_or(d.main())] {
        let fds = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        found.extend(
            fds.filter_map(|e| fs::read_link(e.path()).ok())
                .filter(|l| l.starts_with("net:") || l.to_string_lossy().starts_with("net:[")),
        );
    }
    found.remove(&own);
    found
}

#[test]
fn containers_of_a_pod_share_its_network_and_volumes_and_replicas_do_not() {
    if !can_run() {
        return;
    }
    let mut d = Daemon::start("pods", &[]);
    let busybox = "/bin/busybox";
    let server = format!(
        "echo $POD > /data/name; {busybox} mkdir -p /www; echo $(cat /etc/hostname) > /www/index.html; echo private > /private; \
         exec {busybox} httpd -f -p 127.0.0.1:8080 -h /www"
    );
    let client = format!(
        "until {busybox} wget -q -O - http://localhost:8080/ >/dev/null 2>&1; do sleep 0.02; done; \
         echo web $({busybox} wget -q -O - http://localhost:8080/); echo name $(cat /shared/name); echo host $({busybox} hostname); \
         echo mem $({busybox} stat -f -c %T /mem); [ -e /private ] || echo alone; \
         (echo x > /shared/x) 2>/dev/null || echo read-only; echo started; exec sleep 1000"
    );
    let env = json!([{"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]);
    let spec = json!({
        "terminationGracePeriodSeconds": 0,
        "volumes": [{"name": "data", "emptyDir": {}}, {"name": "mem", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}],
        "containers": [
            container(&d, "server", &server, json!({"env": env, "volumeMounts": [{"name": "data", "mountPath": "/data"}]})),
            container(&d, "client", &client, json!({"volumeMounts": [
                {"name": "data", "mountPath": "/shared", "readOnly": true}, {"name": "mem", "mountPath": "/mem"}]})),
        ],
    });
    let mounts = || fs::read_to_string("/proc/self/mountinfo").unwrap();
    let before = mounts();
    apply(&d, "web", 2, spec);
    for slot in 0..2 {
        wait_logged(&d, slot, "client", "started");
        let name = format!("web-{slot}");
        let expected = [
            format!("web {name}"),
            format!("name {name}"),
            format!("host {name}"),
            "mem tmpfs".to_owned(),
            "alone".to_owned(),
            "read-only".to_owned(),
            "started".to_owned(),
        ];
        assert_eq!(logged(&d, "web", slot, "client"), expected);
    }
    assert_eq!(mounts(), before, "nothing is mounted on the host");
    assert_eq!(namespaces(&d).len(), 2, "one network for each pod");
    // Killed, the supervisor finds both pods whole; what restarts joins them.
    let networks = namespaces(&d);
    kill(d.supervisor().unwrap(), libc::SIGKILL);
    wait_for("the supervisor to come back", || d.try_api("GET", "/healthz", "").filter(|(s, _)| *s == 200));
    let pid = d.replica("web-0")["containers"][1]["pid"].as_i64().unwrap() as i32;
    kill(pid, libc::SIGKILL);
    wait_for("the client's second run", || {
        let runs = logged(&d, "web", 0, "client").iter().filter(|l| *l == "started").count();
        (runs == 2).then_some(())
    });
    assert_eq!(namespaces(&d), networks, "the sandboxes have outlived the supervisor");
    // A keeper that dies too takes the descriptors along: those of living containers are taken instead.
    d.delete("web", None);
    assert_eq!((d.processes(), left(&d), namespaces(&d)), (vec![], vec![], BTreeSet::new()));
    assert_eq!(cgroups(&d), Vec::<PathBuf>::new());
    d.stop();
}

/// The cgroups of pods and containers.
fn cgroups(d: &Daemon) -> Vec<PathBuf> {
    let parent = d.dir.file_name().unwrap();
    let text = fs::read_to_string("/proc/self/mounts").unwrap();
    let mounts = text.lines().map(|l| l.split(' ').collect::<Vec<_>>());
    let dirs = mounts.filter(|m| m[2].starts_with("cgroup")).map(|m| Path::new(m[1]).join(parent));
    let below = dirs.flat_map(|dir| fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path()));
    below.filter(|p| p.is_dir()).collect()
}

#[test]
fn what_a_container_writes_to_its_root_is_its_own_and_gone_with_it() {
    if !can_run() {
        return;
    }
    let d = Daemon::start("roots", &[]);
    let script = "[ -e /mark ] && echo dirty; echo x > /mark; echo clean; exit 1";
    let quick = json!({"initial": 0.1, "factor": 1, "max": 0.1});
    let spec = json!({"backoff": quick, "containers": [container(&d, "main", script, json!({}))]});
    apply(&d, "web", 2, spec);
    for slot in 0..2 {
        wait_for("three runs", || (logged(&d, "web", slot, "main").len() >= 3).then_some(()));
        assert!(logged(&d, "web", slot, "main").iter().all(|l| l == "clean"));
    }
    assert!(!d.dir.join("bundle/rootfs/mark").exists(), "the bundle is never written to");
    d.delete("web", None);
    assert_eq!(left(&d), Vec::<PathBuf>::new());
    // Unless the file says sharedRoot.
    let spec = json!({"restartPolicy": "Never", "sharedRoot": true, "containers": [container(&d, "main", script, json!({}))]});
    apply(&d, "shared", 1, spec);
    wait_for("the mark", || d.dir.join("bundle/rootfs/mark").exists().then_some(()));
}

#[test]
fn users_capabilities_and_limits_are_those_of_the_file() {
    if !can_run() {
        return;
    }
    let d = Daemon::start("security", &[]);
    let script = "/bin/busybox grep -E '^(Uid|Gid|Groups|CapBnd|NoNewPrivs)' /proc/self/status; /bin/busybox pwd; \
                  /bin/busybox stat -c '%a %g' /data; cat /etc/hosts; cat /proc/sys/net/ipv4/ip_unprivileged_port_start; \
                  (echo x > /etc/x) 2>/dev/null || echo read-only; echo $HOSTNAME; echo end; exec sleep 1000";
    let security = json!({
        "runAsGroup": 3000, "readOnlyRootFilesystem": true, "allowPrivilegeEscalation": false,
        "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]},
    });
    let main = container(
        &d,
        "main",
        script,
        json!({
        "securityContext": security, "workingDir": "/bin", "volumeMounts": [{"name": "data", "mountPath": "/data"}]}),
    );
    let spec = json!({
        "terminationGracePeriodSeconds": 0,
        "hostname": "box", "subdomain": "db", "hostAliases": [{"ip": "10.1.2.3", "hostnames": ["a", "b"]}],
        "securityContext": {"runAsUser": 1000, "supplementalGroups": [4000], "fsGroup": 5000, "runAsNonRoot": true,
            "sysctls": [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "77"}]},
        "volumes": [{"name": "data", "emptyDir": {}}],
        "containers": [main],
    });
    apply(&d, "web", 1, spec);
    wait_logged(&d, 0, "main", "end");
    let lines = logged(&d, "web", 0, "main");
    let has = |line: &str| assert!(lines.iter().any(|l| l == line), "{line:?} in {lines:#?}");
    has("Uid:\t1000\t1000\t1000\t1000");
    has("Gid:\t3000\t3000\t3000\t3000");
    has("Groups:\t4000 5000 ");
    has("CapBnd:\t0000000000000400");
    has("NoNewPrivs:\t1");
    has("/bin");
    has("2777 5000");
    has("10.1.2.3\ta\tb");
    has("127.0.0.1\tbox.db.default.svc.cluster.local\tbox");
    has("77");
    has("read-only");
    has("box");
    d.delete("web", None);
}

#[test]
fn a_hostile_volume_leads_nowhere() {
    if !can_run() {
        return;
    }
    let d = Daemon::start("hostile", &[]);
    let (volume, secret) = (d.dir.join("volume"), d.dir.join("secret"));
    fs::create_dir_all(&volume).unwrap();
    fs::create_dir_all(&secret).unwrap();
    fs::write(secret.join("key"), "secret").unwrap();
    symlink(&secret, volume.join("link")).unwrap();
    symlink("../secret", volume.join("up")).unwrap();
    let mount = |sub: &str, at: &str| json!({"name": "v", "mountPath": at, "subPath": sub});
    let script = "cat /a/key /b/key 2>/dev/null; echo made > /a/new; echo end; exec sleep 1000";
    let main =
        container(&d, "main", script, json!({"volumeMounts": [mount("link", "/a"), mount("up", "/b")]}));
    let spec = json!({
        "terminationGracePeriodSeconds": 0,
        "volumes": [{"name": "v", "hostPath": {"path": volume, "type": "Directory"}}], "containers": [main],
    });
    apply(&d, "web", 1, spec);
    wait_logged(&d, 0, "main", "end");
    assert_eq!(logged(&d, "web", 0, "main"), ["end"], "no secret was read");
    assert_eq!(fs::read_dir(&secret).unwrap().count(), 1, "nothing was written outside of the volume");
    d.delete("web", None);
    for sub in ["../secret", "/etc", "a/../../secret"] {
        let main = container(&d, "main", "true", json!({"volumeMounts": [mount(sub, "/a")]}));
        let spec = json!({"volumes": [{"name": "v", "emptyDir": {}}], "containers": [main]});
        let (status, answer) = try_apply(&d, "bad", 1, spec);
        assert_eq!(status, 422, "{sub}: {answer}");
    }
    // What cannot be made is reported, tried again, and leaves nothing.
    let main = container(&d, "main", "true", json!({"volumeMounts": [{"name": "v", "mountPath": "/a"}]}));
    let host = json!({"path": d.dir.join("none"), "type": "Directory"});
    apply(&d, "web", 1, json!({"volumes": [{"name": "v", "hostPath": host}], "containers": [main]}));
    wait_for("the reason", || {
        d.api("GET", "/v1/events", "").1.to_string().contains("hostPath").then_some(())
    });
    d.delete("web", None);
    assert_eq!((left(&d), cgroups(&d)), (vec![], vec![]));
}

/// The file of the person that this is built for, with what `validate` says about it put right.
#[test]
fn the_deployment_of_the_seed_runs_three_pods_of_two_containers() {
    if !can_run() {
        return;
    }
    let d = Daemon::start("seed", &[]);
    let config = d.dir.join("bundle/config.json");
    let mut bundle: Value = serde_json::from_str(&fs::read_to_string(&config).unwrap()).unwrap();
    bundle["process"]["args"] =
        json!(["sh", "-c", "echo x > /data/$ORUN_REPLICA_INDEX; echo up; exec sleep 1000"]);
    fs::write(&config, bundle.to_string()).unwrap();
    let text =
        fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/seed/deployment.yaml")).unwrap();
    let image = format!("bundle:{}", d.dir.join("bundle").display());
    let text = text
        .replace("emptyDir: /data", "emptyDir: {}")
        .replace("    terminationGracePeriodSeconds: 30", "      terminationGracePeriodSeconds: 0")
        .replace("image: my-image", &format!("image: {image}"))
        .replace("image: my-other-image", &format!("image: {image}"));
    fs::write(d.dir.join("seed.yaml"), text).unwrap();
    ok(&d, "apply -f seed.yaml --wait --timeout 60");
    for slot in 0..3 {
        for container in ["my-container", "my-other-container"] {
            wait_for("its output", || (logged(&d, "my-deployment", slot, container) == ["up"]).then_some(()));
        }
        let replica = d.wait(&format!("my-deployment-{slot}"), "it to run", |r| r["phase"] == "Running");
        assert_eq!(replica["containers"].as_array().unwrap().len(), 2);
    }
    // A volume of each container of each pod.
    let volumes = fs::read_dir(d.dir.join("data/pods")).unwrap().flatten();
    let written =
        volumes.flat_map(|pod| ["my-data", "my-other-data"].map(|v| pod.path().join("volumes").join(v)));
    let files: Vec<usize> = written.map(|dir| fs::read_dir(dir).unwrap().count()).collect();
    assert_eq!(files, [1; 6], "each has the one file of its own container");
    d.delete("my-deployment", None);
    assert_eq!((d.processes(), left(&d), cgroups(&d)), (vec![], vec![], vec![]));
}

#[test]
fn a_seccomp_profile_of_the_host_is_used() {
    if !can_run() {
        return;
    }
    let mut d = Daemon::prepare("seccomp", &[]);
    d.flag("--seccomp-dir", "profiles");
    d.start_again();
    let security = json!({"seccompProfile": {"type": "Localhost", "localhostProfile": "own/no-mkdir.json"}});
    let script = "mkdir /made 2>&1; cat /proc/self/status | while read l; do case $l in Seccomp:*) echo $l;; esac; done; exec sleep 1000";
    let main = container(&d, "main", script, json!({"securityContext": security}));
    apply(&d, "web", 1, json!({"containers": [main]}));
    // The profile is not there yet, and the status says where it is looked for.
    let file = d.dir.join("profiles/own/no-mkdir.json");
    let expected = format!("reading the seccomp profile {file:?}");
    wait_for("the reason", || {
        let message = d.workload("web")["status"]["message"].as_str().unwrap_or_default().to_owned();
        message.contains(&expected).then_some(())
    });
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    let rule = json!({"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1});
    fs::write(&file, json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}).to_string()).unwrap();
    wait_logged(&d, 0, "main", "mkdir: can't create directory '/made': Operation not permitted");
    wait_logged(&d, 0, "main", "Seccomp: 2");
    d.stop();
}
