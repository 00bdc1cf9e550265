//! Whole files of people, and the whole texts of what is said about them.

mod containers;
mod fields;
mod health;

use super::*;
use crate::config::document::diagnostic::Diagnostic;

const DEPLOYMENT: &str = include_str!("../../tests/seed/deployment.yaml");
const SWARM: &str = include_str!("../../tests/seed/swarm.yml");

/// Each finding in a line, with its hint.
fn short(text: &str) -> Vec<String> {
    let line = |d: &Diagnostic| {
        let hint = d.hint.as_ref().map(|h| format!(" [{h}]")).unwrap_or_default();
        let severity = if d.is_error() { "" } else { "warning: " };
        format!("{severity}{}:{} {}{hint}", d.place.line, d.place.column, d.message)
    };
    read("f.yaml", text, None).findings.list.iter().map(line).collect()
}

#[test]
fn a_deployment_with_three_mistakes_gets_all_three_at_once() {
    let expected = "error: emptyDir must be a mapping, not a string
  --> deployment.yaml:33:19 (spec.template.spec.volumes[0].emptyDir)
33 |         emptyDir: /data
   |                   ^^^^^
   = hint: write `emptyDir: {}`; volumeMounts already says where it is mounted (line 23: /data)

error: emptyDir must be a mapping, not a string
  --> deployment.yaml:35:19 (spec.template.spec.volumes[1].emptyDir)
35 |         emptyDir: /data
   |                   ^^^^^
   = hint: write `emptyDir: {}`; volumeMounts already says where it is mounted (line 30: /data)

error: unknown field \"terminationGracePeriodSeconds\"
  --> deployment.yaml:36:5 (spec.template)
36 |     terminationGracePeriodSeconds: 30
   |     ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
   = hint: it belongs in spec.template.spec, two columns further right

deployment.yaml: 3 errors";
    assert_eq!(read("deployment.yaml", DEPLOYMENT, None).findings.to_string(), expected);
}

#[test]
fn the_corrected_deployment_is_three_pods_of_two_containers() {
    let found = read("deployment.yaml", DEPLOYMENT, None).findings.list;
    let (text, count) = corrected(DEPLOYMENT, &found);
    assert_eq!(count, 3);
    let right = DEPLOYMENT
        .replace("emptyDir: /data", "emptyDir: {}")
        .replace("    terminationGrace", "      terminationGrace");
    assert_eq!(text, right);
    let workload = read("fixed.yaml", &text, None).workloads().unwrap_or_else(|e| panic!("{e}")).remove(0);
    assert_eq!(workload.metadata.name, "my-deployment");
    assert_eq!((workload.spec.replicas, workload.spec.containers.len()), (3, 2));
    assert_eq!(workload.spec.termination_grace_period.as_secs(), 30);
    assert_eq!(workload.spec.containers[1].ports[0].container_port, 8080);
}

#[test]
fn services_as_a_list_are_corrected() {
    let expected =
        ["3:3 services must be a mapping, not a list [write `my-service:` instead of `- name: my-service`]"];
    assert_eq!(short(SWARM), expected);
    let (text, count) = corrected(SWARM, &read("f", SWARM, None).findings.list);
    assert_eq!((&text, count), (&SWARM.replace("- name: my-service", "my-service:"), 1));
    let found = read("f", &text, None);
    assert_eq!(found.findings.errors(), 0, "{}", found.findings);
    let workload = found.workloads().unwrap_or_else(|e| panic!("{e}")).remove(0);
    assert_eq!((workload.metadata.name.as_str(), workload.spec.replicas), ("my-service", 1));
}

const HEAD: &str = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec:\n  selector: {matchLabels: {app: web}}\n  template:\n    metadata: {labels: {app: web}}\n    spec:\n";

/// A field of the pod of a Deployment, and what is found.
fn of_pod(fields: &str) -> Vec<String> {
    let indented: String = fields.lines().map(|line| format!("      {line}\n")).collect();
    short(&format!("{HEAD}{indented}"))
        .into_iter()
        .map(|line| line.split_once(' ').map_or(line.clone(), |(_, rest)| rest.to_owned()))
        .collect()
}

const MAIN: &str = "containers: [{name: a, image: x}]\n";

