//! Files with objects of several kinds: one change each, and objects that are kept.

use crate::client::{fails, ok, run, write};
use crate::daemon::{Daemon, can_run, kill, wait_for};
use std::fs;
use std::os::unix::fs::PermissionsExt;

const FILE: &str = "apiVersion: v1
kind: ConfigMap
metadata: {name: conf, labels: {app: web}}
data: {a.conf: 'x=1'}
---
apiVersion: v1
kind: Secret
metadata: {name: key}
stringData: {pw: hunter2}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: orun.dev/v1
kind: Workload
metadata: {name: web}
spec: {bundle: ./bundle, args: [sleep, '1000'], terminationGracePeriodSeconds: 0}
";

#[test]
fn objects_are_kept_and_a_file_is_one_change() {
    if !can_run() {
        return;
    }
    let mut d = Daemon::start("objects", &[]);
    write(&d, "all.yaml", FILE);
    let names = ["configmap/conf", "secret/key", "persistentvolumeclaim/data", "service/web", "workload/web"];
    let said = |outcome: &str| names.map(|n| format!("{n} {outcome}\n")).concat();
    assert_eq!(ok(&d, "apply -f all.yaml --dry-run"), said("created (dry run)"));
    assert_eq!(run(&d, "get all -o name").stdout, b"");
    assert_eq!(ok(&d, "apply -f all.yaml"), said("created"));
    assert_eq!(ok(&d, "apply -f all.yaml"), said("unchanged"));
    // They are durable, and only root can read the journal.
    kill(d.supervisor().unwrap(), libc::SIGKILL);
    wait_for("the supervisor to come back", || d.try_api("GET", "/healthz", "").filter(|(s, _)| *s == 200));
    assert_eq!(ok(&d, "apply -f all.yaml"), said("unchanged"));
    for entry in fs::read_dir(d.dir.join("data")).unwrap().flatten() {
        let mode = entry.metadata().unwrap().permissions().mode();
        let secret = entry.path().is_file();
        assert!(!secret || mode & 0o077 == 0, "{entry:?}: {mode:o}");
    }
    let row = |words: &str| {
        let table = ok(&d, words);
        table.lines().nth(1).unwrap().split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(row("get configmaps")[..2], ["conf", "1"]);
    assert_eq!(row("get secret key")[..3], ["key", "Opaque", "1"]);
    assert_eq!(row("get svc")[..4], ["web", "ClusterIP", "None", "80/TCP"]);
    assert_eq!(row("get pvc -o wide")[0], "data");
    assert_eq!(ok(&d, "get cm -l app=web -o name"), "configmap/conf\n");
    let all = ok(&d, "get all");
    assert!(
        all.contains("workload/web") && all.contains("service/web") && all.contains("secret/key"),
        "{all}"
    );
    // What a Secret holds is seen only by those who ask for it.
    assert!(ok(&d, "get secret key -o yaml").contains("pw: aHVudGVyMg=="));
    let described = ok(&d, "describe secret key");
    assert!(described.contains("pw: 7 bytes"), "{described}");
    write(&d, "all.yaml", &FILE.replace("hunter2", "hunter3").replace("x=1", "x=2"));
    let diff = String::from_utf8(run(&d, "apply -f all.yaml --diff").stdout).unwrap();
    assert!(diff.contains("-  a.conf: x=1\n+  a.conf: x=2\n"), "{diff}");
    assert!(diff.contains("secret/key: only hidden fields change"), "{diff}");
    for text in [&all, &described, &diff, &d.output()] {
        assert!(!text.contains("hunter") && !text.contains("aHVudGVy"), "{text}");
    }
    assert!(ok(&d, "apply -f all.yaml").starts_with("configmap/conf configured\nsecret/key configured\n"));
    // Deleted by kind and name, and by file.
    assert_eq!(ok(&d, "delete cm conf"), "configmap/conf deleted\n");
    let (code, e) = fails(&d, "delete configmap/conf");
    assert!(code == 1 && e.contains("no such configmap: \"conf\""), "{e}");
    let gone = ok(&d, "delete -f all.yaml --wait");
    assert!(gone.starts_with("secret/key deleted\npersistentvolumeclaim/data deleted\n"), "{gone}");
    assert_eq!(run(&d, "get all -o name").stdout, b"");
    d.stop();
}

#[test]
fn an_immutable_config_map_is_refused_with_the_way_out() {
    if !can_run() {
        return;
    }
    let mut d = Daemon::start("immutable", &[]);
    let text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\nimmutable: true\ndata: {a: '1'}\n";
    write(&d, "c.yaml", text);
    ok(&d, "apply -f c.yaml");
    write(&d, "c.yaml", &format!("{}---\n{FILE}", text.replace("'1'", "'2'")));
    let (_, e) = fails(&d, "apply -f c.yaml");
    assert!(e.contains("ConfigMap \"c\" cannot be changed") && e.contains("delete the object first"), "{e}");
    assert_eq!(ok(&d, "get all -o name"), "configmap/c\n", "nothing of the file was applied");
    d.stop();
}

const CONSUMER: &str = "apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 0
      volumes:
      - {name: conf, configMap: {name: conf, defaultMode: 0440}}
      - {name: all, projected: {sources: [{secret: {name: key, items: [{key: pw, path: sub/pw, mode: 0400}]}}, {configMap: {name: maybe, optional: true}}]}}
      containers:
      - name: main
        image: bundle:./bundle
        command: [sh, -c]
        args: ['echo $COLOR $P_COLOR $PW $NONE. $(cat /conf/COLOR) $(cat /all/sub/pw) $(stat -c %a /conf/COLOR /all/sub/pw) $(stat -f -c %T /all); exec sleep 1000']
        env:
        - {name: COLOR, valueFrom: {configMapKeyRef: {name: conf, key: COLOR}}}
        - {name: PW, valueFrom: {secretKeyRef: {name: key, key: pw}}}
        - {name: NONE, valueFrom: {secretKeyRef: {name: none, key: x, optional: true}}}
        envFrom: [{prefix: P_, configMapRef: {name: conf}}]
        volumeMounts: [{name: conf, mountPath: /conf}, {name: all, mountPath: /all}]
";

fn objects(color: &str) -> String {
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: conf}}\ndata: {{COLOR: {color}}}\n---\napiVersion: v1\nkind: Secret\nmetadata: {{name: key}}\nstringData: {{pw: hunter2}}\n"
    )
}

