//! Fields that files seldom have.

use super::*;
use crate::workload::model::{EnvSource, MessagePolicy};

#[test]
fn fields_that_are_seldom_written_are_read_all_the_same() {
    let text = "apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  hostPID: true
  hostIPC: true
  hostnameOverride: front
  setHostnameAsFQDN: true
  dnsPolicy: None
  dnsConfig: {nameservers: [10.0.0.1], searches: [lan], options: [{name: ndots, value: \"2\"}]}
  imagePullSecrets: [{name: registry}]
  resources: {limits: {cpu: 2, memory: 1Gi}}
  securityContext: {appArmorProfile: {type: Unconfined}}
  volumes:
  - {name: claim, persistentVolumeClaim: {claimName: data, readOnly: true}}
  - name: own
    downwardAPI: {items: [{path: cpu, resourceFieldRef: {containerName: app, resource: limits.cpu, divisor: 1m}}]}
  - {name: both, projected: {sources: [{downwardAPI: {items: [{path: name, fieldRef: {fieldPath: metadata.name}}]}}]}}
  containers:
  - name: app
    image: bundle:/app
    stdin: true
    terminationMessagePath: /tmp/words
    terminationMessagePolicy: FallbackToLogsOnError
    ports: [{containerPort: 80, hostPort: 8080, hostIP: 127.0.0.1}]
    env: [{name: CPU, valueFrom: {resourceFieldRef: {resource: limits.cpu}}}]
    securityContext: {procMount: Unmasked, appArmorProfile: {type: Localhost, localhostProfile: p}}
    volumeMounts:
    - {name: claim, mountPath: /a, readOnly: true, recursiveReadOnly: Enabled, mountPropagation: HostToContainer}
    - {name: own, mountPath: /b, subPathExpr: $(CPU)}
";
    let w = read("f", text, None).workloads().unwrap_or_else(|e| panic!("{e}")).remove(0);
    let s = &w.spec;
    assert_eq!((s.host_pid, s.host_ipc, s.set_hostname_as_fqdn), (true, true, true));
    assert_eq!((s.hostname.as_deref(), s.dns_policy.as_deref()), (Some("front"), Some("None")));
    let dns = s.dns_config.as_ref().unwrap();
    assert_eq!((dns.nameservers[0].as_str(), dns.searches[0].as_str()), ("10.0.0.1", "lan"));
    assert_eq!(
        (s.image_pull_secrets[0].name.as_str(), s.resources.limits.cpu.unwrap().0),
        ("registry", 2000)
    );
    assert_eq!(s.security_context.app_armor_profile.as_ref().unwrap().kind, "Unconfined");
    let claim = s.volumes[0].persistent_volume_claim.as_ref().unwrap();
    assert_eq!((claim.claim_name.as_str(), claim.read_only, claim.per_replica), ("data", true, false));
    let item = &s.volumes[1].downward_api.as_ref().unwrap().items[0];
    assert_eq!(item.resource_field_ref.as_ref().unwrap().divisor.as_deref(), Some("1m"));
    let sources = &s.volumes[2].projected.as_ref().unwrap().sources;
    assert_eq!(sources[0].downward_api.as_ref().unwrap().items[0].path, "name");
    let c = &s.containers[0];
    assert!(c.stdin && !c.tty);
    assert_eq!(c.termination_message_path.as_deref(), Some("/tmp/words"));
    assert_eq!(c.termination_message_policy, Some(MessagePolicy::FallbackToLogsOnError));
    assert_eq!(c.ports[0].host_ip.as_deref(), Some("127.0.0.1"));
    assert!(
        matches!(&c.env[0].value_from, Some(EnvSource::ResourceFieldRef(r)) if r.resource == "limits.cpu")
    );
    assert_eq!(c.security_context.proc_mount.as_deref(), Some("Unmasked"));
    assert_eq!(
        c.security_context.app_armor_profile.as_ref().unwrap().localhost_profile.as_deref(),
        Some("p")
    );
    assert_eq!(c.volume_mounts[0].recursive_read_only.as_deref(), Some("Enabled"));
    assert_eq!(c.volume_mounts[0].mount_propagation.as_deref(), Some("HostToContainer"));
    assert_eq!(c.volume_mounts[1].sub_path_expr.as_deref(), Some("$(CPU)"));
    // The written file reads back as the same workload.
    let back = read("f", &write::kubernetes(&w).0.to_string(), None).workloads();
    assert_eq!(back.unwrap_or_else(|e| panic!("{e}")).remove(0), w);
}

#[test]
fn objects_beside_the_pods_have_their_seldom_fields() {
    let text = "apiVersion: v1
kind: ConfigMap
metadata: {name: files}
binaryData: {a: AAEC}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  selector: {app: web}
  publishNotReadyAddresses: true
  sessionAffinity: ClientIP
  sessionAffinityConfig: {clientIP: {timeoutSeconds: 60}}
  ports: [{port: 80}]
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db}
spec:
  podManagementPolicy: Parallel
  selector: {matchLabels: {app: db}}
  template: {metadata: {labels: {app: db}}, spec: {containers: [{name: a, image: 'bundle:/b'}]}}
";
    let r = read("f", text, None);
    assert_eq!(short(text), Vec::<String>::new());
    let kept: Vec<String> =
        r.objects.iter().map(|o| serde_json::to_string(&json_of(o)).unwrap_or_default()).collect();
    assert!(kept[0].contains("AAEC") && kept[1].contains("publishNotReadyAddresses\":true"), "{kept:?}");
    assert!(kept[1].contains("\"timeoutSeconds\":60"), "{kept:?}");
    let w = r.workloads().unwrap_or_else(|e| panic!("{e}")).remove(0);
    assert!(!w.spec.controller.unwrap().ordered);
}

fn json_of(o: &Object) -> serde_json::Value {
    match o {
        Object::Kept(k) => serde_json::to_value(k).unwrap_or_default(),
        _ => serde_json::Value::Null,
    }
}

#[test]
fn what_excludes_something_else_is_an_error() {
    let pod = |more: &str, container: &str| {
        let text = format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: p}}\nspec:\n  {more}\n  containers: [{{name: a, image: b{container}}}]\n"
        );
        short(&text)
    };
    let both = pod("shareProcessNamespace: true\n  hostPID: true", "");
    assert_eq!(both, ["5:26 shareProcessNamespace excludes hostPID [leave out one of them]"]);
    let above =
        pod("resources: {limits: {memory: 1Gi, cpu: 2}}", ", resources: {limits: {memory: 2Gi, cpu: 2}}");
    assert_eq!(above, ["6:65 memory must not exceed the limit of the pod"]);
    let path = pod("hostname: p", ", terminationMessagePath: ../words");
    assert_eq!(path, ["6:60 terminationMessagePath must be an absolute path"]);
    let ports = "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec:\n  ports: [{port: 80}, {port: 80, protocol: UDP}, {port: 80}]\n";
    assert_eq!(short(ports), ["5:57 another port has the number 80 and TCP"]);
}