#[test]
fn files_of_kustomize_and_helm_say_how_to_get_objects_of_them() {
    let kustomize = " [render it first: `kubectl kustomize DIRECTORY | orund apply -f -`]";
    for text in [
        "resources: [a.yaml]\nnamePrefix: x-\n",
        "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources: [a.yaml]\n",
        "bases: [../base]\npatchesStrategicMerge: [p.yaml]\n",
    ] {
        let found = short(text);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].ends_with(kustomize) && !found[0].starts_with("warning"), "{found:?}");
    }
    let chart = short("apiVersion: v2\nname: web\nversion: 1.0.0\n");
    assert_eq!(chart.len(), 1, "{chart:?}");
    assert!(chart[0].contains("`helm template CHART | orund apply -f -`"), "{chart:?}");
    // Files of any other program.
    let other = short("on: push\njobs: {}\n");
    assert_eq!(other.len(), 2, "{other:?}");
    assert!(other[0].contains("field \"apiVersion\" is missing"), "{other:?}");
}

#[test]
fn a_field_without_a_value_is_as_if_it_were_not_there() {
    let text = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a, labels: null}\nspec:\n  replicas: null\n  strategy: {type: Recreate, rollingUpdate: null}\n  selector: {matchLabels: {app: a}}\n  template:\n    metadata: {labels: {app: a}}\n    spec:\n      volumes: null\n      containers: [{name: a, image: x, volumeMounts: null, env: }]\n";
    assert_eq!(short(text), Vec::<String>::new());
    let nameless = text.replace("name: a, labels", "name: null, labels");
    assert!(short(&nameless)[0].contains("field \"name\" is missing"), "{:?}", short(&nameless));
}

#[test]
fn a_service_may_leave_the_port_of_the_host_to_orund() {
    let text = "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {type: NodePort, ports: [{port: 80, nodePort: 0}]}\n";
    assert!(short(text).iter().all(|line| line.starts_with("warning")), "{:?}", short(text));
}

#[test]
fn every_class_of_field_says_what_it_is() {
    let cases: &[(&str, &[&str])] = &[
        ("affinity: {nodeAffinity: {}}", &[]),
        ("nodeSelector: {disk: ssd}", &[]),
        (
            "serviceAccountName: x",
            &["40:7 serviceAccountName has no effect [There is no API server to talk to.]"],
        ),
        (
            "ephemeralContainers: []",
            &["ephemeralContainers is not supported [They are added to a running pod, never by a file.]"],
        ),
        ("hostUsers: false", &["hostUsers is not supported yet [false gives the pod a user namespace.]"]),
        ("hostUsers: true", &[]),
        (
            "volumes: [{name: a, rbd: {monitors: []}}]",
            &["rbd is not supported [Mount it on the host and use hostPath.]"],
        ),
    ];
    for (field, expected) in cases {
        let found: Vec<String> = of_pod(&format!("{MAIN}{field}\n"));
        let plain =
            |text: &str| text.trim_start_matches(|c: char| c.is_ascii_digit() || ": ".contains(c)).to_owned();
        assert_eq!(
            found.iter().map(|f| plain(f)).collect::<Vec<_>>(),
            expected.iter().map(|f| plain(f)).collect::<Vec<_>>(),
            "{field}"
        );
    }
}