#[test]
fn containers_are_made_from_config_maps_and_secrets() {
    if !can_run() {
        return;
    }
    let mut d = Daemon::start("content", &[]);
    let said = |d: &Daemon, line: &str| {
        wait_for(line, || ok(d, "logs web").lines().any(|l| l.ends_with(line)).then_some(()));
    };
    write(&d, "web.yaml", CONSUMER);
    ok(&d, "apply -f web.yaml");
    // It waits, and says for what.
    let waits = |what: &str| {
        wait_for(what, || {
            let replica = d.try_api("GET", "/v1/replicas/web-0", "")?.1;
            let state = &replica["containers"][0]["state"]["waiting"];
            (replica["phase"] == "CreateContainerConfigError" && state["message"] == what).then_some(())
        });
    };
    waits("configmap \"conf\" not found");
    write(&d, "objects.yaml", &objects("red"));
    ok(&d, "apply -f objects.yaml");
    let line = |color: &str| format!("{color} {color} hunter2 . {color} hunter2 440 400 tmpfs");
    said(&d, &line("red"));
    assert_eq!(d.replica("web-0")["revision"], 1, "it was not replaced, it had only to wait");
    // Changed content is rolled out, and one can go back to what it was.
    write(&d, "objects.yaml", &objects("blue"));
    ok(&d, "apply -f objects.yaml");
    said(&d, &line("blue"));
    ok(&d, "rollout status web --timeout 60");
    let history = ok(&d, "rollout history web");
    assert!(history.contains("ConfigMap conf changed"), "{history}");
    ok(&d, "rollout undo web --wait --timeout 60");
    wait_for("the old color", || {
        let logs = ok(&d, "logs web");
        logs.lines().last().is_some_and(|l| l.ends_with(&line("red"))).then_some(())
    });
    assert!(!d.output().contains("hunter2"));
    // A key that is missing is named.
    write(&d, "objects.yaml", &objects("red").replace("COLOR", "COLOUR"));
    ok(&d, "apply -f objects.yaml");
    wait_for("the missing key", || {
        ok(&d, "get web").contains("couldn't find key COLOR in ConfigMap default/conf").then_some(())
    });
    ok(&d, "delete -f web.yaml --wait");
    d.stop();
}