#[test]
fn what_no_table_can_say_is_checked_too() {
    for (fields, expected) in [
        ("containers: []", "containers must have 1 to 64 entries"),
        ("containers: [{name: a}]", "image is required [write `image: NAME`, or `image: bundle:DIRECTORY`]"),
        ("containers: [{name: a, image: x}, {name: a, image: y}]", "another container has the name \"a\""),
        (
            "containers: [{name: a, image: x, volumeMounts: [{name: dta, mountPath: /d}]}]\nvolumes: [{name: data, hostPath: {path: /d}}]",
            "no volume has the name \"dta\" [did you mean \"data\"?]",
        ),
        (
            "containers: [{name: a, image: x, volumeMounts: [{name: data, mountPath: d}]}]\nvolumes: [{name: data, hostPath: {path: /d}}]",
            "mountPath must be an absolute path",
        ),
        (
            r"containers: [{name: a, image: x, volumeMounts: [{name: data, mountPath: 'C:\d'}]}]
volumes: [{name: data, hostPath: {path: /d}}]",
            "mountPath must be an absolute path [Windows containers do not run here]",
        ),
        (
            "containers: [{name: a, image: x, volumeMounts: [{name: data, mountPath: /proc//sys/net}]}]\nvolumes: [{name: data, hostPath: {path: /d}}]",
            "no volume can be mounted at \"/proc/sys/net\" [the container sees the kernel's own /proc; only /proc/cpuinfo, /proc/diskstats, /proc/loadavg, /proc/meminfo, /proc/slabinfo, /proc/stat, /proc/swaps, /proc/sys/crypto/fips_enabled, /proc/sys/kernel/ns_last_pid, /proc/uptime may be replaced]",
        ),
        (
            "containers: [{name: a, image: x, volumeMounts: [{name: data, mountPath: /proc/}]}]\nvolumes: [{name: data, emptyDir: {}}]",
            "no volume can be mounted at \"/proc\" [the container sees the kernel's own /proc; only /proc/cpuinfo, /proc/diskstats, /proc/loadavg, /proc/meminfo, /proc/slabinfo, /proc/stat, /proc/swaps, /proc/sys/crypto/fips_enabled, /proc/sys/kernel/ns_last_pid, /proc/uptime may be replaced]",
        ),
        ("containers: [{name: a, image: x, workingDir: /a/../b}]", "workingDir must not contain \"..\""),
        (
            "containers: [{name: a, image: x}]\nrestartPolicy: Never",
            "restartPolicy must be Always here: only a Pod or a Job may end",
        ),
        (
            "containers: [{name: a, image: x, env: [{name: A, value: 1}]}]",
            "value must be a string, not a number [write it in quotes: \"1\"]",
        ),
        (
            "containers: [{name: a, image: x, imagePullPolicy: always}]",
            "imagePullPolicy must be one of Always, IfNotPresent, Never [did you mean \"Always\"?]",
        ),
        (
            "containers: [{name: a, image: x, ports: [{containerPort: 80, protocol: tcp}]}]",
            "protocol must be one of TCP, UDP, SCTP [did you mean \"TCP\"?]",
        ),
        ("containers: [{name: a, image: x, port: 80}]", "unknown field \"port\" [did you mean \"ports\"?]"),
        ("containers: [{name: a, image: x, replicas: 3}]", "unknown field \"replicas\" [it belongs in spec]"),
        (
            "containers: [{name: a, image: x, resources: {limits: {nvidia.com/gpu: 1}}}]",
            "this host has no resource \"nvidia.com/gpu\" [resources are cpu, memory and pids]",
        ),
    ] {
        assert_eq!(of_pod(fields), [expected], "{fields}");
    }
    let other = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec:\n  selector: {matchLabels: {app: web}}\n  template:\n    metadata: {labels: {app: wbe}}\n    spec: {containers: [{name: a, image: x}]}\n";
    assert!(
        short(other)[0].contains("the selector requires \"app\" to be \"web\", but the template has \"wbe\"")
    );
}

#[test]
fn input_that_is_no_manifest_gets_one_clear_error() {
    let nested = (1..12).fold("a0: &a0 [x]\n".to_owned(), |text, n| {
        text + &format!("a{n}: &a{n} [{}]\n", format!("*a{}, ", n - 1).repeat(10))
    });
    for (text, expected) in [
        ("", "1:1 the file has no objects"),
        ("---\n# nothing\n---\n", "1:1 the file has no objects"),
        ("- a\n", "1:1 an object must be a mapping, not a list [it begins with `apiVersion: ...`]"),
        (
            "apiVersion: v1\nkind: Pod\nmetadata: {name: {{ .Values.name }}}\n",
            "3:18 this is a Helm template, not a manifest [render it first: `helm template CHART | orund apply -f -`]",
        ),
        (
            "{{- if .Values.enabled }}\nkind: Pod\n{{- end }}\n",
            "1:1 this is a Helm template, not a manifest [render it first: `helm template CHART | orund apply -f -`]",
        ),
        (
            "apiVersion: v1\nkind: ConfigMap\nkind: Pod\nmetadata: {name: a}\n",
            "3:1 duplicate key \"kind\", first defined on line 2",
        ),
        ("apiVersion: v1\nkind: Podd\n", "2:7 unknown kind \"Podd\" [did you mean \"Pod\"?]"),
        (
            "apiVersion: extensions/v1beta1\nkind: Deployment\n",
            "1:13 apiVersion of a Deployment must be apps/v1 [write `apiVersion: apps/v1`]",
        ),
    ] {
        assert_eq!(short(text), [expected], "{text}");
    }
    assert!(short(&nested)[0].contains("more than 100000 values"));
    assert_eq!(short(&nested).len(), 1);
    assert!(short(&"a: b\n".repeat(300_000))[0].contains("larger than 1048576 bytes"));
    assert!(short("apiVersion: v1\n\tkind: Pod\n")[0].contains("indented with spaces"));
}

#[test]
fn byte_order_marks_line_ends_of_windows_and_json_are_read() {
    let plain = format!("{HEAD}      {MAIN}");
    let expected = read("f", &plain, None).workloads().unwrap();
    for text in [
        format!("\u{feff}{plain}"),
        plain.replace('\n', "\r\n"),
        format!("\u{feff}{}", plain.replace('\n', "\r\n")),
    ] {
        assert_eq!(
            read("f", &text, None).workloads().unwrap_or_else(|e| panic!("{e}")),
            expected,
            "{text:?}"
        );
    }
    let (json, _) = write::kubernetes(&expected[0]);
    assert_eq!(read("f", &serde_json::to_string_pretty(&json).unwrap(), None).workloads().unwrap(), expected);
    // Corrections keep the mark and the line ends.
    let wrong =
        format!("\u{feff}{}", plain.replace("metadata: {name", "metdata: {name").replace('\n', "\r\n"));
    let (fixed, _) = corrected(&wrong, &read("f", &wrong, None).findings.list);
    assert_eq!(fixed, format!("\u{feff}{}", plain.replace('\n', "\r\n")));
}

#[test]
fn a_deployment_config_gets_its_image_from_the_image_stream() {
    let text = |stream: &str| {
        format!("apiVersion: v1
kind: List
items:
- apiVersion: apps.openshift.io/v1
  kind: DeploymentConfig
  metadata: {{name: web}}
  spec:
    replicas: 2
    selector: {{app: web}}
    strategy: {{type: Rolling, rollingParams: {{maxSurge: 1, maxUnavailable: 0}}}}
    template:
      metadata: {{labels: {{app: web}}}}
      spec:
        containers:
        - name: web
          image: ' '
    test: false
    triggers:
    - type: ConfigChange
    - type: ImageChange
      imageChangeParams: {{automatic: true, containerNames: [web], from: {{kind: ImageStreamTag, name: 'web:1.0'}}}}
- apiVersion: image.openshift.io/v1
  kind: ImageStream
  metadata: {{name: {stream}}}
  spec: {{tags: [{{name: '1.0', from: {{kind: DockerImage, name: nginx:1.27}}}}]}}
")
    };
    let w = read("f", &text("web"), None).workloads().unwrap_or_else(|e| panic!("{e}")).remove(0);
    assert_eq!(w.spec.containers[0].image.as_deref(), Some("nginx:1.27"));
    assert_eq!(w.spec.replicas, 2);
    let rolling = w.spec.strategy.rolling_update;
    let int = crate::config::quantity::IntOrPercent::Int;
    assert_eq!((rolling.max_surge, rolling.max_unavailable), (int(1), int(0)));
    let missing = short(&text("other"));
    assert_eq!(missing.len(), 1, "{missing:?}");
    assert!(missing[0].contains("no ImageStream of this file has \"web:1.0\""));
}

#[test]
fn config_maps_and_secrets_have_their_bytes_and_debug_does_not_show_them() {
    let text = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\ndata: {a: aGlkZGVu}\nstringData: {b: plain}\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: s}\ndata: {k: v}\n";
    let objects = read("f", text, None).objects;
    let Object::Kept(secret) = &objects[0] else { panic!() };
    let data = secret.data();
    assert_eq!((data["a"].as_slice(), data["b"].as_slice()), (&b"hidden"[..], &b"plain"[..]));
    assert_eq!((objects[1].kind(), objects[1].name()), ("ConfigMap", "s"));
    let shown = format!("{objects:?}");
    assert!(!shown.contains("hidden") && !shown.contains("104, 105"), "{shown}");
    let e = short("apiVersion: v1\nkind: Secret\nmetadata: {name: s}\ndata: {a: not base64}\n");
    assert_eq!(e, ["4:11 a must be base64"]);
}

#[test]
fn a_deployment_that_is_recreated_reads_back_as_it_is_sent() {
    let text = "apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  strategy: {type: Recreate}
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: main, image: 'bundle:/b'}]}
";
    let w = read("f", text, None).workloads().unwrap_or_else(|e| panic!("{e}")).remove(0);
    let sent = serde_json::to_string(&w).unwrap();
    let back = read("sent", &sent, None).workloads().unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(back, [w]);
}
